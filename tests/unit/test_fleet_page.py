# SPDX-License-Identifier: Apache-2.0
"""The documents of the fleet's page, and its metrics."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet import HostState, PmdBrief
from ovs_keepalive.core.fleet_view import Event, Fleet, Request, Sight, Store
from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats import fleet_metrics, fleet_page
from ovs_keepalive.formats.fleet_page import Told
from tests.fleets import CLAIM, T, help_of, member

CONNECTED = Store("CONNECTED")
NOW = Moment(100.0, T)


def sight(host: str, state: HostState = HostState.WELL, cell: str = "c1", **fields: Any) -> Sight:
    """A host; fields: of it."""
    return Sight(cell, host, state, T - 7000, T - 3000, member(host, why="", tunnels=()))._replace(**fields)


def fleet(*sights: Sight, requests: tuple[Request, ...] = ()) -> Fleet:
    """A picture that is two seconds old."""
    return Fleet(CONNECTED, Moment(98.0, T - 2000), {one.key: one for one in sights}, requests)


def read_names(told: list[Any]) -> list[str]:
    """As the page reads them (model.js)."""
    names, name = [], ""
    for same, rest in zip(told[::2], told[1::2], strict=True):
        name = name[:same] + rest
        names.append(name)
    return names


def read_column(told: Any, size: int) -> list[Any]:
    """As the page reads it."""
    if isinstance(told, list):
        return told
    if "of" in told:
        return [told["of"][place] for place in told["at"]]
    return [told["but"].get(str(place), told["most"]) for place in range(size)]


def test_the_snapshot_has_all_that_the_table_shows() -> None:
    gone = sight("b.dc1", HostState.GONE, since=0, member=None)
    picture = fleet(sight("a1.dc1"), sight("a2.dc1", HostState.FAILURE), gone, sight("x", cell="c2"))
    log = [Event(T, "c1", "b.dc1", "WELL", "GONE", "no session")]
    document = json.loads(fleet_page.snapshot(picture, log, Told("boot", 7, NOW)))
    assert (document["seq"], document["boot"], document["at"], document["age_ms"]) == (7, "boot", T, 2000)
    assert document["events"] == [[T, "c1", "b.dc1", "WELL", "GONE", "no session"]]
    cell = document["cells"]["c1"]
    assert cell["names"] == [0, "a1", 1, "2", 0, "b"]
    assert read_column(cell["domains"], 3) == [".dc1"] * 3
    assert cell["states"] == "WFG"
    columns = {name: read_column(cell[name], 3) for name in ("since", "written", "pmds", "failed", "busy", "cores")}
    assert columns == {
        "since": [7, 7, -1],
        "written": [3, 3, 3],
        "pmds": [2, 2, -1],
        "failed": [1, 1, 0],
        "busy": [41, 41, -1],
        "cores": [2, 2, -1],
    }
    assert read_column(cell["why"], 3)[2] == "no session; its last word was never heard"
    assert document["cells"]["c2"]["names"] == [0, "x"]


def test_ten_thousand_hosts_are_less_than_300_kilobytes() -> None:
    chance = random.Random(1)  # noqa: S311 - the same numbers each time
    sights = []
    for number in range(10_000):
        pmds = tuple(PmdBrief(core, 0, "ALIVE", chance.randrange(100), 2, 5, 0) for core in range(2))
        said = member(f"node-{number:05d}.dc{number % 3}.example", state=HostState.WELL, why="", tunnels=(), pmds=pmds)
        times = (T - chance.randrange(10**9), T - chance.randrange(60_000))
        sights.append(Sight(f"c{number // 2000}", said.host, HostState.WELL, *times, said))
    body = fleet_page.snapshot(fleet(*sights), [], Told("boot", 1, NOW))
    print(f"{len(body)} bytes, {len(gzip.compress(body))} compressed")
    assert len(body) < 300_000
    names = [name for cell in json.loads(body)["cells"].values() for name in _names(cell)]
    assert names == sorted(one.host for one in sights)
    changed = fleet(*sights[:-1], sights[-1]._replace(state=HostState.GONE))
    delta = fleet_page.delta(changed, fleet_view.change(fleet(*sights), changed), [], Told("boot", 2, NOW))
    assert len(delta) < 250


def _names(cell: dict[str, Any]) -> list[str]:
    heads = read_names(cell["names"])
    return [head + tail for head, tail in zip(heads, read_column(cell["domains"], len(heads)), strict=True)]


@pytest.mark.parametrize(
    "names",
    [
        ["", "a", "ab"],
        ["é", "éa", "\U0001f600a", "\U0001f600b"],
        ["a.b.c", "a.b.d", "a..", "."],
        [f"{name}.{domain}" for name in range(20) for domain in ("x", "y")],
    ],
)
def test_names_are_read_as_they_were(names: list[str]) -> None:
    body = fleet_page.snapshot(fleet(*(sight(name) for name in names)), [], Told("b", 1, NOW))
    assert _names(json.loads(body)["cells"]["c1"]) == sorted(names)


def test_requests_that_cannot_be_read_are_counted_and_the_first_are_told() -> None:
    before, after = fleet(sight("a")), fleet(sight("a"))._replace(problems=tuple(f"c1: x{n}: bad" for n in range(12)))
    wanted = [12, [f"c1: x{n}: bad" for n in range(10)]]
    assert json.loads(fleet_page.snapshot(after, [], Told("boot", 1, NOW)))["unread"] == wanted
    change = fleet_view.change(before, after)
    assert json.loads(fleet_page.delta(after, change, (), Told("boot", 2, NOW)))["unread"] == wanted


def test_a_delta_has_what_changed_and_nothing_else() -> None:
    before = fleet(sight("a"), sight("b"), sight("c"))
    after = fleet(sight("a"), sight("b", HostState.GONE), requests=(Request("c1", help_of("b"), CLAIM),))
    change = fleet_view.change(before, after)
    document = json.loads(fleet_page.delta(after, change, (), Told("boot", 8, NOW)))
    assert [row[:3] for row in document["hosts"]] == [["c1", "b", "G"]]
    assert document["forgotten"] == [["c1", "c"]]
    [request] = document["requests"]
    assert (request["host"], request["state"], request["by"], request["claimed"]) == ("b", "CLAIMED", "node-09", T)
    assert "events" not in document
    quiet = json.loads(fleet_page.beat(after, Told("boot", 8, NOW)))
    assert set(quiet) == {"version", "boot", "seq", "at", "age_ms", "store"}


def test_before_anything_was_read_the_data_have_no_age() -> None:
    document = json.loads(fleet_page.beat(Fleet(Store("LOST", "refused")), Told("boot", 0, NOW)))
    assert (document["age_ms"], document["store"]) == (None, ["LOST", "refused"])


def test_a_host_tells_all_of_itself() -> None:
    one = sight("a", HostState.GONE, member=member("a"))
    document = json.loads(fleet_page.host(fleet(one, requests=(Request("c1", help_of("a")),)), one.key, NOW))
    assert (document["state"], document["since"], document["first"]) == ("GONE", T - 7000, None)
    assert document["said"]["pmds"][1]["state"] == "DEAD", "what it said last is still there to be read"
    assert document["said"]["tunnels"][0]["bfd_remote"] == "down"
    assert document["said"]["headroom"] == {"cores": {"0": 2, "1": 0}, "busy": {"0": 41, "1": 7}}
    assert [request["kind"] for request in document["requests"]] == ["pmd-dead"]
    assert fleet_page.host(fleet(one), ("c2", "a"), NOW) == b""


def test_the_tunnels_of_a_cell_are_told_from_both_ends() -> None:
    down = member("a").tunnels[0]._replace(local="10.0.0.1", remote="10.0.0.2", bfd="down", bfd_remote="down")
    there = down._replace(local="10.0.0.2", remote="10.0.0.1", bfd="up")
    one = sight("a", member=member("a", address="10.0.0.1", tunnels=(down,)))
    other = sight("b", member=member("b", address="10.0.0.2", tunnels=(there,)))
    document = json.loads(fleet_page.tunnels(fleet(one, other, sight("z", member=None)), "c1"))
    assert document["hosts"] == ["a", "b", "z"]
    assert document["links"] == [[0, 1, "vxlan", "DOWN", "differ", "DOWN", "UP", T]]
    assert document["counts"] == {"DOWN": 1}
    gone = other._replace(state=HostState.GONE)
    assert json.loads(fleet_page.tunnels(fleet(one, gone), "c1"))["links"][0][4:7] == ["one-sided", "DOWN", "UNSEEN"]
    assert fleet_page.tunnels(fleet(one), "c9") == b""


# --- metrics -----------------------------------------------------------------------------------------------------


def facts(picture: Fleet, **fields: Any) -> fleet_metrics.Facts:
    """Of this fleet."""
    waits = [0] * (len(fleet_metrics.BOUNDS) + 1)
    return fleet_metrics.Facts("0.1.0", NOW, picture, waits, 0.0, 0)._replace(**fields)


def series(text: str) -> dict[str, float]:
    """By their names and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_are_aggregates_of_the_fleet() -> None:
    picture = fleet(
        sight("a"),
        sight("b", HostState.GONE),
        sight('"\n', cell='c"2'),
        requests=(Request("c1", help_of(t=T - 9000)), Request("c1", help_of("b"), CLAIM)),
    )
    waits = [0] * (len(fleet_metrics.BOUNDS) + 1)
    waits[fleet_metrics.place(0.3)] += 1
    waits[fleet_metrics.place(9999)] += 1
    text = fleet_metrics.text(facts(picture, waits=waits, waited=9999.3, viewers=3), openmetrics=False)
    told = series(text)
    prefix = "ovs_keepalive_fleet_"
    assert told[f"{prefix}hosts[('cell', 'c1'), ('state', 'GONE')]"] == 1
    assert told[f"{prefix}hosts[('cell', 'c1'), ('state', 'FAILURE')]"] == 0
    assert told[f"{prefix}hosts[('cell', 'c\"2'), ('state', 'WELL')]"] == 1
    assert told[f"{prefix}help_requests[('cell', 'c1'), ('state', 'OPEN')]"] == 1
    assert told[f"{prefix}help_requests[('cell', 'c1'), ('state', 'CLAIMED')]"] == 1
    assert told[f"{prefix}help_oldest_seconds[]"] == 9
    assert told[f"{prefix}claim_seconds_bucket[('le', '0.25')]"] == 0
    assert told[f"{prefix}claim_seconds_bucket[('le', '0.5')]"] == 1
    assert told[f"{prefix}claim_seconds_bucket[('le', '+Inf')]"] == told[f"{prefix}claim_seconds_count[]"] == 2
    assert told[f"{prefix}data_age_seconds[]"] == 2
    assert told[f"{prefix}store_up[]"] == 1
    assert told[f"{prefix}viewers[]"] == 3
    assert not any("node" in name for name in told), "no series of one host"


def test_the_metrics_are_openmetrics_too() -> None:
    text = fleet_metrics.text(facts(fleet(sight("a"))), openmetrics=True)
    names = {family.name for family in openmetrics_parser.text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    assert names == {f"ovs_keepalive_{one.name}".removesuffix("_info") for one in fleet_metrics.FAMILIES}


def test_without_a_store_the_metrics_say_so() -> None:
    told = series(fleet_metrics.text(facts(Fleet(Store("SUSPENDED"))), openmetrics=False))
    assert told["ovs_keepalive_fleet_store_up[]"] == 0
    assert not any("data_age" in name for name in told)
