# SPDX-License-Identifier: Apache-2.0
"""What the fleet's agent concludes from what this host says, and that it concludes nothing from its silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_keepalive.core.fleet import NO_HEADROOM, HostState
from ovs_keepalive.core.headroom import LASTING, Load, Strain, after
from ovs_keepalive.core.help import ACT_HELPS, ACT_PAUSE, AddCore, Allowed, Mode
from ovs_keepalive.core.model import Moment, Snapshot, State, VswitchdState
from ovs_keepalive.fleet_load import Cores
from ovs_keepalive.fleet_node import EVERY, SILENT, OwnNode, Place, Policy
from ovs_keepalive.formats import document
from tests.control_socket import ControlSocket
from tests.looks import SETTINGS, pmd, running, snapshot

WELL, DEAD = State.ALIVE, State.DEAD


class Host:
    """A run directory with a daemon's socket, and a clock that goes as the test says."""

    def __init__(self, directory: Path, mode: Mode = Mode.ADVISE, allowed: Allowed = Allowed()) -> None:  # noqa: B008
        (directory / "ovs-keepalive.pid").write_text("7\n")
        self.daemon = ControlSocket(directory / "ovs-keepalive.7.ctl")
        self.now = 1000.0
        place = Place(directory, f"unix:{directory}/db.sock", None)
        self.node = OwnNode(place, Policy(mode, Cores("0-1", 0), allowed), self.moment)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, 1_700_000_000_000 + round(self.now * 1000))

    def turn(self, seconds: float = EVERY) -> None:
        self.now += seconds
        self.node.run(self.moment)

    def answer(self, text: str) -> None:
        """Let the daemon answer the question that is asked next."""
        self.turn()
        self.daemon.reply(text)
        self.node.run(self.moment)

    def says(self, state: State = WELL, core: int = 5) -> None:
        """Let it answer with a node whose one PMD is in that state."""
        self.tells(snapshot([pmd(core=core, state=state)], at=self.moment, vswitchd=running()))

    def tells(self, seen: Snapshot) -> None:
        """Let it answer with what it saw last."""
        self.answer(json.dumps(document.node(seen, self.moment, {})))

    def close(self) -> None:
        self.node.close()
        self.daemon.stop_listening()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


def test_nothing_is_told_before_the_daemon_has_answered(host: Host) -> None:
    known = [host.node.is_known]
    host.says()
    known.append(host.node.is_known)
    assert known == [False, True]
    assert host.node.brief.state is HostState.WELL


def test_a_dead_pmd_is_a_trouble_and_takes_all_headroom(host: Host) -> None:
    host.says()
    assert host.node.spare({}, asks=False).cores == {0: 2}
    assert host.node.spare({}, asks=True) == NO_HEADROOM
    assert host.node.troubles(host.moment) == {}
    host.says(DEAD)
    assert host.node.troubles(host.moment) == {"dead": "PMD on core 5 DEAD"}
    assert host.node.spare({}, asks=False) == NO_HEADROOM


def test_while_a_pmd_stalls_or_nobody_knows_nothing_is_to_be_changed(host: Host) -> None:
    assert host.node.objection == "nobody says how the PMDs are: the daemon was not asked yet"
    host.says()
    assert host.node.objection == ""
    host.says(DEAD)
    assert host.node.objection == "PMD on core 5 DEAD"
    hung = running()._replace(state=VswitchdState.HUNG)
    host.tells(snapshot([pmd(core=5, state=WELL)], at=host.moment, vswitchd=hung))
    assert (host.node.objection, host.node.vouched) == ("vswitchd is HUNG", False)
    host.tells(snapshot([], at=host.moment, settings=replace(SETTINGS, enabled=False)))
    cure = "ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"
    assert host.node.objection == f"nobody says how the PMDs are: keepalive is disabled: {cure}"
    host.turn(SILENT)
    host.turn(SILENT)
    assert host.node.objection.startswith("nobody says how the PMDs are: the daemon does not answer")


def test_bfd_counts_only_while_somebody_says_that_vswitchd_runs(host: Host) -> None:
    vouched = [host.node.vouched]
    host.says()
    vouched.append(host.node.vouched)
    host.tells(snapshot([], at=host.moment, settings=replace(SETTINGS, enabled=False)))
    vouched.append(host.node.vouched)
    host.says()
    host.turn(SILENT)
    host.turn(SILENT)
    vouched.append(host.node.vouched)
    assert vouched == [False, True, False, False]


def test_a_daemon_that_answers_without_looking_is_as_good_as_none(host: Host) -> None:
    host.says()
    last = snapshot([pmd(core=5, state=WELL)], at=host.moment, vswitchd=running())
    told = []
    for _ in range(7):
        host.tells(last)
        told.append((host.node.brief.state, host.node.brief.why))
    lost = HostState.UNKNOWN, "the daemon answers, but has not looked for 3 s"
    assert told == [(HostState.WELL, "")] * 4 + [lost] * 3, "in the same words: others are told of each change"
    assert (host.node.vouched, host.node.troubles(host.moment)) == (False, None)
    assert host.node.objection == f"nobody says how the PMDs are: {lost[1]}"
    host.says()
    assert host.node.brief.state is HostState.WELL


@pytest.mark.parametrize("answer", [None, "keepAlive Status: Disabled", "[]"])
def test_from_silence_and_from_nonsense_nothing_follows(host: Host, answer: str | None) -> None:
    host.says(DEAD)
    if answer is None:
        host.turn(SILENT)
        host.turn(SILENT)
    else:
        host.answer(answer)
    assert host.node.brief.state is HostState.UNKNOWN
    assert host.node.brief.why
    assert host.node.troubles(host.moment) is None
    assert host.node.spare({}, asks=False) == NO_HEADROOM


def test_a_state_that_stays_keeps_its_beginning(host: Host) -> None:
    host.says(DEAD)
    since = host.node.brief.since
    host.says(DEAD)
    assert host.node.brief.since == since


def test_a_daemon_that_comes_late_is_heard(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.turn(SILENT + 1)
    seen = [host.node.brief.state]
    host.says()
    seen.append(host.node.brief.state)
    assert seen == [HostState.UNKNOWN, HostState.WELL]
    host.close()


def test_an_overloaded_host_first_helps_itself_where_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[AddCore] = []
    allowed = Allowed(cores=frozenset({0}))
    host = Host(tmp_path, Mode.ACT_LOCAL, allowed)
    monkeypatch.setattr(host.node._load, "add_core", acts.append)
    monkeypatch.setattr(host.node._load, "mask", frozenset({5}))
    monkeypatch.setattr(host.node._load, "_numa", {0: 0, 5: 0})
    hot = Load(5, 0, "ALIVE", 99.0, drops=1)
    host.says()
    monkeypatch.setattr(OwnNode, "loads", (hot,))
    host.node._strain = after(after(Strain(), [hot], 0.0), [hot._replace(drops=2)], LASTING)
    assert host.node.troubles(host.moment) == {}
    assert [act.core for act in acts] == [0]
    host.now += ACT_HELPS
    assert list(host.node.troubles(host.moment) or ()) == ["overload"]
    host.now += ACT_PAUSE
    assert host.node.troubles(host.moment) == {}
    assert len(acts) == 2
    host.close()
