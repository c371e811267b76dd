# SPDX-License-Identifier: Apache-2.0
"""What a timing test needs on a machine it does not own: exact moments, and runs that count only if CPU was there."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import pytest

from ovs_keepalive.beat import LATE
from ovs_keepalive.ptrace import PTRACE_DETACH, HoldError, ptrace, seize
from ovs_keepalive.sandbox import Sandbox
from tests import realtime
from tests.conftest import cannot

T = TypeVar("T")

LOST = 0.010  # seconds of CPU whose loss makes a run void (issue 3)
TICK = 0.002


class Injected(NamedTuple):
    """When a fault took hold: not before, and not after these moments (monotonic seconds)."""

    earliest: float
    latest: float


@contextmanager
def stopped(tid: int) -> Iterator[Injected]:
    """Hold a thread by ptrace from this very thread, so that the moment is known."""
    earliest = time.monotonic()
    try:
        seize(tid)
    except HoldError as error:
        cannot(str(error))
    try:
        yield Injected(earliest, time.monotonic())
    finally:
        ptrace(PTRACE_DETACH, tid)


class Background(threading.Thread):
    """Runs beside a block of code until its end; run() asks `over`."""

    def __init__(self) -> None:
        super().__init__(name=type(self).__name__.lower())
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.join()


class Ticker(Background):
    """Knows how late a thread of this process was woken: CPU that nobody in this run could count on. Seconds."""

    def __init__(self, cpu: int | None = None) -> None:
        """cpu: the one that it looks at; None: whichever it is given."""
        super().__init__()
        self._cpu = cpu
        self._preferred = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR  # as whoever asks it
        self.worst = 0.0
        self.lost = 0.0  # in sum, as the daemon adds it up for its beat

    def run(self) -> None:
        """Sleep, and look at the clock."""
        if self._preferred:
            realtime.prefer([threading.get_native_id()])
        if self._cpu is not None:
            os.sched_setaffinity(threading.get_native_id(), {self._cpu})
        while not self.over.is_set():
            planned = time.monotonic() + TICK
            time.sleep(TICK)
            late = time.monotonic() - planned
            self.worst = max(self.worst, late)
            self.lost += late if late > LATE else 0.0


def wait_for_calm(seconds: float) -> None:
    """Wait until this machine has lost no CPU for a second, at most so long: a neighbour's storm passes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with Ticker() as ticker:
            time.sleep(1.0)
        if ticker.worst <= LOST:
            return


def undisturbed(sandbox: Sandbox, run: Callable[[], T], tries: int = 12) -> T:
    """The result of a run in which neither the daemon nor this process lost CPU. Void runs are printed."""
    for attempt in range(1, tries + 1):
        realtime.prefer_sandbox(sandbox)
        before = own_blind(sandbox)
        with realtime.preferred(), Ticker() as ticker:
            result = run()
        lost = max(ticker.worst, own_blind(sandbox) - before)
        if lost <= LOST:
            return result
        print(f"run {attempt} is void: {lost * 1000:.0f} ms of CPU lost")
    pytest.skip(
        f"{tries} runs in a row lost more than {LOST * 1000:.0f} ms of CPU: this machine is too busy to measure"
    )


def own_blind(sandbox: Sandbox) -> float:
    """Seconds for which the daemon itself did not get the CPU it was due, since its start."""
    return float(node(sandbox)["cost"]["own_blind_ms"]) / 1000


def node(sandbox: Sandbox) -> dict[str, Any]:
    """The node document of the sandbox's daemon."""
    document: dict[str, Any] = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
    return document
