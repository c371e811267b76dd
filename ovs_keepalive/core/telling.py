# SPDX-License-Identifier: Apache-2.0
"""When a node tells the fleet of itself: a change at once, numbers seldom, and never all nodes at the same time."""

from __future__ import annotations

from typing import Any, NamedTuple

from ovs_keepalive.core.fleet import RANK, HostState, Member
from ovs_keepalive.core.model import State

GAP = 1.0  # seconds at least between two tellings, unless it gets worse: what changes in between is told together
REFRESH = 30.0  # seconds after which numbers are told anew
SPREAD = 0.2  # the part of that by which it varies
BACK = 2.0  # seconds within which a node that has a connection again waits before it tells


class Told(NamedTuple):
    """The newest telling. Times are monotonic seconds."""

    at: float
    session: int
    state: HostState
    gist: tuple[Any, ...]
    again: float  # when numbers are due


def gist(member: Member) -> tuple[Any, ...]:
    """All of it that is worth a telling of its own: no number that moves while nothing happens."""
    pmds = tuple((pmd.core, pmd.numa, settled(pmd.state), pmd.rxqs) for pmd in member.pmds)
    cores, services = (tuple(sorted(one.items())) for one in (member.headroom.cores, member.services))
    told = (member.host, member.boot, member.state, member.since, member.why, member.address, member.ver)
    return (*told, pmds, cores, services, member.tunnels)


def settled(state: str) -> str:
    """The state of a PMD, for whether it changed: SLEEP comes and goes with the load, and is no transition."""
    return State.ALIVE if state == State.SLEEP else state


def told(member: Member, session: int, now: float, chance: float, refresh: float = REFRESH) -> Told:
    """What to remember of a telling. chance: 0 … 1, another one each time."""
    return Told(now, session, member.state, gist(member), now + refresh * (1 + SPREAD * (chance - 0.5)))


def is_due(last: Told | None, member: Member, session: int, now: float) -> bool:
    """Whether to tell it now. session: the one there is; another one knows nothing yet.

    What gets worse is told at once, or MISSING would hold back the DEAD that follows it.
    """
    if last is None or last.session != session or RANK[member.state] > RANK[last.state]:
        return True
    return now >= last.again or (gist(member) != last.gist and now - last.at >= GAP)


def pause(chance: float, hosts: int) -> float:
    """Seconds to wait after a connection came back, so that a fleet does not come at once. hosts: of the cell."""
    return BACK * chance * max(1.0, hosts / 1000)
