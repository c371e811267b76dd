# SPDX-License-Identifier: Apache-2.0
"""What is decided on top of the fleet's store, on one in memory: places, claims, what a reader follows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovs_keepalive.core import telling
from ovs_keepalive.core.fleet import TRIES, HostState, PmdBrief, request_id
from ovs_keepalive.fleet import session, watch
from ovs_keepalive.fleet.claims import KEPT, SLACK, Claims
from ovs_keepalive.fleet.members import Membership, Rivalled, forget
from ovs_keepalive.fleet.session import News, Options, Session
from ovs_keepalive.fleet.store import Create, Delete, Link, Node, Put, Refused, Right, Unreachable, Unsure, Why
from ovs_keepalive.fleet.tree import Guard, Tree
from ovs_keepalive.fleet.watch import CellWatch, read_cell
from ovs_keepalive.fleet.wire import Tls
from ovs_keepalive.formats import fleet, servers
from tests.fleets import HOST, T, help_of, is_held, member
from tests.memory_store import Ensemble, MemoryStore

TREE = Tree("c1")
OPEN = TREE.rights()
WELL = {"state": HostState.WELL, "why": ""}


@pytest.fixture
def ensemble() -> Ensemble:
    ensemble = Ensemble()
    TREE.plant(ensemble.session())
    return ensemble


# --- the place of a node ----------------------------------------------------------------------------


def test_a_node_that_is_not_well_is_seen_alive_known_and_on_alert(ensemble: Ensemble) -> None:
    Membership(ensemble.session(), TREE, HOST).tell(member())
    owner = ensemble.nodes[TREE.live(HOST)].owner
    assert fleet.member(ensemble.nodes[TREE.live(HOST)].value, HOST) == member()
    assert fleet.known(ensemble.nodes[TREE.known(HOST)].value, HOST).last == member()
    assert ensemble.nodes[TREE.alert(HOST)].value == b"FAILURE"
    assert (ensemble.nodes[TREE.alert(HOST)].owner, ensemble.nodes[TREE.known(HOST)].owner) == (owner, 0)
    assert owner


def test_a_node_that_is_well_again_alarms_nobody(ensemble: Ensemble) -> None:
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member())
    place.tell(member(seq=8, **WELL))
    assert TREE.alert(HOST) not in ensemble.nodes
    assert fleet.known(ensemble.nodes[TREE.known(HOST)].value, HOST).last.state == HostState.WELL


def test_new_numbers_write_the_document_and_nothing_else(ensemble: Ensemble) -> None:
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member())
    known = ensemble.nodes[TREE.known(HOST)]
    for seq in (8, 9):
        place.tell(member(seq=seq))
    assert fleet.member(ensemble.nodes[TREE.live(HOST)].value, HOST).seq == 9
    assert ensemble.nodes[TREE.known(HOST)] == known


def test_a_fast_restart_takes_the_place_of_the_session_before(ensemble: Ensemble) -> None:
    before, after = ensemble.session(), ensemble.session()
    Membership(before, TREE, HOST).tell(member())
    Membership(after, TREE, HOST).tell(member(seq=0))
    ensemble.expire(before)
    assert ensemble.nodes[TREE.live(HOST)].owner == ensemble.nodes[TREE.alert(HOST)].owner == after.id


def test_what_stays_known_keeps_the_time_of_its_first_joining(ensemble: Ensemble) -> None:
    first = ensemble.session()
    Membership(first, TREE, HOST).tell(member())
    ensemble.expire(first)
    Membership(ensemble.session(), TREE, HOST).tell(member(t=T + 60_000))
    known = fleet.known(ensemble.nodes[TREE.known(HOST)].value, HOST)
    assert (known.first_ms, known.last_ms) == (T, T + 60_000)


def test_a_write_that_nobody_answered_is_looked_at_before_the_next(ensemble: Ensemble) -> None:
    store = ensemble.session()
    place = Membership(store, TREE, HOST)
    store.lose = 1
    with pytest.raises(Unsure):
        place.tell(member())
    place.tell(member(seq=8))
    store.lose = 1
    with pytest.raises(Unsure):
        place.tell(member(seq=9))
    place.tell(member(seq=10))
    assert fleet.member(ensemble.nodes[TREE.live(HOST)].value, HOST).seq == 10


def test_of_two_agents_by_one_name_the_later_wins_and_the_earlier_is_told(ensemble: Ensemble) -> None:
    first, second = (Membership(ensemble.session(), TREE, HOST) for _ in range(2))
    first.tell(member(seq=1))
    second.tell(member(seq=2))
    for seq in (3, 4):
        with pytest.raises(Rivalled, match=r"another agent calls itself node-07 .*: give each host a name of its own"):
            first.tell(member(seq=seq))
        second.tell(member(seq=seq))
    assert fleet.member(ensemble.nodes[TREE.live(HOST)].value, HOST).seq == 4


def test_a_node_whose_document_was_taken_away_puts_it_back(ensemble: Ensemble) -> None:
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member())
    ensemble.change(0, [Delete(TREE.live(HOST)), Delete(TREE.alert(HOST))])
    place.tell(member(seq=8))
    assert {TREE.live(HOST), TREE.alert(HOST)} <= set(ensemble.nodes)


def test_where_the_cell_is_gone_a_node_says_so_and_is_back_once_it_is_made_anew(ensemble: Ensemble) -> None:
    store = ensemble.session()
    place = Membership(store, TREE, HOST)
    place.tell(member())
    ensemble.empty()
    with pytest.raises(Refused, match=r"hosts/node-07: there is no such node"):
        place.tell(member(seq=8))
    TREE.plant(store)
    place.tell(member(seq=9))
    assert {TREE.live(HOST), TREE.known(HOST), TREE.alert(HOST)} <= set(ensemble.nodes)


def test_an_orderly_end_leaves_what_is_known(ensemble: Ensemble) -> None:
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member())
    place.leave()
    assert not {TREE.live(HOST), TREE.alert(HOST)} & set(ensemble.nodes)
    assert TREE.known(HOST) in ensemble.nodes


def test_a_host_is_forgotten_only_when_it_is_gone(ensemble: Ensemble) -> None:
    store, operator = ensemble.session(), ensemble.session()
    Membership(store, TREE, HOST).tell(member())
    with pytest.raises(ValueError, match="node-07 is a member now: stop its fleet agent first"):
        forget(operator, TREE, HOST)
    ensemble.expire(store)
    forget(operator, TREE, HOST)
    with pytest.raises(ValueError, match="node-07: no such host is known in cell c1"):
        forget(operator, TREE, HOST)


# --- when it is told ---------------------------------------------------------------------------------


def test_a_change_is_told_at_once_and_numbers_with_the_refresh() -> None:
    told = telling.told(member(), session=1, now=100.0, chance=0.5)
    busier = member(seq=8, pmds=(PmdBrief(1, 0, "ALIVE", 99, 2, 999, 0), *member().pmds[1:]))
    assert telling.is_due(None, member(), 1, 100.0)
    assert not telling.is_due(told, busier, 1, 129.9)
    assert telling.is_due(told, busier, 1, 130.0)
    assert not telling.is_due(told, member(**WELL), 1, 100.9)
    assert telling.is_due(told, member(**WELL), 1, 101.0)
    assert telling.is_due(told, member(), 2, 100.0)
    better = telling.told(member(**WELL), session=1, now=100.0, chance=0.5)
    assert telling.is_due(better, member(), 1, 100.0)


def test_a_pmd_that_sleeps_and_wakes_is_no_news(ensemble: Ensemble) -> None:
    asleep = member(pmds=(member().pmds[0]._replace(state="SLEEP"), *member().pmds[1:]))
    assert not telling.is_due(telling.told(member(), 1, 100.0, 0.5), asleep, 1, 120.0)
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member())
    known = ensemble.nodes[TREE.known(HOST)]
    place.tell(asleep)
    assert ensemble.nodes[TREE.known(HOST)] == known


def test_nodes_that_joined_together_do_not_refresh_together() -> None:
    again = {telling.told(member(), 1, 0.0, chance).again for chance in (0.0, 0.5, 1.0)}
    assert again == {27.0, 30.0, 33.0}
    assert telling.pause(0.5, hosts=10) == 1.0
    assert telling.pause(0.5, hosts=10_000) == 10.0


# --- requests ----------------------------------------------------------------------------------------


def test_a_request_is_posted_once_claimed_once_and_done_once(ensemble: Ensemble) -> None:
    asking, one, two = (Claims(ensemble.session(), TREE, host) for host in (HOST, "a", "b"))
    assert asking.post(help_of(n=0))
    assert not asking.post(help_of(n=0))
    [(request, version)] = one.requests().values()
    held = one.claim(request, version, "tok-a", T)
    assert held is not None
    assert (held.fence, held.help.n, held.help.by) == (1, 1, "a")
    assert two.claim(request, version, "tok-b", T) is None
    assert is_held(one, held)
    assert one.complete(held, "offered", T + 5)
    assert one.is_done(held)
    assert not one.complete(held, "offered", T + 5)
    [done] = asking.records()
    assert (done.by, done.fence, done.result, done.n) == ("a", 1, "offered", 1)
    assert one.requests() == {}
    assert ensemble.below(TREE.directory("claim")) == ()
    assert ensemble.below(TREE.host("a")) == ()


def test_what_is_given_back_says_why_and_can_be_claimed_until_it_is_stuck(ensemble: Ensemble) -> None:
    claims = Claims(ensemble.session(), TREE, "a")
    claims.post(help_of(n=0))
    for number in range(TRIES):
        [(request, version)] = claims.requests().values()
        held = claims.claim(request, version, f"tok-{number}", T)
        assert held is not None
        assert claims.give_back(held, f"no {number}")
    [(request, version)] = claims.requests().values()
    assert (request.n, request.last, request.is_stuck) == (TRIES, "no 2", True)
    assert claims.claim(request, version, "tok-9", T) is None
    assert claims.clear(request, version, "cleared by hand")
    [(request, version)] = claims.requests().values()
    assert claims.claim(request, version, "tok-9", T) is not None


def test_a_claimer_whose_session_ended_completes_nothing(ensemble: Ensemble) -> None:
    store = ensemble.session()
    one, two = Claims(store, TREE, "a"), Claims(ensemble.session(), TREE, "b")
    two.post(help_of(n=0))
    [(request, version)] = two.requests().values()
    first = one.claim(request, version, "tok-a", T)
    ensemble.expire(store)
    store.is_over, store.id = False, 99  # the next session of the same client
    [(request, version)] = two.requests().values()
    second = two.claim(request, version, "tok-b", T)
    assert first is not None
    assert second is not None
    assert (first.fence, second.fence) == (1, 2)
    assert not is_held(one, first)
    assert not one.complete(first, "late", T)
    assert not one.give_back(first, "late")
    assert two.complete(second, "in time", T)
    assert [done.by for done in two.records()] == ["b"]


def test_a_late_completion_does_not_take_a_request_that_was_posted_anew(ensemble: Ensemble) -> None:
    """The versions of a node that is made anew begin again: the fence alone would be the same."""
    store = ensemble.session()
    one, two = Claims(store, TREE, "a"), Claims(ensemble.session(), TREE, "b")
    two.post(help_of(n=0))
    [(request, version)] = two.requests().values()
    first = one.claim(request, version, "tok-a", T)
    ensemble.expire(store)
    store.is_over, store.id = False, 99
    assert two.withdraw(request.id, 1)
    two.post(help_of(n=0))
    [(request, version)] = two.requests().values()
    second = two.claim(request, version, "tok-b", T)
    assert first is not None
    assert second is not None
    assert first.fence == second.fence
    assert not one.complete(first, "late", T)
    assert is_held(two, second)
    assert two.complete(second, "in time", T)


def test_a_withdrawn_request_is_not_completed_and_shuts_nobody_out(ensemble: Ensemble) -> None:
    asking, one, two = (Claims(ensemble.session(), TREE, host) for host in (HOST, "a", "b"))
    asking.post(help_of(n=0))
    [(request, version)] = one.requests().values()
    held = one.claim(request, version, "tok-a", T)
    assert held is not None
    assert not asking.withdraw(request.id, version)
    assert asking.withdraw(request.id, version + 1)
    assert not one.complete(held, "late", T)
    asking.post(help_of(n=0))
    [(request, version)] = two.requests().values()
    assert two.claim(request, version, "tok-b", T) is not None


def test_a_claim_of_which_nobody_answered_is_found_by_its_token(ensemble: Ensemble) -> None:
    store = ensemble.session()
    one, two = Claims(store, TREE, "a"), Claims(ensemble.session(), TREE, "b")
    one.post(help_of(n=0))
    [(request, version)] = one.requests().values()
    one._plant()
    store.lose = 1
    with pytest.raises(Unsure):
        one.claim(request, version, "tok-a", T)
    held = one.resolve(request.id, "tok-a")
    assert held is not None
    assert held.fence == 1
    assert one.resolve(request.id, "tok-x") is None
    assert two.resolve(request.id, "tok-a") is None
    assert one.strays({"tok-a"}) == []
    assert one.strays(()) == [(request.id, "tok-a")]
    one.release(request.id, "tok-a")
    assert one.strays(()) == []
    assert not is_held(one, held)


def test_the_oldest_records_are_pruned(ensemble: Ensemble) -> None:
    claims = Claims(ensemble.session(), TREE, "a")
    for number in range(KEPT + SLACK + 1):
        path = f"{TREE.directory('done')}/r{number}"
        ensemble.change(0, [Create(path, b"", OPEN)])
    claims.prune()
    left = ensemble.below(TREE.directory("done"))
    assert (len(left), left[0]) == (KEPT, f"r{SLACK + 1}")
    claims.prune()
    assert len(ensemble.below(TREE.directory("done"))) == KEPT


def test_a_request_that_cannot_be_read_is_nobodys(ensemble: Ensemble) -> None:
    claims = Claims(ensemble.session(), TREE, "a")
    ensemble.change(0, [Create(TREE.help("x--y"), b"{", OPEN)])
    ensemble.change(0, [Create(TREE.help("nothing"), b"", OPEN)])
    assert claims.requests() == {}
    problems = read_cell(ensemble.session(), TREE).problems
    assert len(problems) == 2
    assert all(problem.isprintable() for problem in problems)


def test_a_request_in_a_cell_that_is_not_there_is_refused_and_was_not_posted_before(ensemble: Ensemble) -> None:
    with pytest.raises(Refused, match="there is no such node") as refused:
        Claims(ensemble.session(), Tree("typo"), HOST).post(help_of(n=0))
    assert refused.value.why is Why.ABSENT


def test_a_kind_that_would_be_read_as_another_host_is_refused(ensemble: Ensemble) -> None:
    with pytest.raises(ValueError, match="no kind of request"):
        Claims(ensemble.session(), TREE, HOST).post(help_of(kind="a--b"))


# --- who reads ---------------------------------------------------------------------------------------


class Follower:
    """A reader with its own clock."""

    def __init__(self, ensemble: Ensemble, budget: float = math.inf) -> None:
        self.store: MemoryStore = ensemble.session()
        self.watch = CellWatch(self.store, TREE, budget)
        self.now = 0.0

    def turn(self, seconds: float = 0.0) -> dict[str, HostState]:
        self.now += seconds
        self.watch.turn(self.store.news(), self.now)
        return {host: sighting.state for host, sighting in self.watch.cell.hosts.items()}


def test_a_reader_sees_joining_trouble_recovery_and_going_without_a_round(ensemble: Ensemble) -> None:
    reader, store = Follower(ensemble), ensemble.session()
    place = Membership(store, TREE, HOST)
    assert reader.turn() == {}
    place.tell(member(**WELL))
    assert reader.turn() == {HOST: HostState.WELL}
    place.tell(member(state=HostState.WARNING))
    assert reader.turn() == {HOST: HostState.WARNING}
    place.tell(member())
    assert reader.turn() == {HOST: HostState.FAILURE}
    place.tell(member(**WELL))
    assert reader.turn() == {HOST: HostState.WELL}
    ensemble.expire(store)
    assert reader.turn() == {HOST: HostState.GONE}
    known = reader.watch.cell.hosts[HOST].known
    assert known is not None
    assert known.last.pmds == member().pmds
    Membership(ensemble.session(), TREE, HOST).tell(member(**WELL))
    assert reader.turn() == {HOST: HostState.WELL}


def test_a_reader_reads_numbers_once_in_a_round_and_makes_no_new_cell_of_the_same(ensemble: Ensemble) -> None:
    reader = Follower(ensemble)
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member(**WELL))
    reader.turn()
    before = reader.watch.cell
    place.tell(member(seq=8, **WELL))
    reader.turn(seconds=1.0)
    assert reader.watch.cell is before
    reader.turn(seconds=watch.ROUND)
    live = reader.watch.cell.hosts[HOST].live
    assert live is not None
    assert live.seq == 8


def test_all_hosts_come_in_a_round(ensemble: Ensemble) -> None:
    reader = Follower(ensemble)
    places = {f"h{number}": Membership(ensemble.session(), TREE, f"h{number}") for number in range(23)}
    for host, place in places.items():
        place.tell(member(host, **WELL))
    reader.turn()
    for host, place in places.items():
        place.tell(member(host, seq=8, **WELL))
    for _ in range(30):
        reader.turn(seconds=watch.ROUND / 23)
    assert {one.live.seq for one in reader.watch.cell.hosts.values() if one.live} == {8}


def test_a_reader_follows_requests_and_their_claims(ensemble: Ensemble) -> None:
    reader, claims = Follower(ensemble), Claims(ensemble.session(), TREE, "a")
    reader.turn()
    claims.post(help_of(n=0))
    reader.turn()
    [asked] = reader.watch.cell.requests.values()
    assert (asked.help, asked.claim) == (help_of(n=0), None)
    held = claims.claim(asked.help, asked.version, "tok-a", T)
    reader.turn()
    claim = reader.watch.cell.requests[request_id(HOST, "pmd-dead")].claim
    assert claim is not None
    assert claim.by == "a"
    assert held is not None
    claims.complete(held, "", T)
    reader.turn()
    assert reader.watch.cell.requests == {}
    claims.post(help_of(n=TRIES))
    reader.turn()
    [asked] = reader.watch.cell.requests.values()
    claims.clear(asked.help, asked.version, "cleared by hand")
    reader.turn(seconds=watch.ROUND)
    [asked] = reader.watch.cell.requests.values()
    assert asked.help.n == 0


def test_a_reader_reads_everything_anew_after_its_connection_was_lost(ensemble: Ensemble) -> None:
    reader, store = Follower(ensemble), ensemble.session()
    Membership(store, TREE, HOST).tell(member(**WELL))
    reader.turn()
    reader.store.watched.clear()
    ensemble.expire(store)
    reader.store.links = [Link.SUSPENDED, Link.CONNECTED]
    assert reader.turn() == {HOST: HostState.GONE}


@pytest.mark.parametrize("links", [(Link.SUSPENDED,), (Link.CONNECTED,), ()])
def test_news_of_a_turn_that_was_left_out_are_not_lost(ensemble: Ensemble, links: tuple[Link, ...]) -> None:
    reader, store = Follower(ensemble), ensemble.session()
    Membership(store, TREE, HOST).tell(member(**WELL))
    reader.turn()
    ensemble.expire(store)
    if links:
        reader.store.changed.clear()
        reader.store.links = list(links)
    reader.watch.take(reader.store.news())
    assert reader.turn() == {HOST: HostState.GONE}


def test_what_was_seen_stays_while_the_store_does_not_answer(ensemble: Ensemble) -> None:
    reader = Follower(ensemble)
    Membership(ensemble.session(), TREE, HOST).tell(member(**WELL))
    reader.turn()
    heard = reader.watch.heard_at
    reader.store.is_over = True
    with pytest.raises(Unreachable):
        reader.turn(seconds=watch.ROUND)
    assert (list(reader.watch.cell.hosts), reader.watch.heard_at) == ([HOST], heard)


def test_a_reader_that_comes_before_every_member_sees_the_first_one(ensemble: Ensemble) -> None:
    ensemble.nodes.clear()
    reader = Follower(ensemble)
    assert reader.turn() == {}
    TREE.plant(ensemble.session())
    Membership(ensemble.session(), TREE, HOST).tell(member())
    assert reader.turn(seconds=watch.AGAIN) == {HOST: HostState.FAILURE}


def comes_back(ensemble: Ensemble, reader: Follower) -> None:
    """The tree is planted anew, and the reader sees and follows who is told there."""
    TREE.plant(ensemble.session())
    place = Membership(ensemble.session(), TREE, HOST)
    place.tell(member(**WELL))
    assert reader.turn(seconds=watch.AGAIN) == {HOST: HostState.WELL}
    place.tell(member())
    assert reader.turn() == {HOST: HostState.FAILURE}, "and follows it"


def test_a_reader_sees_a_store_that_was_emptied_fill_again(ensemble: Ensemble) -> None:
    reader = Follower(ensemble)
    Membership(ensemble.session(), TREE, HOST).tell(member())
    assert reader.turn() == {HOST: HostState.FAILURE}
    ensemble.empty()
    assert reader.turn() == {}
    comes_back(ensemble, reader)


@pytest.mark.parametrize("name", ["hosts", "alert"])
def test_a_reader_follows_again_when_a_directory_that_went_is_back(ensemble: Ensemble, name: str) -> None:
    reader = Follower(ensemble)
    assert reader.turn() == {}
    ensemble.change(0, [Delete(TREE.directory(name))])
    assert reader.turn() == {}
    comes_back(ensemble, reader)


def reads(reader: Follower, seconds: float, monkeypatch: pytest.MonkeyPatch) -> float:
    """Documents of hosts a second that it reads, with a turn a second."""
    count = 0
    read = reader.store.read

    def counted(paths: Sequence[str], watch: bool = False) -> list[Node | Why]:
        nonlocal count
        count += sum(path.endswith("/live") for path in paths)
        return read(paths, watch)

    monkeypatch.setattr(reader.store, "read", counted)
    for _ in range(round(seconds)):
        reader.turn(seconds=1.0)
    return count / seconds


@pytest.mark.parametrize(
    ("hosts", "budget", "rate"),
    [(20, watch.MEMBERS, 4.0), (250, watch.MEMBERS, 8.0), (300, watch.MEMBERS, 6.67), (250, math.inf, 50.0)],
)
def test_what_all_members_read_together_stays_within_a_budget(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, hosts: int, budget: float, rate: float
) -> None:
    store = ensemble.session()
    for number in range(hosts):
        Membership(store, TREE, f"h{number}").tell(member(f"h{number}", **WELL))
    reader = Follower(ensemble, budget)
    reader.turn()
    assert reads(reader, 40.0, monkeypatch) == pytest.approx(rate, rel=0.05)


def test_a_cell_that_cannot_be_loaded_is_tried_again_ever_more_seldom(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, tries = Follower(ensemble), []
    children = reader.store.children

    def slow(paths: Sequence[str], watch: bool = False) -> list[tuple[str, ...] | Why]:
        tries.append(reader.now)
        raise Unreachable("it answers too slowly")

    monkeypatch.setattr(reader.store, "children", slow)
    for _ in range(39):
        with pytest.raises(Unreachable, match="it answers too slowly"):
            reader.turn(seconds=1.0)
    assert [later - earlier for earlier, later in itertools.pairwise(tries)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    monkeypatch.setattr(reader.store, "children", children)
    assert reader.turn(seconds=watch.LONGEST) == {}
    reader.store.links = [Link.SUSPENDED, Link.CONNECTED]
    monkeypatch.setattr(reader.store, "children", slow)
    tries.clear()
    for _ in range(3):
        with pytest.raises(Unreachable):
            reader.turn(seconds=1.0)
    assert len(tries) == 2, "after a success it begins again"


def test_a_new_connection_is_worth_a_try_at_once(ensemble: Ensemble) -> None:
    reader = Follower(ensemble)
    reader.store.is_over = True
    for _ in range(3):
        with pytest.raises(Unreachable):
            reader.turn(seconds=1.0)
    reader.store.is_over = False
    reader.store.links = [Link.CONNECTED]
    assert reader.turn() == {}


def test_a_host_that_was_forgotten_is_seen_no_more(ensemble: Ensemble) -> None:
    reader, store = Follower(ensemble), ensemble.session()
    Membership(store, TREE, HOST).tell(member(**WELL))
    reader.turn()
    ensemble.expire(store)
    reader.turn()
    forget(ensemble.session(), TREE, HOST)
    assert reader.turn() == {}
    assert reader.turn(seconds=watch.ROUND) == {}


def test_what_no_node_writes_makes_its_host_unknown_with_the_reason(ensemble: Ensemble) -> None:
    ensemble.change(0, [Create(TREE.host(HOST), b"", OPEN), Create(TREE.live(HOST), b'{"v":1}', OPEN)])
    ensemble.change(0, [Create(TREE.host("a\u202eb"), b"", OPEN)])
    [sighting] = read_cell(ensemble.session(), TREE).hosts.values()
    assert (sighting.state, sighting.live) == (HostState.UNKNOWN, None)
    assert "missing required field `host`" in sighting.problem


# --- rights and options ------------------------------------------------------------------------------


def test_nobody_but_the_administrator_may_delete_a_host() -> None:
    tree = Tree("c1", Guard.CERTIFICATE, "x509:CN=fleet-admin")
    assert tree.rights("cr", own="") == (Right("world", "anyone", "cr"), Right("x509", "CN=fleet-admin", "cdrwa"))
    assert tree.rights()[0] == Right("auth", "", "cdrwa")
    assert Tree("c1", Guard.DIGEST).rights("rw") == (Right("auth", "", "acdrw"),)


@pytest.mark.parametrize(
    ("servers", "insecure", "why"),
    [
        ("zk1:2181", False, "zk1:2181: a plain connection would leave this host"),
        ("127.0.0.1:2181,10.0.0.1:2181", False, "10.0.0.1:2181: a plain connection would leave this host"),
        ("127.0.0.1", True, "127.0.0.1 names no port of a server: give HOST:PORT"),
        ("a b:1", True, "names no server"),
        ("::1:2181", True, "names no server"),
        ("[::g]:2181", True, "is no IPv6 address"),
        ("", True, "nothing names no port"),
        (",".join(["a:1"] * 33), True, "33 servers: 32 are the most"),
    ],
)
def test_servers_that_cannot_be_are_refused_with_the_cure(servers: str, insecure: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")):
        Session(Options(servers, insecure=insecure), lambda: 0.0, lambda: None)


def test_a_plain_connection_to_this_host_or_one_that_was_allowed_is_made() -> None:
    for text, insecure in (("localhost:1,127.0.0.5:2,[::1]:3", False), ("zk1.example:2181", True)):
        assert session._hosts(Options(text, insecure=insecure)) == text
    assert [str(server) for server in servers.parse("[::1]:3, a:1")] == ["[::1]:3", "a:1"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    options = Options("localhost:1", digest=str(secret))
    with pytest.raises(ValueError, match="No such file or directory: put USER:PASSWORD there"):
        Session(options, lambda: 0.0, lambda: None)
    secret.write_text("fleet:pass\n")
    secret.chmod(0o640)
    with pytest.raises(ValueError, match="others may read or write it: chmod 600"):
        Session(options, lambda: 0.0, lambda: None)
    secret.chmod(0o600)
    assert Session(options, lambda: 0.0, lambda: None)._auth == [("digest", "fleet:pass")]
    secret.write_text("pass\n")
    with pytest.raises(ValueError, match="no USER:PASSWORD in its first line"):
        Session(options, lambda: 0.0, lambda: None)


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ca\.pem: No such file or directory"):
        Session(Options("zk1:2281", tls=Tls("c", "k", str(tmp_path / "ca.pem"))), lambda: 0.0, lambda: None)


def test_a_session_that_is_not_connected_asks_nothing() -> None:
    lone = Session(Options("localhost:1"), lambda: 5.0, lambda: None)
    for call in (lambda: lone.read(["/"]), lambda: lone.write(Put("/", b"")), lambda: lone.children(["/"])):
        with pytest.raises(Unreachable, match="no connection to localhost:1"):
            call()
    assert (lone.id, lone.link, lone.news()) == (0, Link.LOST, News((), frozenset()))


def test_a_session_whose_connection_is_lost_for_a_third_of_its_timeout_is_doubtful() -> None:
    lone = Session(Options("localhost:1", timeout=9.0), lambda: 5.0, lambda: None)
    assert not lone.is_doubtful(7.9)
    assert lone.is_doubtful(8.0)
    lone._told("CONNECTED")
    assert not lone.is_doubtful(99.0)
