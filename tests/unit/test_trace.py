# SPDX-License-Identifier: Apache-2.0
"""The way of a packet: what its actions send where; real answers are in tests/real/test_port_verbs.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
