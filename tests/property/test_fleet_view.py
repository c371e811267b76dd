# SPDX-License-Identifier: Apache-2.0
"""Whoever takes every change in turn knows what the newest picture says, and no host is lost on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet import OWN_WORDS, RANK, HostState, Known, Sighting
from ovs_keepalive.core.fleet_view import Fleet, Sight, Store
from tests.fleets import T, member

NAMES = st.tuples(st.sampled_from(["c1", "c2"]), st.sampled_from(["a", "b", "c", "d"]))
SIGHTS = st.builds(
    lambda key, state, since, written: Sight(key[0], key[1], state, since, written, member(key[1], state=state)),
    NAMES,
    st.sampled_from(OWN_WORDS),
    st.integers(1, 3),
    st.integers(1, 3),
)
PICTURES = st.lists(SIGHTS, max_size=6).map(
    lambda sights: Fleet(Store("CONNECTED"), sights={one.key: one for one in sights})
)


@given(st.lists(PICTURES, min_size=2, max_size=5))
def test_the_changes_add_up_to_the_picture(pictures: list[Fleet]) -> None:
    known = dict(pictures[0].sights)
    for before, after in pairwise(pictures):
        change = fleet_view.change(before, after)
        known |= {one.key: one for one in change.hosts}
        for key in change.forgotten:
            del known[key]
        assert known == after.sights
        assert bool(change) == (before != after)
        states = {key: (one.state, one.since) for key, one in before.sights.items()}
        assert change.urgent == (states != {key: (one.state, one.since) for key, one in after.sights.items()})


@given(PICTURES)
def test_each_host_counts_once_and_no_worse_one_comes_later(picture: Fleet) -> None:
    sights = picture.sights.values()
    assert sum(fleet_view.counts(sights).values()) == len(sights)
    ranks = [RANK[one.state] for one in fleet_view.worst_first(sights)]
    assert ranks == sorted(ranks, reverse=True)
    cells = fleet_view.cells(sights)
    assert _added(cell.counts for cell in cells) == dict(fleet_view.counts(sights))
    assert all(RANK[cell.worst] == max(RANK[state] for state in cell.counts) for cell in cells)


def _added(counts: Iterable[Mapping[HostState, int]]) -> dict[HostState, int]:
    total: dict[HostState, int] = {}
    for one in counts:
        for state, count in one.items():
            total[state] = total.get(state, 0) + count
    return total


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_without_a_session_a_host_is_gone_never_dead_and_what_it_said_stays(sessions: list[bool]) -> None:
    said, known, before = member(state=HostState.FAILURE), Known(T, T, member()), None
    for at, alive in enumerate(sessions, 1):
        found = Sighting(said.host, said, T + at, None) if alive else Sighting(said.host, None, 0, known)
        before = fleet_view.sight("c1", found, before, T + at)
        assert before.state is (HostState.FAILURE if alive else HostState.GONE)
        assert before.member is not None
        assert before.member.pmds == said.pmds
        lost = [number for number, was in enumerate(sessions[:at], 1) if was]
        if not alive:
            assert before.since == (T + lost[-1] + 1 if lost else 0), "since the first look without it"
