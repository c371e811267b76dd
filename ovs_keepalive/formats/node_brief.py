# SPDX-License-Identifier: Apache-2.0
"""The node document as the fleet's agent reads it: what of it a host tells the others. More may be in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ovs_keepalive.core.fleet import OWN_WORDS, HostState, PmdBrief
from ovs_keepalive.core.model import Cause, State, VswitchdState


class _Shares(msgspec.Struct):
    busy: float | None = None


class _Pmd(msgspec.Struct):
    core: int
    state: str
    since: int
    cause: str
    cause_since: int
    missed_heartbeats: int
    numa: int | None = None
    iterations: int | None = None
    rxqs: list[str] | None = None
    shares: _Shares | None = None


class _Vswitchd(msgspec.Struct):
    state: str
    since: int


class _Node(msgspec.Struct):
    enabled: bool
    health: str
    summary: str
    at: int
    vswitchd: _Vswitchd
    pmds: list[_Pmd]
    age_ms: float = 0.0  # not told by every version


class Polled(NamedTuple):
    """A PMD thread, and the ports that it polls."""

    brief: PmdBrief
    ports: frozenset[str]


class Brief(NamedTuple):
    """A node in short."""

    state: HostState
    since: int  # epoch ms; of the state, as far as one answer can tell
    why: str  # "" while it is well
    pmds: tuple[Polled, ...]
    vswitchd: str = ""  # core.model.VswitchdState, or a later version's; "": not known
    age: float = 0.0  # seconds since the daemon's newest look


def silent(why: str, since: int) -> Brief:
    """A node whose daemon does not answer: nothing is known of it. since: epoch ms."""
    return Brief(HostState.UNKNOWN, since, why, ())


def read(text: str) -> Brief:
    """Of what a daemon answers, which may be of another version. Raises ValueError."""
    try:
        node = msgspec.json.decode(text, type=_Node)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    state = HostState(node.health) if node.health in OWN_WORDS else HostState.UNKNOWN
    quiet = state in (HostState.WELL, HostState.DISABLED)
    vswitchd = node.vswitchd.state if node.enabled else ""  # nobody looks while it is disabled
    why, pmds = "" if quiet else node.summary, tuple(map(_polled, node.pmds))
    return Brief(state, _since(node, state), why, pmds, vswitchd, node.age_ms / 1000)


def with_busy(polled: Polled, shares: Mapping[int, float]) -> PmdBrief:
    """The same with the share of its cycles, where that is known. shares: percent, by core."""
    share = shares.get(polled.brief.core)
    return polled.brief if share is None else polled.brief._replace(busy=_percent(share))


def _polled(pmd: _Pmd) -> Polled:
    busy = None if pmd.shares is None or pmd.shares.busy is None else _percent(100 * pmd.shares.busy)
    rxqs = pmd.rxqs or []
    ports = frozenset(rxq.rpartition("/")[0] for rxq in rxqs)
    numa = pmd.numa if pmd.numa is not None and pmd.numa >= 0 else None
    brief = PmdBrief(pmd.core, numa, pmd.state, busy, len(rxqs), pmd.iterations, pmd.missed_heartbeats)
    return Polled(brief, ports)


def _percent(share: float) -> int:
    return round(min(100.0, max(0.0, share)))


def _since(node: _Node, state: HostState) -> int:
    """Of a failure: when the first of what failed did; of anything else: when the last change was."""
    failed = [pmd.since for pmd in node.pmds if pmd.state in (State.DEAD, State.GONE)]
    if node.vswitchd.state != VswitchdState.RUNNING:
        failed.append(node.vswitchd.since)
    if state is HostState.FAILURE and failed:
        return min(failed)
    changes = [node.vswitchd.since, *(pmd.since for pmd in node.pmds)]
    changes += [pmd.cause_since for pmd in node.pmds if pmd.cause != Cause.NONE]
    return max(changes, default=node.at)
