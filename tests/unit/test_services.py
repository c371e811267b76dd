# SPDX-License-Identifier: Apache-2.0
"""Services: home first, else to the live node with most headroom; and the flows that do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ovs_keepalive.core.fleet import Headroom
from ovs_keepalive.core.headroom import room
from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.mesh import BRIDGE, Wanted, port_name
from ovs_keepalive.core.services import CLIENT, REPLY, Offer, Routes, choose, numbers, routes
from ovs_keepalive.formats import service_flows as form
from tests.meshes import UP, mesh_port

DNS = numbers(["dns"])["dns"]


def port(name: str, ofport: int, **fields: Any) -> Interface:
    """One on the mesh's bridge."""
    return Interface(name, "", BRIDGE, f"p-{name}", f"i-{name}", ofport=ofport, **fields)


def tunnel(host: str, ofport: int, status: Mapping[str, str] = UP) -> Interface:
    """The mesh's port to that host."""
    return mesh_port(Wanted(port_name("rack1", host), host, {}, {}), ofport=ofport, bfd_status=status)


def offer(host: str, cores: int = 1, number: int = DNS) -> Offer:
    """A node that has the service."""
    return Offer(host, number, Headroom({0: cores}, {}))


CLIENT_PORT = port("vm1", 3, port_ids={CLIENT: "dns"})
B, C = tunnel("b", 11), tunnel("c", 12)
OFFERS = {"dns": (offer("b", 1), offer("c", 4))}


def of(
    *interfaces: Interface,
    registered: Mapping[str, str] | None = None,
    mesh: Sequence[Interface] = (B, C),
    offers: Mapping[str, tuple[Offer, ...]] = OFFERS,
    before: Mapping[str, str] | None = None,
) -> Routes:
    """The routes that follow."""
    return routes(registered or {}, [*interfaces, *mesh], mesh, offers, before or {})


def test_a_node_that_lacks_a_service_sends_to_the_one_with_most_headroom() -> None:
    found = of(CLIENT_PORT)
    assert found.chosen == {"dns": "c"}
    assert found.routes[0].tunnel == 12
    assert (found.offered, found.told) == ({}, ())


def test_home_comes_first() -> None:
    found = of(CLIENT_PORT, port("dns0", 5), registered={"dns": "dns0"})
    assert (found.chosen, found.offered) == ({}, {"dns": DNS})


@pytest.mark.parametrize("fields", [{"link": "down"}, {"error": "could not open"}, {"ofport": -1}, {"ofport": None}])
def test_an_instance_that_does_not_work_is_none(fields: dict[str, Any]) -> None:
    found = of(CLIENT_PORT, port("dns0", 5)._replace(**fields), registered={"dns": "dns0"})
    assert (found.chosen, found.offered) == ({"dns": "c"}, {})


def test_a_port_that_is_not_on_the_bridge_is_told() -> None:
    found = of(CLIENT_PORT, registered={"dns": "dns0"})
    assert found.told == ("service dns: its port dns0 is not on the mesh's bridge: add it there",)
    assert found.chosen == {"dns": "c"}


@pytest.mark.parametrize("status", [{}, {"state": "down"}, {"state": "init"}])
def test_nothing_is_sent_where_bfd_does_not_say_up(status: dict[str, str]) -> None:
    assert of(CLIENT_PORT, mesh=(B, tunnel("c", 12, status))).chosen == {"dns": "b"}
    found = of(CLIENT_PORT, mesh=(tunnel("b", 11, status), tunnel("c", 12, status)))
    assert found.chosen == {}
    assert found.told == ("service dns: neither here nor at a node that can be reached: its packets are dropped",)


@pytest.mark.parametrize("number", [0, REPLY, REPLY + 5, -1])
def test_a_number_that_no_service_can_have_is_no_offer(number: int) -> None:
    assert of(CLIENT_PORT, offers={"dns": (offer("c", 9, number), offer("b"))}).chosen == {"dns": "b"}


def test_a_choice_is_kept_until_another_has_clearly_more() -> None:
    near = (Offer("b", 1, Headroom({}, {0: 50})), Offer("c", 1, Headroom({}, {0: 10})))
    far = (near[0], Offer("c", 1, Headroom({0: 1}, {0: 10})))
    assert choose(near, "b") == near[0]
    assert choose(near, "") == near[1]
    assert choose(far, "b") == far[1]
    assert choose((far[1],), "b") == far[1]
    assert choose((), "b") is None


def test_room_is_what_is_free() -> None:
    assert room(Headroom({0: 2, 1: 1}, {0: 95, 1: 20})) == pytest.approx(3.5)


def test_a_number_is_the_same_whoever_else_there_is() -> None:
    many = numbers([f"s{number}" for number in range(3000)])
    assert len(set(many.values())) == 3000
    assert all(0 < number < REPLY for number in many.values())
    assert numbers(["s7"])["s7"] == many["s7"]


def test_names_that_fall_together_get_two_numbers() -> None:
    assert numbers(["s1605"])["s1605"] == numbers(["s3282"])["s3282"] == 3146470
    assert numbers(["s3282", "s1605"]) == {"s1605": 3146470, "s3282": 3146471}


# --- the flows ----------------------------------------------------------------------------------------------------


def test_the_flows_away() -> None:
    learn = "learn(table=41,idle_timeout=300,priority=10,limit=4096,cookie=0x6f76736b00000001,in_port=12"
    back = f"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],NXM_NX_TUN_ID[]={DNS | REPLY:#x},output:NXM_OF_IN_PORT[])"
    assert sorted(form.wanted(of(CLIENT_PORT)).values()) == [
        "table=0,priority=1,actions=resubmit(,40)",
        "table=40,priority=1,in_port=12,actions=resubmit(,41)",
        f"table=40,priority=10,in_port=3,actions={learn},{back},set_field:{DNS:#x}->tun_id,output:12",
    ]


def test_the_flows_at_home_take_what_comes_by_tunnels_and_send_nothing_into_one() -> None:
    lines = form.wanted(of(CLIENT_PORT, port("dns0", 5), registered={"dns": "dns0"})).values()
    assert not [line for line in lines if line.endswith((",output:11", ",output:12"))]
    assert len([line for line in lines if "in_port=11,tun_id=" in line and line.endswith(",output:5")]) == 1
    assert len([line for line in lines if "in_port=3," in line and line.endswith(",output:5")]) == 1


def test_where_nobody_asks_for_anything_there_are_no_flows() -> None:
    assert form.wanted(of()) == {}
    assert form.wanted(Routes()) == {}


def test_only_what_differs_is_sent_and_what_was_learned_goes_with_it() -> None:
    away, home = form.wanted(of(CLIENT_PORT)), form.wanted(of(CLIENT_PORT, port("dns0", 5), registered={"dns": "dns0"}))
    assert form.bundle(away, away) == ""
    lines = form.bundle(home, away).splitlines()
    assert lines[0] == f"delete cookie={form.LEARNED:#x}/-1"
    assert len([line for line in lines if line.startswith("delete")]) == 1 + len(away.keys() - home.keys())
    assert len([line for line in lines if line.startswith("add")]) == len(home.keys() - away.keys())


def test_of_what_is_there_ours_are_found_and_not_what_was_learned() -> None:
    dump = (
        "OFPST_FLOW reply (OF1.5) (xid=0x2):\n"
        " cookie=0x6f76736b9d2a11f0, table=40, priority=10,in_port=3 actions=output:4\n"
        " cookie=0x6f76736b00000001, table=41, idle_timeout=300, priority=10,in_port=4 actions=output:3\n"
        " cookie=0x6f76736b, priority=0 actions=NORMAL\n"
        " priority=0 actions=drop\n"
    )
    assert form.there(dump) == {0x6F76736B9D2A11F0}
