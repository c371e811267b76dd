# SPDX-License-Identifier: Apache-2.0
"""What OVSDB says of tunnels, their bridges and ports, followed by an IDL of the fleet's agent; and its transactions.

Without a mesh it only reads. It is not the daemon's session: it asks for no lock, and never touches the two columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovs_keepalive.core.interfaces import BridgeRow, Interface, Rows
from ovs_keepalive.formats.mesh import Operation
from ovs_keepalive.publishers.session import MAP, AwareIdl, Follower, Write, monitored

_TEXT = {"type": "string"}
_SOME_TEXT = {"type": {"key": "string", "min": 0, "max": 1}}


def _rows_of(table: str) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


TABLES: dict[str, dict[str, Any]] = {  # every one of these columns is in each schema since Open vSwitch 2.6
    "Open_vSwitch": {"bridges": _rows_of("Bridge")},
    "Bridge": {"name": _TEXT, "datapath_type": _TEXT, "ports": _rows_of("Port"), "external_ids": MAP},
    "Port": {"name": _TEXT, "interfaces": _rows_of("Interface"), "external_ids": MAP},
    "Interface": {"name": _TEXT, "type": _TEXT, "options": MAP, "external_ids": MAP, "error": _SOME_TEXT,
                  "link_state": _SOME_TEXT, "bfd": MAP, "bfd_status": MAP,
                  "cfm_fault": {"type": {"key": "boolean", "min": 0, "max": 1}},
                  "ofport": {"type": {"key": "integer", "min": 0, "max": 1}}},
}  # fmt: skip


class MeshRows(Follower):
    """Nothing here waits."""

    def __init__(self, remote: str) -> None:
        """remote: of the database, one that schema.check_remote lets pass."""
        super().__init__(AwareIdl(remote, monitored(TABLES)))
        self.remote = remote
        self._rows = Rows()  # as they were read last …
        self._read = -1  # … at this change number of the database
        self._ids: dict[str, str] = {}  # bridge -> UUID of its row

    @property
    def listens(self) -> bool:
        """Whether what is known is what the server has."""
        return bool(self._idl.monitors and self._idl.tables["Open_vSwitch"].rows)

    def transact(self, operations: Sequence[Operation], comment: str) -> Write:
        """Start a transaction. comment: what is done, for whoever reads `ovsdb-tool show-log`."""
        return Write(self._idl, *operations, comment=comment)

    def bridge_id(self, name: str) -> str:
        """UUID of the row of a bridge; "" if there is none."""
        self.rows()
        return self._ids.get(name, "")

    def rows(self) -> Rows:
        """Everything as it is known now, by name. What is unchanged is not read again: python-ovs takes its time."""
        if self._idl.change_seqno == self._read:
            return self._rows
        self._read = self._idl.change_seqno
        bridges, on = [], {}
        self._ids = {}
        for id, row in self._idl.tables["Bridge"].rows.items():
            self._ids[str(row.name)] = str(id)
            bridges.append(BridgeRow(str(row.name), str(row.datapath_type), dict(row.external_ids)))
            for port in row.ports:
                for interface in port.interfaces:
                    on[interface.uuid] = (str(row.name), str(port.uuid), dict(port.external_ids))
        found = [
            _interface(row, str(id), *on.get(id, ("", "", {})))
            for id, row in self._idl.tables["Interface"].rows.items()
        ]
        self._rows = Rows(tuple(sorted(bridges)), tuple(sorted(found, key=lambda one: one.name)))
        return self._rows


def _interface(row: Any, id: str, bridge: str, port: str, port_ids: dict[str, str]) -> Interface:
    return Interface(
        name=str(row.name),
        type=str(row.type),
        bridge=bridge,
        port=port,
        id=id,
        options=dict(row.options),
        external_ids=dict(row.external_ids),
        port_ids=port_ids,
        ofport=next(iter(row.ofport), None),
        link=next(iter(row.link_state), ""),
        error=next(iter(row.error), ""),
        bfd=dict(row.bfd),
        bfd_status=dict(row.bfd_status),
        cfm_fault=next(iter(row.cfm_fault), None),
    )
