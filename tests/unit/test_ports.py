# SPDX-License-Identifier: Apache-2.0
"""What is said of a port after what was seen of it: each state and finding of CONTRACT section 8, and none unproven."""

from __future__ import annotations

from typing import Any

import pytest

from ovs_keepalive.core import port_states
from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.model import Vswitchd, VswitchdState
from ovs_keepalive.core.places import Entry, Kind
from ovs_keepalive.core.ports import Counters, Peers, PortFacts, PortState, Reach
from tests.looks import running
from tests.port_looks import (
    ABSENT,
    AWAY,
    FIRST,
    PATH,
    SECOND,
    THERE,
    WAY,
    Watched,
    beside,
    client,
    kinds,
    server,
    survey,
)

OTHER = Credentials(1000, frozenset({1000}), 0)


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (PortState.UP, client()),
        (PortState.UP, server()),
        (PortState.ABSENT_SOCKET, client(**AWAY, socket=ABSENT, peers=Peers(0, 0, 0))),
        (PortState.ABSENT_SOCKET, server(**AWAY, socket=ABSENT, peers=Peers(1, 1, 0))),
        (PortState.STALE_SOCKET, client(**AWAY, peers=Peers(0, 0, 0))),
        (PortState.STALE_SOCKET, client(**AWAY, socket=THERE._replace(kind=Kind.DIRECTORY), peers="")),
        (PortState.STALE_SOCKET, server(**AWAY, peers=Peers(0, 1, 0))),
        (PortState.NOT_NEGOTIATED, client(**AWAY)),
        (PortState.NOT_NEGOTIATED, server(**AWAY)),
        (PortState.NO_LINK, client(link="down")),
        (PortState.NEVER_CONNECTED, client(**AWAY, peers=Peers(0, 1, 0))),
        (PortState.NEVER_CONNECTED, server(**AWAY, peers=Peers(1, 1, 0))),
        (PortState.NEVER_CONNECTED, client(**AWAY, socket="/run/vm: Permission denied", peers="not seen")),
        (PortState.ERROR, client(**AWAY, error="could not open network device vhc0 (Unknown error -1)", ofport=-1)),
        (PortState.ERROR, server(**AWAY, error="could not open network device", ofport=-1, peers=Peers(0, 1, 0))),
        (PortState.ERROR, server(**AWAY, error="could not open network device", ofport=-1, peers="not seen")),
        (PortState.STALE_BIND, server(**AWAY, error="could not open network device", ofport=-1, peers=Peers(0, 0, 0))),
        (PortState.UP, client(type="dpdk", mode="", peer="", path="")),
        (PortState.NO_LINK, client(type="dpdk", mode="", peer="", path="", link="down")),
        (PortState.ERROR, client(type="", mode="", peer="", path="", error="No such device", ofport=None)),
        (None, client(type="internal", mode="", peer="", path="", admin="down", link="down")),
        (None, client(ofport=None, peer="")),
    ],
)
def test_a_state_is_told_of_what_proves_it(state: PortState | None, facts: PortFacts) -> None:
    watched = Watched()
    watched.look(facts)
    port = watched.look(facts)
    assert port.state is state, port.why
    assert port.why
    if state not in (None, PortState.UP):
        own = port.findings[0]
        assert own.kind is state
        assert own.evidence == port.why
        assert own.consequence
        assert own.cure


def test_what_is_mostly_over_in_a_moment_is_told_when_it_has_lasted() -> None:
    for facts in (client(**AWAY), client(link="down"), client(**AWAY, peers=Peers(0, 0, 0))):
        watched = Watched()
        assert watched.look(facts).state is None
        assert watched.told.ports.pending
        assert watched.look(facts, after=1.0).state is None
        assert watched.look(facts, after=2.5).state is not None
        assert not watched.told.ports.pending


def test_what_is_over_in_a_moment_leaves_the_state_as_it_was() -> None:
    watched = Watched()
    assert watched.look(client()).state is PortState.UP
    assert watched.look(client(link="down"), after=1.0).state is PortState.UP
    assert watched.look(client(), after=1.0).since == watched.memory.ports[0].since
    assert watched.told.news == ()


def test_one_that_was_connected_is_disconnected_and_the_history_says_so() -> None:
    watched = Watched()
    up = watched.look(server())
    port = watched.look(server(**AWAY, peers=Peers(1, 1, 0)))
    assert port.state is PortState.DISCONNECTED
    assert port.since.mono == up.since.mono + 5.0
    [news] = watched.told.news
    assert (news.who, news.old, news.new) == ("port:vhu0", "UP", "DISCONNECTED")
    assert watched.look(server(**AWAY, peers=Peers(1, 1, 0))).since == port.since


def test_a_server_port_whose_vm_does_not_come_to_the_new_vswitchd_is_stranded() -> None:
    watched = Watched()
    watched.look(server())
    watched.restart()
    gone = server(**AWAY, peers=Peers(1, 1, 0))
    assert watched.look(gone, after=1.0).state is None, "it may come yet"
    stranded = watched.look(gone, after=6.0)
    assert stranded.state is PortState.STRANDED
    assert str(FIRST.pid) in stranded.why
    assert str(SECOND.pid) in stranded.why
    assert "ports migrate vhu0" in stranded.findings[0].cure
    assert watched.look(server()).state is PortState.UP, "its VM was restarted"
    assert watched.look(gone).state is PortState.DISCONNECTED, "now it is this vswitchd that it was connected to"


def test_a_client_port_is_never_stranded_its_vm_is_the_server() -> None:
    watched = Watched()
    watched.look(client())
    watched.restart()
    assert watched.look(client(**AWAY, peers=Peers(0, 1, 0)), after=6.0).state is PortState.DISCONNECTED


def test_the_rows_of_the_process_before_prove_nothing_of_a_new_one() -> None:
    watched = Watched()
    watched.look(server())
    watched.restart()
    stale = server(peers=Peers(1, 1, 0))  # OVSDB still says connected, no socket does
    assert watched.look(stale, after=1.0).state is None
    assert watched.look(stale, after=6.0).state is None
    assert watched.look(server(**AWAY, peers=Peers(1, 1, 0)), after=2.0).state is PortState.STRANDED


def test_a_restart_tells_which_vms_came_back() -> None:
    watched = Watched()
    watched.look(server(), client(), server(name="vhu9", path="/run/vm/vhu9", **AWAY))
    watched.restart()
    watched.look(server(**AWAY, peers=Peers(1, 1, 0)), client(), after=6.0)
    [returned] = watched.memory.returns
    assert (returned.pid_old, returned.pid_new) == (FIRST.pid, SECOND.pid)
    assert {port.name: port.connected is not None for port in returned.ports} == {"vhu0": False, "vhc0": True}
    watched.look(server(), client())
    [returned] = watched.memory.returns
    assert all(port.connected is not None for port in returned.ports)


def test_a_restart_tells_of_each_vm_when_its_link_was_back_and_when_packets_went() -> None:
    """What the row of the vswitchd before had counted is no packet of this one."""
    watched = Watched()

    def returned(**fields: Any) -> list[bool]:
        watched.look(client(**fields), after=20.0)
        [port] = watched.memory.returns[0].ports
        return [moment is not None for moment in (port.connected, port.link, port.packets)]

    watched.look(client())
    watched.restart()
    assert returned(link="down", counters=Counters(0.0, 1000, 1000, 0)) == [True, False, False]
    assert returned(counters=Counters(0.0, 3, 4, 0)) == [True, True, False]
    assert returned(counters="not told") == [True, True, False]
    assert returned(counters=Counters(0.0, 3, 4, 0)) == [True, True, False]
    assert returned(counters=Counters(0.0, 3, 5, 0)) == [True, True, True]
    first = watched.memory.returns
    assert returned(link="down", counters=Counters(0.0, 0, 0, 0)) == [True, True, True]
    assert watched.memory.returns == first


def test_three_times_away_within_five_minutes_is_flapping_however_short() -> None:
    watched = Watched()
    watched.look(client())
    assert watched.look(client(drops=2)).state is PortState.UP
    port = watched.look(client(drops=3))
    assert port.state is PortState.FLAPPING
    assert port.flaps == 3
    assert watched.look(client(drops=3), after=290.0).state is PortState.FLAPPING
    assert watched.look(client(drops=3), after=20.0).state is PortState.UP


def test_a_restart_of_vswitchd_or_of_the_survey_is_no_flap() -> None:
    watched = Watched()
    watched.look(client())
    watched.look(client(drops=2))
    watched.look(client(drops=2), run=901)
    assert len(watched.memory.ports[0].flaps) == 4, "what another survey counts, it counts anew"
    watched = Watched()
    watched.look(client())
    watched.restart()
    for _ in range(5):
        port = watched.look(client(**AWAY, drops=5, peers=Peers(0, 1, 0)))
    assert port.flaps == 0


def test_while_vswitchd_cannot_be_believed_nothing_is_told_and_nothing_forgotten() -> None:
    watched = Watched()
    up = watched.look(client())
    port = watched.look(client(), blind="vswitchd is HUNG")
    assert port.state is None
    assert port.word == "unknown"
    assert port.why == "vswitchd is HUNG"
    assert watched.look(client(), blind="vswitchd is HUNG").since == port.since
    assert watched.told.news == ()
    assert watched.look(client()).since == up.since


@pytest.mark.parametrize(
    ("vswitchd", "process", "believed"),
    [
        (running(), FIRST, False),
        (running(FIRST), FIRST, True),
        (running(FIRST, state=VswitchdState.CRASH_LOOP), FIRST, True),
        (running(FIRST, state=VswitchdState.HUNG), FIRST, False),
        (running(FIRST, state=VswitchdState.STARTING), FIRST, False),
        (running(None, state=VswitchdState.GONE), FIRST, False),
        (running(FIRST), None, False),
    ],
)
def test_the_rows_are_believed_while_the_process_that_wrote_them_writes(
    vswitchd: Vswitchd, process: object, believed: bool
) -> None:
    assert (port_states.why_blind(vswitchd, survey(process=process)) == "") is believed


# --- findings ----------------------------------------------------------------------------------


def test_a_client_port_that_is_well_has_no_finding_and_a_server_port_has_one() -> None:
    assert beside(Watched().look(client())) == []
    assert Watched().look(client()).is_well
    assert beside(Watched().look(server())) == ["server-mode"]


@pytest.mark.parametrize(("length", "found"), [(107, []), (108, ["path-too-long"])])
def test_a_path_has_at_most_107_bytes(length: int, found: list[str]) -> None:
    assert (
        beside(Watched().look(client(path="/run/" + "ü" * ((length - 6) // 2) + "x" * (length % 2 or 2))))[:1] == found
    )


def test_a_socket_that_its_peer_may_not_write_to_is_a_finding() -> None:
    shut = server(**AWAY, peers=Peers(1, 1, 0))
    told = Watched().look(shut, vm=OTHER, vm_user="libvirt-qemu")
    [permission] = [one for one in told.findings if one.kind == "permission"]
    assert "/run/vm/vhu0" in permission.evidence
    assert "libvirt-qemu" in permission.evidence
    assert "setfacl -m u:libvirt-qemu:rwx -- /run/vm/vhu0" in permission.cure
    assert "permission" in beside(Watched().look(shut)), "nobody knows the VM's user: only root may write to it"
    assert "permission" not in beside(Watched().look(shut, vm=Credentials(0, frozenset(), 2), vm_user="root"))
    for mode in (0o777, 0o775):
        open_ = shut._replace(socket=THERE._replace(itself=Entry(PATH, 0, 1000, mode)))
        assert "permission" not in beside(Watched().look(open_, vm=OTHER, vm_user="libvirt-qemu"))
    assert "permission" not in beside(Watched().look(server(), vm=OTHER, vm_user="u")), "it is connected"


def test_vswitchd_that_may_not_reach_the_vms_socket_is_a_finding() -> None:
    waiting = client(**AWAY, peers=Peers(0, 1, 0), socket=THERE._replace(itself=Entry(PATH, 64055, 0, 0o700)))
    assert "permission" in beside(Watched().look(waiting, vswitchd=OTHER))
    assert "permission" not in beside(Watched().look(waiting)), "root passes"
    locked = (*WAY[:2], Entry("/run/vm", 64055, 64055, 0o700))
    [found] = [
        one
        for one in Watched().look(waiting._replace(socket=THERE._replace(directories=locked)), vswitchd=OTHER).findings
        if one.kind == "permission"
    ]
    assert "/run/vm has mode 0700" in found.evidence


def test_a_vm_that_cannot_make_its_socket_is_a_finding() -> None:
    absent = client(**AWAY, socket=ABSENT, peers=Peers(0, 0, 0))
    port = Watched().look(absent, vm=OTHER, vm_user="qemu")
    assert kinds(port) == ["ABSENT-SOCKET", "permission"]
    assert "setfacl -m u:qemu:rwx -- /run/vm" in port.findings[1].cure
    assert kinds(Watched().look(absent)) == ["ABSENT-SOCKET"], "nobody knows whose VM it is"


def test_a_port_that_nobody_polls_is_told_when_that_has_lasted_and_is_known() -> None:
    watched = Watched()
    watched.polled = {}
    assert beside(watched.look(client())) == []
    assert beside(watched.look(client(), after=6.0)) == ["not-polled"]
    watched.polled = None
    assert beside(watched.look(client())) == []
    for innocent in (client(datapath="system"), client(type="internal", mode="", peer=""), client(ofport=-1)):
        watched = Watched()
        watched.polled = {}
        watched.look(innocent)
        assert "not-polled" not in beside(watched.look(innocent, after=6.0))


@pytest.mark.parametrize(("state", "ill"), [("ALIVE", False), ("MISSING", False), ("DEAD", True), ("GONE", True)])
def test_a_port_whose_pmd_is_dead_is_not_well(state: str, ill: bool) -> None:
    watched = Watched()
    watched.polled = {"vhc0": (("pmd-c01/id:8", state, 0), ("pmd-c02/id:9", "ALIVE", 1))}
    port = watched.look(client())
    assert port.is_well is not ill
    if ill:
        [found] = port.findings
        assert "pmd-c01/id:8" in found.evidence
        assert "keepalive/explain pmd-c01/id:8" in found.cure


def test_a_guest_that_takes_nothing_while_packets_for_it_are_dropped_does_not_move() -> None:
    watched = Watched()
    for number in range(7):
        port = watched.look(client(counters=Counters(1000.0 + 5 * number, 10, 20, number)))
    assert beside(port) == ["not-moving"]
    assert beside(watched.look(client(counters=Counters(1035.0, 10, 21, 7)))) == []


def test_a_guest_that_is_idle_moves_as_far_as_anybody_can_tell() -> None:
    watched = Watched()
    for number in range(20):
        port = watched.look(client(counters=Counters(1000.0 + 5 * number, 10, 20, 3)))
    assert beside(port) == []


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        (Reach(0, to=False, of=False), "bridge br0 has no flow"),
        (Reach(3, to=False, of=True), "sends to it"),
        (Reach(3, to=True, of=False), "takes what comes from it"),
        (Reach(3, to=False, of=False), "and none takes"),
    ],
)
def test_a_port_that_no_flow_serves(reach: Reach, words: str) -> None:
    [found] = Watched().look(client(reach=reach)).findings
    assert found.kind == "no-flow"
    assert words in found.evidence
    assert beside(Watched().look(client(reach="more than 2000 flows"))) == []


def test_a_name_in_a_cure_is_one_word_of_the_shell() -> None:
    port = Watched().look(server(name="a b'; rm -rf /", **AWAY, socket=ABSENT))
    for finding in port.findings:
        assert "'a b'\"'\"'; rm -rf /'" in finding.cure
