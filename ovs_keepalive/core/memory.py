# SPDX-License-Identifier: Apache-2.0
"""What outlives the daemon: all that a successor, or a new start after a crash, has to know to go on where it ended.

A successor goes on as if nothing had happened. After a crash nobody looked for a while: that time is nobody's silence.
"""

from __future__ import annotations

from typing import NamedTuple

from ovs_keepalive.core import breaks, heartbeat
from ovs_keepalive.core.heartbeat import Register
from ovs_keepalive.core.incident import Watch
from ovs_keepalive.core.ledger import Line
from ovs_keepalive.core.model import Cause, LookCounts, Moment, Others, Plan, Pmd, ProcessId, Transition, Vswitchd
from ovs_keepalive.core.ports import PortsMemory
from ovs_keepalive.core.settings import Asked

NOTHING = PortsMemory()
OLDEST = 3600.0  # seconds after which a memory is not gone by any more


class Beating(NamedTuple):
    """What the beat thread knows. Times are monotonic seconds."""

    seq: int  # of the last snapshot
    enabled_at: Moment
    next_tick: float
    cost: float  # seconds of the main thread that one look takes
    owed: float  # when what the main thread has not answered yet was asked; 0.0: it owes nothing
    answered: bool  # the main thread has answered at least once
    looks: int
    looks_failed: int
    counts: LookCounts
    blind_seconds: float
    latest: float
    blind: tuple[str, ...]
    others: Others
    pmds: tuple[Pmd, ...]
    vswitchd: Vswitchd
    history: tuple[Transition, ...]
    version: int  # of the register
    breaks: breaks.Watch


class Memory(NamedTuple):
    """All of it."""

    at: Moment  # when it was noted
    daemon: str  # whose it is, in words: version and pid
    asked: Asked  # the settings in force
    beating: Beating
    events: tuple[Transition, ...]  # of the database session
    watch: Watch  # of incidents
    told: Moment  # of the newest transition that stands in the log and was handed to hooks
    committed: int  # transactions
    failed: int
    ledger: tuple[Line, ...]  # what was counted of the PMDs …
    counted_to: float  # … up to this moment: monotonic
    cpu: float  # seconds that it, and those before it, took
    affinity: tuple[int, ...]  # CPUs that the first daemon was started with
    plan: Plan | None  # the restart that was announced
    flow_restored: Moment | None  # as in Settings
    ports: PortsMemory = NOTHING  # what OVS forgets of them; version 1 of the document had none


def register(beating: Beating) -> Register:
    """The register as it was."""
    pmds = {pmd.id: _with_its_looks(pmd) for pmd in beating.pmds}
    return Register(pmds, beating.vswitchd, beating.history, beating.version, None)


def after_a_gap(was: Register, now: Moment, news: Transition) -> Register:
    """The register of a daemon that starts where another one ended without a word. news: that it does, for history."""
    pmds = {id: _seen_anew(pmd, now) for id, pmd in was.pmds.items()}
    history = (*was.history, news)[-heartbeat.HISTORY :]
    return Register(pmds, was.vswitchd, history, was.version + 1, None)


def refusal(memory: Memory, now: Moment, present: ProcessId | None) -> str:
    """Why a memory of this boot cannot be gone by, in words; "" if it can. present: the vswitchd process of now."""
    then = memory.beating.vswitchd.process if memory.asked.enabled else present  # disabled it knows of none
    if memory.at.mono > now.mono:
        return "it is of the future"
    if now.mono - memory.at.mono > OLDEST:
        return f"it is {now.mono - memory.at.mono:.0f} s old"
    if present != then:
        of = f"vswitchd process {then.pid}" if then is not None else "a time without vswitchd"
        return f"it is of {of}, which is over"
    return ""


def _with_its_looks(pmd: Pmd) -> Pmd:
    """That two looks are one and the same is told by identity: copies of one become one again."""
    base = pmd.look if pmd.base == pmd.look else pmd.base
    mark_look = next((look for look in (pmd.look, base) if look == pmd.mark_look), pmd.mark_look)
    return pmd._replace(base=base, mark_look=mark_look)


def _seen_anew(pmd: Pmd, now: Moment) -> Pmd:
    """What is known stays; what is counted or compared over time begins now."""
    return pmd._replace(
        compared=max(pmd.compared, now.mono),
        rxqs_at=0.0,  # an older list proves nothing
        vanished_at=None,  # the next look tells
        mark=None,
        shares=None,
        starved_from=pmd.starved_from if pmd.cause is Cause.STARVED else 0.0,
    )
