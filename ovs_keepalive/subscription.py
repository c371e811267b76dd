# SPDX-License-Identifier: Apache-2.0
"""A subscriber of the two columns: every update, in its order, whatever becomes of the database and of its schema.

It registers only columns that the server has: one that it lacks would leave the IDL deaf for ever (notes/ovsdb). It
asks for no lock, writes nothing, and takes part in no election of a writer.
"""

from __future__ import annotations

from typing import Any

import ovs.db.idl
import ovs.poller

from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats.alarms import Content, Link
from ovs_keepalive.publishers.schema_auto import LiveSchema
from ovs_keepalive.publishers.session import MAP, TABLE, AwareIdl, monitored

DEAF = 2.0  # seconds that a connected IDL may go without what it monitors, until another takes its place


class _Listener(AwareIdl):
    """Remembers what each update said: two that came together are two."""

    def __init__(self, remote: str, columns: tuple[str, ...]) -> None:
        super().__init__(remote, monitored({TABLE: dict.fromkeys(("other_config", *columns), MAP)}))
        self.columns = columns
        self.heard: list[Content] = []

    def notify(self, event: str, row: Any, updates: Any = None) -> None:  # noqa: ARG002 - python-ovs's own interface
        """Called by the IDL for each change of a row, with the row as it is from then on."""
        if event != ovs.db.idl.ROW_DELETE:
            said = {column: dict(getattr(row, column)) for column in ("other_config", *self.columns)}
            self.heard.append(Content(said.get("keepalive"), said.get("keepalive_detail"), said["other_config"]))

    @property
    def listens(self) -> bool:
        """Whether what it holds is what the server has."""
        return bool(self.monitors and self.tables[TABLE].rows)


class Subscription:
    """run() and wait() belong to the main loop."""

    def __init__(self, remote: str, now: Moment) -> None:
        """remote: of the database, one that schema.check_remote lets pass."""
        self._remote = remote
        self._schema = LiveSchema(remote)
        self._schema.look(now)
        self._idl: _Listener | None = None
        self._life: tuple[int, int] | None = None  # of the IDL, when the schema was last asked for
        self._listened = now.mono  # when the IDL last did, or could not be expected to
        self._deaf = False

    def run(self, now: Moment) -> list[Content]:
        """What the server sent since the last turn."""
        self._schema.run(now)
        self._follow_schema(now)
        idl = self._idl
        if idl is None:
            return []
        was = idl.listens
        try:
            idl.run()
        except Exception:  # noqa: BLE001 - of python-ovs, at what no ovsdb-server sends
            idl.force_reconnect()
        if (was and not idl.listens) or (idl.link.is_connected() and idl.life != self._life):
            self._life = idl.life
            self._schema.look(now)  # other columns, perhaps; or the reason why nobody answers
        if idl.listens or not idl.link.is_connected():
            self._listened = now.mono
        elif now.mono - self._listened > DEAF:
            self._deaf, self._listened = True, now.mono
            self._schema.look(now)
            self._schema.run(now)
        heard, idl.heard = idl.heard, []
        return heard

    def _follow_schema(self, now: Moment) -> None:
        """Have an IDL that registers what the server has."""
        if self._schema.status is None or self._schema.busy:
            return
        columns = tuple(sorted(self._schema.columns))
        if self._idl is None or self._deaf or self._idl.columns != columns:
            self.close()
            self._idl, self._life = _Listener(self._remote, columns), None
            self._deaf, self._listened = False, now.mono

    @property
    def link(self) -> Link:
        """How it stands."""
        connected = self._idl is not None and self._idl.listens
        return Link(connected, self._remote, "" if connected else self._schema.error)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what the server sends."""
        self._schema.wait(poller)
        if self._idl is not None:
            self._idl.wait(poller)

    def close(self) -> None:
        """End the connection."""
        if self._idl is not None:
            self._idl.close()
