# SPDX-License-Identifier: Apache-2.0
"""What a node has to spare for others, and when it has too much itself. Pure: the agent looks, and says when it looked.

Free cores are counted from what an operator set aside (isolcpus, or `fleet.headroom-cpus`), never guessed from cores
that happen to be idle: those are guests'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ovs_keepalive.core.fleet import NO_HEADROOM, Headroom
from ovs_keepalive.core.model import State

FULL = 70  # percent busy; PMDs below it on average could poll more
MUCH = 4.0  # cores to spare: who has so many waits for nobody
OVERLOADED = 95.0  # percent busy, as pmd-auto-lb-load-threshold has it by default …
CALM = 80.0  # … until it is below that
LASTING = 60.0  # seconds that either has to last


class Load(NamedTuple):
    """One PMD thread, of the node document and of vswitchd's counters."""

    core: int
    numa: int  # -1: not known
    state: str  # core.model.State
    busy: float | None = None  # percent of its cycles since the look before; None: not looked, or the first look
    isolated: bool = False  # it takes no rxq that is not pinned to it
    drops: int | None = None  # packets that its ports have dropped on receive so far; None: nobody counts them


class Site(NamedTuple):
    """The cores of a host."""

    numa: Mapping[int, int]  # NUMA node of each CPU that is online
    offered: frozenset[int]  # that are set aside for PMDs
    mask: frozenset[int] | None = None  # pmd-cpu-mask; None: not set, Open vSwitch chooses
    reserve: int = 0  # cores that stay free on each NUMA node, whoever asks


def used_cores(site: Site, loads: Iterable[Load]) -> frozenset[int]:
    """Those of pmd-cpu-mask, and those of PMDs that there are."""
    return (site.mask or frozenset()) | {load.core for load in loads}


def free_cores(site: Site, used: Collection[int], promised: Mapping[int, int]) -> dict[int, int]:
    """Of each NUMA node with offered cores, how many are free. promised: cores a NUMA node that claims hold."""
    free: dict[int, int] = {}
    for cpu in site.offered & site.numa.keys():
        node = site.numa[cpu]
        free[node] = free.get(node, 0) + (cpu not in used)
    return {node: max(0, cores - site.reserve - promised.get(node, 0)) for node, cores in sorted(free.items())}


def mean_busy(loads: Iterable[Load]) -> dict[int, int]:
    """Percent, of each NUMA node one of whose PMDs is known to be busy or not."""
    known: dict[int, list[float]] = {}
    for load in loads:
        if load.busy is not None and load.numa >= 0:
            known.setdefault(load.numa, []).append(load.busy)
    return {node: round(sum(busy) / len(busy)) for node, busy in sorted(known.items())}


def headroom(site: Site, loads: Sequence[Load], promised: Mapping[int, int], *, fit: bool) -> Headroom:
    """What the node could take over. fit: it is well, and asks for no help itself.

    Nothing where every PMD is isolated: no rxq of others would ever be given to one.
    """
    if not fit or not loads or all(load.isolated for load in loads):
        return NO_HEADROOM
    return Headroom(free_cores(site, used_cores(site, loads), promised), mean_busy(loads))


def place(spare: Headroom, promised: Mapping[int, int]) -> int | None:
    """The NUMA node that a claim would go to; None: there is no room.

    A free core, where the PMDs have least to do; without one on any node, PMDs that could poll more, and then one
    claim at a time on a node. PMDs of which nobody knows how busy they are have no room.
    """
    busy = spare.busy
    cores = [(busy.get(node, 0), -free, node) for node, free in spare.cores.items() if free > 0]
    idle = [(share, 0, node) for node, share in busy.items() if share < FULL and not promised.get(node, 0)]
    return min(cores or idle, default=(0, 0, None))[2]


def room(spare: Headroom) -> float:
    """How much a node could take over, in cores: what is free, and what its PMDs have left below FULL percent."""
    return sum(spare.cores.values()) + sum(max(0, FULL - busy) / 100 for busy in spare.busy.values())


def fraction(spare: Headroom) -> float:
    """How much room there is, 0 to 1, by which those who could claim take turns."""
    return min(1.0, room(spare) / MUCH)


class Burden(NamedTuple):
    """What is remembered of one PMD's load. Times: monotonic seconds."""

    overloaded: bool = False
    since: float | None = None  # when what would change that began; None: it is not so now
    drops: int = 0  # as they stood then


class Strain(NamedTuple):
    """What is remembered of all PMDs, by core."""

    burdens: Mapping[int, Burden] = {}

    @property
    def overloaded(self) -> tuple[int, ...]:
        """The cores whose PMDs are."""
        return tuple(sorted(core for core, burden in self.burdens.items() if burden.overloaded))


def after(strain: Strain, loads: Iterable[Load], now: float) -> Strain:
    """What one more look adds. A PMD that left is forgotten."""
    return Strain({load.core: _burden(strain.burdens.get(load.core, Burden()), load, now) for load in loads})


def _burden(was: Burden, load: Load, now: float) -> Burden:
    """A PMD is overloaded after a minute of 95 % or more in which packets were dropped; until a minute below 80 %.

    A look that brought nothing proves neither: the minute begins anew. So does a count of drops that fell.
    """
    busy, drops = load.busy, load.drops
    if was.overloaded:
        if busy is None or busy >= CALM:
            return was._replace(since=None)
        since = now if was.since is None else was.since
        return Burden() if now - since >= LASTING else was._replace(since=since)
    if busy is None or drops is None or busy < OVERLOADED or load.state not in (State.ALIVE, State.SLEEP):
        return Burden()
    if was.since is None or drops < was.drops:
        return Burden(since=now, drops=drops)
    return Burden(overloaded=True) if now - was.since >= LASTING and drops > was.drops else was
