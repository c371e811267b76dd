# SPDX-License-Identifier: Apache-2.0
"""The way of a packet, and the flows of a bridge, as real vswitchds print them (tests/golden), and as they may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.formats import flows
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.formats.trace import Rule, datapath_numbers, flow_count, packets, parse_trace


@pytest.mark.parametrize(
    ("actions", "outputs"),
    [
        ("drop", set()),
        ("2", {2}),
        ("push_vlan(vid=100,pcp=0),2,pop_vlan,3", {2, 3}),
        ("clone(set(eth(dst=02:00:00:00:00:01)),4),5", {4, 5}),
        ("sample(sample=50.0%,actions(6)),7", {6, 7}),
        ("check_pkt_len(size=1500,gt(8),le(drop))", {8}),
        ("userspace(pid=0,controller(reason=1,rule_cookie=0x5)),ct(zone=9),recirc(0x1)", set()),
        ("meter(3),set(tunnel(tun_id=0x5,ttl=64)),1", {1}),
        ("((((", set()),
        ("", set()),
    ],
)
def test_the_ports_that_the_datapath_sends_to_are_found_in_its_actions(actions: str, outputs: set[int]) -> None:
    assert parse_trace(f"Datapath actions: {actions}\n").outputs == outputs


@given(st.text(alphabet=st.sampled_from(" 0123456789.(),:abg\n\"'DatpchionsNMmr"), max_size=300))
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    for line in (text, f"Datapath actions: {text}", f'bridge("{text}")\n 0. {text}\n    {text}'):
        parse_trace(line)
    datapath_numbers(text)
    packets(text, Rule("br0", 0, "", 0, ()))
    assert flow_count(text) is None


def test_actions_within_actions_are_followed_to_an_end() -> None:
    assert parse_trace(f"Datapath actions: {'clone(' * 5}7{')' * 5}").outputs == {7}
    assert parse_trace(f"Datapath actions: {'clone(' * 9000}7{')' * 9000}").outputs == set()


GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = ("3.1.0", "4.0.0")


def golden(version: str, case: str) -> str:
    return (GOLDEN / version / f"{case}.txt").read_text()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("case", "reached", "decided"),
    [
        ("vlan", {"vhu-1.é"}, "in_port=1,dl_vlan=100,priority=10 in table 0 of br1"),
        ("resubmit", {"q3"}, "tcp,tp_dst=80,priority=5 in table 10 of br1"),
        ("group", {"q3"}, "udp,priority=4 in table 10 of br1"),
        ("clone", {"q1", "q3"}, "in_port=2,priority=7 in table 0 of br1"),
        ("normal", {"vhu-1.é", "q3", "br1"}, "priority=0 in table 0 of br1"),
        ("no-match", set(), "no flow in table 10 of br1"),
        ("drop", set(), "in_port=3,priority=8 in table 0 of br1"),
    ],
)
def test_a_traced_packet_reaches_these_ports(version: str, case: str, reached: set[str], decided: str) -> None:
    numbers = datapath_numbers(golden(version, "dpif-show"))
    found = parse_trace(golden(version, f"trace-{case}"))
    assert found.outputs == {numbers[name] for name in reached}
    assert str(found.decided) == decided


@pytest.mark.parametrize("version", VERSIONS)
def test_the_flow_that_decided_is_found_again_among_the_flows(version: str) -> None:
    listed = golden(version, "ofctl-dump-flows")
    for case in ("vlan", "resubmit", "group", "clone", "normal", "drop"):
        for rule in parse_trace(golden(version, f"trace-{case}")).rules:
            assert packets(listed, rule) == 0, rule
    assert packets(listed, Rule("br1", 0, "in_port=9", 9, ())) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["ofctl-dump-flows", "ofctl-dump-flows-no-stats"])
def test_the_flows_of_a_bridge_serve_these_ports(version: str, case: str) -> None:
    expected = Flows(7, frozenset({1, 2, 3}), anywhere=True, inputs=frozenset({1, 2}), any_input=True)
    assert flows.parse(golden(version, case)) == expected
    assert flows.count(golden(version, "ofctl-dump-tables")) == 7
    assert flows.count(golden(version, "ofctl-dump-tables-empty")) == 0
    assert flow_count(golden(version, "ofctl-dump-aggregate")) == 1
