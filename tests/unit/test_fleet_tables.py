# SPDX-License-Identifier: Apache-2.0
"""What `ovs-keepalive fleet` prints: every host, the worst first, in words that no host's name can bend."""

from __future__ import annotations

import json

from ovs_keepalive.core.fleet import Asked, Cell, HostState, Known, Sighting
from ovs_keepalive.core.fleet_view import Event, Fleet, Request, Store, picture, worst_first
from ovs_keepalive.core.model import NEVER
from ovs_keepalive.formats import fleet_tables
from ovs_keepalive.formats.plain import json_text
from tests.fleets import CLAIM, DONE, T, help_of, member

HOSTILE = "x\n\x1b[2J\u202ey"
NOW = T + 3000


def fleet() -> Fleet:
    """One that is well, one with a dead PMD, one that is gone, one that is hostile."""
    well = member("a", state=HostState.WELL, why="", pmds=())
    gone = Known(T - 10_000, T, member("c"))
    hosts = {
        "a": Sighting("a", well, T, None),
        "b": Sighting("b", member("b"), T, None),
        "c": Sighting("c", None, 0, gone),
        HOSTILE: Sighting(HOSTILE, member(HOSTILE, why=HOSTILE), T, None),
    }
    cell = Cell("default", hosts, {"b--pmd-dead": Asked(help_of("b", why=HOSTILE), 1, CLAIM)})
    return picture([cell], Store("CONNECTED"), NEVER, Fleet(Store("LOST")), NOW)


def test_every_host_is_listed_the_worst_first() -> None:
    seen = fleet()
    text = fleet_tables.status(worst_first(seen.sights.values()), seen.requests, (), NOW)
    lines = text.splitlines()
    assert lines[0] == "4 hosts: 1 GONE, 2 FAILURE, 1 WELL"
    assert lines[2].split() == ["CELL", "HOST", "STATE", "FOR", "PMDS", "BUSY", "FREE", "AGE", "WHY"]
    assert [line.split()[1] for line in lines[3:7]] == ["c", "b", "x", "a"]
    assert "no session; its last word was FAILURE" in lines[3]
    assert "2, 1 bad" in lines[4]
    assert "b--pmd-dead  CLAIMED" in lines[-1]
    assert "node-09" in lines[-1]
    assert all(line.isprintable() for line in lines)


def test_nobody_at_all() -> None:
    assert fleet_tables.status([], [], [], NOW) == "0 hosts\n"


def test_requests_that_cannot_be_read_have_a_line_each_of_the_first_ten() -> None:
    problems = [f"c1: x{number}--{HOSTILE}: it is of version 2{'.' * 500}" for number in range(12)]
    lines = fleet_tables.status([], [], problems, NOW).splitlines()
    assert lines[2].startswith("request that cannot be read: c1: x0--x [2J y: it is of version 2")
    assert lines[11].startswith("request that cannot be read: c1: x9--")
    assert lines[12:] == ["2 more requests cannot be read"]
    assert all(line.isprintable() and len(line) < 160 for line in lines)


def test_a_host_that_is_gone_shows_its_pmds_as_it_said_last() -> None:
    seen = fleet()
    text = fleet_tables.host(seen.sights["default", "c"], [], NOW)
    assert "state     : GONE" in text
    assert "PMD threads, as it said last" in text
    assert [line.split()[:3] for line in text.splitlines() if line[:1].isdigit()] == [
        ["1", "0", "ALIVE"],
        ["2", "-", "DEAD"],
    ]
    assert "vx-a" in text


def test_a_host_shows_what_it_asks_for() -> None:
    seen = fleet()
    text = fleet_tables.host(seen.sights["default", "b"], seen.requests, NOW)
    assert "as it said last" not in text
    assert "headroom  : NUMA 0: 2 cores, PMDs 41 % busy; NUMA 1: 0 cores, PMDs 7 % busy" in text
    assert "asks for help: b--pmd-dead" in text


def test_requests_and_what_was_done() -> None:
    text = fleet_tables.asked([Request("default", help_of())], [DONE], NOW)
    assert "node-07--pmd-dead  OPEN" in text
    assert "by node-09: offered: numa 0, 2 cores" in text
    assert fleet_tables.asked([], [], NOW) == "nobody asks for help\n"


def test_an_event_is_a_line() -> None:
    line = fleet_tables.event(Event(T, "default", HOSTILE, "WELL", "FAILURE", HOSTILE))
    assert line.isprintable()
    assert "default/x [2J y  WELL -> FAILURE  x [2J y" in line


def test_the_document_holds_every_fact() -> None:
    seen = fleet()
    sights = worst_first(seen.sights.values())
    said = json.loads(json_text(fleet_tables.status_document(sights, seen.requests, ("c1: bad",), NOW)))
    assert said["counts"] == {"GONE": 1, "FAILURE": 2, "WELL": 1}
    gone = said["hosts"][0]
    assert (gone["host"], gone["state"], gone["since"]) == ("c", "GONE", None)
    assert [pmd["state"] for pmd in gone["said"]["pmds"]] == ["ALIVE", "DEAD"]
    assert gone["said"]["headroom"] == {"cores": {"0": 2, "1": 0}, "busy": {"0": 41, "1": 7}}
    assert said["requests"][0]["claim"]["by"] == "node-09"
    assert said["problems"] == ["c1: bad"]
