# SPDX-License-Identifier: Apache-2.0
"""Three crashes within 10 min are a crash loop until 10 min pass without one, whatever the present process does."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_keepalive.core import incident, vswitchd
from ovs_keepalive.core.model import ProcessId, State, VswitchdState
from ovs_keepalive.core.vswitchd import CALM, CRASHES
from ovs_keepalive.formats import column, document, tables
from tests.looks import Scene, snapshot

LOOP = VswitchdState.CRASH_LOOP


class Life:
    """A vswitchd with one PMD thread that ends and starts again; it is looked at every few seconds."""

    def __init__(self, cores: int = 1) -> None:
        self.scene = Scene(cores=cores, interval=5.0)
        self._pids = count(500)

    @property
    def told(self) -> VswitchdState:
        return vswitchd.told(self.scene.register.vswitchd).state

    def crashes(self, orderly: bool = False) -> None:
        """End, and start again a second later."""
        self.scene.ends(orderly)
        self.scene.run(1.0)
        pid = next(self._pids)
        self.scene.starts(ProcessId(pid, 10 * pid))
        self.scene.add(0)
        self.scene.run(10.0)


@pytest.fixture
def life() -> Life:
    return Life()


def test_the_third_crash_within_10_min_is_a_loop_and_10_min_without_one_end_it(life: Life) -> None:
    life.crashes()
    life.scene.run(CALM / 2 - 20)
    life.crashes()
    life.scene.run(CALM / 2 - 20)
    assert life.told is VswitchdState.RUNNING
    life.scene.ends(orderly=False)
    assert life.told is LOOP
    last = life.scene.now
    life.scene.starts(ProcessId(900, 9000))
    life.scene.add(0)
    life.scene.run(CALM - 10)
    assert life.told is LOOP
    assert "3 crashes within 10 min; now RUNNING: answers" in vswitchd.told(life.scene.register.vswitchd).witness
    life.scene.run(20)
    assert life.told is VswitchdState.RUNNING
    ended = life.scene.register.history[-1]
    assert (ended.who, ended.old, ended.new) == ("vswitchd", "CRASH-LOOP", "RUNNING")
    assert last + CALM <= ended.at.mono <= last + CALM + 5


def test_three_crashes_that_lie_further_apart_are_no_loop(life: Life) -> None:
    for _ in range(5):
        life.crashes()
        life.scene.run(CALM / 2)
        assert life.told is VswitchdState.RUNNING


def test_orderly_restarts_are_no_crashes(life: Life) -> None:
    for _ in range(2 * CRASHES):
        life.crashes(orderly=True)
    assert life.told is VswitchdState.RUNNING


def test_each_crash_of_a_loop_is_one_line_and_no_start_is(life: Life) -> None:
    for _ in range(10):
        life.crashes()
    lines = [line for line in life.scene.register.history if line.who == "vswitchd" and line.new is LOOP]
    assert [line.evidence.partition(" ")[0] for line in lines] == [str(number) for number in range(3, 11)]
    assert all("now GONE: the process ended without removing its pidfile" in line.evidence for line in lines)


def test_a_crash_whose_end_is_noticed_late_is_a_crash_all_the_same(life: Life) -> None:
    """Its threads vanish a moment before it; then the daemon gets no CPU, and finds it gone."""
    [worker] = life.scene.workers
    worker.exists = False
    life.scene.answers = False
    while not any(pmd.vanished_at for pmd in life.scene.register.pmds.values()):
        life.scene.run(0.01)
    life.scene.now += 5 * vswitchd.LEFT_BEFORE
    life.scene.ends(orderly=False)
    assert life.told is VswitchdState.GONE


def test_a_crash_that_takes_long_to_give_its_memory_back_is_a_crash_all_the_same(life: Life) -> None:
    """Its threads are gone, its main thread ends and ends: with hugepages for most of a second."""
    [worker] = life.scene.workers
    worker.exists = False
    life.scene.answers, life.scene.main_state = False, "X"
    life.scene.run(10 * vswitchd.LEFT_BEFORE)
    life.scene.ends(orderly=False)
    assert life.told is VswitchdState.GONE


def test_the_pmds_of_a_loop_are_gone_when_they_are_and_alive_when_they_are(life: Life) -> None:
    for _ in range(CRASHES):
        life.crashes()
    assert life.told is LOOP
    assert [pmd.state for pmd in life.scene.register.pmds.values()] == [State.ALIVE]
    life.scene.ends(orderly=False)
    assert [pmd.state for pmd in life.scene.register.pmds.values()] == [State.GONE]


def test_every_publisher_tells_the_loop_and_show_is_not_well(life: Life) -> None:
    for _ in range(CRASHES):
        life.crashes()
    process = life.scene.register.vswitchd.process
    assert process is not None
    shot = snapshot(life.scene.register.pmds.values(), vswitchd=vswitchd.told(life.scene.register.vswitchd))
    assert column.detail(shot, "1", 1)["vswitchd"].startswith(f"CRASH-LOOP;pid={process.pid};since=")
    node = document.node(shot, shot.at, {})
    assert node["vswitchd"]["state"] == "CRASH-LOOP"
    assert not document.is_well(node)
    assert tables.show(node).startswith(f"vswitchd CRASH-LOOP (pid {process.pid})")
    assert "is CRASH-LOOP since" in tables.explain_vswitchd(shot)
    assert "3 crashes within 10 min; now RUNNING" in tables.explain_vswitchd(shot)


def test_a_loop_is_one_incident_until_it_is_over() -> None:
    life, watch, began = Life(cores=0), incident.Watch(), []
    for _ in range(8):
        life.crashes()
        register = life.scene.register
        shot = snapshot((), vswitchd=vswitchd.told(register.vswitchd), history=register.history, at=life.scene.moment)
        watch, transition = incident.follow(watch, shot)
        began += [transition] if transition else []
    assert watch.open
    assert len(began) == CRASHES, "one for each crash before the loop, and the loop's"


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400)), min_size=1, max_size=12))
def test_the_loop_is_what_the_times_of_the_crashes_say(story: list[tuple[bool, int]]) -> None:
    life, crashed, looping = Life(), list[float](), False
    for orderly, seconds in story:
        if not orderly:
            recent = [at for at in crashed if life.scene.now - at < CALM]
            looping = (looping and bool(recent)) or len(recent) + 1 >= CRASHES
            crashed.append(life.scene.now)
        life.crashes(orderly)
        life.scene.run(seconds)
        calm = life.scene.now - crashed[-1] if crashed else 0.0
        if abs(calm - CALM) > life.scene.period:  # else it depends on when it was looked at last
            assert (life.told is LOOP) == (looping and calm < CALM)
