# SPDX-License-Identifier: Apache-2.0
"""When an incident begins and ends: from the first DEAD, HUNG, GONE or CRASH-LOOP until all is well again.

A second PMD that fails meanwhile belongs to the same incident. A restart announced or orderly (RESTARTING) is none.
"""

from __future__ import annotations

from typing import NamedTuple

from ovs_keepalive.core.model import BAD, NEVER, Moment, Snapshot, State, Transition, VswitchdState


class Watch(NamedTuple):
    """What is known of incidents between two snapshots."""

    open: bool = False
    seen: Moment = NEVER  # of the newest transition that was judged


def follow(watch: Watch, snapshot: Snapshot) -> tuple[Watch, Transition | None]:
    """The watch after this snapshot, and the transition with which an incident began since the one before."""
    new = [transition for transition in snapshot.history if transition.at > watch.seen]
    began = None if watch.open else next(filter(_is_failure, new), None)
    seen = new[-1].at if new else watch.seen
    return Watch((watch.open or began is not None) and not _is_well(snapshot), seen), began


def _is_failure(transition: Transition) -> bool:
    if transition.who == "vswitchd":
        return transition.new in (VswitchdState.HUNG, VswitchdState.GONE, VswitchdState.CRASH_LOOP)
    return transition.new in (State.DEAD, State.GONE)


def _is_well(snapshot: Snapshot) -> bool:
    """Nothing is looked at while disabled: what comes after is another incident."""
    if not snapshot.settings.enabled:
        return True
    return snapshot.vswitchd.state is VswitchdState.RUNNING and not any(pmd.state in BAD for pmd in snapshot.pmds)
