# SPDX-License-Identifier: Apache-2.0
"""The verdict on each PMD thread, told as scenes on a simulated clock (CONTRACT section 4)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ovs_keepalive.core import cause, heartbeat, vswitchd
from ovs_keepalive.core.heartbeat import Register
from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.core.model import (
    BAD,
    Cause,
    CloseLook,
    Ended,
    Looks,
    MainLook,
    Moment,
    Rxq,
    Seen,
    State,
    ThreadId,
    VswitchdState,
)
from ovs_keepalive.formats import column
from tests.looks import FAULTS, FIRST, HEALTHY, SECOND, SETTINGS, WALL_MS, Scene, Worker, pmd, running, thread

ALIVE, SLEEP, MISSING, DEAD, GONE, UNUSED = (
    State.ALIVE,
    State.SLEEP,
    State.MISSING,
    State.DEAD,
    State.GONE,
    State.UNUSED,
)
INTERVALS = (0.1, 0.5, 1.0, 7.0, 60.0)
PHASES = (0.0, 0.25, 0.5, 0.75, 0.99)  # of a look period, at which a fault begins


def _verdicts(scene: Scene) -> list[str]:
    """Who came into a bad state, in the words of the history."""
    return [f"{line.who} {line.new}" for line in scene.register.history if line.new in BAD]


# --- stall and recovery --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("interval", INTERVALS)
def test_a_stall_is_told_in_three_steps_each_in_its_time(interval: float, phase: float) -> None:
    scene = Scene(interval=interval)
    stalled, healthy = scene.workers
    scene.run(phase * scene.period)
    stalled.fails(Cause.SPINNING)
    began = scene.now
    scene.run(4 * interval)
    missing, dead, gone = ((scene.when(stalled, state) - began) / interval for state in (MISSING, DEAD, GONE))
    assert 1.0 <= missing <= 1.25
    assert missing < dead <= 1.5
    assert 3.0 <= gone <= 3.5
    assert scene.states(stalled, began) == [MISSING, DEAD, GONE]
    assert scene.states(healthy, began) == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("interval", INTERVALS)
def test_the_age_of_the_last_progress_is_one_interval_when_missing_is_told(interval: float, phase: float) -> None:
    scene = Scene(interval=interval)
    stalled = scene.workers[0]
    scene.run(phase * scene.period)
    stalled.fails(Cause.TRACED)
    scene.run(1.3 * interval)
    missing = scene.pmd(stalled)
    since = scene.when(stalled, MISSING) - missing.progress.mono
    assert interval <= since + 1e-9 <= 1.25 * interval


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("silence", [1.3, 2.0, 5.0])
def test_the_first_progress_makes_it_alive_again(interval: float, silence: float) -> None:
    scene = Scene(interval=interval)
    stalled = scene.workers[0]
    stalled.fails(Cause.TRACED)
    scene.run(silence * interval)
    assert scene.state(stalled) in BAD
    stalled.recovers()
    began = scene.now
    scene.run(interval)
    assert scene.states(stalled, began) == [ALIVE]
    assert scene.when(stalled, ALIVE) - began <= 0.5 * interval
    assert scene.pmd(stalled).cause is Cause.NONE
    assert scene.pmd(stalled).witness == ""


def test_a_stall_shorter_than_the_interval_is_none() -> None:
    scene = Scene()
    short = scene.workers[0]
    for _ in range(20):
        short.fails(Cause.SPINNING)
        scene.run(0.75)
        short.recovers()
        scene.run(0.3)
    assert _verdicts(scene) == []
    assert scene.pmd(short).longest > 0.5


def test_iterations_that_go_backwards_are_progress() -> None:
    scene = Scene(interval=0.5)
    cleared = scene.workers[0]
    cleared.rate = 0.0
    for _ in range(10):  # pmd-stats-clear at every look
        cleared.iterations = max(0.0, cleared.iterations - 1000.0)
        scene.run(0.3)
    assert _verdicts(scene) == []
    assert scene.state(cleared) is ALIVE


def test_a_pmd_is_registered_only_when_it_was_seen_to_work() -> None:
    scene = Scene(cores=1)
    fresh = scene.add(7)
    scene.run(3.0)
    assert scene.states(fresh) == [UNUSED, ALIVE]
    assert scene.when(fresh, UNUSED) < scene.when(fresh, ALIVE)
    assert scene.register.history[-1].evidence == "registered: vhu7/0"


def test_a_pmd_that_never_worked_but_has_rxqs_is_missing_after_one_interval() -> None:
    scene = Scene(cores=1)
    stillborn = scene.add(7)
    stillborn.fails(Cause.BLOCKED)
    began = scene.now
    scene.run(5.0)
    assert scene.states(stillborn, began) == [UNUSED, MISSING, DEAD, GONE]
    assert scene.when(stillborn, MISSING) - began >= 1.0
    assert scene.pmd(stillborn).progress.wall_ms == 0
    assert "no progress ever seen" in scene.register.history[-1].evidence


# --- rxqs ----------------------------------------------------------------------------------------


def test_a_pmd_without_rxqs_is_unused_and_in_no_column() -> None:
    scene = Scene()
    idle, busy = scene.workers
    idle.rxqs = ()
    idle.parks()
    scene.run(10.0)
    assert scene.state(idle) is UNUSED
    assert _verdicts(scene) == []
    assert [known.name for known in scene.snapshot.registered] == [busy.name]
    assert list(column.keepalive(scene.snapshot)) == [busy.name]


def test_a_pmd_that_gets_rxqs_back_is_alive_again() -> None:
    scene = Scene()
    worker = scene.workers[0]
    queues, worker.rxqs = worker.rxqs, ()
    worker.parks()
    scene.run(30.0)
    worker.rxqs = queues
    worker.recovers()
    began = scene.now
    scene.run(2.0)
    assert scene.states(worker, began) == [ALIVE]


def test_rest_before_it_had_rxqs_is_no_silence() -> None:
    scene = Scene()
    worker = scene.workers[0]
    queues, worker.rxqs = worker.rxqs, ()
    worker.parks()
    scene.run(30.0)
    worker.rxqs = queues
    worker.fails(Cause.SPINNING)
    while not scene.pmd(worker).rxqs:
        scene.run(0.01)
    told = scene.now
    scene.run(5.0)
    assert scene.states(worker, told) == [MISSING, DEAD, GONE]
    assert scene.when(worker, MISSING) - told >= 0.98


def test_an_rxq_list_older_than_the_last_progress_proves_nothing() -> None:
    scene = Scene()
    worker = scene.workers[0]
    scene.rxqs_blind = "refused"
    worker.fails(Cause.SPINNING)
    scene.run(10.0)
    assert scene.state(worker) is ALIVE
    scene.rxqs_blind = ""
    began = scene.now
    scene.run(2.0)
    assert scene.states(worker, began) == [MISSING, DEAD, GONE]


def test_the_rxqs_are_asked_for_before_any_missing() -> None:
    scene = Scene(interval=0.1)
    worker = scene.workers[0]
    worker.fails(Cause.SPINNING)
    scene.run(0.2)
    asked = next(register.pmds[worker.id] for register in scene.registers if register.pmds[worker.id].state is MISSING)
    assert asked.rxqs_at > asked.progress.mono


def test_nothing_is_asked_about_rxqs_while_all_is_well_and_the_list_is_young() -> None:
    scene = Scene()
    for _ in range(3):
        scene.run(0.2)
        assert not heartbeat.wants_rxqs(scene.register, scene.interval, scene.now)
    assert heartbeat.wants_rxqs(scene.register, scene.interval, scene.now + 5.1)


# --- the main thread is silent -------------------------------------------------------------------

PROVEN_BY_PROC = (Cause.TRACED, Cause.STOPPED, Cause.UNINTERRUPTIBLE, Cause.BLOCKED, Cause.FROZEN)


@pytest.mark.parametrize("why", PROVEN_BY_PROC, ids=str)
def test_proc_alone_proves_this_stall_while_the_main_thread_is_silent(why: Cause) -> None:
    scene = Scene()
    stalled, healthy = scene.workers
    stalled.fails(why)
    scene.answers = False
    began = scene.now
    scene.run(6.0)
    assert scene.states(stalled, began) == [MISSING, DEAD, GONE]
    assert scene.when(stalled, MISSING) - began >= 1.0
    assert scene.pmd(stalled).cause is why
    assert scene.states(healthy, began) == []


@pytest.mark.parametrize("why", [Cause.SPINNING, Cause.STARVED], ids=str)
def test_a_runnable_thread_keeps_its_state_while_the_main_thread_is_silent(why: Cause) -> None:
    scene = Scene()
    stalled = scene.workers[0]
    stalled.fails(why)
    scene.answers = False
    scene.run(50.0)
    assert _verdicts(scene) == []
    assert scene.state(stalled) is ALIVE


def test_a_pmd_of_which_only_its_run_time_speaks_says_so_and_takes_it_back() -> None:
    scene = Scene()
    worker, stalled = scene.workers
    stalled.fails(Cause.TRACED)
    scene.answers = False
    scene.run(3.5)
    silent = scene.pmd(worker)
    assert (silent.state, silent.cause, silent.witness) == (ALIVE, Cause.NONE, "run-time (unverified)")
    assert "witness=run-time (unverified)" in column.detail(scene.snapshot, "1", 2)[worker.name]
    assert "tracer" in scene.pmd(stalled).witness or "gdb" in scene.pmd(stalled).witness
    scene.answers = True
    scene.run(1.0)
    assert scene.pmd(worker).witness == ""
    assert worker.name not in column.detail(scene.snapshot, "1", 2)


@pytest.mark.parametrize("number", ["7", "271"])
def test_a_pmd_that_ovs_parks_in_poll_keeps_its_state_while_the_main_thread_is_silent(number: str) -> None:
    scene = Scene()
    parked = scene.workers[0]
    parked.parks()
    parked.syscall = number
    scene.answers = False
    scene.run(50.0)
    assert _verdicts(scene) == []


@pytest.mark.parametrize("number", ["7", "271", "-1", "running"])
def test_a_sleeping_thread_is_not_believed_to_stand_still_where_its_system_call_may_be_poll(number: str) -> None:
    scene = Scene()
    scene.workers[0].parks()
    scene.workers[0].shows(syscall=number, wchan="0")  # a kernel that hides wchan
    scene.answers = False
    scene.run(50.0)
    assert _verdicts(scene) == []


def test_a_parked_pmd_is_known_by_its_kernel_function_where_poll_has_another_number() -> None:
    scene = Scene()
    parked = scene.workers[0]
    parked.parks()
    parked.syscall = "73"  # ppoll on aarch64
    scene.answers = False
    scene.run(50.0)
    assert _verdicts(scene) == []


def test_a_sleeping_thread_keeps_its_state_without_the_right_to_read_its_system_call() -> None:
    scene = Scene(privileged=False)
    stalled = scene.workers[0]
    stalled.fails(Cause.BLOCKED)
    scene.answers = False
    scene.run(50.0)
    assert _verdicts(scene) == []


def test_a_traced_thread_is_proven_without_that_right() -> None:
    scene = Scene(privileged=False)
    stalled = scene.workers[0]
    stalled.fails(Cause.TRACED)
    scene.answers = False
    scene.run(2.0)
    assert scene.state(stalled) is DEAD


@pytest.mark.parametrize("why", PROVEN_BY_PROC, ids=str)
def test_a_thread_that_ran_between_two_looks_did_not_stand_still(why: Cause) -> None:
    """strace, perf trace or a breakpoint: each look happens to meet a stop, and it works in between."""
    scene = Scene()
    scene.workers[0].shows(**{**FAULTS[why], "runs": 0.5})
    scene.answers = False
    scene.run(10.0)
    assert _verdicts(scene) == []


def test_last_seen_stands_still_while_the_main_thread_is_silent() -> None:
    scene = Scene()
    before = scene.pmd(scene.workers[0]).progress
    scene.answers = False
    scene.run(20.0)
    assert scene.pmd(scene.workers[0]).progress.mono <= before.mono + scene.period
    scene.answers = True
    scene.run(1.0)
    assert scene.pmd(scene.workers[0]).progress.mono > scene.now - 1.0


def test_a_main_thread_busy_for_half_a_minute_is_no_stall_of_anybody() -> None:
    scene = Scene(cores=4)
    parked, working, asleep, starved = scene.workers
    parked.parks()
    asleep.shows(state="S", runs=0.01, syscall="230", wchan="hrtimer_nanosleep")
    starved.shows(runs=0.0)
    working.shows(runs=0.5)
    scene.answers = False
    scene.run(27.0)
    scene.answers = True
    parked.recovers()
    scene.run(5.0)
    assert _verdicts(scene) == []


# --- the daemon itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_a_daemon_that_comes_two_seconds_late_has_proven_nothing(interval: float) -> None:
    scene = Scene(interval=interval)
    for _ in range(5):
        scene.workers[0].works = False  # it stands still with the daemon, as in a suspended machine
        scene.oversleeps(2.0)
        scene.workers[0].works = True
        scene.run(2 * scene.period)
    assert _verdicts(scene) == []


def test_a_stall_in_blind_time_is_told_one_interval_after_it_can_be_seen() -> None:
    scene = Scene()
    stalled = scene.workers[0]
    stalled.fails(Cause.SPINNING)
    scene.oversleeps(20.0)
    began = scene.now
    scene.run(0.5)
    assert scene.state(stalled) is ALIVE
    scene.run(0.8)
    assert scene.states(stalled, began)[:1] == [MISSING]


def test_steps_of_the_wall_clock_change_no_verdict() -> None:
    scene = Scene()
    for step in (86_400_000, -172_800_000, 1):
        scene.wall_ms += step
        scene.run(3.0)
    assert _verdicts(scene) == []
    assert scene.pmd(scene.workers[0]).progress.wall_ms == pytest.approx(scene.moment.wall_ms, abs=250)


def test_counters_that_cannot_be_read_prove_nothing() -> None:
    scene = Scene()
    scene.workers[0].fails(Cause.SPINNING)
    scene.blind = "answered garbage"
    scene.run(60.0)
    assert _verdicts(scene) == []


# --- threads come and go -------------------------------------------------------------------------


def test_a_thread_that_vanished_with_its_core_was_removed_on_purpose() -> None:
    scene = Scene()
    removed, kept = scene.workers
    removed.exists = removed.counted = False
    scene.run(5.0)
    assert scene.state(removed) is None
    assert scene.state(kept) is ALIVE
    assert _verdicts(scene) == []
    assert scene.register.history[-1].evidence == "removed by vswitchd"


def test_a_thread_that_vanished_while_its_core_is_still_counted_has_exited() -> None:
    scene = Scene()
    exited = scene.workers[0]
    exited.exists = exited.works = False
    began = scene.now
    scene.run(4.0)
    assert scene.states(exited, began) == [GONE]
    assert 1.0 <= scene.when(exited, GONE) - began <= 3.5
    assert scene.pmd(exited).cause is Cause.EXITED
    assert scene.pmd(exited).misses == 1


def test_a_thread_that_exits_while_it_is_dead_keeps_the_cause_found_first() -> None:
    scene = Scene()
    stalled = scene.workers[0]
    stalled.fails(Cause.TRACED)
    scene.run(1.5)
    assert scene.state(stalled) is DEAD
    stalled.exists = False
    scene.run(1.0)
    assert scene.state(stalled) is GONE
    assert scene.pmd(stalled).cause is Cause.TRACED


def test_a_gone_pair_stays_until_vswitchd_says_that_the_core_was_removed() -> None:
    scene = Scene()
    exited = scene.workers[0]
    exited.exists = exited.works = False
    scene.run(600.0)
    assert scene.state(exited) is GONE
    exited.counted = False
    scene.run(1.0)
    assert scene.state(exited) is None


def test_a_thread_that_vanishes_while_the_main_thread_is_silent_is_no_verdict() -> None:
    scene = Scene()
    removed = scene.workers[0]
    scene.answers = False
    scene.run(1.0)
    removed.exists = False
    scene.run(20.0)
    assert scene.state(removed) is ALIVE
    removed.counted = False
    scene.answers = True
    scene.run(1.0)
    assert scene.state(removed) is None
    assert _verdicts(scene) == []


@pytest.mark.parametrize("silence", [1.05, 1.5])
def test_a_stalled_thread_that_vanishes_while_the_main_thread_is_silent_gets_no_further_verdict(silence: float) -> None:
    """`ovs-appctl exit` while a PMD stalls: its threads go first, and nobody can be asked."""
    scene = Scene()
    stalled = scene.workers[0]
    stalled.fails(Cause.STARVED)
    scene.run(silence)
    before = scene.state(stalled)
    scene.answers = False
    scene.run(0.5)
    stalled.exists = False
    scene.run(20.0)
    assert scene.state(stalled) is before


def test_another_thread_on_the_same_core_replaces_the_one_before() -> None:
    scene = Scene()
    old = scene.workers[0]
    old.exists = old.counted = False
    new = scene.add(old.core)
    began = scene.now
    scene.run(3.0)
    assert scene.state(old) is None
    assert scene.states(new, began) == [UNUSED, ALIVE]
    assert _verdicts(scene) == []


def test_the_same_tid_with_another_start_is_another_pmd() -> None:
    scene = Scene()
    old = scene.workers[0]
    old.exists = old.counted = False
    new = scene.add(old.core, tid=old.tid, start=old.start + 9000)
    scene.run(3.0)
    assert new.id == ThreadId(FIRST, old.tid, old.start + 9000)
    assert scene.state(old) is None
    assert scene.state(new) is ALIVE
    assert scene.pmd(new).misses == 0
    assert _verdicts(scene) == []


def test_a_thread_that_one_look_overlooked_has_not_vanished() -> None:
    scene = Scene()
    overlooked = scene.workers[0]
    overlooked.exists = False
    scene.run(1.1)
    overlooked.exists = True
    scene.run(5.0)
    overlooked.fails(Cause.SPINNING)
    began = scene.now
    scene.run(4.0)
    assert scene.states(overlooked, began) == [MISSING, DEAD, GONE]
    assert scene.pmd(overlooked).cause is Cause.SPINNING


def test_pmds_of_several_datapaths_on_one_core_get_no_verdict() -> None:
    scene = Scene(cores=1)
    twins = [scene.add(7), scene.add(7)]
    scene.run(3.0)
    twins[0].fails(Cause.SPINNING)
    scene.run(10.0)
    assert _verdicts(scene) == []
    assert scene.state(scene.workers[0]) is ALIVE


def test_a_second_datapath_on_its_core_ends_the_verdicts_on_a_pmd() -> None:
    scene = Scene(cores=2)
    shared = scene.workers[0]
    scene.add(shared.core)
    scene.run(1.0)
    shared.fails(Cause.SPINNING)
    scene.run(10.0)
    assert _verdicts(scene) == []
    assert scene.state(scene.workers[1]) is ALIVE


# --- the process ---------------------------------------------------------------------------------


def test_a_crash_makes_every_pmd_gone_at_once() -> None:
    scene = Scene(interval=60.0)
    workers = list(scene.workers)
    scene.ends(orderly=False)
    assert [scene.when(worker, GONE) for worker in workers] == [scene.now] * 2
    assert [scene.pmd(worker).cause for worker in workers] == [Cause.PROCESS_GONE] * 2
    assert scene.vswitchd() is VswitchdState.GONE
    assert len(column.keepalive(scene.snapshot)) == 2


def test_a_new_process_that_is_silent_while_it_starts_is_not_held_up_by_the_pmds_of_the_crashed_one() -> None:
    scene = Scene()
    workers = list(scene.workers)
    scene.ends(orderly=False)
    scene.starts()
    scene.run(0.5)  # it answers, and has no PMDs yet …
    scene.answers, scene.main_state = False, "R"
    scene.run(10.0)  # … which it takes its time to make
    assert [scene.state(worker) for worker in workers] == [GONE, GONE]
    assert scene.vswitchd() is not VswitchdState.HUNG
    assert scene.register.vswitchd.culprit == ""


def test_an_orderly_stop_keeps_the_states_until_its_deadline() -> None:
    scene = Scene()
    workers = list(scene.workers)
    scene.ends(orderly=True)
    began = scene.now
    scene.run(59.0)
    assert [scene.state(worker) for worker in workers] == [ALIVE, ALIVE]
    assert scene.vswitchd() is VswitchdState.RESTARTING
    scene.run(2.5)
    assert [scene.state(worker) for worker in workers] == [GONE, GONE]
    assert [scene.pmd(worker).cause for worker in workers] == [Cause.PROCESS_GONE] * 2
    assert scene.vswitchd() is VswitchdState.GONE
    assert scene.when(workers[0], GONE) - began > 60.0


def test_a_kill_after_the_pmds_were_gone_is_an_orderly_stop() -> None:
    """`ovs-appctl exit` lets the PMD threads go first; ovs-ctl ends a slow process with SIGKILL, its pidfile stays."""
    scene = Scene()
    workers = list(scene.workers)
    scene.answers = False
    for worker in workers:
        worker.exists = False
    scene.run(7.0)
    scene.ends(orderly=False)
    scene.run(30.0)
    assert scene.vswitchd() is VswitchdState.RESTARTING
    assert [scene.state(worker) for worker in workers] == [ALIVE, ALIVE]
    assert _verdicts(scene) == []


def test_a_kill_after_pmds_without_rxqs_were_gone_is_an_orderly_stop_too() -> None:
    scene = Scene()
    for worker in scene.workers:
        worker.rxqs = ()
        worker.parks()
    scene.run(5.0)
    scene.answers = False
    for worker in scene.workers:
        worker.exists = False
    scene.run(7.0)
    scene.ends(orderly=False)
    assert scene.vswitchd() is VswitchdState.RESTARTING


def test_a_crash_after_one_thread_exited_is_still_a_crash() -> None:
    scene = Scene()
    exited, worker = scene.workers
    exited.exists = exited.works = False
    scene.run(600.0)
    assert scene.state(exited) is GONE
    scene.ends(orderly=False)
    assert scene.state(worker) is GONE
    assert scene.vswitchd() is VswitchdState.GONE


def test_the_pairs_of_the_old_process_leave_together_when_the_new_ones_are_registered() -> None:
    scene = Scene(cores=4)
    old = list(scene.workers)
    scene.ends(orderly=False)
    scene.run(5.0)
    scene.starts(SECOND)
    scene.run(1.0)
    assert [scene.state(worker) for worker in old] == [GONE] * 4
    new = [scene.add(core) for core in range(4)]
    scene.run(5.0)
    assert [scene.state(worker) for worker in new] == [ALIVE] * 4
    for register in scene.registers:
        left = [worker for worker in old if worker.id in register.pmds]
        came = [worker for worker in new if _is_registered(register, worker)]
        assert len(left) in (0, 4)
        assert not (left and came)


@pytest.mark.parametrize("late", [0.03, 0.4, 60.0])
def test_new_pmds_are_registered_together_though_proc_names_one_of_them_late(late: float) -> None:
    scene = Scene()
    old = list(scene.workers)
    scene.ends(orderly=True)
    scene.run(0.5)
    scene.starts(SECOND)
    first, second = (scene.add(core) for core in range(2))
    second.exists = False
    began, told = scene.now, len(scene.registers)
    scene.run(late)
    second.exists = True
    scene.run(1.0)
    assert [scene.state(worker) for worker in (first, second)] == [ALIVE, ALIVE]
    for register in scene.registers[told:]:
        left = [worker for worker in old if worker.id in register.pmds]
        came = [worker for worker in (first, second) if _is_registered(register, worker)]
        assert (left, came) in ((old, []), ([], [first, second]), ([], [first]))
    alone = next(register for register in scene.registers[told:] if _is_registered(register, first))
    assert _is_registered(alone, second) == (late < scene.interval)  # one that shows no thread is not waited for
    assert scene.when(first, ALIVE) - began <= scene.interval + 2 * scene.period


@pytest.mark.parametrize("late", [0.0, 0.005, 0.1])
def test_new_pmds_are_registered_together_though_one_gets_its_port_a_moment_later(late: float) -> None:
    """vswitchd answers between two ports of a start, too (seen on a real one at 100 ms: a pair was away for 5 ms)."""
    scene = Scene()
    old = list(scene.workers)
    scene.ends(orderly=True)
    scene.run(0.5)
    scene.starts(SECOND)
    first, second = (scene.add(core) for core in range(2))
    queues, second.rxqs = second.rxqs, ()
    began, told = scene.now, len(scene.registers)
    scene.run(late)
    second.rxqs = queues
    scene.run(2.0)
    assert all(
        (_is_registered(register, first) and _is_registered(register, second)) != (old[0].id in register.pmds)
        for register in scene.registers[told:]
    )
    assert scene.when(second, ALIVE) - began <= scene.interval / 2 + late


def test_a_new_pmd_that_has_no_port_holds_the_others_up_for_a_look_only() -> None:
    scene = Scene()
    scene.ends(orderly=True)
    scene.run(0.5)
    scene.starts(SECOND)
    began, first, idle = scene.now, scene.add(0), scene.add(1, rxqs=0)
    scene.run(2.0)
    assert scene.when(first, ALIVE) - began <= scene.interval / 2 + 2 * scene.latency
    assert scene.state(idle) is UNUSED


def _is_registered(register: Register, worker: Worker) -> bool:
    return register.pmds.get(worker.id, pmd(state=UNUSED)).state is not UNUSED


def test_a_restart_inside_its_deadline_is_innocent() -> None:
    scene = Scene()
    scene.ends(orderly=True)
    scene.run(20.0)
    scene.starts(SECOND)
    scene.answers = False
    scene.run(30.0)
    new = [scene.add(core) for core in range(2)]
    scene.run(5.0)
    scene.answers = True
    scene.run(3.0)
    assert _verdicts(scene) == []
    assert [scene.state(worker) for worker in new] == [ALIVE, ALIVE]
    assert scene.vswitchd() is VswitchdState.RUNNING


def test_a_new_process_that_brings_no_pmds_gets_the_deadline_once_more_and_no_longer() -> None:
    scene = Scene()
    workers = list(scene.workers)
    scene.ends(orderly=True)
    scene.run(50.0)
    scene.starts(SECOND)
    scene.run(55.0)
    assert [scene.state(worker) for worker in workers] == [ALIVE, ALIVE]
    scene.run(6.0)
    assert [scene.state(worker) for worker in workers] in ([GONE, GONE], [None, None])


def test_another_process_in_the_place_of_the_old_one_ends_its_pmds() -> None:
    scene = Scene()
    workers = list(scene.workers)
    scene.starts(SECOND)
    scene.run(0.3)
    assert [scene.pmd(worker).state for worker in workers] == [GONE, GONE]
    assert [scene.pmd(worker).cause for worker in workers] == [Cause.PROCESS_GONE] * 2


def test_the_same_pid_with_another_start_is_another_process() -> None:
    scene = Scene()
    workers = list(scene.workers)
    scene.starts(FIRST._replace(start=FIRST.start + 1))
    scene.run(0.3)
    assert [scene.pmd(worker).state for worker in workers] == [GONE, GONE]


def test_the_end_of_a_process_that_nobody_watches_means_nothing() -> None:
    scene = Scene()
    looks = Looks(scene.moment, FIRST, Ended(SECOND, orderly=False))
    after = heartbeat.judge(scene.register, looks, SETTINGS, 1.0, 0.2)
    assert after.pmds == scene.register.pmds
    assert after.vswitchd.state is VswitchdState.RUNNING


# --- sleep ---------------------------------------------------------------------------------------


def test_load_based_sleep_is_told_from_60_percent_up_until_below_40() -> None:
    scene = Scene()
    worker = scene.workers[0]
    told = []
    for part in (0.0, 0.55, 0.65, 0.55, 0.45, 0.35, 0.45, 0.55, 0.7):
        worker.sleeps = part
        scene.run(7.0)  # two whole looks, at least
        told.append(scene.state(worker))
    assert told == [ALIVE, ALIVE, SLEEP, SLEEP, SLEEP, ALIVE, ALIVE, ALIVE, SLEEP]


def test_sleep_is_no_transition_and_no_miss() -> None:
    scene = Scene()
    worker = scene.workers[0]
    before = scene.register.history
    worker.sleeps = 0.9
    scene.run(5.0)
    worker.sleeps = 0.0
    scene.run(5.0)
    assert scene.states(worker)[-2:] == [SLEEP, ALIVE]
    assert scene.register.history == before
    assert scene.pmd(worker).misses == 0


def test_a_sleeping_pmd_that_stalls_is_missing_like_any_other() -> None:
    scene = Scene()
    worker = scene.workers[0]
    worker.sleeps = 0.9
    scene.run(5.0)
    worker.fails(Cause.BLOCKED)
    began = scene.now
    scene.run(5.0)
    assert scene.states(worker, began) == [MISSING, DEAD, GONE]
    assert scene.pmd(worker).misses == 1


def test_the_longest_sleep_between_two_iterations_is_no_silence() -> None:
    scene = Scene(interval=0.1)
    for worker in scene.workers:
        worker.shows(sleeps=1.0, rate=95.0, state="S", runs=0.01, syscall="230", wchan="hrtimer_nanosleep")
    scene.run(30.0)
    assert _verdicts(scene) == []
    assert [scene.state(worker) for worker in scene.workers] == [SLEEP, SLEEP]


# --- causes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", FAULTS, ids=str)
def test_the_cause_of_a_stall_is_found_and_stays_through_gone(why: Cause) -> None:
    scene = Scene()
    worker = scene.workers[0]
    worker.fails(why)
    scene.run(1.3)
    found = scene.pmd(worker)
    assert (found.state, found.cause) == (DEAD, why)
    other = Cause.BLOCKED if why is not Cause.BLOCKED else Cause.TRACED
    worker.fails(other)
    scene.run(5.0)
    gone = scene.pmd(worker)
    assert (gone.state, gone.cause, gone.cause_since, gone.witness) == (GONE, why, found.cause_since, found.witness)
    assert scene.register.history[-1].cause == why


def test_every_verdict_on_a_stall_carries_its_cause_in_the_history() -> None:
    scene = Scene()
    scene.workers[0].fails(Cause.TRACED)
    scene.run(5.0)
    lines = [line for line in scene.register.history if line.new in BAD]
    assert [(line.old, line.new, line.cause) for line in lines] == [
        (ALIVE, MISSING, Cause.TRACED),
        (MISSING, DEAD, Cause.TRACED),
        (DEAD, GONE, Cause.TRACED),
    ]
    assert all("gdb (pid 12)" in line.evidence for line in lines)


def _look(at: float, state: str, run: float | None, close: CloseLook | None = None) -> Any:
    return thread(at=at, state=state, run_ns=None if run is None else round(run * 1e9), close=close)


@pytest.mark.parametrize(
    ("state", "run", "close", "expected", "words"),
    [
        ("t", 0.0, CloseLook("-1", "ptrace_stop", "gdb (pid 12)"), Cause.TRACED, "gdb (pid 12)"),
        ("t", None, None, Cause.TRACED, "a tracer"),
        ("T", 0.0, CloseLook("-1", "do_signal_stop", ""), Cause.STOPPED, "state T"),
        ("Z", 0.0, None, Cause.EXITED, "state Z"),
        ("X", 0.0, None, Cause.EXITED, "state X"),
        ("S", 0.0, CloseLook("-1", "get_signal", ""), Cause.FROZEN, "freezer"),
        ("S", 0.0, CloseLook(None, "do_freezer_trap", ""), Cause.FROZEN, "freezer"),
        ("D", 0.0, CloseLook("7", "__refrigerator", ""), Cause.FROZEN, "freezer"),
        ("D", 0.0, CloseLook("58", "kernel_clone", ""), Cause.UNINTERRUPTIBLE, "waiting in kernel_clone"),
        ("D", 0.0, None, Cause.UNINTERRUPTIBLE, "state D"),
        ("S", 0.0, CloseLook("34", "__do_sys_pause", ""), Cause.BLOCKED, "in system call 34"),
        ("S", 0.0, None, Cause.BLOCKED, "state S"),
        ("R", None, None, Cause.UNKNOWN, "not readable"),
        ("R", 0.97, None, Cause.SPINNING, "97%"),
        ("S", 0.5, CloseLook("24", "0", ""), Cause.SPINNING, "50%"),  # a spin that yields, met in its yield
        ("D", 0.5, None, Cause.SPINNING, "50%"),
        ("R", 0.0, None, Cause.STARVED, "ran 0.0%"),
        ("R", 0.049, None, Cause.STARVED, "ran 4.9%"),
        ("R", 0.05, None, Cause.SPINNING, "5%"),
    ],
)
def test_each_row_of_the_table_of_causes(
    state: str, run: float | None, close: CloseLook | None, expected: Cause, words: str
) -> None:
    verdict = cause.of_thread(_look(10.0, "R", 0.0), _look(11.0, state, run, close))
    assert verdict.cause is expected
    assert words in verdict.witness


def test_one_look_alone_says_nothing_of_run_time() -> None:
    look = _look(10.0, "R", 5.0)
    assert cause.of_thread(look, look).cause is Cause.UNKNOWN


def test_a_state_letter_that_nobody_knows_is_no_error() -> None:
    for letter in ("?", "I", "P", ""):
        verdict = cause.of_thread(_look(10.0, "R", 0.0), _look(11.0, letter, 0.0))
        assert verdict.cause in Cause


# --- what is counted and remembered --------------------------------------------------------------


def test_each_stall_is_one_miss_however_far_it_goes() -> None:
    scene = Scene()
    worker, other = scene.workers
    for silence in (1.1, 2.0, 6.0):
        worker.fails(Cause.TRACED)
        scene.run(silence)
        worker.recovers()
        scene.run(1.0)
    assert scene.pmd(worker).misses == 3
    assert scene.pmd(other).misses == 0
    assert scene.pmd(worker).longest == pytest.approx(6.0, abs=0.3)


def test_the_history_tells_every_step_in_its_order() -> None:
    scene = Scene()
    worker = scene.workers[0]
    worker.fails(Cause.SPINNING)
    scene.run(4.0)
    worker.recovers()
    scene.run(1.0)
    lines = [line for line in scene.register.history if line.who == worker.name]
    assert [(line.old, line.new) for line in lines] == [
        (UNUSED, ALIVE),
        (ALIVE, MISSING),
        (MISSING, DEAD),
        (DEAD, GONE),
        (GONE, ALIVE),
    ]
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert lines[-1].evidence.startswith("progress again after ")


def test_the_history_does_not_grow_for_ever() -> None:
    scene = Scene(interval=0.1)
    worker = scene.workers[0]
    for _ in range(200):
        worker.fails(Cause.TRACED)
        scene.run(0.35)
        worker.recovers()
        scene.run(0.05)
    assert scene.pmd(worker).misses == 200
    assert len(scene.register.history) == heartbeat.HISTORY
    assert scene.register.history[-1].new is ALIVE


# --- the interval is changed while it watches ----------------------------------------------------


def test_a_shorter_interval_counts_the_silence_that_is_already_proven() -> None:
    scene = Scene(interval=60.0)
    worker = scene.workers[0]
    worker.fails(Cause.SPINNING)
    scene.run(20.0)
    assert scene.state(worker) is ALIVE
    scene.retunes(1.0)
    began = scene.now
    scene.run(2.0)
    assert scene.states(worker, began) == [MISSING, DEAD, GONE]


def test_a_longer_interval_takes_no_verdict_back_and_adds_none_before_its_time() -> None:
    scene = Scene(interval=1.0)
    worker, healthy = scene.workers
    worker.fails(Cause.SPINNING)
    scene.run(1.05)
    assert scene.state(worker) is MISSING
    scene.retunes(10.0)
    began = scene.now
    scene.run(8.0)
    assert scene.states(worker, began) == []
    scene.run(30.0)
    assert scene.states(worker, began) == [DEAD, GONE]
    assert scene.states(healthy, began) == []


@pytest.mark.parametrize(("old", "new"), [(1.0, 0.1), (0.1, 1.0), (10.0, 0.1), (0.1, 30.0)])
def test_a_changed_interval_is_no_miss_of_a_healthy_pmd(old: float, new: float) -> None:
    scene = Scene(interval=old)
    scene.retunes(new)
    scene.run(5 * max(old, new))
    assert _verdicts(scene) == []


# --- the table -----------------------------------------------------------------------------------


def test_the_table_has_an_answer_for_every_sight_in_every_state() -> None:
    assert set(heartbeat.TABLE) == set(heartbeat.Sight)
    assert all(set(row) == set(State) for row in heartbeat.TABLE.values())


def test_the_table_lets_nobody_skip_missing_but_who_ended() -> None:
    ended = (heartbeat.Sight.EXITED, heartbeat.Sight.ENDED)
    for sight, row in heartbeat.TABLE.items():
        if sight not in ended:
            assert {old for old, new in row.items() if new is DEAD} <= {MISSING, DEAD}
            assert {old for old, new in row.items() if new is GONE} <= {DEAD, GONE}


def test_progress_is_well_whatever_it_was_before() -> None:
    for sight in (heartbeat.Sight.AWAKE, heartbeat.Sight.ASLEEP, heartbeat.Sight.UNPOLLED):
        assert {new for new in heartbeat.TABLE[sight].values() if new in BAD} == set()


# --- vswitchd ------------------------------------------------------------------------------------


def test_silence_of_the_main_thread_without_evidence_is_hung_only_after_a_minute() -> None:
    scene = Scene()
    scene.answers = False
    scene.run(59.0)
    assert scene.vswitchd() is VswitchdState.RUNNING
    assert scene.register.vswitchd.silent > 57.0
    scene.run(3.0)
    assert scene.vswitchd() is VswitchdState.HUNG
    scene.answers = True
    scene.run(1.0)
    assert scene.vswitchd() is VswitchdState.RUNNING
    assert scene.register.vswitchd.silent == 0.0


@pytest.mark.parametrize("letter", ["t", "D"])
def test_silence_of_a_main_thread_that_cannot_run_is_hung_after_four_seconds(letter: str) -> None:
    scene = Scene(answers=True)
    scene.answers, scene.main_state = False, letter
    scene.run(3.5)
    assert scene.vswitchd() is VswitchdState.RUNNING
    scene.run(1.5)
    assert scene.vswitchd() is VswitchdState.HUNG
    assert f"state {letter}" in scene.register.vswitchd.witness


def test_a_stopped_main_thread_is_told_at_once_and_taken_back() -> None:
    scene = Scene()
    scene.answers, scene.main_state = False, "T"
    scene.run(1.0)
    assert scene.vswitchd() is VswitchdState.STOPPED
    scene.main_state = "S"
    scene.run(1.0)
    assert scene.vswitchd() is VswitchdState.RUNNING


@pytest.mark.parametrize("state", [VswitchdState.HUNG, VswitchdState.STARTING, VswitchdState.RUNNING])
def test_a_control_socket_that_lets_nobody_in_proves_nothing(state: VswitchdState) -> None:
    was = running()._replace(state=state, silent=70.0, witness="no answer for 70 s")
    looks = Looks(Moment(1000.0, WALL_MS), FIRST, main=MainLook("S", 0.0, answered=False))
    assert vswitchd.judge(was, looks, (), SETTINGS).state is state


def test_a_main_thread_that_waits_for_a_stalled_pmd_names_it() -> None:
    scene = Scene()
    culprit = scene.workers[1]
    scene.answers, scene.main_state = False, "R"
    culprit.fails(Cause.TRACED)
    scene.run(6.0)
    vswitchd = scene.register.vswitchd
    assert vswitchd.state is VswitchdState.HUNG
    assert vswitchd.culprit == culprit.name
    scene.answers = True
    culprit.recovers()
    scene.run(2.0)
    assert scene.register.vswitchd.culprit == ""


@pytest.mark.parametrize(
    ("event", "state", "culprit"),
    [
        (Blocked(4001, "pmd-c01/id:7"), VswitchdState.HUNG, "pmd-c01/id:7"),
        (Blocked(8000, "revalidator5"), VswitchdState.HUNG, ""),  # no PMD
        (Blocked(2000, "pmd-c01/id:7"), VswitchdState.RUNNING, ""),  # a healthy one that got no CPU had 1039 ms
        (Blocked(8000, "pmd-c01/id:7", "urcu3"), VswitchdState.RUNNING, ""),  # main waits for nobody
    ],
)
def test_the_log_of_a_silent_main_thread_tells_for_whom_it_waits(
    event: Blocked, state: VswitchdState, culprit: str
) -> None:
    scene = Scene()
    scene.answers, scene.main_state = False, "S"
    scene.run(4.1)
    scene.logged.append(event)
    scene.run(2.0)
    vswitchd = scene.register.vswitchd
    assert (vswitchd.state, vswitchd.culprit) == (state, culprit)
    assert (event.who in vswitchd.witness) is (state is VswitchdState.HUNG)
    scene.answers = True
    scene.run(2.0)
    assert (scene.vswitchd(), scene.register.vswitchd.culprit) == (VswitchdState.RUNNING, "")
    scene.answers = False
    scene.run(10.0)
    assert scene.vswitchd() is VswitchdState.RUNNING  # what was logged of another silence is no evidence now


def test_a_pmd_that_starves_a_busy_main_thread_is_not_told_as_stalled() -> None:
    scene = Scene()
    scene.answers, scene.main_state = False, "R"
    scene.run(30.0)
    assert scene.vswitchd() is VswitchdState.RUNNING
    assert scene.register.vswitchd.culprit == ""


def test_the_number_of_a_silence_does_not_grow_while_the_state_stays() -> None:
    scene = Scene()
    scene.answers = False
    scene.run(2.0)
    noted = scene.register.vswitchd.noted
    assert noted >= 1.0
    scene.run(20.0)
    assert scene.register.vswitchd.noted == noted


def test_before_the_first_answer_a_process_is_starting() -> None:
    scene = Scene(cores=0)
    scene.starts(SECOND)
    scene.answers = False
    scene.run(5.0)
    assert scene.vswitchd() is VswitchdState.STARTING
    scene.answers = True
    scene.run(1.0)
    assert scene.vswitchd() is VswitchdState.RUNNING


def test_a_host_without_vswitchd_is_told_as_such() -> None:
    register = heartbeat.judge(heartbeat.EMPTY, Looks(Moment(5.0, 5000), None), SETTINGS, 1.0, 0.2)
    assert register.vswitchd.state is VswitchdState.GONE
    assert register.vswitchd.since == Moment(5.0, 5000)
    assert register.pmds == {}


# --- when to look again --------------------------------------------------------------------------


def test_no_look_is_near_while_every_pmd_works() -> None:
    scene = Scene()
    assert heartbeat.next_look(scene.register, scene.interval) == float("inf")
    assert heartbeat.suspects(scene.register) == frozenset()


def test_the_next_look_is_when_the_state_could_move() -> None:
    scene = Scene()
    worker = scene.workers[0]
    worker.fails(Cause.SPINNING)
    scene.run(0.5)
    assert heartbeat.suspects(scene.register) == {worker.tid}
    soon = heartbeat.next_look(scene.register, scene.interval)
    assert soon == pytest.approx(scene.pmd(worker).progress.mono + 1.0, abs=1e-6)


def test_a_look_that_brings_nothing_at_all_leaves_all_as_it_was() -> None:
    scene = Scene()
    scene.workers[0].fails(Cause.SPINNING)
    scene.run(1.05)
    looks = Looks(scene.moment, FIRST, main=MainLook("S", 0.0, answered=True))
    assert heartbeat.judge(scene.register, looks, SETTINGS, 1.0, 0.2) == scene.register


def test_an_rxq_list_alone_moves_a_pmd_to_unused() -> None:
    scene = Scene()
    empty = Looks(scene.moment, FIRST, main=MainLook("S", 0.0, answered=True), rxqs=Seen(scene.moment, ()))
    register = heartbeat.judge(scene.register, empty, SETTINGS, 1.0, 0.2)
    assert {known.state for known in register.pmds.values()} == {UNUSED}
    assert register.history[-1].evidence == "vswitchd lists no rxq for it"


def test_the_newest_name_of_a_thread_is_its_name() -> None:
    scene = Scene(cores=1)
    worker = scene.workers[0]
    renamed = thread(worker.core, worker.tid, at=scene.now + 1, number=99)
    looks = Looks(scene.moment, FIRST, threads=Seen(scene.moment, (renamed,)))
    register = heartbeat.judge(scene.register, looks, SETTINGS, 1.0, 0.2)
    assert register.pmds[worker.id].name == "pmd-c00/id:99"


def test_the_rxqs_that_it_serves_are_known_by_port_and_queue() -> None:
    scene = Scene(cores=0)
    worker = scene.add(4, rxqs=3)
    scene.run(3.0)
    assert scene.pmd(worker).rxqs == (Rxq("vhu4", 0), Rxq("vhu4", 1), Rxq("vhu4", 2))


def test_a_restart_keeps_the_process_named_while_it_runs() -> None:
    scene = Scene()
    assert scene.register.vswitchd._replace(since=running().since) == running()


@pytest.mark.parametrize("interval", [0.1, 0.2, 0.5])
def test_naps_shorter_than_the_interval_do_not_add_up_while_the_main_thread_is_silent(interval: float) -> None:
    """Load-based sleep: two looks may meet the same nap, but in between naps it ran."""
    scene = Scene(cores=1, interval=interval)
    worker = scene.workers[0]
    worker.shows(state="S", wchan="hrtimer_nanosleep", syscall="230", runs=0.0)
    scene.answers = False
    for _ in range(200):
        scene.run(0.45 * interval)
        worker.run += 20e-6
    assert _verdicts(scene) == []


def test_a_nap_takes_nothing_from_what_is_told_of_a_pmd_under_a_silent_main_thread() -> None:
    scene = Scene(cores=1)
    worker = scene.workers[0]
    worker.shows(state="S", wchan="hrtimer_nanosleep", syscall="230", runs=0.0)
    scene.answers = False
    told = []
    for _ in range(40):
        scene.run(0.3)
        told.append(scene.pmd(worker).witness)
        worker.run += 20e-6
    first = told.index(heartbeat.UNVERIFIED)
    assert first < 5
    assert set(told[first:]) == {heartbeat.UNVERIFIED}


@pytest.mark.parametrize("interval", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("phase", "later"), [(0.0, 0.02), (0.0, 0.06), (0.0, 0.3), (0.05, 0.9), (0.13, 0.02), (0.13, 0.3)]
)
def test_a_stall_before_the_main_thread_falls_silent_is_told_in_its_time(
    interval: float, phase: float, later: float
) -> None:
    """phase: of the stall, against the looks; later: the silence after the stall; both in intervals."""
    missing, dead = _stalls_before_main(interval, phase, later)
    assert 1.0 <= missing <= 1.25
    assert dead <= 1.5


@pytest.mark.parametrize("interval", [0.1, 0.5, 1.0])
def test_a_main_thread_silent_before_a_look_could_show_the_stall_delays_nothing(interval: float) -> None:
    """The look before the silence still showed progress: the run time was read with its answer."""
    missing, dead = _stalls_before_main(interval, 0.01, 0.2 if interval > 0.1 else 0.124)
    assert 1.0 <= missing <= 1.25
    assert dead <= 1.5


def test_how_long_a_pmd_made_no_progress_is_told_also_when_main_was_silent_meanwhile() -> None:
    scene = Scene()
    worker, _ = scene.workers
    worker.fails(Cause.BLOCKED)
    scene.answers = False
    scene.run(10.0)
    worker.recovers()
    scene.run(0.5)
    scene.answers = True
    scene.run(1.0)
    assert scene.pmd(worker).state is ALIVE
    told = next(line.evidence for line in reversed(scene.register.history) if line.who == worker.name)
    assert 10.0 <= float(told.removeprefix("progress again after ").removesuffix(" s")) <= 11.0


def _stalls_before_main(interval: float, phase: float, later: float) -> tuple[float, float]:
    """When MISSING and DEAD are told, in intervals since the stall."""
    scene = Scene(cores=2, interval=interval)
    worker = scene.workers[0]
    scene.run(phase * interval)
    begin = scene.now
    worker.fails(Cause.BLOCKED)
    scene.run(later * interval)
    scene.answers = False
    scene.run(3 * interval)
    return (scene.when(worker, State.MISSING) - begin) / interval, (scene.when(worker, State.DEAD) - begin) / interval


# --- starved, and ALIVE ----------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0.1, 1.0, 5.0])
def test_a_pmd_that_waits_for_its_cpu_is_alive_and_who_has_it_is_told(interval: float) -> None:
    scene = Scene(cores=2, interval=interval)
    worker, other = scene.workers
    begin = scene.now
    worker.shows(runs=0.05, waits=0.95)
    scene.run(3 * interval + 7.0)
    told = scene.pmd(worker)
    assert (told.state, told.cause) == (ALIVE, Cause.STARVED)
    assert told.cause_since.mono - begin >= 2.8 * interval
    assert re.fullmatch(r"runs \d+% and waits \d+% of the time, on CPU 3 ran python3 \(pid 77\)", told.witness)
    assert f"cause=starved;since={told.cause_since.wall_ms};" in column.detail(scene.snapshot, "1", 2)[worker.name]
    assert scene.pmd(other).cause is Cause.NONE
    scene.run(20.0)
    assert scene.pmd(worker).witness == told.witness  # no number in it changes while the cause stays
    assert _verdicts(scene) == []
    worker.shows(**HEALTHY, waits=0.1)
    scene.run(8.0)
    assert (scene.pmd(worker).cause, scene.pmd(worker).witness) == (Cause.NONE, "")


def test_starvation_comes_and_goes_with_hysteresis() -> None:
    scene = Scene(cores=1)
    worker = scene.workers[0]
    told = []
    for runs, waits in (
        (0.55, 0.40),
        (0.45, 0.20),
        (0.45, 0.40),
        (0.55, 0.20),
        (0.65, 0.30),
        (0.55, 0.40),
        (0.45, 0.30),
    ):
        worker.shows(runs=runs, waits=waits)
        scene.run(12.0)
        told.append(scene.pmd(worker).cause is Cause.STARVED)
    assert told == [False, False, True, True, False, False, True]


def test_a_pmd_that_sleeps_is_not_starved() -> None:
    scene = Scene(cores=1)
    scene.workers[0].shows(state="S", sleeps=0.9, runs=0.05, waits=0.05)
    scene.run(20.0)
    assert (scene.state(scene.workers[0]), scene.pmd(scene.workers[0]).cause) == (State.SLEEP, Cause.NONE)


def test_a_starved_pmd_that_stalls_gets_the_cause_of_its_stall() -> None:
    scene = Scene(cores=1)
    worker = scene.workers[0]
    worker.shows(runs=0.05, waits=0.95)
    scene.run(10.0)
    assert scene.pmd(worker).cause is Cause.STARVED
    worker.waits = 0.0
    worker.fails(Cause.TRACED)
    scene.run(2.0)
    assert (scene.state(worker), scene.pmd(worker).cause) == (State.DEAD, Cause.TRACED)


def test_a_starved_pmd_is_unverified_while_the_main_thread_is_silent_and_nobody_searches_for_who_has_its_cpu() -> None:
    scene = Scene(cores=1)
    worker = scene.workers[0]
    worker.shows(runs=0.05, waits=0.95)
    scene.run(10.0)
    assert scene.searches == 1
    scene.answers = False
    scene.run(30.0)
    assert (scene.pmd(worker).cause, scene.pmd(worker).witness) == (Cause.NONE, heartbeat.UNVERIFIED)
    assert scene.searches == 1
    scene.answers = True
    scene.run(8.0)
    assert scene.pmd(worker).cause is Cause.STARVED
    assert scene.searches == 2
