# SPDX-License-Identifier: Apache-2.0
"""`mirror: external_ids`: each core's state where every OVSDB client can read it, for hosts without the columns.

Changes only, at most one transaction in 5 s. Not for OVN chassis: ovn-controller reads external_ids.
"""

from __future__ import annotations

import ovs.vlog

from ovs_keepalive.core.model import Moment, Snapshot
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import column
from ovs_keepalive.publishers.session import Outcome, Session, Write

log = ovs.vlog.Vlog("mirror")

COLUMN = "external_ids"
PAUSE = 5.0  # seconds between two transactions


class Mirror:
    """Brings our keys of external_ids to the newest snapshot. run() belongs to the main loop."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._snapshot: Snapshot | None = None
        self._write: Write | None = None
        self._written_at = float("-inf")
        self._chassis = ""  # the key by which this is known to be one of OVN
        self._error = ""  # of the newest transaction
        self._failures = 0  # in a row
        self._repeats = Repeats()

    def publish(self, snapshot: Snapshot) -> None:
        """Mirror this snapshot from now on; a disabled one takes every key away, at once."""
        self._snapshot = snapshot

    @property
    def fact(self) -> str:
        """For `keepalive/status`."""
        if self._chassis:
            return f"external_ids has {self._chassis}: this is an OVN chassis, nothing is mirrored"
        return COLUMN + (f", not written: {self._error}" if self._error else "")

    @property
    def idle(self) -> bool:
        """Whether all that can be written now is."""
        return self._write is None and not self._operation()

    def run(self, now: Moment) -> None:
        """Go on with what has to be written."""
        outcome = self._write.outcome() if self._write is not None else Outcome.UNDER_WAY
        if self._write is not None and outcome is not Outcome.UNDER_WAY:
            self._error = self._write.error() if outcome is Outcome.FAILED else ""
            self._failures = self._failures + 1 if self._error else 0
            if self._error and (line := self._repeats.line("failed", f"mirror: not written: {self._error}", now.mono)):
                log.warn(line)
            self._write = None
        if self._write is not None or self._snapshot is None:
            return
        # What is to go, goes at once; a conversion ends what is under way, which is no reason to rest.
        may_rest = self._snapshot.settings.enabled or self._failures > 1
        if may_rest and now.mono - self._written_at < PAUSE:
            return
        mutations = self._operation()
        if mutations:
            self._written_at = now.mono
            self._write = self._session.write({"op": "mutate", "mutations": mutations})

    def _operation(self) -> list[list[object]]:
        """The mutations that bring our keys to what they should be; none if there is nothing to do."""
        there = self._session.map(COLUMN)
        if there is None or self._snapshot is None or not self._session.may_write:
            return []
        self._chassis = next((key for key in there if key.startswith("ovn-")), "")
        wanted = {} if self._chassis else column.mirrored(self._snapshot)
        ours = {key: value for key, value in there.items() if key.startswith(column.MIRROR_PREFIX)}
        void = [key for key, value in ours.items() if not column.same(value, wanted.get(key))]
        new = [[key, value] for key, value in wanted.items() if key in void or key not in ours]
        mutations: list[list[object]] = []
        if void:
            mutations.append([COLUMN, "delete", ["set", void]])
        if new:
            mutations.append([COLUMN, "insert", ["map", new]])
        return mutations
