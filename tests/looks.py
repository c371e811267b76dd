# SPDX-License-Identifier: Apache-2.0
"""A vswitchd with PMD threads on a simulated clock, and a watcher that looks at it as the beat does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ovs_keepalive.beat import WHOLE
from ovs_keepalive.core import breaks, heartbeat, pace
from ovs_keepalive.core.heartbeat import Register
from ovs_keepalive.core.incident import Watch
from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.core.memory import Beating, Memory
from ovs_keepalive.core.model import (
    NEVER,
    Break,
    BreakKind,
    Cause,
    CloseLook,
    Ended,
    LookCounts,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    Others,
    Pmd,
    PmdBlock,
    PmdRxqs,
    ProcessId,
    Rxq,
    Seen,
    Sent,
    Settings,
    Snapshot,
    State,
    ThreadId,
    ThreadLook,
    Vswitchd,
    VswitchdState,
)
from ovs_keepalive.core.settings import Asked

WALL_MS = 1_700_000_000_000  # epoch milliseconds at monotonic 0
WELL = (State.UNUSED, State.ALIVE, State.SLEEP)
GLANCE = 1e-5  # seconds from an answer to the run times that are kept with it
SETTINGS = Settings(enabled=True, interval=1.0, max_main_share=0.01, restart_deadline=60.0, hung_after=60.0)
NOTHING_BROKE = breaks.Watch()
FIRST = ProcessId(100, 1000)
SECOND = ProcessId(200, 2000)

# How a PMD thread looks that finishes no iteration, as measured on real ones (pmd-signals, section 2).
FAULTS: dict[Cause, dict[str, Any]] = {
    Cause.STOPPED: {"state": "T", "runs": 0.0, "wchan": "do_signal_stop", "syscall": "-1"},
    Cause.TRACED: {"state": "t", "runs": 0.0, "wchan": "ptrace_stop", "syscall": "-1", "tracer": "gdb (pid 12)"},
    Cause.BLOCKED: {"state": "S", "runs": 0.0, "wchan": "__do_sys_pause", "syscall": "34"},
    Cause.UNINTERRUPTIBLE: {"state": "D", "runs": 0.0, "wchan": "kernel_clone", "syscall": "58"},
    Cause.FROZEN: {"state": "S", "runs": 0.0, "wchan": "get_signal", "syscall": "-1"},
    Cause.STARVED: {"state": "R", "runs": 0.0},
    Cause.SPINNING: {"state": "R", "runs": 0.97},
}
HEALTHY: dict[str, Any] = {"state": "R", "runs": 0.9, "wchan": "0", "syscall": "running", "tracer": ""}
# Where OVS itself parks a PMD: without rxqs, and while its only port is reconfigured.
PARKED: dict[str, Any] = {"state": "S", "runs": 0.0, "wchan": "poll_schedule_timeout", "syscall": "7"}


@dataclass(eq=False)
class Worker:
    """One PMD thread as it really is; what is seen of it is made from this."""

    core: int
    tid: int
    number: int  # the N of id:N, never used twice in a process
    process: ProcessId = FIRST
    start: int = 5000
    rxqs: tuple[Rxq, ...] = ()
    exists: bool = True  # in /proc
    counted: bool = True  # by vswitchd
    works: bool = True  # finishes iterations
    sleeps: float = 0.0  # part of the iterations
    rate: float = 100_000.0  # iterations a second
    state: str = "R"
    runs: float = 0.9  # part of the time
    waits: float = 0.0  # part of the time, for a CPU
    wchan: str = "0"
    syscall: str = "running"
    tracer: str = ""
    iterations: float = 0.0
    slept: float = 0.0
    run: float = 0.0  # seconds
    wait: float = 0.0  # seconds

    @property
    def id(self) -> ThreadId:
        return ThreadId(self.process, self.tid, self.start)

    @property
    def name(self) -> str:
        return f"pmd-c{self.core:02d}/id:{self.number}"

    def shows(self, **fields: Any) -> None:
        """Look like this from now on."""
        for name, value in fields.items():
            setattr(self, name, value)

    def fails(self, cause: Cause) -> None:
        """Finish no more iterations."""
        self.works = False
        self.shows(**{**HEALTHY, **FAULTS[cause]})

    def parks(self) -> None:
        """Rest in poll(2), as OVS lets a PMD do."""
        self.works = False
        self.shows(**{**HEALTHY, **PARKED})

    def recovers(self) -> None:
        """Work again."""
        self.works = True
        self.shows(**HEALTHY)

    def passes(self, seconds: float) -> None:
        """Time goes by."""
        if self.works:
            self.iterations += self.rate * seconds
            self.slept += self.rate * seconds * self.sleeps
        self.run += self.runs * seconds
        self.wait += self.waits * seconds


class Change(NamedTuple):
    """One change of a state, SLEEP and UNUSED included."""

    at: float
    state: State


@dataclass(eq=False)
class Scene:
    """A vswitchd, its PMD threads and their watcher. Time goes by in run(), and nowhere else."""

    cores: int = 2
    interval: float = 1.0
    latency: float = 0.0005  # seconds that the main thread takes for an answer
    settings: Settings = SETTINGS
    now: float = 1000.0
    wall_ms: int = WALL_MS
    register: Register = heartbeat.EMPTY
    workers: list[Worker] = field(default_factory=list)
    process: ProcessId | None = FIRST
    answers: bool = True  # the main thread
    main_state: str = "S"
    privileged: bool = True  # may read syscall and wchan
    blind: str = ""  # why the counters cannot be read
    rxqs_blind: str = ""  # why the rxqs cannot be read
    hog: str = "on CPU 3 ran python3 (pid 77)"  # who has the CPU of a starved PMD
    sends: float = 0.0  # packets a second, by all PMDs
    sent: float = 0.0  # packets, by the present process
    searches: int = 0  # for who has a CPU: each walks all threads of the host
    watch: breaks.Watch = NOTHING_BROKE
    logged: list[Blocked] = field(default_factory=list)  # by vswitchd, since its log was read
    changes: dict[ThreadId, list[Change]] = field(default_factory=dict)
    registers: list[Register] = field(default_factory=list)  # all that told something new

    def __post_init__(self) -> None:
        self._next_tick = self.now
        self._last_look = self._read_all = float("-inf")
        self._soon = self._called = math.inf
        self._off: frozenset[int] = frozenset()
        self._asked: tuple[str, float] | None = None
        self._asked_rxqs = 0.0
        self._wholly = self._restless = True
        self._hogs: dict[ThreadId, str] | None = None
        self._answered = self._other = False
        self._ended: Ended | None = None
        self._seen: Seen[tuple[ThreadLook, ...]] | None = None
        self._last: dict[ThreadId, ThreadLook] = {}
        self._glance: tuple[Moment, dict[ThreadId, tuple[int, int]]] | None = None
        self._numbers = 5
        self.begin()

    def begin(self) -> None:
        """Let one PMD a core work, until the watcher knows it."""
        for core in range(self.cores):
            self.add(core)
        self.run(max(3 * self.interval, 0.1))
        assert all(self.state(worker) is State.ALIVE for worker in self.workers)

    # --- what happens --------------------------------------------------------------------------

    def add(self, core: int, rxqs: int = 1, **fields: Any) -> Worker:
        """Start one more PMD thread."""
        self._numbers += 1
        queues = tuple(Rxq(f"vhu{core}", queue) for queue in range(rxqs))
        process = self.process or FIRST
        worker = Worker(core, 18000 + self._numbers, self._numbers, process=process, rxqs=queues)
        worker.shows(**fields)
        self.workers.append(worker)
        return worker

    def ends(self, orderly: bool) -> None:
        """Let the process end. orderly: it removes its pidfile first."""
        assert self.process is not None
        self._ended = Ended(self.process, orderly)
        self.sends = self.sent = 0.0
        self._turn_to(None)
        self.workers.clear()
        self.turn()

    def starts(self, process: ProcessId = SECOND) -> None:
        """Let another process start; it has no PMD threads yet."""
        self._turn_to(process)
        self._other, self.answers = True, True

    def rings(self, worker: Worker) -> None:
        """Let the event witness tell that it left its CPU."""
        self._off |= {worker.tid}
        self._called = min(self._called, max(self.now, self._last_look + self.grace))

    def oversleeps(self, seconds: float) -> None:
        """Let the daemon not be scheduled, while everything else goes on."""
        self._pass(seconds)
        self.turn()

    def retunes(self, interval: float) -> None:
        """Ask for another interval."""
        self.interval = interval
        self._next_tick = min(self._next_tick, self.now + self.period)

    # --- the watcher ---------------------------------------------------------------------------

    @property
    def period(self) -> float:
        return pace.period_of(self.interval)

    @property
    def grace(self) -> float:
        return max(0.002, self.period / 20)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, self.wall_ms + round(self.now * 1000))

    def run(self, seconds: float) -> None:
        """Let time go by."""
        until = self.now + seconds
        while (wake := self._next_wake()) <= until:
            self._pass(max(wake - self.now, 0.0))
            self.turn()
        self._pass(until - self.now)

    def turn(self) -> None:
        """Look and judge once, now."""
        now, before = self.moment, self.register
        due = self._is_due()
        ended, self._ended = self._ended, None
        other, self._other = self._other, False
        looks = Looks(now, None, ended) if self.process is None else self._look(now, self.process, due)
        if looks is None:
            if not other:
                return
            looks = Looks(now, self.process)
        self._glance_at(looks)
        self._judge(looks)
        if self.process is not None and not self.register.steady and heartbeat.lacks_base(self.register):
            threads = Looks(now, self.process, threads=self._look_at_threads(now, self.process, anew=False))
            self._judge(threads)
        steady = self.register.steady
        self._soon = math.inf if steady else heartbeat.next_look(self.register, self.interval)
        self._restless = self._soon < math.inf or not (self._wholly or steady)
        if steady:
            return
        if starved := heartbeat.starved(self.register, self.interval):
            self.searches += self._hogs is None  # else one is under way
            self._hogs, self._restless = dict.fromkeys(starved, self.hog), True
        wants = self.process is not None and self._asked is None and not isinstance(looks.rxqs, NotSeen)
        rested = self.now - self._asked_rxqs >= self.period / 2
        wanted = heartbeat.wants_rxqs(self.register, self.interval, self.now)
        if wants and (wanted or (rested and breaks.wants_rxqs(self.watch))):
            self._asked, self._asked_rxqs = ("rxqs", self.now), self.now
        self._note(before)

    def _glance_at(self, looks: Looks) -> None:
        if looks.iterations is not None or looks.counters is not None:
            just_after = Moment(looks.now.mono + GLANCE, looks.now.wall_ms)
            times = {one.id: (round(one.run * 1e9), round(one.wait * 1e9)) for one in self.workers if one.exists}
            self._glance = just_after, times
        elif looks.main is not None and looks.main.silent and self._glance is not None:
            (at, times), self._glance = self._glance, None
            known = tuple(
                self._last[id]._replace(at=at.mono, run_ns=run, wait_ns=wait, close=None)
                for id, (run, wait) in times.items()
                if id in self._last and id.process == self.process
            )
            self._judge(Looks(at, self.process, threads=Seen(at, known)))

    def _judge(self, looks: Looks) -> None:
        self.register = heartbeat.judge(self.register, looks, self.settings, self.interval, self.period)
        self.watch = breaks.follow(self.watch, looks, self.register, self.settings, self.period)
        urgent = breaks.is_urgent(self.watch, self.register.vswitchd, self.settings, looks.now)
        if urgent and self._asked is None:
            self._next_tick = min(self._next_tick, self.now + breaks.FINE)

    def _turn_to(self, process: ProcessId | None) -> None:
        self.process, self._asked, self._answered, self._seen = process, None, False, None
        self._glance = None
        self._read_all = float("-inf")

    def _is_due(self) -> bool:
        if self.now >= self._next_tick:
            self._next_tick += self.period * ((self.now - self._next_tick) // self.period + 1)
            return True
        if self._is_overdue() and self._asked is not None and self._last_look <= self._asked[1]:
            return True
        return self.now >= self._again or self.now >= self._call

    @property
    def _call(self) -> float:
        return self._called if self._asked is None else max(self._called, self._asked[1] + self.grace)

    @property
    def _again(self) -> float:
        return self._soon if self._soon > self._last_look else self._last_look + self.period / 4

    def _look(self, now: Moment, process: ProcessId, due: bool) -> Looks | None:
        """What this turn brings; None: nothing yet."""
        counters: Seen[tuple[PmdBlock, ...]] | NotSeen | None = None
        rxqs: Seen[tuple[PmdRxqs, ...]] | NotSeen | None = None
        iterations: Seen[Mapping[int, int]] | None = None
        sent: Sent | None = None
        if self._asked is not None and self._answer_at() <= self.now:
            kind, asked = self._asked
            self._asked, self._answered = None, True
            sent = self._sent(kind, asked)
            if kind == "rxqs":
                rxqs = NotSeen(now, self.rxqs_blind) if self.rxqs_blind else Seen(now, self._rxqs())
            elif self.blind:
                counters = NotSeen(now, self.blind)
            elif self._wholly or any(block.iterations is None for block in self._blocks()):
                counters = Seen(now, self._blocks())
            else:
                iterations = Seen(now, {block.core: block.iterations or 0 for block in self._blocks()})
        if due:
            self._last_look = self.now
            anew = self._is_overdue() or self.now - self._read_all >= WHOLE - self.period / 2
            self._wholly = anew or self._restless or self._called < math.inf
            if self._wholly:
                self._seen = self._look_at_threads(now, process, anew)
            self._off, self._called = frozenset(), math.inf
            self._asked = self._asked or ("counters", self.now)
        silence = self._silence() if self._is_overdue() else 0.0
        if not silence and counters is None and iterations is None and rxqs is None:
            return None
        threads, self._seen = self._seen, None
        main = MainLook(self.main_state if silence else "S", silence, self._answered)
        log = None
        if threads is not None and self.logged:
            log, self.logged = Seen(now, tuple(self.logged)), []
        hogs = None
        if threads is not None:
            hogs, self._hogs = self._hogs, None
        return Looks(now, process, None, main, threads, counters, rxqs, iterations, sent, log, hogs)

    def _sent(self, kind: str, asked: float) -> Sent | None:
        if kind == "rxqs" or self.blind:
            return None
        return Sent(asked, int(self.sent) if self._blocks() else None, kernel=False)

    def _look_at_threads(self, now: Moment, process: ProcessId, anew: bool) -> Seen[tuple[ThreadLook, ...]]:
        suspects = heartbeat.suspects(self.register)
        if anew:
            self._read_all = self.now
        if self._silence() > self.period / 2:
            suspects = frozenset(id.tid for id in self.register.pmds)
        return Seen(now, tuple(self._thread(worker, anew, suspects | self._off) for worker in self._living(process)))

    def _living(self, process: ProcessId) -> Iterable[Worker]:
        return (worker for worker in self.workers if worker.exists and worker.process == process)

    def _thread(self, worker: Worker, anew: bool, closely: frozenset[int]) -> ThreadLook:
        suspect = worker.tid in closely
        if worker.id not in self._last or anew or suspect:
            readable = self.privileged
            self._last[worker.id] = ThreadLook(
                at=self.now,
                id=worker.id,
                name=worker.name,
                core=worker.core,
                state=worker.state,
                run_ns=round(worker.run * 1e9),
                wait_ns=round(worker.wait * 1e9),
                cpus=frozenset({worker.core}),
                voluntary=0,
                involuntary=0,
                close=CloseLook(worker.syscall if readable else None, worker.wchan if readable else None, worker.tracer)
                if suspect
                else None,
            )
        return self._last[worker.id]

    def _blocks(self) -> tuple[PmdBlock, ...]:
        return tuple(
            block(worker.core, int(worker.iterations), sleep=int(worker.slept))
            for worker in self.workers
            if worker.counted
        )

    def _rxqs(self) -> tuple[PmdRxqs, ...]:
        return tuple(PmdRxqs("", 0, worker.core, worker.rxqs) for worker in self.workers if worker.counted)

    def _silence(self) -> float:
        return 0.0 if self._asked is None else self.now - self._asked[1]

    def _is_overdue(self) -> bool:
        return self._asked is not None and self.now >= self._asked[1] + self.grace

    def _answer_at(self) -> float:
        if self._asked is None or not self.answers:
            return float("inf")
        return self._asked[1] + self.latency

    def _next_wake(self) -> float:
        wake = min(self._next_tick, self._again, self._call, self._answer_at())
        if self._asked is not None and self._last_look <= self._asked[1]:
            wake = min(wake, self._asked[1] + self.grace)
        return max(wake, self.now)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.sent += self.sends * seconds
        for worker in self.workers:
            worker.passes(seconds)

    def _note(self, before: Register) -> None:
        for id, pmd in self.register.pmds.items():
            if id not in before.pmds or before.pmds[id].state is not pmd.state:
                self.changes.setdefault(id, []).append(Change(self.now, pmd.state))
        if before.version != self.register.version:
            self.registers.append(self.register)

    # --- what is said --------------------------------------------------------------------------

    def pmd(self, worker: Worker) -> Pmd:
        """What is known of it."""
        return self.register.pmds[worker.id]

    def state(self, worker: Worker) -> State | None:
        """Its state; None when it is not, or no more, known."""
        return self.register.pmds[worker.id].state if worker.id in self.register.pmds else None

    def states(self, worker: Worker, since: float = 0.0) -> list[State]:
        """All the states that it came into, in their order."""
        return [change.state for change in self.changes.get(worker.id, []) if change.at >= since]

    def when(self, worker: Worker, state: State) -> float:
        """When it last came into this state."""
        return next(change.at for change in reversed(self.changes[worker.id]) if change.state is state)

    def vswitchd(self) -> VswitchdState:
        """The state of the process."""
        return self.register.vswitchd.state

    @property
    def snapshot(self) -> Snapshot:
        """What the publishers would get."""
        pmds = tuple(sorted(self.register.pmds.values(), key=lambda pmd: (pmd.core, pmd.id.tid)))
        register = self.register
        return snapshot(
            pmds,
            at=self.moment,
            effective=self.interval,
            vswitchd=register.vswitchd,
            history=register.history,
        )


# --- nouns, with values that a test need not name ----------------------------------------------


def block(core: int, iterations: int | None, sleep: int | None = 0, datapath: str = "") -> PmdBlock:
    """One PMD of pmd-perf-show."""
    idle = None if iterations is None or sleep is None else iterations
    return PmdBlock(datapath, 0, core, iterations, 0, idle, sleep, 0, 0)


def thread(core: int = 3, tid: int = 18003, number: int = 8, at: float = 1000.0, **fields: Any) -> ThreadLook:
    """One PMD thread as /proc shows it."""
    start = fields.pop("start", 5000)
    process = fields.pop("process", FIRST)
    look = ThreadLook(
        at=at,
        id=ThreadId(process, tid, start),
        name=f"pmd-c{core:02d}/id:{number}",
        core=core,
        state="R",
        run_ns=0,
        wait_ns=0,
        cpus=frozenset({core}),
        voluntary=0,
        involuntary=0,
    )
    return look._replace(**fields)


def pmd(core: int = 3, number: int = 8, **fields: Any) -> Pmd:
    """What is known of one PMD that is well, unless said otherwise."""
    look = thread(core, 18000 + core, number, process=fields.pop("process", FIRST))
    known = Pmd(
        id=look.id,
        name=look.name,
        core=core,
        numa=0,
        state=State.ALIVE,
        since=Moment(1000.0, WALL_MS),
        cause=Cause.NONE,
        cause_since=Moment(1000.0, WALL_MS),
        witness="",
        progress=Moment(1000.0, WALL_MS),
        iterations=1,
        quiet=0.0,
        compared=1000.0,
        still=0.0,
        rxqs=(Rxq("vhu0", 0),),
        rxqs_at=1000.0,
        look=look,
        base=look,
        vanished_at=None,
        mark=None,
        mark_look=look,
        shares=None,
        starved_from=0.0,
        misses=0,
        longest=0.0,
    )
    return known._replace(**fields)


def unknown_pmd(**fields: Any) -> Pmd:
    """A PMD of which nothing is known but that its thread exists."""
    bare = thread()._replace(run_ns=None, wait_ns=None, cpus=None, voluntary=None, involuntary=None)
    nothing: dict[str, Any] = {
        "numa": None,
        "progress": NEVER,
        "iterations": None,
        "rxqs": None,
        "rxqs_at": 0.0,
        "look": bare,
        "base": bare,
        "mark_look": bare,
    }
    return pmd(**{**nothing, **fields})


def running(process: ProcessId | None = FIRST, **fields: Any) -> Vswitchd:
    """A vswitchd that answers, unless said otherwise."""
    known = Vswitchd(process, VswitchdState.RUNNING, Moment(900.0, WALL_MS), 0.0, 0.0, "answers", "", None)
    return known._replace(**fields)


def broke(**fields: Any) -> Break:
    """A break of about 1.5 s that is over, unless said otherwise."""

    def at(seconds: float) -> Moment:
        return Moment(900.0 + seconds, WALL_MS + round(900_000 + seconds * 1000))

    known = Break(
        pid_old=100,
        pid_new=200,
        kind=BreakKind.PLANNED,
        ended=at(0.0),
        unknown="",
        began_low=at(-0.2),
        began=at(0.0),
        began_high=at(0.0),
        to_low=at(1.25),
        to=at(1.5),
        to_high=at(1.75),
        method="a method",
        control_from=at(-0.1),
        control_to=at(0.9),
        ports=(("vhu0", at(0.75)), ("vhu1", None)),
    )
    return known._replace(**fields)


def snapshot(pmds: Iterable[Pmd] = (), **fields: Any) -> Snapshot:
    """One beat's verdict: all is well, unless said otherwise."""
    values: dict[str, Any] = {
        "seq": 1,
        "at": Moment(1000.0, WALL_MS),
        "settings": SETTINGS,
        "effective": 1.0,
        "enabled_at": Moment(900.0, WALL_MS - 100_000),
        "vswitchd": running(),
        "pmds": tuple(pmds),
        "history": (),
        "others": Others(),
        "blind": (),
        "look_cost": 0.0001,
        "blind_seconds": 0.0,
        "latest": 0.0,
        "looks": 10,
        "looks_failed": 0,
        "counts": LookCounts(),
    }
    return Snapshot(**{**values, **fields})


LINE = ("pmd-c03/id:8", 2, (("MISSING", "none", 2), ("DEAD", "traced", 1)))  # of the ledger


def remembered(register: Register = heartbeat.EMPTY, at: Moment | None = None, **fields: Any) -> Memory:
    """What a daemon notes that has this register, enabled unless said otherwise."""
    at = at or Moment(1000.0, WALL_MS)
    beating = Beating(
        seq=7,
        enabled_at=Moment(900.0, WALL_MS - 100_000),
        next_tick=at.mono + 0.1,
        cost=0.0001,
        owed=0.0,
        answered=True,
        looks=10,
        looks_failed=1,
        counts=LookCounts(proc=4),
        blind_seconds=0.5,
        latest=0.1,
        blind=("log: none",),
        others=Others(),
        pmds=tuple(register.pmds.values()),
        vswitchd=register.vswitchd,
        history=register.history,
        version=register.version,
        breaks=breaks.Watch(),
    )
    noted = Memory(
        at,
        "0.0.1, pid 5",
        Asked(enabled=True),
        beating,
        (),
        Watch(),
        at,
        3,
        1,
        (LINE,),
        at.mono,
        1.5,
        (0, 1),
        None,
        NEVER,
    )
    return noted._replace(**fields)
