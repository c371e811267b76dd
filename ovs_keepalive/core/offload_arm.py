# SPDX-License-Identifier: Apache-2.0
"""Whether flows may be moved now: the mode, the file, a person's arm, and what speaks against it (section 9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ovs_keepalive.core.model import BAD, Moment, ProcessId, Snapshot, VswitchdState
from ovs_keepalive.core.offload_act import Anomaly, Outcome
from ovs_keepalive.core.settings import Offload

MINUTES = 60  # for which an arm holds unless said otherwise …
LONGEST = 24 * 60  # … and at most


class Arm(NamedTuple):
    """A person's leave to move flows: of this vswitchd, until then."""

    since: Moment
    until: Moment
    process: ProcessId


class Act(NamedTuple):
    """A line of `offload/history`: what was done, by whomever, or what ended it."""

    at: Moment
    what: str  # "armed", "disarmed", "mended", "anomaly", or the result of a move
    text: str
    outcome: Outcome | None = None  # of a move


class Wanted(NamedTuple):
    """What is asked for, and what OVS itself is set to."""

    mode: Offload
    allowed: bool  # by the configuration file
    enabled: bool  # other_config:hw-offload
    rebalanced: bool  # other_config:offload-rebalance


def objection(wanted: Wanted, snapshot: Snapshot) -> str:
    """Why no flow is moved now, with the cure, whether or not it is armed; "" when nothing speaks against it."""
    if wanted.mode is not Offload.ACT:
        return f"keepalive-offload is {wanted.mode}: ovs-vsctl set Open_vSwitch . other_config:keepalive-offload=act"
    if not wanted.allowed:
        return "the configuration file does not allow it: set offload.allow-act: true in it"
    if not wanted.enabled:
        return "hw-offload is not true: no flow can be in hardware"
    if wanted.rebalanced:
        return "other_config:offload-rebalance is true: OVS moves flows by itself: one of the two has to go"
    if snapshot.vswitchd.state is not VswitchdState.RUNNING:
        return f"vswitchd is {snapshot.vswitchd.state}: see keepalive/explain vswitchd"
    ill = next((pmd for pmd in snapshot.pmds if pmd.state in BAD), None)
    if ill is not None:
        return f"{ill.name} is {ill.state}: see keepalive/explain {ill.name}"
    return ""


def ended(arm: Arm, now: Moment, process: ProcessId | None, anomalies: Iterable[Anomaly], futile: str) -> str:
    """Why an arm holds no more; "" while it does."""
    if now.mono >= arm.until.mono:
        return "its time is over"
    if process is not None and process != arm.process:
        return f"vswitchd was restarted: pid {arm.process.pid} -> {process.pid}"
    for anomaly in anomalies:
        who = f" (flow {anomaly.ufid})" if anomaly.ufid else ""
        return f"{anomaly.kind}{who}: {anomaly.why}"
    return futile
