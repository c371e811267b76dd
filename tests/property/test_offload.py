# SPDX-License-Identifier: Apache-2.0
"""Whatever the rates: the plans end at the best that the table can hold, within their margin, and then all is still."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_keepalive.core import offload_watch
from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload import Dump, Facts, Flow, Hardware, Limits, Tried, Watch
from ovs_keepalive.core.offload_plan import FEW, MINUTE
from tests.offload_rounds import Datapath, Stream, at

RATES = st.integers(0, 40) | st.integers(0, 2000)  # whole packets: the looks tell such rates exactly
WARM = 3  # looks before which no rate is known


@st.composite
def full_tables(draw: st.DrawFn) -> Datapath:
    """One table that is smaller than what wants to be in it, badly filled, of one netdev or of two."""
    rates = draw(st.lists(RATES, min_size=1, max_size=9))
    holds = draw(st.integers(1, len(rates)))
    there = draw(st.sets(st.integers(0, len(rates) - 1), min_size=1, max_size=holds))
    shared = draw(st.booleans())
    flows = [
        Stream(
            ufid=f"u{number}",
            pps=pps,
            offloaded=number in there,
            netdev=draw(st.sampled_from(["p1", "p2"])) if shared else "p1",
            barred=draw(st.sampled_from(["", "", "", "", "recirculated"])),
            hardware=draw(st.sampled_from([Hardware.FULL, Hardware.PARTIAL])),
        )
        for number, pps in enumerate(rates)
    ]
    # Where nobody says how many a table holds, what one netdev learns of it is no proof for another one's flows.
    capacity = holds if shared else draw(st.sampled_from([holds, None]))
    limits = Limits(capacity=capacity, groups=(("p1", "p2"),) if shared else ())
    return Datapath.of(*flows, holds=holds, limits=limits)


def _possible(datapath: Datapath) -> float:
    """The most that any choice of flows which the table can hold would forward: each is tried."""
    flows = datapath.streams.values()
    fixed = [stream.pps for stream in flows if stream.barred and stream.offloaded]
    free = [stream.pps for stream in flows if not stream.barred]
    slots = min(len(free), (datapath.holds or 0) - len(fixed))
    return sum(fixed) + max(map(sum, combinations(free, slots)))


@pytest.mark.slow
@settings(max_examples=2000)
@given(full_tables())
def test_it_ends_at_the_best_that_any_choice_could_reach_within_its_margin(datapath: Datapath) -> None:
    limits, flows, slots = datapath.limits, datapath.streams.values(), datapath.holds or 0
    best = _possible(datapath)
    datapath.go_on(WARM + 8)
    assert datapath.hardware_pps >= (best - slots * limits.margin) / limits.ratio
    waiting = [stream.pps for stream in flows if not stream.offloaded and not stream.barred]
    movable = [stream.pps for stream in flows if stream.offloaded and not stream.barred]
    assert not any(hot >= limits.ratio * cold + limits.margin for hot in waiting for cold in movable)
    assert not any(waiting) or sum(stream.offloaded for stream in flows) == slots
    # Then it stands still; only a limit that nobody has set is tried again, a minute later.
    assert [move for move in datapath.go_on(10) if limits.capacity is not None or move.victim] == []


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 3000), min_size=2, max_size=60), st.integers(1, 30), st.integers(0, 16), st.integers(0, 99)
)
def test_what_is_known_to_be_small_is_never_swapped_faster_than_allowed(
    rates: list[int], holds: int, swaps: int, seed: int
) -> None:
    limits = Limits(capacity=holds, swaps=swaps, share=0.2, a_minute=17)
    flows = [Stream(f"u{number}", pps, number < holds) for number, pps in enumerate(rates)]
    datapath = Datapath.of(*flows, holds=holds, limits=limits)
    chance = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(40):
        seen = {stream.ufid: stream.offloaded for stream in flows}
        done = datapath.go_on()
        fills = [move for move in done if not move.victim]
        pairs = [move for move in done if move.victim]
        assert len(fills) <= min(swaps, holds - sum(seen.values()))
        assert len(pairs) <= min(swaps, max(FEW, int(0.2 * holds)))
        named = [ufid for move in done for ufid in (move.promoted, move.victim) if ufid]
        assert len(named) == len(set(named))
        for move in done:
            assert not seen[move.promoted]
            assert move.gain > 0.0
        for move in pairs:
            assert seen[move.victim]
            assert move.promoted_pps >= 1.5 * move.victim_pps + 10.0
            assert move.gain == move.promoted_pps - move.victim_pps
        if chance.random() < 0.2:
            chance.shuffle(rates)
            for stream, pps in zip(flows, rates, strict=True):
                stream.pps = pps
        assert sum(1 for when, _ in datapath.moved if datapath.now - when < MINUTE) <= 17
    _rested(datapath)


def _rested(datapath: Datapath) -> None:
    """No flow was swapped again before it had stayed for the dwell."""
    last: dict[str, float] = {}
    for when, move in datapath.moved:
        for ufid in (move.promoted, move.victim) if move.victim else ():
            assert when - last.get(ufid, 0.0) >= datapath.limits.dwell
            last[ufid] = when


@settings(max_examples=200)
@given(st.lists(st.integers(0, 2000), min_size=2, max_size=20), st.integers(1, 10), st.integers(0, 99))
def test_rates_that_only_tremble_move_no_flow_twice(rates: list[int], holds: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    flows = [Stream(f"u{number}", pps, number < holds) for number, pps in enumerate(rates)]
    datapath = Datapath.of(*flows, holds=holds, limits=Limits(capacity=holds))
    for _ in range(60):
        for stream, pps in zip(flows, rates, strict=True):
            stream.pps = pps * chance.uniform(0.9, 1.1)
        datapath.go_on()
    named = [ufid for _, move in datapath.moved for ufid in (move.promoted, move.victim) if ufid]
    assert len(named) == len(set(named))


@settings(max_examples=20)
@given(st.integers(4, 100), st.integers(1, 4), st.booleans())
def test_a_pair_that_alternates_is_damped(rounds: int, holds: int, even: bool) -> None:
    hot, cold = Stream("u0", 1000.0, even), Stream("u1", 10.0, not even)
    others = [Stream(f"o{number}", 5000.0, True) for number in range(holds - 1)]
    datapath = Datapath.of(hot, cold, *others, holds=holds, limits=Limits(capacity=holds))
    for number in range(1200):  # an hour
        if number % rounds == 0:
            hot.pps, cold.pps = cold.pps, hot.pps
        datapath.go_on()
    # Each move doubles the 30 s for which both stay: 30, 60 … 1920, which fills the hour.
    assert 1 <= len(datapath.moved) <= 8


FLOWS = st.builds(
    Flow,
    ufid=st.sampled_from(["a", "b", "c", "d", "e", ""]),
    netdev=st.sampled_from(["p1", "p2", "p3", ""]),
    packets=st.integers(0, 10**12) | st.integers(0, 50),
    used=st.none() | st.floats(0, 20),
    hardware=st.sampled_from(Hardware),
    shape=st.sampled_from(["x", "y", "z"]),
    barred=st.sampled_from(["", "", "", "ct"]),
)
STEPS = st.lists(
    st.tuples(
        st.none() | st.lists(FLOWS, max_size=8),
        st.sampled_from([0.0, 3.0, 3.0, 50.0, 4000.0]),
        st.lists(st.booleans(), min_size=8, max_size=8),
        st.fixed_dictionaries(
            {
                "process": st.sampled_from([None, *[ProcessId(7, 1)] * 9]),
                "enabled": st.sampled_from([True] * 9 + [False]),
                "userspace": st.booleans(),
                "rebalanced": st.sampled_from([False] * 9 + [True]),
                "acting": st.booleans(),
                "netdevs": st.sampled_from([(), ("p1",), ("p4", "p1")]),
            }
        ),
    ),
    max_size=12,
)


@settings(max_examples=250)
@given(STEPS, st.none() | st.integers(0, 4), st.sampled_from([(), (("p1", "p2"),), (("p3", "p1"), ("p1", "p2"))]))
def test_whatever_is_dumped_is_told_within_bounds(
    steps: list[Any], capacity: int | None, groups: tuple[tuple[str, ...], ...]
) -> None:
    watch, now, limits = Watch(), 50.0, Limits(capacity=capacity, groups=groups, a_minute=9)
    for flows, passed, took, said in steps:
        now += passed
        dump = Dump(at(now), tuple(flows), 0.0) if flows is not None else None
        told = offload_watch.follow(watch, dump, limits, Facts(at(now), **said, undumped="no answer"))
        there = {flow.ufid: flow for flow in flows or ()}
        for one in told.netdevs:
            assert one.why
            assert one.noted
            assert one.since.mono <= now
            assert all(part is None or 0.0 <= part <= 1.0 for part in (one.share, one.best, one.efficiency))
            assert one.hardware_pps <= one.pps * 1.000001
        moves = (*told.plan.fills, *told.plan.swaps)
        assert told.plan.gain == sum(move.gain for move in moves)
        named = [ufid for move in moves for ufid in (move.promoted, move.victim) if ufid]
        assert len(named) == len(set(named))
        for move in moves:
            assert there[move.promoted].barred == ""
            assert move.gain > 0.0
            assert not move.victim or there[move.victim].barred == ""
        tried = [Tried(move, took[number % 8]) for number, move in enumerate(moves)]
        watch = offload_watch.acted(told.watch, tried if said["acting"] else (), limits, at(now))
        assert sum(1 for when in watch.acts if now - when < MINUTE) <= 9
