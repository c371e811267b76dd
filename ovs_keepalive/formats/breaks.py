# SPDX-License-Identifier: Apache-2.0
"""Breaks and announced restarts of vswitchd: as lines for people, as documents for programs (CONTRACT section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovs_keepalive.core import breaks, vswitchd
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Break, Moment, Plan, Snapshot
from ovs_keepalive.core.ports import Return
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.tables import ENABLED, stamp, utc

NAMED = 8  # ports; more are counted


def listing(log: Sequence[Break], beside: Sequence[str] = ()) -> str:
    """`keepalive/breaks`: one line each, newest last. beside: what else is known of each, "" for nothing."""
    said = beside or [""] * len(log)
    lines = [f"{line(one)}{more and f'; {more}'}" for one, more in zip(log, said, strict=True)] or [
        "vswitchd has not ended since this daemon watches"
    ]
    return "".join(f"{one_line(text)}\n" for text in (ENABLED, *lines))


def line(one: Break) -> str:
    """One break: who, how, how long, and what is still missing."""
    new = "none yet" if one.pid_new is None else str(one.pid_new)
    parts = [_packets(one), _answers(one), *_ports(one)]
    return f"{stamp(one.ended)}  {one.kind}  pid {one.pid_old} -> {new}  {'; '.join(parts)}"


def document(one: Break, vms: Sequence[Return] = ()) -> dict[str, Any]:
    """One break. Times: `…_ms` durations, else epoch ms; None: it has not come, or cannot be known.

    vms: the ports whose peers were connected before it, and how they came back.
    """
    known, lasted, silent = not one.unknown, breaks.data_plane(one), breaks.control_plane(one)
    return {
        "pid_old": one.pid_old,
        "pid_new": one.pid_new,
        "kind": one.kind,
        "ended": one.ended.wall_ms,
        "unknown": one.unknown or None,
        "from_low": _wall(one.began_low if known else None),
        "from": _wall(one.began if known else None),
        "from_high": _wall(one.began_high if known else None),
        "to_low": _wall(one.to_low if known else None),
        "to": _wall(one.to),
        "to_high": _wall(one.to_high),
        "data_plane_ms": None
        if lasted is None
        else dict(zip(("low", "estimate", "high"), (round(part * 1000) for part in lasted), strict=True)),
        "method": one.method or None,
        "control_from": one.control_from.wall_ms,
        "control_to": _wall(one.control_to),
        "control_plane_ms": None if silent is None else round(silent * 1000),
        "first_port_up": _wall(breaks.first_port(one)),
        "ports": [{"name": port, "back": _wall(back)} for port, back in one.ports],
        "ports_missing": list(breaks.missing(one)),
        "vms": [
            {"name": vm.name, "back": _wall(vm.connected), "link": _wall(vm.link), "packets": _wall(vm.packets)}
            for vm in vms
        ],
    }


def announced(snapshot: Snapshot) -> str:
    """The restart that is announced, in words; "" when there is none."""
    plan = vswitchd.announced(snapshot.vswitchd, snapshot.settings, snapshot.at)
    if plan is None:
        return ""
    if plan == snapshot.vswitchd.plan:
        return f"under way, it may take {plan.seconds:g} s"
    return promise(plan)


def promise(plan: Plan) -> str:
    """What an announcement means."""
    return f"one that begins by {utc(until(plan))} UTC may take {plan.seconds:g} s"


def plan_document(plan: Plan | None) -> dict[str, Any] | None:
    """An announced restart."""
    return None if plan is None else {"at": plan.at.wall_ms, "until": until(plan), "seconds": plan.seconds}


def until(plan: Plan) -> int:
    """Epoch ms by which it has to begin."""
    return plan.at.wall_ms + round(plan.seconds * 1000)


def _packets(one: Break) -> str:
    if one.unknown:
        return f"packets: unknown: {one.unknown}"
    lasted = breaks.data_plane(one)
    if lasted is None:
        return "no packet was sent yet"
    low, about, high = lasted
    return f"no packet was sent for about {about:.2f} s ({low:.2f} to {high:.2f} s; its end: {one.method})"


def _answers(one: Break) -> str:
    silent = breaks.control_plane(one)
    return "no answer yet" if silent is None else f"no answer for {silent:.2f} s"


def _ports(one: Break) -> list[str]:
    if not one.ports:
        return []
    missing, first = breaks.missing(one), breaks.first_port(one)
    after = [] if first is None else [f"the first port polled again after {first.mono - one.ended.mono:.2f} s"]
    if not missing:
        return [*after, f"all {len(one.ports)} are"]
    names = [short(port) for port in missing[:NAMED]]
    more = [f"{len(missing) - NAMED} more"] if len(missing) > NAMED else []
    return [*after, f"not polled: {', '.join([*names, *more])}"]


def _wall(moment: Moment | None) -> int | None:
    return None if moment is None else moment.wall_ms
