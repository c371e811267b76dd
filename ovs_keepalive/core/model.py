# SPDX-License-Identifier: Apache-2.0
"""The nouns: what was looked at, and what is said of it. Frozen data; no I/O, no clock, no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from ovs_keepalive.core.log_events import Blocked

T = TypeVar("T")


class State(StrEnum):
    """State of a PMD thread (CONTRACT section 4; the words of the 2017 series)."""

    UNUSED = "UNUSED"
    ALIVE = "ALIVE"
    SLEEP = "SLEEP"
    MISSING = "MISSING"
    DEAD = "DEAD"
    GONE = "GONE"


BAD = (State.MISSING, State.DEAD, State.GONE)


class Cause(StrEnum):
    """Why a PMD makes no progress, or too little."""

    NONE = "none"
    STOPPED = "stopped"
    TRACED = "traced"
    BLOCKED = "blocked"
    UNINTERRUPTIBLE = "uninterruptible"
    FROZEN = "frozen"
    STARVED = "starved"
    SPINNING = "spinning"
    EXITED = "exited"
    PROCESS_GONE = "process-gone"
    UNKNOWN = "unknown"


class VswitchdState(StrEnum):
    """State of the ovs-vswitchd process and its main thread."""

    RUNNING = "RUNNING"
    STARTING = "STARTING"
    HUNG = "HUNG"
    STOPPED = "STOPPED"
    RESTARTING = "RESTARTING"
    GONE = "GONE"
    CRASH_LOOP = "CRASH-LOOP"


class BreakKind(StrEnum):
    """How a vswitchd process ended (CONTRACT section 7)."""

    ORDERLY = "orderly"
    CRASH = "crash"
    PLANNED = "planned"


class Moment(NamedTuple):
    """One instant on both clocks. Monotonic seconds judge; wall time is only printed."""

    mono: float  # seconds, CLOCK_MONOTONIC
    wall_ms: int  # epoch milliseconds


NEVER = Moment(0.0, 0)


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A look that succeeded."""

    at: Moment
    value: T


@dataclass(frozen=True, slots=True)
class NotSeen:
    """A look that could not be made. It proves nothing, whatever the reason."""

    at: Moment
    why: str


class ProcessId(NamedTuple):
    """A process for good: a pid alone is reused."""

    pid: int
    start: int  # clock ticks since boot, field 22 of /proc/<pid>/stat


class ThreadId(NamedTuple):
    """A thread for good: tids are reused within one process too (notes/pmd-signals)."""

    process: ProcessId
    tid: int
    start: int  # clock ticks since boot


# --- what the sensors bring --------------------------------------------------------------------


class CloseLook(NamedTuple):
    """What is read of a thread only on suspicion; None where the kernel refuses it."""

    syscall: str | None  # first word of /proc/<tid>/syscall: a number, "running" or "-1"
    wchan: str | None  # kernel function it waits in, "0" for none
    tracer: str | None  # "gdb (pid 12)" of the process that traces it; "" for none


class ThreadLook(NamedTuple):
    """One PMD thread as /proc shows it. A sensor that did not read it anew hands out the same object."""

    at: float  # monotonic seconds
    id: ThreadId
    name: str  # comm, at most 15 characters: "pmd-c03/id:8"
    core: int  # the NN of pmd-cNN: OVS's core id
    state: str  # one letter: R S D T t Z X
    run_ns: int | None  # time on a CPU (schedstat field 1)
    wait_ns: int | None  # time runnable without a CPU (schedstat field 2)
    cpus: frozenset[int] | None  # that it may run on; one CPU: it is pinned
    voluntary: int | None  # context switches, as of the last reading of `status`
    involuntary: int | None
    close: CloseLook | None = None


class OtherThread(NamedTuple):
    """A thread of vswitchd that is no PMD, nor its main thread."""

    id: ThreadId
    name: str  # comm: handler3, revalidator5, urcu4, ct_clean2, …
    state: str  # one letter


class PmdBlock(NamedTuple):
    """One PMD of dpif-netdev/pmd-perf-show. A field that was not printed, or not read, is None."""

    datapath: str  # "" unless vswitchd has several userspace datapaths
    numa: int
    core: int
    iterations: int | None
    busy: int | None  # busy iterations
    idle: int | None
    sleep: int | None  # iterations that slept; None where OVS (before 3.1) prints none
    rx_packets: int | None  # nobody asks for these two: a block stands in the memory's document, whose form is fixed
    tx_packets: int | None


class Rxq(NamedTuple):
    """A receive queue that a PMD polls."""

    port: str
    queue: int


class PmdRxqs(NamedTuple):
    """One PMD of dpif-netdev/pmd-rxq-show: an empty list is a PMD that polls nothing."""

    datapath: str
    numa: int
    core: int
    rxqs: tuple[Rxq, ...]


class MainLook(NamedTuple):
    """The main thread of vswitchd, as far as it can be judged without its help."""

    state: str  # one letter, as of a PMD
    silent: float  # seconds for which it has owed an answer; 0.0 when none is due
    answered: bool  # it has answered this daemon at least once, and its control socket lets the daemon in


class Sent(NamedTuple):
    """What vswitchd has sent until one answer of its main thread."""

    asked: float  # monotonic; the count was read after that, and before the answer came
    packets: int | None  # by all PMDs; None where no thread forwards packets in vswitchd
    kernel: bool  # a datapath of the kernel does: it goes on without vswitchd


class Ended(NamedTuple):
    """The end of a process."""

    process: ProcessId
    orderly: bool  # it removed its pidfile first


@dataclass(frozen=True, slots=True)
class Looks:
    """All that one beat brought home. None: nothing new was due from that source."""

    now: Moment
    process: ProcessId | None  # who vswitchd is
    ended: Ended | None = None  # the process known until now ended
    main: MainLook | None = None
    threads: Seen[tuple[ThreadLook, ...]] | NotSeen | None = None
    counters: Seen[tuple[PmdBlock, ...]] | NotSeen | None = None
    rxqs: Seen[tuple[PmdRxqs, ...]] | NotSeen | None = None
    iterations: Seen[Mapping[int, int]] | None = None  # by core, where nothing else of the counters was read
    sent: Sent | None = None  # comes with either
    log: Seen[tuple[Blocked, ...]] | NotSeen | None = None
    core_users: Mapping[ThreadId, str] | None = None  # who runs on the CPUs of these threads, in words


# --- what is said ------------------------------------------------------------------------------


class Shares(NamedTuple):
    """How a PMD spent its iterations and its thread its time, over the last window of at least 1 s."""

    rate: float  # iterations per second
    busy: float | None  # parts of the iterations, 0 … 1
    idle: float | None
    sleep: float | None
    run: float | None  # parts of wall time, 0 … 1
    wait: float | None


class Pmd(NamedTuple):
    """What is known of one PMD thread."""

    id: ThreadId
    name: str
    core: int
    numa: int | None
    state: State
    since: Moment  # of the state
    cause: Cause
    cause_since: Moment
    witness: str  # what was seen, in words; "" while there is nothing to say
    progress: Moment  # last observed progress; NEVER before the first
    iterations: int | None
    quiet: float  # seconds proven to have passed without progress
    compared: float  # monotonic time up to which quiet has been counted
    still: float  # the part of quiet that /proc alone has proven, since the Iterations were last read
    rxqs: tuple[Rxq, ...] | None  # None: vswitchd has not told yet
    rxqs_at: float  # monotonic time of that answer
    look: ThreadLook  # newest
    base: ThreadLook  # the first one after the last progress: what it did since then
    vanished_at: float | None  # monotonic; its thread is in /proc no more
    mark: Seen[PmdBlock] | None  # where the window of the shares began …
    mark_look: ThreadLook  # … and that of its run time
    shares: Shares | None
    starved_from: float  # monotonic; begin of the first of the windows in which it waited for a CPU; 0.0: it does not
    misses: int  # times it left UNUSED, ALIVE or SLEEP for MISSING, DEAD or GONE
    longest: float  # seconds; the longest silence that ended


class Plan(NamedTuple):
    """A restart of vswitchd that was announced: it may begin within so many seconds, and then take as many."""

    at: Moment
    seconds: float


class Vswitchd(NamedTuple):
    """What is known of the ovs-vswitchd process."""

    process: ProcessId | None
    state: VswitchdState
    since: Moment
    silent: float  # seconds for which its main thread has owed an answer, from 1 s on
    noted: float  # that number when the state was told or the silence first noted: it does not grow
    witness: str
    culprit: str  # name of the PMD that holds the main thread up; "" for none known
    deadline: float | None  # monotonic; a restart has to be over by then
    awaited: str = ""  # the thread for which the silent main thread waits, as its log tells
    crashes: tuple[Moment, ...] = ()  # of this process and those before it, that still count
    looping: Moment | None = None  # since when it is a crash loop
    alive_at: float = 0.0  # monotonic; when it was last seen alive without one of its PMD threads
    first_at: float = 0.0  # monotonic; when the first of its PMDs could have taken the place of an earlier process's
    how: BreakKind | None = None  # how the process before it ended
    plan: Plan | None = None  # that one's restart was announced by this; it serves for no other


class Break(NamedTuple):
    """What one restart of vswitchd interrupted. A moment that is None has not come, or cannot be known."""

    pid_old: int
    pid_new: int | None
    kind: BreakKind
    ended: Moment  # of the old process
    unknown: str  # why nothing is said of packets; "" when it is
    began_low: Moment  # packets were still sent then …
    began: Moment  # … until about then …
    began_high: Moment  # … and not after that
    to_low: Moment  # none was sent until then …
    to: Moment | None  # … from about then they are again …
    to_high: Moment | None  # … and at the latest from then on
    method: str  # how the points were found
    control_from: Moment  # the last answer of the old process
    control_to: Moment | None  # the first one of the new process
    ports: tuple[tuple[str, Moment | None], ...]  # that the old process polled, and when the new one was seen to


class Other(NamedTuple):
    """One of vswitchd's other threads, and since when it has been seen in its state at each look."""

    thread: OtherThread
    since: Moment


class Others(NamedTuple):
    """vswitchd's other threads at the newest look at them, by name."""

    threads: tuple[Other, ...] = ()
    gone: tuple[tuple[str, Moment], ...] = ()  # kinds of which none is left, since then


class Transition(NamedTuple):
    """A line of history: who, from, to, why."""

    at: Moment
    who: str  # a PMD's name, "vswitchd" or "daemon"
    old: str
    new: str
    cause: str
    evidence: str


class LookCounts(NamedTuple):
    """What came of the looks since the daemon began. Those at the control socket that failed are looks_failed."""

    proc: int = 0  # at the threads, in /proc
    proc_failed: int = 0
    answers: tuple[int, ...] = ()  # of the control socket, by how long they took (tally.BOUNDS; the last: longer still)
    answer_seconds: float = 0.0  # how long they took, in sum


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator asked for, as far as the beat needs it."""

    enabled: bool
    interval: float  # seconds
    max_main_share: float  # part of one core that looks may take from vswitchd's main thread
    restart_deadline: float  # seconds
    hung_after: float  # seconds
    nap: float = 0.0  # seconds for which OVS may let a PMD sleep at a time
    plan: Plan | None = None  # a restart that was announced
    flow_restored: Moment | None = NEVER  # when flow-restore-wait was removed; None: it is set, and holds vswitchd up


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One beat's verdict on everything. Every publisher gets this same object."""

    seq: int
    at: Moment
    settings: Settings
    effective: float  # seconds; the interval that the looks' cost allows
    enabled_at: Moment  # when the present watch began
    vswitchd: Vswitchd
    pmds: tuple[Pmd, ...]  # in the order of their cores, UNUSED ones too
    history: tuple[Transition, ...]  # newest last
    others: Others
    blind: tuple[str, ...]  # what cannot be seen now, and why
    look_cost: float  # seconds of the main thread that one look takes, at most
    blind_seconds: float  # the daemon's own blind time since it began
    latest: float  # seconds; by how much the latest of its looks came late
    looks: int
    looks_failed: int
    counts: LookCounts
    event_witness: str = ""  # to which threads it listens, and why not to others
    breaks: tuple[Break, ...] = ()  # newest last; the last one may be under way
    break_counts: Mapping[BreakKind, int] = field(default_factory=dict)  # all since the daemon began

    @property
    def registered(self) -> tuple[Pmd, ...]:
        """The PMDs that poll at least one rxq: those which the column shows."""
        return tuple(pmd for pmd in self.pmds if pmd.state is not State.UNUSED)
