# SPDX-License-Identifier: Apache-2.0
"""The fleet as a viewer sees it: each host in one word, worst first, cell by cell, and what has changed.

All here is frozen, and what has not changed stays the same object: of 10,000 hosts only those that changed are looked
at a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.fleet import RANK, Cell, Claim, Help, HostState, Member, Sighting
from ovs_keepalive.core.model import BAD, NEVER, Moment

UNTOLD = 0  # a time that nobody knows

Key = tuple[str, str]  # cell and host: a name is one host's in its cell only


class Sight(NamedTuple):
    """What is seen of one host."""

    cell: str
    host: str
    state: HostState
    since: int  # epoch ms, of the state; UNTOLD of a host that was GONE before anybody looked
    written: int  # epoch ms by the store's clock: its newest sign of life
    member: Member | None  # what it said last; None: nothing that could be read
    first: int = UNTOLD  # epoch ms, of its first joining
    flaw: str = ""  # why what it says cannot be read
    found: Sighting | None = None  # of which all this was made

    @property
    def key(self) -> Key:
        """By which it is told from all others."""
        return self.cell, self.host

    @property
    def why(self) -> str:
        """The worst of it, in words."""
        if self.flaw:
            return f"cannot be read: {self.flaw}"
        said = self.member.why if self.member is not None else ""
        if self.state is not HostState.GONE:
            return said
        last = self.member.state if self.member is not None else "never heard"
        return f"no session; its last word was {last}" + (f": {said}" if said else "")


class RequestState(StrEnum):
    """How far a request for help is."""

    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    STUCK = "STUCK"


class Request(NamedTuple):
    """A request for help, with whoever has claimed it."""

    cell: str
    help: Help
    claim: Claim | None = None

    @property
    def state(self) -> RequestState:
        """A claim that runs goes before the count of those that failed."""
        if self.claim is not None:
            return RequestState.CLAIMED
        return RequestState.STUCK if self.help.is_stuck else RequestState.OPEN


class Store(NamedTuple):
    """The link to ZooKeeper."""

    state: str  # CONNECTED, SUSPENDED, LOST
    why: str = ""


class Fleet(NamedTuple):
    """All that is known at one moment."""

    store: Store
    read: Moment = NEVER  # when the cell was read that was read longest ago
    sights: Mapping[Key, Sight] = {}
    requests: tuple[Request, ...] = ()
    problems: tuple[str, ...] = ()  # a line for each request that cannot be read


class Change(NamedTuple):
    """What one picture has that the one before had not."""

    hosts: tuple[Sight, ...] = ()
    forgotten: tuple[Key, ...] = ()
    requests: bool = False  # also those that cannot be read
    urgent: bool = False  # a state, a request or the store: no mere number

    def __bool__(self) -> bool:
        return bool(self.hosts or self.forgotten or self.requests or self.urgent)


class Event(NamedTuple):
    """A line of the log."""

    at: int  # epoch ms
    cell: str  # "" of the store
    who: str
    old: str
    new: str
    why: str = ""


class Glance(NamedTuple):
    """One cell in one word."""

    name: str
    counts: Mapping[HostState, int]  # worst first; those that there are
    worst: HostState


def sight(cell: str, found: Sighting, before: Sight | None, now_ms: int) -> Sight:
    """What is seen of a host; before: what was seen of it last.

    Without a session it is GONE since that was noticed, and keeps what it said last. One whose document cannot be read
    is UNKNOWN since that was noticed.
    """
    if before is not None and before.found is found:
        return before
    first = found.known.first_ms if found.known is not None else before.first if before is not None else UNTOLD
    if found.live is not None:
        return Sight(cell, found.host, found.state, found.live.since, found.told_ms, found.live, first, "", found)
    heard = [found.known.last] if found.known is not None else []
    written = found.told_ms or (found.known.last_ms if found.known is not None else UNTOLD)
    since = UNTOLD if found.state is HostState.GONE else now_ms
    if before is not None:
        heard += [before.member] if before.member is not None else []
        since = before.since if (before.state, before.flaw) == (found.state, found.problem) else now_ms
        written = found.told_ms or before.written
    # A change may have come between two looks; then the record of it is newer than what was seen.
    last = max(heard, key=lambda said: said.t, default=None)
    return Sight(cell, found.host, found.state, since, written, last, first, found.problem, found)


def picture(cells: Iterable[Cell], store: Store, read: Moment, before: Fleet, now_ms: int) -> Fleet:
    """What the store's cells amount to; before: the picture before it."""
    sights: dict[Key, Sight] = {}
    requests: list[Request] = []
    problems: list[str] = []
    for cell in cells:
        for host, found in cell.hosts.items():
            sights[cell.name, host] = sight(cell.name, found, before.sights.get((cell.name, host)), now_ms)
        requests += (Request(cell.name, asked.help, asked.claim) for _, asked in sorted(cell.requests.items()))
        problems += (f"{cell.name}: {problem}" for problem in cell.problems)
    same = len(sights) == len(before.sights) and all(before.sights.get(key) is one for key, one in sights.items())
    return Fleet(store, read, before.sights if same else sights, tuple(requests), tuple(problems))


def counts(sights: Iterable[Sight]) -> dict[HostState, int]:
    """How many are in each state that there is; worst first."""
    counted = Counter(one.state for one in sights)
    return {state: counted[state] for state in sorted(counted, key=RANK.__getitem__, reverse=True)}


def cells(sights: Iterable[Sight]) -> tuple[Glance, ...]:
    """Each cell, by name."""
    members: dict[str, list[Sight]] = {}
    for one in sights:
        members.setdefault(one.cell, []).append(one)
    counted = ((name, counts(members[name])) for name in sorted(members))
    return tuple(Glance(name, states, next(iter(states))) for name, states in counted)


def worst_first(sights: Iterable[Sight]) -> list[Sight]:
    """The worst, of these the newest: it is what somebody has to look at."""
    return sorted(sights, key=lambda one: (-RANK[one.state], -one.since, one.key))


def failed_pmds(member: Member) -> int:
    """How many of its PMD threads are MISSING, DEAD or GONE."""
    return sum(pmd.state in BAD for pmd in member.pmds)


def busiest(member: Member) -> int | None:
    """Percent, of the PMD thread that has most to do; None: of none it is known."""
    return max((pmd.busy for pmd in member.pmds if pmd.busy is not None), default=None)


def free_cores(member: Member) -> int:
    """That it could give, on all its NUMA nodes."""
    return sum(member.headroom.cores.values())


def change(before: Fleet, after: Fleet) -> Change:
    """What a viewer of `before` has to be told to know `after`."""
    pairs = list(_changed(before, after))
    forgotten = tuple(key for key in before.sights if key not in after.sights)
    requests = (before.requests, before.problems) != (after.requests, after.problems)
    urgent = (
        bool(forgotten) or requests or before.store != after.store or any(_is_urgent(was, now) for was, now in pairs)
    )
    return Change(tuple(now for _, now in pairs), forgotten, requests, urgent)


def _changed(before: Fleet, after: Fleet) -> Iterator[tuple[Sight | None, Sight]]:
    if before.sights is after.sights:
        return
    for key, now in after.sights.items():
        was = before.sights.get(key)
        if was is not now and was != now:
            yield was, now


def _is_urgent(was: Sight | None, now: Sight) -> bool:
    return was is None or (was.state, was.since) != (now.state, now.since)


def events(before: Fleet, after: Fleet, at_ms: int) -> tuple[Event, ...]:
    """What happened in between, for the log; the worst comes last, as if it were the newest: it is read first."""
    found = []
    if before.store != after.store:
        found.append(Event(at_ms, "", "store", before.store.state, after.store.state, after.store.why))
    lost = [key for key in before.sights if key not in after.sights]
    found += [Event(at_ms, *key, before.sights[key].state, "forgotten") for key in lost]
    moved = [(was, now) for was, now in _changed(before, after) if was is None or was.state is not now.state]
    for was, now in sorted(moved, key=lambda pair: RANK[pair[1].state]):
        found.append(Event(at_ms, *now.key, was.state if was is not None else "new", now.state, now.why))
    return (*found, *_of_requests(before.requests, after.requests, at_ms))


def _of_requests(before: Iterable[Request], after: Iterable[Request], at_ms: int) -> Iterator[Event]:
    old = {(one.cell, one.help.id): one for one in before}
    new = {(one.cell, one.help.id): one for one in after}
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        stood, stands = (one.state if one is not None else "none" for one in (was, now))
        if stood != stands:
            claim = now.claim if now is not None else None
            why = f"by {claim.by}" if claim is not None else now.help.last or now.help.why if now is not None else ""
            yield Event(at_ms, key[0], f"help {key[1]}", str(stood), str(stands), why)


def waits(before: Fleet, after: Fleet) -> list[float]:
    """Seconds for which each request waited that was claimed in between."""
    old = {(one.cell, one.help.id, one.claim.tok) for one in before.requests if one.claim is not None}
    return [
        max(0, one.claim.t - one.help.t) / 1000
        for one in after.requests
        if one.claim is not None and (one.cell, one.help.id, one.claim.tok) not in old
    ]
