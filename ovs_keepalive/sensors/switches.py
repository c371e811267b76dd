# SPDX-License-Identifier: Apache-2.0
"""The event witness: rings when a PMD thread leaves its CPU, by a perf event of its context switches.

A PMD polls and never gives its CPU up, so this costs nothing while all is well. Where tracefs can be read the kernel
itself tells who leaves (sched_switch, filtered) from who is preempted, and the latter rings nothing; elsewhere every
context switch rings. A thread that leaves often, as under load-based sleep, is left alone for a while.
perf_event_open(2) says what the numbers mean; measured in docs/decisions/0006.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import select
import struct
from collections import deque
from collections.abc import Collection
from pathlib import Path

PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}  # system call numbers
PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES = 1, 3
PERF_TYPE_TRACEPOINT = 2
PERF_ATTR_SIZE = 128
PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_SET_FILTER = 0x40082406
ANY_CPU = NO_GROUP = -1
# struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags, wakeup_events
ATTR = "IIQQQQQI"
DATA_HEAD, DATA_TAIL = 1024, 1032  # offsets in struct perf_event_mmap_page
RING = 2 * mmap.PAGESIZE  # that page, and one for records of 8 bytes
LEAVES = b"prev_state & 255\0"  # not one that is preempted: that one is in state R, 0 or 256

STORM = 5  # rings within a second after which a thread is left alone …
REST = 60.0  # … for these seconds
FOR_LIFE = float("inf")  # of the thread, if the event is refused: rights do not come back


def perf_event(tid: int, kind: int, event: int) -> int:
    """The descriptor of a thread's perf event that rings each time it happens. Raises OSError."""
    number = PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = struct.pack(ATTR, kind, PERF_ATTR_SIZE, event, 1, 0, 0, 0, 1).ljust(PERF_ATTR_SIZE, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(number, attributes, tid, ANY_CPU, NO_GROUP, PERF_FLAG_FD_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


class _Event:
    """One thread's perf event, and the ring without which the kernel would not let it be polled for."""

    def __init__(self, tid: int, tracepoint: int | None) -> None:
        self.tid = tid
        self.heard: deque[float] = deque(maxlen=STORM)  # monotonic
        if tracepoint is None:
            self.descriptor = perf_event(tid, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES)
        else:
            self.descriptor = perf_event(tid, PERF_TYPE_TRACEPOINT, tracepoint)
        try:
            if tracepoint is not None:
                fcntl.ioctl(self.descriptor, PERF_EVENT_IOC_SET_FILTER, LEAVES)
            self._ring = mmap.mmap(self.descriptor, RING)
        except OSError:
            os.close(self.descriptor)
            raise

    def drain(self) -> None:
        """Make room in the ring: a full one does not ring."""
        self._ring[DATA_TAIL : DATA_TAIL + 8] = self._ring[DATA_HEAD : DATA_HEAD + 8]

    def close(self) -> None:
        self._ring.close()
        os.close(self.descriptor)


class NoSwitches:
    """Stands in where there is to be no event witness, or the kernel allows none."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, why: str) -> None:
        self.status = f"off: {why}"

    def follow(self, _tids: Collection[int], _now: float) -> None:
        """Nothing to listen to."""

    def rung(self, _polled: dict[int, int], _now: float) -> frozenset[int]:
        """Nobody."""
        return frozenset()

    def close(self) -> None:
        """Nothing to close."""


class Switches:
    """The events of the PMD threads of one process at a time."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._tracepoint = _sched_switch(proc)
        self._events: dict[int, _Event] = {}  # by descriptor
        self._tids: frozenset[int] = frozenset()
        self._resting: dict[int, float] = {}  # by tid: until when it is left alone, monotonic
        self._refusal = ""
        self.descriptors: tuple[int, ...] = ()  # to poll; the same object until they change

    def follow(self, tids: Collection[int], now: float) -> None:
        """Listen to these threads from now on, and to no others."""
        rested = [tid for tid, until in self._resting.items() if until <= now]
        if not rested and self._tids == tids:
            return
        for tid in rested:
            del self._resting[tid]
        self._tids = frozenset(tids)
        self._resting = {tid: until for tid, until in self._resting.items() if tid in self._tids}
        for event in list(self._events.values()):
            if event.tid not in self._tids:
                self._close(event)
        heard = {event.tid for event in self._events.values()}
        for tid in self._tids - heard - self._resting.keys():
            self._open(tid)
        self.descriptors = tuple(self._events)

    def rung(self, polled: dict[int, int], now: float) -> frozenset[int]:
        """The threads (tids) that left their CPU. polled: what poll(2) said; what is told here is taken out of it."""
        tids = set()
        for descriptor in polled.keys() & self._events.keys():
            event = self._events[descriptor]
            tids.add(event.tid)
            if polled.pop(descriptor) & ~select.POLLIN:  # POLLHUP: it has ended, and would ring without end
                self._close(event)
                continue
            event.drain()
            if len(event.heard) == STORM and now - event.heard[0] < 1.0:
                self._resting[event.tid] = now + REST
                self._close(event)
            event.heard.append(now)
        if len(self.descriptors) != len(self._events):
            self.descriptors = tuple(self._events)
        return frozenset(tids)

    def close(self) -> None:
        """Listen to nobody."""
        self.follow((), 0.0)

    @property
    def status(self) -> str:
        """One line: to how many threads it listens, and why not to the others."""
        if self._refusal and not self._events:
            return f"off: {self._refusal}"
        resting = sum(until < FOR_LIFE for until in self._resting.values())
        restless = f" ({resting} left their CPU too often in the last minute)" if resting else ""
        preempted = "" if self._tracepoint is not None else ", by every context switch: tracefs is not to be read"
        return f"{len(self._events)} of {len(self._tids)} PMD threads{restless}{preempted}"

    def _open(self, tid: int) -> None:
        try:
            event = _Event(tid, self._tracepoint)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return  # it has just ended: the next look tells
            if self._tracepoint is not None:
                self._tracepoint = None  # seen in tracefs, and not to be had
                self._open(tid)
                return
            self._refusal = _explain(error, self._proc)
            self._resting[tid] = FOR_LIFE
            return
        self._events[event.descriptor] = event

    def _close(self, event: _Event) -> None:
        del self._events[event.descriptor]
        event.close()


def event_witness(wanted: str, proc: Path = Path("/proc")) -> Switches | NoSwitches:
    """wanted: auto, or off. Tried on this very thread: what is refused there is refused everywhere."""
    if wanted == "off":
        return NoSwitches("event-witness: off")
    try:
        os.close(perf_event(0, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES))
    except OSError as error:
        return NoSwitches(_explain(error, proc))
    return Switches(proc)


def _sched_switch(proc: Path) -> int | None:
    """The number of the tracepoint sched_switch; None where this user, or this host, has no tracefs."""
    try:
        mounts = [line.split() for line in (proc / "self" / "mounts").read_text().splitlines()]
        # tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0
        root = next((Path(words[1]) for words in mounts if words[2] == "tracefs"), None)
        return None if root is None else int((root / "events" / "sched" / "sched_switch" / "id").read_text())
    except (OSError, ValueError):
        return None


def _explain(error: OSError, proc: Path) -> str:
    if error.errno not in (errno.EPERM, errno.EACCES):
        return f"perf_event_open: {error.strerror}"
    try:
        level = (proc / "sys" / "kernel" / "perf_event_paranoid").read_text().strip()
    except OSError:
        level = "unknown"
    return f"perf_event_paranoid {level} needs CAP_PERFMON"
