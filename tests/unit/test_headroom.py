# SPDX-License-Identifier: Apache-2.0
"""What a node has to spare, and when it has too much itself."""

from __future__ import annotations

import pytest

from ovs_keepalive.core.fleet import NO_HEADROOM, Headroom
from ovs_keepalive.core.headroom import (
    LASTING,
    Load,
    Site,
    Strain,
    after,
    fraction,
    free_cores,
    headroom,
    mean_busy,
    place,
    used_cores,
)

NUMA = {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1, 7: 1}


def site(offered: str = "234567", mask: str | None = "24", reserve: int = 0) -> Site:
    return Site(NUMA, frozenset(map(int, offered)), None if mask is None else frozenset(map(int, mask)), reserve)


def load(core: int = 2, busy: float | None = 50.0, state: str = "ALIVE", drops: int | None = 0, **more: bool) -> Load:
    return Load(core, NUMA.get(core, 0), state, busy, drops=drops, **more)


# --- headroom ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "mask", "reserve", "promised", "free"),
    [
        ("234567", "24", 0, {}, {0: 1, 1: 3}),
        ("234567", "24", 1, {}, {0: 0, 1: 2}),  # the reserve is kept on each node
        ("234567", "24", 9, {}, {0: 0, 1: 0}),  # never below none
        ("234567", "24", 0, {1: 2}, {0: 1, 1: 1}),  # what is promised is not free
        ("234567", "24", 1, {1: 2}, {0: 0, 1: 0}),
        ("234567", "234567", 0, {}, {0: 0, 1: 0}),
        ("23", None, 0, {}, {0: 2}),  # a node without offered cores has none to give: it is not listed
        ("", "24", 0, {}, {}),  # nothing is set aside: idle cores are somebody else's
        ("239", "2", 0, {}, {0: 1}),  # core 9 is not online
    ],
)
def test_free_cores(
    offered: str, mask: str | None, reserve: int, promised: dict[int, int], free: dict[int, int]
) -> None:
    here = site(offered, mask, reserve)
    assert free_cores(here, used_cores(here, ()), promised) == free


def test_a_core_whose_pmd_is_there_is_not_free_though_the_mask_leaves_it_out() -> None:
    here = site("23", None)
    assert free_cores(here, used_cores(here, [load(core=3)]), {}) == {0: 1}


def test_busy_is_the_mean_of_those_that_are_known() -> None:
    loads = [load(2, 10.0), load(3, 31.0), load(4, None), load(5, 90.0), load(6, None)]
    assert mean_busy(loads) == {0: 20, 1: 90}
    assert mean_busy([Load(2, -1, "ALIVE", 50.0)]) == {}


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize(
    ("loads", "some"),
    [
        ([load(2), load(4)], True),
        ([], False),  # no PMD: nobody there forwards packets
        ([load(2, isolated=True), load(4, isolated=True)], False),
        ([load(2, isolated=True), load(4)], True),
    ],
)
def test_there_is_headroom_only_where_it_could_be_used(loads: list[Load], some: bool, fit: bool) -> None:
    spare = headroom(site(), loads, {}, fit=fit)
    assert (spare != NO_HEADROOM) == (some and fit)
    assert (place(spare, {}) is not None) == (some and fit)


@pytest.mark.parametrize(
    ("cores", "busy", "promised", "numa"),
    [
        ({0: 1, 1: 3}, {0: 10, 1: 60}, {}, 0),  # a free core where the PMDs have least to do
        ({0: 1, 1: 3}, {0: 50, 1: 50}, {}, 1),  # then where more are free
        ({0: 0, 1: 1}, {0: 1, 1: 99}, {}, 1),  # a free core goes before idle PMDs
        ({0: 0, 1: 0}, {0: 30, 1: 20}, {}, 1),  # without one: PMDs that could poll more …
        ({0: 0, 1: 0}, {0: 30, 1: 20}, {1: 1}, 0),  # … one claim at a time on a node
        ({0: 0, 1: 0}, {0: 70, 1: 95}, {}, None),
        ({0: 0}, {}, {}, None),  # nobody knows how busy they are
        ({}, {}, {}, None),
    ],
)
def test_where_a_claim_goes(
    cores: dict[int, int], busy: dict[int, int], promised: dict[int, int], numa: int | None
) -> None:
    assert place(Headroom(cores, busy), promised) == numa


@pytest.mark.parametrize(
    ("cores", "busy", "part"),
    [
        ({}, {}, 0.0),
        ({0: 4}, {}, 1.0),
        ({0: 9}, {0: 0}, 1.0),
        ({0: 2}, {}, 0.5),
        ({0: 0}, {0: 30}, 0.1),
        ({}, {0: 99}, 0.0),
    ],
)
def test_how_much_room_there_is(cores: dict[int, int], busy: dict[int, int], part: float) -> None:
    assert fraction(Headroom(cores, busy)) == pytest.approx(part)


# --- overload ------------------------------------------------------------------------------------


def run(*looks: tuple[float, Load]) -> Strain:
    strain = Strain()
    for at, look in looks:
        strain = after(strain, [look], at)
    return strain


HOT = (0.0, load(busy=97.0, drops=5)), (LASTING, load(busy=99.0, drops=6))


def test_a_minute_of_95_percent_with_drops_is_overload() -> None:
    assert run(*HOT).overloaded == (2,)


@pytest.mark.parametrize(
    "looks",
    [
        [(0.0, load(busy=97.0, drops=5)), (LASTING - 1, load(busy=99.0, drops=6))],  # not a minute yet
        [(0.0, load(busy=97.0, drops=5)), (LASTING, load(busy=99.0, drops=5))],  # no drops: it polls in vain
        [(0.0, load(busy=97.0, drops=5)), (30.0, load(busy=94.0, drops=6)), (LASTING, load(busy=99.0, drops=7))],
        [(0.0, load(busy=97.0, drops=5)), (30.0, load(busy=None, drops=6)), (LASTING, load(busy=99.0, drops=7))],
        [(0.0, load(busy=97.0, drops=5)), (30.0, load(busy=99.0, drops=0)), (LASTING, load(busy=99.0, drops=1))],
        [(0.0, load(busy=97.0, drops=None)), (LASTING, load(busy=99.0, drops=None))],
        [(0.0, load(busy=97.0, drops=5)), (LASTING, load(busy=99.0, drops=6, state="DEAD"))],
    ],
)
def test_less_is_none(looks: list[tuple[float, Load]]) -> None:
    assert run(*looks).overloaded == ()


def test_it_ends_after_a_minute_below_80_percent() -> None:
    later = LASTING + 10
    cool = (later, load(busy=50.0)), (later + LASTING - 1, load(busy=50.0))
    assert run(*HOT, *cool).overloaded == (2,)
    assert run(*HOT, *cool, (later + LASTING, load(busy=50.0))).overloaded == ()
    assert run(*HOT, *cool, (later + LASTING, load(busy=85.0))).overloaded == (2,)
    assert run(*HOT, cool[0], (later + 30, load(busy=85.0)), (later + LASTING, load(busy=50.0))).overloaded == (2,)


def test_one_that_leaves_is_forgotten() -> None:
    assert after(run(*HOT), [load(core=3)], LASTING + 1).overloaded == ()
