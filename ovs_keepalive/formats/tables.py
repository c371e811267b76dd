# SPDX-License-Identifier: Apache-2.0
"""Text for people and scripts: the answers of the appctl commands and of `show`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ovs_keepalive.core import others
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Cause, Moment, Pmd, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.core.pace import NAPS
from ovs_keepalive.formats.plain import one_line

ENABLED, DISABLED = "keepAlive Status: Enabled", "keepAlive Status: Disabled"


def utc(wall_ms: int) -> str:
    """21 Aug 2017 16:29:31, as the series printed it."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%d %b %Y %H:%M:%S")


def _stretched_for(snapshot: Snapshot) -> str:
    """Why the effective interval is longer than the one that was asked for."""
    nap = snapshot.settings.nap
    if snapshot.effective == NAPS * nap:
        return f"OVS lets PMDs nap for up to {nap * 1000:g} ms: pmd-maxsleep, pmd-sleep-max"
    return "looking more often would take too much of vswitchd's main thread"


def health(snapshot: Snapshot) -> str:
    """`keepalive/pmd-health-show`, byte for byte as lib/keepalive.c of the 2017 series printed it."""
    lines = ["", "\t\tKeepalive status", ""]
    if not snapshot.settings.enabled:
        return "\n".join([*lines, "keepalive status   : Disabled", ""])
    pmds = snapshot.registered
    lines += [
        "keepalive status   : Enabled",
        f"keepalive interval : {round(snapshot.settings.interval * 1000)} ms",
        f"keepalive init time: {utc(snapshot.enabled_at.wall_ms)} ",
        f"PMD threads        : {len(pmds)} ",
        "",
        " PMD\tCORE\tSTATE\tLAST SEEN TIMESTAMP(UTC)",
    ]
    lines += [f"{one_line(pmd.name)}\t{pmd.core:2d}\t{pmd.state}\t{utc(pmd.progress.wall_ms)}" for pmd in pmds]
    return "\n".join([*lines, "", ""])


def status(snapshot: Snapshot, facts: Sequence[tuple[str, str]]) -> str:
    """`keepalive/status`. facts: what the main loop knows: database, columns, lock, own cost, refused settings."""
    if not snapshot.settings.enabled:
        return answer([DISABLED, *columns(facts)])
    asked, effective = round(snapshot.settings.interval * 1000), round(snapshot.effective * 1000)
    why = f" ({_stretched_for(snapshot)})" if effective > asked else ""
    vswitchd = snapshot.vswitchd
    process = f", pid {vswitchd.process.pid}" if vswitchd.process is not None else ""
    rows = [
        ("interval", f"{asked} ms"),
        ("effective interval", f"{effective} ms{why}"),
        ("vswitchd", f"{vswitchd.state}{process}, since {utc(vswitchd.since.wall_ms)}: {vswitchd.witness}"),
        ("PMD threads", tally(snapshot.pmds)),
        *facts,
        ("looks", f"{snapshot.looks}, {snapshot.looks_failed} failed"),
        ("cost of a look", f"at most {snapshot.look_cost * 1e6:.0f} us of vswitchd's main thread"),
        ("event witness", snapshot.event_witness or "not known"),
        ("own blind time", f"{snapshot.blind_seconds:.1f} s, at most {snapshot.latest * 1000:.0f} ms at once"),
        ("blind to", "; ".join(snapshot.blind) or "nothing"),
    ]
    return answer([ENABLED, *columns(rows)])


def tally(pmds: Iterable[Pmd]) -> str:
    """4 ALIVE, 1 DEAD."""
    counts: dict[State, int] = {}
    for pmd in pmds:
        counts[pmd.state] = counts.get(pmd.state, 0) + 1
    return ", ".join(f"{counts[state]} {state}" for state in State if state in counts) or "none"


def xstats(pmds: Sequence[Pmd]) -> str:
    """`keepalive/pmd-xstats-show`."""
    lines: list[str] = []
    for pmd in pmds:
        shares = pmd.shares
        look = pmd.look
        rows = [
            ("state", f"{pmd.state}" + (f", {pmd.cause}: {pmd.witness}" if pmd.cause is not Cause.NONE else "")),
            ("core, NUMA node", f"{pmd.core}, {'not told' if pmd.numa is None else pmd.numa}"),
            ("rxqs", rxqs(pmd)),
            ("iterations", "not told" if pmd.iterations is None else str(pmd.iterations)),
            ("rate", "not known yet" if shares is None else f"{shares.rate:.0f} iterations/s"),
            ("busy, idle, sleep", _shares(pmd)),
            ("run, wait", f"{_ms(look.run_ns)}, {_ms(look.wait_ns)}"),
            ("context switches", _switches(pmd)),
            ("missed heartbeats", str(pmd.misses)),
            ("longest silence", f"{max(pmd.longest, pmd.quiet) * 1000:.0f} ms"),
            ("last progress", "never seen" if not pmd.progress.wall_ms else f"{utc(pmd.progress.wall_ms)} UTC"),
        ]
        lines += [f"{pmd.name}:", *columns(rows, "  "), ""]
    return answer([ENABLED, *(lines[:-1] or ["no PMD threads"])])


def history(transitions: Sequence[Transition]) -> str:
    """`keepalive/history`: one line each, newest last."""
    lines = [f"{stamp(t.at)}  {t.who}  {t.old} -> {t.new}  {_why(t)}" for t in transitions]
    return answer([ENABLED, *(lines or ["no transitions yet"])])


def show(node: dict[str, Any]) -> str:
    """`ovs-keepalive show`: health at a glance, from the node document."""
    if not node["enabled"]:
        return f"{DISABLED}\nTo enable: ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true\n"
    vswitchd = node["vswitchd"]
    silence = f", silent for {vswitchd['silent_ms'] / 1000:.0f} s" if vswitchd["silent_ms"] else ""
    pid = f" (pid {vswitchd['pid']})" if vswitchd["pid"] else ""
    head = f"vswitchd {vswitchd['state']}{pid}{silence}, interval {node['effective_interval_ms']} ms"
    table = [("PMD", "CORE", "NUMA", "STATE", "LAST PROGRESS", "BUSY", "IDLE", "SLEEP", "RXQS")]
    for pmd in node["pmds"]:
        shares = pmd["shares"] or {}
        age = "never" if pmd["age_ms"] is None else f"{pmd['age_ms'] / 1000:.1f} s ago"
        parts = [percent(shares.get(name)) for name in ("busy", "idle", "sleep")]
        numa = "-" if pmd["numa"] is None else str(pmd["numa"])
        queues = " ".join(map(short, pmd["rxqs"])) if pmd["rxqs"] else "-"
        table.append((pmd["name"], str(pmd["core"]), numa, pmd["state"], age, *parts, queues))
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        head,
        "",
        *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table),
    ]
    if len(table) == 1:
        lines.append("no PMD threads")
    lines += [f"{pmd['name']}: {pmd['cause']}: {pmd['witness']}" for pmd in node["pmds"] if pmd["cause"] != Cause.NONE]
    lines += [f"blind: {why}" for why in node["blind"]]
    return answer(lines)


def explain_pmd(snapshot: Snapshot, pmd: Pmd) -> str:
    """`keepalive/explain PMD`: state, cause and evidence in sentences an operator can act on."""
    name = f"{pmd.name} on core {pmd.core}"
    served = f"Its rxqs: {rxqs(pmd)}."
    if pmd.state is State.UNUSED:
        lines = [f"{name} is UNUSED: it polls no rxq, so there is nothing that it could miss."]
    elif pmd.state in (State.ALIVE, State.SLEEP):
        slept = " and sleeps between its iterations" if pmd.state is State.SLEEP else ""
        lines = [f"{name} is {pmd.state}: it finishes iterations{slept}.", served]
        if pmd.cause is Cause.STARVED:
            lines.append(
                f"Warning: it is starved, it {pmd.witness}. Keep everything else off its core (isolcpus, cpusets), or "
                "give it another one (other_config:pmd-cpu-mask)."
            )
    else:
        silence = pmd.quiet if pmd.cause not in (Cause.EXITED, Cause.PROCESS_GONE) else None
        how_long = f" for {silence:.1f} s" if silence else ""
        lines = [
            f"{name} is {pmd.state} since {utc(pmd.since.wall_ms)} UTC: {_sentence(pmd, how_long)}",
            f"Seen: {pmd.witness or 'nothing more'}.",
            f"{served} Nothing of these ports is forwarded." if pmd.rxqs else served,
            collect(pmd),
        ]
    if snapshot.vswitchd.state is not VswitchdState.RUNNING:
        lines.append(f"vswitchd is {snapshot.vswitchd.state}: {snapshot.vswitchd.witness}.")
    return answer([ENABLED, *(line for line in lines if line)])


def explain_vswitchd(snapshot: Snapshot) -> str:
    """`keepalive/explain vswitchd`."""
    vswitchd = snapshot.vswitchd
    pid = f" (pid {vswitchd.process.pid})" if vswitchd.process is not None else ""
    lines = [f"vswitchd{pid} is {vswitchd.state} since {utc(vswitchd.since.wall_ms)} UTC: {vswitchd.witness}."]
    if vswitchd.silent:
        silence = f"Its main thread has not answered for {vswitchd.silent:.0f} s"
        lines.append(f"{silence}: until it does, PMDs are judged by /proc alone.")
    if vswitchd.culprit:
        lines.append(f"{vswitchd.culprit} holds it up.")
    lines.append(f"Its PMD threads: {tally(snapshot.pmds)}.")
    if snapshot.others.threads:
        kinds = Counter(others.kind(other.thread.name) for other in snapshot.others.threads)
        lines.append(f"Its other threads: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    lines += [f"Warning: {warning}." for warning in others.warnings(snapshot.others, snapshot.at)]
    lines += [f"Blind: {why}." for why in snapshot.blind]
    return answer([ENABLED, *lines])


def rxqs(pmd: Pmd) -> str:
    """vhu1/0, dpdk0/2."""
    if pmd.rxqs is None:
        return "not told yet"
    return ", ".join(f"{short(rxq.port)}/{rxq.queue}" for rxq in pmd.rxqs) or "none"


def stamp(moment: Moment) -> str:
    """2026-11-21T04:30:36.848Z."""
    seconds = datetime.fromtimestamp(moment.wall_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{moment.wall_ms % 1000:03d}Z"


def columns(rows: Sequence[tuple[str, str]], indent: str = "") -> list[str]:
    """Rows as `name : value`, aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{indent}{name:<{width}} : {value}" for name, value in rows]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of as many cells each, the first one their heading, as lines."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def answer(lines: Sequence[str]) -> str:
    """Lines as they are printed, with nothing in them that could end one."""
    return "".join(f"{one_line(line)}\n" for line in lines)


SENTENCES = {
    Cause.STOPPED: "it is stopped by a signal (SIGSTOP){}. kill -CONT lets it go on.",
    Cause.TRACED: "a debugger or tracer holds it{}. Detach the tracer.",
    Cause.BLOCKED: "it waits in a system call and finishes no iteration{}.",
    Cause.UNINTERRUPTIBLE: "it waits in the kernel and no signal can reach it{}: storage, memory or a driver hangs.",
    Cause.FROZEN: "its cgroup is frozen{}. Thaw it (cgroup.freeze).",
    Cause.STARVED: "it is runnable and gets no CPU{}. Something else runs on its core.",
    Cause.SPINNING: "it runs but finished no iteration{}: spinning.",
    Cause.EXITED: "its thread has ended while its process lives on. Only a restart of vswitchd brings it back.",
    Cause.PROCESS_GONE: "the ovs-vswitchd process has ended. Start it, then read its log and core dump.",
    Cause.UNKNOWN: "it finished no iteration{}, and what can be seen does not say why.",
    Cause.NONE: "it finished no iteration{}.",
}


def _sentence(pmd: Pmd, how_long: str) -> str:
    return SENTENCES[pmd.cause].format(how_long)


def collect(pmd: Pmd) -> str:
    """What to collect before a restart wipes it out; empty where there is nothing left to look at."""
    if pmd.cause is Cause.SPINNING:
        return f"Before a restart collect: perf record -e cpu-clock -F 199 -g -t {pmd.id.tid} -- sleep 2"
    if pmd.cause in (Cause.BLOCKED, Cause.UNINTERRUPTIBLE, Cause.UNKNOWN):
        return f"Before a restart collect: cat /proc/{pmd.id.process.pid}/task/{pmd.id.tid}/stack"
    return ""


def _why(transition: Transition) -> str:
    cause = "" if transition.cause == Cause.NONE else f"{transition.cause}: "
    return f"{cause}{transition.evidence}"


def _shares(pmd: Pmd) -> str:
    if pmd.shares is None:
        return "not known yet"
    return ", ".join(percent(part) for part in (pmd.shares.busy, pmd.shares.idle, pmd.shares.sleep))


def percent(part: float | None) -> str:
    """A part of one, in whole percent; what is not known is a dash."""
    return "-" if part is None else f"{part:.0%}"


def _ms(ns: int | None) -> str:
    return "not readable" if ns is None else f"{ns / 1e6:.0f} ms"


def _switches(pmd: Pmd) -> str:
    if pmd.look.voluntary is None or pmd.look.involuntary is None:
        return "not readable"
    return f"{pmd.look.voluntary} voluntary, {pmd.look.involuntary} involuntary"
