# SPDX-License-Identifier: Apache-2.0
"""Ports as they are told: tables, documents, pairs of keepalive_detail, and what outlives the daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgspec
import pytest

from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.ports import Counters, Peers, Ports, PortsMemory, Reach, Return, Returned
from ovs_keepalive.formats import breaks, column, document, memory, plain, tables
from ovs_keepalive.formats import ports as form
from ovs_keepalive.formats import survey as wire
from tests.json_shapes import documented, wrong
from tests.looks import broke, pmd, remembered, snapshot
from tests.port_looks import AWAY, NOBODY, POLLED, Watched, at, client, server, survey

NOW = Moment(1100.0, 1_700_000_100_000)
SHAPES = documented()
HOSTILE = "a;b\x1b[31m\n\u202e" + "x" * 200


def told(*ports: Any) -> Ports:
    """What a daemon says that has looked twice."""
    watched = Watched()
    watched.polled = {port.name: POLLED for port in ports}
    watched.look(*ports)
    watched.look(*ports)
    return watched.told.ports


STRANDED = server(**AWAY, error="could not open network device vhu0", ofport=-1, peers=Peers(0, 0, 0))


def test_an_audit_is_as_documented_to_its_last_key() -> None:
    for ports in (told(client(), STRANDED, client(name="x", counters="no answer", peer="", ofport=None)), Ports()):
        audited = json.loads(msgspec.json.encode(form.document(ports, NOW)))
        assert list(wrong(audited, "audit", SHAPES)) == []


def test_a_node_with_ports_is_as_documented_and_warns_of_a_broken_one() -> None:
    well = snapshot([pmd()])
    node = json.loads(msgspec.json.encode(document.node(well, NOW, {}, ports=told(client(), STRANDED))))
    assert list(wrong(node, "node", SHAPES)) == []
    assert node["health"] == "WARNING"
    assert node["summary"].endswith("; ports: 1 STALE-BIND")
    assert not document.is_well(node)
    assert [port["findings"] for port in node["ports"]] == [[], ["STALE-BIND", "server-mode"]]
    node = json.loads(msgspec.json.encode(document.node(well, NOW, {}, ports=told(client(**NOBODY)))))
    assert node["health"] == "WELL", "a VM that is not there may be meant not to be"
    assert document.is_well(node)


def test_show_has_a_line_a_port() -> None:
    text = form.show(form.document(told(client(counters=Counters(1.0, 5, 6, 0)), STRANDED), NOW))
    lines = text.splitlines()
    assert lines[0] == tables.ENABLED
    assert lines[1].split()[:3] == ["PORT", "BRIDGE", "TYPE"]
    assert lines[2].split()[:5] == ["vhc0", "br0", "dpdkvhostuserclient", "1", "UP"]
    assert "pmd-c01 ALIVE:0" in lines[2]
    assert "5/6" in lines[2]
    assert "STALE-BIND" in lines[3]
    assert lines[3].endswith("server-mode")
    assert lines[-1] == "2 ports: 1 UP, 1 STALE-BIND; 2 findings"


def test_an_audit_tells_of_each_finding_what_was_seen_what_follows_and_what_to_do() -> None:
    text = form.audit(form.document(told(client(), STRANDED), NOW))
    assert "vhu0 (br0, dpdkvhostuser): STALE-BIND since" in text
    assert "\n    seen : /run/vm/vhu0 is there, nobody listens on it" in text
    assert "\n    so   : the port does not exist until the file is gone" in text
    assert "\n    do   : rm -- /run/vm/vhu0 && ovs-keepalive upgrade-watch -- ovs-ctl restart" in text
    assert "vhc0" not in text
    assert "without a past" not in text


def test_what_was_not_seen_is_said() -> None:
    ports = told(client(reach="bridge br0 has more than 2000 flows: they are not read"))._replace(
        blind=("no database",)
    )
    text = form.audit(form.document(ports._replace(since=Moment(0.0, 0)), NOW))
    assert "not seen: no database" in text
    assert "not seen of 1 ports: flows: bridge br0 has more than 2000 flows" in text
    assert "without a past: none can be told STRANDED" in text


def test_nothing_was_looked_at_yet() -> None:
    nothing = form.document(Ports(), NOW)
    assert form.NOT_YET in form.show(nothing)
    assert form.NOT_YET in form.audit(nothing)
    assert nothing["well"] is False


def test_a_vhost_user_port_has_a_pair_and_another_one_only_with_a_finding() -> None:
    plain_one = client(name="p0", type="dpdk", mode="", peer="", path="")
    pairs = form.pairs(told(client(), STRANDED, plain_one, plain_one._replace(name="p1", link="down")))
    assert list(pairs) == ["port:vhc0", "port:vhu0", "port:p1"]
    assert pairs["port:vhc0"].startswith("UP;since=")
    state, since, *parts = pairs["port:vhu0"].split(";")
    assert state == "STALE-BIND"
    assert since.startswith("since=17")
    assert [part.partition("=")[0] for part in parts] == ["findings", "witness"]
    assert "findings=server-mode;" in pairs["port:vhu0"]


def test_a_pair_changes_only_with_what_it_says() -> None:
    watched = Watched()
    watched.look(server())
    before = form.pairs(watched.told.ports)
    watched.look(server(counters=Counters(1010.0, 999, 999, 9), drops=1))
    assert form.pairs(watched.told.ports) == before


def test_no_pair_can_be_forged_by_a_name() -> None:
    [(key, value)] = form.pairs(told(client(name=HOSTILE, **NOBODY, path="/x;y\n"))).items()
    assert key.isprintable()
    assert ";" not in key
    assert value.isprintable()
    assert [part.partition("=")[0] for part in value.split(";")] == ["ABSENT-SOCKET", "since", "witness"]
    assert column.clean(key) == key


@pytest.mark.parametrize(
    "way",
    [
        lambda ports: form.show(form.document(ports, NOW)),
        lambda ports: form.audit(form.document(ports, NOW)),
        lambda ports: form.glance(form.brief(ports)),
        lambda ports: plain.json_text(form.document(ports, NOW)),
        lambda ports: form.explained(snapshot([pmd(name="pmd-c01/id:8")]), ports, "pmd-c01/id:8"),
    ],
)
def test_a_hostile_name_steers_no_terminal_and_forges_no_line(way: Callable[[Ports], str]) -> None:
    def lines(name: str) -> list[str]:
        return way(told(STRANDED._replace(name=name, bridge=name, path=f"/run/{name}", error=name))).split("\n")

    assert all(line.isprintable() for line in lines(HOSTILE))
    assert len(lines(HOSTILE)) == len(lines("h" * len(HOSTILE)))


def test_a_stalled_pmd_is_shown_with_the_ports_that_it_strands() -> None:
    ports = told(client(), server(**NOBODY))
    name = POLLED[0][0]
    assert "strands these ports: vhc0 (UP), vhu0 (ABSENT-SOCKET)" in form.explained(
        snapshot([pmd(name=name, state="DEAD")]), ports, name
    )
    assert "serves these ports" in form.explained(snapshot([pmd(name=name)]), ports, name)
    assert form.explained(snapshot([pmd()]), ports, "pmd-c07/id:1") == ""


def test_a_break_tells_which_vms_did_not_come_back() -> None:
    one = broke(pid_old=700, pid_new=800)
    back = Returned(700, 800, (Return("vhu0"), Return("vhc0", at(1001.0), at(1002.0), at(1003.0))))
    ports = Ports(returns=(back,))
    assert "not connected again, of 2 VMs: vhu0" in breaks.listing([one], [form.back(form.returned(ports, one))])
    assert document.with_vms(one, ports)["vms"] == [
        {"name": "vhu0", "back": None, "link": None, "packets": None},
        {
            "name": "vhc0",
            "back": at(1001.0).wall_ms,
            "link": at(1002.0).wall_ms,
            "packets": at(1003.0).wall_ms,
        },
    ]
    assert document.with_vms(broke(pid_old=1), ports)["vms"] == []
    assert form.back(back._replace(ports=back.ports[1:])) == "all 1 VMs that were connected are again"


def test_a_survey_comes_through_the_pipe_as_it_was() -> None:
    seen = survey(client(), STRANDED, client(counters="x", socket="y", peers="z", reach=Reach(1, to=True, of=False)))
    assert wire.survey(wire.line(seen)) == seen
    assert b"\n" not in wire.line(seen)[:-1]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"[1,2]", b"null"])
def test_what_is_no_survey_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.survey(damage)


def test_what_ovs_forgets_outlives_the_daemon() -> None:
    watched = Watched()
    watched.look(server(), client())
    watched.restart()
    watched.look(server(**AWAY, drops=3, peers=Peers(1, 1, 0)), client(counters=Counters(1.0, 2, 3, 4)), after=6.0)
    noted = remembered(at=at(2000.0), ports=watched.memory)
    assert memory.decode(memory.encode(noted, "boot", "f.pid"), "boot", "f.pid").ports == watched.memory


def test_a_document_of_the_version_before_knows_nothing_of_ports() -> None:
    noted = remembered()
    body = plain.json_bytes(list(noted)[:-1])
    head = memory.Head(format=memory.FORMAT, version=1, boot="boot", pidfile="f.pid", sum=crc32(body))
    assert memory.decode(b"%s\n%s\n" % (plain.json_bytes(head), body), "boot", "f.pid") == noted._replace(
        ports=PortsMemory()
    )


def test_a_memory_of_ports_with_a_time_that_cannot_be_is_damaged() -> None:
    watched = Watched()
    watched.look(server())
    with pytest.raises(memory.Unusable, match="a time in it cannot be"):
        memory.decode(memory.encode(remembered(at=at(500.0), ports=watched.memory), "b", "f"), "b", "f")
