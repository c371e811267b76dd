# SPDX-License-Identifier: Apache-2.0
"""A mesh as tests need it: a cell, what is asked for, and rows of OVSDB to which a plan is done."""

from __future__ import annotations

from typing import Any

from ovs_keepalive.core.interfaces import BridgeRow, Interface, Rows
from ovs_keepalive.core.mesh import BRIDGE, HOST, MARK, Asked, Cell, Plan, Wanted

ASKED = Asked("rack1", "a", "192.0.2.1")
MARKS = {MARK: "rack1"}
UP = {"state": "up", "remote_state": "up"}


def cell(*live: str, known: str = "") -> Cell:
    """Of hosts that are called by one letter each: a has 192.0.2.1, b 192.0.2.2, …"""
    return Cell({host: address(host) for host in live}, frozenset((*live, *known)))


def address(host: str) -> str:
    """That of a host."""
    return f"192.0.2.{ord(host) - ord('a') + 1}"


def done(plan: Plan, before: Rows) -> Rows:
    """The rows after a plan, as ovsdb-server and vswitchd would leave them."""
    bridges, interfaces = list(before.bridges), {one.id: one for one in before.interfaces}
    if plan.create is not None:
        bridges.append(plan.create)
        own = Interface(
            plan.create.name, "internal", plan.create.name, "p-own", "i-own", external_ids=MARKS, port_ids=MARKS
        )
        interfaces["i-own"] = own
    for there, port in plan.change:
        interfaces[there.id] = there._replace(type="vxlan", options=port.options, bfd=port.bfd)
    for one in plan.remove:
        del interfaces[one.id]
    for port in plan.add:
        made = mesh_port(port, ofport=len(interfaces) + 1)
        assert made.id not in interfaces
        interfaces[made.id] = made
    return Rows(tuple(bridges), tuple(sorted(interfaces.values(), key=lambda one: one.name)))


def mesh_port(port: Wanted, **fields: Any) -> Interface:
    """It, as it is once it was made."""
    marks = {**MARKS, HOST: port.host}
    return Interface(
        port.name,
        "vxlan",
        BRIDGE,
        f"p-{port.name}",
        f"i-{port.name}",
        options=port.options,
        external_ids=marks,
        port_ids=marks,
        bfd=port.bfd,
        **fields,
    )


STANDING = Rows((BridgeRow("br-int", "netdev"),), (Interface("eth1", "", "br-int", "p-eth1", "i-eth1", ofport=1),))
