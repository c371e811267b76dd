# SPDX-License-Identifier: Apache-2.0
"""The nouns: what was looked at, and what is said of it. Frozen data; no I/O, no clock, no judgement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class State(StrEnum):
    """State of a PMD thread (CONTRACT section 4; the words of the 2017 series)."""

    UNUSED = "UNUSED"
    ALIVE = "ALIVE"
    SLEEP = "SLEEP"
    MISSING = "MISSING"
    DEAD = "DEAD"
    GONE = "GONE"


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
    voluntary: int | None  # context switches
    involuntary: int | None


class ThreadLook(NamedTuple):
    """One PMD thread as /proc shows it."""

    id: ThreadId
    name: str  # comm, at most 15 characters: "pmd-c03/id:8"
    core: int  # the NN of pmd-cNN: OVS's core id
    state: str  # one letter: R S D T t Z X
    run_ns: int | None  # time on a CPU (schedstat field 1)
    wait_ns: int | None  # time runnable without a CPU (schedstat field 2)
    close: CloseLook | None = None


class PmdBlock(NamedTuple):
    """One PMD of dpif-netdev/pmd-perf-show. A field that was not printed is None."""

    datapath: str  # "" unless vswitchd has several userspace datapaths
    numa: int
    core: int
    iterations: int | None
    busy: int | None  # busy iterations
    idle: int | None
    sleep: int | None  # iterations that slept; None where OVS (before 3.1) prints none
    rx_packets: int | None
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
