# SPDX-License-Identifier: Apache-2.0
"""The mesh: a VXLAN port with BFD to each live member of the cell, on a bridge of its own. What is wanted, against what
is there.

Laws. 1. Only rows that carry our mark are ours; a bridge of our name without it is somebody else's, and then nothing is
done. 2. A port goes only when the list of the cell has lacked its host for GRACE, never because the host has no session
now: the session is not the data plane, and a store that was emptied fills again. 3. A list that does not hold this very
host is not believed. 4. Ports of others on our bridge (what an operator attaches to it) are left alone. 5. What is not
done is told.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core.interfaces import BridgeRow, Interface, Rows
from ovs_keepalive.core.tunnels import address

MARK = "ovs-keepalive-mesh"  # in external_ids of each row of ours: the name of the cell
HOST = "ovs-keepalive-host"  # in those of a port: the member it leads to
BRIDGE = "ovska-mesh"
UDP_PORT = 9811  # not VXLAN's 4789: of two ports to one host on one UDP port only the first works, OVN's or Neutron's
MOST = 256  # ports; the mesh of a cell of n hosts has n * (n - 1)
GRACE = 60.0  # seconds for which the list has to lack a host until its port goes
BFD_MS = 1000  # between two control packets: three lost ones are a cut
MANY = 8  # hosts that a line names

Mapped = Mapping[str, str]


class Asked(NamedTuple):
    """What the configuration asks for."""

    cell: str
    host: str  # this one, as the cell knows it
    address: str  # this host's, under which the others reach it
    bridge: str = BRIDGE
    udp_port: int = UDP_PORT


class Cell(NamedTuple):
    """The cell as the store has it now."""

    live: Mapped  # the address of each member that has a session; "" if it says none
    known: frozenset[str]  # every member that was not forgotten, those without a session too


class Wanted(NamedTuple):
    """A port as it should be."""

    name: str
    host: str
    options: Mapped
    bfd: Mapped


class Plan(NamedTuple):
    """What is to be done, all of it in one transaction; and what is not, a line each."""

    create: BridgeRow | None = None  # the bridge, if it is not there
    add: tuple[Wanted, ...] = ()
    change: tuple[tuple[Interface, Wanted], ...] = ()
    remove: tuple[Interface, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether there is anything to be done."""
        return bool(self.create or self.add or self.change or self.remove)

    def words(self) -> str:
        """What is done, for the log and for the database's own journal."""
        said = ["makes the bridge"] if self.create else []
        for verb, hosts in (
            ("adds", [port.host for port in self.add]),
            ("changes", [port.host for _, port in self.change]),
            ("removes", [host_of(port) for port in self.remove]),
        ):
            if hosts:
                more = f" and {len(hosts) - MANY} more" if len(hosts) > MANY else ""
                said.append(f"{verb} {', '.join(hosts[:MANY])}{more}")
        return "; ".join(said)


def plan(asked: Asked, cell: Cell, rows: Rows) -> Plan:
    """What brings the rows to what is wanted."""
    bridge = next((one for one in rows.bridges if one.name == asked.bridge), None)
    if refusal := _refusal(asked, cell, rows, bridge):
        return Plan(told=(refusal,))
    mine = ours(asked, rows)
    there = {host_of(port): port for port in mine}
    taken = {one.name for one in rows.interfaces} - {port.name for port in there.values()}
    wanted, told = _wanted(asked, cell, there, taken)
    add = tuple(port for port in wanted if port.host not in there)
    both = [(there[port.host], port) for port in wanted if port.host in there]
    change = tuple((one, port) for one, port in both if _differs(one, port))
    remove = tuple(port for port in mine if host_of(port) not in cell.known or _twin(port, there))
    create = None if bridge else BridgeRow(asked.bridge, datapath(rows), {MARK: asked.cell})
    return Plan(create, add, change, remove, told)


def missed(asked: Asked, cell: Cell, rows: Rows, before: Mapping[str, float], now: float) -> Mapping[str, float]:
    """The hosts of our ports that the list lacks, and since when it does. before: the same a turn ago.

    A list that this host is not on says nothing: nobody is missed by it. now: monotonic seconds.
    """
    if asked.host not in cell.known:
        return {}
    absent = {host_of(one) for one in ours(asked, rows)} - cell.known
    return {host: before.get(host, now) for host in sorted(absent)}


def with_missed(cell: Cell, missed: Mapping[str, float], now: float) -> Cell:
    """The cell, and those whom the list has lacked for less than GRACE."""
    return cell._replace(known=cell.known | {host for host, since in missed.items() if now - since < GRACE})


def ours(asked: Asked, rows: Rows) -> tuple[Interface, ...]:
    """The ports of this cell's mesh that are there. Both rows of one bear the mark, or it is not ours."""
    return tuple(
        one
        for one in rows.interfaces
        if one.bridge == asked.bridge
        and one.external_ids.get(MARK) == one.port_ids.get(MARK) == asked.cell
        and one.external_ids.get(HOST)
    )


def host_of(port: Interface) -> str:
    """The member that a port of ours leads to."""
    return port.external_ids.get(HOST, "")


def port_name(cell: str, host: str) -> str:
    """The name of the port to that host: as long as any datapath takes, whatever the host is called."""
    return f"ka-{hashlib.sha256(f'{cell}/{host}'.encode()).hexdigest()[:11]}"


def datapath(rows: Rows) -> str:
    """The kind of datapath that most bridges of this Open vSwitch are of: a packet cannot pass from one to another."""
    kinds = Counter("" if one.datapath == "system" else one.datapath for one in rows.bridges)
    return max(sorted(kinds), key=lambda kind: kinds[kind], default="")


def removal(asked: Asked, rows: Rows) -> tuple[tuple[Interface, ...], bool]:
    """What taking the mesh away removes: the ports, and whether the bridge too: not if others have ports on it."""
    ports = ours(asked, rows)
    mine = {port.id for port in ports}
    others = [one for one in rows.interfaces if one.bridge == asked.bridge and one.id not in mine]
    bridge = any(one.name == asked.bridge and one.external_ids.get(MARK) == asked.cell for one in rows.bridges)
    return ports, bridge and all(one.name == asked.bridge for one in others)


def _refusal(asked: Asked, cell: Cell, rows: Rows, bridge: BridgeRow | None) -> str:
    if not _usable(asked.address):
        return f"fleet.address: {asked.address!r}: no address that others can reach: set this host's on the underlay"
    if asked.host not in cell.known:
        return f"the cell {asked.cell} does not list this host, {asked.host}: its list is not believed, nothing is done"
    if bridge is not None and bridge.external_ids.get(MARK) != asked.cell:
        cure = "rename or remove it, or set fleet.mesh: false"
        return f"bridge {asked.bridge} is not the mesh of the cell {asked.cell}: {cure}"
    if bridge is None and any(one.name == asked.bridge for one in rows.interfaces):
        return f"a port is called {asked.bridge}, as the mesh's bridge would be: rename it, or set fleet.mesh: false"
    return ""


def _wanted(
    asked: Asked, cell: Cell, there: Mapping[str, Interface], taken: Iterable[str]
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """A port to each live member that can have one; and who has none, and why."""
    told = []
    claims = Counter(address(one) for host, one in cell.live.items() if host != asked.host)
    able = []
    for host, said in sorted(cell.live.items()):
        one, name = address(said), port_name(asked.cell, host)
        if host == asked.host or host not in cell.known:
            continue  # one that was forgotten, and has a session still, will be known again or be gone
        if not _usable(one) or one == address(asked.address):
            told.append(f"{host}: tells no address that can be reached from here: set fleet.address there")
        elif claims[one] > 1:
            told.append(f"{host}: another member has its address {one}: correct fleet.address on one of them")
        elif _version(one) != _version(asked.address):
            told.append(f"{host}: its address {one} is of another version of IP than this host's {asked.address}")
        elif name in taken:
            told.append(f"{host}: the name of its port, {name}, is taken by another")
        else:
            able.append(_port(asked, host, one))
    room = MOST - len([host for host in there if host in cell.known and host not in {port.host for port in able}])
    able.sort(key=lambda port: (port.host not in there, port.host))
    if len(able) > room:
        told.append(f"{len(able) - room} members have no port: a mesh has at most {MOST} ports: make smaller cells")
    return tuple(able[: max(room, 0)]), tuple(told)


def _port(asked: Asked, host: str, remote: str) -> Wanted:
    options = {
        "remote_ip": remote,
        "local_ip": address(asked.address),
        "key": "flow",  # the number of a service is set by the flow that sends a packet there
        "dst_port": str(asked.udp_port),
    }
    bfd = {"enable": "true", "min_tx": str(BFD_MS), "min_rx": str(BFD_MS)}
    return Wanted(port_name(asked.cell, host), host, options, bfd)


def _differs(there: Interface, wanted: Wanted) -> bool:
    return (there.type, dict(there.options)) != ("vxlan", dict(wanted.options)) or any(
        there.bfd.get(key) != value for key, value in wanted.bfd.items()
    )


def _twin(port: Interface, there: Mapping[str, Interface]) -> bool:
    """Whether another port of ours leads to the same host: there was a hand at work."""
    return there[host_of(port)].id != port.id


def _version(text: str) -> int:
    return ipaddress.ip_address(text).version


def _usable(text: str) -> bool:
    if not address(text):
        return False
    one = ipaddress.ip_address(text)
    return not (one.is_multicast or one.is_unspecified or one.is_loopback)
