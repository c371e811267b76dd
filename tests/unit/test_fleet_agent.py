# SPDX-License-Identifier: Apache-2.0
"""The agent's turns, on a store in memory: what it does when somebody empties the store, or takes its name."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import fleet_agent, process
from ovs_keepalive.config_sections import Fleet
from ovs_keepalive.core.fleet import Headroom, Help, HostState
from ovs_keepalive.core.model import Moment
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.store import Unreachable
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet.watch import read_cell
from ovs_keepalive.fleet_agent import RIVALLED, Agent
from ovs_keepalive.fleet_node import Place
from ovs_keepalive.formats import node_brief
from ovs_keepalive.programs import trust
from tests.memory_store import Ensemble, MemoryStore

TREE = Tree("default")
WALL = 1_795_238_339_792


class Node:
    """In the place of OwnNode: a host that is as the test says."""

    def __init__(self, *_: object) -> None:
        self.brief = node_brief.silent("", WALL)._replace(state=HostState.WELL)
        self.is_known = self.vouched = True
        self.objection = ""
        self.shares: dict[int, float] = {}
        self.room = Headroom()
        self.wrong: Mapping[str, str] = {}

    def run(self, now: Moment) -> None:
        """Nothing new."""

    def spare(self, given_away: dict[int, int], *, asks: bool) -> Headroom:
        """What it could take over."""
        return Headroom() if asks or given_away else self.room

    def troubles(self, now: Moment) -> Mapping[str, str]:
        """What it needs help about."""
        return self.wrong

    def close(self) -> None:
        """Nothing to end."""


class Tunnels:
    """In the place of Fabric: keeps what it is told of the cell."""

    tunnels = ()
    services: Mapping[str, int] = {}

    def __init__(self, *_: object) -> None:
        self.live: frozenset[str] | None = None

    def run(self, live: Mapping[str, object] | None, *_: object, **__: object) -> None:
        """One turn."""
        self.live = None if live is None else frozenset(live)

    def close(self) -> None:
        """Nothing to end."""


class Host:
    """A host with an agent, and a clock that goes as the test says."""

    def __init__(self, ensemble: Ensemble, patch: pytest.MonkeyPatch, name: str, **fleet: Any) -> None:
        self.ensemble, self.now = ensemble, 1000.0
        self.session: MemoryStore = ensemble.session()
        ends = socket.socketpair()
        patch.setattr(fleet_agent, "Session", lambda *_: self.session)
        patch.setattr(fleet_agent, "OwnNode", Node)
        patch.setattr(fleet_agent, "Fabric", Tunnels)
        patch.setattr(process, "catch_signals", lambda *_: ends)
        patch.setattr(random, "random", lambda: 0.0)
        section = Fleet(zookeeper="127.0.0.1:2181", node=name, **fleet)
        self.agent = Agent(section, Place(Path("/nowhere"), "unix:/nowhere/db.sock", None))
        self.node: Any = self.agent._node
        self.fabric: Any = self.agent._fabric

    def turn(self, seconds: float = 1.0) -> None:
        """So much later."""
        self.now += seconds
        self.agent._turn(Moment(self.now, WALL + round(self.now * 1000)))

    def close(self) -> None:
        """End it."""
        self.agent._close()


Join = Callable[..., Host]


@pytest.fixture
def ensemble() -> Ensemble:
    return Ensemble()


@pytest.fixture
def join(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """Makes hosts, whose agents end with the test."""
    with ExitStack() as stack:

        def join(name: str, **fleet: Any) -> Host:
            host = Host(ensemble, monkeypatch, name, **fleet)
            stack.callback(host.close)
            return host

        yield join


def seen(ensemble: Ensemble) -> dict[str, HostState]:
    """As a reader of the cell sees it."""
    return {host: one.state for host, one in read_cell(ensemble.session(), TREE).hosts.items()}


def test_in_a_store_that_was_emptied_the_agent_is_back_with_its_next_word(ensemble: Ensemble, join: Join) -> None:
    host = join("a", refresh=30.0)
    host.turn()
    ensemble.empty()
    host.turn(40.0)  # numbers are due: there is nothing that they could stand in
    host.turn()
    assert seen(ensemble) == {"a": HostState.WELL}
    assert ensemble.nodes[TREE.known("a")].owner == 0


def test_a_host_in_trouble_asks_for_help_in_a_store_that_was_emptied(ensemble: Ensemble, join: Join) -> None:
    host = join("a")
    host.turn()
    ensemble.empty()
    host.node.wrong = {"dead": "PMD on core 2 DEAD"}
    host.turn()
    host.turn()
    assert list(Claims(ensemble.session(), TREE, "boss").requests()) == ["a--dead"]


def test_with_the_mesh_all_are_back_long_before_a_port_would_go(ensemble: Ensemble, join: Join) -> None:
    """However seldom numbers are told: what the list of the cell lacks for a minute loses its port."""
    both = [join(name, mesh=True, address=f"192.0.2.{n}", refresh=600.0) for n, name in enumerate("ab", 1)]
    for _ in range(2):
        for host in both:
            host.turn()
    assert [host.fabric.live for host in both] == [{"a", "b"}] * 2
    ensemble.empty()
    for _ in range(15):
        for host in both:
            host.turn()
    assert seen(ensemble) == {"a": HostState.WELL, "b": HostState.WELL}
    assert [host.fabric.live for host in both] == [{"a", "b"}] * 2
    writes = ensemble.writes
    for host in both:
        host.turn()
    assert ensemble.writes == writes, "and then they are quiet"


def test_an_agent_whose_name_another_has_taken_lets_go_of_what_it_claimed(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, join: Join, tmp_path: Path
) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\nsleep 600\n")
    hook.chmod(0o755)
    monkeypatch.setattr(trust, "of_hook", lambda _: "")
    first = join("a", help="hook", hook=str(hook))
    first.node.room = Headroom({0: 1}, {0: 10})
    first.turn()
    boss = Claims(ensemble.session(), TREE, "boss")
    boss.post(Help("b", "manual", "take vm7", WALL))
    for _ in range(5):
        first.turn()
    assert TREE.claim("b--manual") in ensemble.nodes
    second = join("a")
    second.turn()
    first.turn(40.0)  # numbers are due
    one, _ = boss.requests()["b--manual"]
    assert one.last == "hook hook: another agent has this host's name: killed"
    assert TREE.claim("b--manual") not in ensemble.nodes, "others may claim it"
    assert first.agent._desk.filenos() == ()
    assert ensemble.below(TREE.host("a")) == ("live",)


def test_what_could_not_be_let_go_of_at_once_is_soon(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, join: Join
) -> None:
    first = join("a")
    first.node.room = Headroom({0: 1}, {0: 10})
    first.turn()
    boss = Claims(ensemble.session(), TREE, "boss")
    boss.post(Help("b", "manual", "take vm7", WALL))
    while TREE.claim("b--manual") not in ensemble.nodes:
        first.turn()
    second = join("a")
    second.turn()
    with monkeypatch.context() as patch:
        patch.setattr(first.session, "write", _unanswered)
        first.turn(40.0)
    first.turn()
    assert TREE.claim("b--manual") not in ensemble.nodes
    assert first.now < 1000.0 + 40.0 + RIVALLED


def _unanswered(*_: object) -> None:
    raise Unreachable("no answer")
