# SPDX-License-Identifier: Apache-2.0
"""The fleet as its page reads it: the whole once, column by column, and then what changes.

10,000 hosts are less than 300 KB so: names are told by what they do not share with the one before, domains and all that
most hosts have alike once, times in seconds before the moment of telling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Change, Event, Fleet, Key, Request, Sight
from ovs_keepalive.core.model import NEVER, Moment
from ovs_keepalive.core.tunnels import Host, matrix
from ovs_keepalive.formats.fleet_tables import PROBLEMS, host_document
from ovs_keepalive.formats.plain import json_bytes

VERSION = 1  # of the documents; they grow by new keys, a changed meaning raises it
LETTERS = {
    HostState.WELL: "W",
    HostState.DISABLED: "D",
    HostState.UNKNOWN: "?",
    HostState.WARNING: "!",
    HostState.RESTARTING: "R",
    HostState.FAILURE: "F",
    HostState.GONE: "G",
}
NONE = -1  # a number that nobody knows
LINKS = 4096  # of the tunnels' document: the worst
WHY = 120  # characters of a reason in the table; a host's own document has all of it


class Told(NamedTuple):
    """What stands above each document."""

    boot: str  # of the process: its numbers are worth nothing to the next one
    seq: int
    now: Moment


def snapshot(fleet: Fleet, log: Sequence[Event], told: Told) -> bytes:
    """All of it."""
    by_cell: dict[str, list[Sight]] = {}
    for key in sorted(fleet.sights):
        by_cell.setdefault(key[0], []).append(fleet.sights[key])
    return json_bytes(
        {
            **_head(fleet, told),
            "cells": {cell: _columns(sights, told.now.wall_ms) for cell, sights in by_cell.items()},
            **_asked(fleet),
            "events": [list(event) for event in log],
        }
    )


def delta(fleet: Fleet, change: Change, log: Sequence[Event], told: Told) -> bytes:
    """What changed; log: what came to it."""
    document = _head(fleet, told)
    if change.hosts:
        document["hosts"] = [_row(one, told.now.wall_ms) for one in change.hosts]
    if change.forgotten:
        document["forgotten"] = [list(key) for key in change.forgotten]
    if change.requests:
        document |= _asked(fleet)
    if log:
        document["events"] = [list(event) for event in log]
    return json_bytes(document)


def beat(fleet: Fleet, told: Told) -> bytes:
    """That nothing changed, and how old what is known is."""
    return json_bytes(_head(fleet, told))


def host(fleet: Fleet, key: Key, now: Moment) -> bytes:
    """All that is known of one host; nothing if there is none of that name."""
    one = fleet.sights.get(key)
    if one is None:
        return b""
    return json_bytes(
        {
            "version": VERSION,
            "at": now.wall_ms,
            **host_document(one),
            "requests": _requests(request for request in fleet.requests if (request.cell, request.help.host) == key),
        }
    )


def tunnels(fleet: Fleet, cell: str) -> bytes:
    """The tunnels between the hosts of a cell, the worst first; nothing if there is no such cell."""
    sights = {key[1]: one for key, one in sorted(fleet.sights.items()) if key[0] == cell}
    if not sights:
        return b""
    found = matrix({name: _host(one) for name, one in sights.items()})
    places = {name: place for place, name in enumerate(sights)}
    return json_bytes(
        {
            "version": VERSION,
            "cell": cell,
            "hosts": list(places),
            "counts": Counter(link.reach for link in found.links),
            "links": [[places[link.a], places[link.b], *link[2:]] for link in found.links[:LINKS]],
            "more": max(0, len(found.links) - LINKS),
            "strangers": found.strangers,
        }
    )


def _host(one: Sight) -> Host:
    said = one.member
    if said is None:
        return Host(False, "", ())
    return Host(one.state is not HostState.GONE, said.address, said.tunnels)


def _head(fleet: Fleet, told: Told) -> dict[str, Any]:
    """age_ms: since all of it was read; null before the first time."""
    age = None if fleet.read == NEVER else max(0, round((told.now.mono - fleet.read.mono) * 1000))
    return {
        "version": VERSION,
        "boot": told.boot,
        "seq": told.seq,
        "at": told.now.wall_ms,
        "age_ms": age,
        "store": list(fleet.store),
    }


def _asked(fleet: Fleet) -> dict[str, Any]:
    """unread: of requests that cannot be read how many there are, and a line for each of the first."""
    lines = [short(one, WHY) for one in fleet.problems[:PROBLEMS]]
    return {"requests": _requests(fleet.requests), "unread": [len(fleet.problems), lines]}


def _requests(requests: Iterable[Request]) -> list[dict[str, Any]]:
    return [
        {
            "cell": one.cell,
            "host": one.help.host,
            "kind": one.help.kind,
            "why": one.help.why,
            "state": one.state,
            "t": one.help.t,
            "n": one.help.n,
            "last": one.help.last,
            "by": one.claim.by if one.claim is not None else one.help.by,
            "claimed": one.claim.t if one.claim is not None else None,
        }
        for one in requests
    ]


def _columns(sights: Sequence[Sight], now_ms: int) -> dict[str, Any]:
    """The hosts of a cell, by name."""
    parts = [one.host.partition(".") for one in sights]
    rows = [_row(one, now_ms) for one in sights]
    columns = zip(*(row[3:] for row in rows), strict=True)
    names = ("since", "written", "pmds", "failed", "busy", "cores", "version", "why")
    return {
        "names": _fronted([name for name, _, _ in parts]),
        "domains": _column([dot + domain for _, dot, domain in parts]),
        "states": "".join(LETTERS[one.state] for one in sights),
        **{name: _column(column) for name, column in zip(names, columns, strict=True)},
    }


def _column(values: Sequence[Any]) -> list[Any] | dict[str, Any]:
    """The values. Where most are alike, that one and the others by their places; of few words which one it is."""
    counted = Counter(values)
    most, count = counted.most_common(1)[0]
    if len(values) - count <= len(values) // 8:  # with its place a value is about eight times as long
        return {"most": most, "but": {str(place): value for place, value in enumerate(values) if value != most}}
    if isinstance(most, str) and len(counted) <= len(values) // 8:
        places = {value: place for place, value in enumerate(counted)}
        return {"of": list(places), "at": [places[value] for value in values]}
    return list(values)


def _row(one: Sight, now_ms: int) -> list[Any]:
    """Cell, host, letter; seconds since then, and since its last sign of life; PMDs, failed ones, busy, cores, …"""
    said = one.member
    busy = fleet_view.busiest(said) if said is not None else None
    return [
        one.cell,
        one.host,
        LETTERS[one.state],
        _ago(one.since, now_ms),
        _ago(one.written, now_ms),
        len(said.pmds) if said is not None else NONE,
        fleet_view.failed_pmds(said) if said is not None else 0,
        NONE if busy is None else busy,
        fleet_view.free_cores(said) if said is not None else NONE,
        _version(one),
        short(one.why, WHY),
    ]


def _version(one: Sight) -> str:
    return one.member.ver if one.member is not None else ""


def _ago(then: int, now_ms: int) -> int:
    """Whole seconds; a clock that is ahead of this one's is no age."""
    return NONE if then == fleet_view.UNTOLD else max(0, now_ms - then) // 1000


def _fronted(names: Sequence[str]) -> list[int | str]:
    """Of each name how many characters it shares with the one before, and the rest.

    Only ASCII is shared: JavaScript counts other characters otherwise than Python.
    """
    told: list[int | str] = []
    before = ""
    for name in names:
        alike = (one == other and one.isascii() for one, other in zip(before, name, strict=False))
        same = sum(takewhile(bool, alike))
        told += [same, name[same:]]
        before = name
    return told
