# SPDX-License-Identifier: Apache-2.0
"""One word for the node, and ten minutes of each PMD in letters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ovs_keepalive.core.health import Health, judge
from ovs_keepalive.core.model import Cause, Moment, State, VswitchdState
from ovs_keepalive.core.strip import CELLS, STEP, UNKNOWN, Strip
from tests.looks import SETTINGS, WALL_MS, pmd, running, snapshot

WELL, DEAD = pmd(3), pmd(4, state=State.DEAD, cause=Cause.TRACED)
MISSING, UNUSED = pmd(5, state=State.MISSING), pmd(6, state=State.UNUSED)
STARVED = pmd(7, cause=Cause.STARVED)
STARTING = running()._replace(state=VswitchdState.STARTING)
LOOKS_BLIND = ("iterations: Connection refused",)


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        (Health.WELL, {"pmds": [WELL, UNUSED]}),
        (Health.WELL, {"pmds": [WELL], "blind": ("log: Permission denied",)}),  # it is optional
        (Health.WARNING, {"pmds": [WELL, MISSING]}),
        (Health.WARNING, {"pmds": [STARVED]}),
        (Health.FAILURE, {"pmds": [WELL, MISSING, DEAD]}),
        (Health.FAILURE, {"pmds": [DEAD], "blind": LOOKS_BLIND}),  # what is proven stays proven
        (Health.FAILURE, {"pmds": [WELL], "vswitchd": running()._replace(state=VswitchdState.HUNG)}),
        (Health.RESTARTING, {"pmds": [WELL], "vswitchd": running()._replace(state=VswitchdState.RESTARTING)}),
        (Health.RESTARTING, {"pmds": [], "vswitchd": STARTING}),
        (Health.RESTARTING, {"pmds": [], "vswitchd": STARTING._replace(deadline=960.0), "blind": LOOKS_BLIND}),
        (Health.UNKNOWN, {"pmds": [], "vswitchd": STARTING, "blind": LOOKS_BLIND}),  # it may be as old as the host
        (Health.UNKNOWN, {"pmds": [WELL], "blind": LOOKS_BLIND}),
        (Health.UNKNOWN, {"pmds": [MISSING], "blind": ("main thread: no answer for 3 s",)}),
        (Health.DISABLED, {"pmds": [DEAD], "settings": replace(SETTINGS, enabled=False)}),
    ],
)
def test_one_word_for_the_node(word: Health, fields: dict[str, Any]) -> None:
    assert judge(snapshot(**{"vswitchd": running(), **fields})) is word


def strip_of(*looks: tuple[float, State]) -> str:
    strip = Strip()
    for second, state in looks:
        at = Moment(1000.0 + second, WALL_MS + round(second * 1000))
        strip.take(snapshot(pmds=[pmd(3, state=state)], at=at))
    return strip.rows()["pmd-c03/id:8"]


def test_a_cell_keeps_the_worst_of_its_seconds() -> None:
    looks = [(0, State.ALIVE), (1, State.MISSING), (2, State.DEAD), (3, State.ALIVE), (STEP, State.SLEEP)]
    assert strip_of(*looks) == UNKNOWN * (CELLS - 2) + "DS"


def test_what_was_not_seen_is_not_filled_in() -> None:
    assert strip_of((0, State.ALIVE), (3 * STEP, State.ALIVE)).endswith(".A..A")


def test_a_step_of_the_wall_clock_forgets_rather_than_lies() -> None:
    assert strip_of((0, State.DEAD), (-60, State.ALIVE)) == UNKNOWN * (CELLS - 1) + "A"
    assert strip_of((0, State.DEAD), (CELLS * STEP * 2, State.ALIVE)) == UNKNOWN * (CELLS - 1) + "A"


def test_a_pmd_that_is_not_seen_for_ten_minutes_is_forgotten() -> None:
    strip = Strip()
    strip.take(snapshot(pmds=[pmd(3)], at=Moment(0.0, WALL_MS)))
    for cell in range(1, CELLS + 1):
        assert set(strip.rows()) == {"pmd-c03/id:8"}
        strip.take(snapshot(pmds=[], at=Moment(0.0, WALL_MS + cell * STEP * 1000)))
    assert strip.rows() == {}
    assert strip.end == (WALL_MS // (STEP * 1000) + CELLS + 1) * STEP * 1000
