# SPDX-License-Identifier: Apache-2.0
"""The laboratory: a real OVS, the real daemon, a subscriber; one fault after the other, and what was told of each."""

from __future__ import annotations

import itertools
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import pytest

from ovs_keepalive.core.model import BAD
from ovs_keepalive.formats import column
from ovs_keepalive.ptrace import as_user
from ovs_keepalive.sandbox import Sandbox, SandboxError, missing, wait
from tests import realtime
from tests.conftest import cannot
from tests.lab import LOST, Injected, Ticker, own_blind, wait_for_calm
from tests.subscriber import Subscriber, Told
from tests.switch import TestedSandbox

Fault = Callable[[int], AbstractContextManager[object]]

HARMLESS = {"starved", "none"}  # causes told of a PMD that is well: it and main share their CPUs with all the rest
NAP = 1000  # microseconds that an idle PMD rests between two iterations
REST = 0.002  # seconds by which the last progress of such a PMD may be older than the fault
VOIDS = 12  # runs in a row that may be void before the machine is called too busy
PATIENCE = 2.0, 120.0  # seconds, of a short and of a long test: to wait for calm before a run
VOID_SHARE = 0.10  # of all runs of a long test (issue 3)


class Course(NamedTuple):
    """A fault as the subscriber was told of it, in intervals since the fault (recovered: since the release)."""

    states: list[str]  # of the PMD at fault
    missing: float | None
    dead: float | None
    gone: float | None
    recovered: float
    rested: float  # by how much the last progress may be older than the fault
    uncertainty: float  # how exactly the fault's moment is known
    causes: set[str]  # all that were told of it; while it was well, but for what is harmless
    last_seen: set[int]  # epoch ms, in the pairs that told MISSING, DEAD or GONE

    def assert_told_in_time(self) -> None:
        """The times of CONTRACT section 4, for a stall whose PMD returns as soon as it is released."""
        assert self.states[-4:] == ["MISSING", "DEAD", "GONE", "ALIVE"]
        assert set(self.states[:-4]) <= {"ALIVE"}  # a refresh between the fault and its detection
        assert self.missing is not None
        assert self.dead is not None
        assert self.gone is not None
        assert 1.0 - self.rested <= self.missing <= 1.25 + self.uncertainty
        assert self.missing < self.dead <= 1.5 + self.uncertainty
        assert 3.0 - self.rested <= self.gone <= 3.5 + self.uncertainty
        assert self.recovered <= 0.5


class Laboratory:
    """Two PMD threads that sleep a millisecond at a time, watched, and a subscriber."""

    def __init__(self, max_sleep: int = NAP, user: int = 0, config: Mapping[str, object] | None = None) -> None:
        """max_sleep: microseconds that an idle PMD rests; user: the uid that the daemon runs as, 0 for root;
        config: keys of its configuration file.
        """
        if reason := missing():
            cannot(reason)
        self.interval = 0.5  # seconds
        self._max_sleep, self._user = max_sleep, user
        self._config = {"max-main-share": 50, "ports-period": 0, **(config or {})}
        self._stack = ExitStack()
        self._start()

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def make_ready(self, interval_ms: int) -> None:
        """Wait until all is well, as before the first fault; if a test left it broken, start afresh."""
        try:
            wait(self._is_well, "all well", 10)
        except SandboxError:
            self._stack.close()
            self._start()
        self.sandbox.settings(keepalive_interval=interval_ms)
        wait(lambda: f"interval={interval_ms};" in self.last.detail["daemon"], "the new interval", 10)
        wait(self._is_well, "all well", 10)
        realtime.prefer_sandbox(self.sandbox, pmds=not self.starves)
        self.interval = interval_ms / 1000

    @property
    def starves(self) -> bool:
        """Whether its faults take a CPU from its PMDs, and so from everybody."""
        return self._max_sleep == 0

    @property
    def last(self) -> Told:
        """What the subscriber was told last."""
        return self.subscriber.updates[-1]

    def history(self) -> str:
        """The daemon's own story, for the message of a test that fails."""
        return self.sandbox.appctl("keepalive/history", "8", target="ovs-keepalive")

    # --- faults --------------------------------------------------------------------------------

    def stall(self, fault: Fault) -> Course:
        """One PMD's fault from its beginning until it is GONE, and until the PMD is ALIVE again. The others do well."""
        sick, tid = next(iter(self.sandbox.pmds().items()))
        with begun(fault, tid) as injected:
            self.wait_for(sick, "GONE", injected.earliest)
            released = time.monotonic()
        course = self.course(sick, injected, released)
        self.assert_others_are_well(sick, injected.earliest)
        assert self.states_of_vswitchd(injected.earliest) == ["RUNNING"]
        return course

    def course(self, sick: str, injected: Injected, released: float, answered: float = 0.0) -> Course:
        """What was told of a PMD: waits until it is ALIVE again, its cause taken back.

        answered: when vswitchd's main thread answered again, if it did not all the time.
        """
        begin = injected.earliest
        back = self.wait_for(sick, "ALIVE", released)
        wait(lambda: self._blames(sick) in HARMLESS, f"the cause of {sick} taken back", 5)

        def at(state: str) -> float | None:
            told = self.subscriber.first(sick, state, begin)
            return None if told is None else (told.at - begin) / self.interval

        told = self.since(begin)
        causes = [(one.state(sick), cause_of(one.detail[sick])) for one in told if sick in one.detail]
        return Course(
            states=self.subscriber.states(sick, begin),
            missing=at("MISSING"),
            dead=at("DEAD"),
            gone=at("GONE"),
            recovered=(back.at - max(released, answered)) / self.interval,
            rested=REST / self.interval,
            uncertainty=(injected.latest - begin) / self.interval,
            causes={cause for state, cause in causes if state in BAD or cause not in HARMLESS},
            last_seen={column.parse(one.keepalive[sick]).last_seen_ms for one in told if one.state(sick) in BAD},
        )

    # --- what was told -------------------------------------------------------------------------

    def since(self, begin: float) -> list[Told]:
        """All that the subscriber was told since then."""
        return [told for told in list(self.subscriber.updates) if told.at >= begin]

    def wait_for(self, name: str, state: str, begin: float) -> Told:
        """The first update since then that has a PMD in this state."""
        return wait(lambda: self.subscriber.first(name, state, begin), f"{name} {state}", 20 * self.interval + 5)

    def states_of_vswitchd(self, begin: float) -> list[str]:
        """Its states from the update before that moment on, each once."""
        before = [told for told in list(self.subscriber.updates) if told.at < begin][-1:]
        states = [told.detail["vswitchd"].partition(";")[0] for told in before + self.since(begin)]
        return [state for state, _ in itertools.groupby(states)]

    def wait_for_vswitchd(self, state: str, begin: float, seconds: float = 10) -> Told:
        """The first update since then that has vswitchd in this state."""

        def told() -> Told | None:
            return next((one for one in self.since(begin) if one.detail["vswitchd"].startswith(f"{state};")), None)

        return wait(told, f"vswitchd {state}", seconds)

    def assert_others_are_well(self, sick: str, begin: float) -> None:
        """Nothing bad was told of any other PMD since then."""
        for name in self.sandbox.pmds().keys() - {sick}:
            assert set(self.subscriber.states(name, begin)) <= {"ALIVE"}
            assert {cause_of(told.detail[name]) for told in self.since(begin) if name in told.detail} <= HARMLESS

    # --- below the surface ---------------------------------------------------------------------

    def _start(self) -> None:
        with ExitStack() as stack:
            self.sandbox = stack.enter_context(TestedSandbox(pmds=2, max_sleep=self._max_sleep))
            self.sandbox.settings(enable_keepalive=True, keepalive_interval=500)
            if self._user:
                may_be_used(self.sandbox, self._user)
            self.sandbox.start_daemon(config=self._config, through=as_user(self._user))
            wait(lambda: len(self.sandbox.column()) == 2, "2 PMDs in the column", 15)
            self.subscriber = stack.enter_context(Subscriber(self.sandbox.remote))
            wait(lambda: self.subscriber.updates, "the subscriber's first update", 5)
            self._stack = stack.pop_all()

    def _blames(self, name: str) -> str:
        """The cause that is told of a PMD now."""
        return cause_of(self.last.detail[name]) if name in self.last.detail else "none"

    def _is_well(self) -> bool:
        last, names = self.last, set(self.sandbox.pmds())
        return (
            len(names) == 2
            and set(last.keepalive) == names
            and {last.state(name) for name in names} <= {"ALIVE", "SLEEP"}
            and {self._blames(name) for name in names} <= HARMLESS
            and last.detail["vswitchd"].startswith("RUNNING;")
            and "silent=" not in last.detail["vswitchd"]
        )


def may_be_used(sandbox: Sandbox, user: int) -> None:
    """Let anybody connect to the two sockets, and write in OVS_RUNDIR: all that the daemon needs."""
    for path in (sandbox.dir, sandbox.dir / "db.sock", sandbox.dir / f"ovs-vswitchd.{sandbox.vswitchd_pid}.ctl"):
        path.chmod(0o777)
    may = "import os, sys, ovs_keepalive; sys.exit(not os.access(sys.argv[1], os.W_OK))"
    argv = [*as_user(user), sys.executable, "-c", may, str(sandbox.dir)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip(
            f"uid {user} may not read this checkout, its Python, or {sandbox.dir}: put them where everybody may"
        )


Run = Callable[[Laboratory], Course | None]


class Rounds(NamedTuple):
    """How often a fault is injected, and at which interval."""

    laboratory: Laboratory
    interval_ms: int
    runs: int
    table: list[str]

    def repeat(self, fault: str, run: Run) -> None:
        """Repeat a run until it counted often enough. Runs that lost CPU are void, whatever they showed."""
        wrong: list[str] = []
        courses: list[Course] = []
        counted = voids = in_a_row = 0
        while counted < self.runs:
            if in_a_row or self.runs > 1:  # a storm of the neighbours lasts longer than a run
                wait_for_calm(PATIENCE[self.runs > 1])
            self.laboratory.make_ready(self.interval_ms)
            # At any phase of the daemon's looks.
            time.sleep(random.uniform(0, self.laboratory.interval))  # noqa: S311
            failure, course, lost = self._once(run)
            if lost > LOST:
                voids, in_a_row = voids + 1, in_a_row + 1
                print(f"run {counted + 1} is void: {lost * 1000:.0f} ms of CPU lost{failure and ', and '}{failure}")
                if in_a_row == VOIDS:
                    pytest.skip(f"{VOIDS} runs in a row lost more than {LOST * 1000:.0f} ms of CPU: too busy a machine")
                continue
            counted, in_a_row = counted + 1, 0
            wrong += [failure] if failure else []
            courses += [course] if course else []
            print(course)
        self.table.append(row(fault, self.interval_ms, counted, counted - len(wrong), voids, courses))
        assert not wrong, f"{len(wrong)} of {counted} runs are wrong, the first one: {wrong[0]}"
        if self.runs > 1 and voids > VOID_SHARE * (counted + voids):
            pytest.skip(f"{counted} of {counted} runs are right, but {voids} were void: too busy a machine")

    def _once(self, run: Run) -> tuple[str, Course | None, float]:
        laboratory = self.laboratory
        before, failure, course = own_blind(laboratory.sandbox), "", None
        with realtime.preferred(alone=laboratory.starves), Ticker() as ticker:
            try:
                course = run(laboratory)
            except (AssertionError, SandboxError) as error:
                failure = f"{error}\n{laboratory.history()}"
        return failure, course, max(ticker.worst, own_blind(laboratory.sandbox) - before)


HEAD = f"{'fault':32} interval runs right void   {'MISSING min/median/max':24} DEAD min/median/max"


def row(fault: str, interval_ms: int, runs: int, right: int, voids: int, courses: list[Course]) -> str:
    """A line of the table: times in intervals since the fault."""

    def spread(times: list[float]) -> str:
        return " / ".join(f"{f(times):.2f}" for f in (min, statistics.median, max)) if times else "-"

    missing = spread([course.missing for course in courses if course.missing is not None])
    dead = spread([course.dead for course in courses if course.dead is not None])
    return f"{fault:32} {interval_ms:>5} ms {runs:>4} {right:>5} {voids:>4}   {missing:24} {dead}"


@contextmanager
def begun(fault: Fault, tid: int) -> Iterator[Injected]:
    """A fault, and the moments between which it took hold."""
    earliest = time.monotonic()
    with fault(tid):
        yield Injected(earliest, time.monotonic())


def cause_of(detail: str) -> str:
    """The cause in a PMD's value of keepalive_detail, which has to be cause, since and witness."""
    match = re.fullmatch(r"cause=([a-z-]+);since=\d{13};witness=[^;]+", detail)
    assert match is not None, detail
    return match[1]
