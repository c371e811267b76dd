# SPDX-License-Identifier: Apache-2.0
"""The fleet in text, as `ovs-keepalive fleet` prints it, and the same facts as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import Done, Member
from ovs_keepalive.core.fleet_view import UNTOLD, Event, Request, Sight, busiest, counts, failed_pmds, free_cores
from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.tables import aligned, answer, columns, stamp, utc

VERSION = 1  # of the documents; they grow by new keys, a changed meaning raises it
LONGEST = 120  # characters of a reason
PROBLEMS = 10  # requests that cannot be read, of which each has a line


def status(sights: Sequence[Sight], requests: Sequence[Request], problems: Sequence[str], now_ms: int) -> str:
    """`fleet status`. sights: worst first; problems: of requests that cannot be read."""
    rows: list[Sequence[str]] = [("CELL", "HOST", "STATE", "FOR", "PMDS", "BUSY", "FREE", "AGE", "WHY")]
    rows += [_row(one, now_ms) for one in sights]
    lines = [summary(sights), "", *aligned(rows)] if sights else [summary(sights)]
    if requests:
        lines += [
            "",
            *aligned([("REQUEST", "STATE", "FOR", "TRIES", "BY", "WHY"), *(_asked(one, now_ms) for one in requests)]),
        ]
    if problems:
        lines += ["", *unreadable(problems)]
    return answer(lines)


def unreadable(problems: Sequence[str]) -> list[str]:
    """Requests that cannot be read: a line each, of the first of them."""
    lines = [f"request that cannot be read: {_why(one)}" for one in problems[:PROBLEMS]]
    return lines + ([f"{len(problems) - PROBLEMS} more requests cannot be read"] if len(problems) > PROBLEMS else [])


def summary(sights: Iterable[Sight]) -> str:
    """3 hosts: 1 FAILURE, 2 WELL."""
    counted = counts(sights)
    total = sum(counted.values())
    words = ", ".join(f"{count} {state}" for state, count in counted.items())
    return f"{total} host{'' if total == 1 else 's'}" + (f": {words}" if words else "")


def host(sight: Sight, requests: Sequence[Request], now_ms: int) -> str:
    """`fleet show HOST`."""
    member = sight.member
    rows = [
        ("host", f"{one_line(sight.host)}, of cell {one_line(sight.cell)}"),
        ("state", f"{sight.state}" + (f" since {utc(sight.since)} UTC" if sight.since != UNTOLD else "")),
        ("why", one_line(sight.why) or "-"),
        ("last word", f"{_age(sight.written, now_ms)} ago" if sight.written else "never"),
    ]
    if member is not None:
        rows += _facts(member)
    lines = columns(rows)
    if member is not None and member.pmds:
        table: list[Sequence[str]] = [("CORE", "NUMA", "STATE", "BUSY", "RXQS", "ITERATIONS", "MISSES")]
        table += [
            (str(pmd.core), _or(pmd.numa), one_line(pmd.state), _percent(pmd.busy), str(pmd.rxqs), _or(pmd.iterations),
             str(pmd.misses))
            for pmd in member.pmds
        ]  # fmt: skip
        lines += [
            "",
            "PMD threads" + (", as it said last" if sight.found and sight.found.live is None else ""),
            *aligned(table),
        ]
    if member is not None and member.tunnels:
        table = [("TUNNEL", "KIND", "REMOTE", "BFD", "REMOTE BFD", "CFM")]
        table += [tuple(map(one_line, row)) for row in _tunnels(member)]
        lines += ["", *aligned(table)]
    lines += [f"asks for help: {_line(one, now_ms)}" for one in requests]
    return answer(lines)


def asked(requests: Sequence[Request], done: Sequence[Done], now_ms: int) -> str:
    """`fleet help list`."""
    rows = [("REQUEST", "STATE", "FOR", "TRIES", "BY", "WHY"), *(_asked(one, now_ms) for one in requests)]
    lines = aligned(rows) if requests else ["nobody asks for help"]
    if done:
        lines += ["", "done:", *map(_record, done)]
    return answer(lines)


def event(one: Event) -> str:
    """A line of `fleet watch`."""
    where = f"{_name(one.cell)}/" if one.cell else ""
    why = f"  {_why(one.why)}" if one.why else ""
    return f"{_time(one.at)}  {where}{_name(one.who)}  {_name(one.old)} -> {_name(one.new)}{why}"


# --- JSON ----------------------------------------------------------------------------------------


def status_document(
    sights: Sequence[Sight], requests: Sequence[Request], problems: Sequence[str], now_ms: int
) -> dict[str, Any]:
    """`fleet status --json`."""
    return {
        "version": VERSION,
        "at": now_ms,
        "counts": {str(state): count for state, count in counts(sights).items()},
        "hosts": [host_document(one) for one in sights],
        "requests": [request_document(one) for one in requests],
        "problems": list(problems),
    }


def host_document(sight: Sight) -> dict[str, Any]:
    """One host; `said`: as it said last of itself, null if nothing of that can be read."""
    member = sight.member
    said = None
    if member is not None:
        said = {
            **member._asdict(),
            "pmds": [pmd._asdict() for pmd in member.pmds],
            "headroom": member.headroom._asdict(),
            "tunnels": [tunnel._asdict() for tunnel in member.tunnels],
            "services": dict(member.services),
        }
    return {
        "cell": sight.cell,
        "host": sight.host,
        "state": sight.state,
        "since": sight.since or None,
        "written": sight.written or None,
        "first": sight.first or None,
        "why": sight.why,
        "said": said,
    }


def request_document(request: Request) -> dict[str, Any]:
    """One request."""
    claim = request.claim._asdict() if request.claim is not None else None
    return {
        "id": request.help.id,
        "cell": request.cell,
        "state": request.state,
        **request.help._asdict(),
        "claim": claim,
    }


# --- parts ---------------------------------------------------------------------------------------


def _row(one: Sight, now_ms: int) -> tuple[str, ...]:
    member = one.member
    numbers = ("-", "-", "-")
    if member is not None:
        failed = failed_pmds(member)
        pmds = f"{len(member.pmds)}" + (f", {failed} bad" if failed else "")
        numbers = (pmds, _percent(busiest(member)), str(free_cores(member)))
    since = _age(one.since, now_ms) if one.since != UNTOLD else "?"
    age = _age(one.written, now_ms) if one.written else "?"
    return (_name(one.cell), _name(one.host), str(one.state), since, *numbers, age, _why(one.why) or "-")


def _asked(one: Request, now_ms: int) -> tuple[str, ...]:
    asking = one.help
    by = one.claim.by if one.claim is not None else asking.by
    said = f"{asking.why}; last try: {asking.last}" if asking.last else asking.why
    return (_name(asking.id), str(one.state), _age(asking.t, now_ms), str(asking.n), _name(by) or "-", _why(said))


def _record(one: Done) -> str:
    return f"{_time(one.at)}  {_name(one.host)}--{one.kind}  by {_name(one.by)}: {_why(one.result)}"


def _time(wall_ms: int) -> str:
    return stamp(Moment(0.0, wall_ms))


def _line(one: Request, now_ms: int) -> str:
    return "  ".join(_asked(one, now_ms))


def _facts(member: Member) -> list[tuple[str, str]]:
    spare = member.headroom
    nodes = sorted(spare.cores.keys() | spare.busy.keys())
    room = [
        f"NUMA {node}: {spare.cores.get(node, 0)} cores, PMDs {_percent(spare.busy.get(node))} busy" for node in nodes
    ]
    services = [f"{one_line(name)} ({number})" for name, number in sorted(member.services.items())]
    return [
        ("headroom", "; ".join(room) or "none"),
        ("services", ", ".join(services) or "none"),
        ("address", one_line(member.address) or "none"),
        ("version", one_line(member.ver) or "not told"),
    ]


def _tunnels(member: Member) -> list[tuple[str, ...]]:
    cfm = {True: "fault", False: "no fault", None: "-"}
    return [
        (one.name, one.kind, one.remote, one.bfd or "-", one.bfd_remote or "-", cfm[one.cfm_fault])
        for one in member.tunnels
    ]


def _name(text: str) -> str:
    return short(one_line(text))


def _why(text: str) -> str:
    return short(one_line(text), LONGEST)


def _or(value: int | None) -> str:
    return "-" if value is None else str(value)


def _percent(share: int | None) -> str:
    return "-" if share is None else f"{share} %"


def _age(since_ms: int, now_ms: int) -> str:
    """How long ago, in the largest unit of which there are two."""
    seconds = max(0, now_ms - since_ms) // 1000
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
