# SPDX-License-Identifier: Apache-2.0
"""What is counted of each PMD for as long as the daemon runs, by its name: the thread that bears it may be another one.

Counted from the history, which costs nothing while there is no news. A snapshot's history has the last 500 transitions
(heartbeat.HISTORY): of more in one snapshot the oldest are not counted. Nothing ever goes backwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core.model import BAD, Transition

# vswitchd gives a PMD another name each time it makes it anew, and begins with the same ones after a restart. Of names
# that no PMD bears now so many are remembered, or as many as are borne, if that is more.
ABSENT = 128


class Counted(NamedTuple):
    """What one PMD, by name, has gone through."""

    misses: int = 0  # times it left UNUSED, ALIVE or SLEEP for MISSING, DEAD or GONE
    transitions: Mapping[tuple[str, str], int] = {}  # by the state it went to, and the cause


NOTHING = Counted()

Line = tuple[str, int, tuple[tuple[str, str, int], ...]]  # name, misses, and how often it went to a state for a cause


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
    gone = [name for name in grown if name not in present]
    for name in gone[: max(0, len(gone) - max(ABSENT, len(present)))]:
        del grown[name]
    return grown


def flat(ledger: Mapping[str, Counted]) -> tuple[Line, ...]:
    """The ledger as it is written down."""
    return tuple(
        (name, one.misses, tuple((state, cause, number) for (state, cause), number in one.transitions.items()))
        for name, one in ledger.items()
    )


def unfolded(lines: Iterable[Line]) -> Mapping[str, Counted]:
    """The ledger that was written down."""
    return {
        name: Counted(misses, {(state, cause): number for state, cause, number in transitions})
        for name, misses, transitions in lines
    }
