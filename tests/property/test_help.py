# SPDX-License-Identifier: Apache-2.0
"""Any course of loads, requests and claims keeps the laws of helping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core import headroom
from ovs_keepalive.core.fleet import Help
from ovs_keepalive.core.headroom import LASTING, OVERLOADED, Load, Site, Strain, after
from ovs_keepalive.core.help import (
    ACT_PAUSE,
    COOLDOWN,
    AddCore,
    Allowed,
    Asked,
    Helping,
    Mode,
    choose,
    ended,
    free_requests,
    held,
    local_act,
    posted,
    promised,
    wishes,
)
from ovs_keepalive.core.model import BAD, State

CPUS = st.frozensets(st.integers(0, 7))
STATES = st.sampled_from([str(state) for state in State])
LOADS = st.lists(
    st.builds(
        Load,
        st.integers(0, 7),
        st.sampled_from([0, 1]),
        STATES,
        st.none() | st.floats(0, 100),
        st.booleans(),
        st.none() | st.integers(0, 9),
    ),
    max_size=4,
    unique_by=lambda load: load.core,
)
SITES = st.builds(
    Site, st.dictionaries(st.integers(0, 7), st.sampled_from([0, 1])), CPUS, st.none() | CPUS, st.integers(0, 2)
)
HOT = st.builds(
    Load,
    st.just(0),
    st.just(0),
    st.just("ALIVE"),
    st.sampled_from([None, 50.0, 90.0, 95.0, 99.0]),
    st.just(False),
    st.none() | st.integers(0, 3),
)


@given(SITES, LOADS, st.dictionaries(st.sampled_from([0, 1]), st.integers(0, 3)))
def test_no_more_is_promised_than_there_is(site: Site, loads: list[Load], given_away: dict[int, int]) -> None:
    spare = headroom.headroom(site, loads, given_away, fit=True)
    used = headroom.used_cores(site, loads)
    for node, cores in spare.cores.items():
        mine = {cpu for cpu in site.offered if site.numa.get(cpu) == node} - used
        assert 0 <= cores <= len(mine)
        assert cores == 0 or cores + given_away.get(node, 0) + site.reserve <= len(mine)
    assert 0.0 <= headroom.fraction(spare) <= 1.0
    place = headroom.place(spare, given_away)
    assert place is None or spare.cores.get(place, 0) > 0 or spare.busy[place] < headroom.FULL


@given(st.lists(st.tuples(st.floats(0.1, 40.0), HOT), max_size=20))
def test_nobody_is_overloaded_without_a_minute_of_nothing_else_and_drops(steps: list[tuple[float, Load]]) -> None:
    strain, now = Strain(), 0.0
    hot_since: float | None = None
    before = False
    for pause, load in steps:
        now += pause
        strain = after(strain, [load], now)
        is_hot = load.busy is not None and load.busy >= OVERLOADED and load.drops is not None
        hot_since = (now if hot_since is None else hot_since) if is_hot else None
        began = bool(strain.overloaded) and not before
        assert not began or (hot_since is not None and now - hot_since >= LASTING)
        before = bool(strain.overloaded)


@given(st.lists(st.tuples(st.floats(0.1, 200.0), st.booleans(), st.booleans()), max_size=40))
def test_a_kind_is_not_asked_for_again_before_the_cooldown(steps: list[tuple[float, bool, bool]]) -> None:
    asked, now, there = Asked(), 0.0, False
    vanished = float("-inf")
    for pause, ill, answered in steps:
        now += pause
        if there and answered:
            there, vanished = False, now
        done = wishes(Mode.ADVISE, asked, {"dead": "why"} if ill else {}, ["dead"] if there else [], now)
        asked = done.asked
        assert not (done.post and done.withdraw)
        if done.post:
            assert ill
            assert now - vanished >= COOLDOWN
            asked, there = posted(asked, "dead"), True
        if done.withdraw:
            assert not ill
            there, vanished = False, now


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0, 1), st.booleans(), st.booleans()), max_size=40),
    st.integers(0, 3),
)
def test_no_more_claims_are_held_than_cores_are_free(steps: list[tuple[float, float, bool, bool]], cores: int) -> None:
    site = Site(dict.fromkeys(range(8), 0), frozenset(range(1, cores + 1)), frozenset({0}))
    loads = [Load(0, 0, "ALIVE", 99.0)]
    helping, now = Helping(), 0.0
    holding: list[str] = []
    requests = [Help(f"h{number}", "dead", "why", number) for number in range(5)]
    for pause, chance, ends, back in steps:
        now += pause
        if holding and ends:
            helping = ended(helping, 0, holding.pop(), now, given_back=back)
        spare = headroom.headroom(site, loads, promised(helping, now), fit=True)
        helping, chosen = choose(helping, free_requests(requests, holding, "me"), spare, now, chance)
        if chosen is not None:
            assert chosen.id not in holding
            helping = held(helping, 0)
            holding.append(chosen.id)
        assert len(holding) <= promised(helping, now).get(0, 0) <= cores


@given(CPUS, LOADS, SITES, st.none() | st.floats(0, 2000), st.booleans())
def test_no_act_while_a_pmd_stalls_nor_soon_after_another_nor_beyond_the_list(
    cores: frozenset[int], loads: list[Load], site: Site, last: float | None, rebalance: bool
) -> None:
    act = local_act(Allowed(rebalance, cores), loads, [load.core for load in loads], site, last, 2000.0)
    if act is None:
        return
    assert not any(load.state in BAD for load in loads)
    assert last is None or 2000.0 - last >= ACT_PAUSE
    if isinstance(act, AddCore):
        assert act.core in cores
        assert act.before == site.mask
        assert act.mask == act.before | {act.core} != act.before
    else:
        assert rebalance
