# SPDX-License-Identifier: Apache-2.0
"""The report of `upgrade-watch`: lines for people, a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovs_keepalive.core.breaks import ENOUGH
from ovs_keepalive.core.comeback import Expected, Report
from ovs_keepalive.core.excerpt import short


def promise(expected: Expected) -> str:
    """What is known beforehand."""
    if expected.median is None or expected.worst is None:
        return f"expected break: unknown: {expected.n} announced restarts were measured, {ENOUGH} are needed"
    measured = f"of {expected.n} announced restarts"
    return f"expected break: {expected.median:.2f} s (median {measured}), at worst {expected.worst:.2f} s"


def lines(report: Report) -> Iterator[str]:
    """The report, readable."""
    yield f"command: {' '.join(report.command)}: ended with status {report.status}"
    if report.broke is None:
        yield "break: none: vswitchd is the same process as before"
        return
    yield f"break: {_broke(report.broke)}"
    if (over := _excess(report)) is not None:
        yield f"that is {over:.2f} s more than --max-break allows"
    yield f"PMDs: {len(report.before.cores)} before, {len(report.after.cores)} after"
    yield from (f"port {_port(one, report.broke)}" for one in report.broke["ports"])
    for bridge, count in report.before.flows.items():
        yield f"flows of {short(bridge)}: {_count(count)} before, {_count(report.after.flows.get(bridge))} after"
    yield f"not back: {', '.join(map(short, report.stragglers))}" if report.stragglers else "all is back"


def document(report: Report) -> dict[str, Any]:
    """The same. Times: `…_s` seconds, `…_ms` milliseconds, else epoch ms."""
    return {
        "command": list(report.command),
        "status": report.status,
        "well": report.well,
        "expected": {"median_s": report.expected.median, "worst_s": report.expected.worst, "n": report.expected.n},
        "max_break_s": report.max_break,
        "excess_s": _excess(report),
        "break": report.broke,
        "pmds": {"before": sorted(report.before.cores), "after": sorted(report.after.cores)},
        "links": {"before": dict(report.before.links), "after": dict(report.after.links)},
        "flows": {"before": dict(report.before.flows), "after": dict(report.after.flows)},
        "stragglers": report.stragglers,
    }


def _broke(broke: Mapping[str, Any]) -> str:
    pids = f"pid {broke['pid_old']} -> {broke['pid_new'] or 'none yet'}"
    if broke["unknown"] is not None:
        packets = f"packets: unknown: {broke['unknown']}"
    elif broke["data_plane_ms"] is None:
        packets = "no packet was sent yet"
    else:
        low, about, high = (broke["data_plane_ms"][part] / 1000 for part in ("low", "estimate", "high"))
        packets = f"no packet was sent for about {about:.2f} s ({low:.2f} to {high:.2f} s)"
    silent = broke["control_plane_ms"]
    return f"{pids}, {packets}, " + ("no answer yet" if silent is None else f"no answer for {silent / 1000:.2f} s")


def _port(port: Mapping[str, Any], broke: Mapping[str, Any]) -> str:
    if port["back"] is None:
        return f"{short(port['name'])}: not polled"
    return f"{short(port['name'])}: polled again after {(port['back'] - broke['ended']) / 1000:.2f} s"


def _excess(report: Report) -> float | None:
    lasted = (report.broke or {}).get("data_plane_ms")
    if report.max_break is None or lasted is None or lasted["estimate"] / 1000 <= report.max_break:
        return None
    return float(lasted["estimate"] / 1000 - report.max_break)


def _count(flows: int | None) -> str:
    return "not known" if flows is None else str(flows)
