# SPDX-License-Identifier: Apache-2.0
"""Offload as text and JSON: `offload/show`, `offload/plan`, `offload/history`, and the pairs of `keepalive_detail`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.offload import Move, Netdev, OffloadState
from ovs_keepalive.core.offload_act import Outcome
from ovs_keepalive.core.offload_arm import Act, Arm, Wanted
from ovs_keepalive.core.offload_states import TABLE
from ovs_keepalive.formats.column import clean
from ovs_keepalive.formats.offload_wire import Report
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.tables import ENABLED, aligned, answer, columns, utc

VERSION = 1  # of the document; it grows by new keys, a changed meaning raises it
HEAD = ("NETDEV", "STATE", "SINCE (UTC)", "FLOWS", "PENDING", "OF", "PACKETS/S", "IN HARDWARE", "BEST", "EFFICIENCY")
ILL = (OffloadState.OOR, OffloadState.STARVED)  # packets take the CPU that hardware might take
TOLD = 300  # characters of an explanation in a line
CURES = {rule.state: rule.cure for rule in TABLE}
# Open vSwitch's own rebalancing, since 2.11: of the kernel's datapath (TC) only, without hysteresis, and read once,
# when hw-offload is first seen to be true (lib/netdev-offload.c).
REBALANCE = "of the kernel's datapath only; where it is true Open vSwitch moves flows by itself, and nobody else does"
SPENT = 0.95  # efficiency from which on only a larger table would help


class Told(NamedTuple):
    """What is told of offload."""

    wanted: Wanted
    report: Report | None  # the newest; None: nobody has looked yet
    netdevs: tuple[Netdev, ...]
    arm: Arm | None
    objection: str  # why no flow is moved now; "" while flows are
    disarmed: str  # why the last arm ended by itself
    problem: str  # why there is no newer report


def document(told: Told, now: Moment) -> dict[str, Any]:
    """`offload/show --json`. Times: epoch ms, but `…_ms` and `…_us`; rates: packets per second; parts: 0 to 1."""
    report, wanted, arm = told.report, told.wanted, told.arm
    return {
        "version": VERSION,
        "enabled": True,
        "mode": wanted.mode,
        "allowed": wanted.allowed,
        "hw_offload": wanted.enabled,
        "offload_rebalance": wanted.rebalanced,
        "at": None if report is None else report.at.wall_ms,
        "age_ms": None if report is None else max(0, round((now.mono - report.at.mono) * 1000)),
        "vswitchd": None if report is None or report.process is None else report.process.pid,
        "look_us": None if report is None else round(report.cost * 1e6),
        "pause_ms": None if report is None else round(report.pause * 1000),
        "armed": None if arm is None else arm_document(arm),
        "objection": told.objection or None,
        "disarmed": told.disarmed or None,
        "unfinished": 0 if report is None else report.unfinished,
        "problem": told.problem or None,
        "netdevs": brief(told.netdevs),
    }


def brief(netdevs: Iterable[Netdev]) -> list[dict[str, Any]]:
    """What the node document has of each netdev, and `offload/show --json`."""
    return [
        {
            "name": one.name,
            "state": one.state,
            "since": one.since.wall_ms,
            "why": one.why,
            "flows": one.flows,
            "pending": one.pending,
            "capacity": one.capacity,
            "pps": _round(one.pps, 1),
            "hardware_pps": _round(one.hardware_pps, 1),
            "share": _round(one.share, 4),
            "best": _round(one.best, 4),
            "efficiency": _round(one.efficiency, 4),
        }
        for one in netdevs
    ]


def show(shown: Mapping[str, Any]) -> str:
    """`offload/show`, from the document."""
    lines = [ENABLED, *columns(_facts(shown))]
    if shown["netdevs"]:
        lines += ["", *aligned([HEAD, *map(_row, shown["netdevs"])])]
    told = [one for one in shown["netdevs"] if one["state"] not in (OffloadState.OK, OffloadState.DISABLED)]
    if told:
        lines.append("")
    for one in told:
        spent = one["efficiency"] is not None and one["efficiency"] >= SPENT
        cure = "the fastest flows have its slots: only a larger table helps" if spent else CURES.get(one["state"], "")
        lines.append(f"{short(one['name'])}: {one['state']}: {short(one['why'], TOLD)}{f': {cure}' if cure else ''}")
    return answer(lines)


def plan_document(report: Report, now: Moment) -> dict[str, Any]:
    """`offload/plan --json`."""
    made = report.plan
    return {
        "enabled": True,
        "at": made.at.wall_ms,
        "age_ms": max(0, round((now.mono - made.at.mono) * 1000)),
        "gain_pps": _round(made.gain, 1),
        "fills": [_move(move) for move in made.fills],
        "swaps": [_move(move) for move in made.swaps],
    }


def plan(planned: Mapping[str, Any]) -> str:
    """`offload/plan`, from the document."""
    lines = [f"{kind}: {_moved(one)}: {one['why']}" for kind in ("fill", "swap") for one in planned[f"{kind}s"]]
    if lines:
        counts = f"{len(planned['fills'])} fills, {len(planned['swaps'])} swaps"
        lines.append(f"in all {counts}: {planned['gain_pps']} packets/s more in hardware")
    else:
        lines.append("nothing to move: no flow would gain enough")
    return answer([ENABLED, *lines, f"planned {planned['age_ms'] / 1000:.1f} s ago"])


def arm_document(arm: Arm) -> dict[str, Any]:
    """Since when and until when flows may be moved: epoch ms."""
    return {"since": arm.since.wall_ms, "until": arm.until.wall_ms}


def armed(said: Mapping[str, Any]) -> str:
    """`offload/arm`, from its JSON."""
    until = utc(said["armed"]["until"])
    ends = f"armed until {until} UTC, or until vswitchd or the daemon is restarted, or anything is amiss"
    return answer([ENABLED, ends])


def disarmed(said: Mapping[str, Any]) -> str:
    """`offload/disarm`, from its JSON."""
    return answer([ENABLED, "disarmed: no flow is moved any more" if said["was_armed"] else "it was not armed"])


def history(acts: Sequence[Act]) -> str:
    """`offload/history`, newest last."""
    lines = [f"{utc(act.at.wall_ms)} {act.what}: {act.text}" for act in acts]
    return answer([ENABLED, *(lines or ["nothing was done"])])


def act_document(act: Act) -> dict[str, Any]:
    """The same as JSON."""
    made = None if act.outcome is None else _made(act.outcome)
    return {"at": act.at.wall_ms, "what": act.what, "text": act.text, "move": made}


def _made(one: Outcome) -> dict[str, Any]:
    return _move(one.move) | {
        "before": {"promoted": one.before[0], "victim": one.before[1]},
        "after": {"promoted": one.after[0], "victim": one.after[1]},
        "repaired": one.repaired,
        "anomalies": [f"{anomaly.kind}: {anomaly.why}" for anomaly in one.anomalies],
    }


def moved(move: Move) -> str:
    """A move in words."""
    return _moved(_move(move))


def tally(netdevs: Iterable[Netdev]) -> str:
    """3 ok, 1 oor."""
    counts = Counter(one.state for one in netdevs)
    return ", ".join(f"{counts[state]} {state}" for state in OffloadState if counts[state]) or "no device"


def is_well(shown: Mapping[str, Any]) -> bool:
    """Of the document: whether no device is short of hardware."""
    return all(one["state"] not in ILL for one in shown["netdevs"])


def pairs(netdevs: Iterable[Netdev]) -> dict[str, str]:
    """Of `keepalive_detail`."""
    return {
        f"offload:{clean(one.name)}": f"{one.state};since={one.since.wall_ms};witness={clean(short(one.noted, TOLD))}"
        for one in netdevs
    }


def _facts(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    armed = shown["armed"]
    facts = [
        ("mode", shown["mode"]),
        ("hw-offload", "true" if shown["hw_offload"] else "not true"),
        ("offload-rebalance", f"{'true' if shown['offload_rebalance'] else 'not true'} ({REBALANCE})"),
    ]
    if armed is not None:
        facts.append(("armed", f"since {utc(armed['since'])}, until {utc(armed['until'])} UTC"))
    if shown["objection"]:
        facts.append(("no flow is moved", shown["objection"]))
    if shown["disarmed"]:
        facts.append(("disarmed", shown["disarmed"]))
    if shown["unfinished"]:
        facts.append(("unfinished", f"{shown['unfinished']} flows are looked at again"))
    if shown["at"] is None:
        facts.append(("looked at", "not yet"))
    else:
        cost = f"{shown['look_us'] / 1000:.1f} ms of vswitchd's main thread"
        facts.append(("looked at", f"{shown['age_ms'] / 1000:.1f} s ago: {cost}; every {shown['pause_ms'] / 1000:g} s"))
    if shown["problem"]:
        facts.append(("problem", shown["problem"]))
    return facts


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    cells = (
        short(one["name"]),
        one["state"],
        utc(one["since"]),
        str(one["flows"]),
        str(one["pending"]),
        "-" if one["capacity"] is None else str(one["capacity"]),
        f"{one['pps']:.1f}",
        *(_percent(one[key]) for key in ("share", "best", "efficiency")),
    )
    return tuple(map(one_line, cells))


def _move(move: Move) -> dict[str, Any]:
    return {
        "promoted": move.promoted,
        "promoted_pps": _round(move.promoted_pps, 1),
        "netdev": move.netdev,
        "victim": move.victim or None,
        "victim_pps": _round(move.victim_pps, 1) if move.victim else None,
        "gain_pps": _round(move.gain, 1),
        "why": move.why,
    }


def _moved(one: Mapping[str, Any]) -> str:
    device = f" of {short(one['netdev'])}" if one["netdev"] else ""
    said = f"{one['promoted']}{device} ({one['promoted_pps']} packets/s)"
    if one["victim"]:
        said += f" for {one['victim']} ({one['victim_pps']} packets/s): gains {one['gain_pps']}"
    return said


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.1%}"


def _round(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
