# SPDX-License-Identifier: Apache-2.0
"""The state of a netdev: a table, of which the first line that matches counts (CONTRACT section 9).

OVS tells nobody that the hardware is full. It is inferred: flows with packets stay in software though others of their
shape are in hardware, or though the table has all that it can hold. One round proves nothing: flows begin in software.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ovs_keepalive.core.offload import Facts, OffloadState
from ovs_keepalive.core.offload_rates import low
from ovs_keepalive.core.offload_tables import Group, Known

LASTS = 2  # rounds for which flows have to wait, or none, before that is told
NEARLY_FULL, ROOMY = 0.9, 0.8  # part of a table that is taken: from the one on it is told, below the other no more


class Case(NamedTuple):
    """One netdev, and what it is judged by."""

    facts: Facts
    group: Group | None  # None: there was no dump
    waiting: tuple[Known, ...]  # its flows that wait for hardware
    waits: int  # rounds running in which some did, this one too
    free: int  # rounds running in which none did
    told: OffloadState | None  # what was told of it until now
    offloads: bool  # a flow of the datapath was in hardware, once


class Rule(NamedTuple):
    """One line of the table."""

    state: OffloadState
    seen: Callable[[Case], str]  # the evidence; "" when it does not match
    meaning: str
    cure: str


def judge(case: Case) -> tuple[OffloadState, str]:
    """The state, and what proves it."""
    return next((rule.state, why) for rule in TABLE if (why := rule.seen(case)))


def _disabled(case: Case) -> str:
    return "" if case.facts.enabled else "other_config:hw-offload is not true"


def _skipped(case: Case) -> str:
    if case.group is None:
        return case.facts.undumped or "nobody looked"
    if case.facts.rebalanced:
        return "OVS moves flows by itself: other_config:offload-rebalance is true"
    return ""


def _unknown(case: Case) -> str:
    return "" if case.offloads else "no flow of the datapath was ever seen in hardware"


def _starved(case: Case) -> str:
    room = case.group.room if case.group is not None else None
    if not case.facts.userspace or not room or not _lasts(case):
        return ""
    return f"{_who_waits(case)}; {_taken(case)}: vswitchd does not try again"


def _oor(case: Case) -> str:
    return f"{_who_waits(case)}; {_taken(case)}" if _lasts(case) else ""


def _pressure(case: Case) -> str:
    group, told = case.group, case.told is OffloadState.PRESSURE
    if group is None or group.capacity is None:
        return ""
    return _taken(case) if group.table.flows >= (ROOMY if told else NEARLY_FULL) * group.capacity else ""


def _ok(case: Case) -> str:
    return f"{_who_waits(case)}; {_taken(case)}"


def _lasts(case: Case) -> bool:
    """Whether flows have waited for so long that it is told, or none has for too short a time to take it back."""
    return case.waits >= LASTS or (case.told in (OffloadState.OOR, OffloadState.STARVED) and case.free < LASTS)


def _who_waits(case: Case) -> str:
    if not case.waiting:
        return "no flow waits"
    fastest = max(low(one.rate) for one in case.waiting)
    if len(case.waiting) == 1:
        return f"a flow of {fastest:.1f} pps waits for hardware"
    return f"{len(case.waiting)} flows wait for hardware, the fastest has {fastest:.1f} pps"


def _taken(case: Case) -> str:
    group = case.group
    if group is None:
        return ""
    table = "its table" if len(group.netdevs) == 1 else f"the table of {', '.join(group.netdevs)}"
    if group.capacity is None:
        return f"{table} holds {group.table.flows}, and no limit is known"
    return f"{table} holds {group.table.flows} of {group.capacity}"


TABLE = (
    Rule(OffloadState.DISABLED, _disabled, "Hardware offload is off.",
         "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true"),
    Rule(OffloadState.SKIPPED, _skipped, "Nobody looked, or OVS does the same by itself.", ""),
    Rule(OffloadState.UNKNOWN, _unknown,
         "Whether the hardware takes flows, or this OVS only does not tell, cannot be known.", ""),
    Rule(OffloadState.STARVED, _starved,
         "Flows stay in software though there is room: vswitchd does not try again what was once refused.",
         "keepalive-offload=act fills the free slots"),
    Rule(OffloadState.OOR, _oor, "Out of resources: flows stay in software because the table is full.",
         "keepalive-offload=act gives the slots to the fastest flows; offload/plan tells which"),
    Rule(OffloadState.PRESSURE, _pressure, "The table is nearly full.", ""),
    Rule(OffloadState.OK, _ok, "No flow waits for hardware.", ""),
)  # fmt: skip
