# SPDX-License-Identifier: Apache-2.0
"""Tunnels: what a row of OVSDB says, and what two ends of a pair amount to."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import pytest

from ovs_keepalive.core import tunnels
from ovs_keepalive.core.fleet import Known, Tunnel
from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.tunnels import TABLE, End, Host, Reach, View, matrix, own, says
from ovs_keepalive.formats import fleet as documents
from tests.fleets import member, of_fleet

WATCHED = {"enable": "true"}


def row(name: str = "vx", **fields: Any) -> Interface:
    """A tunnel to 192.0.2.2 that BFD watches, up."""
    given: dict[str, Any] = {
        "type": "vxlan",
        "bridge": "br-int",
        "options": {"remote_ip": "192.0.2.2", "local_ip": "192.0.2.1", "key": "flow"},
        "ofport": 1,
        "bfd": WATCHED,
        "bfd_status": {"state": "up", "remote_state": "up", "forwarding": "true"},
    }
    return Interface(name, **{**given, **fields})


def tunnel(remote: str, bfd: str | None = "up", local: str = "", **fields: Any) -> Tunnel:
    """One end, as a host tells it."""
    return Tunnel(fields.pop("name", f"to-{remote}"), fields.pop("kind", "vxlan"), local, remote, bfd, **fields)


def host(address: str, *ends: Tunnel, seen: bool = True) -> Host:
    """A member that has that address and those tunnels."""
    return Host(seen, address, ends)


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, End.UP),
        ({"bfd_status": {"state": "down"}}, End.DOWN),
        ({"bfd_status": {"state": "init"}}, End.DOWN),
        ({"bfd_status": {"state": "admin_down"}}, End.SILENT),
        ({"bfd_status": {"state": "down", "remote_state": "admin_down"}}, End.SILENT),
        ({"bfd_status": {}}, End.SILENT),
        ({"bfd": {}, "bfd_status": {}}, End.SILENT),
        ({"bfd": {"enable": "false"}, "bfd_status": {"state": "up"}}, End.SILENT),
        ({"bfd": {}, "cfm_fault": False}, End.UP),
        ({"bfd": {}, "cfm_fault": True}, End.DOWN),
        ({"cfm_fault": True}, End.DOWN),
        ({"ofport": -1, "error": "could not add network device vx to ofproto (File exists)"}, End.DOWN),
        ({"ofport": -1, "error": "File exists", "bfd": {}}, End.SILENT),
    ],
)
def test_only_bfd_and_cfm_tell(fields: dict[str, Any], end: End) -> None:
    [told] = own([row(**fields)], (), 5)
    assert says(told) is end


def test_a_tunnel_is_told_by_its_addresses_in_one_form() -> None:
    [told] = own([row(options={"remote_ip": "2001:DB8:0::2", "local_ip": "2001:db8::1"})], (), 5)
    assert (told.local, told.remote, told.since_ms) == ("2001:db8::1", "2001:db8::2", 5)


@pytest.mark.parametrize("remote", ["flow", "", "a.host.example", "10.0.0.1; rm", "fe80::1%eth0\x1b[2J"])
def test_a_tunnel_that_leads_to_no_one_host_says_so(remote: str) -> None:
    [told] = own([row(options={"remote_ip": remote})], (), 5)
    assert told.remote == "flow"


def test_what_is_no_tunnel_or_on_no_bridge_is_not_told() -> None:
    rows = [row("a", type="internal"), row("b", type=""), row("c", type="patch"), row("d", bridge=""), row("e")]
    assert [one.name for one in own(rows, (), 5)] == ["e"]


def test_since_is_when_it_began_to_say_what_it_says() -> None:
    first = own([row()], (), 10)
    still = own([row(bfd_status={"state": "up", "remote_state": "init"})], first, 20)
    cut = own([row(bfd_status={"state": "down"})], still, 30)
    init = own([row(bfd_status={"state": "init"})], cut, 40)
    moved = own([row(options={"remote_ip": "192.0.2.3"}, bfd_status={"state": "down"})], init, 50)
    assert [one[0].since_ms for one in (first, still, cut, init, moved)] == [10, 10, 30, 30, 50]


def test_what_a_vswitchd_wrote_that_runs_no_more_says_nothing() -> None:
    rows = [row(), row("gv", bfd={}, cfm_fault=False), row("no", error="File exists", ofport=-1)]
    told = own(rows, own(rows, (), 10), 20, vouched=False)
    assert [(says(one), one.since_ms) for one in told] == [(End.SILENT, 20)] * 3


def test_of_too_many_those_that_are_not_well_are_told() -> None:
    rows = [row(f"v{number:03}", bfd_status={"state": "down" if number == 7 else "up"}) for number in range(10)]
    rows[8] = row("v008", bfd={}, bfd_status={})
    assert [one.name for one in tunnels.fitting(own(rows, (), 0), 3)] == ["v000", "v007", "v008"]


def test_as_many_as_a_node_tells_of_fit_into_its_document() -> None:
    long = "2001:db8:1111:2222:3333:4444:5555:6666"
    rows = [
        row(f"ka-0123456789a-{number:05}", options={"remote_ip": long, "local_ip": long}, cfm_fault=True)
        for number in range(tunnels.MOST + 1)
    ]
    told = tunnels.fitting(own(rows, (), 1795238339792))
    node = member(tunnels=told)
    assert len(told) == tunnels.MOST
    assert documents.member(documents.member_bytes(node), node.host).tunnels == told


def test_the_table_tells_of_every_pair_of_ends_of_which_one_is_there() -> None:
    there = {End.UP, End.DOWN, End.SILENT}
    pairs = {frozenset(pair) for pair in combinations_with_replacement(End, 2) if there & set(pair)}
    assert {frozenset(pair) for pair in TABLE} == pairs
    assert len(TABLE) == len(pairs)


@pytest.mark.parametrize(
    ("first", "second", "reach", "view"),
    [
        (["up"], ["up"], Reach.UP, View.AGREED),
        (["down"], ["down"], Reach.DOWN, View.AGREED),
        (["up"], ["down"], Reach.DOWN, View.DIFFER),
        (["up"], [], Reach.UP, View.ONE_SIDED),
        (["down"], [None], Reach.DOWN, View.ONE_SIDED),
        ([None], [None], Reach.UNKNOWN, View.NOBODY),
        ([None], [], Reach.UNKNOWN, View.NOBODY),
        (["up", "down"], ["up"], Reach.DOWN, View.DIFFER),
        (["up", None], ["up"], Reach.UP, View.AGREED),
    ],
)
def test_a_pair_is_judged_by_both_ends(
    first: list[str | None], second: list[str | None], reach: Reach, view: View
) -> None:
    fleet = {
        "a": host("192.0.2.1", *[tunnel("192.0.2.2", bfd) for bfd in first]),
        "b": host("192.0.2.2", *[tunnel("192.0.2.1", bfd) for bfd in second]),
    }
    [link] = matrix(fleet).links
    assert (link.a, link.b, link.kind, link.reach, link.view) == ("a", "b", "vxlan", reach, view)


def test_what_a_host_said_that_is_gone_counts_for_nothing() -> None:
    gone = host("192.0.2.2", tunnel("192.0.2.1", "down"), seen=False)
    [link] = matrix({"a": host("192.0.2.1", tunnel("192.0.2.2")), "b": gone}).links
    assert (link.reach, link.view, link.says_b) == (Reach.UP, View.ONE_SIDED, End.UNSEEN)
    assert matrix({"a": host("192.0.2.1"), "b": gone}).links == ()


def test_a_gone_host_is_known_from_before() -> None:
    there = member("a", address="192.0.2.1", tunnels=(tunnel("192.0.2.2", "down", since_ms=9),))
    gone = member("b", address="192.0.2.2", tunnels=(tunnel("192.0.2.1"),))
    [link] = of_fleet({"a": there}, {"a": Known(0, 0, there), "b": Known(0, 0, gone)}).links
    assert link.reach is Reach.DOWN
    assert (link.a, link.b, link.says_a, link.says_b, link.since_ms) == ("a", "b", End.DOWN, End.UNSEEN, 9)


def test_tunnels_of_two_kinds_are_two_links() -> None:
    fleet = {
        "a": host("192.0.2.1", tunnel("192.0.2.2"), tunnel("192.0.2.2", "down", kind="geneve", name="gv")),
        "b": host("192.0.2.2"),
    }
    assert [(link.kind, link.reach) for link in matrix(fleet).links] == [("geneve", Reach.DOWN), ("vxlan", Reach.UP)]


def test_a_host_is_found_by_where_its_own_tunnels_leave() -> None:
    fleet = {
        "a": host("", tunnel("198.51.100.2", local="198.51.100.1")),
        "b": host("", tunnel("198.51.100.1", local="198.51.100.2")),
    }
    assert [link.view for link in matrix(fleet).links] == [View.AGREED]


def test_an_address_that_two_claim_is_neithers() -> None:
    fleet = {"a": host("192.0.2.1", tunnel("192.0.2.2")), "b": host("192.0.2.2"), "c": host("192.0.2.2")}
    found = matrix(fleet)
    assert (found.links, found.strangers) == ((), {"a": 1})


def test_a_host_that_is_gone_takes_no_address_from_one_that_is_there() -> None:
    gone = host("192.0.2.2", tunnel("192.0.2.1", "down"), seen=False)
    fleet = {"a": host("192.0.2.1", tunnel("192.0.2.2")), "b": gone, "c": host("192.0.2.2", tunnel("192.0.2.1"))}
    found = matrix(fleet)
    assert [(link.a, link.b, link.reach, link.view) for link in found.links] == [("a", "c", Reach.UP, View.AGREED)]
    assert found.strangers == {}


def test_an_address_that_two_claim_who_are_both_gone_is_neithers() -> None:
    gone = host("192.0.2.2", seen=False)
    found = matrix({"a": host("192.0.2.1", tunnel("192.0.2.2")), "b": gone, "c": gone})
    assert (found.links, found.strangers) == ((), {"a": 1})
