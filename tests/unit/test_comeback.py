# SPDX-License-Identifier: Apache-2.0
"""`upgrade-watch`: what it begins, what it says, and when all counts as back."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from ovs_keepalive import cli, upgrade_watch
from ovs_keepalive.command_line import USAGE
from ovs_keepalive.core import comeback
from ovs_keepalive.core.comeback import Host
from ovs_keepalive.core.model import BreakKind, Moment, State
from ovs_keepalive.formats import breaks, document
from ovs_keepalive.publishers import schema
from tests.looks import WALL_MS, broke, pmd, running, snapshot

NOW = Moment(1003.25, WALL_MS + 3250)
OVER = broke(ports=(("vhu0", Moment(900.8, WALL_MS + 900_800)),))
NOTHING = [sys.executable, "-c", "pass"]


class Daemon:
    """A daemon and a database; vswitchd is restarted once the restart has been announced."""

    def __init__(self, after: Any = OVER, earlier: int = 0, links: Mapping[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self.after = after  # the break that follows
        self.earlier = [breaks.document(broke())] * earlier
        self.links = {"vhu0": "up", "down": "down"}
        self.links_after = self.links if links is None else links
        self.enabled = True

    @property
    def announced(self) -> bool:
        return "keepalive/plan-restart" in self.asked

    def ask(self, command: str, *arguments: str) -> Any:
        self.asked.append(command)
        if command == "keepalive/breaks":
            return self.earlier
        if command != "keepalive/status":
            return {}
        shot = snapshot([pmd(3), pmd(4, state=State.UNUSED)], vswitchd=running())
        if self.announced and self.after is not None:
            shot = snapshot([pmd(3)], vswitchd=running(), breaks=(self.after,))
        node = json.loads(json.dumps(document.node(shot, NOW, {})))
        return node if self.enabled else {"enabled": False}

    def call(self, remote: str, method: str, params: list[Any], timeout: float) -> Any:
        links = self.links_after if self.announced else self.links
        return [
            {"rows": [{"name": name, "link_state": state or ["set", []]} for name, state in links.items()]},
            {"rows": [{"name": "br0"}]},
        ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the verb on a daemon: whether it was well, and what it printed."""
    monkeypatch.setattr(upgrade_watch, "BEGIN", 0.0)
    monkeypatch.setattr(upgrade_watch, "PAUSE", 0.01)
    monkeypatch.setattr(upgrade_watch, "_flow_count", lambda bridge: 7)

    def verb(daemon: Daemon, **wishes: Any) -> tuple[bool, str]:
        monkeypatch.setattr(schema, "call", daemon.call)
        usual: dict[str, Any] = {"command": NOTHING, "max_break": None, "deadline": 1, "as_json": False}
        out = io.StringIO()
        well = upgrade_watch.run(upgrade_watch.Wishes(**{**usual, **wishes}), daemon.ask, "unix:db.sock", out)
        return well, out.getvalue()

    return verb


def test_a_restart_that_brings_all_back_is_well(run: Any) -> None:
    daemon = Daemon()
    well, text = run(daemon)
    assert well
    assert "expected break: unknown: 0 announced restarts were measured, 3 are needed" in text
    assert "break: pid 100 -> 200, no packet was sent for about 1.50 s (1.25 to 1.95 s), no answer for 1.00 s" in text
    assert "PMDs: 1 before, 1 after" in text
    assert "port vhu0: polled again after 0.80 s" in text
    assert "flows of br0: 7 before, 7 after" in text
    assert text.endswith("all is back\n")
    assert daemon.asked[-1] == "keepalive/plan-cancel"


def test_a_link_that_stays_down_and_a_port_that_is_not_polled_are_stragglers(run: Any) -> None:
    well, text = run(Daemon(broke(), links={"vhu0": "down", "down": "down"}))
    assert not well
    assert "not back: port vhu0, port vhu1" in text


def test_a_pmd_that_is_not_there_again_is_a_straggler() -> None:
    before, after = Host(frozenset({1, 2}), {}, {}), Host(frozenset({2}), {}, {})
    assert comeback.missing(before, after, None) == ["the PMD of core 1"]


def test_a_command_that_fails_is_not_well_whatever_came_back(run: Any) -> None:
    well, text = run(Daemon(), command=[sys.executable, "-c", "raise SystemExit(4)"])
    assert not well
    assert "ended with status 4" in text


def test_a_command_that_restarts_nothing_is_told(run: Any) -> None:
    daemon = Daemon(after=None)
    well, text = run(daemon)
    assert not well
    assert "break: none: vswitchd is the same process as before" in text
    assert daemon.asked[-1] == "keepalive/plan-cancel"


def test_a_break_that_may_be_too_long_is_not_begun(run: Any) -> None:
    daemon = Daemon(earlier=3)
    with pytest.raises(upgrade_watch.NotBegun, match=r"worst of 3 .* broke for 1\.50 s, --max-break allows 1 s"):
        run(daemon, max_break=1.0)
    assert not daemon.announced
    assert run(Daemon(earlier=2), max_break=1.0)[0], "two are too few to refuse"
    well, text = run(Daemon(earlier=3), max_break=2.0)
    assert well
    assert "expected break: 1.50 s (median of 3 announced restarts), at worst 1.50 s" in text


def test_only_announced_restarts_whose_break_is_known_predict() -> None:
    kinds = [BreakKind.PLANNED, BreakKind.CRASH, BreakKind.ORDERLY]
    documents = [breaks.document(broke(kind=kind)) for kind in kinds]
    documents += [breaks.document(broke(unknown="no traffic")), breaks.document(broke(to=None, to_high=None))]
    assert comeback.expected(documents).n == 1


def test_a_break_longer_than_allowed_is_said(run: Any) -> None:
    assert "that is 0.50 s more than --max-break allows" in run(Daemon(), max_break=1.0)[1]


def test_the_report_as_a_document(run: Any) -> None:
    well, text = run(Daemon(), as_json=True)
    report = json.loads(text)
    assert report["well"] is well is True
    assert report["break"]["data_plane_ms"] == {"low": 1250, "estimate": 1500, "high": 1950}
    assert report["links"]["before"] == {"vhu0": "up", "down": "down"}
    assert report["stragglers"] == []


def test_nothing_is_begun_that_nobody_would_see(run: Any) -> None:
    daemon = Daemon()
    daemon.enabled = False
    with pytest.raises(upgrade_watch.NotBegun, match="keepalive is disabled"):
        run(daemon)
    with pytest.raises(upgrade_watch.NotBegun, match="of another version"):
        upgrade_watch._check({"enabled": True})


def test_a_command_that_cannot_be_run_takes_the_announcement_back(run: Any) -> None:
    daemon = Daemon()
    with pytest.raises(upgrade_watch.NotBegun, match="/nowhere/at/all: No such file"):
        run(daemon, command=["/nowhere/at/all"])
    assert daemon.asked[-1] == "keepalive/plan-cancel"


def test_the_break_of_a_process_that_came_in_between_counts() -> None:
    first, second = broke(pid_old=100, pid_new=150), broke(pid_old=150, pid_new=200)
    node = {"breaks": [breaks.document(one) for one in (broke(pid_old=1, pid_new=2), first, second)]}
    newest = comeback.newest(node, 100)
    assert newest is not None
    assert newest["pid_new"] == 200
    assert comeback.newest(node, 999) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-break", "0", "--", "true"], "--max-break: '0': give seconds, above 0 and up to 3600"),
        (["--max-break", "nan", "--", "true"], "--max-break: 'nan': give seconds"),
        (["--deadline", "3601", "--", "true"], "--deadline: '3601': give seconds"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upgrade-watch", *arguments]) == USAGE
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
