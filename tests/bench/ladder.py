# SPDX-License-Identifier: Apache-2.0
"""A plain ladder, as the keepalive series of 2017 has it: what the bench compares the daemon with.

After "[ovs-dev] [PATCH v4 0/7] Add OVS DPDK keep-alive functionality" (22 August 2017): a thread wakes up once an
interval; a PMD that has not shown itself since goes one step down, ALIVE, MISSING, DEAD, GONE; one that has is ALIVE.
There a PMD marks itself; here, as from outside, its Iterations of dpif-netdev/pmd-perf-show have changed, by which the
daemon goes as well. No answer within an interval counts as no iteration.

The series takes the step to MISSING with every interval and tells it as ALIVE (dispatch_heartbeats() and
ka_update_thread_state() in its lib/keepalive.c): the first it tells of a stall is DEAD, when this ladder says MISSING,
and then GONE, when this one says DEAD.

The ladder is given every advantage: what it finds counts as told at once, without OVSDB.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from ovs_keepalive.formats import pmd_perf
from ovs_keepalive.sandbox import SandboxError

STEPS = ("ALIVE", "MISSING", "DEAD", "GONE")


class Step(NamedTuple):
    """A PMD's state from a moment on (monotonic seconds)."""

    at: float
    core: int
    state: str


class Ladder:
    """Watches all PMDs from a thread of its own. ask: the text of pmd-perf-show, waited for so many seconds."""

    def __init__(self, ask: Callable[[float], str], interval: float) -> None:
        self.steps: list[Step] = []
        self._ask = ask
        self._interval = interval  # seconds
        self._counts: dict[int, int] = {}  # iterations by core
        self._rungs: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ladder")

    def __enter__(self) -> Ladder:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def state(self, core: int) -> str:
        """The present one; "" before the first look."""
        return STEPS[self._rungs[core]] if core in self._rungs else ""

    def first(self, core: int, state: str, since: float) -> float | None:
        """When a core had that state first, since then."""
        return next((step.at for step in list(self.steps) if step[1:] == (core, state) and step.at >= since), None)

    def _run(self) -> None:
        tick = time.monotonic()
        while not self._stop.wait(max(0.0, tick - time.monotonic())):
            self._look()
            tick = max(tick + self._interval, time.monotonic())

    def _look(self) -> None:
        counts: dict[int, int] | None
        try:
            counts = pmd_perf.parse_iterations(self._ask(self._interval))
        except (OSError, SandboxError):  # no answer in time, or nobody to answer
            counts = None
        now = time.monotonic()
        counts = self._counts if counts is None else counts
        for core, count in counts.items():
            before = self._rungs.get(core)
            rung = 0 if before is None or count != self._counts.get(core) else min(before + 1, len(STEPS) - 1)
            if rung != before:
                self.steps.append(Step(now, core, STEPS[rung]))
            self._rungs[core] = rung
        self._counts = counts
