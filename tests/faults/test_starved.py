# SPDX-License-Identifier: Apache-2.0
"""A PMD thread could run, and something else has its CPU: a real-time thread on its core, or a quota of its cgroup.

It does go on, a few milliseconds in each second, and is then ALIVE. Between these moments it makes no progress for
950 ms: that is less than an interval of 1000 ms, and more than a shorter one, at which it comes and goes. Whenever it
is not ALIVE the cause is `starved`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from ovs_keepalive.core.model import BAD
from tests.conftest import cannot
from tests.faults.inject import starved, throttled
from tests.faults.laboratory import Fault, Laboratory, Rounds, begun, cause_of

pytestmark = pytest.mark.real

MAX_SLEEP = 0  # a PMD that sleeps would ask for little of what it is refused


@contextmanager
def hog(tid: int) -> Iterator[None]:
    """A SCHED_FIFO thread on the PMD's core. As on a real host everything else runs on other cores."""
    *others, cpu = sorted(os.sched_getaffinity(0))
    if not others:
        cannot("one CPU only: a hog on it would take this test's as well")
    this = psutil.Process()
    with _confined(set(others), this, *this.children()), starved(tid, cpu):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("fault", [hog, throttled])
def test_a_starved_pmd_is_alive_whenever_it_runs_and_else_starved(rounds: Rounds, fault: Fault) -> None:
    def run(laboratory: Laboratory) -> None:
        sick, tid = next(iter(laboratory.sandbox.pmds().items()))
        with begun(fault, tid) as injected:
            time.sleep(4.0)
            end = time.monotonic()
        laboratory.wait_for(sick, "ALIVE", end)
        laboratory.assert_others_are_well(sick, injected.earliest)
        told = [one for one in laboratory.since(injected.earliest) if one.at < end]
        assert {cause_of(one.detail[sick]) for one in told if one.state(sick) in BAD} <= {"starved"}
        if laboratory.interval < 0.9:
            states = laboratory.subscriber.states(sick, injected.earliest)
            assert {"ALIVE", "MISSING", "DEAD"} <= set(states)

    rounds.repeat(fault.__name__, run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param((1000, 1), id="once", marks=pytest.mark.timeout(120)),
        pytest.param((1000, 20), id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
    indirect=True,
)
def test_a_pmd_beside_a_hog_is_alive_and_the_hog_is_named(rounds: Rounds) -> None:
    def run(laboratory: Laboratory) -> None:
        sick, tid = next(iter(laboratory.sandbox.pmds().items()))
        with begun(hog, tid) as injected:
            time.sleep(8.0)  # over three intervals, from one whole look to the next
            end = time.monotonic()
        told = [one for one in laboratory.since(injected.earliest) if one.at < end]
        laboratory.assert_others_are_well(sick, injected.earliest)
        assert set(laboratory.subscriber.states(sick, injected.earliest)) == {"ALIVE"}
        last = told[-1].detail.get(sick, "nothing")
        assert last.startswith("cause=starved;")
        assert "python" in last  # who was last seen on its core

    rounds.repeat("hog, ALIVE", run)


@contextmanager
def _confined(cpus: set[int], *processes: psutil.Process) -> Iterator[None]:
    """No thread of these processes runs on any other CPU."""
    before = {thread.id: os.sched_getaffinity(thread.id) for process in processes for thread in process.threads()}
    try:
        for tid in before:
            os.sched_setaffinity(tid, cpus)
        yield
    finally:
        for tid, allowed in before.items():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(tid, allowed)
