# SPDX-License-Identifier: Apache-2.0
"""vswitchd's main thread does not answer: held, stopped with all the others, or waiting for a PMD that is stalled.

No PMD is blamed for that silence. What /proc proves of a PMD is told all the same, and in time; a spinning PMD looks
like a healthy one and is told when main answers again.
"""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from ovs_keepalive.formats import column
from ovs_keepalive.sandbox import Sandbox, SandboxError, request
from tests.faults.inject import paused, spinning, stopped_process
from tests.faults.laboratory import Course, Laboratory, Rounds, begun, cause_of
from tests.lab import node, stopped

pytestmark = pytest.mark.real

HUNG_AFTER = 4.0  # seconds of silence, with evidence (CONTRACT section 4)


@pytest.mark.slow
def test_stopped_process_stops_all_pmds_and_is_no_hang(rounds: Rounds) -> None:
    def run(laboratory: Laboratory) -> Course:
        names = list(laboratory.sandbox.pmds())
        with begun(stopped_process, laboratory.sandbox.vswitchd_pid) as injected:
            for name in names:
                laboratory.wait_for(name, "GONE", injected.earliest)
            laboratory.wait_for_vswitchd("STOPPED", injected.earliest)
            released = time.monotonic()
        courses = [laboratory.course(name, injected, released) for name in names]
        for course in courses:
            course.assert_told_in_time()
            assert course.causes == {"stopped"}
        laboratory.wait_for_vswitchd("RUNNING", released)
        assert laboratory.states_of_vswitchd(injected.earliest) == ["RUNNING", "STOPPED", "RUNNING"]
        return courses[0]

    rounds.repeat("SIGSTOP of the process", run)


@pytest.mark.slow
def test_held_main_thread_is_hung_and_changes_no_pmd(rounds: Rounds) -> None:
    def run(laboratory: Laboratory) -> None:
        with begun(stopped, laboratory.sandbox.vswitchd_pid) as injected:
            hung = laboratory.wait_for_vswitchd("HUNG", injected.earliest)
            witness = str(node(laboratory.sandbox)["vswitchd"]["witness"])
            released = time.monotonic()
        assert HUNG_AFTER <= hung.at - injected.earliest <= HUNG_AFTER + max(laboratory.interval, 0.1)
        assert "state t" in witness
        assert "culprit=" not in hung.detail["vswitchd"]
        laboratory.wait_for_vswitchd("RUNNING", released)
        assert laboratory.states_of_vswitchd(injected.earliest) == ["RUNNING", "HUNG", "RUNNING"]
        laboratory.assert_others_are_well("", injected.earliest)
        assert all(hung.detail[name].endswith(";witness=run-time (unverified)") for name in laboratory.sandbox.pmds())
        assert_last_seen_stood_still(laboratory, injected.latest, released)

    rounds.repeat("main thread held", run)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["add-port", "add-flow"])
def test_main_thread_that_waits_for_a_stalled_pmd_is_hung_and_the_pmd_is_named(rounds: Rounds, command: str) -> None:
    """add-port: main spins until the PMD has reloaded. add-flow: it waits for the PMD to quiesce (RCU)."""
    order = {"add-port": add_port, "add-flow": add_flow}[command]

    def run(laboratory: Laboratory) -> Course:
        sandbox = laboratory.sandbox
        undo(sandbox)  # what a run before this one left
        sick, tid = next(iter(sandbox.pmds().items()))
        with begun(paused, tid) as injected:
            order(sandbox)
            assert_main_is_silent(sandbox)
            hung = laboratory.wait_for_vswitchd("HUNG", injected.earliest)
            laboratory.wait_for(sick, "GONE", injected.earliest)
            released = time.monotonic()
        sandbox.wait(lambda: sandbox.appctl("version"), "main answers")
        course = laboratory.course(sick, injected, released, time.monotonic())
        course.assert_told_in_time()
        assert course.causes == {"blocked"}
        assert HUNG_AFTER <= hung.at - injected.earliest <= HUNG_AFTER + 0.5 + laboratory.interval
        assert f"culprit={sick}" in hung.detail["vswitchd"]
        laboratory.wait_for_vswitchd("RUNNING", released)
        assert laboratory.states_of_vswitchd(injected.earliest) == ["RUNNING", "HUNG", "RUNNING"]
        laboratory.assert_others_are_well(sick, injected.earliest)
        return course

    try:
        rounds.repeat(f"paused, then {command}", run)
    finally:
        undo(rounds.laboratory.sandbox)


def test_spinning_pmd_keeps_its_state_until_main_answers(rounds: Rounds) -> None:
    def run(laboratory: Laboratory) -> None:
        sick, tid = next(iter(laboratory.sandbox.pmds().items()))
        with begun(stopped, laboratory.sandbox.vswitchd_pid) as silence:
            fault = spinning(tid)
            fault.__enter__()
            time.sleep(max(2.0, 4 * laboratory.interval))  # long enough for any verdict
            unverified = laboratory.subscriber.states(sick, silence.earliest)
            answers = time.monotonic()
        try:
            dead = laboratory.wait_for(sick, "DEAD", answers)
        finally:
            released = time.monotonic()
            fault.__exit__(None, None, None)
        laboratory.wait_for(sick, "ALIVE", released)
        assert set(unverified) <= {"ALIVE"}
        assert (dead.at - answers) / laboratory.interval <= 1.5
        assert cause_of(dead.detail[sick]) == "spinning"
        laboratory.assert_others_are_well(sick, silence.earliest)

    rounds.repeat("main held, then spinning", run)


def test_log_names_a_running_pmd_for_which_the_main_thread_waits(laboratory: Laboratory) -> None:
    """Nothing in /proc tells this spinning PMD from a healthy one; vswitchd itself writes that it waits for it."""
    laboratory.make_ready(500)
    sandbox = laboratory.sandbox
    undo(sandbox)  # what a run before this one left
    sick, tid = next(iter(sandbox.pmds().items()))
    try:
        with begun(spinning, tid) as injected:
            add_flow(sandbox)
            assert_main_is_silent(sandbox)
            hung = laboratory.wait_for_vswitchd("HUNG", injected.earliest)
            released = time.monotonic()
        laboratory.wait_for_vswitchd("RUNNING", released)
        sandbox.wait(lambda: laboratory.last.state(sick) in {"ALIVE", "SLEEP"}, "the PMD well")
    finally:
        undo(sandbox)
    assert hung.at - injected.earliest >= HUNG_AFTER
    assert f"culprit={sick}" in hung.detail["vswitchd"]
    laboratory.assert_others_are_well(sick, injected.earliest)


# --- what is done to it ----------------------------------------------------------------------------


def add_port(sandbox: Sandbox) -> None:
    """As an operator does it; it waits in vain, but not for ever."""
    with pytest.raises(SandboxError):
        sandbox.vsctl("--timeout=1", "add-port", "br0", "extra", "--", "set", "interface", "extra", "type=dummy-pmd")


def add_flow(sandbox: Sandbox) -> None:
    """As an operator does it. Mostly main answers it, and hangs a moment later."""
    with suppress(SandboxError):
        sandbox._tool("ovs-ofctl", "--timeout=1", "add-flow", f"unix:{sandbox._inner}/br0.mgmt", "actions=drop")


def undo(sandbox: Sandbox) -> None:
    """Take the port or the flow back."""
    sandbox.vsctl("--if-exists", "del-port", "br0", "extra")
    sandbox._tool("ovs-ofctl", "--timeout=10", "del-flows", f"unix:{sandbox._inner}/br0.mgmt")
    sandbox.wait_for_pmds()


# --- what was told ---------------------------------------------------------------------------------


def assert_main_is_silent(sandbox: Sandbox) -> None:
    """A question of our own finds no answer; main may still answer one before it begins to wait."""
    control = sandbox.dir / f"ovs-vswitchd.{sandbox.vswitchd_pid}.ctl"

    def is_silent() -> bool:
        try:
            request(control, "version", [], 1.0)
        except TimeoutError:
            return True
        return False

    sandbox.wait(is_silent, "main silent", 5)


def assert_last_seen_stood_still(laboratory: Laboratory, begin: float, end: float) -> None:
    """No progress was claimed that nobody could see: a question under way at the beginning may have been answered."""
    told = [one for one in laboratory.since(begin + 1.25 * laboratory.interval) if one.at < end]
    for name in laboratory.sandbox.pmds():
        assert len({column.parse(one.keepalive[name]).last_seen_ms for one in told}) <= 1
    beats = [one.detail["daemon"] for one in told]
    assert len(set(beats)) > 1  # the daemon's own beat went on
