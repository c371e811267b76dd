# SPDX-License-Identifier: Apache-2.0
"""The fleet as a viewer sees it: a host that is gone is not forgotten, and only what changed is told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet import Asked, Cell, HostState, Known, Member, Sighting
from ovs_keepalive.core.fleet_view import Fleet, Request, RequestState, Sight, Store
from ovs_keepalive.core.model import Moment
from tests.fleets import CLAIM, KNOWN, T, help_of, member

KEY = ("c1", "node-07")
WELL = HostState.WELL
CONNECTED = Store("CONNECTED")


def seen(host: str, state: HostState = WELL, **fields: Any) -> Sight:
    """A host that says so since T."""
    return Sight("c1", host, state, T, T, member(host, state=state, since=T, why=""))._replace(**fields)


def fleet(*sights: Sight, requests: tuple[Request, ...] = ()) -> Fleet:
    """A picture of these."""
    return Fleet(CONNECTED, sights={one.key: one for one in sights}, requests=requests)


def live(said: Member, told_ms: int) -> Sighting:
    """It has a session."""
    return Sighting(said.host, said, told_ms, None)


def lost(known: Known | None = KNOWN) -> Sighting:
    """It has none."""
    return Sighting("node-07", None, 0, known)


def test_a_host_that_lives_is_as_it_says() -> None:
    one = fleet_view.sight("c1", live(member(), T + 5), None, T + 9)
    assert (one.key, one.state, one.since, one.written) == (KEY, HostState.FAILURE, T - 900, T + 5)
    assert one.why == "pmd-c02/id:9 is DEAD: traced"
    assert one.member is not None
    assert (fleet_view.failed_pmds(one.member), fleet_view.busiest(one.member)) == (1, 41)
    assert fleet_view.free_cores(one.member) == 2


def test_a_host_without_a_session_is_gone_since_that_was_noticed_and_keeps_its_last_word() -> None:
    newest = member(seq=8, t=T + 5, state=HostState.WELL, why="")
    before = fleet_view.sight("c1", live(newest, T), None, T)
    gone = fleet_view.sight("c1", lost(), before, T + 100)
    assert (gone.state, gone.since, gone.written, gone.first) == (HostState.GONE, T + 100, T, T - 10_000)
    assert gone.member == newest, "what it said last is newer than what is kept of its last change"
    assert gone.why == "no session; its last word was WELL"
    assert fleet_view.sight("c1", lost(), gone, T + 999)[:-1] == gone[:-1], "it stays so"
    assert fleet_view.sight("c1", live(newest, T + 2000), gone, T + 2000).state is WELL
    unseen = Known(T, T, member(seq=9, t=T + 7))
    assert fleet_view.sight("c1", lost(unseen), before, T + 100).member == unseen.last, "a change between two looks"


def test_a_host_that_was_gone_before_anybody_looked_is_gone_since_nobody_knows_when() -> None:
    gone = fleet_view.sight("c1", lost(), None, T + 100)
    assert (gone.state, gone.since, gone.written, gone.member) == (HostState.GONE, 0, T, member())
    assert gone.why == "no session; its last word was FAILURE: pmd-c02/id:9 is DEAD: traced"
    assert fleet_view.sight("c1", lost(None), None, T).why == "no session; its last word was never heard"


def test_a_host_whose_word_cannot_be_read_is_unknown_and_says_why() -> None:
    flawed = Sighting("node-07", None, T, None, "node-07: it names itself 'node-08'")
    one = fleet_view.sight("c1", flawed, None, T + 1)
    assert (one.state, one.since, one.written, one.member) == (HostState.UNKNOWN, T + 1, T, None)
    assert one.why == "cannot be read: node-07: it names itself 'node-08'"
    assert fleet_view.sight("c1", flawed._replace(told_ms=T + 5), one, T + 6).since == T + 1


def test_the_picture_is_of_all_cells_and_keeps_what_did_not_change() -> None:
    one, other = live(member("a"), T), live(member("b"), T)
    asked = Asked(help_of("b"), 3, CLAIM)
    cells = [Cell("c1", {"a": one, "b": other}, {asked.help.id: asked}), Cell("c2", {"a": one}, {})]
    first = fleet_view.picture(cells, CONNECTED, Moment(9.0, T), fleet(), T)
    assert set(first.sights) == {("c1", "a"), ("c1", "b"), ("c2", "a")}
    assert first.requests == (Request("c1", asked.help, CLAIM),)
    cells[0] = cells[0]._replace(hosts={"a": one, "b": live(member("b", state=WELL), T + 1)})
    second = fleet_view.picture(cells, CONNECTED, Moment(10.0, T), first, T)
    assert second.sights["c1", "a"] is first.sights["c1", "a"]
    assert [sight.key for sight in fleet_view.change(first, second).hosts] == [("c1", "b")]


def test_the_worst_comes_first_and_of_these_the_newest() -> None:
    hosts = [seen("a"), seen("b", HostState.GONE, since=T - 9), seen("c", HostState.WARNING), seen("d", HostState.GONE)]
    assert [one.host for one in fleet_view.worst_first(hosts)] == ["d", "b", "c", "a"]
    assert fleet_view.counts(hosts) == {HostState.GONE: 2, HostState.WARNING: 1, WELL: 1}
    [cell, other] = fleet_view.cells([*hosts, seen("e", cell="c2")])
    assert (cell.name, cell.worst, other.name, other.worst) == ("c1", HostState.GONE, "c2", WELL)


def test_only_what_changed_is_told() -> None:
    one, other = seen("a"), seen("b")
    before = fleet(one, other)
    assert not fleet_view.change(before, fleet(one, other))
    numbers = fleet_view.change(before, fleet(one, other._replace(written=T + 30_000)))
    assert [sight.host for sight in numbers.hosts] == ["b"]
    assert not numbers.urgent, "a number can wait"
    for after in (
        fleet(one, seen("b", HostState.GONE)),
        fleet(one),
        fleet(one, other, seen("c")),
        fleet(one, other, requests=(Request("c1", help_of()),)),
        before._replace(store=Store("LOST")),
    ):
        assert fleet_view.change(before, after).urgent
    assert fleet_view.change(before, fleet(one)).forgotten == (other.key,)


def test_the_log_tells_what_happened() -> None:
    before = fleet(seen("a"), seen("b"), seen("c"))
    after = fleet(seen("a", HostState.WARNING), seen("b", HostState.GONE), seen("d"))
    told = fleet_view.events(before, after._replace(store=Store("SUSPENDED", "no quorum")), T)
    assert [(event.who, event.old, event.new) for event in told] == [
        ("store", "CONNECTED", "SUSPENDED"),
        ("c", "WELL", "forgotten"),
        ("d", "new", "WELL"),
        ("a", "WELL", "WARNING"),
        ("b", "WELL", "GONE"),
    ]
    assert told[0].why == "no quorum"


def test_the_log_follows_a_request() -> None:
    asked, tried = help_of(n=0, last=""), help_of(n=1, last="it gave up: no core")
    steps = [
        (),
        (Request("c1", asked),),
        (Request("c1", asked, CLAIM),),
        (Request("c1", tried),),
        (Request("c1", help_of(n=3)),),
        (),
    ]
    pairs = pairwise(steps)
    told = [event for was, now in pairs for event in fleet_view.events(fleet(requests=was), fleet(requests=now), T)]
    assert [(event.old, event.new) for event in told] == [
        ("none", "OPEN"),
        ("OPEN", "CLAIMED"),
        ("CLAIMED", "OPEN"),
        ("OPEN", "STUCK"),
        ("STUCK", "none"),
    ]
    assert [event.why for event in told[:3]] == ["pmd-c02/id:9 is DEAD", "by node-09", "it gave up: no core"]
    assert {event.who for event in told} == {"help node-07--pmd-dead"}


def test_a_claim_is_counted_once_with_the_time_that_was_waited_for_it() -> None:
    asked = Request("c1", help_of(t=T - 2500))
    claimed = asked._replace(claim=CLAIM)
    assert fleet_view.waits(fleet(requests=(asked,)), fleet(requests=(claimed,))) == [2.5]
    assert fleet_view.waits(fleet(requests=(claimed,)), fleet(requests=(claimed,))) == []
    early = Request("c1", help_of(t=T + 50), CLAIM)
    assert fleet_view.waits(fleet(), fleet(requests=(early,))) == [0], "two hosts, two clocks"
    assert [one.state for one in (asked, claimed, Request("c1", help_of(n=3)))] == [*RequestState]
