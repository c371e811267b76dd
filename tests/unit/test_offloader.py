# SPDX-License-Identifier: Apache-2.0
"""A round of moves, as the process makes it that looks at flows: stopped, left out, and judged as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_keepalive import offloader
from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload import Limits, Move, Plan
from ovs_keepalive.core.offload_act import Kind, Result
from ovs_keepalive.formats.offload_wire import Ask, Order, Report
from ovs_keepalive.offloader import Offloader
from ovs_keepalive.sensors.offload_journal import Journal
from ovs_keepalive.sensors.offload_writer import Writer
from tests.offload_lab import move
from tests.pretended_vswitchd import UFID, Line, Vswitchd

ACTING = Ask(0.0, 0.01, 100, Limits(), enabled=True, rebalanced=False, planning=True, ready=True, acting=True)
MOVES = tuple(move(UFID.format(host)) for host in (1, 2, 3))


class Round:
    """Three flows in software, and room for them."""

    def __init__(self, directory: Path, withdrawn: Callable[[], bool] = lambda: False) -> None:
        self.vswitchd = Vswitchd(capacity=0)
        for host in (1, 2, 3):
            self.vswitchd.rule(host, "2")
            self.vswitchd.packet(host)
        self.vswitchd.capacity = 3
        self.journal = Journal(directory)
        self.writer = Writer(Line(self.vswitchd), ProcessId(700, 7), self.journal, settle=0.0)
        assert self.writer.gate() == ""
        self._offloader = Offloader(Order(None, str(directory)), withdrawn)

    def made(self, moves: tuple[Move, ...] = MOVES) -> Report:
        """The report of the round."""
        plan = Plan(moment(), moves, (), 0.0)
        report = Report(moment(), None, (), plan, "", (), (), (), 0, "", 0.0, 3.0)
        return self._offloader._moved(report, self.writer, ACTING)

    @property
    def written(self) -> int:
        """Flows that were told to the hardware."""
        return self.vswitchd.said.count("dpctl/mod-flow")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No second passes while it rests; what would have."""
    rests: list[float] = []
    monkeypatch.setattr(offloader, "_rest", rests.append)
    return rests


@pytest.mark.usefixtures("at_once")
def test_a_plan_is_carried_out(tmp_path: Path) -> None:
    one = Round(tmp_path)
    assert [outcome.result for outcome in one.made().outcomes] == [Result.PROMOTED] * 3
    assert all(flow.hardware for flow in one.vswitchd.flows.values())


def test_without_a_plan_nothing_is_asked_and_nobody_rests(tmp_path: Path, at_once: list[float]) -> None:
    one = Round(tmp_path)
    asked = len(one.vswitchd.said)
    assert one.made(()).outcomes == ()
    assert (len(one.vswitchd.said), at_once) == (asked, [])


def test_what_is_no_longer_asked_for_ends_before_the_next_move(tmp_path: Path, at_once: list[float]) -> None:
    said: Iterator[bool] = iter([False, True, True, True])
    one = Round(tmp_path, lambda: next(said))
    outcomes = one.made().outcomes
    assert [outcome.result for outcome in outcomes] == [Result.PROMOTED, Result.SKIPPED, Result.SKIPPED]
    assert outcomes[1].why == "no longer asked for"
    assert one.written == 1
    assert len(at_once) == 1  # nobody waits for what comes after


def test_a_round_amid_changes_of_openflow_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Round(tmp_path)

    def rest(_seconds: float) -> None:
        one.vswitchd.counts["rev_flow_table"] += 4

    monkeypatch.setattr(offloader, "_rest", rest)
    outcomes = one.made().outcomes
    assert {outcome.result for outcome in outcomes} == {Result.SKIPPED}
    assert "changed 4 times" in outcomes[0].why
    assert one.written == 0


@pytest.mark.parametrize(("grown", "told"), [(0, []), (31, [Kind.UPCALLS])])
def test_more_packets_on_the_slow_path_than_were_removed_are_an_anomaly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown: int, told: list[Kind]
) -> None:
    one = Round(tmp_path)

    def rest(_seconds: float) -> None:
        one.vswitchd.counts["handler_duplicate_upcall"] += grown

    monkeypatch.setattr(offloader, "_rest", rest)
    assert [anomaly.kind for anomaly in one.made().anomalies] == told
