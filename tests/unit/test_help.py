# SPDX-License-Identifier: Apache-2.0
"""When a node asks for help, takes that back, whom it helps, and what it may do itself."""

from __future__ import annotations

import pytest

from ovs_keepalive.core.fleet import TRIES, Headroom, Help
from ovs_keepalive.core.headroom import Load, Site
from ovs_keepalive.core.help import (
    ACT_PAUSE,
    COOLDOWN,
    DITHER,
    GIVEN_BACK,
    PROMISE,
    TURN,
    Act,
    AddCore,
    Allowed,
    Asked,
    Helping,
    Mode,
    Rebalance,
    choose,
    ended,
    free_requests,
    held,
    local_act,
    next_turn,
    offer,
    posted,
    promised,
    troubles,
    wishes,
)

ONE_CORE = Headroom({0: 1}, {0: 90})
DEAD = {"dead": "PMD on core 2 DEAD"}


def request(host: str = "b", kind: str = "dead", t: int = 1, n: int = 0) -> Help:
    return Help(host, kind, "why", t, n)


def load(core: int = 2, state: str = "ALIVE", *, isolated: bool = False) -> Load:
    return Load(core, 0 if core < 4 else 1, state, 97.0, isolated)


# --- asking --------------------------------------------------------------------------------------


def test_what_a_node_needs_help_about() -> None:
    loads = [load(2), load(3, "DEAD"), load(4, "GONE"), load(5, "MISSING")]
    assert troubles(loads, ()) == {"dead": "PMD on core 3 DEAD, core 4 GONE"}
    assert troubles([load(2)], (2,)) == {"overload": "PMD on core 2 too busy: packets are dropped"}
    assert troubles([load(2), load(5, "MISSING")], ()) == {}


def test_a_request_is_posted_once_and_withdrawn_when_its_reason_is_over() -> None:
    first = wishes(Mode.ADVISE, Asked(), DEAD, [], 0.0)
    assert (first.post, first.withdraw) == (DEAD, ())
    open_one = wishes(Mode.ADVISE, posted(first.asked, "dead"), DEAD, ["dead"], 1.0)
    assert (open_one.post, open_one.withdraw) == ({}, ())
    healed = wishes(Mode.ADVISE, open_one.asked, {}, ["dead"], 2.0)
    assert (healed.post, healed.withdraw) == ({}, ("dead",))


def test_one_that_was_answered_is_asked_for_again_after_the_cooldown() -> None:
    asked = wishes(Mode.ADVISE, Asked(), DEAD, ["dead"], 0.0).asked
    answered = wishes(Mode.ADVISE, asked, DEAD, [], 10.0)
    assert answered.post == {}
    assert wishes(Mode.ADVISE, answered.asked, DEAD, [], 10.0 + COOLDOWN - 1).post == {}
    assert wishes(Mode.ADVISE, answered.asked, DEAD, [], 10.0 + COOLDOWN).post == DEAD
    assert wishes(Mode.ADVISE, answered.asked, {"overload": "busy"}, [], 11.0).post == {"overload": "busy"}


def test_one_that_was_answered_before_anybody_looked_is_not_asked_for_again_at_once() -> None:
    assert wishes(Mode.ADVISE, posted(Asked(), "dead"), DEAD, [], 10.0).post == {}


def test_requests_of_people_are_left_alone() -> None:
    assert wishes(Mode.ADVISE, Asked(), {}, ["manual"], 0.0).withdraw == ()


def test_a_node_that_takes_no_part_asks_nobody_and_takes_back_what_it_asked() -> None:
    done = wishes(Mode.OFF, Asked(), DEAD, ["dead"], 0.0)
    assert (done.post, done.withdraw) == ({}, ("dead",))


# --- helping -------------------------------------------------------------------------------------


def test_the_requests_of_others_that_nobody_has_the_oldest_first() -> None:
    every = [request("c", t=3), request("me"), request("b", t=2), request("d", t=1, n=TRIES), request("e", t=1)]
    assert [one.host for one in free_requests(every, {"e--dead"}, "me")] == ["b", "c"]


@pytest.mark.parametrize(
    ("spare", "wait"),
    [(ONE_CORE, 0.75 * TURN), (Headroom({0: 4}, {}), 0.0), (Headroom({}, {0: 30}), 0.9 * TURN)],
)
def test_who_has_less_room_waits_longer(spare: Headroom, wait: float) -> None:
    helping, chosen = choose(Helping(), [request()], spare, 100.0, 0.5)
    due = next_turn(helping)
    assert chosen is None
    assert due is not None
    assert due == pytest.approx(100.0 + wait + 0.5 * DITHER)
    assert choose(helping, [request()], spare, due - 0.01, 0.0)[1] is None
    assert choose(helping, [request()], spare, due, 1.0)[1] == request()


def test_two_requests_and_one_free_core_make_one_claim() -> None:
    both = [request("b", t=1), request("c", t=2)]
    helping, _ = choose(Helping(), both, ONE_CORE, 0.0, 0.0)
    helping, chosen = choose(helping, both, ONE_CORE, 10.0, 0.0)
    assert chosen == both[0]
    helping = held(helping, 0)
    left = Headroom({0: 1 - promised(helping, 10.0)[0]}, {0: 90})
    helping, chosen = choose(helping, both[1:], left, 20.0, 0.0)
    assert chosen is None
    assert next_turn(helping) is None


def test_a_node_without_room_waits_for_no_turn() -> None:
    helping, _ = choose(Helping(), [request()], ONE_CORE, 0.0, 0.0)
    helping, chosen = choose(helping, [request()], Headroom(), 10.0, 0.0)
    assert (helping.due, chosen) == ({}, None)


def test_what_was_offered_is_given_away_for_a_while_and_what_was_given_back_is_not() -> None:
    helping = held(Helping(), 0)
    done = ended(helping, 0, "b--dead", 10.0, given_back=False)
    assert promised(done, 10.0 + PROMISE - 1) == {0: 1}
    assert promised(done, 10.0 + PROMISE) == {}
    back = ended(helping, 0, "b--dead", 10.0, given_back=True)
    assert promised(back, 10.0) == {}


def test_a_request_that_was_given_back_is_left_to_others_for_a_while() -> None:
    back = ended(held(Helping(), 0), 0, "b--dead", 10.0, given_back=True)
    helping, _ = choose(back, [request()], ONE_CORE, 11.0, 0.0)
    assert next_turn(helping) is None
    helping, _ = choose(back, [request()], ONE_CORE, 10.0 + GIVEN_BACK, 0.0)
    assert next_turn(helping) is not None


def test_an_offer_says_where_and_how_much() -> None:
    assert offer("a", 1, Headroom({1: 2}, {1: 41})) == "offer: host a, numa 1, cores 2, busy 41 %"
    assert offer("a", 0, Headroom({0: 2}, {})) == "offer: host a, numa 0, cores 2, busy unknown"


# --- helping oneself -----------------------------------------------------------------------------

HERE = Site({core: 0 if core < 4 else 1 for core in range(8)}, frozenset(), frozenset({2, 4}))
ALL = Allowed(rebalance=True, cores=frozenset({0, 3, 5}))
TWO = (load(2), load(4))
MORE = AddCore(0, frozenset({0, 2, 4}), frozenset({2, 4}))


@pytest.mark.parametrize(
    ("allowed", "loads", "here", "last", "act"),
    [
        (ALL, TWO, HERE, None, Rebalance()),
        (Allowed(), TWO, HERE, None, None),
        (ALL, TWO, HERE, 1000.0 - ACT_PAUSE + 1, None),
        (ALL, TWO, HERE, 1000.0 - ACT_PAUSE, MORE),  # a rebalance did not help
        (ALL, TWO, HERE, 1000.0 - 2 * ACT_PAUSE, Rebalance()),
        (Allowed(cores=ALL.cores), TWO, HERE, None, MORE),
        (Allowed(cores=frozenset({5})), TWO, HERE, None, None),  # on another NUMA node
        (Allowed(cores=frozenset({2})), TWO, HERE, None, None),  # it is in the mask
        (Allowed(cores=frozenset({9})), TWO, HERE, None, None),  # not online
        (ALL, (load(2),), HERE, None, MORE),  # alone, it has nobody to give an rxq to
        (ALL, (load(2), load(4, isolated=True)), HERE, None, MORE),
        (ALL, (load(2),), HERE._replace(mask=None), None, None),
        (ALL, (load(2), load(4, "DEAD")), HERE, None, None),
        (ALL, (load(2), load(4, "MISSING")), HERE, None, None),
        (ALL, (load(2), load(4, "GONE")), HERE, None, None),
    ],
)
def test_what_an_overloaded_node_may_do_itself(
    allowed: Allowed, loads: tuple[Load, ...], here: Site, last: float | None, act: Act | None
) -> None:
    assert local_act(allowed, loads, [2], here, last, 1000.0) == act


def test_one_that_is_not_overloaded_does_nothing() -> None:
    assert local_act(ALL, TWO, [], HERE, None, 1000.0) is None
