# SPDX-License-Identifier: Apache-2.0
"""From a PMD that is held to what an OVSDB subscriber is told of it, in intervals."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.bench.meters import table
from tests.lab import LOST, stopped, undisturbed
from tests.subscriber import Subscriber

INTERVALS = (1000, 500, 100)  # milliseconds
NAP = 1000  # microseconds that the PMD rests at most: the fault's moment is known that exactly
PROMISED = "1.00 ... 1.25 | 1.00 ... 1.50 | 3.00 ... 3.50 | ... 0.50"


class Course(NamedTuple):
    """When each state was told, in intervals since the fault (alive: since the release)."""

    missing: float
    dead: float
    gone: float
    alive: float


def show(repeats: int, tries: int) -> None:
    """Hold a PMD at each interval, and print when that was told."""
    print(
        f"\n## 3. Detection of a held PMD, from the fault to an OVSDB subscriber\n\n"
        f"{repeats} runs at each interval; minimum / median / maximum, in intervals. Runs in which the daemon or the "
        f"bench lost\nmore than {LOST * 1000:.0f} ms of CPU at once are void and made anew.\n"
    )
    with Sandbox(pmds=2, max_sleep=NAP) as sandbox:
        sandbox.settings(enable_keepalive=True, keepalive_interval=INTERVALS[0])
        sandbox.start_daemon(config={"max-main-share": 50})
        wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
        with Subscriber(sandbox.remote) as subscriber:
            rows = [_row(ms, _courses(sandbox, subscriber, ms, repeats, tries)) for ms in INTERVALS]
    promised = ["promised", "", *PROMISED.split(" | ")]
    print()
    print(table(["interval", "runs", "MISSING", "DEAD", "GONE", "ALIVE again"], [*rows, promised]))


def _courses(sandbox: Sandbox, subscriber: Subscriber, interval_ms: int, repeats: int, tries: int) -> list[Course]:
    sandbox.settings(keepalive_interval=interval_ms)
    wait(lambda: f"interval={interval_ms};" in sandbox.detail().get("daemon", ""), "the new interval", 10)
    courses: list[Course] = []
    try:
        while len(courses) < repeats:
            courses.append(undisturbed(sandbox, lambda: _hold(sandbox, subscriber, interval_ms / 1000), tries))
    except pytest.skip.Exception as why:
        print(f"{interval_ms} ms: {why}")
    return courses


def _hold(sandbox: Sandbox, subscriber: Subscriber, interval: float) -> Course:
    """Hold the first PMD until it is GONE, let it go, and see it ALIVE again."""
    name, tid = next(iter(sandbox.pmds().items()))
    time.sleep(random.uniform(0.5, 1.5) * interval)  # noqa: S311 - at any phase of the daemon's looks

    def told(state: str, since: float) -> float:
        return wait(lambda: subscriber.first(name, state, since), f"{name} {state}", 20 * interval + 5).at

    with stopped(tid) as injected:
        gone = told("GONE", injected.earliest)
    released = time.monotonic()
    alive = told("ALIVE", released)
    begin = injected.earliest
    missing, dead = told("MISSING", begin), told("DEAD", begin)
    return Course(
        (missing - begin) / interval,
        (dead - begin) / interval,
        (gone - begin) / interval,
        (alive - released) / interval,
    )


def _row(interval_ms: int, courses: Sequence[Course]) -> list[str]:
    def spread(times: Sequence[float]) -> str:
        return " / ".join(f"{f(times):.2f}" for f in (min, statistics.median, max)) if times else "too busy"

    spreads = [spread([getattr(course, field) for course in courses]) for field in Course._fields]
    return [f"{interval_ms} ms", str(len(courses)), *spreads]
