# SPDX-License-Identifier: Apache-2.0
"""When the mesh is changed and the flows are sent: one thing at a time, not too often, again after a failure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovs_keepalive.core.fleet import Headroom, HostState, Member
from ovs_keepalive.core.interfaces import Interface, Rows
from ovs_keepalive.core.mesh import BRIDGE, GRACE, MARK, host_of, ours, plan
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.services import CLIENT, Offer
from ovs_keepalive.fabric import Fabric
from ovs_keepalive.formats.mesh import Operation
from ovs_keepalive.mesh import LONGEST_PAUSE, PAUSE, Mesh
from ovs_keepalive.publishers.session import Outcome
from ovs_keepalive.sensors.openflow import NoFlows
from ovs_keepalive.service_flows import AGAIN, LOOK, ServiceFlows
from tests.meshes import ASKED, STANDING, UP, address, cell, done


def at(mono: float) -> Moment:
    """A moment."""
    return Moment(mono, 0)


def member(host: str) -> Member:
    """One that is well."""
    return Member(host, 1, 0, "", HostState.WELL, 0, address=address(host))


class Transaction:
    """One that ends as it is told to."""

    def __init__(self, comment: str) -> None:
        self.comment = comment
        self.ends = Outcome.UNDER_WAY

    def outcome(self) -> Outcome:
        """How it stands."""
        return self.ends

    def error(self) -> str:
        """Why it failed."""
        return "constraint violation"


class Database:
    """In the place of MeshRows: rows as they are given, and transactions that are kept."""

    def __init__(self) -> None:
        self.listens = True
        self.shown = STANDING
        self.sent: list[Transaction] = []

    def rows(self) -> Rows:
        """Those given."""
        return self.shown

    def run(self) -> None:
        """Nothing new."""

    def transact(self, operations: Sequence[Operation], comment: str) -> Transaction:
        """Keeps it."""
        assert operations
        self.sent.append(Transaction(comment))
        return self.sent[-1]


@pytest.fixture
def database() -> Database:
    """With a bridge of somebody else."""
    return Database()


@pytest.fixture
def mesh(database: Database) -> Mesh:
    """Of that database."""
    return Mesh(database, ASKED)  # type: ignore[arg-type]  # a stand-in


def test_one_transaction_is_under_way_at_a_time(database: Database, mesh: Mesh) -> None:
    mesh.run(cell("a", "b"), at(0))
    mesh.run(cell("a", "b", "c"), at(1))
    assert [one.comment for one in database.sent] == ["mesh makes the bridge; adds b"]
    assert mesh.due == math.inf


def test_whoever_comes_meanwhile_goes_into_the_next_one_after_a_pause(database: Database, mesh: Mesh) -> None:
    mesh.run(cell("a", "b"), at(0))
    database.shown = done(plan(ASKED, cell("a", "b"), STANDING), STANDING)
    database.sent[0].ends = Outcome.DONE
    mesh.run(cell("a", "b", "c", "d"), at(10))
    assert (len(database.sent), mesh.due) == (1, 10 + PAUSE)
    mesh.run(cell("a", "b", "c", "d"), at(10 + PAUSE))
    assert database.sent[1].comment == "mesh adds c, d"


def test_a_failure_is_tried_again_ever_more_seldom(database: Database, mesh: Mesh) -> None:
    tries: list[float] = []
    now = 0.0
    while len(tries) < 9:
        mesh.run(cell("a", "b"), at(now))
        if len(database.sent) > len(tries):
            tries.append(now)
            database.sent[-1].ends = Outcome.FAILED
        now += 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(LONGEST_PAUSE, abs=2)
    mesh._failed = 5000  # of days
    database.sent[-1].ends = Outcome.FAILED
    mesh.run(cell("a", "b"), at(now + 100))
    assert mesh.due == now + 100 + LONGEST_PAUSE


def test_nothing_is_changed_while_store_or_database_cannot_be_asked(database: Database, mesh: Mesh) -> None:
    mesh.run(None, at(0))
    database.listens = False
    mesh.run(cell("a", "b"), at(1))
    assert database.sent == []
    database.listens = True
    mesh.run(cell("a", "b"), at(2))
    assert len(database.sent) == 1


def test_a_host_that_the_list_lacks_keeps_its_port_for_a_minute(database: Database, mesh: Mesh) -> None:
    database.shown = done(plan(ASKED, cell("a", "b", "c"), STANDING), STANDING)
    mesh.run(cell("a", "b"), at(100))  # c is forgotten, or the store was emptied
    assert (database.sent, mesh.due) == ([], 100 + GRACE)
    mesh.run(cell("a"), at(110))
    mesh.run(cell("a", known="b"), at(120))  # b is back
    mesh.run(None, at(130))
    mesh.run(cell("b"), at(140))  # no list that could be believed
    mesh.run(cell("a", known="b"), at(150))
    assert (database.sent, mesh.due) == ([], 150 + GRACE)
    mesh.run(cell("a", known="b"), at(150 + GRACE))
    assert [one.comment for one in database.sent] == ["mesh removes c"]
    assert mesh.due == math.inf


def test_while_a_pmd_stalls_no_port_and_no_flow_is_changed(database: Database, tmp_path: Path) -> None:
    fabric = Fabric(f"unix:{tmp_path}/db.sock", tmp_path, ASKED, {"dns": "dns0"})
    fabric.close()
    fabric._rows, fabric._mesh = database, Mesh(database, ASKED)  # type: ignore[assignment,arg-type]  # a stand-in
    live = {host: member(host) for host in "ab"}
    fabric.run(live, {"a", "b"}, at(0), held="PMD on core 3 DEAD")
    assert (database.sent, fabric.due()) == ([], math.inf)
    assert fabric._held == "ports and flows of the mesh stay as they are: PMD on core 3 DEAD"
    fabric.run(live, {"a", "b"}, at(1))
    assert [one.comment for one in database.sent] == ["mesh makes the bridge; adds b"]
    database.sent[0].ends = Outcome.DONE  # what is under way when it stalls is seen to its end
    fabric.run(live, {"a", "b"}, at(2), held="PMD on core 3 DEAD")
    database.shown = done(plan(ASKED, cell("a", "b"), STANDING), STANDING)
    fabric.run({**live, "c": member("c")}, {"a", "b", "c"}, at(2 + PAUSE))
    assert [one.comment for one in database.sent[1:]] == ["mesh adds c"]


def test_what_is_not_done_is_told(mesh: Mesh) -> None:
    mesh.run(cell("b"), at(0))
    assert "does not list this host" in mesh.told[0]
    mesh.run(cell("a"), at(1))
    assert mesh.told == ()


# --- the flows ----------------------------------------------------------------------------------------------------


class Switch:
    """In the place of Ofctl: holds flows by their cookies."""

    def __init__(self) -> None:
        self.cookies: set[int] = set()
        self.asked = 0
        self.refuses = False

    def with_cookie(self, _cookie: int, _mask: int) -> str:
        """As ovs-ofctl lists them."""
        self.asked += 1
        if self.refuses:
            raise NoFlows("ovs-ofctl: no answer")
        return "".join(f" cookie={cookie:#x}, table=40 actions=drop\n" for cookie in self.cookies)

    def bundle(self, changes: str) -> None:
        """Does them."""
        for line in changes.splitlines():
            found = re.match(r"(add|delete) cookie=0x([0-9a-f]+)[,/]", line)
            assert found is not None
            if found[1] == "add":
                self.cookies.add(int(found[2], 16))
            else:
                self.cookies.discard(int(found[2], 16))


@pytest.fixture
def switch() -> Switch:
    """Without flows."""
    return Switch()


@pytest.fixture
def flows(switch: Switch) -> ServiceFlows:
    """Of a node without services of its own."""
    flows = ServiceFlows(Path("/nowhere"), ASKED, {})
    flows._ofctl = switch  # type: ignore[assignment]  # a stand-in
    return flows


def rows(*, client: bool = True) -> Rows:
    """A mesh with b, to which BFD says up, and a client."""
    made = done(plan(ASKED, cell("a", "b"), STANDING), STANDING)
    interfaces = [one._replace(bfd_status=UP) if host_of(one) else one for one in made.interfaces]
    if client:
        interfaces.append(Interface("vm1", "", BRIDGE, "p-vm1", "i-vm1", ofport=77, external_ids={CLIENT: "dns"}))
    return made._replace(interfaces=tuple(interfaces))


OFFERS = {"dns": (Offer("b", 53, Headroom({0: 1}, {})),)}


def test_they_are_sent_once_and_looked_at_from_time_to_time(flows: ServiceFlows, switch: Switch) -> None:
    there = rows()
    flows.run(there, OFFERS, at(0))
    assert len(switch.cookies) == 3
    assert (switch.asked, flows.due) == (1, AGAIN)
    flows.run(there, OFFERS, at(AGAIN - 0.1))
    assert switch.asked == 1
    flows.run(there, OFFERS, at(AGAIN))
    assert (switch.asked, flows.due) == (2, AGAIN + LOOK)


def test_a_new_vswitchd_gets_them_anew(flows: ServiceFlows, switch: Switch) -> None:
    flows.run(rows(), OFFERS, at(0))
    was = set(switch.cookies)
    switch.cookies.clear()
    flows.run(rows(), OFFERS, at(AGAIN))  # other rows: something changed
    assert switch.cookies == was


def test_flows_that_another_agent_left_go_and_then_nobody_is_asked(flows: ServiceFlows, switch: Switch) -> None:
    switch.cookies.add(0x6F76736B00000002)
    there = rows(client=False)
    for now in (0, AGAIN, 1000, 2000):
        flows.run(there, OFFERS, at(now))
    assert switch.cookies == set()
    assert (switch.asked, flows.due) == (2, math.inf)


def test_without_services_nobody_is_served(switch: Switch) -> None:
    flows = ServiceFlows(Path("/nowhere"), ASKED, None)
    flows._ofctl = switch  # type: ignore[assignment]  # a stand-in
    flows.run(rows(), OFFERS, at(0))
    assert (switch.cookies, flows.routes.routes) == (set(), ())


def test_an_answer_that_does_not_come_is_asked_for_again(flows: ServiceFlows, switch: Switch) -> None:
    switch.refuses = True
    flows.run(rows(), OFFERS, at(0))
    assert flows.due == AGAIN
    switch.refuses = False
    flows.run(rows(), OFFERS, at(AGAIN))
    assert len(switch.cookies) == 3


def test_a_bridge_that_is_not_ours_gets_no_flow(flows: ServiceFlows, switch: Switch) -> None:
    there = rows()
    foreign = tuple(one._replace(external_ids={}) for one in there.bridges)
    flows.run(there._replace(bridges=foreign), OFFERS, at(0))
    assert switch.asked == 0
    assert all(one.external_ids[MARK] for one in ours(ASKED, there))
