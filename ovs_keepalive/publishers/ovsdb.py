# SPDX-License-Identifier: Apache-2.0
"""The one OVSDB session: settings in, columns out.

The IDL monitors only `other_config`. The daemon's own columns are written through it as raw operations and are
not monitored: what costs is the echo of one's own write (notes/ovsdb), and a monitored column that a conversion
takes away would leave the IDL deaf for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ovs.db.idl
import ovs.poller

from ovs_keepalive.core.model import Moment, Snapshot, Transition
from ovs_keepalive.formats import column
from ovs_keepalive.publishers.schema_auto import LiveSchema

DATABASE = TABLE = "Open_vSwitch"
LOCK = "ovs_keepalive"
SESSION = {
    "name": DATABASE,
    "version": "8.0.0",
    "tables": {
        TABLE: {
            "columns": {
                "other_config": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            },
            "isRoot": True,
            "maxRows": 1,
        }
    },
}


class _Idl(ovs.db.idl.Idl):  # type: ignore[misc]  # python-ovs carries no types
    """Notices conversions of the database, which cancel every monitor."""

    conversions = 0

    def handle_monitor_canceled(self, message: Any) -> bool:
        canceled = bool(super().handle_monitor_canceled(message))
        self.conversions += canceled
        return canceled


class Ovsdb:
    """Reads the settings and writes the columns. run() and wait() belong to the main loop."""

    def __init__(self, remote: str, refresh: float, version: str, pid: int) -> None:
        """remote: of the database; refresh: seconds between two writes of last_seen, at least."""
        self.remote = remote
        self._refresh = refresh
        self._version = version
        self._pid = pid
        helper = ovs.db.idl.SchemaHelper(schema_json=SESSION)
        helper.register_columns(TABLE, ["other_config"])
        self._idl = _Idl(remote, helper)
        self._idl.set_lock(LOCK)
        self._transaction: Any = None
        self._in_flight: tuple[dict[str, column.Pair], dict[str, str]] = ({}, {})
        self._written: tuple[dict[str, column.Pair], dict[str, str]] | None = None  # None: not known
        self._written_at = float("-inf")
        self._wanted: Snapshot | None = None
        self._other_config: Mapping[str, str] | None = None
        self._read = -1  # change number of the database when it was read
        self._session = (-1, 0)  # connection and conversions, when the schema was last asked for
        self._columns: frozenset[str] = frozenset()
        self.schema = LiveSchema(remote)
        self.connected = False
        self.committed = self.failed = 0
        self.last_error = ""
        self.events: list[Transition] = []

    # --- main loop -----------------------------------------------------------------------------

    def run(self, now: Moment) -> None:
        """Take in what the server sent; go on with what has to be written."""
        self._idl.run()
        self._follow_connection(now)
        self._follow_schema(now)
        self._follow_transaction(now)
        self._write(now)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for the session."""
        self._idl.wait(poller)
        self.schema.wait(poller)

    def other_config(self) -> Mapping[str, str] | None:
        """The settings' map; None while it is not known. The same object while nothing changed."""
        if self._idl.change_seqno != self._read:
            self._read = self._idl.change_seqno
            self._other_config = next((row.other_config for row in self._idl.tables[TABLE].rows.values()), None)
        return self._other_config

    @property
    def has_lock(self) -> bool:
        """Whether this daemon is the one writer."""
        return bool(self._idl.has_lock)

    @property
    def idle(self) -> bool:
        """Whether all that can be written now is."""
        return self._transaction is None and (self._wanted is None or not self._can_write())

    def publish(self, snapshot: Snapshot, now: Moment) -> None:
        """Bring the columns to this snapshot: changes at once, time stamps once a refresh."""
        self._wanted = snapshot
        self._write(now)

    def close(self) -> None:
        """End the session; the server gives the lock to whoever waits."""
        self._idl.close()

    # --- what changed on the server's side -----------------------------------------------------

    def _follow_connection(self, now: Moment) -> None:
        link = self._idl._session  # noqa: SLF001 - python-ovs tells in no other way whether it is connected
        connected = bool(link.is_connected() and self._idl.tables[TABLE].rows)
        session = (link.get_seqno(), self._idl.conversions)
        if connected and session != self._session:
            # Another server, another life of it, or another schema: nothing that was known of it holds.
            self._session = session
            self._written = None
            self.schema.look(now)
        if connected != self.connected:
            self.connected = connected
            states = ("disconnected", "connected") if connected else ("connected", "disconnected")
            self.events.append(Transition(now, "ovsdb", *states, "none", self.remote))
        if not self.has_lock:
            self._written = None

    def _follow_schema(self, now: Moment) -> None:
        if not self.schema.run(now):
            return
        was, self._columns = self._columns, self.schema.columns
        if self._columns != was:
            self._written = None
            names = [", ".join(sorted(columns)) or "none" for columns in (was, self._columns)]
            self.events.append(Transition(now, "columns", names[0], names[1], "none", "schema of the database"))

    # --- writing -------------------------------------------------------------------------------

    def _can_write(self) -> bool:
        return self.connected and self.has_lock and bool(self._columns)

    def _write(self, now: Moment) -> None:
        """Take the next step towards the snapshot that is wanted, unless one is under way."""
        snapshot = self._wanted
        if snapshot is None or self._transaction is not None or not self._can_write():
            return
        wanted = column.keepalive(snapshot)
        pairs = column.staged(wanted, self._written[0] if self._written is not None else {}, snapshot)
        details = column.detail(snapshot, self._version, self._pid)
        if _states(pairs) == _states(wanted):
            self._wanted = None  # this step is all there is to do for it
        if not self._is_due(snapshot, pairs, details):
            return
        row: dict[str, Any] = {}
        if "keepalive" in self._columns:
            row["keepalive"] = _map({name: column.render(pair) for name, pair in pairs.items()})
        if "keepalive_detail" in self._columns:
            row["keepalive_detail"] = _map(details)
        self._transaction = ovs.db.idl.Transaction(self._idl)
        self._transaction.add_op({"op": "update", "table": TABLE, "where": [], "row": row})
        self._in_flight = (pairs, details)
        self._written_at = snapshot.at.mono
        self._follow_transaction(now)

    def _is_due(self, snapshot: Snapshot, pairs: Mapping[str, column.Pair], details: Mapping[str, str]) -> bool:
        if self._written is None:
            return True
        written, written_details = self._written
        if _states(pairs) != _states(written) or column.without_beat(details) != column.without_beat(written_details):
            return True
        pause = max(self._refresh, snapshot.settings.interval)
        return snapshot.settings.enabled and snapshot.at.mono - self._written_at >= 0.95 * pause

    def _follow_transaction(self, now: Moment) -> None:
        if self._transaction is None:
            return
        status = self._transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return
        if status in (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED):
            self.committed += 1
            self.last_error = ""
            self._written = self._in_flight
        else:
            # Not retried as such: the next snapshot supersedes it.
            self.failed += 1
            self.last_error = f"{status}: {self._transaction.get_error()}"
            self._written = self._wanted = None
            self.schema.look(now)
        self._transaction = None


def _states(pairs: Mapping[str, column.Pair]) -> dict[str, tuple[str, int]]:
    # SLEEP comes and goes with the next refresh: it is no news.
    return {name: ("ALIVE" if pair.state == "SLEEP" else str(pair.state), pair.core) for name, pair in pairs.items()}


def _map(pairs: Mapping[str, str]) -> list[Any]:
    return ["map", [[name, value] for name, value in pairs.items()]]
