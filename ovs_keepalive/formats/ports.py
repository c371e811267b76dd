# SPDX-License-Identifier: Apache-2.0
"""Ports as text and JSON: `ports/show`, `ports/audit`, the node document, and their pairs of `keepalive_detail`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import BAD, NEVER, Break, Moment, Snapshot, State
from ovs_keepalive.core.ports import UNKNOWN, VHOST, Counters, Port, Ports, PortState, Returned
from ovs_keepalive.formats.column import clean
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.tables import ENABLED, aligned, answer, columns, utc

VERSION = 1  # of the document; it grows by new keys, a changed meaning raises it
NAMED = 8  # ports in a sentence; more are counted
NOT_YET = "the ports have not been looked at yet: try again in a moment"
HEAD = ("PORT", "BRIDGE", "TYPE", "OFPORT", "STATE", "SINCE (UTC)", "POLLED BY", "RX/TX PACKETS", "FINDINGS")
# States in which something is broken. In the others nobody is there, which may well be meant.
BROKEN = (
    PortState.STALE_BIND,
    PortState.STRANDED,
    PortState.ERROR,
    PortState.NOT_NEGOTIATED,
    PortState.NO_LINK,
    PortState.FLAPPING,
)


def show(audited: Mapping[str, Any], head: str = ENABLED) -> str:
    """`ports/show`, from the document: a line a port."""
    if audited["at"] is None:
        return answer([head, NOT_YET])
    return answer([head, *aligned([HEAD, *map(_row, audited["ports"])]), "", *_closing(audited)])


def audit(audited: Mapping[str, Any], head: str = ENABLED) -> str:
    """`ports/audit`, from the document: every finding with its evidence, its consequence and its cure."""
    if audited["at"] is None:
        return answer([head, NOT_YET])
    lines = [head]
    for port in audited["ports"]:
        if port["findings"]:
            where = ", ".join(part for part in (short(port["bridge"]), port["type"]) if part)
            known = f" since {utc(port['since'])} UTC" if port["since"] and port["state"] != UNKNOWN else ""
            why = f": {port['why']}" if port["state"] == UNKNOWN else ""
            lines += ["", f"{short(port['name'])} ({where}): {port['state']}{known}{why}"]
            lines += [f"  {line}" for finding in port["findings"] for line in _finding(finding)]
    return answer([*lines, *([""] if len(lines) > 1 else []), *_closing(audited)])


def tally(states: Iterable[str]) -> str:
    """3 UP, 1 STRANDED, 2 unknown."""
    counts = Counter(states)
    return ", ".join(f"{counts[word]} {word}" for word in (*PortState, UNKNOWN) if counts[word]) or "none"


def is_well(ports: Ports) -> bool:
    """Whether an audit finds nothing: exit status 0. Without vswitchd, or unseen, no port of a VM is well."""
    ill = any(port.findings or (port.facts.is_vhost and port.state is None) for port in ports.ports)
    return ports.process is not None and not ports.blind and not ill


def broken(ports: Iterable[Mapping[str, Any]]) -> str:
    """Of the node document: the vhost-user ports of which something is broken; others may be meant to have no link."""
    found = [port["state"] for port in ports if port["state"] in BROKEN and port["type"] in VHOST]
    return tally(found) if found else ""


def glance(ports: Sequence[Mapping[str, Any]]) -> str:
    """What `show` adds of the node document: how many there are, and which of them are broken."""
    if not ports:
        return ""
    ill = [port for port in ports if port["state"] in BROKEN]
    lines = [f"ports: {tally(port['state'] for port in ports)}"]
    lines += [f"{short(port['name'])}: {port['state']}: {short(port['why'], 300)}" for port in ill[:NAMED]]
    if len(ill) > NAMED:
        lines.append(f"and {len(ill) - NAMED} more ports: ovs-keepalive ports audit")
    return answer(lines)


def explained(snapshot: Snapshot, ports: Ports, pmd: str) -> str:
    """What `keepalive/explain` adds: the VMs that hang on that PMD; "" where none does."""
    found = [port for port in ports.ports if any(who == pmd for who, _, _ in port.polled)]
    names = [f"{short(port.facts.name)} ({port.word})" for port in found]
    if not names:
        return ""
    state = next((one.state for one in snapshot.pmds if one.name == pmd), State.UNUSED)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    said = f"{', '.join(names[:NAMED])}{more}"
    return one_line(f"{'It strands these ports' if state in BAD else 'It serves these ports'}: {said}.") + "\n"


def returned(ports: Ports, one: Break) -> Returned | None:
    """What is known of the VMs that were connected before a break; None: nothing."""
    return next((back for back in ports.returns if (back.pid_old, back.pid_new) == (one.pid_old, one.pid_new)), None)


def back(record: Returned | None) -> str:
    """The same in words; "" for nothing."""
    if record is None:
        return ""
    missing = [short(port.name) for port in record.ports if port.connected is None]
    if not missing:
        return f"all {len(record.ports)} VMs that were connected are again"
    more = [f"{len(missing) - NAMED} more"] if len(missing) > NAMED else []
    return f"not connected again, of {len(record.ports)} VMs: {', '.join([*missing[:NAMED], *more])}"


def document(ports: Ports, now: Moment) -> dict[str, Any]:
    """`ports/audit --json`, `ports/show --json`: everything. Times: epoch ms, but `…_ms`."""
    return {
        "version": VERSION,
        "enabled": True,
        "at": None if ports.at == NEVER else ports.at.wall_ms,
        "age_ms": None if ports.at == NEVER else max(0, round((now.mono - ports.at.mono) * 1000)),
        "vswitchd": None if ports.process is None else ports.process.pid,
        "watched_since": None if ports.since == NEVER else ports.since.wall_ms,
        "well": is_well(ports),
        "ports": [_document(port) for port in ports.ports],
        "blind": list(ports.blind),
    }


def brief(ports: Ports) -> list[dict[str, Any]]:
    """What the node document has of each port."""
    return [
        {
            "name": port.facts.name,
            "bridge": port.facts.bridge,
            "type": port.facts.type,
            "state": port.word,
            "since": None if port.since == NEVER else port.since.wall_ms,
            "why": port.why,
            "pmds": sorted({pmd for pmd, _, _ in port.polled}),
            "findings": [str(finding.kind) for finding in port.findings],
        }
        for port in ports.ports
    ]


def pairs(ports: Ports) -> dict[str, str]:
    """Of `keepalive_detail`: one of each vhost-user port, and of any other of which there is something to tell."""
    return {
        f"port:{clean(port.facts.name)}": _pair(port) for port in ports.ports if port.facts.is_vhost or port.findings
    }


def metric(ports: Ports) -> list[tuple[str, PortState | None]]:
    """Of /metrics: a state a name."""
    return list({one_line(port.facts.name): port.state for port in ports.ports}.items())


def _pair(port: Port) -> str:
    parts = [port.word, f"since={port.since.wall_ms}"]
    beside = [finding for finding in port.findings if finding.kind != port.state]
    if beside:
        parts.append(f"findings={','.join(dict.fromkeys(str(finding.kind) for finding in beside))}")
    if port.state is not PortState.UP:
        parts.append(f"witness={clean(short(port.why, 300))}")
    elif beside:
        parts.append(f"witness={clean(short(beside[0].evidence, 300))}")
    return ";".join(parts)


def _row(port: Mapping[str, Any]) -> tuple[str, ...]:
    by: dict[str, list[str]] = {}
    for one in port["polled"]:
        by.setdefault(f"{one['pmd'].partition('/')[0]} {one['state']}".strip(), []).append(str(one["queue"]))
    kinds = dict.fromkeys(finding["kind"] for finding in port["findings"] if finding["kind"] != port["state"])
    counted = port["rx_packets"] is not None
    cells = (
        short(port["name"]),
        short(port["bridge"]) or "-",
        port["type"] or "system",
        "-" if port["ofport"] is None else str(port["ofport"]),
        port["state"],
        utc(port["since"]) if port["since"] else "-",
        ", ".join(f"{who}:{','.join(queues)}" for who, queues in by.items()) or "-",
        f"{port['rx_packets']}/{port['tx_packets']}" if counted else "-",
        ", ".join(kinds) or "-",
    )
    return tuple(map(one_line, cells))


def _finding(finding: Mapping[str, Any]) -> list[str]:
    rows = (("seen", finding["evidence"]), ("so", finding["consequence"]), ("do", finding["cure"]))
    return [finding["kind"], *columns(rows, "  ")]


def _closing(audited: Mapping[str, Any]) -> list[str]:
    ports = audited["ports"]
    found = sum(len(port["findings"]) for port in ports)
    lines = [f"{len(ports)} ports: {tally(port['state'] for port in ports)}; {found} findings"]
    if audited["watched_since"] is None:
        lines.append("without a past: none can be told STRANDED, DISCONNECTED, FLAPPING or not-moving")
    unseen = Counter(why for port in ports for why in port["unseen"])
    lines += [f"not seen: {why}" for why in audited["blind"]]
    lines += [f"not seen of {count} ports: {short(why, 300)}" for why, count in unseen.most_common(NAMED)]
    return lines


def _document(port: Port) -> dict[str, Any]:
    facts, counters = port.facts, port.facts.counters
    return {
        "name": facts.name,
        "bridge": facts.bridge,
        "datapath": facts.datapath,
        "type": facts.type,
        "state": port.word,
        "since": None if port.since == NEVER else port.since.wall_ms,
        "why": port.why,
        "ofport": facts.ofport,
        "admin_state": facts.admin or None,
        "link_state": facts.link or None,
        "error": facts.error or None,
        "mode": facts.mode or None,
        "peer": facts.peer or None,
        "path": facts.path or None,
        "queues": facts.queues,
        "polled": [{"pmd": pmd, "state": state, "queue": queue} for pmd, state, queue in port.polled],
        "rx_packets": counters.rx if isinstance(counters, Counters) else None,
        "tx_packets": counters.tx if isinstance(counters, Counters) else None,
        "tx_dropped": counters.tx_dropped if isinstance(counters, Counters) else None,
        "flaps": port.flaps,
        "findings": [finding._asdict() for finding in port.findings],
        "unseen": list(port.unseen),
    }
