# SPDX-License-Identifier: Apache-2.0
"""The rows of bridges, ports and interfaces, for the verbs that change ports: one transaction each, made by the IDL.

Whatever was read before a change is verified in the same transaction: if somebody changed it meanwhile, nothing is
done. Each transaction carries a comment that says what was asked, as ovs-vsctl's do: `ovsdb-tool show-log` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ovs.db.idl
import ovs.poller
import ovs.timeval

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.port_plan import CLIENT, PATH_OPTION, SERVER, Bridge, Iface, Port, Switch, Wish
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.schema import DATABASE
from ovs_keepalive.publishers import schema
from ovs_keepalive.publishers.session import AwareIdl

PATIENCE = 5.0  # seconds for ovsdb-server to answer
CONFIGURED = 20.0  # seconds for vswitchd to take up a change
UNSURE = "whether it is done, ovs-vsctl show tells"
POLL = 100  # ms between two looks at what nobody announces

COLUMNS = {
    "Open_vSwitch": (
        "bridges",
        "other_config",
        "external_ids",
        "next_cfg",
        "cur_cfg",
        "dpdk_initialized",
        "iface_types",
    ),
    "Bridge": ("name", "datapath_type", "ports", "controller", "fail_mode", "external_ids"),
    "Port": ("name", "interfaces"),
    "Interface": ("name", "type", "options", "ofport", "ofport_request", "error", "status", "external_ids"),
    "Controller": ("target",),
}
Row = Any  # of python-ovs, which has no types


class NotDone(Exception):
    """The database did not take the change, or not in time: nothing was changed by it. One line why."""


class SwitchDb:
    """A connection to the database. Raises schema.Failed while it is made, NotDone afterwards."""

    def __init__(self, remote: str) -> None:
        self.remote = remote
        live = schema.call(remote, "get_schema", [DATABASE], PATIENCE)
        tables: Mapping[str, Any] = live.get("tables", {}) if isinstance(live, dict) else {}
        helper = ovs.db.idl.SchemaHelper(schema_json=live)
        for table, columns in COLUMNS.items():
            lacking = [column for column in columns if column not in tables.get(table, {}).get("columns", {})]
            if lacking:
                raise schema.Failed(f"{remote}: its table {table} has no {lacking[0]}: update Open vSwitch")
            helper.register_columns(table, list(columns))
        self._idl = AwareIdl(remote, helper)
        try:
            self.wait(lambda: self._has("Open_vSwitch"), PATIENCE, "it has not told what it holds")
        except NotDone as error:
            self.close()
            raise schema.Failed(str(error)) from error

    def close(self) -> None:
        """End the connection."""
        self._idl.close()

    # --- what it says ---

    def switch(self) -> Switch:
        """All that it says now."""
        self._idl.run()
        for row in self._rows("Open_vSwitch"):
            return Switch(
                tuple(_bridge(bridge) for bridge in sorted(row.bridges, key=lambda one: str(one.name))),
                row.other_config,
                row.external_ids,
                frozenset(row.iface_types),
                bool(row.dpdk_initialized),
            )
        raise NotDone(f"{self.remote}: Open_vSwitch has no row: run ovs-vsctl init")

    def interface(self, name: str) -> Iface | None:
        """The one of that name, as the database has it now."""
        self._idl.run()
        return next((_iface(row) for row in self._rows("Interface") if row.name == name), None)

    # --- what changes it ---

    def add(self, wish: Wish, comment: str) -> int:
        """Make the port; which configuration it is a part of, for `configured`."""

        def change(transaction: Any) -> None:
            bridge = self._named("Bridge", wish.bridge)
            for column in ("datapath_type", "controller", "fail_mode", "external_ids"):
                bridge.verify(column)
            iface = transaction.insert(self._idl.tables["Interface"])
            iface.name, iface.type = wish.name, SERVER if wish.server else CLIENT
            if not wish.server:
                iface.options = {PATH_OPTION: wish.path}
            if wish.ofport is not None:
                iface.ofport_request = [wish.ofport]
            port = transaction.insert(self._idl.tables["Port"])
            port.name, port.interfaces = wish.name, [iface]
            bridge.addvalue("ports", port)

        return self._transact(change, comment)

    def delete(self, name: str, comment: str, *, whatever: bool) -> int:
        """Take the port away, its interface with it. whatever: also if it is not what it was when it was looked at."""

        def change(_: Any) -> None:
            port = self._named("Port", name)
            port.verify("interfaces")
            for iface in [] if whatever else port.interfaces:
                iface.verify("type")
                iface.verify("status")
            for bridge in self._rows("Bridge"):
                if port in bridge.ports:
                    bridge.delvalue("ports", port)

        return self._transact(change, comment)

    def change(self, before: Iface, kind: str, options: Mapping[str, str], comment: str) -> int:
        """Give the interface another type, and other options; not if it is another one than before."""

        def change(_: Any) -> None:
            iface = self._named("Interface", before.name)
            if iface.type != before.type or dict(iface.options) != dict(before.options):
                raise NotDone(f"{before.name}: was changed meanwhile: look at it, and try again")
            iface.verify("type")
            iface.verify("options")
            iface.type, iface.options = kind, dict(options)

        return self._transact(change, comment)

    def configured(self, number: int, seconds: float = CONFIGURED) -> None:
        """Wait until vswitchd has taken up that configuration. Raises NotDone when it does not in time."""
        what = f"vswitchd has not taken the change up within {seconds:g} s"
        self.wait(lambda: any(row.cur_cfg >= number for row in self._rows("Open_vSwitch")), seconds, what)

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Until the condition holds. Raises NotDone with `what` when it does not within so many seconds."""
        deadline = ovs.timeval.msec() + seconds * 1000
        while True:
            self._idl.run()
            if condition():
                return
            if ovs.timeval.msec() >= deadline:
                raise NotDone(f"{self.remote}: {what}")
            poller = ovs.poller.Poller()
            self._idl.wait(poller)
            poller.timer_wait(POLL)
            poller.block()

    def _transact(self, change: Callable[[Any], None], comment: str) -> int:
        # What the server told since it was last read is not taken in: it is verified that there was nothing.
        transaction, life = ovs.db.idl.Transaction(self._idl), self._idl.life
        transaction.add_comment(f"ovs-keepalive: {comment}")
        try:
            change(transaction)
            for row in self._rows("Open_vSwitch"):
                row.increment("next_cfg")
            under_way = ovs.db.idl.Transaction.INCOMPLETE
            transaction.commit()  # now it is sent; before that the IDL takes nothing in
            self.wait(lambda: transaction.commit() != under_way, PATIENCE, f"no answer to the change: {UNSURE}")
        finally:
            transaction.abort()  # does nothing to one that is done
        status = transaction.commit()
        if self._idl.life != life:
            raise NotDone(f"{self.remote}: the connection broke during the change: {UNSURE}")
        if status == ovs.db.idl.Transaction.TRY_AGAIN:
            raise NotDone(f"{self.remote}: what was looked at was changed meanwhile: nothing is done, try again")
        if status not in (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED):
            said = short(one_line(str(transaction.get_error() or status)), 200)
            raise NotDone(f"{self.remote}: the server refuses the change: {said}")
        return int(transaction.get_increment_new_value() or 0)

    def _has(self, table: str) -> bool:
        return any(True for _ in self._rows(table))

    def _rows(self, table: str) -> list[Row]:
        return list(self._idl.tables[table].rows.values())

    def _named(self, table: str, name: str) -> Row:
        for row in self._rows(table):
            if row.name == name:
                return row
        raise NotDone(f"{table} {short(one_line(name))}: has vanished meanwhile: nothing is done")


def _bridge(row: Row) -> Bridge:
    ports = tuple(_port(port) for port in sorted(row.ports, key=lambda one: str(one.name)))
    targets = tuple(str(controller.target) for controller in row.controller)
    return Bridge(row.name, row.datapath_type, ports, targets, _optional(row.fail_mode) or "", row.external_ids)


def _port(row: Row) -> Port:
    return Port(row.name, tuple(_iface(iface) for iface in row.interfaces))


def _iface(row: Row) -> Iface:
    return Iface(
        row.name,
        row.type,
        row.options,
        _optional(row.ofport),
        _optional(row.ofport_request),
        _optional(row.error) or "",
        row.status,
        row.external_ids,
    )


def _optional(values: Any) -> Any:
    """An optional value is a list of one or none."""
    return values[0] if values else None
