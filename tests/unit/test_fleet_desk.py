# SPDX-License-Identifier: Apache-2.0
"""The desk: what a host asks for and gives, on a store in memory with ZooKeeper's laws."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ovs_keepalive.core.fleet import NO_HEADROOM, Headroom, Help
from ovs_keepalive.core.help import COOLDOWN, PROMISE, Mode, promised
from ovs_keepalive.core.model import Moment
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.desk import OWN_EVERY, Desk, Now, Rules
from ovs_keepalive.fleet.store import Create, Node, Refused, Unreachable, Why
from ovs_keepalive.fleet.tree import Tree, make
from tests.memory_store import Ensemble, MemoryStore

TREE = Tree("default")
ROOM = Headroom({0: 1}, {0: 90})
ILL = {"dead": "PMD on core 2 DEAD"}
WALL = 1_795_238_339_792


class Host:
    """A host with a desk, and a clock that goes as the test says."""

    def __init__(self, ensemble: Ensemble, name: str, mode: Mode = Mode.ADVISE, hook: Path | None = None) -> None:
        self.name, self.now = name, 1000.0
        self.ensemble = ensemble
        self.session = ensemble.session()
        TREE.plant(self.session)
        self.desk = Desk(self.session, TREE, name, Rules(mode, hook))

    def turn(
        self, spare: Headroom = NO_HEADROOM, troubles: Mapping[str, str] | None = None, distrust: str = ""
    ) -> None:
        """One turn, a second after the last one."""
        self.now += 1.0
        self.desk.look_at_hooks(self.now)
        left = dict(spare.cores)
        for numa, count in promised(self.desk.helping, self.now).items():
            left[numa] = max(0, left.get(numa, 0) - count)
        here = Now({} if troubles is None else troubles, Headroom(left, spare.busy), 0.0, distrust)
        self.desk.turn(self.moment, here, self.session.news().changed)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, WALL + round(self.now * 1000))

    def turns(self, count: int, spare: Headroom = NO_HEADROOM) -> None:
        for _ in range(count):
            self.turn(spare)


@pytest.fixture
def ensemble() -> Ensemble:
    return Ensemble()


@pytest.fixture
def boss(ensemble: Ensemble) -> Claims:
    """Sees what stands in the store."""
    session = ensemble.session()
    TREE.plant(session)
    return Claims(session, TREE, "boss")


def hook(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def hosts(ensemble: Ensemble) -> Iterator[list[Host]]:
    """Whose hooks end with the test."""
    made: list[Host] = []
    yield made
    for one in made:
        one.desk.lose("the test ends", one.now)


# --- asking --------------------------------------------------------------------------------------


def test_a_host_in_trouble_asks_and_takes_that_back_when_it_is_over(ensemble: Ensemble, boss: Claims) -> None:
    a = Host(ensemble, "a")
    a.turn(troubles=ILL)
    assert boss.requests()["a--dead"][0].why == ILL["dead"]
    assert a.desk.has_open
    a.turn()
    assert boss.requests() == {}


def test_one_that_cannot_be_seen_asks_for_nothing_and_takes_nothing_back(ensemble: Ensemble, boss: Claims) -> None:
    a = Host(ensemble, "a")
    a.turn(troubles=ILL)
    a.now += OWN_EVERY
    a.desk.turn(a.moment, Now(None, NO_HEADROOM, 0.0), ())
    assert list(boss.requests()) == ["a--dead"]


def test_a_new_agent_takes_over_what_the_old_one_asked(ensemble: Ensemble, boss: Claims) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    again = Host(ensemble, "a")
    again.turn(troubles=ILL)
    assert again.desk.has_open
    again.turn()
    assert boss.requests() == {}


def test_what_could_not_be_asked_for_is_asked_for_in_the_next_turn(ensemble: Ensemble, boss: Claims) -> None:
    a = Host(ensemble, "a")
    a.turn()
    nodes = dict(ensemble.nodes)
    ensemble.nodes.clear()
    with pytest.raises(Refused, match="help/a--dead: there is no such node"):
        a.turn(troubles=ILL)
    ensemble.nodes.update(nodes)
    a.turn(troubles=ILL)
    assert list(boss.requests()) == ["a--dead"]


def test_while_all_is_well_the_store_is_not_asked_again(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    a = Host(ensemble, "a")
    a.turn()
    asked: list[object] = []
    read = MemoryStore.read

    def noted(self: MemoryStore, paths: Sequence[str], watch: bool = False) -> list[Node | Why]:
        asked.append(paths)
        return read(self, paths, watch)

    monkeypatch.setattr(MemoryStore, "read", noted)
    a.turns(20)
    assert asked == []
    a.turn(troubles=ILL)
    assert asked != []


# --- advising ------------------------------------------------------------------------------------


def test_a_host_with_room_offers_it_and_that_is_the_record(ensemble: Ensemble, boss: Claims) -> None:
    a, b = Host(ensemble, "a"), Host(ensemble, "b")
    a.turn(troubles=ILL)
    for _ in range(5):
        b.turn(ROOM)
    [done] = boss.records()
    assert (done.host, done.kind, done.by) == ("a", "dead", "b")
    assert done.result == "offer: host b, numa 0, cores 1, busy 90 %"
    assert boss.requests() == {}
    assert promised(b.desk.helping, b.now) == {0: 1}
    assert promised(b.desk.helping, b.now + PROMISE) == {}


def test_one_that_was_answered_waits_before_it_asks_again(ensemble: Ensemble, boss: Claims) -> None:
    a, b = Host(ensemble, "a"), Host(ensemble, "b")
    a.turn(troubles=ILL)
    b.turns(5, ROOM)
    a.now += OWN_EVERY
    a.turn(troubles=ILL)
    assert boss.requests() == {}
    a.now += COOLDOWN
    a.turn(troubles=ILL)
    assert list(boss.requests()) == ["a--dead"]


def test_two_requests_and_one_free_core_make_one_claim(ensemble: Ensemble, boss: Claims) -> None:
    for name in ("a", "c"):
        Host(ensemble, name).turn(troubles=ILL)
    b = Host(ensemble, "b")
    b.turns(40, ROOM)
    assert len(boss.records()) == 1
    assert len(boss.requests()) == 1


@pytest.mark.parametrize("spare", [Headroom(), Headroom({0: 0}, {0: 90})])
def test_a_host_without_room_claims_nothing(ensemble: Ensemble, boss: Claims, spare: Headroom) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    Host(ensemble, "b").turns(5, spare)
    assert boss.requests()["a--dead"][0].n == 0


def test_a_host_that_takes_no_part_asks_nobody_and_helps_nobody(ensemble: Ensemble, boss: Claims) -> None:
    Host(ensemble, "a", Mode.OFF).turn(troubles=ILL)
    assert boss.requests() == {}
    Host(ensemble, "c").turn(troubles=ILL)
    Host(ensemble, "b", Mode.OFF).turns(5, ROOM)
    assert boss.requests()["c--dead"][0].n == 0


def test_a_request_that_is_posted_later_is_told(ensemble: Ensemble, boss: Claims) -> None:
    b = Host(ensemble, "b")
    b.turns(3, ROOM)
    Host(ensemble, "a").turn(troubles=ILL)
    b.turns(5, ROOM)
    assert len(boss.records()) == 1


# --- hooks ---------------------------------------------------------------------------------------


def run_out(host: Host, boss: Claims, count: int = 1) -> None:
    """Turn until so many claims have ended."""
    for _ in range(200):
        host.turn(ROOM)
        poll = select.poll()
        for descriptor in host.desk.filenos():
            poll.register(descriptor, select.POLLIN)
        poll.poll(2000 if host.desk.filenos() else 0)
        host.desk.look_at_hooks(host.now)
        requests = boss.requests()
        if not requests or all(one.n >= count and one.last for one, _ in requests.values()):
            return
    raise AssertionError(f"no end: {host.desk.helping}")


def test_a_hook_that_succeeds_completes_the_request(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, 'echo "moved $OVSKA_HOST, fence $OVSKA_FENCE"'))
    hosts.append(b)
    run_out(b, boss)
    b.turn(ROOM)
    [done] = boss.records()
    assert done.result == "hook hook: moved a, fence 1"


def test_a_request_that_is_posted_anew_runs_its_hook_again(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, f"echo $OVSKA_REQUEST_ID $OVSKA_POSTED $OVSKA_FENCE >> {runs}"))
    hosts.append(b)
    for number in range(4):
        boss.post(Help("a", "manual", "take vm7", WALL + number))
        b.now += PROMISE
        run_out(b, boss)
        b.turn(ROOM)
        assert boss.requests() == {}, "done, and not given back"
    assert runs.read_text().splitlines() == [f"a--manual {WALL + number} 1" for number in range(4)]
    assert [done.n for done in boss.records()] == [1, 1, 1, 1]


@pytest.mark.parametrize(("script", "words"), [("exit 75", "gives it back"), ("exit 3", "status 3")])
def test_a_hook_that_fails_gives_it_back(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path, script: str, words: str
) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, script))
    hosts.append(b)
    run_out(b, boss)
    one, _ = boss.requests()["a--dead"]
    assert (one.n, one.by) == (1, "b")
    assert words in one.last
    assert boss.records() == []


def test_after_three_tries_a_request_is_stuck_until_an_operator_clears_it(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, "exit 1"))
    hosts.append(b)
    run_out(b, boss, 3)
    b.turns(200, ROOM)
    one, version = boss.requests()["a--dead"]
    assert one.is_stuck
    assert boss.clear(one, version, "cleared")
    run_out(b, boss, 1)
    assert boss.requests()["a--dead"][0].n == 1


def test_no_hook_is_run_that_is_not_trusted(ensemble: Ensemble, boss: Claims, tmp_path: Path) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, "exit 0"))
    for _ in range(5):
        b.turn(ROOM, distrust="others may write to it")
    assert boss.requests()["a--dead"][0].n == 0


def test_a_hook_is_killed_when_the_session_is_over_and_its_request_is_free_again(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, "sleep 600"))
    hosts.append(b)
    b.turns(3, ROOM)
    assert b.desk.filenos()
    ensemble.expire(b.session)
    b.desk.lose("the session is over", b.now)
    assert not b.desk.filenos()
    assert promised(b.desk.helping, b.now) == {}
    c = Host(ensemble, "c")
    c.turns(5, ROOM)
    assert [done.by for done in boss.records()] == ["c"]


def test_a_healed_host_takes_back_what_a_hook_still_works_on(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    a = Host(ensemble, "a")
    a.turn(troubles=ILL)
    go = tmp_path / "go"
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, f"while [ ! -e {go} ]; do sleep 0.01; done; echo late"))
    hosts.append(b)
    b.turns(3, ROOM)
    a.turn()
    assert boss.requests() == {}
    go.touch()
    run_out(b, boss)
    while b.desk.filenos():
        b.turn(ROOM)
    b.turn(ROOM)
    assert boss.records() == []


# --- a store that does not answer ----------------------------------------------------------------


def test_a_claim_of_which_nobody_answered_is_found_and_given_back(ensemble: Ensemble, boss: Claims) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b")
    make(b.session, Create(TREE.host("b"), b"", ()))  # as the membership does before
    b.turn(ROOM)
    b.session.lose = 1
    with pytest.raises(Unreachable):
        b.turns(5, ROOM)
    b.turn(ROOM)
    one, _ = boss.requests()["a--dead"]
    assert (one.n, one.last) == (1, "the store answered too late")
    assert promised(b.desk.helping, b.now) == {}


def test_a_completion_of_which_nobody_answered_is_done_once(ensemble: Ensemble, boss: Claims) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b")
    while not b.desk._mine:
        b.turn(ROOM)
    b.session.lose = 1
    with pytest.raises(Unreachable):
        b.turn(ROOM)
    assert len(boss.records()) == 1
    b.turn(ROOM)
    assert len(boss.records()) == 1
    assert not b.desk._mine


def test_a_claim_that_nobody_works_on_is_released(ensemble: Ensemble, boss: Claims) -> None:
    b = Host(ensemble, "b")
    boss.post(Help("a", "dead", "why", WALL))
    one, version = boss.requests()["a--dead"]
    Claims(b.session, TREE, "b").claim(one, version, "stray", WALL)
    b.turn()
    assert f"{TREE.claim('a--dead')}" not in ensemble.nodes
    assert list(boss.requests()) == ["a--dead"]


def test_an_orderly_end_gives_back_what_is_claimed(
    ensemble: Ensemble, boss: Claims, hosts: list[Host], tmp_path: Path
) -> None:
    Host(ensemble, "a").turn(troubles=ILL)
    b = Host(ensemble, "b", Mode.HOOK, hook(tmp_path, "sleep 600"))
    hosts.append(b)
    b.turns(3, ROOM)
    b.desk.close("the agent ends", b.moment)
    one, _ = boss.requests()["a--dead"]
    assert one.last == "hook hook: the agent ends: killed"
    assert TREE.claim("a--dead") not in ensemble.nodes
