# SPDX-License-Identifier: Apache-2.0
"""A register that was written down and read again behaves as the one that was not; a gap in between is no silence."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core import memory
from ovs_keepalive.core.heartbeat import Register
from ovs_keepalive.core.model import BAD, Moment, State, Transition
from ovs_keepalive.formats import memory as form
from tests.looks import WALL_MS, remembered
from tests.property.test_heartbeat import LIVES, POOL, Act, World, many


def reread(register: Register, now: float) -> Register:
    """Through the document and back."""
    noted = remembered(register, Moment(now, WALL_MS))
    return memory.register(form.decode(form.encode(noted, "boot", "f.pid"), "boot", "f.pid").beating)


def said(register: Register) -> tuple[Any, ...]:
    """All that a register tells."""
    return register.pmds, register.vswitchd, register.history, register.version


@many
@given(LIVES, st.integers(1, 4))
def test_a_register_that_was_written_down_behaves_as_the_one_that_was_not(acts: list[Act], every: int) -> None:
    world, twin = World(), World()
    for number, (beat, same) in enumerate(zip(world.go(acts), twin.go(acts), strict=True)):
        assert said(beat.after) == said(same.after)
        if number % every == 0:
            twin.register = reread(twin.register, twin.now)


@many
@given(LIVES, st.sampled_from([0.5, 3.0, 70.0, 3000.0]), st.booleans())
def test_the_first_look_after_a_gap_makes_nothing_worse_that_was_well(acts: list[Act], gap: float, works: bool) -> None:
    world = World()
    for _ in world.go(acts):
        pass
    world.now += gap
    news = Transition(Moment(world.now, WALL_MS), "daemon", "away", "back", "none", "a gap")
    before = world.register = memory.after_a_gap(reread(world.register, world.now), news.at, news)
    # What was nearly silent for an interval is so after one more look period: that much is proven.
    well = {
        id
        for id, pmd in before.pmds.items()
        if pmd.state not in BAD and pmd.quiet < world.interval / 2 and id.process == world.process
    }
    if works:
        for core in world.cores:
            core.works = "on"
    [look] = world.beats(1)
    if look.looks.ended is not None:
        return  # that it ended meanwhile is no guess
    for id in well & look.after.pmds.keys():
        assert look.after.pmds[id].state not in BAD


def test_what_was_dead_and_has_not_moved_is_dead_since_then_and_what_has_moved_is_alive() -> None:
    world = World()
    for _ in world.go([]):
        pass
    world.cores[0].works = world.cores[1].works = "still"
    list(world.beats(12))
    dead = world.register.pmds[POOL[0]]
    assert dead.state is State.DEAD
    world.now += 100.0
    news = Transition(Moment(world.now, WALL_MS), "daemon", "away", "back", "none", "a gap")
    world.register = memory.after_a_gap(reread(world.register, world.now), news.at, news)
    world.cores[1].works = "on"
    list(world.beats(1))
    assert world.register.pmds[POOL[0]][:8] == dead[:8]
    assert world.register.pmds[POOL[1]].state is State.ALIVE
    assert world.register.history[-2].new == "back"
