# SPDX-License-Identifier: Apache-2.0
"""Any sequence of looks keeps the laws of the heartbeat; any innocent life stays without a verdict."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ovs_keepalive.core import heartbeat, observe, pace
from ovs_keepalive.core.heartbeat import TABLE, Register
from ovs_keepalive.core.model import (
    BAD,
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
from tests.looks import FAULTS, FIRST, GLANCE, HEALTHY, SECOND, SETTINGS, WALL_MS, WELL, Scene, Worker, block, snapshot

T = TypeVar("T")
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


class Look(NamedTuple):
    """One beat as it is judged, and what came of it."""

    before: Register
    looks: Looks
    interval: float
    period: float
    after: Register


@dataclass
class Core:
    """What is seen of the PMD threads of one core."""

    state: str = "R"
    runs: float | None = 0.9
    close: CloseLook | None = None
    works: str = "on"  # its Iterations: "on", "still", "back", "unprinted", "absent", "twice"
    rxqs: int = 1  # -1: not listed
    sleeps: float = 0.0  # part of the iterations
    iterations: int = 1000
    slept: float = 0.0
    run: float = 0.0


class Act(NamedTuple):
    """A change of what is seen, and the number of beats that see it."""

    change: Callable[[World], None]
    beats: int
    words: str

    def __repr__(self) -> str:
        return f"{self.words}, {self.beats} beats"


class World:
    """What the sensors bring, whether it makes sense or not; each beat of it is judged."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.process: ProcessId | None = FIRST
        self.ended: Ended | None = None
        self.interval = 1.0
        self.late = 0.0
        self.there = {POOL[0], POOL[1], POOL[4], POOL[5]}
        self.cores = (Core(), Core())
        self.sources = {"threads": "seen", "counters": "seen", "rxqs": "seen"}
        self.main: MainLook | None = MainLook("S", 0.0, answered=True)
        self.register = heartbeat.EMPTY

    def go(self, acts: list[Act]) -> Iterator[Look]:
        for act in [START, *acts]:
            act.change(self)
            yield from self.beats(act.beats)

    def beats(self, count: int) -> Iterator[Look]:
        return (self._beat() for _ in range(count))

    def _beat(self) -> Look:
        period = pace.period_of(self.interval)
        pause, self.late = period + self.late, 0.0
        self.now += pause
        for core in self.cores:
            core.run += (core.runs or 0.0) * pause
            done = {"on": 500, "back": -5}.get(core.works, 0)
            core.iterations, core.slept = core.iterations + done, core.slept + done * core.sleeps
        ended, self.ended = self.ended, None
        before = self.register
        looks = self._looks(Moment(self.now, WALL_MS + round(self.now * 1000)), ended)
        self.register = heartbeat.judge(before, looks, SETTINGS, self.interval, period)
        return Look(before, looks, self.interval, period, self.register)

    def _looks(self, at: Moment, ended: Ended | None) -> Looks:
        if self.process is None:
            return Looks(at, None, ended)
        return Looks(
            at,
            self.process,
            ended,
            self.main,
            self._source(at, "threads", self._threads),
            None if self._is_bare() else self._source(at, "counters", self._counters),
            self._source(at, "rxqs", self._rxqs),
            Seen(at, {one.core: one.iterations or 0 for one in self._counters()}) if self._is_bare() else None,
        )

    def _is_bare(self) -> bool:
        """Whether only the Iterations are read, and could be read of each core."""
        told = all(core.works not in ("unprinted", "twice") for core in self.cores)
        return self.sources["counters"] == "bare" and told

    def _source(self, at: Moment, name: str, see: Callable[[], T]) -> Seen[T] | NotSeen | None:
        if self.sources[name] == "none":
            return None
        return Seen(at, see()) if self.sources[name] in ("seen", "bare") else NotSeen(at, "refused")

    def _threads(self) -> tuple[ThreadLook, ...]:
        looks = []
        for id in POOL:
            number, core = CORES[id], self.cores[CORES[id]]
            run = None if core.runs is None else round(core.run * 1e9)
            if id in self.there and id.process == self.process:
                cpus = frozenset({number})
                looks.append(ThreadLook(self.now, id, NAMES[id], number, core.state, run, 0, cpus, 0, 0, core.close))
        return tuple(looks)

    def _counters(self) -> tuple[PmdBlock, ...]:
        blocks: list[PmdBlock] = []
        for number, core in enumerate(self.cores):
            iterations = None if core.works == "unprinted" else core.iterations
            blocks += [block(number, iterations, int(core.slept))] * {"absent": 0, "twice": 2}.get(core.works, 1)
        return tuple(blocks)

    def _rxqs(self) -> tuple[PmdRxqs, ...]:
        return tuple(
            PmdRxqs("", 0, number, tuple(Rxq("p0", queue) for queue in range(core.rxqs)))
            for number, core in enumerate(self.cores)
            if core.rxqs >= 0
        )


START = Act(lambda _: None, 4, "two PMDs work")


def _core(number: int, **fields: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world.cores[number], name, value)

    return change


def _set(**fields: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world, name, value)

    return change


def _source(name: str, how: str) -> Callable[[World], None]:
    return lambda world: world.sources.update({name: how})


def _thread(id: ThreadId) -> Callable[[World], None]:
    return lambda world: world.there.symmetric_difference_update({id})


def _iterations_only() -> Callable[[World], None]:
    return lambda world: world.sources.update(threads="none", counters="bare", rxqs="none")


def _exit(number: int, main: MainLook | None) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.there.discard(POOL[number])
        world.cores[number].works, world.main = "still", main

    return change


def _stall(number: int, state: str, main: MainLook | None) -> Callable[[World], None]:
    def change(world: World) -> None:
        core = world.cores[number]
        core.works, core.state, core.runs, core.close, world.main = "still", state, 0.0, CLOSES[3], main

    return change


def _well() -> Callable[[World], None]:
    def change(world: World) -> None:
        world.process, world.main = world.process or FIRST, MAINS[1]
        world.there |= {POOL[0], POOL[1], POOL[4], POOL[5]}
        world.sources = dict.fromkeys(world.sources, "seen")
        for core in world.cores:
            core.state, core.runs, core.works, core.rxqs = "R", 0.9, "on", 1

    return change


def _process(event: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        was = world.process
        if event == "switch":
            world.process = SECOND if was == FIRST else FIRST
        elif event == "return":
            world.process = was or SECOND
        else:
            world.process = None
        if was is not None and event in ("crash", "orderly"):
            world.ended = Ended(was, event == "orderly")

    return change


def _acts(words: str, change: Callable[..., Callable[[World], None]], **choices: Any) -> st.SearchStrategy[Act]:
    names = list(choices)

    def act(values: tuple[Any, ...], beats: int) -> Act:
        chosen = dict(zip(names, values, strict=True))
        return Act(change(**chosen), beats, f"{words} {chosen}")

    values = st.tuples(*(st.sampled_from(choices[name]) for name in names))
    return st.builds(act, values, st.sampled_from([0, 1, 2, 4, 6, 8, 20]))


TWO = (0, 1)
WORKS = ("on", "still", "still", "back", "unprinted", "absent", "twice")
CLOSES = (
    None,
    CloseLook(None, None, None),
    CloseLook("7", "poll_schedule_timeout", ""),
    CloseLook("34", "__do_sys_pause", ""),
    CloseLook("-1", "get_signal", ""),
    CloseLook("-1", "ptrace_stop", "gdb (pid 12)"),
    CloseLook("running", "0", ""),
)
MAINS = (
    None,
    MainLook("S", 0.0, answered=True),
    MainLook("S", 0.0, answered=False),
    MainLook("R", 0.3, answered=True),
    MainLook("R", 0.3, answered=True),
    MainLook("D", 5.0, answered=True),
    MainLook("T", 2.0, answered=False),
    MainLook("?", 70.0, answered=True),
)
ACTS = st.one_of(
    _acts("all is well", _well),
    _acts("iterations only", _iterations_only),
    _acts("exits", _exit, number=TWO, main=MAINS),
    _acts("stalls", _stall, number=TWO, state="RSDtT", main=MAINS),
    _acts("iterations", _core, number=TWO, works=WORKS),
    _acts("sleep", _core, number=TWO, sleeps=(0.0, 0.5, 0.9)),
    _acts("face", _core, number=TWO, state="RRSDTtZX", runs=(0.0, 0.0, 0.9, None), close=CLOSES),
    _acts("rxqs", _core, number=TWO, rxqs=(-1, 0, 1, 1, 2)),
    _acts("source", _source, name=("threads", "counters", "rxqs"), how=("seen", "bare", "blind", "none")),
    _acts("thread comes or goes", _thread, id=POOL),
    _acts("main", _set, main=MAINS),
    _acts("late", _set, late=(0.001, 0.5, 3.0, 70.0)),
    _acts("interval", _set, interval=(0.1, 1.0, 1.0, 10.0)),
    _acts("process", _process, event=("crash", "orderly", "switch", "vanish", "return", "return", "return")),
)
LIVES = st.lists(ACTS, min_size=2, max_size=20)


def _state(register: Register, id: ThreadId) -> State:
    return register.pmds[id].state if id in register.pmds else State.UNUSED


def _unique(look: Look, pmd: Pmd) -> PmdBlock | None:
    """What the counters of this look tell of this PMD."""
    if look.looks.iterations is not None and pmd.core in look.looks.iterations.value:
        return block(pmd.core, look.looks.iterations.value[pmd.core], None)
    if not isinstance(look.looks.counters, Seen):
        return None
    blocks = [block for block in look.looks.counters.value if block.core == pmd.core]
    return blocks[0] if len(blocks) == 1 else None


many = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@many
@given(LIVES)
def test_a_look_never_raises_and_changes_nothing_that_it_is_given(acts: list[Act]) -> None:
    world = World()
    kept: list[Register] = []
    copies: list[object] = []
    for beat in world.go(acts):
        assert beat.after.pmds is not beat.before.pmds
        kept.append(beat.before)
        copies.append((dict(beat.before.pmds), beat.before.vswitchd, beat.before.history))
    assert [(register.pmds, register.vswitchd, register.history) for register in kept] == copies


@many
@given(LIVES)
def test_every_transition_stands_in_the_table(acts: list[Act]) -> None:
    for beat in World().go(acts):
        for id, pmd in beat.after.pmds.items():
            assert any(row[_state(beat.before, id)] is pmd.state for row in TABLE.values())


@many
@given(LIVES)
def test_dead_and_gone_come_only_after_missing_was_told_but_for_an_end(acts: list[Act]) -> None:
    for beat in World().go(acts):
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
def test_a_verdict_needs_one_interval_of_proven_silence(acts: list[Act]) -> None:
    """The bound is computed from the looks alone: each proves no more than the time that was due to it."""
    proven: dict[ThreadId, float] = {}
    seen_at: dict[ThreadId, float] = {}
    for beat in World().go(acts):
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
def test_an_exit_is_told_only_when_vswitchd_asked_afterwards_still_counts_the_core(acts: list[Act]) -> None:
    confirmed: set[ThreadId] = set()
    for beat in World().go(acts):
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
def test_progress_is_always_told_as_well_at_that_very_look(acts: list[Act]) -> None:
    for beat in World().go(acts):
        for id, pmd in beat.after.pmds.items():
            old, told = beat.before.pmds.get(id), _unique(beat, pmd)
            if old is None or told is None or id.process != beat.after.vswitchd.process:
                continue
            if None not in (old.iterations, told.iterations) and old.iterations != told.iterations:
                assert pmd.progress == beat.looks.now
                assert pmd.state in WELL
                assert (pmd.cause, pmd.quiet) == (Cause.NONE, 0.0)


@many
@given(LIVES)
def test_last_seen_moves_only_with_the_iterations(acts: list[Act]) -> None:
    for beat in World().go(acts):
        for id, pmd in beat.after.pmds.items():
            old = beat.before.pmds.get(id)
            if old is not None and pmd.progress != old.progress:
                assert pmd.iterations != old.iterations
                assert isinstance(beat.looks.counters or beat.looks.iterations, Seen)


@many
@given(LIVES)
def test_a_look_that_sees_nothing_changes_no_state(acts: list[Act]) -> None:
    """But for the end of the process or of its deadline, and for a list of rxqs that is the last one to be had.

    A shorter interval may find enough in what was proven before it.
    """
    earlier = 0.0
    for beat in World().go(acts):
        looks = beat.looks
        sources = (looks.threads, looks.counters, looks.rxqs, looks.iterations)
        blind = not any(isinstance(look, Seen) for look in sources)
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
def test_misses_are_the_steps_from_well_to_bad_that_the_history_tells(acts: list[Act]) -> None:
    counted: dict[ThreadId, int] = {}
    for beat in World().go(acts):
        news = [line for line in beat.after.history if line.at == beat.looks.now]
        for id, pmd in beat.after.pmds.items():
            if id not in beat.before.pmds:
                counted[id] = 0
            counted[id] += sum(line.who == pmd.name and line.old in WELL and line.new in BAD for line in news)
            assert pmd.misses == counted[id]


@many
@given(LIVES)
def test_the_history_tells_every_change_but_sleep(acts: list[Act]) -> None:
    for beat in World().go(acts):
        news = {(line.who, line.old, line.new) for line in beat.after.history if line.at == beat.looks.now}
        for id, pmd in beat.after.pmds.items():
            old = _state(beat.before, id)
            if old is not pmd.state and {old, pmd.state} != {State.ALIVE, State.SLEEP}:
                assert (pmd.name, old, pmd.state) in news


@many
@given(LIVES)
def test_what_is_told_anew_carries_another_version(acts: list[Act]) -> None:
    for beat in World().go(acts):
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
def test_the_pmds_of_an_old_process_leave_all_at_once(acts: list[Act]) -> None:
    for beat in World().go(acts):
        present = beat.after.vswitchd.process
        strangers = [id for id, pmd in beat.after.pmds.items() if id.process != present and pmd.state in WELL[1:]]
        registered = [
            id for id, pmd in beat.after.pmds.items() if id.process == present and pmd.state is not State.UNUSED
        ]
        assert not (strangers and registered)


@many
@given(LIVES)
def test_a_cause_stays_until_progress(acts: list[Act]) -> None:
    for beat in World().go(acts):
        for id, pmd in beat.after.pmds.items():
            old = beat.before.pmds.get(id)
            assert pmd.cause is Cause.NONE or pmd.witness
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
def test_the_short_way_of_a_steady_look_comes_to_what_the_long_way_does(acts: list[Act]) -> None:
    beats = list(World().go(acts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "gone_on", lambda *_: None)
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
@given(LIVES, st.lists(st.booleans(), min_size=1, max_size=30))
def test_the_column_never_says_dead_over_alive_without_missing_in_between(acts: list[Act], taken: list[bool]) -> None:
    written: dict[str, column.Pair] = {}
    for beat, took in zip(World().go(acts), itertools.cycle(taken), strict=False):
        if not took:
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
few = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


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
    told = [line for line in scene.register.history if line.new in BAD and line.who != "vswitchd"]
    assert [f"{line.who} {line.new}: {line.evidence}" for line in told] == []


@few
@given(SOME_EVENTS, PAUSES, INTERVALS, st.sampled_from(sorted(FAULTS)), st.floats(0.0, 1.0))
@example([], [], 0.1, Cause.BLOCKED, 0.04069510819847345)
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
    # What stalls between an answer and the glance at /proc after it is silent since the answer.
    assert 1.0 - GLANCE / interval <= missing <= 1.25
    assert missing < dead <= 1.5
    assert 3.0 - GLANCE / interval <= gone <= 3.5
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
        told = [state for state in scene.states(stalled, began) if state is not State.SLEEP]
        assert set(told) <= {State.ALIVE}
