# SPDX-License-Identifier: Apache-2.0
"""Writes the columns `keepalive` and `keepalive_detail`: changes at once, time stamps once a refresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ovs.poller
import ovs.vlog

from ovs_keepalive.core.model import Moment, Pmd, Snapshot, Transition
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import column
from ovs_keepalive.publishers.schema_auto import LiveSchema
from ovs_keepalive.publishers.session import Outcome, Session, Write

log = ovs.vlog.Vlog("columns")

OWED = 1.0  # seconds after which it is told that the server owes an answer
REST = 1.0  # seconds between two tries, from the second failure in a row on

Content = tuple[dict[str, column.Pair], dict[str, str]]  # of the two columns


class Columns:
    """Brings the columns to the newest snapshot. run() and wait() belong to the main loop."""

    def __init__(self, session: Session, refresh: float, version: str, pid: int) -> None:
        """refresh: seconds between two writes of last_seen, at least; version, pid: of this daemon."""
        self.schema = LiveSchema(session.remote)
        self.committed = self.failed = 0
        self.last_error = ""
        self._session = session
        self.refresh = refresh  # may be changed at any time …
        self.beside: Sequence[Mapping[str, str]] = ()  # … as these pairs of keepalive_detail: of ports, of offload
        self._version = version
        self._pid = pid
        self._life = (-1, 0)  # of the session, when the schema was last asked for
        self._there: frozenset[str] = frozenset()  # the columns that the server has
        self._wanted: Snapshot | None = None  # None: there is nothing more to be done for the last one
        self._write: Write | None = None
        self._in_flight: Content = ({}, {})
        self._written: Content | None = None  # None: not known
        self._before: Mapping[str, column.Pair] = {}  # what an earlier daemon has told
        self._written_at = float("-inf")
        self._failures = 0  # in a row
        self._told = False  # the log says that they fail
        self._rested = float("-inf")  # when to try again
        self._repeats = Repeats()

    def go_on_from(self, pmds: Iterable[Pmd], committed: int, failed: int) -> None:
        """What an earlier daemon has told of these PMDs is no news; and so many transactions it has made."""
        self._before = {column.clean(pmd.name): column.Pair(pmd.state, pmd.core, 0) for pmd in pmds}
        self.committed, self.failed = committed, failed

    def run(self, now: Moment) -> None:
        """Go on with what has to be written."""
        if self._session.connected and self._session.life != self._life:
            self._life = self._session.life
            self._written = None
            self.schema.look(now)
        if not self._session.has_lock:
            self._written = None
        if self.schema.run(now):
            self._follow_schema(now)
        self._follow_write(now)
        self._step(now)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what is under way besides the session."""
        self.schema.wait(poller)

    def publish(self, snapshot: Snapshot, now: Moment) -> None:
        """Bring the columns to this snapshot."""
        self._wanted = snapshot
        self._step(now)

    @property
    def idle(self) -> bool:
        """Whether all that can be written now is."""
        return self._write is None and (self._wanted is None or not self._can_write())

    @property
    def are_empty(self) -> bool:
        """Whether nothing of ours stands in the columns, as the server has confirmed; or there are none."""
        return not self._there or (self._write is None and self._written == ({}, {}))

    def facts(self, setting: str, now: Moment) -> list[tuple[str, str]]:
        """For keepalive/status. setting: who adds the columns."""
        session = self._session
        if self.schema.status is None:
            there = "not known"
        else:
            there = ", ".join(sorted(self.schema.columns)) or "none: see ovs-keepalive schema apply"
        lock = "held" if session.has_lock else "held by another daemon: waiting, nothing is written"
        link = "connected" if session.connected else "not connected, trying again"
        link += f": {session.problem}" if session.problem else ""
        unanswered = now.mono - self._written_at if self._write is not None else 0.0
        owed = f", one unanswered for {unanswered:.0f} s" if unanswered >= OWED else ""
        last = f", the last with {self.last_error}" if self.last_error else ""
        return [
            ("database", f"{session.remote}, {link}"),
            ("columns", f"{there} (schema: {setting})" if session.connected else "not known"),
            ("lock", lock if session.connected else "not known"),
            ("transactions", f"{self.committed} done, {self.failed} failed{last}{owed}"),
        ]

    def _can_write(self) -> bool:
        return self._session.may_write and bool(self._there)

    def _follow_schema(self, now: Moment) -> None:
        was, self._there = self._there, self.schema.columns
        if self._there != was:
            self._written = None
            old, new = (", ".join(sorted(columns)) or "none" for columns in (was, self._there))
            self._session.note(Transition(now, "columns", old, new, "none", "schema of the database"))

    def _follow_write(self, now: Moment) -> None:
        outcome = self._write.outcome() if self._write is not None else Outcome.UNDER_WAY
        if self._write is None or outcome is Outcome.UNDER_WAY:
            return
        if outcome is Outcome.DONE:
            self.committed += 1
            if self._told:
                self._tell("written", "the columns are written again", now)
            self._told = False
            self._failures, self.last_error = 0, ""
            self._written, self._before = self._in_flight, {}
        else:
            # Not retried as such: the next snapshot supersedes it.
            self.failed += 1
            self._failures += 1
            self._rested = now.mono + REST if self._failures > 1 else now.mono
            self.last_error = self._write.error()
            # A conversion ends what is under way with "try again": that once is no news.
            if self._failures > 1 or not self.last_error.startswith("try again"):
                self._told = True
                self._tell("failed", f"the columns were not written: {self.last_error}", now)
            self._written = self._wanted = None
            self.schema.look(now)
        self._write = None

    def _step(self, now: Moment) -> None:
        """Take the next step towards the snapshot that is wanted, unless one is under way."""
        snapshot = self._wanted
        if snapshot is None or self._write is not None or not self._can_write() or now.mono < self._rested:
            return
        wanted = column.keepalive(snapshot)
        pairs = column.staged(wanted, self._written[0] if self._written is not None else self._before, snapshot)
        details = column.detail(snapshot, self._version, self._pid)
        for pairs_beside in self.beside if details else ():
            details |= pairs_beside
        if _states(pairs) == _states(wanted):
            self._wanted = None  # this step is all there is to do for it
        if not self._is_due(snapshot, pairs, details):
            return
        texts = {"keepalive": {name: column.render(pair) for name, pair in pairs.items()}, "keepalive_detail": details}
        row = {name: ["map", [[*pair] for pair in texts[name].items()]] for name in sorted(self._there)}
        self._write = self._session.write({"op": "update", "row": row})
        self._in_flight = (pairs, details)
        self._written_at = snapshot.at.mono
        self._follow_write(now)

    def _tell(self, kind: str, text: str, now: Moment) -> None:
        if line := self._repeats.line(kind, text, now.mono):
            log.warn(line)

    def _is_due(self, snapshot: Snapshot, pairs: Mapping[str, column.Pair], details: Mapping[str, str]) -> bool:
        if self._written is None:
            return True
        written, written_details = self._written
        if _states(pairs) != _states(written) or column.without_beat(details) != column.without_beat(written_details):
            return True
        pause = max(self.refresh, snapshot.settings.interval)
        return snapshot.settings.enabled and snapshot.at.mono - self._written_at >= 0.95 * pause


def _states(pairs: Mapping[str, column.Pair]) -> dict[str, tuple[Any, int]]:
    return {name: (column.told(pair.state), pair.core) for name, pair in pairs.items()}
