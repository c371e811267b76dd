# SPDX-License-Identifier: Apache-2.0
"""The daemon, and flows in hardware: on Open vSwitch 4.0, whose dummy devices take flows and show it, and on 3.1.

What was forwarded by hardware is told by `dpif/offload/show`, which nothing of ours writes. These devices take any
number of flows; that their table is small says the configuration alone, so that a victim comes back into hardware when
vswitchd puts it back: what a full table does is judged by the planner's own tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError
from tests.json_shapes import documented, wrong
from tests.lab import stopped
from tests.offload_lab import Lab, Traffic, a_lab

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

HOT, COLD = range(1, 11), range(11, 31)  # hosts
RATES = {host: 40 if host in HOT else 4 for host in (*HOT, *COLD)}  # packets per second
EARLY = range(1, 26)  # hosts whose flows are in software at first; the five others are cold, and in hardware
CAPACITY = 10
GOOD = 0.95  # of the best share that is possible
ROUNDS = 10  # in which that has to be reached
LONGEST_ROUND = 6.0  # seconds: 3 between two looks, and 2 of rest between what is done
WINDOW = 4.0  # seconds over which packets are counted
STALE = 2.0  # seconds after which nothing may be forwarded that a table forbids
ARM_REFUSED = (
    "ovs-keepalive: keepalive-offload is plan: ovs-vsctl set Open_vSwitch . other_config:keepalive-offload=act\n"
)
SHAPES = documented()
ACT = {"offload": {"allow-act": True, "capacity": CAPACITY}}


@pytest.fixture
def lab() -> Iterator[Lab]:
    """30 flows of known rates."""
    with a_lab(EARLY, sorted(set(RATES) - set(EARLY))) as lab, Traffic(lab, RATES):
        yield lab


@pytest.fixture
def quiet() -> Iterator[Lab]:
    """Two flows in software and one in hardware, without traffic."""
    with a_lab(range(1, 3), [3]) as lab:
        yield lab


def watch(sandbox: Sandbox, mode: str, config: Mapping[str, object] = ACT) -> None:
    """Start the daemon, and wait until it has looked at flows."""
    sandbox.settings(enable_keepalive=True, keepalive_offload=mode)
    sandbox.start_daemon(config=config)
    sandbox.wait(lambda: show(sandbox).get("at") is not None, "flows are looked at")


def ask(sandbox: Sandbox, *words: str) -> Any:
    return json.loads(sandbox.appctl(*words, "--json", target="ovs-keepalive"))


def show(sandbox: Sandbox) -> dict[str, Any]:
    try:
        return dict(ask(sandbox, "offload/show"))
    except SandboxError:  # it has just started
        return {"at": None}


def moves(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What was moved, oldest first."""
    return [act for act in ask(sandbox, "offload/history", "500") if act["what"] == "promoted"]


def refusal(sandbox: Sandbox, *words: str) -> str:
    with pytest.raises(SandboxError) as caught:
        ask(sandbox, *words)
    return str(caught.value)


def command(sandbox: Sandbox, *words: str) -> tuple[int, str, str]:
    """`ovs-keepalive offload`: exit status and output."""
    argv = [sys.executable, "-m", "ovs_keepalive", "offload", *words]
    done = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


def share(lab: Lab) -> float:
    """Of the packets of a few seconds, the part that hardware forwarded."""
    before = lab.hardware()
    time.sleep(WINDOW)
    partial, full, missed = (now - was for now, was in zip(lab.hardware(), before, strict=True))
    return (partial + full) / (partial + full + missed)


def until(lab: Lab, what: Callable[[], object], said: str, seconds: float) -> None:
    lab.sandbox.wait(what, said, seconds)


def helper(sandbox: Sandbox) -> psutil.Process:
    """The process that looks at flows."""
    daemon = psutil.Process(int((sandbox.dir / "ovs-keepalive.pid").read_text()))
    return next(child for child in daemon.children() if "ovs_keepalive.offloader" in child.cmdline())


# --- acting ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("still", [2, pytest.param(10, marks=pytest.mark.long)])
def test_the_fastest_flows_come_into_hardware_and_then_nothing_moves(lab: Lab, still: int) -> None:
    best = sum(sorted(RATES.values())[-CAPACITY:]) / sum(RATES.values())
    at_first = share(lab)
    assert at_first < 0.1
    watch(lab.sandbox, "act")
    assert list(wrong(ask(lab.sandbox, "offload/arm"), "armed", SHAPES)) == []
    hot = {lab.ufid(host) for host in HOT}
    began = time.monotonic()
    until(lab, lambda: {act["move"]["promoted"] for act in moves(lab.sandbox)} == hot, "the fastest flows are moved",
          ROUNDS * LONGEST_ROUND)  # fmt: skip
    took, settled = time.monotonic() - began, share(lab)
    assert settled >= GOOD * best
    time.sleep(still * LONGEST_ROUND)
    acts = moves(lab.sandbox)
    assert len(acts) == CAPACITY
    assert sum(act["move"]["victim"] is None for act in acts) == 5  # the slots that were free came first
    assert lab.count("handler_duplicate_upcall") <= 5 * 12  # two seconds of a victim of 4 packets/s, and half as many
    assert list(wrong(ask(lab.sandbox, "offload/history"), "list of act", SHAPES)) == []
    shown = show(lab.sandbox)
    assert list(wrong(shown, "offload", SHAPES)) == []
    [p0] = [one for one in shown["netdevs"] if one["name"] == "p0"]
    assert p0["efficiency"] >= GOOD
    assert shown["armed"] is not None, shown["disarmed"]
    print(f"{at_first:.1%} -> {settled:.1%} of the packets in hardware, of {best:.1%} at best, after {took:.0f} s")


@pytest.mark.slow
def test_what_openflow_forbids_meanwhile_is_not_forwarded(lab: Lab) -> None:
    watch(lab.sandbox, "act")
    ask(lab.sandbox, "offload/arm")
    until(lab, lambda: moves(lab.sandbox), "a flow is moved", ROUNDS * LONGEST_ROUND)
    for host in RATES:  # while others of the same round are moved
        lab.rule(host, "drop", "mod-flows")
    time.sleep(STALE)
    sent = lab.sent()
    time.sleep(LONGEST_ROUND)
    assert lab.sent() == sent
    assert {actions for host in RATES for actions in lab.actions(host)} <= {"drop"}


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_daemon_that_is_killed_leaves_no_flow_behind(lab: Lab, times: int) -> None:
    sandbox = lab.sandbox
    journal = Path(f"{sandbox.dir}/state/offload.journal")
    for _ in range(times):
        watch(sandbox, "act")
        ask(sandbox, "offload/arm")
        until(lab, journal.exists, "it is ready to move flows", LONGEST_ROUND)
        deadline = time.monotonic() + ROUNDS * LONGEST_ROUND
        while not journal.stat().st_size and time.monotonic() < deadline:
            time.sleep(0.0005)
        helper(sandbox).kill()  # amid a move
        sandbox.stop_daemon(signal.SIGKILL)
    watch(sandbox, "act")
    assert show(sandbox)["armed"] is None
    sandbox.wait(lambda: set(lab.flows()) == set(RATES), "every flow is there")
    sandbox.wait(lambda: {actions for host in RATES for actions in lab.actions(host)} == {"2"}, "as the tables say")
    sandbox.wait(lambda: show(sandbox)["unfinished"] == 0 and not journal.stat().st_size, "nothing is left to be done")
    before = lab.sent()
    sandbox.wait(lambda: lab.sent() > before + sum(RATES.values()), "packets go out")


# --- the arm -----------------------------------------------------------------------------------


def test_flows_are_moved_only_where_the_file_the_setting_and_a_person_want_it(quiet: Lab) -> None:
    sandbox = quiet.sandbox
    watch(sandbox, "plan", {})
    assert "keepalive-offload is plan" in refusal(sandbox, "offload/arm")
    sandbox.settings(keepalive_offload="act")
    sandbox.wait(lambda: "offload.allow-act: true" in refusal(sandbox, "offload/arm"), "the mode is read")
    config = sandbox.dir / "config.yaml"
    config.write_text(json.dumps(json.loads(config.read_text()) | ACT))
    os.kill(int((sandbox.dir / "ovs-keepalive.pid").read_text()), signal.SIGHUP)
    sandbox.wait(lambda: show(sandbox)["allowed"], "the file is read anew")
    assert show(sandbox)["objection"] == "not armed: offload/arm"
    assert "no number of minutes from 1 to 1440" in refusal(sandbox, "offload/arm", "1441")
    armed = ask(sandbox, "offload/arm", "5")["armed"]
    assert armed["until"] - armed["since"] == 5 * 60_000
    assert show(sandbox)["objection"] is None
    sandbox.settings(offload_rebalance=True)
    sandbox.wait(
        lambda: "one of the two has to go" in (show(sandbox)["objection"] or ""), "the other rebalancing is seen"
    )
    sandbox.settings(offload_rebalance=None)
    sandbox.wait(lambda: show(sandbox)["objection"] is None, "it is off again, and the arm holds")
    name, tid = min(sandbox.pmds().items())
    with stopped(tid):
        sandbox.wait(lambda: f"{name} is" in (show(sandbox)["objection"] or ""), "a PMD is not well")
        assert "keepalive/explain" in refusal(sandbox, "offload/arm")
    sandbox.wait(lambda: show(sandbox)["objection"] is None, "it is well again")
    assert ask(sandbox, "offload/disarm")["was_armed"]
    assert not ask(sandbox, "offload/disarm")["was_armed"]
    assert [act["what"] for act in ask(sandbox, "offload/history")] == ["armed", "disarmed"]


@pytest.mark.slow
def test_an_arm_ends_with_the_vswitchd_and_with_the_daemon_that_it_was_for(quiet: Lab) -> None:
    sandbox = quiet.sandbox
    watch(sandbox, "act")
    ask(sandbox, "offload/arm")
    sandbox.kill_vswitchd()
    sandbox.start_vswitchd()
    sandbox.wait(lambda: "vswitchd was restarted" in (show(sandbox)["disarmed"] or ""), "the arm has ended")
    sandbox.wait(lambda: show(sandbox)["vswitchd"] == sandbox.vswitchd_pid, "the new vswitchd is looked at")
    sandbox.wait(lambda: show(sandbox)["objection"] == "not armed: offload/arm", "nothing speaks against it")
    ask(sandbox, "offload/arm")
    looks = helper(sandbox)
    assert sandbox.stop_daemon() == 0
    assert not psutil.wait_procs([looks], timeout=10)[1]  # it ends by itself
    watch(sandbox, "act")
    assert (show(sandbox)["armed"], show(sandbox)["disarmed"]) == (None, None)


# --- watching ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_known_is_told_everywhere(lab: Lab) -> None:
    sandbox = lab.sandbox
    watch(sandbox, "plan", {"offload.capacity": 5, "web-listen": "127.0.0.1:0"})

    def p0() -> dict[str, Any]:
        return next(one for one in show(sandbox)["netdevs"] if one["name"] == "p0")

    sandbox.wait(lambda: p0()["state"] == "oor", "flows wait, and the table is full", 30.0)
    assert (p0()["flows"], p0()["pending"], p0()["capacity"]) == (5, 25, 5)
    plan = ask(sandbox, "offload/plan")
    assert list(wrong(plan, "offload plan", SHAPES)) == []
    assert plan["fills"] == []
    hot = {lab.ufid(host) for host in HOT}
    assert plan["swaps"]
    assert all(move["promoted"] in hot and move["gain_pps"] > 10 for move in plan["swaps"])
    sandbox.wait(lambda: sandbox.detail()["offload:p0"].startswith("oor;since="), "the column says so")
    assert f"{plan['swaps'][0]['promoted']} of p0" in sandbox.appctl("offload/plan", target="ovs-keepalive")
    assert "offload-rebalance : not true" in sandbox.appctl("offload/show", target="ovs-keepalive")
    status, said, _ = command(sandbox, "show")
    assert (status, "p0: oor: " in said) == (1, True)
    assert command(sandbox, "plan")[0] == 0
    assert list(wrong(json.loads(command(sandbox, "show", "--json")[1]), "offload", SHAPES)) == []
    assert command(sandbox, "arm", "5") == (2, "", ARM_REFUSED)
    node = ask(sandbox, "keepalive/status")
    assert next(one for one in node["offload"] if one["name"] == "p0")["state"] == "oor"
    assert any(one["who"] == "offload:p0" and one["to"] == "oor" for one in node["transitions"])
    sandbox.settings(keepalive_offload=None)
    sandbox.wait(
        lambda: not any(key.startswith("offload:") for key in sandbox.detail()), "it is off, and tells nothing"
    )
    assert "flows are not looked at" in refusal(sandbox, "offload/show")


def test_without_hardware_offload_it_is_disabled(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox()
    watch(sandbox, "act")
    assert {one["state"] for one in show(sandbox)["netdevs"]} == {"disabled"}
    assert "hw-offload is not true" in refusal(sandbox, "offload/arm")


def test_debians_vswitchd_is_watched_and_left_alone(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox()
    sandbox.settings(hw_offload=True)
    watch(sandbox, "act")
    sandbox.wait(lambda: {one["state"] for one in show(sandbox)["netdevs"]} == {"unknown"}, "nothing is known")
    assert "never forgets a flow that is removed (stale ukeys): 3.1.7 or newer is needed" in refusal(
        sandbox, "offload/arm"
    )
