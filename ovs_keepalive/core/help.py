# SPDX-License-Identifier: Apache-2.0
"""When a node asks for help, takes that back, and whom it helps. Pure: what was remembered goes in, and comes out.

The troubled node first, locally, where its operator allows that; then one request of each kind, which a node with
headroom claims. Nothing here is done for a PMD that is DEAD but to ask: a reconfiguration would wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core import headroom
from ovs_keepalive.core.fleet import Headroom, Help
from ovs_keepalive.core.headroom import Load, Site
from ovs_keepalive.core.model import BAD, State


class Mode(StrEnum):
    """What a node does about help."""

    OFF = "off"  # it asks nobody and helps nobody
    ADVISE = "advise"  # it asks; a claim is an offer that a person or an orchestrator reads
    HOOK = "hook"  # it asks; a claim runs the operator's program
    ACT_LOCAL = "act-local"  # as advise; and an overloaded node first helps itself


class Kind(StrEnum):
    """What a node asks for help about by itself. Requests of other kinds are people's."""

    DEAD = "dead"
    OVERLOAD = "overload"


COOLDOWN = 300.0  # seconds between the end of a request and the next one of its kind
PROMISE = 600.0  # seconds for which a core that was offered counts as given away
GIVEN_BACK = 60.0  # seconds in which a request that was given back is left to others
TURN, DITHER = 1.0, 0.5  # seconds that who has least room waits, and a part of chance on top
ACT_PAUSE = 600.0  # seconds between two local acts
ACT_HELPS = 180.0  # seconds in which one may help, before others are asked


# --- asking --------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What a node remembers of its requests, by kind. Times: monotonic seconds."""

    open: frozenset[str] = frozenset()  # seen in the store, or posted
    ended: Mapping[str, float] = {}  # when the last one vanished from it


class Wishes(NamedTuple):
    """What is to be done to the node's own requests."""

    asked: Asked
    post: Mapping[str, str]  # kind -> why
    withdraw: tuple[str, ...]  # kinds


def troubles(loads: Iterable[Load], overloaded: Collection[int]) -> dict[str, str]:
    """What a node needs help about, by kind, with the reason in words."""
    stalled = [f"core {load.core} {load.state}" for load in loads if load.state in (State.DEAD, State.GONE)]
    found: dict[str, str] = {}
    if stalled:
        found[Kind.DEAD] = f"PMD on {', '.join(stalled)}"
    if overloaded:  # no percentages: a text that changes would have to be written again
        found[Kind.OVERLOAD] = f"PMD on core {', '.join(map(str, sorted(overloaded)))} too busy: packets are dropped"
    return found


def wishes(mode: Mode, asked: Asked, found: Mapping[str, str], mine: Collection[str], now: float) -> Wishes:
    """What to post and to withdraw. found: the node's troubles; mine: kinds of its requests that are in the store."""
    ours = frozenset(map(str, Kind)) & frozenset(mine)
    ended = {**asked.ended, **dict.fromkeys(asked.open - ours, now)}
    wanted = {} if mode is Mode.OFF else found
    post = {
        kind: why
        for kind, why in wanted.items()
        if kind not in ours and now - ended.get(kind, float("-inf")) >= COOLDOWN
    }
    return Wishes(Asked(ours, ended), post, tuple(sorted(kind for kind in ours if kind not in wanted)))


def posted(asked: Asked, kind: str) -> Asked:
    """The store has taken a request: if the next look does not find it, it has been answered already."""
    return asked._replace(open=asked.open | {kind})


# --- helping -------------------------------------------------------------------------------------


class Helping(NamedTuple):
    """What a node remembers of helping others. Times: monotonic seconds."""

    due: Mapping[str, float] = {}  # requests seen -> when it is this node's turn
    left: Mapping[str, float] = {}  # requests that it gave back -> when
    promised: tuple[tuple[int, float], ...] = ()  # NUMA node of each promise -> until when; infinite while it is held


def promised(helping: Helping, now: float) -> dict[int, int]:
    """How many cores of each NUMA node are promised."""
    counts: dict[int, int] = {}
    for node, until in helping.promised:
        if now < until:
            counts[node] = counts.get(node, 0) + 1
    return counts


def free_requests(requests: Iterable[Help], claims: Collection[str], host: str) -> tuple[Help, ...]:
    """Those that this host could claim, the oldest first. claims: ids of those that are taken."""
    free = (one for one in requests if one.host != host and not one.is_stuck and one.id not in claims)
    return tuple(sorted(free, key=lambda one: (one.t, one.id)))


def choose(
    helping: Helping, free: Iterable[Help], spare: Headroom, now: float, chance: float
) -> tuple[Helping, Help | None]:
    """The request to claim now, if any. free: as free_requests found them; chance: 0 to 1, drawn anew for each call.

    Each only after a wait that is the longer the less room there is: who has most comes first, and the others find
    the claim there.
    """
    left = {id for id, at in helping.left.items() if now - at < GIVEN_BACK}
    open_ones = {one.id: one for one in free if one.id not in left}
    has_room = headroom.place(spare, promised(helping, now)) is not None
    if not has_room:
        return helping._replace(due={}), None
    wait = (1.0 - headroom.fraction(spare)) * TURN + chance * DITHER
    due = {id: helping.due.get(id, now + wait) for id in open_ones}
    chosen = next((open_ones[id] for id, at in due.items() if now >= at), None)
    return helping._replace(due=due), chosen


def next_turn(helping: Helping) -> float | None:
    """When it is this node's turn; None: never."""
    return min(helping.due.values(), default=None)


def held(helping: Helping, node: int) -> Helping:
    """A claim is held: a core of that NUMA node is promised until it ends."""
    return helping._replace(promised=(*helping.promised, (node, float("inf"))))


def ended(helping: Helping, node: int, id: str, now: float, *, given_back: bool) -> Helping:
    """A claim of one's own has ended: what was offered counts as given away for a while, what was given back not."""
    promises = list(helping.promised)
    if (node, float("inf")) in promises:
        promises.remove((node, float("inf")))
    if not given_back:
        promises.append((node, now + PROMISE))
    left = {other: at for other, at in helping.left.items() if now - at < GIVEN_BACK}
    return helping._replace(
        promised=tuple((node, until) for node, until in promises if now < until),
        left={**left, id: now} if given_back else left,
        due={other: at for other, at in helping.due.items() if other != id},
    )


def offer(host: str, node: int, spare: Headroom) -> str:
    """What a claim offers, in words that a program can read too."""
    busy = f"{spare.busy[node]} %" if node in spare.busy else "unknown"
    return f"offer: host {host}, numa {node}, cores {spare.cores.get(node, 0)}, busy {busy}"


# --- helping oneself -----------------------------------------------------------------------------


class Allowed(NamedTuple):
    """Which local acts the operator allows."""

    rebalance: bool = False
    cores: frozenset[int] = frozenset()  # that pmd-cpu-mask may be given besides


class Rebalance(NamedTuple):
    """Spread the rxqs that are not pinned anew."""


class AddCore(NamedTuple):
    """Give one more core to PMDs."""

    core: int
    mask: frozenset[int]  # pmd-cpu-mask with it
    before: frozenset[int]  # as it was


Act = Rebalance | AddCore


def local_act(
    allowed: Allowed, loads: Sequence[Load], overloaded: Collection[int], site: Site, last: float | None, now: float
) -> Act | None:
    """What an overloaded node may do about it itself now; None: nothing. last: when the last act was.

    Nothing while a PMD makes no progress: the change would wait for it, and every other PMD with it. First rebalance,
    then one core a time, on a NUMA node that is overloaded; once in ten minutes. Where pmd-cpu-mask is not set Open
    vSwitch chooses the cores: that is nobody's to add to.
    """
    if not overloaded or any(load.state in BAD for load in loads):
        return None
    if last is not None and now - last < ACT_PAUSE:
        return None
    rebalanced = last is not None and now - last < 2 * ACT_PAUSE  # it was to no avail
    movable = sum(not load.isolated for load in loads) > 1
    if allowed.rebalance and movable and not rebalanced:
        return Rebalance()
    if site.mask is None:
        return None
    nodes = {load.numa for load in loads if load.core in overloaded}
    used = headroom.used_cores(site, loads)
    free = sorted(cpu for cpu in allowed.cores - used if site.numa.get(cpu) in nodes)
    return AddCore(free[0], site.mask | {free[0]}, site.mask) if free else None
