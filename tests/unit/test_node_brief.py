# SPDX-License-Identifier: Apache-2.0
"""What a host tells the fleet of its node document, and what of cores, masks and cycles is read for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.core.fleet import HostState, PmdBrief
from ovs_keepalive.core.help import AddCore
from ovs_keepalive.core.model import Moment, Rxq, Shares, State
from ovs_keepalive.fleet_load import KEPT, MASK, mask_operation
from ovs_keepalive.formats import cpu_mask, document, node_brief, pmd_load
from ovs_keepalive.formats.plain import json_text
from ovs_keepalive.formats.pmd_load import Cycles
from ovs_keepalive.sensors import cpus
from tests.looks import pmd, running, snapshot

NOW = Moment(1003.0, 1_700_000_003_000)
GOLDEN = Path(__file__).parents[1] / "golden"


def node(**changes: Any) -> dict[str, Any]:
    """The document of a node with a PMD that is well, and with these changes."""
    known = pmd(rxqs=(Rxq("p0", 0), Rxq("vhu/1", 2)), shares=Shares(1.0, 0.5, None, None, 1.0, 0.0))
    made: dict[str, Any] = json.loads(json_text(document.node(snapshot([known], vswitchd=running()), NOW, {})))
    return {**made, **changes}


def brief(**changes: Any) -> node_brief.Brief:
    return node_brief.read(json.dumps(node(**changes)))


# --- the node ------------------------------------------------------------------------------------


def test_a_node_that_is_well() -> None:
    said = brief()
    [polled] = said.pmds
    assert (said.state, said.why) == (HostState.WELL, "")
    assert polled.ports == {"p0", "vhu/1"}
    assert polled.brief == PmdBrief(3, polled.brief.numa, "ALIVE", 50, 2, polled.brief.iterations, 0)


def test_a_dead_pmd_makes_a_failure_since_it_died() -> None:
    dead = pmd(state=State.DEAD)
    made = json.loads(json_text(document.node(snapshot([dead], vswitchd=running()), NOW, {})))
    said = node_brief.read(json.dumps(made))
    assert said.state is HostState.FAILURE
    assert said.since == made["pmds"][0]["since"]
    assert said.why == made["summary"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"health": "WARNING"}, HostState.WARNING),
        ({"health": "DISABLED", "enabled": False}, HostState.DISABLED),
        ({"health": "a word of a later version"}, HostState.UNKNOWN),
        ({"health": "GONE"}, HostState.UNKNOWN),  # no node says that of itself
    ],
)
def test_the_state_is_the_nodes_own_word(changes: dict[str, Any], state: HostState) -> None:
    assert brief(**changes).state is state


def test_whether_vswitchd_runs_is_not_known_while_nobody_looks() -> None:
    assert brief().vswitchd == "RUNNING"
    assert brief(vswitchd={"state": "HUNG", "since": 1}).vswitchd == "HUNG"
    assert brief(enabled=False).vswitchd == ""
    assert node_brief.silent("no answer", 1).vswitchd == ""


def test_the_age_of_the_newest_look_is_read_where_it_is_told() -> None:
    assert brief(age_ms=4200).age == 4.2
    earlier = node()
    del earlier["age_ms"]
    assert node_brief.read(json.dumps(earlier)).age == 0.0


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"enabled": 1}', "keepAlive Status: Disabled\n"])
def test_what_is_no_node_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        node_brief.read(text)


def test_shares_of_cycles_go_before_those_of_iterations() -> None:
    [polled] = brief().pmds
    assert node_brief.with_busy(polled, {3: 99.6}).busy == 100
    assert node_brief.with_busy(polled, {}).busy == 50


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("0x6", {1, 2}),
        ("6", {1, 2}),
        ("0XfF", set(range(8))),
        ("0", set()),
        ("0x8000000000000001", {0, 63}),
        (" 6 ", {1, 2}),
    ],
)
def test_a_mask_is_read(text: str, cores: set[int]) -> None:
    assert cpu_mask.parse(text) == cores
    assert cpu_mask.parse(cpu_mask.written(cores)) == cores


@pytest.mark.parametrize("text", ["", "0x", "-1", "0xg", "1 2", "1" * 5000])
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pmd-cpu-mask"):
        cpu_mask.parse(text)


def test_a_mask_is_changed_only_where_it_is_the_one_that_was_looked_at_and_the_first_is_kept() -> None:
    act = AddCore(3, frozenset({1, 2, 3}), frozenset({1, 2}))
    assert mask_operation({MASK: "6"}, act)["mutations"] == [
        ["other_config", "delete", ["map", [[MASK, "6"]]]],
        ["other_config", "insert", ["map", [[MASK, "0xe"]]]],
        ["external_ids", "insert", ["map", [[KEPT, "6"]]]],
    ]
    for other in ({}, {MASK: "2"}, {MASK: "no mask"}):
        assert mask_operation(other, act)["mutations"] == []


# --- cycles --------------------------------------------------------------------------------------


def test_isolated_pmds_are_those_with_a_pinned_rxq() -> None:
    replies = sorted(GOLDEN.glob("[0-9]*/rxq-four-polling.txt"))
    assert replies
    assert {pmd_load.isolated(reply.read_text()) for reply in replies} == {frozenset({3})}
    assert pmd_load.isolated("") == frozenset()


def test_cycles_are_those_of_pmds_not_of_the_main_thread() -> None:
    found = pmd_load.cycles((GOLDEN / "3.1.0" / "stats-four-polling.txt").read_text())
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0] == Cycles(idle=2792394514, busy=988932)
    assert pmd_load.busy({core: Cycles(0, 0) for core in found}, found)[0] == pytest.approx(0.04, abs=0.005)
    for case in ("no-pmd.txt", "several.error", "no-datapath.error"):
        assert pmd_load.cycles((GOLDEN / "3.1.0" / f"stats-{case}").read_text()) == {}


def test_busy_is_what_was_spent_between_two_looks() -> None:
    before = {1: Cycles(100, 100), 2: Cycles(100, 100), 3: Cycles(100, 100), 4: Cycles(100, 100)}
    now = {1: Cycles(110, 190), 2: Cycles(50, 200), 3: Cycles(100, 100), 5: Cycles(1, 1)}
    assert pmd_load.busy(before, now) == {1: 90.0}  # 2 was cleared, 3 stood still, 5 is new


# --- this host's CPUs ----------------------------------------------------------------------------


def tree(root: Path, **files: str) -> Path:
    """A /sys/devices/system with these files."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cpus_and_their_numa_nodes(tmp_path: Path) -> None:
    two = tree(tmp_path, cpu__online="0-2,4\n", cpu__isolated="2,4\n", node__node0__cpulist="0-1\n",
               node__node1__cpulist="2-4\n")  # fmt: skip
    assert cpus.numa(two) == {0: 0, 1: 0, 2: 1, 4: 1}
    assert cpus.isolated(two) == {2, 4}


def test_a_kernel_without_nodes_has_one(tmp_path: Path) -> None:
    assert cpus.numa(tree(tmp_path, cpu__online="0-1\n")) == {0: 0, 1: 0}


def test_this_hosts_own_can_be_read() -> None:
    assert cpus.numa()
    assert cpus.isolated() <= set(range(8192))
