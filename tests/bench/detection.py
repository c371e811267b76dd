# SPDX-License-Identifier: Apache-2.0
"""From a PMD's fault to what is told of it, in intervals: by the daemon to an OVSDB subscriber, and by a plain ladder.

Both watch the same PMD at the same time, through the same fault. The reading of the table is docs/detection.md.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pytest

from ovs_keepalive.sandbox import SandboxError, request, wait
from tests.bench.ladder import Ladder
from tests.bench.meters import table
from tests.faults.inject import asleep, frozen, paused, spinning, stopped_process, uninterruptible
from tests.faults.laboratory import NAP, Fault, Laboratory, begun, cause_of
from tests.lab import LOST, Ticker, node, own_blind, stopped

INTERVALS = (1000, 500, 200, 100, 50)  # milliseconds
FAULTS: dict[str, tuple[Fault, str]] = {  # and the cause that has to be told
    "traced": (stopped, "traced"),
    "asleep": (asleep, "blocked"),
    "paused": (paused, "blocked"),
    "uninterruptible": (uninterruptible, "uninterruptible"),
    "frozen": (frozen, "frozen"),
    "spinning": (spinning, "spinning"),
    "SIGSTOP": (stopped_process, "stopped"),
}
STATES = ("MISSING", "DEAD", "GONE")
PROMISED = ["1.00 ... 1.25", "1.00 ... 1.50", "3.00 ... 3.50", "... 0.50"]  # for 100 ms and more
HEAD = ["interval", "fault", "runs", "void", "taking hold", *STATES, "ALIVE again", "cause right"]


class Course(NamedTuple):
    """When each state was told, in intervals since the fault (ALIVE: since the release)."""

    missing: float
    dead: float
    gone: float
    alive: float


class Run(NamedTuple):
    """One fault, as both told it."""

    daemon: Course
    ladder: Course
    causes: set[str]  # all that the daemon told
    uncertainty: float  # intervals that the fault took to take hold


class Plan(NamedTuple):
    """What to measure, and how often."""

    intervals: Sequence[int]  # milliseconds
    faults: Sequence[str]
    repeats: int
    voids: int  # in a row, after which the machine is too busy
    vary: str = ""  # a key of the daemon's configuration, for each of whose values all is measured
    values: Sequence[object] = (None,)


class Rows:
    """The lines of both tables."""

    def __init__(self) -> None:
        self.daemon: list[list[str]] = []
        self.ladder: list[list[str]] = []


def show(plan: Plan) -> None:
    """Inject each fault at each interval, and print when that was told."""
    print(
        f"\n## 3. Detection, from the fault to what is told of it\n\n"
        f"{plan.repeats} runs a line, each at random phase: minimum / median / maximum, in intervals.\n"
        f"Void, and made anew, is a run in which daemon or bench lost more than {LOST * 1000:.0f} ms of CPU at once.\n"
        "Taking hold: how long that took at most. Times count from its beginning."
    )
    rows = Rows()
    for value in plan.values:
        config = {plan.vary: value} if plan.vary else {}
        laboratory = Laboratory(NAP, config=config)
        try:
            for ms in plan.intervals:
                for fault in plan.faults:
                    _measure(laboratory, ms, fault, plan, rows, [str(value)] if plan.vary else [])
        finally:
            laboratory.close()
    head = [*([plan.vary] if plan.vary else []), *HEAD]
    promised = [*([""] if plan.vary else []), "promised", "", "", "", "", *PROMISED, "all"]
    print(f"\nThe daemon, as an OVSDB subscriber is told:\n\n{table(head, [*rows.daemon, promised])}")
    print(f"\nThe plain ladder (tests/bench/ladder.py), at the same faults:\n\n{table(head, rows.ladder)}")


def _measure(laboratory: Laboratory, ms: int, fault: str, plan: Plan, rows: Rows, varied: list[str]) -> None:
    """One line of each table."""
    runs: list[Run] = []
    counted = voids = in_a_row = 0
    laboratory.make_ready(ms)
    if (effective := round(node(laboratory.sandbox)["effective_interval_ms"])) != ms:
        print(f"{ms} ms: the daemon stretches that to {effective} ms")
    try:
        with Ladder(partial(_perf_show, laboratory), ms / 1000) as ladder:
            while counted < plan.repeats and in_a_row < plan.voids:
                laboratory.make_ready(ms)
                run, lost = _once(laboratory, ladder, FAULTS[fault][0])
                if lost > LOST:
                    voids, in_a_row = voids + 1, in_a_row + 1
                    continue
                counted, in_a_row = counted + 1, 0
                if isinstance(run, Run):
                    runs.append(run)
                else:
                    print(f"{ms} ms, {fault}: WRONG: {run}\n{laboratory.history()}")
    except pytest.skip.Exception as why:
        print(f"{ms} ms, {fault}: {why}")
    if in_a_row == plan.voids:
        print(f"{ms} ms, {fault}: {voids} void runs in a row: this machine is too busy to measure")
    hold = [run.uncertainty for run in runs]
    right = sum(run.causes == {FAULTS[fault][1]} for run in runs)
    first = [*varied, f"{ms} ms", fault, str(counted), str(voids), f"{max(hold):.2f}" if hold else "-"]
    rows.daemon.append([*first, *_spreads([run.daemon for run in runs]), f"{right} of {counted}"])
    rows.ladder.append([*first, *_spreads([run.ladder for run in runs]), "tells none"])


def _perf_show(laboratory: Laboratory, seconds: float) -> str:
    """What the ladder asks for, on a connection of its own."""
    sandbox = laboratory.sandbox
    control = sandbox.dir / f"ovs-vswitchd.{sandbox.vswitchd_pid}.ctl"
    return str(request(control, "dpif-netdev/pmd-perf-show", ["-nh"], seconds))


def _once(laboratory: Laboratory, ladder: Ladder, fault: Fault) -> tuple[Run | str, float]:
    """A run, or what went wrong in it, and how many seconds of CPU it lost at once."""
    before, run = own_blind(laboratory.sandbox), None
    with Ticker() as ticker:
        try:
            run = _run(laboratory, ladder, fault)
        except (AssertionError, SandboxError) as error:
            wrong = str(error)
    lost = max(ticker.worst, own_blind(laboratory.sandbox) - before)
    return run if run is not None else wrong, lost


def _spreads(courses: Sequence[Course]) -> list[str]:
    times = list(zip(*courses, strict=True)) or [()] * len(Course._fields)
    return [" / ".join(f"{f(one):.2f}" for f in (min, statistics.median, max)) if one else "-" for one in times]


def _run(laboratory: Laboratory, ladder: Ladder, fault: Fault) -> Run:
    """The first PMD's fault, until both have told it GONE, and until both have told it ALIVE again."""
    sick, tid = next(iter(laboratory.sandbox.pmds().items()))
    core = int(sick.removeprefix("pmd-c").partition("/")[0])
    interval = laboratory.interval
    wait(lambda: ladder.state(core) == "ALIVE", "the ladder says ALIVE", 5 * interval + 5)
    time.sleep(random.uniform(0, interval))  # noqa: S311 - at any phase of the looks

    def climbed(state: str, since: float) -> float:
        return wait(partial(ladder.first, core, state, since), f"ladder: {sick} {state}", 20 * interval + 5)

    def published(state: str, since: float) -> float:
        return laboratory.wait_for(sick, state, since).at

    with begun(fault, tid) as injected:
        begin = injected.earliest
        published("GONE", begin)
        climbed("GONE", begin)
        time.sleep(random.uniform(0, interval))  # noqa: S311
        released = time.monotonic()

    def course(told: Callable[[str, float], float]) -> Course:
        missing, dead, gone = ((told(state, begin) - begin) / interval for state in STATES)
        return Course(missing, dead, gone, (told("ALIVE", released) - released) / interval)

    daemon, ladders = course(published), course(climbed)
    if fault is not stopped_process:  # which has them all
        laboratory.assert_others_are_well(sick, begin)
    details = [one.detail for one in laboratory.since(begin)]
    return Run(
        daemon,
        ladders,
        {cause_of(detail[sick]) for detail in details if sick in detail},
        (injected.latest - begin) / interval,
    )
