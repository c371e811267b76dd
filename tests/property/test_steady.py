# SPDX-License-Identifier: Apache-2.0
"""The short way of a steady look says exactly what the long way says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core import heartbeat, observe
from ovs_keepalive.core.model import (
    Looks,
    MainLook,
    Moment,
    PmdBlock,
    PmdRxqs,
    ProcessId,
    Rxq,
    Seen,
    Settings,
    ThreadId,
    ThreadLook,
)

PROCESS = ProcessId(100, 1000)
SETTINGS = Settings(enabled=True, interval=1.0, max_main_share=0.01, restart_deadline=60.0, hung_after=60.0)
PERIOD = 0.2
CORES = 3

Step = tuple[float, list[int], list[int], bool]

steps = st.lists(
    st.tuples(
        st.floats(0.05, 1.5),  # seconds until this look
        st.lists(st.integers(0, 3), min_size=CORES, max_size=CORES),  # iterations finished, by core
        st.lists(st.integers(0, 3), min_size=CORES, max_size=CORES),  # of them asleep
        st.booleans(),  # whether /proc and the rxqs were looked at too
    ),
    max_size=40,
)


@given(steps)
def test_the_short_way_says_what_the_long_way_says(steps: list[Step]) -> None:
    short = play(steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "gone_on", lambda *_: None)
        long = play(steps)
    assert [said(register) for register in short] == [said(register) for register in long]


def test_the_short_way_is_taken_at_all() -> None:
    taken: list[object] = []
    genuine = observe.gone_on

    def noted(*args: Any) -> Any:
        taken.append(genuine(*args))
        return taken[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "gone_on", noted)
        play([(0.2, [1] * CORES, [0] * CORES, True)] * 2 + [(0.2, [1] * CORES, [0] * CORES, False)] * 20)
    assert sum(result is not None for result in taken) >= 12


def said(register: heartbeat.Register) -> tuple[Any, ...]:
    """All that a register tells."""
    return register.pmds, register.vswitchd, register.history, register.version


def play(steps: list[Step]) -> list[heartbeat.Register]:
    """The registers after each of the looks."""
    now, register = 10.0, heartbeat.EMPTY
    iterations, asleep = [100] * CORES, [0] * CORES
    registers = []
    for pause, done, slept, wholly in steps:
        now += pause
        at = Moment(now, int(now * 1000))
        iterations = [before + more for before, more in zip(iterations, done, strict=True)]
        asleep = [before + min(more, most) for before, more, most in zip(asleep, slept, done, strict=True)]
        whole = tuple(
            PmdBlock("", 0, core, iterations[core], 0, iterations[core] - asleep[core], asleep[core], 0, 0)
            for core in range(CORES)
        )
        looks = Looks(
            now=at,
            process=PROCESS,
            main=MainLook("S", 0.0, answered=True),
            threads=Seen(at, tuple(thread(core, now) for core in range(CORES))) if wholly else None,
            counters=Seen(at, whole) if wholly else None,
            rxqs=Seen(at, tuple(PmdRxqs("", 0, core, (Rxq("p0", core),)) for core in range(CORES))) if wholly else None,
            iterations=None if wholly else Seen(at, dict(enumerate(iterations))),
        )
        register = heartbeat.judge(register, looks, SETTINGS, SETTINGS.interval, PERIOD)
        registers.append(register)
    return registers


def thread(core: int, now: float) -> ThreadLook:
    """A PMD thread as /proc shows it."""
    id = ThreadId(PROCESS, 200 + core, 2000)
    return ThreadLook(now, id, f"pmd-c{core:02d}/id:{core}", core, "R", int(now * 1e9), 0, None, None, None)
