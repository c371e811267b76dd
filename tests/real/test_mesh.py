# SPDX-License-Identifier: Apache-2.0
"""Two hosts, then three, each a real Open vSwitch in a namespace of its own: the mesh between them, and services on it.

BFD is real, and so is every packet: from a client's port through the flows of two bridges and a VXLAN tunnel.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ovs_keepalive import mesh
from ovs_keepalive.core.mesh import BRIDGE, Asked, port_name
from ovs_keepalive.core.tunnels import End, Reach, View
from tests.numbered import Sender, answer
from tests.underlay import CELL, RATE, TOLD, Agents, Host, Underlay, arrived, ports, routes, told, underlay

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def net() -> Iterator[Underlay]:
    """An Ethernet without hosts."""
    with underlay() as net:
        yield net


@pytest.fixture
def agents(net: Underlay) -> Iterator[Agents]:
    """No agents yet."""
    agents = Agents()
    try:
        yield agents
    finally:
        agents.close()


def is_up(agents: Agents, a: str, b: str) -> bool:
    """Whether both ends say so."""
    link = agents.link(a, b)
    return link is not None and (link.reach, link.view) == (Reach.UP, View.AGREED)


def is_cut(agents: Agents, a: str, b: str) -> bool:
    """Whether both ends say so."""
    link = agents.link(a, b)
    return link is not None and (link.reach, link.view) == (Reach.DOWN, View.AGREED)


def rows(host: Host, table: str, *columns: str, **where: str) -> list[dict[str, Any]]:
    """Of the database."""
    asked = [[column, "==", value] for column, value in where.items()]
    [result] = host.transact({"op": "select", "table": table, "where": asked, "columns": list(columns)})
    return list(result["rows"])


def test_a_cut_is_in_both_views_and_a_third_host_is_meshed(
    net: Underlay, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovs_keepalive.core.mesh.GRACE", 1.0)
    a, b = net.host("a"), net.host("b")
    for host in (a, b):
        agents.join(host)
    took = agents.until(lambda: is_up(agents, "a", "b"), "a and b reach each other", 30)
    print(f"two hosts meshed and up after {took:.1f} s")

    net.cut("b")
    took = agents.until(lambda: is_cut(agents, "a", "b"), "both ends tell the cut", 15)
    print(f"cut in both views after {took:.2f} s")
    assert took <= TOLD
    net.heal("b")
    took = agents.until(lambda: is_up(agents, "a", "b"), "both ends tell that it is healed", 15)
    print(f"healed in both views after {took:.2f} s")

    c = net.host("c")
    agents.join(c)
    took = agents.until(lambda: all(port_name(CELL, "c") in ports(host) for host in (a, b)), "a and b have ports to c")
    print(f"ports to the third after {took:.2f} s")
    both = agents.until(lambda: is_up(agents, "a", "c") and is_up(agents, "b", "c"), "c is reached", 30)
    print(f"and up {both:.2f} s later")

    agents.leave("c")
    link = agents.link("a", "c")
    assert link is not None
    assert (link.reach, link.view, link.says_b) == (Reach.UP, View.ONE_SIDED, End.UNSEEN)
    assert port_name(CELL, "c") in ports(a), "a session is not the data plane"
    agents.known.discard("c")
    agents.until(lambda: port_name(CELL, "c") not in ports(a) + ports(b), "it was forgotten: its ports go")
    assert is_up(agents, "a", "b")


@pytest.mark.slow
def test_packets_for_a_service_go_where_it_is_and_stay_at_home_once_it_is_here(net: Underlay, agents: Agents) -> None:
    a, b = net.host("a"), net.host("b")
    near = agents.join(a, {})
    agents.join(b, {"dns": "dns0"})
    agents.until(lambda: all(BRIDGE in ports(host) for host in (a, b)), "both have the bridge")
    a.service_port("vm1", service="dns")
    b.service_port("dns0")
    agents.until(lambda: routes(near) == {"dns": "b"}, "a sends to b", 30)

    with Sender(a.dir / "vm1.stream", RATE):
        agents.until(lambda: len(arrived(b, "dns0")) > RATE, "a's packets are at b")
        came = arrived(b, "dns0")
        assert came == sorted(set(came)), "each once, and in their order"
        with Sender(b.dir / "dns0.stream", RATE, answer):
            agents.until(lambda: len(arrived(a, "vm1")) > RATE, "b's answers are at a's client")

        # One comes up here.
        a.service_port("dns0")
        near = agents.join(a, {"dns": "dns0"})
        agents.until(lambda: "dns" in near.services and len(arrived(a, "dns0")) > RATE, "they stay at home")
        before = len(arrived(b, "dns0"))
        agents.until(lambda: len(arrived(a, "dns0")) > 3 * RATE, "and go on to")
        assert len(arrived(b, "dns0")) == before
        with Sender(a.dir / "dns0.stream", RATE, answer):
            known = len(arrived(a, "vm1"))
            agents.until(lambda: len(arrived(a, "vm1")) > known + RATE, "and are answered from here")

        # It goes again; and vswitchd is killed, with all flows: OpenFlow is not stored.
        a.vsctl("del-port", "dns0")
        agents.until(lambda: len(arrived(b, "dns0")) > before + RATE, "they go to b again", 30)
        a.kill_vswitchd()
        a.start_vswitchd()
        a.wait_for_pmds()
        before = len(arrived(b, "dns0"))
        took = agents.until(lambda: len(arrived(b, "dns0")) > before + RATE, "and after a crash", 40)
        print(f"packets at b {took:.1f} s after vswitchd was back")
    assert told(near) == ("service dns: its port dns0 is not on the mesh's bridge: add it there",)


@pytest.mark.slow
def test_of_two_the_one_with_most_headroom_serves_until_it_cannot_be_reached(net: Underlay, agents: Agents) -> None:
    a, b, c = (net.host(name) for name in "abc")
    near = agents.join(a, {})
    for host in (b, c):
        agents.join(host, {"dns": "dns0"})
    agents.cores = {"b": 1, "c": 3}
    agents.until(lambda: all(BRIDGE in ports(host) for host in (a, b, c)), "all have the bridge")
    a.service_port("vm1", service="dns")
    for host in (b, c):
        host.service_port("dns0")
    agents.until(lambda: routes(near) == {"dns": "c"}, "a sends to c", 30)
    with Sender(a.dir / "vm1.stream", RATE):
        agents.until(lambda: len(arrived(c, "dns0")) > RATE, "its packets are at c")
        net.cut("c")
        took = agents.until(lambda: len(arrived(b, "dns0")) > 0, "they go to b")
        print(f"at the other one {took:.2f} s after the cut")
        assert took <= TOLD
        net.cut("b")
        agents.until(lambda: routes(near) == {}, "nobody is left")
        assert told(near) == ("service dns: neither here nor at a node that can be reached: its packets are dropped",)


def test_nothing_but_our_own_rows_is_touched_and_all_of_them_go_again(net: Underlay, agents: Agents) -> None:
    a, b = net.host("a"), net.host("b")

    def others() -> list[Any]:
        bridge = rows(a, "Bridge", "_version", name="br-phy")
        interfaces = [rows(a, "Interface", "options", "external_ids", "bfd", name=one) for one in ("eth0", "br-phy")]
        return [bridge, rows(a, "Port", "_version", name="eth0"), interfaces]

    before = others()
    for host in (a, b):
        agents.join(host, {})
    agents.until(lambda: is_up(agents, "a", "b"), "a and b reach each other", 30)
    agents.close()
    assert others() == before
    log = subprocess.run(
        ["ovsdb-tool", "-m", "show-log", str(a.dir / "conf.db")], capture_output=True, text=True, check=True
    )
    assert "ovs-keepalive: mesh makes the bridge" in log.stdout

    a.service_port("vm1", service="dns")
    asked = Asked(CELL, "a", a.address)
    said = mesh.remove(a.remote, a.dir, asked)
    assert said == f"{BRIDGE}: removes 1 ports; the bridge stays: others have ports on it"
    assert ports(a) == [BRIDGE]
    a.vsctl("del-port", "vm1")
    assert mesh.remove(a.remote, a.dir, asked) == f"{BRIDGE}: removes 0 ports and the bridge"
    assert rows(a, "Bridge", "name") == [{"name": "br-phy"}]
    assert others() == before
    assert mesh.remove(a.remote, a.dir, asked) == f"{BRIDGE}: no mesh of the cell {CELL} is there"


def test_a_bridge_that_is_somebody_elses_is_left_alone(net: Underlay, agents: Agents) -> None:
    a = net.host("a")
    a.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
    fabric = agents.join(a, {})
    agents.until(lambda: told(fabric), "it says so")
    assert told(fabric)[0].startswith(f"bridge {BRIDGE} is not the mesh of the cell {CELL}: rename or remove it")
    assert ports(a) == []
