# SPDX-License-Identifier: Apache-2.0
"""Acting on flows: what is read of one, what comes of a move, and what is judged before and after. No I/O, no policy.

The order in which things are written is in `sensors/offload_writer.py`, which moves are made in `core/offload_plan.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.offload import Hardware, Move

# Seconds between the look before and the first write: two rounds of vswitchd's revalidators (max-revalidator: 0.5).
# What is removed before they have seen it never comes back, whatever the version: vswitchd waits to see it (measured).
SETTLE = 1.0
CHANGES = 3  # of the OpenFlow tables in that time: above it a round is left out
LATEST = 5.0  # seconds for which such a look serves after that
REPLAYED = 10.0  # seconds for which what was removed may be put back: later vswitchd itself has done it
DATAPATHS = ("netdev", "dummy")  # types of datapaths in which flows are moved: vswitchd's own

# Since when vswitchd forgets a flow that somebody else removed (its commits "Avoid stale ukeys leaks" and "Fix use of
# uninitialized missed dumps counter"). Before that such a flow never comes back: its packets take the slow path.
FIXED = {(2, 17): 12, (3, 0): 8, (3, 1): 7, (3, 2): 5, (3, 3): 4, (3, 4): 2}
FIXED_FROM = (3, 5)
DEVELOPMENT = 90  # third number of a version between two releases
# What a flow may not do, and why: vswitchd keeps something of its own for it, or its packets go round again.
_NEVER = re.compile(r"\b(userspace|recirc|ct|ct_clear|tnl_pop|sample|psample|slow_path|lb_output|learn)\b")
_FIRST_ROUND = re.compile(r"(?:^|,)recirc_id\(0\)")


class Reinstall(StrEnum):
    """Who puts a removed flow back."""

    VSWITCHD = "vswitchd"  # when its next packet comes, 2 s later at most: right by construction
    OURS = "ours"  # we, at once; on every PMD thread, where copies without packets stay until they are idle


class Reading(NamedTuple):
    """One flow as the datapath has it, and what the OpenFlow tables say of it."""

    ufid: str
    key: str  # with masks and in numbers, as `mod-flow` and `add-flow` take it
    actions: str
    packets: int
    hardware: Hardware
    megaflow: str = ""  # which packets are alike to the tables; "" not asked
    says: str = ""  # actions by the tables


class Examined(NamedTuple):
    """The look before a move."""

    move: Move
    at: Moment
    promoted: Reading
    victim: Reading | None  # None: a fill


class Result(StrEnum):
    """What came of a move."""

    PROMOTED = "promoted"  # the flow is in hardware
    REFUSED = "refused"  # hardware did not take it; what was removed for it is back, or comes back
    SKIPPED = "skipped"  # nothing was written that is not as it was before
    FAILED = "failed"  # see the anomalies


class Kind(StrEnum):
    """What must not happen. It ends the arm."""

    SILENT = "no answer"
    LOST = "flow lost"
    STALE = "actions not right"
    JOURNAL = "journal"
    UPCALLS = "duplicate upcalls"


class Anomaly(NamedTuple):
    """One of them, with its evidence."""

    kind: Kind
    ufid: str
    why: str


class Outcome(NamedTuple):
    """A move as it was made, or not."""

    move: Move
    at: Moment
    result: Result
    why: str
    before: tuple[str, str] = ("", "")  # what hardware had of the promoted flow, and of the victim; "gone"
    after: tuple[str, str] = ("", "")
    repaired: int = 0  # flows whose actions the tables had changed meanwhile: written anew
    anomalies: tuple[Anomaly, ...] = ()


class Entry(NamedTuple):
    """A line of the journal: what has to be put back, or taken away, if nobody else does."""

    number: int
    kind: str  # REMOVED, WRITTEN, REPAIRED or SUSPECT
    process: ProcessId  # of vswitchd: the flows of another one are gone
    mono: float  # monotonic seconds
    datapath: str
    ufid: str
    key: str
    actions: str
    megaflow: str


REMOVED = "removed"  # to be put back
WRITTEN = "written"  # its actions are to be compared with what the tables say
# While we wrote the tables changed, and vswitchd's revalidators may yet hold something older to be in the datapath:
# what changes back before they look is no change to them. So it is looked at once more when they have settled.
REPAIRED = "repaired"  # its actions
SUSPECT = "suspect"  # these, and it may match what the tables now tell apart


class Counters(NamedTuple):
    """What vswitchd has counted since it began."""

    duplicates: int  # upcalls for a flow that it holds to be installed: one a packet while it is not
    changes: int  # rounds of revalidation for a changed OpenFlow table


# --- judgement ---------------------------------------------------------------------------------


def gate(version: tuple[int, int, int] | None, datapaths: tuple[str, ...]) -> str:
    """Why no flow of this vswitchd may be moved; "" if flows may be."""
    if version is None:
        return "vswitchd does not tell its version"
    major_minor, patch = version[:2], version[2]
    said = ".".join(map(str, version))
    if major_minor < FIXED_FROM:
        least = FIXED.get(major_minor)
        cure = f"{major_minor[0]}.{major_minor[1]}.{least}" if least is not None else "3.5.0"
        if least is None or not least <= patch < DEVELOPMENT:
            return f"vswitchd {said} never forgets a flow that is removed (stale ukeys): {cure} or newer is needed"
    if len(datapaths) != 1:
        return f"{len(datapaths)} datapaths ({', '.join(datapaths)}): flows are moved where there is one"
    if datapaths[0].partition("@")[0] not in DATAPATHS:
        return f"datapath {datapaths[0]}: flows are moved in vswitchd's own (netdev) only"
    return ""


def objection(reading: Reading) -> str:
    """Why this flow must not be touched, whatever was planned; "" if it may be."""
    if not _FIRST_ROUND.search(reading.key):
        return "recirculated"
    if found := _NEVER.search(f"{reading.actions} {reading.says}"):
        return f"its actions hold {found[1]}"
    if not reading.megaflow:
        return "ofproto/trace says nothing of it"
    if reading.says != reading.actions:
        return f"its actions are {reading.actions}, by the OpenFlow tables {reading.says}"
    return ""


def changed(before: Reading, now: Reading | None) -> str:
    """What happened to a flow between two looks; "" if it is the same one, seen by vswitchd's revalidators since."""
    if now is None:
        return "gone"
    if now.key != before.key:
        return "another flow"
    if now.actions != before.actions:
        return f"its actions were {before.actions}, now {now.actions}"
    if now.packets < before.packets:
        return "installed anew"
    if bool(now.hardware) is not bool(before.hardware):
        return "in hardware by now" if now.hardware else "no more in hardware"
    return ""


def unsettled(examined: Examined, now: Moment, settle: float) -> str:
    """Why the look before does not serve; "" if it does. settle: seconds that have to pass."""
    age = now.mono - examined.at.mono
    if age < settle:
        return f"looked at {age:.1f} s ago: {settle:g} s have to pass"
    if age > settle + LATEST:
        return f"looked at {age:.1f} s ago: {settle + LATEST:g} s at most"
    return ""


def slow(dumps: Iterable[float | None]) -> str:
    """Why no flow may be moved while revalidators are slow; "" while they are not. dumps: seconds of a round."""
    slowest = max((dump for dump in dumps if dump is not None), default=0.0)
    if slowest <= SETTLE / 2:
        return ""
    return f"vswitchd's revalidators take {slowest:g} s for a round, more than {SETTLE / 2:g}: a flow might be lost"


def busy(before: Counters, now: Counters) -> str:
    """Why a round is left out: the OpenFlow tables change all the time. "" while they do not."""
    changes = now.changes - before.changes
    return f"the OpenFlow tables changed {changes} times while it was looked at" if changes > CHANGES else ""


def duplicates(before: Counters, after: Counters, expected: float) -> Anomaly | None:
    """More packets on the slow path than removed flows explain. expected: their packets until they are back."""
    grown = after.duplicates - before.duplicates
    if grown <= expected:
        return None
    why = f"handler_duplicate_upcall grew by {grown}, by {expected:.0f} at most was expected"
    return Anomaly(Kind.UPCALLS, "", why)
