# SPDX-License-Identifier: Apache-2.0
"""What the event witness adds: a stall that leaves the CPU is told at its time; whoever rings without one is let be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.model import Cause, State
from tests.looks import WELL, Scene

OFF_CPU = (Cause.STOPPED, Cause.TRACED, Cause.BLOCKED, Cause.UNINTERRUPTIBLE, Cause.FROZEN)
LATE = 0.013  # seconds: two answers, and the rest between two looks


@pytest.mark.parametrize("cause", OFF_CPU)
@given(phase=st.floats(0.0, 1.0), interval=st.sampled_from((0.1, 0.5, 1.0)))
def test_a_stall_that_rings_is_told_at_its_time(cause: Cause, phase: float, interval: float) -> None:
    scene = Scene(interval=interval)
    scene.run(phase * interval)
    begin, worker = scene.now, scene.workers[0]
    worker.fails(cause)
    scene.rings(worker)
    scene.run(2 * interval)
    assert scene.states(worker, begin) == [State.MISSING, State.DEAD]
    soonest = interval - scene.latency  # its last progress was seen so long before, at most
    assert soonest <= scene.when(worker, State.MISSING) - begin <= interval + LATE
    assert soonest <= scene.when(worker, State.DEAD) - begin <= 1.1 * interval + 2 * LATE
    assert scene.pmd(worker).cause is cause
    assert all(scene.state(other) in WELL for other in scene.workers[1:])


@given(phase=st.floats(0.0, 1.0))
def test_a_thread_that_rings_as_it_ends_is_gone_at_its_time(phase: float) -> None:
    scene = Scene()
    scene.run(phase)
    begin, worker = scene.now, scene.workers[0]
    worker.works = worker.exists = False
    scene.rings(worker)
    scene.run(2.0)
    assert scene.states(worker, begin)[-1] is State.GONE
    assert 1.0 - scene.latency <= scene.when(worker, State.GONE) - begin <= 1.0 + LATE
    assert scene.pmd(worker).cause is Cause.EXITED


@given(naps=st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.9)), max_size=20), answers=st.booleans())
def test_naps_that_ring_never_come_to_a_verdict(naps: list[tuple[float, float]], answers: bool) -> None:
    scene = Scene()
    worker = scene.workers[0]
    begin, scene.answers = scene.now, answers
    for awake, asleep in naps:
        scene.run(awake + 0.001)
        worker.fails(Cause.BLOCKED)
        scene.rings(worker)
        scene.run(asleep)
        worker.recovers()
    assert not set(scene.states(worker, begin)) - set(WELL)


@given(pauses=st.lists(st.floats(0.0, 0.05), min_size=2, max_size=50))
def test_a_storm_of_rings_makes_few_looks(pauses: list[float]) -> None:
    scene = Scene()
    looks = []
    for pause in pauses:
        scene.run(pause)
        scene.rings(scene.workers[0])
        looks.append(scene._last_look)
    taken = sorted(set(looks))
    # Two in a row may be due at the tick; three are not nearer than one rest.
    assert all(after - before >= scene.grace - 1e-9 for before, after in pairwise(taken[::2]))
