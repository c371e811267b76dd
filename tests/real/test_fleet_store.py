# SPDX-License-Identifier: Apache-2.0
"""The fleet's store on a real ZooKeeper: what is told is seen, what is claimed is claimed once, what is lost found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ovs_keepalive.core import telling
from ovs_keepalive.core.fleet import Held, HostState
from ovs_keepalive.fleet import session
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.members import Membership, Rivalled
from ovs_keepalive.fleet.store import Link, Node, Put, Unreachable, Unsure, Why
from ovs_keepalive.fleet.watch import CellWatch, read_cell
from ovs_keepalive.formats import fleet
from ovs_keepalive.sandbox import wait
from tests.fleets import HOST, T, help_of, is_held, member
from tests.zookeeper import TICK, TREE, Client, Zookeeper, planted

pytestmark = pytest.mark.real

WELL = {"state": HostState.WELL, "why": ""}
Connect = Callable[[], Client]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Zookeeper]:
    """One server of the test's own."""
    with Zookeeper(tmp_path) as zookeeper:
        yield zookeeper


@pytest.fixture
def connect(zookeeper: Zookeeper) -> Iterator[Connect]:
    """Makes connected clients; the cell is empty."""
    with planted(zookeeper) as connect:
        yield connect
        empty(connect())


def empty(client: Client) -> None:
    """Leave nothing below the cell."""
    client.session._client.delete(TREE.top, recursive=True)


class Reader:
    """Follows the cell, and says whether it is as a test expects."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.watch = CellWatch(client.session, TREE)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 15.0) -> float:
        """Seconds until it was so."""
        began = time.monotonic()

        def looked() -> bool:
            self.watch.turn(self.client.news(), time.monotonic())
            return condition()

        while not looked():
            assert time.monotonic() < began + seconds, f"not within {seconds} s: {what}"
            self.client.bell.wait(0.02)
            self.client.bell.clear()
        return time.monotonic() - began

    def until_state(self, state: HostState, seconds: float = 15.0) -> float:
        """Seconds until the host is so."""
        return self.until(lambda: self.state == state, f"{HOST} is {state}", seconds)

    @property
    def state(self) -> HostState | None:
        sighting = self.watch.cell.hosts.get(HOST)
        return sighting.state if sighting is not None else None


def node(client: Client, path: str) -> Node:
    """What stands there."""
    [found] = client.session.read([path])
    assert isinstance(found, Node), f"{path}: {found}"
    return found


# --- 1: telling -------------------------------------------------------------------------------------


def test_a_change_is_seen_by_another_client_within_a_second(connect: Connect) -> None:
    reader, place = Reader(connect()), Membership(connect().session, TREE, HOST)
    reader.until(lambda: reader.watch.cell.hosts == {}, "the reader has loaded")
    took = []
    for seq, state in enumerate([HostState.WELL, HostState.FAILURE, HostState.WARNING, HostState.WELL] * 3):
        place.tell(member(seq=seq, state=state))
        took.append(reader.until_state(state))
    assert sorted(took)[len(took) // 2] < 1.0, took


def test_a_node_that_has_nothing_new_to_say_writes_nothing_before_the_refresh(connect: Connect) -> None:
    client = connect()
    place, told = Membership(client.session, TREE, HOST), None
    versions = {}
    for second in range(70):
        now = member(seq=second, pmds=member().pmds[:1])
        if telling.is_due(told, now, client.session.id, float(second)):
            place.tell(now)
            told = telling.told(now, client.session.id, float(second), chance=0.5)
        versions[second] = node(client, TREE.live(HOST)).version
    assert versions == {
        **dict.fromkeys(range(30), 0),
        **dict.fromkeys(range(30, 60), 1),
        **dict.fromkeys(range(60, 70), 2),
    }


def test_a_document_of_more_than_64_kib_never_leaves_this_host(connect: Connect) -> None:
    client = connect()
    with pytest.raises(ValueError, match="65536 is the most that the store takes"):
        Membership(client.session, TREE, HOST).tell(member(services={f"service-{n}": n for n in range(9000)}))
    assert client.session.read([TREE.live(HOST)]) == [Why.ABSENT]
    assert client.session.link is Link.CONNECTED


# --- 2, 3, 4: the ends of sessions -----------------------------------------------------------------


def test_after_its_session_expired_a_node_is_back_once_with_its_alert_and_its_request(connect: Connect) -> None:
    client = connect()
    place, claims = Membership(client.session, TREE, HOST), Claims(client.session, TREE, HOST)
    place.tell(member())
    claims.post(help_of(n=0))
    before = client.session.id
    client.expire()
    client.until(lambda: client.session.link is Link.CONNECTED and client.session.id != before, "a new session")
    assert Link.LOST in client.links
    place.tell(member(seq=8))
    for path in (TREE.live(HOST), TREE.alert(HOST)):
        assert node(client, path).owner == client.session.id
    assert not claims.post(help_of(n=0)), "the request outlived the session"
    assert client.session.children([TREE.directory("alert"), TREE.host(HOST)]) == [(HOST,), ("live",)]


def test_the_end_of_the_session_before_a_fast_restart_takes_nothing_from_the_new_one(connect: Connect) -> None:
    before, after = connect(), connect()
    Membership(before.session, TREE, HOST).tell(member())
    Membership(after.session, TREE, HOST).tell(member(seq=0))
    id = before.session.id
    before.expire()
    before.until(lambda: before.session.id not in (0, id), "the old session is over")
    for path in (TREE.live(HOST), TREE.alert(HOST)):
        assert node(after, path).owner == after.session.id


JOIN = """
import sys, time
from tests.fleets import member
from tests.zookeeper import TREE, Client
from ovs_keepalive.fleet.members import Membership
from ovs_keepalive.fleet.session import Options
client = Client(Options(sys.argv[1], timeout=float(sys.argv[2])))
client.__enter__()
Membership(client.session, TREE, "node-07").tell(member())
print("joined", flush=True)
time.sleep(600)
"""


def test_a_host_killed_hard_is_gone_within_its_timeout_and_its_last_pmds_are_known(
    zookeeper: Zookeeper, connect: Connect
) -> None:
    timeout = 3.0
    reader = Reader(connect())
    argv = [sys.executable, "-c", JOIN, zookeeper.hosts, str(timeout)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == "joined\n"
            reader.until_state(HostState.FAILURE)
        finally:
            agent.kill()
    took = reader.until_state(HostState.GONE)
    assert took < timeout + 2 * TICK + 1.0
    known = reader.watch.cell.hosts[HOST].known
    assert known is not None
    assert known.last.pmds == member().pmds
    assert read_cell(connect().session, TREE).hosts[HOST].known == known


def test_two_agents_by_one_name_do_not_fight(connect: Connect) -> None:
    first, second = (Membership(connect().session, TREE, HOST) for _ in range(2))
    first.tell(member(seq=1))
    second.tell(member(seq=2))
    with pytest.raises(Rivalled):
        first.tell(member(seq=3))
    second.tell(member(seq=4))
    assert fleet.member(node(connect(), TREE.live(HOST)).value, HOST).seq == 4


# --- 5: no quorum ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_quorum_every_call_ends_and_what_is_done_late_harms_nothing(
    own: Zookeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DEADLINE", 1.0)
    with planted(own, timeout=6.0) as connect:
        client, reader = connect(), connect()
        place = Membership(client.session, TREE, HOST)
        place.tell(member(**WELL))
        before = client.session.id
        [server] = own.servers
        server.stop()
        calls: list[tuple[Callable[[], object], type[Exception]]] = [
            (lambda: client.session.write(Put(TREE.known(HOST), b"late")), Unsure),
            (lambda: place.tell(member(seq=8)), Unreachable),
            (lambda: read_cell(client.session, TREE), Unreachable),
        ]
        for call, refusal in calls:
            began = time.monotonic()
            with pytest.raises(refusal, match=r"did not answer within 1 s|lost|no connection"):
                call()
            assert time.monotonic() - began < 2.0
        client.until(lambda: client.session.link is Link.SUSPENDED, "the loss is noticed")
        began = time.monotonic()
        with pytest.raises(Unreachable, match="no connection"):
            place.tell(member(seq=9))
        assert time.monotonic() - began < 0.2, "nothing is sent, nobody is waited for"
        server.go_on()
        client.until(lambda: client.session.link is Link.CONNECTED, "connected again", 30)
        place.tell(member(seq=10))
        reader.until(lambda: reader.session.link is Link.CONNECTED, "the reader, too", 30)
        assert client.session.id == before, "the session lives on: only a leader ends sessions"
        assert fleet.known(node(reader, TREE.known(HOST)).value, HOST).last.seq == 10
        assert fleet.member(node(reader, TREE.live(HOST)).value, HOST).seq == 10


def test_a_session_that_is_suspended_for_a_third_of_its_timeout_is_doubtful(own: Zookeeper) -> None:
    with planted(own, timeout=3.0) as connect:
        client = connect()
        assert not client.session.is_doubtful(time.monotonic())
        own.servers[0].kill()
        client.until(lambda: client.session.is_doubtful(time.monotonic()), "it is doubtful", 10)
        assert client.session.link is Link.SUSPENDED
        own.servers[0].start()
        client.until(lambda: not client.session.is_doubtful(time.monotonic()), "and it is not", 20)


def test_a_session_is_doubtful_before_it_is_over_by_what_the_server_grants(tmp_path: Path) -> None:
    """The server hangs, so that kazoo gives the connection up after two thirds; asked for were 60 s."""
    granted = 4.0
    with Zookeeper(tmp_path, most=granted) as own, planted(own, timeout=60.0) as connect:
        client = connect()
        own.servers[0].stop()
        began = time.monotonic()
        try:
            client.until(lambda: client.session.is_doubtful(time.monotonic()), "it is doubtful", 3 * granted)
        finally:
            own.servers[0].go_on()
        took = time.monotonic() - began
        print(f"doubtful {took:.2f} s after the server hung, which granted {granted} s")
        assert took <= granted + 0.5


# --- 6, 7, 8: claims --------------------------------------------------------------------------------


def test_twelve_racing_claimers_take_forty_requests_once_each(connect: Connect) -> None:
    asking = Claims(connect().session, TREE, HOST)
    for number in range(40):
        assert asking.post(help_of(kind=f"k{number}", n=0))
    claimers = [(Claims(connect().session, TREE, f"node-{number}"), number) for number in range(12)]
    together = threading.Barrier(len(claimers))
    held: list[Held] = []
    failed: list[BaseException] = []

    def race(claims: Claims, number: int) -> None:
        try:
            found = list(claims.requests().values())
            together.wait(20)
            for request, version in found[number % 5 :] + found[: number % 5]:
                won = claims.claim(request, version, f"{number}-{request.kind}", T)
                held.extend([won] if won is not None else [])
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=race, args=one) for one in claimers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert failed == []
    assert len(held) == 40
    assert len({one.help.id for one in held}) == 40
    assert len({one.help.by for one in held}) > 1, "nobody raced"
    by_name = {claims.host: claims for claims, _ in claimers}
    assert all(by_name[one.help.by].complete(one, "", T) for one in held)
    assert len(asking.records()) == 40
    assert asking.requests() == {}


def claimed(claims: Claims, token: str) -> Held:
    """The one request, claimed."""
    [(request, version)] = claims.requests().values()
    held = claims.claim(request, version, token, T)
    assert held is not None
    return held


def test_who_lost_its_session_gives_back_and_completes_nothing(connect: Connect) -> None:
    first, second = connect(), connect()
    one, two = Claims(first.session, TREE, "a"), Claims(second.session, TREE, "b")
    two.post(help_of(n=0))
    held, before = claimed(one, "tok-a"), first.session.id
    first.expire()
    first.until(lambda: first.session.id not in (0, before), "a new session")
    again = claimed(two, "tok-b")
    assert (held.fence, again.fence) == (1, 2)
    assert not is_held(one, held)
    assert not one.complete(held, "late", T)
    assert not one.give_back(held, "late")
    assert two.complete(again, "in time", T)
    assert [(done.by, done.fence, done.n) for done in one.records()] == [("b", 2, 2)]


def test_a_late_completion_does_not_take_a_request_that_was_posted_anew(connect: Connect) -> None:
    first, second = connect(), connect()
    one, two = Claims(first.session, TREE, "a"), Claims(second.session, TREE, "b")
    two.post(help_of(n=0))
    held, before = claimed(one, "tok-a"), first.session.id
    first.expire()
    first.until(lambda: first.session.id not in (0, before), "a new session")
    assert two.withdraw(held.help.id, 1)
    two.post(help_of(n=0))
    again = claimed(two, "tok-b")
    assert again.fence == held.fence
    assert not one.complete(held, "late", T)
    assert two.complete(again, "in time", T)


def test_a_request_that_was_withdrawn_is_not_completed(connect: Connect) -> None:
    asking, one = Claims(connect().session, TREE, HOST), Claims(connect().session, TREE, "a")
    asking.post(help_of(n=0))
    held = claimed(one, "tok-a")
    assert asking.withdraw(held.help.id, held.fence)
    assert not one.complete(held, "late", T)
    assert asking.records() == []
    asking.post(help_of(n=0))
    assert asking.claim(help_of(n=0), 0, "tok-h", T) is not None, "the claim of the first one is in nobody's way"


@pytest.mark.parametrize("ends", ["goes on", "is killed"])
def test_a_claim_of_which_nobody_answered_is_found_and_has_one_owner(
    own: Zookeeper, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(session, "DEADLINE", 1.0)
    with planted(own, timeout=8.0) as connect:
        client, other = connect(), connect()
        one, two = Claims(client.session, TREE, "a"), Claims(other.session, TREE, "b")
        two.post(help_of(n=0))
        [(request, version)] = one.requests().values()
        one._plant()
        [server] = own.servers
        server.stop()
        with pytest.raises(Unsure):
            one.claim(request, version, "tok-a", T)
        if ends == "is killed":
            server.kill()
            server.start()
        else:
            server.go_on()
        for one_client in (client, other):
            one_client.until(lambda: one_client.session.id != 0, "connected", 30)  # noqa: B023 - called at once
            wait(lambda: answers(one_client), "the session answers", 10)  # noqa: B023 - as above
        held = one.resolve(request.id, "tok-a")
        [(now, at)] = two.requests().values()
        second = two.claim(now, at, "tok-b", T)
        assert (held is None) != (second is None), "one owner"
        if ends == "goes on":
            assert held is not None, "what was sent was done when the server went on"
            assert one.strays(()) == [(request.id, "tok-a")]
        assert (one if held else two).complete((held or second), "", T)  # type: ignore[arg-type]  # one of them is
        assert len(two.records()) == 1


def answers(client: Client) -> bool:
    """Whether a question is answered."""
    try:
        return client.session.read([TREE.top]) != []
    except Unreachable:
        return False


# --- the rest ---------------------------------------------------------------------------------------


def test_the_leader_of_three_is_killed_and_nobody_loses_its_place(tmp_path: Path) -> None:
    with Zookeeper(tmp_path, 3) as ensemble, planted(ensemble, timeout=8.0) as connect:
        client = connect()
        place, before = Membership(client.session, TREE, HOST), client.session.id
        place.tell(member())
        held = None
        claims = Claims(client.session, TREE, HOST)
        claims.post(help_of(n=0))
        held = claimed(claims, "tok-a")
        leader = ensemble.leader
        leader.kill()
        wait(lambda: tells(place, member(seq=8)), "a new leader takes writes", 20)
        assert client.session.id == before
        assert is_held(claims, held)
        assert claims.complete(held, "", T)
        leader.start()
        ensemble.wait_for(leader)


def tells(place: Membership, now: object) -> bool:
    try:
        place.tell(now)  # type: ignore[arg-type]  # a Member
    except Unreachable:
        return False
    return True


def test_no_server_is_left_when_a_test_raises(tmp_path: Path) -> None:
    pids: list[int] = []

    def test() -> None:
        with Zookeeper(tmp_path) as zookeeper:
            pids.extend(zookeeper.pids)
            raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test"):
        test()
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


KILLED = """
import sys
from pathlib import Path
from tests.zookeeper import Zookeeper
zookeeper = Zookeeper(Path(sys.argv[1])).__enter__()
print(*zookeeper.pids, flush=True)
sys.stdin.read()
"""


def test_no_server_is_left_when_pytest_itself_is_killed(tmp_path: Path, zookeeper: Zookeeper) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pytest_like:
        assert pytest_like.stdout is not None
        pids = [int(pid) for pid in pytest_like.stdout.readline().split()]
        os.kill(pytest_like.pid, signal.SIGKILL)
    assert pids
    wait(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the servers are gone", 10)
