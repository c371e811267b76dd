# SPDX-License-Identifier: Apache-2.0
"""What is counted of each PMD for as long as the daemon runs, by its name: the thread that bears it may be another one.

Counted from the history, which costs nothing while there is no news. A snapshot's history has the last 500 transitions
(heartbeat.HISTORY): of more in one snapshot the oldest are not counted. Nothing ever goes backwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core.model import BAD, Transition

NAMES = 4096  # remembered: vswitchd gives a PMD another name each time it makes it anew


class Counted(NamedTuple):
    """What one PMD, by name, has gone through."""

    misses: int = 0  # times it left UNUSED, ALIVE or SLEEP for MISSING, DEAD or GONE
    transitions: Mapping[tuple[str, str], int] = {}  # by the state it went to, and the cause


NOTHING = Counted()


def counted(
    ledger: Mapping[str, Counted], news: Iterable[Transition], present: Collection[str]
) -> Mapping[str, Counted]:
    """The ledger with these transitions too; the one given is left as it is. present: names not to be forgotten."""
    grown = dict(ledger)
    for transition in news:
        was = grown.pop(transition.who, NOTHING)  # what changed last comes last
        key = (transition.new, transition.cause)
        missed = transition.old not in BAD and transition.new in BAD
        transitions = {**was.transitions, key: was.transitions.get(key, 0) + 1}
        grown[transition.who] = Counted(was.misses + missed, transitions)
    if len(grown) > NAMES:
        gone = [name for name in grown if name not in present]
        for name in gone[: len(grown) - NAMES]:
            del grown[name]
    return grown
