# SPDX-License-Identifier: Apache-2.0
"""The node document as a viewer reads it: what it needs, with its types; more may be in it."""

from __future__ import annotations

from typing import Any

import msgspec

from ovs_keepalive.core.model import Cause


class Shares(msgspec.Struct):
    """How a PMD spent its iterations: parts, 0 … 1."""

    busy: float | None = None
    idle: float | None = None
    sleep: float | None = None


class Pmd(msgspec.Struct):
    """A PMD thread."""

    name: str
    core: int
    state: str
    cause: str
    witness: str
    age_ms: float | None  # since its last observed progress; None: never seen
    rxqs: list[str] | None  # "port/queue"
    shares: Shares | None

    @property
    def is_ill(self) -> bool:
        """Whether there is a cause to tell."""
        return self.cause != Cause.NONE


class Vswitchd(msgspec.Struct):
    """The process that is watched."""

    state: str
    pid: int | None
    silent_ms: float
    witness: str
    culprit: str | None
    warnings: list[str]


class Transition(msgspec.Struct):
    """A change of state."""

    at: int  # epoch ms
    who: str
    old: str = msgspec.field(name="from")
    new: str = msgspec.field(name="to")
    cause: str
    evidence: str


class Node(msgspec.Struct):
    """What `show --watch` shows."""

    enabled: bool
    health: str
    summary: str
    at: int  # epoch ms of the newest look
    sequence: int
    effective_interval_ms: float
    vswitchd: Vswitchd
    pmds: list[Pmd]
    blind: list[str]
    transitions: list[Transition]  # newest last
    age_ms: float = 0.0  # of that look; not told by every version


def read(document: Any) -> Node:
    """The document of a daemon, which may be of another version. Raises ValueError."""
    return msgspec.convert(document, Node)


def news(before: list[Transition] | None, now: list[Transition]) -> list[Transition]:
    """Those that are not in the list seen before; all of them after a restart of the daemon, none at the first look."""
    if before is None:
        return []
    last = before[-1] if before else None
    for place in range(len(now), 0, -1):
        if now[place - 1] == last:
            return now[place:]
    return now
