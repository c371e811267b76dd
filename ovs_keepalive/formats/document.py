# SPDX-License-Identifier: Apache-2.0
"""The same facts as JSON: the node document that `--json`, `show` and every other program read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ovs_keepalive.core import health, others
from ovs_keepalive.core import vswitchd as process
from ovs_keepalive.core.health import Health
from ovs_keepalive.core.model import BAD, NEVER, Break, Cause, Moment, Pmd, Snapshot, Transition, VswitchdState
from ovs_keepalive.core.offload import Netdev
from ovs_keepalive.core.ports import Ports
from ovs_keepalive.formats import breaks, summary
from ovs_keepalive.formats import offload as of_offload
from ovs_keepalive.formats import ports as of_ports

VERSION = 1  # of the document; it grows by new keys, a changed meaning raises it
RECENT = 20  # transitions in it
BREAKS = 5  # in it
NOT_LOOKED = Ports()


def node(
    snapshot: Snapshot,
    now: Moment,
    facts: dict[str, str],
    events: Sequence[Transition] = (),
    ports: Ports = NOT_LOOKED,
    netdevs: Sequence[Netdev] = (),
) -> dict[str, Any]:
    """One node's health. Times: `…_ms` durations, else epoch ms. The others: what the main loop knows."""
    vswitchd = snapshot.vswitchd
    known = of_ports.brief(ports)
    broken = of_ports.broken(known)
    word = health.judge(snapshot)
    return {
        "version": VERSION,
        "enabled": snapshot.settings.enabled,
        "health": Health.WARNING if broken and word is Health.WELL else word,
        "summary": "; ".join([summary.line(snapshot), *([f"ports: {broken}"] if broken else [])]),
        "at": snapshot.at.wall_ms,
        "age_ms": max(0, round((now.mono - snapshot.at.mono) * 1000)),
        "sequence": snapshot.seq,
        "interval_ms": round(snapshot.settings.interval * 1000),
        "effective_interval_ms": round(snapshot.effective * 1000),
        "vswitchd": {
            "state": vswitchd.state,
            "pid": vswitchd.process.pid if vswitchd.process is not None else None,
            "since": vswitchd.since.wall_ms,
            "silent_ms": round(vswitchd.silent * 1000),
            "witness": vswitchd.witness,
            "culprit": vswitchd.culprit or None,
            "threads": [
                {"name": thread.name, "tid": thread.id.tid, "state": thread.state, "since": since.wall_ms}
                for thread, since in snapshot.others.threads
            ],
            "warnings": list(others.warnings(snapshot.others, snapshot.at)),
            "announced": breaks.plan_document(process.announced(vswitchd, snapshot.settings, snapshot.at)),
        },
        "pmds": [pmd_document(pmd, now) for pmd in snapshot.pmds],
        "blind": list(snapshot.blind),
        "cost": {
            "look_us": round(snapshot.look_cost * 1e6),
            "looks": snapshot.looks,
            "looks_failed": snapshot.looks_failed,
            "own_blind_ms": round(snapshot.blind_seconds * 1000),
            "own_latest_ms": round(snapshot.latest * 1000),
        },
        "transitions": [transition_document(one) for one in merged(snapshot.history, events)[-RECENT:]],
        "breaks": [with_vms(one, ports) for one in snapshot.breaks[-BREAKS:]],
        "ports": known,
        "offload": of_offload.brief(netdevs),
        "daemon": facts,
    }


def with_vms(one: Break, ports: Ports) -> dict[str, Any]:
    """A break, with what it did to VMs."""
    record = of_ports.returned(ports, one)
    return breaks.document(one, () if record is None else record.ports)


def merged(*histories: Sequence[Transition]) -> list[Transition]:
    """Several histories as one, newest last."""
    return sorted((one for history in histories for one in history), key=lambda transition: transition.at.mono)


def pmd_document(pmd: Pmd, now: Moment) -> dict[str, Any]:
    """One PMD thread."""
    return {
        "name": pmd.name,
        "core": pmd.core,
        "numa": pmd.numa,
        "tid": pmd.id.tid,
        "state": pmd.state,
        "since": pmd.since.wall_ms,
        "cause": pmd.cause,
        "cause_since": pmd.cause_since.wall_ms,
        "witness": pmd.witness,
        "last_seen": pmd.progress.wall_ms or None,
        "age_ms": None if pmd.progress == NEVER else max(0, round((now.mono - pmd.progress.mono) * 1000)),
        "quiet_ms": round(pmd.quiet * 1000),
        "iterations": pmd.iterations,
        "rxqs": None if pmd.rxqs is None else [f"{rxq.port}/{rxq.queue}" for rxq in pmd.rxqs],
        "shares": None if pmd.shares is None else pmd.shares._asdict(),
        "run_ns": pmd.look.run_ns,
        "wait_ns": pmd.look.wait_ns,
        "voluntary_switches": pmd.look.voluntary,
        "involuntary_switches": pmd.look.involuntary,
        "missed_heartbeats": pmd.misses,
        "longest_silence_ms": round(max(pmd.longest, pmd.quiet) * 1000),
    }


def transition_document(transition: Transition) -> dict[str, Any]:
    """One line of history."""
    return {
        "at": transition.at.wall_ms,
        "who": transition.who,
        "from": transition.old,
        "to": transition.new,
        "cause": transition.cause,
        "evidence": transition.evidence,
    }


class _Shares(msgspec.Struct):
    busy: float | None = None
    idle: float | None = None
    sleep: float | None = None


class _Pmd(msgspec.Struct):
    name: str
    core: int
    numa: int | None
    state: str
    cause: str
    witness: str
    age_ms: float | None
    rxqs: list[str] | None
    shares: _Shares | None


class _Vswitchd(msgspec.Struct):
    state: str
    pid: int | None
    silent_ms: float


class _Port(msgspec.Struct):
    name: str
    type: str
    state: str
    why: str


class _Enabled(msgspec.Struct):
    """What `show` needs of a node document; more may be in it."""

    effective_interval_ms: float
    vswitchd: _Vswitchd
    pmds: list[_Pmd]
    blind: list[str]
    ports: list[_Port] = []  # an earlier version's has none


def is_node(document: object) -> bool:
    """Whether that is a node document, as far as `show` and is_well read it: the daemon may be of another version."""
    if not isinstance(document, dict) or not isinstance(document.get("enabled"), bool):
        return False
    try:
        msgspec.convert(document, _Enabled if document["enabled"] else dict)
    except ValueError:  # ValidationError, and UnicodeEncodeError of half a surrogate
        return False
    return True


def is_well(node: dict[str, Any]) -> bool:
    """Whether a node document tells of nothing unhealthy: what `show` ends with 0 for. Disabled is not unhealthy."""
    if not node["enabled"]:
        return True
    return (
        node["vswitchd"]["state"] == VswitchdState.RUNNING
        and not any(pmd["state"] in BAD or pmd["cause"] != Cause.NONE for pmd in node["pmds"])
        and not of_ports.broken(node.get("ports", ()))
    )
