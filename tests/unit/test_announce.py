# SPDX-License-Identifier: Apache-2.0
"""keepalive/plan-restart and plan-cancel: what they take, what they say, and when the announcement is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.core.model import NEVER, BreakKind, Moment, Snapshot, Transition, Vswitchd, VswitchdState
from ovs_keepalive.restarts import Restarts
from tests.looks import SETTINGS, WALL_MS, broke, pmd, running, snapshot
from tests.requests import Requests, Source

NOW = Moment(1000.0, WALL_MS)


class Asked:
    """The daemon's control socket over one snapshot."""

    def __init__(self, directory: Path) -> None:
        self.source = Source(snapshot([pmd()], breaks=(broke(), broke(kind=BreakKind.CRASH))), directory)
        self._requests = Requests(self.source, directory)

    def close(self) -> None:
        self._requests.close()

    def ask(self, method: str, *params: str) -> tuple[str, str]:
        """Its answer and its error."""
        request = json.dumps({"id": 1, "method": method, "params": params}).encode()
        _, reply = self._requests.answer(request)
        answer = json.loads(reply)
        return answer["result"] or "", answer["error"] or ""


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    daemon = Asked(tmp_path)
    yield daemon
    daemon.close()


def test_an_announcement_is_taken_and_taken_back(asked: Asked) -> None:
    text, _ = asked.ask("keepalive/plan-restart", "300")
    assert text.startswith("keepAlive Status: Enabled\nrestart of vswitchd announced: one that begins by ")
    assert text.endswith(" UTC may take 300 s\n")
    plan = asked.source.restarts.plan
    assert plan is not None
    assert plan.seconds == 300
    assert text.partition("announced: ")[2] in asked.ask("keepalive/status")[0]  # before any look has heard of it
    document = json.loads(asked.ask("keepalive/plan-cancel", "--json")[0])
    assert document["cancelled"] == {"at": plan.at.wall_ms, "until": plan.at.wall_ms + 300_000, "seconds": 300}
    assert asked.source.restarts.plan is None
    assert "announced restart" not in asked.ask("keepalive/status")[0]
    assert "no restart of vswitchd was announced" in asked.ask("keepalive/plan-cancel")[0]
    assert [(one.who, one.old, one.new) for one in asked.source.told] == [
        ("restart", "none", "announced"),
        ("restart", "announced", "none"),
    ]


@pytest.mark.parametrize("seconds", ["0", "3601", "-1", "1.5", "soon", "", "٣", "9" * 5000])
def test_a_time_that_cannot_be_meant_is_refused_in_one_line(asked: Asked, seconds: str) -> None:
    text, error = asked.ask("keepalive/plan-restart", seconds)
    assert text == ""
    assert "is no number of seconds from 1 to 3600" in error
    assert error.count("\n") == 1
    assert asked.source.restarts.plan is None


def test_while_disabled_nothing_can_be_announced(asked: Asked) -> None:
    asked.source.snapshot = snapshot(settings=replace(SETTINGS, enabled=False))
    assert asked.ask("keepalive/plan-restart", "300") == ("keepAlive Status: Disabled\n", "")
    assert asked.source.restarts.plan is None


def test_breaks_are_told_newest_last(asked: Asked) -> None:
    lines = asked.ask("keepalive/breaks")[0].splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["planned", "crash"]
    assert "pid 100 -> 200  no packet was sent for about 1.50 s (1.25 to 1.95 s; its end: a method)" in lines[1]
    assert lines[1].endswith("no answer for 1.00 s; the first port polled again after 0.75 s; not polled: vhu1")
    [last] = json.loads(asked.ask("keepalive/breaks", "1", "--json")[0])
    assert (last["kind"], last["pid_old"], last["pid_new"], last["ports_missing"]) == ("crash", 100, 200, ["vhu1"])
    assert last["from"] < last["to_low"] < last["to"] < last["to_high"]
    assert [one["kind"] for one in json.loads(asked.ask("keepalive/status", "--json")[0])["breaks"]] == [
        "planned",
        "crash",
    ]


# --- how long it holds ---------------------------------------------------------------------------


class Told:
    """Restarts, and what they told."""

    def __init__(self) -> None:
        self.history: list[Transition] = []
        self.changes = 0
        self.restarts = Restarts(self.history.append, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def expects(self) -> bool:
        """Whether a restart is announced."""
        return self.restarts.plan is not None

    def forwards_from(self) -> Moment | None:
        """Since when vswitchd may forward."""
        return self.restarts.flow_restored

    def sees(self, at: float, vswitchd: Vswitchd | None = None, **fields: Any) -> Snapshot:
        """A snapshot that the beat made with the newest settings."""
        settings = replace(SETTINGS, plan=self.restarts.plan)
        shot = snapshot(
            vswitchd=vswitchd or running(),
            settings=settings,
            at=Moment(1000.0 + at, WALL_MS + round(at * 1000)),
            **fields,
        )
        self.restarts.follow(shot)
        return shot


def test_it_is_over_when_nothing_began_in_its_time() -> None:
    told = Told()
    told.restarts.announce(60.0, NOW)
    told.sees(59.0)
    assert told.expects()
    told.sees(61.0)
    assert not told.expects()
    assert told.history[-1].evidence == "it did not begin in its time"
    assert told.changes == 2


def test_it_lasts_until_the_restart_is_over() -> None:
    told = Told()
    plan = told.restarts.announce(60.0, NOW)
    restarting = running(None, state=VswitchdState.RESTARTING, deadline=1150.0, plan=plan)
    told.sees(100.0, restarting)
    assert told.expects()
    told.sees(101.0, running(state=VswitchdState.STARTING, deadline=1160.0, plan=plan))
    assert told.expects()
    told.sees(102.0, running(plan=plan))
    assert not told.expects()
    assert told.history[-1].evidence == "over"


def test_a_snapshot_older_than_the_announcement_ends_nothing() -> None:
    told = Told()
    old = told.sees(0.0)
    told.restarts.announce(60.0, NOW)
    told.restarts.follow(replace(old, at=Moment(2000.0, WALL_MS)))
    assert told.expects()


def test_flow_restore_wait_is_followed() -> None:
    told = Told()
    told.restarts.take({}, NOW)
    assert told.forwards_from() == NEVER
    told.restarts.take({"flow-restore-wait": "true"}, NOW)
    assert told.forwards_from() is None
    told.restarts.take({"flow-restore-wait": "true"}, Moment(1001.0, 0))
    told.restarts.take({}, Moment(1002.0, 7))
    assert told.forwards_from() == Moment(1002.0, 7)
    assert told.changes == 2
