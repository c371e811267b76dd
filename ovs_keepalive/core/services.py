# SPDX-License-Identifier: Apache-2.0
"""Services of the cell: which are here, and to whom a node that lacks one sends its packets.

A service has a port on the mesh's bridge (`fleet.services`), and clients that an operator attached to that bridge with
`external_ids:ovs-keepalive-service=NAME`. Laws. 1. Home first: while the own instance works, nothing leaves. 2. A
packet that came by a tunnel is delivered or dropped, never sent on: no loop can be. 3. Away is the live node with most
headroom to which BFD says UP; a choice is kept while it serves, unless another has clearly more: moving costs replies.
4. Where nobody has it, its packets are dropped, and that is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core.fleet import Headroom
from ovs_keepalive.core.headroom import room
from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.mesh import host_of

CLIENT = "ovs-keepalive-service"  # in external_ids of a port: its packets are for that service
REPLY = 1 << 23  # of the 24 bits of tun_id: the packet goes back to who asked
CLEARLY = 0.5  # more headroom, in cores, for which a choice is given up


class Offer(NamedTuple):
    """A live node that has the service."""

    host: str
    number: int  # of the service, as that node registered it
    headroom: Headroom


class Route(NamedTuple):
    """Where the packets of one service go from here."""

    service: str
    clients: tuple[int, ...]  # ofports from which they come
    home: int | None  # ofport of the own instance, if it works
    number: int  # of the own instance in tun_id
    host: str = ""  # where there is none here: who has it; "" for nobody
    tunnel: int | None = None  # ofport of the tunnel there
    away: int = 0  # the number under which that host has it


class Routes(NamedTuple):
    """Of all services that concern this node; and what is not as somebody asked for, a line each."""

    routes: tuple[Route, ...] = ()
    tunnels: tuple[int, ...] = ()  # ofports by which packets of others come
    told: tuple[str, ...] = ()

    @property
    def offered(self) -> Mapping[str, int]:
        """The services that are here, with their numbers: what the node tells the others."""
        return {route.service: route.number for route in self.routes if route.home is not None}

    @property
    def chosen(self) -> Mapping[str, str]:
        """Service -> host, of those that are away."""
        return {route.service: route.host for route in self.routes if route.host}


def numbers(names: Collection[str]) -> Mapping[str, int]:
    """The number of each service of one node: 1 to REPLY - 1.

    A hash of the name, so that it is the same whoever else is in the cell, whenever a service comes or goes: places in
    a sorted list would shift under packets that are on their way. Two names of one node that fall together take the
    next number that is free: whoever sends uses the number that the receiver tells, so that nobody has to agree.
    """
    found: dict[str, int] = {}
    for name in sorted(names):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % (REPLY - 1) + 1
        while number in found.values():
            number = number % (REPLY - 1) + 1
        found[name] = number
    return found


def choose(offers: Iterable[Offer], before: str) -> Offer | None:
    """The one with most headroom; the one before while none has clearly more. None of none."""
    by_host = {offer.host: offer for offer in offers}
    best = max(by_host.values(), key=lambda offer: (room(offer.headroom), offer.host), default=None)
    kept = by_host.get(before)
    if kept is not None and best is not None and room(best.headroom) - room(kept.headroom) < CLEARLY:
        return kept
    return best


def routes(
    registered: Mapping[str, str],
    interfaces: Collection[Interface],
    mesh: Collection[Interface],
    offers: Mapping[str, Collection[Offer]],
    before: Mapping[str, str],
) -> Routes:
    """What follows from it.

    registered: service -> name of its port; interfaces: those on the mesh's bridge; mesh: the tunnels among them;
    offers: of the live members, by service; before: as chosen last.
    """
    by_name = {one.name: one for one in interfaces}
    clients: dict[str, list[int]] = {}
    for one in sorted(interfaces, key=lambda one: one.ofport or 0):
        if (service := one.marked(CLIENT)) and one.ofport is not None and one.ofport > 0:
            clients.setdefault(service, []).append(one.ofport)
    up = {host_of(one): one.ofport for one in mesh if (one.ofport or 0) > 0 and one.bfd_status.get("state") == "up"}
    own = numbers(registered)
    found, told = [], []
    for service in sorted({*registered, *clients}):
        port = by_name.get(registered.get(service, ""))
        asking = tuple(clients.get(service, ()))
        if service in registered and port is None:
            told.append(f"service {service}: its port {registered[service]} is not on the mesh's bridge: add it there")
        if port is not None and port.works:
            found.append(Route(service, asking, port.ofport, own[service]))
            continue
        usable = [
            offer for offer in offers.get(service, ()) if up.get(offer.host) is not None and 0 < offer.number < REPLY
        ]
        offer = choose(usable, before.get(service, ""))
        if offer is None and asking:
            told.append(f"service {service}: neither here nor at a node that can be reached: its packets are dropped")
        if offer is None:
            found.append(Route(service, asking, None, own.get(service, 0)))
        else:
            found.append(Route(service, asking, None, own.get(service, 0), offer.host, up[offer.host], offer.number))
    arrivals = tuple(sorted(one.ofport for one in mesh if one.ofport is not None and one.ofport > 0))
    return Routes(tuple(found), arrivals, tuple(told))
