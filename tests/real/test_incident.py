# SPDX-License-Identifier: Apache-2.0
"""At 3 a.m. a PMD is held, and by the time somebody looks it is all over: what the black box has kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import records
from ovs_keepalive.formats.incident import Head
from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import LOST, Ticker, node, own_blind, stopped

pytestmark = pytest.mark.real


def watch(sandbox: Sandbox, **config: object) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config=config)
    wait(lambda: is_well(sandbox) and set(sandbox.column()) == set(sandbox.pmds()), "all PMDs well", 15)


def is_well(sandbox: Sandbox) -> bool:
    states = {pmd["name"]: pmd["state"] for pmd in node(sandbox)["pmds"]}
    return set(states) == set(sandbox.pmds()) and set(states.values()) <= {"ALIVE", "SLEEP"}


def recorded(sandbox: Sandbox, number: int) -> tuple[Head, dict[str, Any]]:
    """Record N, as soon as it is complete."""
    directory = sandbox.dir / "state"

    def complete() -> Head | None:
        if number not in records.numbers(directory):
            return None
        head = records.head(directory, number)
        return head if head.complete else None

    wait(complete, f"record {number} complete", 20)
    head, sections = records.read(directory, number)
    return head, {section.name: section.data or section.note for section in sections}


def test_a_held_pmd_is_recorded_with_what_went_before_it(sandbox: Sandbox) -> None:
    watch(sandbox)
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        head, sections = recorded(sandbox, 1)
    assert (head.who, head.new, head.cause) == (name, "DEAD", "traced")
    files = sections["threads"][f"{name} ({tid})"]
    assert f"({name}) t " in files["stat"]
    assert set(files) == {"stat", "status", "schedstat", "wchan", "syscall", "stack"}
    rows = sections["looks"]["rows"]
    states = [{cells[0]: cells[1] for cells in row["pmds"]}[name] for row in rows if row["pmds"]]
    assert states[-1] == "DEAD"
    assert "MISSING" in states
    assert states.index("MISSING") > 0
    [pmd] = [pmd for pmd in sections["node"]["pmds"] if pmd["name"] == name]
    assert pmd["rxqs"] == ["p0/0"]
    assert "pmd thread numa_id" in sections["dpif-netdev/pmd-perf-show"]
    assert "hit" in sections["coverage/show"]
    assert sections["log"].count("\n") > 3
    assert any(row["name"] == "p0" for row in sections["database"]["Interface"])
    assert "cores" in sections

    wait(lambda: is_well(sandbox), "recovery", 5)
    with stopped(tid):
        again, _ = recorded(sandbox, 2)
    assert again.number == 2
    told = json.loads(sandbox.appctl("keepalive/incidents", "--json", target="ovs-keepalive"))
    assert [head["number"] for head in told] == [1, 2]
    sandbox.stop_daemon()
    argv = [sys.executable, "-m", "ovs_keepalive", "incident", "show", "1", "--state-dir", f"{sandbox.dir}/state"]
    shown = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=10, check=True).stdout
    assert shown.startswith("Incident 1: ")
    assert name in shown


@pytest.mark.slow
def test_a_record_delays_no_beat(sandbox: Sandbox) -> None:
    """Of several the least counts: what else the machine does can only add to it."""
    watch(sandbox)
    tid = next(iter(sandbox.pmds().values()))
    costs = []
    for number in (1, 2, 3, 4):
        wait(lambda: is_well(sandbox), "all well", 5)
        before = own_blind(sandbox)
        with stopped(tid), Ticker() as ticker:
            recorded(sandbox, number)
            costs.append(own_blind(sandbox) - before - ticker.lost)  # less what the machine takes from everybody
    print("own blind time while a record was collected:", *(f"{cost * 1000:.0f}" for cost in costs), "ms")
    assert min(costs) <= LOST


def test_a_crash_is_recorded_with_its_log(sandbox: Sandbox) -> None:
    watch(sandbox)
    sandbox.kill_vswitchd(signal.SIGKILL)
    head, sections = recorded(sandbox, 1)
    assert head.new == "GONE"
    assert "No such file" in sections["threads"]
    assert sections["coverage/show"].startswith("not asked: ")
    assert "pmd" in sections["log"]


def test_an_orderly_restart_is_no_incident(sandbox: Sandbox) -> None:
    watch(sandbox)
    sandbox.kill_vswitchd(signal.SIGTERM)
    sandbox.start_vswitchd()
    sandbox.wait_for_pmds()
    wait(lambda: is_well(sandbox), "well again", 15)
    assert "no incidents" in sandbox.appctl("keepalive/incidents", target="ovs-keepalive")


def test_without_a_state_directory_the_verdict_is_the_same(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    watch(sandbox, **{"state-dir": str(tmp_path / "file" / "state")})
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: sandbox.column().get(name, "").startswith("DEAD,"), "DEAD", 5)
    wait(lambda: is_well(sandbox), "recovery", 5)
    assert "state-dir" in sandbox.appctl("keepalive/status", target="ovs-keepalive")
    log = (sandbox.dir / "ovs-keepalive.log").read_text()
    assert log.count("no incident is recorded") == 1, log
