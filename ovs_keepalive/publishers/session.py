# SPDX-License-Identifier: Apache-2.0
"""The one OVSDB session: settings in, transactions out, one writer by the lock `ovs_keepalive`.

The IDL monitors only what the daemon reads. Its own columns are written as raw operations and not monitored: what
costs is the echo of one's own write (notes/ovsdb), and a monitored column that a conversion takes away would leave
the IDL deaf for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import ovs.db.idl
import ovs.poller
import ovs.vlog

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Moment, Transition
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.publishers.tls import TlsStream

log = ovs.vlog.Vlog("session")

DATABASE = TABLE = "Open_vSwitch"
LOCK = "ovs_keepalive"
MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
LONGEST_ERROR = 400  # characters
EVENTS = 100  # transitions of the session that are remembered


def monitored(tables: Mapping[str, Mapping[str, Any]]) -> ovs.db.idl.SchemaHelper:
    """Names the columns that are monitored, with their types; the server has to have every one of them."""
    schema = {
        "name": DATABASE,
        "version": "8.0.0",
        "tables": {name: {"columns": columns, "isRoot": True} for name, columns in tables.items()},
    }
    helper = ovs.db.idl.SchemaHelper(schema_json=schema)
    for name, columns in tables.items():
        helper.register_columns(name, list(columns))
    return helper


class AwareIdl(ovs.db.idl.Idl):  # type: ignore[misc]  # python-ovs carries no types
    """Notices conversions of the database, which cancel every monitor.

    Of two that follow each other closely the second finds nothing to cancel, and nobody is told of it. So what was
    asked in between is void as well: once the monitor stands again.
    """

    _turns = 0  # conversions, and monitors that stood again
    _stands = False

    @property
    def link(self) -> Any:
        """The session below it: python-ovs tells in no other way whether it is connected."""
        return self._session

    @property
    def life(self) -> tuple[int, int]:
        """Changes with each connection and each conversion: what was known of the server is void."""
        return self.link.get_seqno(), self._turns

    @property
    def monitors(self) -> bool:
        """Whether the server has agreed to tell every change."""
        return bool(self.link.is_connected() and self.state == self.IDL_S_MONITORING)

    def run(self) -> bool:
        """Take in what the server sent; whether anything changed."""
        changed = bool(super().run())
        if self._stands != self.monitors:
            self._stands = self.monitors
            self._turns += self._stands
        return changed

    def take(self) -> bool:
        """As run(), and what cannot be read ends the connection: the next one tells all of it anew."""
        before = self.change_seqno
        try:
            self.run()
        except Exception:  # noqa: BLE001 - of python-ovs, at what no ovsdb-server sends
            self.force_reconnect()
        return bool(self.change_seqno != before)

    def handle_monitor_canceled(self, message: Any) -> bool:
        canceled = bool(super().handle_monitor_canceled(message))
        self._turns += canceled
        return canceled


class Follower:
    """Whoever follows tables of the database by an IDL of its own. run() and wait() belong to its loop."""

    def __init__(self, idl: AwareIdl) -> None:
        self._idl = idl

    def run(self) -> bool:
        """Take in what the server sent; whether anything changed."""
        return self._idl.take()

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what the server sends."""
        self._idl.wait(poller)

    def close(self) -> None:
        """End the connection."""
        self._idl.close()


class Outcome(Enum):
    """How a transaction stands."""

    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"


def on_switch(operation: Mapping[str, Any]) -> dict[str, Any]:
    """An operation on the row of Open_vSwitch, of which there is one."""
    return {"table": TABLE, "where": [], **operation}


class Write:
    """One transaction of raw operations. Whoever started it asks how it stands."""

    def __init__(self, idl: AwareIdl, *operations: Mapping[str, Any], comment: str = "") -> None:
        """operations: as RFC 7047 has them, whole; comment: for `ovsdb-tool show-log`."""
        self._transaction = ovs.db.idl.Transaction(idl)
        if comment:
            self._transaction.add_comment(one_line(f"ovs-keepalive: {comment}"))
        for operation in operations:
            self._transaction.add_op(dict(operation))
        self._transaction.commit()

    def outcome(self) -> Outcome:
        """DONE once the server has committed it, all of it; FAILED also when the connection or the lock was lost."""
        status = self._transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return Outcome.UNDER_WAY
        good = (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED)
        return Outcome.DONE if status in good else Outcome.FAILED

    def error(self) -> str:
        """Why it failed."""
        status = self._transaction.commit()
        if status == ovs.db.idl.Transaction.TRY_AGAIN:
            return "what was looked at was changed meanwhile, or the connection broke"
        return short(one_line(f"{status}: {self._transaction.get_error()}"), LONGEST_ERROR)


class Session:
    """The connection to the database. run() and wait() belong to the main loop."""

    def __init__(self, remote: str, columns: Sequence[str]) -> None:
        """remote: of the database; columns: the maps of Open_vSwitch that are read, all of them OVS's own."""
        self.remote = remote
        self.connected = False
        self.life = (-1, 0)  # changes with each connection and each conversion: what was known of the server is void
        self.events: list[Transition] = []
        self._idl = AwareIdl(remote, monitored({TABLE: dict.fromkeys(columns, MAP)}))
        self._idl.set_lock(LOCK)
        self._problem = ""  # the one logged last
        self._lock = "not asked for"
        self._read = -1  # change number of the database when its maps were read
        self._maps: dict[str, Mapping[str, str]] = {}
        self._repeats = Repeats()

    def run(self, now: Moment) -> None:
        """Take in what the server sent."""
        try:
            self._idl.run()
        except Exception as error:  # noqa: BLE001 - of python-ovs, at what no ovsdb-server sends
            self._warn("unreadable", f"an answer that cannot be read: {type(error).__name__}: {error}", now)
            self._idl.force_reconnect()
        connected = bool(self._idl.link.is_connected() and self._idl.tables[TABLE].rows)
        if connected:
            self.life = self._idl.life
        if self.problem != self._problem:
            self._problem = self.problem
            if self._problem:
                self._warn("tls", f"{self._problem}: trying again", now)
        if connected != self.connected:
            self.connected = connected
            states = ("disconnected", "connected") if connected else ("connected", "disconnected")
            self.note(Transition(now, "ovsdb", *states, "none", self.remote))
        self._follow_lock(now)

    def _follow_lock(self, now: Moment) -> None:
        """Tell when another daemon has the lock, or somebody stole it."""
        state = "held" if self.has_lock else "held by another" if self.lock_is_anothers else self._lock
        if state != self._lock:
            self.note(Transition(now, "lock", self._lock, state, "none", LOCK))
            if line := self._repeats.line(state, f"lock {LOCK}: {self._lock} -> {state}", now.mono):
                log.info(line)
            self._lock = state

    def _warn(self, kind: str, text: str, now: Moment) -> None:
        if line := self._repeats.line(kind, f"{self.remote}: {text}", now.mono):
            log.warn(line)

    @property
    def problem(self) -> str:
        """Why TLS cannot connect; "" when it can, or the remote is none of TLS."""
        return TlsStream.problem if self.remote.startswith("ssl:") else ""

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for the session."""
        self._idl.wait(poller)

    def map(self, column: str) -> Mapping[str, str] | None:
        """One of the maps that are read; None while it is not known. The same object while nothing changed."""
        if self._idl.change_seqno != self._read:
            self._read = self._idl.change_seqno
            self._maps = {}
        if column not in self._maps:
            for row in self._idl.tables[TABLE].rows.values():
                self._maps[column] = getattr(row, column)
        return self._maps.get(column)

    @property
    def may_write(self) -> bool:
        """Whether this daemon is connected, and the one writer."""
        return self.connected and self.has_lock

    @property
    def has_lock(self) -> bool:
        """Whether it holds the lock."""
        return bool(self._idl.has_lock)

    @property
    def lock_is_anothers(self) -> bool:
        """Whether another daemon is the one writer."""
        return bool(self._idl.is_lock_contended)

    def write(self, operation: Mapping[str, Any]) -> Write:
        """Start a transaction: an operation of RFC 7047 section 5.2 without its table and condition."""
        return Write(self._idl, on_switch(operation))

    def note(self, event: Transition) -> None:
        """Remember an event for the history."""
        self.events = [*self.events[1 - EVENTS :], event]

    def let_go(self) -> None:
        """Give the lock to whoever waits for it. Not while a transaction is under way."""
        self._idl.set_lock(None)

    def take_back(self) -> None:
        """Ask for the lock again."""
        self._idl.set_lock(LOCK)

    def close(self) -> None:
        """End the session; the server gives the lock to whoever waits."""
        self._idl.close()
