# SPDX-License-Identifier: Apache-2.0
"""The mesh as operators have it: agents on two hosts and a third, between them nothing but a real ZooKeeper."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.core.tunnels import End, Matrix, Reach, View
from ovs_keepalive.fleet.session import Options
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet.watch import read_cell
from ovs_keepalive.sandbox import wait
from tests.faults.inject import held
from tests.fleet_agents import FleetHost
from tests.fleets import of_fleet
from tests.numbered import Sender
from tests.underlay import CELL, RATE, TOLD, Host, Underlay, arrived, ports, underlay
from tests.zookeeper import Client, Zookeeper

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

REFRESH = 5.0  # seconds, of the agents


class Rack:
    """Hosts with agents, and a reader of what they tell."""

    def __init__(self, net: Underlay, zookeeper: Zookeeper, stack: ExitStack) -> None:
        self._net, self._zookeeper, self._stack = net, zookeeper, stack
        self._client = stack.enter_context(Client(Options(zookeeper.hosts, timeout=4.0)))
        self._tree = Tree(CELL)

    def cut(self, name: str) -> None:
        """Take its cable out."""
        self._net.cut(name)

    def heal(self, name: str) -> None:
        """Put it back."""
        self._net.heal(name)

    def host(self, name: str, **fleet: Any) -> tuple[Host, FleetHost]:
        """One more, and its agent."""
        host = self._net.host(name)
        wanted = {"cell": CELL, "address": host.address, "mesh": True, "help": "off", "refresh": REFRESH, **fleet}
        return host, self._stack.enter_context(FleetHost(host, self._zookeeper, name, **wanted))

    def matrix(self) -> Matrix:
        """As the store has it."""
        hosts = read_cell(self._client.session, self._tree).hosts
        live = {name: one.live for name, one in hosts.items() if one.live is not None}
        return of_fleet(live, {name: one.known for name, one in hosts.items() if one.known is not None})

    def until(self, reach: Reach, *pairs: str, seconds: float = 30.0) -> float:
        """Wait until both ends of these pairs ("ab") say so; the seconds it took."""
        begin = time.monotonic()

        def agreed() -> bool:
            self._client.news()
            said = {link.a + link.b: (link.reach, link.view) for link in self.matrix().links}
            return all(said.get(pair) == (reach, View.AGREED) for pair in pairs)

        wait(agreed, f"{pairs} are {reach}; {self.matrix()}", seconds)
        return time.monotonic() - begin

    def until_link(self, pair: str, *wanted: object) -> float:
        """Wait until the pair is so: its reach, and what either end says; the seconds it took."""
        begin = time.monotonic()

        def is_so() -> bool:
            self._client.news()
            links = {link.a + link.b: (link.reach, link.says_a, link.says_b) for link in self.matrix().links}
            return links.get(pair) == wanted

        wait(is_so, f"{pair} is {wanted}", 20)
        return time.monotonic() - begin


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    """Empty."""
    with ExitStack() as stack:
        net = stack.enter_context(underlay())
        yield Rack(net, stack.enter_context(Zookeeper(tmp_path)), stack)


@pytest.mark.slow
def test_agents_mesh_their_hosts_tell_a_cut_and_serve_each_other(rack: Rack) -> None:
    a, first = rack.host("a")
    b, _ = rack.host("b", services={"dns": "dns0"})
    print(f"a and b up after {rack.until(Reach.UP, 'ab'):.1f} s")
    rack.cut("b")
    took = rack.until(Reach.DOWN, "ab")
    print(f"cut in the store, by both, after {took:.2f} s")
    assert took <= TOLD
    rack.heal("b")
    print(f"healed after {rack.until(Reach.UP, 'ab'):.2f} s")

    a.vsctl("add-port", "br-phy", "q0", "--", "set", "interface", "q0", "type=dummy-pmd", "--", "set", "Open_vSwitch",
            ".", "other_config:pmd-cpu-mask=1", "other_config:pmd-maxsleep=100")  # fmt: skip
    with held(wait(lambda: next(iter(a.pmds().values()), 0), "a has a PMD thread", 10)):
        wait(lambda: "stay as they are: PMD on core" in first.said(), "a knows that its PMD stalls", 15)
        begin = time.monotonic()
        rack.host("c")
        joined = time.monotonic()
        wait(lambda: len(ports(b)) == 3, "b has a port to c", 15)
        print(f"c: started in {joined - begin:.1f} s, port to it {time.monotonic() - joined:.1f} s later")
        assert time.monotonic() - joined <= REFRESH + 1
        assert len(ports(a)) == 2, "a port that is added waits for each PMD, and holds up all others"
    wait(lambda: len(ports(a)) == 3, "a has a port to c", 15)
    rack.until(Reach.UP, "ac", "bc")

    a.service_port("vm1", service="dns")
    b.service_port("dns0")
    with Sender(a.dir / "vm1.stream", RATE):
        wait(lambda: len(arrived(b, "dns0")) > RATE, "a's packets are at b", 20)

    # What a dead vswitchd left in OVSDB says nothing: the pair is judged by the other end.
    a.kill_vswitchd()
    took = rack.until_link("ab", Reach.DOWN, End.SILENT, End.DOWN)
    print(f"vswitchd of a is dead: told by b after {took:.1f} s")
    a.start_vswitchd()
    a.wait_for_pmds()
    rack.until(Reach.UP, "ab")

    # While keepalive is disabled nobody says whether vswitchd runs, nor how its PMDs are.
    a.settings(enable_keepalive=False)
    rack.until_link("ab", Reach.UP, End.SILENT, End.UP)
    wait(lambda: "nobody says how the PMDs are: keepalive is disabled" in first.said(), "it says so", 5)
    a.settings(enable_keepalive=True)
    rack.until(Reach.UP, "ab")

    refused = first.runs("unmesh")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "set it to false first" in refused.stderr
    first.end()
    first.config.write_text(first.config.read_text().replace('"mesh": true', '"mesh": false'))
    a.vsctl("del-port", "vm1")
    done = first.runs("unmesh")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ovska-mesh: removes 2 ports and the bridge\n"
    assert ports(a) == []
