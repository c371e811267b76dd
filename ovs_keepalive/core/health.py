# SPDX-License-Identifier: Apache-2.0
"""One word for the whole node, from everything that a snapshot says."""

from __future__ import annotations

from enum import StrEnum

from ovs_keepalive.core import others
from ovs_keepalive.core.model import Cause, Snapshot, State, VswitchdState


class Health(StrEnum):
    """How the node is, as a person on call asks it."""

    WELL = "WELL"
    WARNING = "WARNING"  # it forwards, and something is not as it should be
    FAILURE = "FAILURE"  # packets are lost, or vswitchd's main thread does nothing
    RESTARTING = "RESTARTING"  # vswitchd is on its way down or up, inside its deadline
    UNKNOWN = "UNKNOWN"  # the daemon is blind to what it would have to see
    DISABLED = "DISABLED"  # nobody asked


FAILED = (VswitchdState.GONE, VswitchdState.HUNG, VswitchdState.STOPPED, VswitchdState.CRASH_LOOP)
UNDER_WAY = (VswitchdState.STARTING, VswitchdState.RESTARTING)
SIGHT = ("threads:", "iterations:", "main thread:")  # blind to these, nothing is known of a PMD's progress


def judge(snapshot: Snapshot) -> Health:
    """First match wins: what is proven bad goes before what cannot be seen, and that before what is well."""
    states = {pmd.state for pmd in snapshot.registered}
    if not snapshot.settings.enabled:
        return Health.DISABLED
    if snapshot.vswitchd.state in FAILED or states & {State.DEAD, State.GONE}:
        return Health.FAILURE
    is_blind = any(line.startswith(SIGHT) for line in snapshot.blind)
    # One that was found and never asked, with no deadline running: it may be as old as the host.
    is_strange = is_blind and snapshot.vswitchd.state is VswitchdState.STARTING and snapshot.vswitchd.deadline is None
    if snapshot.vswitchd.state in UNDER_WAY and not is_strange:
        return Health.RESTARTING
    if is_blind:
        return Health.UNKNOWN
    if (
        State.MISSING in states
        or any(pmd.cause is not Cause.NONE for pmd in snapshot.registered)
        or any(others.warnings(snapshot.others, snapshot.at))
    ):
        return Health.WARNING
    return Health.WELL
