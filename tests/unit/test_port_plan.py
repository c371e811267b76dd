# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a port is changed: each objection, by itself, and none where all is well."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ovs_keepalive.core import port_plan
from ovs_keepalive.core.port_plan import (
    BEFORE_ADD,
    BEFORE_DEL,
    BEFORE_MIGRATE,
    CLIENT,
    OF_PATH,
    PATH_OPTION,
    SERVER,
    Bridge,
    Check,
    Iface,
    Port,
    Switch,
    Wish,
    first_objection,
)

WISH = Wish("vm1", "br0", "/run/vms/vm1.sock")
LIVE = {"mode": "client", "status": "connected"}


def port(name: str, kind: str = CLIENT, **more: object) -> Port:
    return Port(name, (Iface(name, kind, **more),))  # type: ignore[arg-type]


def switch(*ports: Port, **bridge: object) -> Switch:
    br0 = Bridge("br0", **{"datapath": "netdev", "ports": ports, **bridge})  # type: ignore[arg-type]
    return Switch((br0, Bridge("br1", "")), types=frozenset({SERVER, CLIENT}), dpdk=True)


def objection(wish: Wish, there: Switch, checks: Iterable[Check] = (*BEFORE_ADD, *OF_PATH)) -> str:
    return first_objection(checks, wish, there)


def test_nothing_speaks_against_a_wish_that_is_well() -> None:
    there = switch(port("other", ofport=1, options={PATH_OPTION: "/run/vms/other.sock"}))
    assert objection(WISH._replace(ofport=2, queues=4, normal_flow=True), there) == ""
    assert objection(WISH._replace(server=True, path=""), there, BEFORE_ADD) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ('a"b', "only letters"),
        ("a'b", "only letters"),
        ("two words", "only letters"),
        ("", "only letters"),
        ("a\x1b[31m", "only letters"),
        ("a\nb", "only letters"),
        ("a/b", "only letters"),
        ("..", "only letters"),
        ("ä", "only letters"),
        ("n" * 200, "200 characters"),
        ("n" * 16, "16 characters"),
        ("br1", "is taken, on bridge br1"),
        ("there", "is taken, on bridge br0"),
    ],
)
def test_a_name_that_cannot_be_used_is_told(name: str, words: str) -> None:
    said = objection(WISH._replace(name=name), switch(port("there")))
    assert said.startswith("NAME ")
    assert words in said
    assert len(said) < 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("vm1.sock", "not absolute"),
        ("", "not absolute"),
        ("/" + "p" * 107, "108 bytes"),
        ("/run/ü" + "é" * 60, "bytes, a socket's path has at most 107"),
        ("/run/a b", "only letters"),
        ("/run/a,b", "only letters"),
        ("/run/a'b", "only letters"),
        ("/run/a\nb", "only letters"),
        ("/run/\udce4", "only letters"),
        ("/run/../vm1.sock", "without . and .."),
        ("/run/vms/", "name the socket itself"),
        ("/run/other", "is the socket of other already"),
    ],
)
def test_a_path_that_cannot_be_used_is_told(path: str, words: str) -> None:
    there = switch(port("other", options={PATH_OPTION: "/run/other"}))
    said = objection(WISH._replace(path=path), there)
    assert said.startswith("--path ")
    assert words in said


def test_the_longest_path_is_taken() -> None:
    assert objection(WISH._replace(path="/" + "p" * 106), switch()) == ""


@pytest.mark.parametrize("number", [-1, 0, 65280, 1 << 70])
def test_a_number_that_openflow_does_not_know_is_told(number: int) -> None:
    assert f"--ofport {number}" in objection(WISH._replace(ofport=number), switch())


@pytest.mark.parametrize("queues", [-1, 0, 129])
def test_a_number_of_queues_that_vhost_does_not_know_is_told(queues: int) -> None:
    assert f"--queues {queues}" in objection(WISH._replace(queues=queues), switch())


def test_a_number_of_another_port_is_told_also_if_it_was_only_asked_for() -> None:
    there = switch(port("one", ofport=1), port("two", ofport=-1, requested=7))
    assert "is one's" in objection(WISH._replace(ofport=1), there)
    assert "is two's" in objection(WISH._replace(ofport=7), there)
    assert objection(WISH._replace(ofport=8), there) == ""


def test_a_bridge_that_is_not_there_is_told_with_those_that_are() -> None:
    assert objection(WISH._replace(bridge="b" * 200), switch()).endswith("there are: br0, br1")


@pytest.mark.parametrize("kind", ["", "system", "dummy"])
def test_a_bridge_of_another_datapath_is_told(kind: str) -> None:
    assert "datapath_type=netdev" in objection(WISH, switch(datapath=kind))


def test_a_vswitchd_without_dpdk_is_told() -> None:
    assert "dpdk-init=true" in objection(WISH, switch()._replace(dpdk=False))
    assert f"type {SERVER}" in objection(WISH._replace(server=True, path=""), switch()._replace(types=frozenset()))


OWNED = {
    "a controller": switch(controllers=("tcp:127.0.0.1:6653",)),
    "fail_mode": switch(fail_mode="secure"),
    "OVN's bridge": switch()._replace(external_ids={"ovn-bridge": "br0"}),
    "OVN's marks": switch(external_ids={"ct-zone-lsp1": "1"}),
    "neutron's marks": switch(external_ids={"neutron-x": "y"}),
    "a tenant's port": switch(port("tap1", "internal", external_ids={"iface-id": "abc"})),
}


@pytest.mark.parametrize("there", OWNED.values(), ids=OWNED)
def test_somebody_elses_bridge_needs_force_and_takes_no_normal_flow(there: Switch) -> None:
    assert "--force" in objection(WISH, there)
    assert objection(WISH._replace(force=True), there) == ""
    for force in (False, True):
        assert "it would open a tenant network" in objection(WISH._replace(force=force, normal_flow=True), there)


def test_the_bridge_that_ovn_uses_by_default_is_its_own() -> None:
    there = switch()._replace(external_ids={"ovn-remote": "tcp:10.0.0.1:6642"})
    assert port_plan.owner(there.bridges[0], there) == ""
    assert port_plan.owner(Bridge("br-int", "netdev"), there) != ""


def test_a_server_port_has_no_path_of_its_own() -> None:
    assert "leave --path out" in objection(WISH._replace(server=True), switch(), BEFORE_ADD)


# --- del and migrate ------------------------------------------------------------------------------


@pytest.mark.parametrize("checks", [BEFORE_DEL, BEFORE_MIGRATE])
def test_only_one_vhost_user_interface_is_touched(checks: tuple[Check, ...]) -> None:
    bond = Port("bond", (Iface("a", SERVER), Iface("b", SERVER)))
    there = switch(bond, port("p1", "dpdk"), port("p2", ""))
    for name, words in (("none", "no such port"), ("bond", "a bond"), ("p1", "type dpdk"), ("p2", "type system")):
        assert words in first_objection(checks, Wish(name), there)


@pytest.mark.parametrize("checks", [BEFORE_DEL, BEFORE_MIGRATE])
def test_a_connected_vm_is_not_cut_off_unasked(checks: tuple[Check, ...]) -> None:
    there = switch(port("vm1", SERVER, status=LIVE))
    assert "would be cut off" in first_objection(checks, Wish("vm1"), there)
    assert first_objection(checks, Wish("vm1", force=True), there) == ""


def test_a_port_of_a_tenant_is_not_taken_away_unasked() -> None:
    there = switch(port("vm1"), fail_mode="secure")
    assert "fail_mode=secure" in first_objection(BEFORE_DEL, Wish("vm1"), there)
    assert first_objection(BEFORE_DEL, Wish("vm1", force=True), there) == ""


def test_a_client_port_has_nothing_to_migrate() -> None:
    assert "nothing to migrate" in first_objection(BEFORE_MIGRATE, Wish("vm1"), switch(port("vm1")))
    assert first_objection(BEFORE_MIGRATE, Wish("vm1"), switch(port("vm1", SERVER))) == ""
