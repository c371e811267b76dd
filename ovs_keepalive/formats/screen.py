# SPDX-License-Identifier: Apache-2.0
"""`show --watch`, a screen as lines of text with styles: what stands where. Who draws it cuts them to the width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Cause, Moment, VswitchdState
from ovs_keepalive.formats.node import Node, Pmd, Transition
from ovs_keepalive.formats.plain import lines, one_line
from ovs_keepalive.formats.tables import percent, stamp, utc
from ovs_keepalive.formats.view import Open, View, place, rows

BAR = 9  # cells of a bar …
FULL = 3  # … which is full at so many intervals: then a PMD is GONE
FULLY_WIDE, HALF_WIDE = 76, 52  # columns, below which the shares, and the bars too, are left out
CHANGES = 5  # transitions at the most
CAUSES = 3  # lines
BLIND = 2  # lines
DAY = 11  # characters of a time stamp before its time of day

UNKNOWN = " UNKNOWN "
ENABLE = "Keepalive is disabled. To enable: ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"
HELP = """\
s         sort: worst first, by core, by busy share
f or /    show only PMDs with this text in name, state, cause or rxqs; Enter: done, Esc: all again
arrows    select a PMD (also j, k, page up, page down, home, end)
e, Enter  explain the selected PMD: what is wrong, since when, what to do
v         explain vswitchd
?         this page
q         quit; the exit status is that of what was seen last: 0 well, 1 not, 3 no answer

The bar is the time since the last progress of a PMD; it is full at three intervals. A state with a question
mark is an old one: the daemon does not answer, or has not looked since."""


class Part(NamedTuple):
    """A piece of a line. style: a state, a health word, "head", "old", "selected" or "" for none."""

    text: str
    style: str = ""


Line = tuple[Part, ...]


def draw(node: Node | None, view: View, width: int, height: int, *, stale: str = "", explained: str = "") -> list[Line]:
    """Exactly `height` lines. stale: why what is known is old, "" if it is new; explained: the answer to explain."""
    head = _head(node, stale, width)
    foot = _foot(node, view, stale)
    room = height - len(head) - 2
    middle: list[Line]
    match view.open:
        case Open.HELP:
            middle = [(Part(line),) for line in HELP.splitlines()]
        case Open.EXPLAIN:
            middle = _explanation(view, explained, width, room)
        case Open.TABLE if node is None:
            middle = []
        case Open.TABLE:
            middle = _table(node, view, width, room, bool(stale)) if node.enabled else [(Part(ENABLE),)]
    drawn = [*head, (), *middle]
    drawn = drawn[: height - 1]
    return [*drawn, *[()] * (height - 1 - len(drawn)), foot]


def text(drawn: Sequence[Line]) -> str:
    """The lines without their styles."""
    return "".join("".join(part.text for part in line).rstrip() + "\n" for line in drawn)


def happened(change: Transition) -> str:
    """A transition in one line, as `keepalive/history` has it."""
    why = "" if change.cause == Cause.NONE else f"{change.cause}: "
    return one_line(f"{moment(change.at)}  {change.who}  {change.old} -> {change.new}  {why}{change.evidence}")


def moment(wall_ms: int) -> str:
    """2026-11-21T04:30:36.848Z."""
    return stamp(Moment(0.0, wall_ms))


def bar(age_ms: float | None, interval_ms: float) -> str:
    """How long ago the last progress was, measured in intervals: ███······"""
    if age_ms is None or interval_ms <= 0:
        return " " * BAR
    cells = min(BAR, int(age_ms / interval_ms * BAR / FULL))
    return "█" * cells + "·" * (BAR - cells)


def _head(node: Node | None, stale: str, width: int) -> list[Line]:
    if node is None:
        return _unknown(stale, width)
    vswitchd = node.vswitchd
    first: list[Line] = [(Part(f" {one_line(node.health)} ", node.health), Part(f" {one_line(node.summary)}"))]
    if stale:
        first = _unknown(stale, width)
    words = f"vswitchd {vswitchd.state}" + (f" (pid {vswitchd.pid})" if vswitchd.pid else "")
    if vswitchd.silent_ms:
        words += f", silent for {vswitchd.silent_ms / 1000:.0f} s"
    if vswitchd.culprit:
        words += f", held up by {vswitchd.culprit}"
    if vswitchd.state != VswitchdState.RUNNING and vswitchd.witness:
        words += f": {vswitchd.witness}"
    second = Part(
        one_line(f"{words}; interval {node.effective_interval_ms:.0f} ms; as of {utc(node.at)} UTC"),
        "old" if stale else "",
    )
    said = [f"warning: {warning}" for warning in vswitchd.warnings[:BLIND]]
    said += [f"blind: {why}" for why in node.blind[:BLIND]] or ["blind to nothing"]
    if len(node.blind) > BLIND:
        said[-1] += f" (and {len(node.blind) - BLIND} more: keepalive/status)"
    alarmed = "MISSING" if (node.blind or vswitchd.warnings) and not stale else "old"
    return [*first, (second,), *((Part(one_line(line), alarmed),) for line in said)]


def _unknown(stale: str, width: int) -> list[Line]:
    """Why nothing is known, to its end: that is where the cure stands."""
    first, *rest = textwrap.wrap(one_line(stale), max(20, width - len(UNKNOWN) - 2), break_on_hyphens=False) or [""]
    return [(Part(UNKNOWN, "UNKNOWN"), Part(f" {first}")), *((Part(f"{'':{len(UNKNOWN)}} {line}"),) for line in rest)]


def _foot(node: Node | None, view: View, stale: str) -> Line:
    if view.typing:
        return (Part(f"filter: {one_line(view.filter)}_", "head"), Part("   Enter: done   Esc: all"))
    if view.open is not Open.TABLE:
        return (Part("q back   arrows scroll", "old"),)
    chosen = f": {one_line(view.filter)}" if view.filter else ""
    words = f"q quit  s sort: {view.sort}  f filter{chosen}  e explain  v vswitchd  ? help"
    count = "" if node is None else f"   {len(rows(node, view))} of {len(node.pmds)} PMDs"
    return (Part(f"{words}{count}", "old" if stale else "head"),)


def _explanation(view: View, explained: str, width: int, room: int) -> list[Line]:
    wrapped: list[str] = []
    for line in lines(explained or "asking the daemon …").splitlines():
        wrapped += textwrap.wrap(line, max(20, width - 1)) or [""]
    first = max(0, min(view.scroll, len(wrapped) - room + 2))
    return [(Part(f"explain {one_line(view.about)}", "head"),), (), *((Part(line),) for line in wrapped[first:])]


def _table(node: Node, view: View, width: int, room: int, old: bool) -> list[Line]:
    shown = rows(node, view)
    below = len(_below(node, room, old))
    body = max(1, min(len(shown), max(room - 1 - below, room // 2)))
    if body < len(shown):
        body = max(1, body - 1)  # a line tells where one is
    selected = place(view, [pmd.name for pmd in shown])
    first = selected // body * body  # a page at a time
    drawn: list[Line] = [(Part(_columns("PMD", "CORE", "STATE", width), "head"),)]
    for number, pmd in enumerate(shown[first : first + body], first):
        drawn.append(_row(node, pmd, width, number == selected, old))
    if body < len(shown):
        drawn.append((Part(f"  rows {first + 1} to {min(first + body, len(shown))} of {len(shown)}", "old"),))
    if not shown:
        drawn.append((Part("  no PMD threads" if not view.filter else "  no PMD matches the filter", "old"),))
    return drawn + _below(node, room - len(drawn), old)


def _columns(name: str, core: str, state: str, width: int) -> str:
    parts = f"  {name:<15} {core:>4} {state:<11}"
    if width >= HALF_WIDE:
        parts += f" {'SILENCE':<{BAR}}"
    parts += f" {'':>8}"
    if width >= FULLY_WIDE:
        parts += f" {'BUSY':>4} {'IDLE':>4} {'SLEEP':>5}"
    return parts + "  PORTS/RXQS"


def _row(node: Node, pmd: Pmd, width: int, selected: bool, old: bool) -> Line:
    style = "old" if old else pmd.state
    mark = "selected" if selected else ""
    state = f"? ({pmd.state})" if old else f"{pmd.state[:1]} {pmd.state}"
    name = short(one_line(pmd.name), 24)
    parts = [Part(f"{'>' if selected else ' '} {name:<15} {pmd.core:>4} ", mark), Part(f"{one_line(state):<11}", style)]
    polls = bool(pmd.rxqs)
    if width >= HALF_WIDE:
        shown = bar(pmd.age_ms, node.effective_interval_ms) if polls and not old else " " * BAR
        parts.append(Part(f" {shown}", style))
    age = "never" if pmd.age_ms is None else "-" if old or not polls else _age(pmd.age_ms)
    parts.append(Part(f" {age:>8}"))
    if width >= FULLY_WIDE:
        shares = pmd.shares
        busy, idle, sleep = (shares.busy, shares.idle, shares.sleep) if shares is not None else (None, None, None)
        parts.append(Part(f" {percent(busy):>4} {percent(idle):>4} {percent(sleep):>5}", "old" if old else ""))
    return (*parts, Part(f"  {_ports(pmd.rxqs)}", "old" if old else ""))


def _below(node: Node, room: int, old: bool) -> list[Line]:
    """What is under the table, as far as there is room: why PMDs are ill, and the last changes, newest last."""
    style = "old" if old else ""
    ill = [pmd for pmd in rows(node, View()) if pmd.is_ill]
    why = [(Part(one_line(f"{pmd.name}: {pmd.cause}: {pmd.witness}"), style),) for pmd in ill[:CAUSES]]
    if len(ill) > CAUSES:
        why.append((Part(f"and {len(ill) - CAUSES} more with a cause", style),))
    under: list[Line] = [(), *why] if why else []
    changes = [(Part(happened(change)[DAY:], style),) for change in node.transitions[-CHANGES:]]
    left = room - len(under) - 2
    if changes and left > 0:
        under += [(), (Part("Last changes (UTC)", "head"),), *changes[-left:]]
    return under[: max(0, room)]


def _ports(rxqs: list[str] | None) -> str:
    """vhu1/0,1 dpdk0/2."""
    if not rxqs:
        return "-"
    queues: dict[str, list[str]] = {}
    for rxq in rxqs:
        port, _, queue = rxq.rpartition("/")
        queues.setdefault(port, []).append(queue)
    return " ".join(f"{short(one_line(port))}/{','.join(numbers)}" for port, numbers in queues.items())


def _age(age_ms: float) -> str:
    seconds = age_ms / 1000
    return f"{seconds:.1f} s" if seconds < 1000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - four digits
