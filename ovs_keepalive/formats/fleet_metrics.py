# SPDX-License-Identifier: Apache-2.0
"""What `/metrics` of the fleet's page tells: aggregates of the fleet only. What concerns one host, that host tells.

FAMILIES is the one table of them; docs/metrics.md is generated from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Fleet, RequestState
from ovs_keepalive.core.model import NEVER, Moment
from ovs_keepalive.formats.metric import Kind, Row, label, written
from ovs_keepalive.formats.plain import one_line

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds of a wait for a claim
CONNECTED = "CONNECTED"


class Facts(NamedTuple):
    """All that is told."""

    version: str
    now: Moment
    fleet: Fleet
    waits: Sequence[int]  # claims, by how long was waited for them: up to each bound, and longer
    waited: float  # seconds, all of them together
    viewers: int


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    rows: Callable[[Facts], Iterable[Row]]


def text(facts: Facts, *, openmetrics: bool) -> str:
    """The exposition."""
    families = [written(one.name, one.kind, one.help, one.rows(facts), openmetrics=openmetrics) for one in FAMILIES]
    return "".join([*families, *(["# EOF\n"] if openmetrics else [])])


def place(seconds: float) -> int:
    """In which of the counts of Facts.waits it belongs."""
    return sum(seconds > bound for bound in BOUNDS)


def _cell(name: str) -> str:
    return label("cell", one_line(name))


def _hosts(facts: Facts) -> Iterator[Row]:
    """All states, so that none disappears when its last host leaves it."""
    for cell in fleet_view.cells(facts.fleet.sights.values()):
        for state in HostState:
            yield Row(f'{_cell(cell.name)},state="{state}"', cell.counts.get(state, 0))


def _open(facts: Facts) -> Iterator[Row]:
    found = Counter((one.cell, one.state) for one in facts.fleet.requests)
    for cell in sorted({key[0] for key in facts.fleet.sights} | {one.cell for one in facts.fleet.requests}):
        for state in RequestState:
            yield Row(f'{_cell(cell)},state="{state}"', found[cell, state])


def _oldest(facts: Facts) -> Iterator[Row]:
    posted = [one.help.t for one in facts.fleet.requests if one.state is not RequestState.CLAIMED]
    yield Row("", max(0, facts.now.wall_ms - min(posted)) / 1000 if posted else 0)


def _waits(facts: Facts) -> Iterator[Row]:
    for bound, count in zip((*BOUNDS, math.inf), accumulate(facts.waits), strict=True):
        yield Row(f'le="{"+Inf" if bound == math.inf else bound}"', count, "_bucket")
    yield Row("", facts.waited, "_sum")
    yield Row("", sum(facts.waits), "_count")


def _age(facts: Facts) -> Iterator[Row]:
    if facts.fleet.read != NEVER:
        yield Row("", round(max(0.0, facts.now.mono - facts.fleet.read.mono), 3))


FAMILIES = (
    Family(
        "fleet_build_info",
        Kind.INFO,
        ("version",),
        "The version of the fleet's page that answers.",
        lambda facts: [Row(label("version", facts.version), 1)],
    ),
    Family(
        "fleet_store_up",
        Kind.GAUGE,
        (),
        "Whether the page is connected to ZooKeeper; while it is 0 all else is as old as fleet_data_age_seconds says.",
        lambda facts: [Row("", int(facts.fleet.store.state == CONNECTED))],
    ),
    Family(
        "fleet_data_age_seconds",
        Kind.GAUGE,
        (),
        "Time since all cells were read; absent before the first time.",
        _age,
    ),
    Family(
        "fleet_hosts",
        Kind.GAUGE,
        ("cell", "state"),
        "Hosts in this state, as they say of themselves; GONE: those that were known and have no session.",
        _hosts,
    ),
    Family(
        "fleet_help_requests",
        Kind.GAUGE,
        ("cell", "state"),
        "Requests for help: OPEN ones wait for a claim, STUCK ones for an operator.",
        _open,
    ),
    Family(
        "fleet_help_oldest_seconds",
        Kind.GAUGE,
        (),
        "Age of the oldest request that nobody has claimed; 0 if there is none.",
        _oldest,
    ),
    Family(
        "fleet_claim_seconds",
        Kind.HISTOGRAM,
        ("le",),
        "How long requests waited for a claim, by the clocks of the two hosts; of the claims that the page has seen.",
        _waits,
    ),
    Family(
        "fleet_viewers",
        Kind.GAUGE,
        (),
        "Browsers that follow the page.",
        lambda facts: [Row("", facts.viewers)],
    ),
)
