# SPDX-License-Identifier: Apache-2.0
"""The scanner of the datapath's flows, on what Open vSwitch 3.1 and 4.0 printed (tests/golden).

Whether it reads each line as python-ovs does is in tests/real/test_offload_dumps.py.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.offload import Flow, Hardware
from ovs_keepalive.formats import offload_show
from ovs_keepalive.formats.dp_flows import CHANGING, NO_UFID, NOT_KNOWN, Scanner

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = ("3.1.0", "4.0.0")
NAMES = {1: "p1", 2: "p2", 3: "p3", 4: "q1", 4789: "vx+1", 100: "br0", 101: "br1"}
DUMPS = {version: (GOLDEN / version / "dump-flows.txt").read_text() for version in VERSIONS}
UFID = "ufid:00000000-0000-0000-0000-00000000000{}, "
LINE = (
    UFID
    + "recirc_id(0),in_port({port}),ct_state(0/0),eth(src=50:54:00:00:00:01/00:00:00:00:00:00,dst=50:54:00:00:00:02),"
    "eth_type(0x0800),ipv4(src=10.0.0.{host}/{mask},dst=10.1.0.0/0.0.0.0,proto=17,tos=0/0,frag=no),udp(src=1/0,dst=2),"
    " packets:{packets}, bytes:60, used:{used}{offloaded}, dp:ovs, actions:{actions}\n"
)


def line(number: int = 1, **words: object) -> str:
    usual = {"port": 1, "host": 1, "mask": "255.255.255.255", "packets": 5, "used": "1.5s", "offloaded": ""}
    return LINE.format(number, **{**usual, "actions": "2", **words})


def scan(text: str, names: dict[int, str] | None = None) -> dict[str, Flow]:
    scanned = Scanner().scan(text, NAMES if names is None else names)
    assert scanned.unread == 0
    assert len({flow.ufid for flow in scanned.flows}) == len(scanned.flows)
    return {flow.ufid: flow for flow in scanned.flows}


def one(text: str) -> Flow:
    (flow,) = scan(text).values()
    return flow


def of(version: str, pattern: str) -> list[Flow]:
    """The flows of whose lines that is a part."""
    ufids = [found[5:41] for found in DUMPS[version].split("\n") if re.search(pattern, found)]
    assert ufids, pattern
    flows = scan(DUMPS[version])
    return [flows[ufid] for ufid in dict.fromkeys(ufids)]


# --- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_line_is_read_and_each_flow_told_once(version: str) -> None:
    found = Counter(re.findall(r"^ufid:([^,]+)", DUMPS[version], re.MULTILINE))
    assert scan(DUMPS[version]).keys() == found.keys()
    assert max(found.values()) == 3  # one is on both PMDs, and with the main thread


@pytest.mark.parametrize("version", VERSIONS)
def test_copies_on_several_pmds_are_one_flow(version: str) -> None:
    (flow,) = of(version, r"dst=1\), .*actions:2,.*bits")
    copies = [found for found in DUMPS[version].split("\n") if flow.ufid in found]
    assert len(copies) == 3
    assert flow.packets == sum(int(re.findall(r"packets:(\d+)", copy)[0]) for copy in copies) > 0
    assert flow.used is not None
    assert (flow.netdev, flow.barred) == ("p1", "")


@pytest.mark.parametrize(
    ("offloaded", "hardware"),
    [
        (("", ""), Hardware.NONE),
        (("", ", offloaded:partial"), Hardware.PARTIAL),
        ((", offloaded:yes", ", offloaded:partial"), Hardware.FULL),
    ],
)
def test_a_flow_is_as_much_in_hardware_as_the_best_of_its_copies(
    offloaded: tuple[str, str], hardware: Hardware
) -> None:
    both = "flow-dump from pmd on cpu core: 1\n".join(line(offloaded=word, used="never") for word in offloaded)
    assert one(both)[2:5] == (10, None, hardware)


def test_the_youngest_use_counts() -> None:
    assert one(line(used="never") + line(used="2.25s") + line(used="1.500s")).used == 1.5


def test_hardware_is_what_open_vswitch_prints() -> None:
    assert {flow.hardware for flow in scan(DUMPS["3.1.0"]).values()} == {Hardware.NONE}
    (full,) = of("4.0.0", r"actions:2, .*udp|proto=17.*,dst=1\), ")
    (partial,) = of("4.0.0", r"dst=2\), .*actions:1,")  # back to where it came from
    (pending,) = of("4.0.0", r"in_port\(4789\)")
    assert [flow.hardware for flow in (full, partial, pending)] == [Hardware.FULL, Hardware.PARTIAL, Hardware.NONE]


def test_the_netdev_is_named_by_its_number_in_the_datapath() -> None:
    assert scan(line(port=2))[UFID.format(1)[5:41]].netdev == "p2"
    assert one(line(port=77)).netdev == "port 77"
    scanner = Scanner()
    assert scanner.scan(line(), {1: "a"}).flows[0].netdev == "a"
    assert scanner.scan(line(), {1: "b"}).flows[0].netdev == "b"


# --- what is never touched --------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("pattern", "barred"),
    [
        (r"recirc_id\(0x1\)", "recirculated"),
        (r"actions:ct\(commit\)", "ct"),
        (r"userspace\(pid", "userspace"),
        (r"actions:tnl_pop", "tunnel pop"),
        (r"actions:tnl_push", ""),
        (r"in_port\(4789\)", ""),
        (r"actions:pop_vlan,2", ""),
        (r"actions:pop_mpls", ""),
        (r"actions:meter", ""),
        (r"actions:check_pkt_len", ""),
        (r"actions:drop", ""),
        (r"eth_type\(0x0806\)", ""),
        (r"ipv6\(", ""),
    ],
)
def test_what_bars_a_flow(version: str, pattern: str, barred: str) -> None:
    assert {flow.barred for flow in of(version, pattern)} == {barred}


@pytest.mark.parametrize(
    ("actions", "barred"),
    [
        ("userspace(pid=4294967295,slow_path(controller))", "slow path"),
        ("sample(sample=50.0%,actions(userspace(pid=1))),2", "sample"),
        ("clone(recirc(0x5)),2", "recirculated"),
        ("check_pkt_len(size=1500,gt(ct(zone=1)),le(drop))", "ct"),
        ("p2", NOT_KNOWN),  # the name of a port
        ("vhu(0),1", NOT_KNOWN),
        ("newer_than_us(1)", NOT_KNOWN),
        ("", NOT_KNOWN),
        ("12345678901", NOT_KNOWN),
        ("clone(" * 7 + "2" + ")" * 7, ""),
        ("clone(" * 20_000 + "2", NOT_KNOWN),
        ("set(eth(src=00:00:00:00:00:01)),push_vlan(vid=3,pcp=0),2,pop_vlan,ct_clear,3", ""),
    ],
)
def test_what_bars_a_flow_that_has_such_actions(actions: str, barred: str) -> None:
    assert one(line(actions=actions)).barred == barred


@pytest.mark.parametrize(
    ("state", "barred"),
    [
        ("0/0", ""),
        ("0x30/0", ""),
        ("-new-trk", ""),
        ("0/0x23", ""),
        ("+trk", "ct"),
        ("-new+trk", "ct"),
        ("0x20/0x3f", "ct"),
    ],
)
def test_a_match_on_connections_bars_a_flow(state: str, barred: str) -> None:
    assert one(line().replace("ct_state(0/0)", f"ct_state({state})")).barred == barred


@pytest.mark.parametrize("version", VERSIONS)
def test_flows_without_ufid_or_with_names_are_told_and_barred(version: str) -> None:
    for name in ("dump-flows-brief.txt", "dump-flows-names.txt"):
        flows = scan((GOLDEN / version / name).read_text()).values()
        assert len(flows) > 20
        assert all(flow.barred for flow in flows)
        assert (NO_UFID in {flow.barred for flow in flows}) == (name == "dump-flows-brief.txt")


def test_copies_that_differ_bar_a_flow_until_they_are_alike() -> None:
    scanner = Scanner()
    for text, barred in (
        (line() + line(), ""),
        (line() + line(actions="3"), CHANGING),
        (line() + line(actions="3"), CHANGING),
        (line(actions="3") + line(actions="3"), ""),
        (line(actions="3") + line(actions="3", mask="255.255.0.0"), CHANGING),
        (line(actions="3") + line(actions="3"), ""),
    ):
        assert [flow.barred for flow in scanner.scan(text, NAMES).flows] == [barred]


def test_copies_whose_keys_differ_are_not_alike_though_both_are_remembered() -> None:
    scanner, text = Scanner(), line(host=1) + line(host=2)
    for _ in range(2):
        assert [flow.barred for flow in scanner.scan(text, NAMES).flows] == [CHANGING]


# --- what is alike ----------------------------------------------------------------------------------


def test_flows_are_alike_whatever_the_values() -> None:
    shape = one(line()).shape
    assert (
        shape == "p1 eth.dst,eth_type=0x0800,ipv4.src/255.255.255.255,ipv4.proto=17,ipv4.frag=no,udp.dst -> output p2"
    )
    assert one(line(number=2, host=77, packets=1)).shape == shape


@pytest.mark.parametrize(
    "other",
    [
        line(mask="255.255.0.0"),
        line(mask="0.0.0.0"),  # noqa: S104
        line(port=2),
        line(actions="3"),
        line(actions="2,3"),
        line(actions="set(eth(src=00:00:00:00:00:01)),2"),
        line().replace("proto=17", "proto=6"),
        line().replace("0x0800", "0x0801"),
        line().replace("frag=no", "frag=later"),
        line().replace("udp(", "a_newer_key(0x1/0xff),udp("),
    ],
)
def test_flows_are_not_alike_where_support_may_differ(other: str) -> None:
    assert one(other).shape != one(line()).shape
    assert one(other).barred == ""


def test_which_end_an_address_is_of_is_told_where_the_other_is_not_looked_at() -> None:
    eth = line().replace("eth(src=50:54:00:00:00:01/00:00:00:00:00:00,dst=50:54:00:00:00:02)", "eth(src=1/0,dst=2)")
    ipv4 = eth.replace("eth(src=1/0,dst=2)", "eth(src=1/0,dst=2/0)").replace("dst=10.1.0.0/0.0.0.0", "dst=2")
    assert one(eth).shape != one(ipv4).shape


def test_tunnels_and_tags_are_part_of_the_shape() -> None:
    (tunnel,) = of("3.1.0", r"in_port\(4789\)")
    assert tunnel.shape.startswith("vx+1 tunnel.tun_id,tunnel.src,tunnel.dst,tunnel.flags(-df-csum+key")
    (vlan,) = of("4.0.0", r"vlan\(vid=100")
    assert "eth_type=0x8100,vlan.vid,vlan.pcp,encap.eth_type=0x1234 -> pop_vlan,output p2" in vlan.shape


# As the kernel's datapath prints flows of a switchdev: written after public reports, since no such hardware is here.
TC = (
    UFID.format(7)
    + "skb_priority(0/0),tunnel(tun_id=0x5,src=192.0.2.1,dst=192.0.2.2,ttl=0/0,tp_dst=6081,geneve({{class=0x102"
    ",type=0x80,len=4,0x10002{mask}}}),flags(+key)),skb_mark(0/0),ct_state(0/0x21),ct_label(0/0x1),recirc_id(0),in_port(1),"
    "packet_type(ns=0/0,id=0/0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=0.0.0.0/0.0.0.0,"
    "dst=0.0.0.0/0.0.0.0,proto=0/0,tos=0/0,ttl=0/0,frag=no), packets:448444, bytes:29597412, used:0.730s, flags:SP., "
    "offloaded:yes, dp:tc, actions:{actions}\n"
)


def test_a_flow_of_tc_is_read() -> None:
    flow = one(TC.format(mask="/0x7fffffff", actions="3"))
    assert flow[1:5] == ("p1", 448444, 0.73, Hardware.FULL)
    assert flow.barred == ""
    assert flow.shape == (
        "p1 tunnel.tun_id,tunnel.src,tunnel.dst,tunnel.tp_dst,tunnel.geneve({class,tunnel.type,tunnel.len,"
        "tunnel/0x7fffffff,flags=+key,ct_state/0x21,ct_label/0x1,"
        "eth.src,eth.dst,eth_type=0x0800,ipv4.frag=no -> output p3"
    )
    assert one(TC.format(mask="/0", actions="3")).shape == flow.shape.replace("tunnel/0x7fffffff,", "")
    assert one(TC.format(mask="", actions="set(ipv4(ttl=62)),ct(zone=1,nat),recirc(0x21)")).barred == "ct"


# --- what is no dump --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dump_that_is_cut_loses_the_line_that_is_cut_and_no_other(version: str) -> None:
    text = DUMPS[version]
    for cut in range(0, len(text), 97):
        scanned = Scanner().scan(text[:cut], NAMES)
        whole = text[: text.rfind("\n", 0, cut) + 1]
        assert scanned.flows == Scanner().scan(whole, NAMES).flows
        assert scanned.unread == (whole != text[:cut])


@pytest.mark.parametrize(
    "odd",
    [
        line(packets=-1),
        line(packets="1e3"),
        line(packets=1 << 64),
        line(used="nans"),
        line(used="infs"),
        line(used="-1.0s"),
        line(used="soon"),
        line().replace(", actions:", ", acts:"),
        line().replace(", used:1.5s", ""),
        "something else\n",
    ],
)
def test_a_line_that_is_no_flow_is_counted(odd: str) -> None:
    scanned = Scanner().scan(line(number=2) + odd, NAMES)
    assert [flow.ufid[-1] for flow in scanned.flows] == ["2"]
    assert scanned.unread == 1


def test_brackets_without_end_take_no_time() -> None:
    began = time.thread_time()
    for odd in ("encap(" * 20_000, "(" * 60_000, "tunnel(src=1/2," * 6_000, "}),(" * 15_000):
        assert len(scan(line().replace("udp(", f"{odd}),udp(")).values()) == 1
    assert time.thread_time() - began < 1.0


def test_no_flows_are_no_flows() -> None:
    assert Scanner().scan("", {}) == ((), 0)
    assert Scanner().scan("flow-dump from the main thread:\n\n", {}) == ((), 0)


# --- what is remembered -----------------------------------------------------------------------------

some_text = st.sampled_from([*DUMPS.values()]).flatmap(
    lambda text: st.lists(st.sampled_from(text.split("\n")), max_size=12).map(lambda lines: "\n".join([*lines, ""]))
)
edits = st.lists(
    st.tuples(st.sampled_from(["actions:2", "in_port(1)", "packets:11", "/0", "recirc_id(0)", ",", "0"]),
              st.sampled_from(["actions:3", "in_port(2)", "packets:12", "/0xff", "recirc_id(2)", "),", "1", ""])),
    max_size=2,
)  # fmt: skip


@given(st.lists(st.tuples(some_text, edits), min_size=1, max_size=4))
def test_what_is_remembered_of_earlier_dumps_changes_nothing(dumps: list[tuple[str, list[tuple[str, str]]]]) -> None:
    scanner = Scanner()
    for text, changes in dumps:
        changed = text
        for old, new in changes:
            changed = changed.replace(old, new)
        assert scanner.scan(changed, NAMES) == Scanner().scan(changed, NAMES)


def test_what_is_gone_is_forgotten() -> None:
    scanner = Scanner()
    for number in range(8):
        flows = scanner.scan(
            "".join(line(host=host).replace("0001,", f"{number}{host:03},") for host in range(900)), NAMES
        )
        assert len(flows.flows) == 900
        assert len(scanner._natures) <= 2 * 900 + 1000
    assert len(scanner._attributes) <= 4096


def test_the_names_are_those_of_dpif_show() -> None:
    for version in VERSIONS:
        shown = (GOLDEN / version / "offload-dpif-show.txt").read_text()
        assert offload_show.netdevs(shown) == {"dummy@ovs-dummy": NAMES}
