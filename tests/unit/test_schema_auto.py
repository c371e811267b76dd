# SPDX-License-Identifier: Apache-2.0
"""`schema: auto` converts only when nothing could be hurt by it, and never in a storm."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ovs_keepalive.core.model import Moment, Snapshot, VswitchdState
from ovs_keepalive.formats.schema import Column, Found, Status
from ovs_keepalive.publishers import schema_auto
from ovs_keepalive.publishers.schema_auto import LiveSchema, SchemaKeeper
from tests.looks import SETTINGS, WALL_MS, running, snapshot


def _status(keepalive: Found, detail: Found) -> Status:
    return Status("8.3.1", (Column("keepalive", keepalive, ""), Column("keepalive_detail", detail, "")))


PRESENT = _status(Found.PRESENT, Found.PRESENT)
ABSENT = _status(Found.ABSENT, Found.ABSENT)
HALF = _status(Found.PRESENT, Found.ABSENT)
FOREIGN = _status(Found.OTHER, Found.PRESENT)


class Live(LiveSchema):
    """A server that only notes when it is asked to add the columns."""

    def __init__(self) -> None:
        self.status: Status | None = ABSENT
        self.asked: list[float] = []
        self.working = False
        self.now = 0.0

    @property
    def busy(self) -> bool:
        return self.working

    def add(self) -> None:
        self.asked.append(self.now)


def _shown(**fields: Any) -> Snapshot:
    return snapshot(vswitchd=running(since=Moment(fields.pop("since", 0.0), WALL_MS), **fields))


@dataclass
class Keeping:
    """A keeper on a simulated clock: vswitchd has been RUNNING for long, and all is allowed."""

    live: Live = field(default_factory=Live)
    now: float = 1000.0
    snapshot: Snapshot | None = field(default_factory=_shown)
    may_write: bool = True

    def __post_init__(self) -> None:
        self.keeper = SchemaKeeper(self.live)

    def run(self, seconds: float, turn: float = 0.1) -> list[float]:
        """Let time go by; when the columns were asked for in it."""
        before = len(self.live.asked)
        for _ in range(round(seconds / turn)):
            self.live.now = self.now
            self.keeper.run(Moment(self.now, WALL_MS), self.snapshot, self.may_write)
            self.now = round(self.now + turn, 6)
        return self.live.asked[before:]


# --- when it may ---------------------------------------------------------------------------------


def test_absent_columns_are_added_after_a_second_of_calm() -> None:
    keeping = Keeping()
    assert keeping.run(0.95) == []
    (asked,) = keeping.run(0.5)
    assert asked == pytest.approx(1001.0, abs=0.11)


def test_one_absent_column_is_enough() -> None:
    keeping = Keeping()
    keeping.live.status = HALF
    assert len(keeping.run(1.5)) == 1


@pytest.mark.parametrize("status", [PRESENT, FOREIGN, None])
def test_nothing_is_added_where_nothing_is_absent_or_nothing_is_known(status: Status | None) -> None:
    keeping = Keeping()
    keeping.live.status = status
    assert keeping.run(30.0) == []


def test_a_foreign_column_does_not_keep_the_other_from_being_added() -> None:
    keeping = Keeping()
    keeping.live.status = _status(Found.OTHER, Found.ABSENT)
    assert len(keeping.run(1.5)) == 1


# --- when it may not -----------------------------------------------------------------------------


def test_nothing_is_added_while_disabled() -> None:
    keeping = Keeping(snapshot=replace(_shown(), settings=replace(SETTINGS, enabled=False)))
    assert keeping.run(30.0) == []
    keeping.snapshot = _shown()
    assert len(keeping.run(0.5)) == 1


def test_nothing_is_added_without_the_lock() -> None:
    keeping = Keeping(may_write=False)
    assert keeping.run(30.0) == []
    keeping.may_write = True
    assert len(keeping.run(0.5)) == 1


def test_nothing_is_added_before_the_first_look() -> None:
    assert Keeping(snapshot=None).run(30.0) == []


@pytest.mark.parametrize("state", [state for state in VswitchdState if state is not VswitchdState.RUNNING], ids=str)
def test_nothing_is_added_while_vswitchd_is_not_running(state: VswitchdState) -> None:
    assert Keeping(snapshot=_shown(state=state)).run(30.0) == []


def test_nothing_is_added_while_a_call_is_under_way() -> None:
    keeping = Keeping()
    keeping.live.working = True
    assert keeping.run(30.0) == []


def test_the_calm_begins_anew_when_vswitchd_has_just_come_to_run() -> None:
    keeping = Keeping()
    keeping.run(0.5)
    keeping.snapshot = _shown(since=1000.5)
    assert keeping.run(0.9) == []
    assert len(keeping.run(0.5)) == 1


def test_the_calm_begins_anew_when_the_columns_are_taken_away_again() -> None:
    keeping = Keeping()
    keeping.live.status = PRESENT
    keeping.run(100.0)
    keeping.live.status = ABSENT
    assert keeping.run(0.95) == []
    assert len(keeping.run(0.5)) == 1


def test_a_schema_that_is_not_known_in_between_is_no_calm() -> None:
    keeping = Keeping()
    for _ in range(10):
        keeping.live.status = ABSENT
        assert keeping.run(0.8) == []
        keeping.live.status = None
        assert keeping.run(0.2) == []


# --- no storm ------------------------------------------------------------------------------------


def _taken_away(keeping: Keeping, seconds: float) -> list[float]:
    """Somebody takes the columns away as soon as they are there."""
    asked: list[float] = []
    for _ in range(round(seconds / 0.5)):
        done = keeping.run(0.5, turn=0.5)
        asked += done
        keeping.live.status = PRESENT if done else ABSENT
    return asked


def test_two_attempts_are_free_and_from_the_third_on_the_pauses_double() -> None:
    asked = _taken_away(Keeping(), 600.0)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[0] < 3.0
    assert pauses[1:] == [pytest.approx(pause, abs=2.0) for pause in (30.0, 60.0, 120.0, 240.0)]


def test_a_server_that_refuses_is_not_asked_in_a_storm_either() -> None:
    keeping = Keeping()  # the status stays ABSENT, whatever is done
    asked = keeping.run(600.0, turn=0.5)
    assert len(asked) <= 6
    assert asked[2] - asked[1] >= 30.0


def test_attempts_in_a_day_stay_few_however_long_it_is_fought() -> None:
    asked = _taken_away(Keeping(), 3 * 3600.0)
    for at in asked:
        assert sum(at <= other < at + 600.0 for other in asked) <= 6


def test_ten_quiet_minutes_make_it_free_again() -> None:
    keeping = Keeping()
    _taken_away(keeping, 40.0)
    keeping.live.status = PRESENT
    keeping.run(700.0, turn=1.0)
    keeping.live.status = ABSENT
    assert len(keeping.run(1.5)) == 1


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 1.0), (1, 1.0), (2, 30.0), (3, 60.0), (6, 480.0), (7, 600.0)])
def test_the_pause_after_so_many_attempts(attempts: int, seconds: float) -> None:
    assert schema_auto.pause(attempts) == seconds


def test_the_pause_has_an_end() -> None:
    assert all(schema_auto.pause(attempts) <= 600.0 for attempts in range(0, 1000, 7))
