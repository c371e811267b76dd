# SPDX-License-Identifier: Apache-2.0
"""Looks at ports as tests need them: a client port that is well, and everything that can be otherwise about it."""

from __future__ import annotations

from typing import Any

from ovs_keepalive.core import port_watch
from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.places import Entry, Kind, Place
from ovs_keepalive.core.port_watch import Polling, Told
from ovs_keepalive.core.ports import (
    Beside,
    Counters,
    Peers,
    Port,
    PortFacts,
    Ports,
    PortsMemory,
    Reach,
    Survey,
)

WALL_MS = 1_700_000_000_000
FIRST, SECOND = ProcessId(700, 1000), ProcessId(800, 9000)
ROOT = Credentials(0, frozenset({0}), 0xFFFF)
PATH = "/run/vm/vhc0.sock"
WAY = (Entry("/", 0, 0, 0o755), Entry("/run", 0, 0, 0o755), Entry("/run/vm", 0, 0, 0o755))
THERE = Place(PATH, WAY, Kind.SOCKET, Entry(PATH, 0, 0, 0o755))
ABSENT = Place(PATH, WAY, Kind.ABSENT)
POLLED = (("pmd-c01/id:8", "ALIVE", 0),)


def client(**fields: Any) -> PortFacts:
    """A vhost-user client port, connected and well."""
    facts = PortFacts(
        name="vhc0",
        id="11111111-0000-0000-0000-000000000000",
        bridge="br0",
        datapath="netdev",
        type="dpdkvhostuserclient",
        ofport=1,
        admin="up",
        link="up",
        error="",
        mode="client",
        peer="connected",
        path=PATH,
        queues=1,
        drops=0,
        counters=Counters(1000.0, 10, 20, 0),
        socket=THERE,
        peers=Peers(0, 1, 1),
        reach=Reach(1, to=True, of=True),
    )
    return facts._replace(**fields)


def server(**fields: Any) -> PortFacts:
    """A vhost-user server port, connected and as well as such a one can be."""
    well = client(name="vhu0", type="dpdkvhostuser", mode="server", path="/run/vm/vhu0", peers=Peers(1, 1, 1))
    return well._replace(**fields)


AWAY: dict[str, Any] = {"peer": "disconnected", "link": "down", "counters": ""}
NOBODY: dict[str, Any] = {**AWAY, "socket": ABSENT, "peers": Peers(0, 0, 0)}


def at(mono: float) -> Moment:
    """A moment."""
    return Moment(mono, WALL_MS + round(mono * 1000))


def survey(*ports: PortFacts, **fields: Any) -> Survey:
    """A look at these ports, by a survey that is pid 900, at vswitchd 700, which has run for long."""
    look = Survey(at(1000.0), 900, FIRST, 10.0, ROOT, "", None, ports)
    return look._replace(**fields)


class Watched:
    """A daemon that looks at ports, look after look."""

    def __init__(self) -> None:
        self.memory = PortsMemory()
        self.now = 1000.0
        self.process = FIRST
        self.began = 10.0
        self.polled: dict[str, Any] | None = {"vhc0": POLLED, "vhu0": POLLED}
        self.told = Told(self.memory, Ports(), ())

    def look(self, *ports: PortFacts, after: float = 5.0, blind: str = "", **fields: Any) -> Port:
        """The first port after a look that came so many seconds after the one before."""
        self.now += after
        seen = survey(*ports, at=at(self.now), process=self.process, began=self.began)._replace(**fields)
        polled = None if self.polled is None else Polling(self.now, self.polled)
        self.told = port_watch.follow(self.memory, seen, blind, polled)
        assert port_watch.follow(self.told.memory, seen, blind, polled)[:2] == self.told[:2], "the same look twice"
        self.memory = self.told.memory
        return self.told.ports.ports[0]

    def restart(self, after: float = 5.0) -> None:
        """Another vswitchd runs from now on."""
        self.now += after
        self.process, self.began = SECOND, self.now


def kinds(port: Port) -> list[str]:
    """Of its findings."""
    return [str(finding.kind) for finding in port.findings]


def beside(port: Port) -> list[str]:
    """The findings besides its state's."""
    return [kind for kind in kinds(port) if kind in {str(one) for one in Beside}]
