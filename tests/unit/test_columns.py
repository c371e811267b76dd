# SPDX-License-Identifier: Apache-2.0
"""A database that refuses is asked once a second and told of in a few lines; one that writes again at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ovs_keepalive.core.model import Cause, Moment, State
from ovs_keepalive.publishers import columns
from ovs_keepalive.publishers.columns import Columns
from ovs_keepalive.publishers.session import Outcome
from tests.looks import WALL_MS, pmd, snapshot


class Server:
    """A session whose transactions end at once, as it is told."""

    def __init__(self) -> None:
        self.remote = "unix:/nowhere"
        self.connected = self.has_lock = self.may_write = True
        self.life = (-1, 0)
        self.outcome = Outcome.DONE
        self.asked: list[float] = []
        self.now = 1000.0
        self.notes: list[Any] = []

    def write(self, _operation: object) -> Any:
        self.asked.append(self.now)
        outcome = self.outcome
        return SimpleNamespace(outcome=lambda: outcome, error=lambda: "error: not allowed")

    def note(self, event: object) -> None:
        self.notes.append(event)


class Publishing:
    """The columns, of which ten snapshots a second are wanted."""

    def __init__(self) -> None:
        self.server = Server()
        self.columns = Columns(self.server, 1.0, "1", 1)  # type: ignore[arg-type]
        self.looked: list[Moment] = []
        self.columns.schema = SimpleNamespace(look=self.looked.append, run=lambda _now: False)  # type: ignore[assignment]
        self.columns._there = frozenset({"keepalive", "keepalive_detail"})

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.server.now += 0.1
            now = Moment(self.server.now, WALL_MS)
            self.columns.run(now)
            self.columns.publish(snapshot([pmd()], at=now), now)


@pytest.fixture
def publishing() -> Publishing:
    return Publishing()


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(columns.log, "warn", lines.append)
    return lines


def test_a_refusal_is_tried_again_once_a_second_and_told_ten_times_at_most(
    publishing: Publishing, warned: list[str]
) -> None:
    publishing.server.outcome = Outcome.FAILED
    publishing.run(60.0)
    assert 50 <= len(publishing.server.asked) <= 62
    assert warned == ["the columns were not written: error: not allowed"] * 10
    publishing.server.outcome = Outcome.DONE
    publishing.run(1.5)
    assert warned[10:] == ["the columns are written again"]
    assert publishing.columns.last_error == ""


def test_one_failure_alone_is_made_good_at_once(publishing: Publishing) -> None:
    publishing.run(3.0)
    publishing.server.outcome = Outcome.FAILED
    failed = len(publishing.server.asked)
    while len(publishing.server.asked) == failed:
        publishing.run(0.1)
    publishing.server.outcome = Outcome.DONE
    publishing.run(0.2)
    assert publishing.server.asked[failed + 1] - publishing.server.asked[failed] <= 0.11


def test_what_an_earlier_daemon_has_told_is_no_news(publishing: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, str]] = []
    done = SimpleNamespace(outcome=lambda: Outcome.DONE, error=lambda: "")

    def write(operation: Any) -> Any:
        written.append(dict(operation["row"]["keepalive"][1]))
        return done

    monkeypatch.setattr(publishing.server, "write", write)
    dead = pmd(state=State.DEAD, cause=Cause.TRACED)
    publishing.columns.go_on_from([dead], 5, 2)
    for second in (1000.0, 1001.0):
        now = Moment(second, WALL_MS)
        publishing.columns.publish(snapshot([dead, pmd(4, state=State.DEAD)], at=now), now)
    first, *_ = written
    assert first[dead.name].startswith("DEAD")
    assert first[pmd(4).name].startswith("MISSING")  # of that one nothing was told
    assert written[-1][pmd(4).name].startswith("DEAD")
    assert (publishing.columns.committed, publishing.columns.failed) == (5 + len(written), 2)
