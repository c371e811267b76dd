# SPDX-License-Identifier: Apache-2.0
"""The mesh: what is wanted against what is there, and nobody else's rows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ovs_keepalive.core import mesh
from ovs_keepalive.core.interfaces import BridgeRow, Interface, Rows
from ovs_keepalive.core.mesh import BRIDGE, HOST, MARK, Cell, host_of, ours, plan, port_name, removal
from ovs_keepalive.formats.mesh import operations, withdrawal
from tests.meshes import ASKED, MARKS, STANDING, cell, done


def standing(*hosts: str) -> Rows:
    """A mesh with these hosts."""
    return done(plan(ASKED, cell("a", *hosts), STANDING), STANDING)


def changed(rows: Rows, host: str, **fields: Any) -> Rows:
    """The same with the port to that host changed."""
    [port] = [one for one in ours(ASKED, rows) if host_of(one) == host]
    return rows._replace(interfaces=tuple(one._replace(**fields) if one == port else one for one in rows.interfaces))


def test_a_bridge_and_a_port_to_each_other_live_member() -> None:
    made = plan(ASKED, cell("a", "b", "c"), STANDING)
    assert made.create == BridgeRow(BRIDGE, "netdev", MARKS)
    assert [port.host for port in made.add] == ["b", "c"]
    assert made.add[0].options == {"remote_ip": "192.0.2.2", "local_ip": "192.0.2.1", "key": "flow", "dst_port": "9811"}
    assert made.add[0].bfd["enable"] == "true"
    assert made.words() == "makes the bridge; adds b, c"
    assert made.told == ()


def test_what_stands_is_left_alone() -> None:
    assert not plan(ASKED, cell("a", "b", "c"), standing("b", "c")).acts


def test_a_third_host_is_added_and_nothing_else_is_done() -> None:
    made = plan(ASKED, cell("a", "b", "c"), standing("b"))
    assert (made.words(), made.create, made.change, made.remove) == ("adds c", None, (), ())


def test_a_host_without_a_session_keeps_its_port_and_one_that_was_forgotten_loses_it() -> None:
    rows = standing("b", "c")
    assert not plan(ASKED, cell("a", "b", known="c"), rows).acts
    assert plan(ASKED, cell("a", "b"), rows).words() == "removes c"


def test_a_host_that_moved_is_followed() -> None:
    moved = Cell({"a": "192.0.2.1", "b": "192.0.2.77"}, frozenset("ab"))
    [(there, port)] = plan(ASKED, moved, standing("b")).change
    assert (host_of(there), port.options["remote_ip"]) == ("b", "192.0.2.77")


def test_what_somebody_changed_on_our_port_is_set_right() -> None:
    rows = changed(standing("b"), "b", bfd={"enable": "false"})
    assert plan(ASKED, cell("a", "b"), rows).words() == "changes b"


def test_a_list_that_lacks_this_host_is_not_believed() -> None:
    made = plan(ASKED, cell("b", "c"), standing("b", "c", "d"))
    assert not made.acts
    assert made.told == ("the cell rack1 does not list this host, a: its list is not believed, nothing is done",)


@pytest.mark.parametrize("marks", [{}, {MARK: "rack2"}])
def test_a_bridge_that_is_not_ours_is_not_touched(marks: dict[str, str]) -> None:
    rows = Rows((*STANDING.bridges, BridgeRow(BRIDGE, "netdev", marks)), STANDING.interfaces)
    made = plan(ASKED, cell("a", "b"), rows)
    assert not made.acts
    assert made.told[0].startswith(f"bridge {BRIDGE} is not the mesh of the cell rack1: rename or remove it")


def test_a_port_whose_rows_do_not_both_bear_the_mark_is_not_ours() -> None:
    marks: tuple[dict[str, Any], ...] = ({"external_ids": {}}, {"port_ids": {}}, {"external_ids": {MARK: "rack1"}})
    for unmarked in marks:
        rows = changed(standing("b", "c"), "c", **unmarked)
        made = plan(ASKED, cell("a", "b", "c"), rows)
        assert not made.acts
        assert made.told == (f"c: the name of its port, {port_name('rack1', 'c')}, is taken by another",)
        assert not plan(ASKED, cell("a", "b"), rows).acts


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "tells no address"),
        ("127.0.0.1", "tells no address"),
        ("224.0.0.5", "tells no address"),
        ("::", "tells no address"),
        ("flow", "tells no address"),
        ("fe80::1%eth0", "tells no address"),
        ("192.0.2.1", "tells no address"),
        ("192.0.2.3", "another member has its address 192.0.2.3"),
        ("2001:db8::2", "of another version of IP"),
    ],
)
def test_a_member_with_an_address_that_cannot_be_is_told_and_the_others_are_meshed(address: str, told: str) -> None:
    odd = Cell({**cell("a", "c", "d").live, "b": address}, frozenset("abcd"))
    made = plan(ASKED, odd, STANDING)
    assert made.told[0].startswith("b: ")
    assert told in made.told[0]
    assert "d" in {port.host for port in made.add} - {"b"}


def test_without_an_address_of_its_own_a_host_has_no_mesh() -> None:
    made = plan(ASKED._replace(address=""), cell("a", "b"), STANDING)
    assert (made.acts, made.told) == (
        False,
        ("fleet.address: '': no address that others can reach: set this host's on the underlay",),
    )


def test_a_mesh_has_a_most_and_those_that_are_there_stay() -> None:
    many = {f"h{number:04}": f"198.51.{100 + number // 250}.{number % 250 + 1}" for number in range(mesh.MOST + 10)}
    full = done(plan(ASKED, Cell({"a": "192.0.2.1", **many}, frozenset(("a", *many))), STANDING), STANDING)
    assert len(ours(ASKED, full)) == mesh.MOST
    newer = {"a": "192.0.2.1", "a0": "203.0.113.1", **many}
    made = plan(ASKED, Cell(newer, frozenset(newer)), full)
    assert not made.acts
    assert made.told == (f"11 members have no port: a mesh has at most {mesh.MOST} ports: make smaller cells",)


def test_two_ports_to_one_host_become_one() -> None:
    rows = standing("b")
    [port] = ours(ASKED, rows)
    twin = port._replace(name="ka-twin", id="i-twin", port="p-twin")
    rows = rows._replace(interfaces=(*rows.interfaces, twin))
    after = done(plan(ASKED, cell("a", "b"), rows), rows)
    assert len(ours(ASKED, after)) == 1


def test_a_name_is_as_short_as_any_datapath_takes() -> None:
    assert len(port_name("rack1", "x" * 253)) == 14
    assert port_name("rack1", "b") != port_name("rack2", "b")


@pytest.mark.parametrize(
    ("kinds", "kind"), [([], ""), (["system"], ""), (["netdev", "netdev", ""], "netdev"), (["", "netdev"], "")]
)
def test_the_bridge_is_of_the_datapath_that_most_are_of(kinds: list[str], kind: str) -> None:
    rows = Rows(tuple(BridgeRow(f"br{number}", one) for number, one in enumerate(kinds)))
    assert mesh.datapath(rows) == kind


def test_taking_it_away_leaves_a_bridge_on_which_others_have_ports() -> None:
    rows = standing("b", "c")
    ports, bridge = removal(ASKED, rows)
    assert (sorted(map(host_of, ports)), bridge) == (["b", "c"], True)
    vm = Interface("vm0", "", BRIDGE, "p-vm0", "i-vm0")
    assert removal(ASKED, rows._replace(interfaces=(*rows.interfaces, vm)))[1] is False
    assert removal(ASKED, STANDING) == ((), False)


def test_every_operation_on_a_row_that_is_there_asks_for_our_mark() -> None:
    rows = changed(standing("b", "c"), "b", bfd={})
    done_ = operations(ASKED, plan(ASKED, cell("a", "b", "d"), rows))
    gone = withdrawal(ASKED, ours(ASKED, rows), bridge="")
    for one in (*done_, *gone):
        if one["op"] != "insert" and one["table"] != "Open_vSwitch":
            assert ["external_ids", "includes", ["map", [[MARK, "rack1"]]]] in one["where"]
        if one["op"] == "insert":
            assert [MARK, "rack1"] in one["row"]["external_ids"][1]
    assert {one["op"] for one in done_} == {"wait", "update", "mutate", "insert"}
    msgspec.json.encode([done_, gone])  # or it could not be sent


def test_a_port_names_the_host_it_leads_to() -> None:
    [port] = [
        one for one in operations(ASKED, plan(ASKED, cell("a", "b"), STANDING)) if one.get("uuid-name") == "port0"
    ]
    assert [HOST, "b"] in port["row"]["external_ids"][1]
