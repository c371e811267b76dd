# SPDX-License-Identifier: Apache-2.0
"""Tunnels: what a node says of its own, and the matrix of the fleet: which hosts cannot reach each other by them.

Laws. 1. Only BFD and CFM tell whether packets pass; without either an end is SILENT, and nothing is guessed from it.
2. A session that somebody took down (`admin_down`) proves nothing of the path, and neither does what a vswitchd wrote
that runs no more: OVSDB keeps it. 3. A pair is judged by both ends; what a host said that has no session with the store
any more counts for nothing: it is UNSEEN. 4. One end that says DOWN is enough: a pair needs both ways. 5. An address
that two hosts claim is neither's, unless only one of them has a session: then it is that one's.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.fleet import Tunnel
from ovs_keepalive.core.interfaces import TUNNELS, Interface

MOST = 256  # tunnels that a node tells of: of more it keeps those that are not well, since a znode holds 64 KiB
FLOW = "flow"  # the remote of a tunnel that leads wherever a flow says: to no one host
LONGEST_NAME, LONGEST_WORD = 253, 64  # characters that a document of the fleet takes


class End(StrEnum):
    """What one end of a tunnel says of it."""

    UP = "UP"
    DOWN = "DOWN"
    SILENT = "SILENT"  # the tunnel is there, and nothing watches it
    ABSENT = "ABSENT"  # the host is seen, and has no such tunnel
    UNSEEN = "UNSEEN"  # the host has no session


class Reach(StrEnum):
    """Whether packets pass between two hosts."""

    UP = "UP"
    DOWN = "DOWN"
    UNKNOWN = "UNKNOWN"


class View(StrEnum):
    """How many ends say so."""

    AGREED = "agreed"  # both say the same
    DIFFER = "differ"  # one says UP, the other DOWN
    ONE_SIDED = "one-sided"  # only one says anything
    NOBODY = "nobody"  # neither does


# Of the two ends, whichever is which. A link exists where one has a tunnel: UP, DOWN or SILENT.
TABLE: Mapping[tuple[End, End], tuple[Reach, View]] = {
    (End.UP, End.UP): (Reach.UP, View.AGREED),
    (End.UP, End.DOWN): (Reach.DOWN, View.DIFFER),
    (End.UP, End.SILENT): (Reach.UP, View.ONE_SIDED),
    (End.UP, End.ABSENT): (Reach.UP, View.ONE_SIDED),
    (End.UP, End.UNSEEN): (Reach.UP, View.ONE_SIDED),
    (End.DOWN, End.DOWN): (Reach.DOWN, View.AGREED),
    (End.DOWN, End.SILENT): (Reach.DOWN, View.ONE_SIDED),
    (End.DOWN, End.ABSENT): (Reach.DOWN, View.ONE_SIDED),
    (End.DOWN, End.UNSEEN): (Reach.DOWN, View.ONE_SIDED),
    (End.SILENT, End.SILENT): (Reach.UNKNOWN, View.NOBODY),
    (End.SILENT, End.ABSENT): (Reach.UNKNOWN, View.NOBODY),
    (End.SILENT, End.UNSEEN): (Reach.UNKNOWN, View.NOBODY),
}


class Host(NamedTuple):
    """A member of the fleet, as the matrix needs it."""

    seen: bool  # it has a session: what it says is true now
    address: str  # under which the others reach it; "" if it does not say
    tunnels: tuple[Tunnel, ...]


class Link(NamedTuple):
    """A pair of hosts, by the tunnels of one kind between them."""

    a: str  # the hosts, in the order of their names
    b: str
    kind: str
    reach: Reach
    view: View
    says_a: End
    says_b: End
    since_ms: int  # when the last of the ends that tell anything began to say so; epoch ms, 0 if none does


class Matrix(NamedTuple):
    """All pairs between which somebody has a tunnel. Whoever is in no link has none."""

    links: tuple[Link, ...]  # by reach, the worst first, then by names
    strangers: Mapping[str, int]  # host -> its tunnels to addresses of no member, or of more than one


# --- a node's own ------------------------------------------------------------------------------------------------


def own(
    interfaces: Iterable[Interface], before: Iterable[Tunnel], wall_ms: int, *, vouched: bool = True
) -> tuple[Tunnel, ...]:
    """The tunnels among them, by name. before: as they were told last, for when each began to say what it says.

    vouched: vswitchd runs, and answers: what it wrote holds.
    """
    told = {one.name: one for one in before}
    found = []
    for one in interfaces:
        if one.type not in TUNNELS or not one.bridge:
            continue
        now = _tunnel(one if vouched else one._replace(bfd_status={}, cfm_fault=None, error="", ofport=None), wall_ms)
        was = told.get(one.name)
        same = was is not None and (was.kind, was.remote, says(was)) == (now.kind, now.remote, says(now))
        found.append(now._replace(since_ms=was.since_ms) if was is not None and same else now)
    return tuple(sorted(found, key=lambda tunnel: tunnel.name))


def fitting(tunnels: tuple[Tunnel, ...], most: int = MOST) -> tuple[Tunnel, ...]:
    """As many as a node may tell of, those first that are down, then those that nothing watches; by name again."""
    if len(tunnels) <= most:
        return tunnels
    order = (End.DOWN, End.SILENT, End.UP)
    chosen = sorted(tunnels, key=lambda tunnel: (order.index(says(tunnel)), tunnel.name))[:most]
    return tuple(sorted(chosen, key=lambda tunnel: tunnel.name))


def says(tunnel: Tunnel) -> End:
    """What this end says of it. Never ABSENT or UNSEEN."""
    if tunnel.cfm_fault or (tunnel.bfd in ("down", "init") and tunnel.bfd_remote != "admin_down"):
        return End.DOWN
    return End.UP if tunnel.bfd == "up" or (tunnel.bfd is None and tunnel.cfm_fault is False) else End.SILENT


def _tunnel(one: Interface, wall_ms: int) -> Tunnel:
    watched = one.bfd.get("enable") == "true"
    state = one.bfd_status.get("state", "")[:LONGEST_WORD]
    if one.error or one.ofport == -1:
        state = "down"  # vswitchd could not make the port: there is no session, and no packet passes
    return Tunnel(
        name=one.name[:LONGEST_NAME],
        kind=one.type,
        local=address(one.options.get("local_ip", "")),
        remote=address(one.options.get("remote_ip", "")) or FLOW,
        bfd=state if watched else None,
        bfd_remote=one.bfd_status.get("remote_state", "")[:LONGEST_WORD] if watched else None,
        cfm_fault=one.cfm_fault,
        since_ms=wall_ms,
    )


def address(text: str) -> str:
    """An address in its one canonical form; "" for anything else, and for one that only this host understands."""
    try:
        return "" if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return ""


# --- the fleet's -------------------------------------------------------------------------------------------------


def matrix(hosts: Mapping[str, Host]) -> Matrix:
    """What all hosts say of each other, by name."""
    owner = _owners(hosts)
    told: dict[tuple[str, str, str], _Told] = {}
    strangers: dict[str, int] = {}
    for host, member in hosts.items():
        for tunnel in member.tunnels if member.seen else ():
            other = owner.get(tunnel.remote, host)
            if other != host:
                second = host > other
                pair = (other, host, tunnel.kind) if second else (host, other, tunnel.kind)
                told[pair] = _more(told.get(pair, _NOTHING), tunnel, second=second)
            elif tunnel.remote != FLOW and owner.get(tunnel.remote) is None:
                strangers[host] = strangers.get(host, 0) + 1
    links = [_link(pair, hosts, one) for pair, one in told.items()]
    links.sort(key=lambda link: (_WORST[link.reach], link[:3]))
    return Matrix(tuple(links), strangers)


def _owners(hosts: Mapping[str, Host]) -> dict[str, str]:
    """Whose each address is: what a host says it has, and what its own tunnels leave from."""
    claims: dict[str, set[str]] = defaultdict(set)
    for host, member in hosts.items():
        locals_ = {tunnel.local for tunnel in member.tunnels}
        for one in {address(member.address), *locals_} - {""}:
            claims[one].add(host)
    # What a host said that is gone takes nothing from one that is there: it may have its address by now.
    able = {one: {host for host in claimed if hosts[host].seen} or claimed for one, claimed in claims.items()}
    return {one: min(claimed) for one, claimed in able.items() if len(claimed) == 1}


class _Told(NamedTuple):
    """What the two ends said of a link so far."""

    a: End | None
    b: End | None
    since_ms: int


_NOTHING = _Told(None, None, 0)
_WORST = {Reach.DOWN: 0, Reach.UNKNOWN: 1, Reach.UP: 2}
# Of several tunnels to the same host (keys, ports) the worst counts: somebody's packets take it.
_LOUDEST = {None: 0, End.SILENT: 1, End.UP: 2, End.DOWN: 3}


def _more(told: _Told, tunnel: Tunnel, *, second: bool) -> _Told:
    """With one more tunnel. second: it is b's."""
    end = says(tunnel)
    since = max(told.since_ms, tunnel.since_ms) if end is not End.SILENT else told.since_ms
    if _LOUDEST[end] <= _LOUDEST[told.b if second else told.a]:
        end = (told.b if second else told.a) or end
    return _Told(told.a, end, since) if second else _Told(end, told.b, since)


def _link(pair: tuple[str, str, str], hosts: Mapping[str, Host], told: _Told) -> Link:
    first = told.a or (End.ABSENT if hosts[pair[0]].seen else End.UNSEEN)
    second = told.b or (End.ABSENT if hosts[pair[1]].seen else End.UNSEEN)
    reach, view = TABLE.get((first, second)) or TABLE[second, first]
    return Link(*pair, reach, view, first, second, told.since_ms)
