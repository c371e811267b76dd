# SPDX-License-Identifier: Apache-2.0
"""Members of a fleet as tests need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovs_keepalive.core.fleet import Claim, Done, Headroom, Held, Help, HostState, Known, Member, PmdBrief, Tunnel
from ovs_keepalive.core.tunnels import Host, Matrix, matrix
from ovs_keepalive.fleet.claims import Claims

T = 1795238339792  # epoch ms
HOST = "node-07"


def member(host: str = HOST, **fields: Any) -> Member:
    """A node with a PMD that is well and one that is not."""
    given: dict[str, Any] = {
        "seq": 7,
        "t": T,
        "boot": "5f4a",
        "state": HostState.FAILURE,
        "since": T - 900,
        "why": "pmd-c02/id:9 is DEAD: traced",
        "pmds": (PmdBrief(1, 0, "ALIVE", 41, 2, 812_345, 0), PmdBrief(2, None, "DEAD", None, 1, None, 1)),
        "headroom": Headroom({0: 2, 1: 0}, {0: 41, 1: 7}),
        "tunnels": (Tunnel("vx-a", "vxlan", "10.0.0.1", "10.0.0.2", "up", "down", False, T),),
        "services": {"dns": 4711},
        "address": "10.0.0.1",
        "ver": "0.1.0",
    }
    return Member(host, **{**given, **fields})


def help_of(host: str = HOST, **fields: Any) -> Help:
    """A request that was tried once."""
    return Help(host, **{"kind": "pmd-dead", "why": "pmd-c02/id:9 is DEAD", "t": T, "n": 1, "by": "node-09", **fields})


KNOWN = Known(T - 10_000, T, member())
CLAIM = Claim("node-09", "0123456789abcdef", T)
DONE = Done(HOST, "pmd-dead", "dead", T, 1, "node-09", "0123456789abcdef", 1, T + 9, "offered: numa 0, 2 cores")


def of_fleet(live: Mapping[str, Member], known: Mapping[str, Known]) -> Matrix:
    """The matrix of the members that have a session, and of those that are known from before."""
    gone = {host: Host(False, one.last.address, one.last.tunnels) for host, one in known.items() if host not in live}
    return matrix({**gone, **{host: Host(True, one.address, one.tunnels) for host, one in live.items()}})


def is_held(claims: Claims, held: Held) -> bool:
    """Whether a claim is still that host's."""
    now = claims.resolve(held.help.id, held.tok)
    return now is not None and now.fence == held.fence
