# SPDX-License-Identifier: Apache-2.0
"""Any sequence of looks keeps the laws of the heartbeat; any innocent life stays without a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_keepalive.core import heartbeat, observe
from ovs_keepalive.core.heartbeat import TABLE, Register
from ovs_keepalive.core.model import (
    Cause,
    CloseLook,
    Ended,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    Pmd,
    PmdBlock,
    PmdRxqs,
    ProcessId,
    Rxq,
    Seen,
    State,
    ThreadId,
    ThreadLook,
)
from ovs_keepalive.formats import column
from tests.looks import BAD, FAULTS, FIRST, HEALTHY, SECOND, SETTINGS, WALL_MS, WELL, Scene, Worker, block, snapshot

GRACE = 1e-6  # seconds by which sums of binary fractions may differ
ENDED = (Cause.EXITED, Cause.PROCESS_GONE)


# --- looks of every kind, in any order -----------------------------------------------------------

# Threads that may be there: two cores, a successor on each, a reused tid, and those of another process.
POOL = (
    ThreadId(FIRST, 11, 100),
    ThreadId(FIRST, 12, 100),
    ThreadId(FIRST, 13, 200),
    ThreadId(FIRST, 12, 300),
    ThreadId(SECOND, 11, 400),
    ThreadId(SECOND, 21, 400),
)
CORES = dict(zip(POOL, (0, 1, 0, 1, 0, 1), strict=True))
NAMES = {id: f"pmd-c{CORES[id]:02d}/id:{number}" for number, id in enumerate(POOL)}

CLOSE = st.none() | st.builds(
    CloseLook,
    st.sampled_from([None, "7", "34", "230", "271", "running", "-1"]),
    st.sampled_from([None, "", "0", "get_signal", "__refrigerator", "poll_schedule_timeout", "__do_sys_pause"]),
    st.sampled_from([None, "", "gdb (pid 12)"]),
)


class Face(NamedTuple):
    """One thread as it shows itself."""

    there: bool
    state: str
    ran: float | None  # part of the time since the last step
    close: CloseLook | None


class Step(NamedTuple):
    """One beat, made `times` times."""

    times: int
    pause: float
    event: str  # of the process
    threads: tuple[Face, ...] | str | None
    counters: tuple[object, ...] | str | None  # by core: Iterations, None: not printed, "absent", "twice"
    rxqs: tuple[int, ...] | str | None  # by core: number of rxqs, -1: not listed
    main: MainLook | None
    interval: float | None  # from now on
    write: bool  # whether the database took the column


FACES = st.builds(
    Face,
    st.sampled_from([True] * 6 + [False]),
    st.sampled_from("RRRSSDTtZX"),
    st.sampled_from([0.0, 0.0, 0.5, 0.01, None]),
    CLOSE,
)
STEPS = st.builds(
    Step,
    times=st.sampled_from([1, 1, 2, 6, 16]),
    pause=st.sampled_from([0.2, 0.2, 0.2, 0.02, 1.0, 3.0, 70.0]),
    event=st.sampled_from(["", "", "", "", "", "", "crash", "orderly", "switch", "vanish", "return"]),
    threads=st.none() | st.just("blind") | st.tuples(*[FACES] * len(POOL)),
    counters=st.none()
    | st.just("blind")
    | st.tuples(*[st.sampled_from([1, 1, 1, 1, 2, 3, None, "absent", "twice"])] * 2),
    rxqs=st.none() | st.just("blind") | st.tuples(*[st.sampled_from([1, 1, 2, 0, -1])] * 2),
    main=st.none()
    | st.builds(MainLook, st.sampled_from("SSRDTt?"), st.sampled_from([0.0, 0.0, 0.3, 2.0, 5.0, 70.0]), st.booleans()),
    interval=st.sampled_from([None] * 10 + [0.1, 1.0, 10.0]),
    write=st.booleans(),
)


class Look(NamedTuple):
    """One beat as it is judged, and what came of it."""

    before: Register
    looks: Looks
    interval: float
    period: float
    after: Register
    write: bool


class World:
    """Turns steps into looks and has them judged."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.process: ProcessId | None = FIRST
        self.interval = 1.0
        self.register = heartbeat.EMPTY
        self.run = dict.fromkeys(POOL, 0.0)

    def go(self, steps: list[Step]) -> list[Look]:
        beats = []
        for step in steps:
            self.interval = step.interval or self.interval
            for turn in range(step.times):
                self.now += step.pause
                beats.append(self._beat(step, step.event if turn == 0 else ""))
        return beats

    def _beat(self, step: Step, event: str) -> Look:
        at = Moment(self.now, WALL_MS + round(self.now * 1000))
        ended = self._event(event)
        period = max(0.002, min(self.interval / 5, 1.0))
        looks = Looks(
            at,
            self.process,
            ended,
            step.main,
            _look(at, step.threads, lambda faces: self._threads(step.pause, faces)),
            _look(at, step.counters, _counters),
            _look(at, step.rxqs, _rxqs),
        )
        if self.process is None:
            looks = Looks(at, None, ended)
        before = self.register
        self.register = heartbeat.judge(before, looks, SETTINGS, self.interval, period)
        return Look(before, looks, self.interval, period, self.register, step.write)

    def _event(self, event: str) -> Ended | None:
        was = self.process
        if event == "switch":
            self.process = SECOND if was == FIRST else FIRST
        elif event == "return":
            self.process = was or SECOND
        elif event:
            self.process = None
        return Ended(was, event == "orderly") if event in ("crash", "orderly") and was is not None else None

    def _threads(self, pause: float, faces: tuple[Face, ...]) -> tuple[ThreadLook, ...]:
        looks = []
        for id, face in zip(POOL, faces, strict=True):
            self.run[id] += (face.ran or 0.0) * pause
            if face.there and id.process == self.process:
                run = None if face.ran is None else round(self.run[id] * 1e9)
                core = frozenset({CORES[id]})
                looks.append(ThreadLook(self.now, id, NAMES[id], CORES[id], face.state, run, 0, core, 0, 0, face.close))
        return tuple(looks)


def _look(at: Moment, what: Any, see: Callable[[Any], Any]) -> Any:
    if what is None:
        return None
    return NotSeen(at, "refused") if what == "blind" else Seen(at, see(what))


def _counters(cores: tuple[object, ...]) -> tuple[PmdBlock, ...]:
    blocks: list[PmdBlock] = []
    for core, told in enumerate(cores):
        iterations = told if isinstance(told, int) else None
        blocks += [block(core, iterations)] * {"absent": 0, "twice": 2}.get(str(told), 1)
    return tuple(blocks)


def _rxqs(cores: tuple[int, ...]) -> tuple[PmdRxqs, ...]:
    return tuple(
        PmdRxqs("", 0, core, tuple(Rxq("p0", queue) for queue in range(count)))
        for core, count in enumerate(cores)
        if count >= 0
    )


def _state(register: Register, id: ThreadId) -> State:
    return register.pmds[id].state if id in register.pmds else State.UNUSED


def _unique(look: Look, pmd: Pmd) -> PmdBlock | None:
    """What the counters of this look tell of this PMD."""
    if not isinstance(look.looks.counters, Seen):
        return None
    blocks = [block for block in look.looks.counters.value if block.core == pmd.core]
    return blocks[0] if len(blocks) == 1 else None


many = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
LIVES = st.lists(STEPS, min_size=1, max_size=25)


@many
@given(LIVES)
def test_a_look_never_raises_and_changes_nothing_that_it_is_given(steps: list[Step]) -> None:
    world = World()
    for beat in world.go(steps):
        assert beat.after.pmds is not beat.before.pmds
    again = World()
    for step in steps:
        before = again.register
        kept = (dict(before.pmds), before.vswitchd, tuple(before.history))
        again.go([step])
        assert (before.pmds, before.vswitchd, before.history) == kept
    assert again.register == world.register


@many
@given(LIVES)
def test_every_transition_stands_in_the_table(steps: list[Step]) -> None:
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            assert any(row[_state(beat.before, id)] is pmd.state for row in TABLE.values())


@many
@given(LIVES)
def test_dead_and_gone_come_only_after_missing_was_told_but_for_an_end(steps: list[Step]) -> None:
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            old = _state(beat.before, id)
            over = pmd.vanished_at is not None or id.process != beat.after.vswitchd.process
            if pmd.state is State.DEAD:
                assert old in (State.MISSING, State.DEAD)
            if pmd.state is State.GONE and old is not State.GONE:
                assert old is State.DEAD or over
            if pmd.state is State.GONE and old in WELL:
                assert pmd.cause in ENDED


@many
@given(LIVES)
def test_a_verdict_needs_one_interval_of_proven_silence(steps: list[Step]) -> None:
    """The bound is computed from the looks alone: each proves no more than the time that was due to it."""
    proven: dict[ThreadId, float] = {}
    seen_at: dict[ThreadId, float] = {}
    for beat in World().go(steps):
        now, main = beat.looks.now.mono, beat.looks.main
        by_proc = isinstance(beat.looks.threads, Seen) and main is not None and main.silent > 0
        for id, pmd in beat.after.pmds.items():
            old = beat.before.pmds.get(id)
            if old is None or pmd.progress != old.progress or (pmd.rxqs and not old.rxqs):
                proven[id], seen_at[id] = 0.0, now
            elif _unique(beat, pmd) is not None or by_proc:
                proven[id] += min(now - seen_at[id], 1.5 * beat.period + 0.01)
                seen_at[id] = now
            if id.process != beat.after.vswitchd.process:
                continue
            if pmd.state in BAD and _state(beat.before, id) in WELL:
                assert proven[id] >= beat.interval - GRACE
            if pmd.state is State.GONE and _state(beat.before, id) is State.DEAD and pmd.vanished_at is None:
                assert proven[id] >= 3 * beat.interval - GRACE


@many
@given(LIVES)
def test_an_exit_is_told_only_when_vswitchd_asked_afterwards_still_counts_the_core(steps: list[Step]) -> None:
    confirmed: set[ThreadId] = set()
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            if pmd.vanished_at is None:
                confirmed.discard(id)
            elif id in beat.before.pmds and id.process == beat.after.vswitchd.process:
                rxqs = beat.looks.rxqs.value if isinstance(beat.looks.rxqs, Seen) else ()
                if _unique(beat, pmd) is not None or any(listed.core == pmd.core for listed in rxqs):
                    confirmed.add(id)
                if pmd.state is State.GONE and _state(beat.before, id) in (*WELL, State.MISSING):
                    assert id in confirmed


@many
@given(LIVES)
def test_progress_is_always_told_as_well_at_that_very_look(steps: list[Step]) -> None:
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            old, told = beat.before.pmds.get(id), _unique(beat, pmd)
            if old is None or told is None or id.process != beat.after.vswitchd.process:
                continue
            if None not in (old.iterations, told.iterations) and old.iterations != told.iterations:
                assert pmd.progress == beat.looks.now
                assert pmd.state in WELL
                assert (pmd.cause, pmd.witness, pmd.quiet) == (Cause.NONE, "", 0.0)


@many
@given(LIVES)
def test_last_seen_moves_only_with_the_iterations(steps: list[Step]) -> None:
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            old = beat.before.pmds.get(id)
            if old is not None and pmd.progress != old.progress:
                assert pmd.iterations != old.iterations
                assert isinstance(beat.looks.counters, Seen)


@many
@given(LIVES)
def test_a_look_that_sees_nothing_changes_no_state(steps: list[Step]) -> None:
    """But for the end of the process or of its deadline, and for a list of rxqs that is the last one to be had.

    A shorter interval may find enough in what was proven before it.
    """
    earlier = 0.0
    for beat in World().go(steps):
        looks = beat.looks
        blind = not any(isinstance(look, Seen) for look in (looks.threads, looks.counters, looks.rxqs))
        silent = looks.main is not None and looks.main.silent > 0
        same = beat.before.vswitchd.process == beat.after.vswitchd.process and beat.interval == earlier
        earlier = beat.interval
        if not blind or silent or not same or beat.before.vswitchd.deadline is not None:
            continue
        assert {id: pmd.state for id, pmd in beat.after.pmds.items()} == {
            id: pmd.state for id, pmd in beat.before.pmds.items()
        }


@many
@given(LIVES)
def test_misses_are_the_steps_from_well_to_bad_that_the_history_tells(steps: list[Step]) -> None:
    counted: dict[ThreadId, int] = {}
    for beat in World().go(steps):
        news = [line for line in beat.after.history if line.at == beat.looks.now]
        for id, pmd in beat.after.pmds.items():
            if id not in beat.before.pmds:
                counted[id] = 0
            counted[id] += sum(line.who == pmd.name and line.old in WELL and line.new in BAD for line in news)
            assert pmd.misses == counted[id]


@many
@given(LIVES)
def test_the_history_tells_every_change_but_sleep(steps: list[Step]) -> None:
    for beat in World().go(steps):
        news = {(line.who, line.old, line.new) for line in beat.after.history if line.at == beat.looks.now}
        for id, pmd in beat.after.pmds.items():
            old = _state(beat.before, id)
            if old is not pmd.state and {old, pmd.state} != {State.ALIVE, State.SLEEP}:
                assert (pmd.name, old, pmd.state) in news


@many
@given(LIVES)
def test_what_is_told_anew_carries_another_version(steps: list[Step]) -> None:
    for beat in World().go(steps):
        told = [
            (
                register.vswitchd.state,
                register.vswitchd.process,
                {id: (pmd.state is State.UNUSED, pmd.state in BAD, pmd.cause) for id, pmd in register.pmds.items()},
            )
            for register in (beat.before, beat.after)
        ]
        if told[0] != told[1]:
            assert beat.after.version != beat.before.version


@many
@given(LIVES)
def test_the_pmds_of_an_old_process_leave_all_at_once(steps: list[Step]) -> None:
    for beat in World().go(steps):
        present = beat.after.vswitchd.process
        strangers = [id for id, pmd in beat.after.pmds.items() if id.process != present and pmd.state in WELL[1:]]
        registered = [
            id for id, pmd in beat.after.pmds.items() if id.process == present and pmd.state is not State.UNUSED
        ]
        assert not (strangers and registered)


@many
@given(LIVES)
def test_a_cause_stays_until_progress(steps: list[Step]) -> None:
    for beat in World().go(steps):
        for id, pmd in beat.after.pmds.items():
            old = beat.before.pmds.get(id)
            assert (pmd.cause is Cause.NONE) == (pmd.witness == "")
            if pmd.state in WELL:
                assert pmd.cause is Cause.NONE
            if (
                old is not None
                and old.state in BAD
                and pmd.state in BAD
                and old.cause not in (Cause.NONE, Cause.UNKNOWN)
            ):
                assert (pmd.cause, pmd.witness, pmd.cause_since) == (old.cause, old.witness, old.cause_since)


@many
@given(LIVES)
def test_the_short_way_of_a_steady_look_comes_to_what_the_long_way_does(steps: list[Step]) -> None:
    beats = World().go(steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "all_steady", lambda *_: None)
        for beat in beats:
            long = heartbeat.judge(beat.before, beat.looks, SETTINGS, beat.interval, beat.period)
            assert _but_sleep(long) == _but_sleep(beat.after)


def _but_sleep(register: Register) -> object:
    # ALIVE and SLEEP go with the next refresh: a window of the shares late is not late.
    pmds = {
        id: pmd._replace(state=State.ALIVE, since=Moment(0.0, 0)) if pmd.state is State.SLEEP else pmd
        for id, pmd in register.pmds.items()
    }
    return {id: pmd._replace(since=Moment(0.0, 0)) for id, pmd in pmds.items()}, register.vswitchd, register.history


@many
@given(LIVES)
def test_the_column_never_says_dead_over_alive_without_missing_in_between(steps: list[Step]) -> None:
    written: dict[str, column.Pair] = {}
    for beat in World().go(steps):
        if not beat.write:
            continue
        now = snapshot(beat.after.pmds.values(), vswitchd=beat.after.vswitchd)
        step = column.staged(column.keepalive(now), written, now)
        ended = {column.clean(pmd.name) for pmd in now.pmds if pmd.cause in ENDED}
        assert step.keys() == column.keepalive(now).keys()
        for name, pair in step.items():
            was = written[name].state if name in written else State.ALIVE
            if pair.state in (State.DEAD, State.GONE) and was in WELL:
                assert name in ended
            assert column.parse(column.render(pair)) == pair
        written = step


# --- scenes: what really happens is known --------------------------------------------------------


class Event(NamedTuple):
    """Something innocent that happens to one of the PMDs, or to all."""

    kind: str
    which: int
    lasts: float


def _busy(scene: Scene, _worker: Worker, lasts: float) -> None:
    scene.answers = False
    scene.run(lasts)
    scene.answers = True


def _reconfigured(scene: Scene, worker: Worker, lasts: float) -> None:
    worker.parks()
    _busy(scene, worker, lasts)
    worker.recovers()


def _port_deleted(scene: Scene, worker: Worker, lasts: float) -> None:
    worker.parks()
    scene.answers = False
    scene.run(min(lasts, 0.2))
    worker.rxqs = ()
    scene.answers = True
    scene.run(lasts)


def _port_added(scene: Scene, worker: Worker, lasts: float) -> None:
    _busy(scene, worker, min(lasts, 0.2))
    worker.rxqs = (Rxq("p1", 0), Rxq("p1", 1))
    worker.recovers()
    scene.run(lasts)


def _core_removed(scene: Scene, worker: Worker, lasts: float) -> None:
    scene.answers = False
    scene.run(lasts / 2)
    worker.exists = worker.counted = worker.works = False
    scene.run(lasts / 2)
    scene.workers.remove(worker)
    scene.answers = True


def _core_added(scene: Scene, _worker: Worker, lasts: float) -> None:
    scene.add(max((worker.core for worker in scene.workers), default=0) + 1)
    _busy(scene, _worker, lasts)


def _stats_cleared(scene: Scene, worker: Worker, _lasts: float) -> None:
    worker.iterations = worker.slept = 0.0


def _sleepy(_scene: Scene, worker: Worker, _lasts: float) -> None:
    worker.recovers()
    worker.shows(sleeps=0.95, rate=100.0, state="S", runs=0.01, syscall="230", wchan="hrtimer_nanosleep")


def _wide_awake(_scene: Scene, worker: Worker, _lasts: float) -> None:
    worker.recovers()
    worker.shows(sleeps=0.0, rate=1e6, **HEALTHY)


def _rebalanced(scene: Scene, worker: Worker, lasts: float) -> None:
    other = scene.workers[0]
    worker.rxqs, other.rxqs = other.rxqs, worker.rxqs
    for each in {worker, other}:
        (each.recovers if each.rxqs else each.parks)()
    _busy(scene, worker, min(lasts, 0.1))


def _late(scene: Scene, _worker: Worker, lasts: float) -> None:
    scene.oversleeps(lasts)


def _suspended(scene: Scene, _worker: Worker, lasts: float) -> None:
    working = [worker for worker in scene.workers if worker.works]
    for worker in working:
        worker.works = False
    scene.oversleeps(lasts)
    for worker in working:
        worker.works = True


def _wall_steps(scene: Scene, _worker: Worker, lasts: float) -> None:
    scene.wall_ms += round((lasts - 5.0) * 1e7)


def _blind(scene: Scene, _worker: Worker, lasts: float) -> None:
    scene.blind = "answered garbage"
    scene.run(lasts)
    scene.blind = ""


def _restarts(scene: Scene, how: str, lasts: float) -> None:
    assert scene.process is not None
    following = ProcessId(scene.process.pid + 1, scene.process.start + 1000)
    cores = [worker.core for worker in scene.workers]
    if how == "exit":
        scene.answers = False
        for worker in scene.workers:
            worker.exists = worker.works = False
        scene.run(3.0 + lasts)  # the threads of a busy vswitchd go first; ovs-ctl loses its patience
    scene.ends(orderly=how == "SIGTERM")
    scene.run(lasts)
    scene.starts(following)
    _busy(scene, Worker(0, 0, 0), lasts)
    for core in cores:
        scene.add(core)
    _busy(scene, Worker(0, 0, 0), lasts)
    scene.run(max(2.0, 2 * scene.interval))


def _stopped_and_started(scene: Scene, _worker: Worker, lasts: float) -> None:
    _restarts(scene, "SIGTERM", lasts)


def _exited_and_started(scene: Scene, _worker: Worker, lasts: float) -> None:
    _restarts(scene, "exit", lasts)


INNOCENT: dict[str, Callable[[Scene, Worker, float], None]] = {
    "main thread busy": _busy,
    "only port reconfigured": _reconfigured,
    "port deleted": _port_deleted,
    "port added": _port_added,
    "core removed from the mask": _core_removed,
    "core added to the mask": _core_added,
    "pmd-stats-clear": _stats_cleared,
    "load-based sleep": _sleepy,
    "wide awake": _wide_awake,
    "pmd-rxq-rebalance": _rebalanced,
    "daemon not scheduled": _late,
    "machine suspended": _suspended,
    "wall clock set": _wall_steps,
    "counters not readable": _blind,
    "systemctl restart": _stopped_and_started,
    "ovs-appctl exit": _exited_and_started,
}
EVENTS = st.builds(
    Event,
    st.sampled_from(sorted(INNOCENT)),
    st.integers(0, 7),
    st.floats(0.0, 4.0) | st.floats(4.0, 12.0),
)
SOME_EVENTS = st.lists(EVENTS, max_size=12)
INTERVALS = st.sampled_from([0.1, 0.5, 1.0, 7.0])
few = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def _happen(scene: Scene, events: list[Event], pauses: list[float]) -> None:
    for event, pause in zip(events, pauses, strict=False):
        if scene.workers:
            INNOCENT[event.kind](scene, scene.workers[event.which % len(scene.workers)], event.lasts)
        scene.run(pause)


PAUSES = st.lists(st.floats(0.0, 2.0), min_size=12, max_size=12)


@few
@given(SOME_EVENTS, PAUSES, INTERVALS)
def test_an_innocent_life_is_never_told_as_a_fault(events: list[Event], pauses: list[float], interval: float) -> None:
    scene = Scene(cores=3, interval=interval)
    _happen(scene, events, pauses)
    scene.run(2 * interval)
    assert [f"{line.who} {line.new}: {line.evidence}" for line in scene.register.history if line.new in BAD] == []


@few
@given(SOME_EVENTS, PAUSES, INTERVALS, st.sampled_from(sorted(FAULTS)), st.floats(0.0, 1.0))
def test_a_stall_is_told_in_its_time_whatever_came_before(
    events: list[Event], pauses: list[float], interval: float, why: Cause, phase: float
) -> None:
    scene = Scene(cores=3, interval=interval)
    _happen(scene, events, pauses)
    stalled = scene.add(50)
    scene.run(3 * max(interval, 1.0) + phase * scene.period)
    assert scene.state(stalled) is State.ALIVE
    stalled.fails(why)
    began = scene.now
    scene.run(4 * interval)
    assert scene.states(stalled, began) == list(BAD)
    missing, dead, gone = ((scene.when(stalled, state) - began) / interval for state in BAD)
    assert 1.0 <= missing <= 1.25
    assert missing < dead <= 1.5
    assert 3.0 <= gone <= 3.5
    assert scene.pmd(stalled).cause is why


@few
@given(SOME_EVENTS, PAUSES, INTERVALS, st.floats(0.2, 5.0))
def test_recovery_is_told_at_the_first_progress_whatever_came_before(
    events: list[Event], pauses: list[float], interval: float, silence: float
) -> None:
    scene = Scene(cores=2, interval=interval)
    stalled = scene.add(50)
    scene.run(3 * max(interval, 1.0))
    stalled.fails(Cause.TRACED)
    scene.run(silence * interval)
    _happen(scene, [event for event in events if event.kind not in ("systemctl restart", "ovs-appctl exit")], pauses)
    if stalled in scene.workers:
        scene.run(0.5 * interval)
        queues = stalled.rxqs or (Rxq("p2", 0),)
        stalled.shows(rxqs=queues, sleeps=0.0, rate=1e5)
        stalled.recovers()
        began = scene.now
        scene.run(6.0 + interval)
        assert scene.state(stalled) is State.ALIVE
        assert scene.states(stalled, began) in ([], [State.ALIVE])
