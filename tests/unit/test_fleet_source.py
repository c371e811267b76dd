# SPDX-License-Identifier: Apache-2.0
"""Pictures of all cells, of a store in memory: what cannot be read stays as it was seen, and says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Fleet, change
from ovs_keepalive.core.model import NEVER, Moment
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.members import Membership
from ovs_keepalive.fleet.session import News
from ovs_keepalive.fleet.store import Create, Link, Why
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet_source import CELLS_AGAIN, Pictures
from tests.fleets import help_of, member
from tests.memory_store import Ensemble, MemoryStore

CELLS = (Tree("c1"), Tree("c2"))
QUIET = News((), frozenset())


class Viewer:
    """Pictures, and a clock that the test sets."""

    def __init__(self, ensemble: Ensemble, *cells: str) -> None:
        self.store = ensemble.session()
        self.pictures = Pictures(self.store, cells)
        self.now = 1000.0

    def look(self, seconds: float = 1.0, link: Link = Link.CONNECTED, problem: str = "") -> Fleet:
        """So much later."""
        self.now += seconds
        news = self.store.news() if link is Link.CONNECTED else News((link,), frozenset())
        self.pictures.turn(news, self.now)
        return self.pictures.picture(link, problem, Moment(self.now, round(self.now * 1000)))


@pytest.fixture
def ensemble() -> Ensemble:
    """Two cells without a host."""
    ensemble = Ensemble()
    for tree in CELLS:
        tree.plant(ensemble.session())
    return ensemble


def joined(ensemble: Ensemble, tree: Tree, host: str) -> MemoryStore:
    """The session of a host that has joined."""
    store = ensemble.session()
    Membership(store, tree, host).tell(member(host))
    return store


def test_hosts_of_all_cells_are_seen_come_and_go(ensemble: Ensemble) -> None:
    one = joined(ensemble, CELLS[0], "a")
    joined(ensemble, CELLS[1], "a")
    viewer = Viewer(ensemble)
    fleet = viewer.look()
    assert {key: sight.state for key, sight in fleet.sights.items()} == {
        ("c1", "a"): HostState.FAILURE,
        ("c2", "a"): HostState.FAILURE,
    }
    assert (fleet.store.state, fleet.store.why, fleet.read.mono) == ("CONNECTED", "", viewer.now)
    ensemble.expire(one)
    fleet = viewer.look()
    gone = fleet.sights["c1", "a"]
    assert (gone.state, gone.since) == (HostState.GONE, round(viewer.now * 1000))
    assert gone.member is not None
    assert gone.member.pmds[1].state == "DEAD", "what it said last"
    assert fleet.sights["c2", "a"].state is HostState.FAILURE


def test_only_the_cells_that_are_asked_for_are_read(ensemble: Ensemble) -> None:
    for tree in CELLS:
        joined(ensemble, tree, "a")
    assert set(Viewer(ensemble, "c2").look().sights) == {("c2", "a")}


def test_a_cell_that_comes_later_is_found(ensemble: Ensemble) -> None:
    viewer = Viewer(ensemble)
    assert viewer.look().sights == {}
    third = Tree("c3")
    third.plant(ensemble.session())
    joined(ensemble, third, "z")
    assert viewer.look().sights == {}
    assert set(viewer.look(CELLS_AGAIN).sights) == {("c3", "z")}


def test_before_anything_was_read_there_is_nothing_and_no_age(ensemble: Ensemble) -> None:
    viewer = Viewer(ensemble)
    viewer.store.is_over = True
    fleet = viewer.look(link=Link.LOST, problem="connection refused")
    assert (fleet.read, dict(fleet.sights)) == (NEVER, {})
    assert fleet.store.state == "LOST"
    assert fleet.store.why


def test_while_the_store_is_away_the_last_picture_stays_and_grows_old(ensemble: Ensemble) -> None:
    joined(ensemble, CELLS[0], "a")
    viewer = Viewer(ensemble)
    before = viewer.look()
    viewer.store.is_over = True
    after = viewer.look(7.0, link=Link.SUSPENDED, problem="it hangs")
    assert after.sights is before.sights
    assert after.read == before.read, "seven seconds ago"
    assert after.store.state == "SUSPENDED"
    assert after.store.why


def test_a_request_and_its_end_are_seen(ensemble: Ensemble) -> None:
    store = joined(ensemble, CELLS[0], "a")
    viewer = Viewer(ensemble)
    assert viewer.look().requests == ()
    asked = help_of("a", n=0, by="", last="")
    claims = Claims(store, CELLS[0], "a")
    claims.post(asked)
    [request] = viewer.look().requests
    assert (request.cell, request.help) == ("c1", asked)


def test_a_request_that_cannot_be_read_is_told_with_its_cell(ensemble: Ensemble) -> None:
    viewer = Viewer(ensemble)
    before = viewer.look()
    assert before.problems == ()
    ensemble.change(0, [Create(CELLS[1].help("x--y"), b"{", ())])
    after = viewer.look()
    [problem] = after.problems
    assert problem.startswith("c2: x--y: ")
    assert change(before, after).requests


def test_a_picture_in_which_nothing_changed_is_made_of_the_same_things(ensemble: Ensemble) -> None:
    joined(ensemble, CELLS[0], "a")
    viewer = Viewer(ensemble)
    first = viewer.look()
    second = viewer.look(0.25)
    assert second.sights is first.sights


def test_a_cell_that_cannot_be_read_hides_no_other_and_is_told(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tree in CELLS:
        joined(ensemble, tree, "a")
    viewer = Viewer(ensemble)
    children = viewer.store.children

    def forbidden(paths: Sequence[str], watch: bool = False) -> list[tuple[str, ...] | Why]:
        return [Why.FORBIDDEN if path.startswith(CELLS[1].top) else children([path], watch)[0] for path in paths]

    monkeypatch.setattr(viewer.store, "children", forbidden)
    fleet = viewer.look()
    assert set(fleet.sights) == {("c1", "a")}
    assert fleet.read.mono == viewer.now
    assert "cells/c2" in fleet.store.why
