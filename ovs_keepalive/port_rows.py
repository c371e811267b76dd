# SPDX-License-Identifier: Apache-2.0
"""What OVSDB says of ports, followed by an IDL of its own; their statistics, which change all the time, are asked for.

Each change of a row is seen: a VM that leaves and comes back within a second has left once more, which Open vSwitch
counts nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import ovs.db.idl
import ovs.poller

from ovs_keepalive.publishers import schema
from ovs_keepalive.publishers.session import MAP, AwareIdl, Follower, monitored
from ovs_keepalive.sensors.ports import Row

DEADLINE = 3.0  # seconds for the statistics
_TEXT = {"type": "string"}
_SOME_TEXT = {"type": {"key": "string", "min": 0, "max": 1}}


def _rows_of(table: str) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


TABLES: dict[str, dict[str, Any]] = {  # every one of these columns is in each schema since Open vSwitch 2.6
    "Open_vSwitch": {"other_config": MAP, "bridges": _rows_of("Bridge")},
    "Bridge": {"name": _TEXT, "datapath_type": _TEXT, "ports": _rows_of("Port"), "fail_mode": _SOME_TEXT,
               "controller": _rows_of("Controller")},
    "Port": {"name": _TEXT, "interfaces": _rows_of("Interface")},
    "Interface": {"name": _TEXT, "type": _TEXT, "options": MAP, "status": MAP, "error": _SOME_TEXT,
                  "admin_state": _SOME_TEXT, "link_state": _SOME_TEXT,
                  "ofport": {"type": {"key": "integer", "min": 0, "max": 1}}},
    "Controller": {"target": _TEXT},
}  # fmt: skip


class _Idl(AwareIdl):
    """Counts how often each Interface's peer left."""

    def __init__(self, remote: str) -> None:
        super().__init__(remote, monitored(TABLES))
        self.drops: Counter[str] = Counter()

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the IDL for each change of a row, with the row as it is from then on, and what it was."""
        if event != ovs.db.idl.ROW_UPDATE or row._table.name != "Interface":  # noqa: SLF001 - told in no other way
            return
        was = getattr(updates, "status", None)
        if was is not None and was.get("status") == "connected" and row.status.get("status") != "connected":
            self.drops[str(row.name)] += 1


class PortRows(Follower):
    """run() and wait() belong to the survey's loop."""

    def __init__(self, remote: str) -> None:
        """remote: of the database, one that schema.check_remote lets pass."""
        self._idl: _Idl
        super().__init__(_Idl(remote))
        self._remote = remote
        self._rows: list[Row] = []  # as they were read last …
        self._read = -1  # … at this change number of the database

    @property
    def listens(self) -> bool:
        """Whether what is known is what the server has."""
        return bool(self._idl.monitors and self._idl.has_ever_connected())

    @property
    def other_config(self) -> Mapping[str, str]:
        """Of Open_vSwitch."""
        return next((dict(row.other_config) for row in self._idl.tables["Open_vSwitch"].rows.values()), {})

    @property
    def ruled(self) -> dict[str, bool]:
        """By bridge, whether flows may be hidden in it: those by which it forwards while its controller is away."""
        return {
            str(bridge.name): bool(bridge.controller) and list(bridge.fail_mode) != ["secure"]
            for bridge in self._idl.tables["Bridge"].rows.values()
        }

    def rows(self) -> list[Row]:
        """Every Interface, in the order of bridges and names; one that is on no bridge comes last.

        python-ovs converts a value at each reading: that takes 0.1 s of 500 ports; what is unchanged is not read again.
        """
        if self._idl.change_seqno == self._read:
            return self._rows
        self._read = self._idl.change_seqno
        on: dict[Any, tuple[str, str]] = {}
        for bridge in self._idl.tables["Bridge"].rows.values():
            for port in bridge.ports:
                for interface in port.interfaces:
                    on[interface.uuid] = (str(bridge.name), str(bridge.datapath_type) or "system")
        found = [
            Row(
                name=str(row.name),
                id=str(id),
                bridge=on.get(id, ("", ""))[0],
                datapath=on.get(id, ("", ""))[1],
                type=str(row.type),
                ofport=next(iter(row.ofport), None),
                admin=next(iter(row.admin_state), ""),
                link=next(iter(row.link_state), ""),
                error=next(iter(row.error), ""),
                status=dict(row.status),
                options=dict(row.options),
                drops=self._idl.drops[str(row.name)],
            )
            for id, row in self._idl.tables["Interface"].rows.items()
        ]
        self._rows = sorted(found, key=lambda row: (not row.bridge, row.bridge, row.name))
        return self._rows

    def statistics(self) -> Mapping[str, Mapping[str, int]] | str:
        """By Interface; or why not."""
        asked = {"op": "select", "table": "Interface", "where": [], "columns": ["name", "statistics"]}
        try:
            [result] = schema.call(self._remote, "transact", ["Open_vSwitch", asked], DEADLINE)
            return {row["name"]: dict(row["statistics"][1]) for row in result["rows"]}
        except schema.Failed as error:
            return str(error)
        except (LookupError, TypeError, ValueError):
            return f"{self._remote}: no statistics in its answer: is this the socket of ovsdb-server?"
