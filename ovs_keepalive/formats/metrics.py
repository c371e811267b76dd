# SPDX-License-Identifier: Apache-2.0
"""The metrics, and how they are written: Prometheus text and OpenMetrics (CONTRACT section 10).

FAMILIES is the one table of them; docs/metrics.md is generated from it. Written by hand: with the client library a page
of 256 PMDs takes 40 to 60 ms of CPU (docs/decisions/0008).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate

from ovs_keepalive.core import breaks, ledger, tally
from ovs_keepalive.core.model import NEVER, Cause, Pmd, State, VswitchdState
from ovs_keepalive.core.ports import PortState
from ovs_keepalive.formats import offload_metrics
from ovs_keepalive.formats.metric import Facts, Family, Kind, Page, Row, label, written
from ovs_keepalive.formats.plain import one_line

# The first words of lines that say what is not seen (core.vswitchd.blind), by the source that does not show it.
BLIND = {"control-socket": ("iterations", "rxqs", "main thread"), "proc": ("threads",)}


def text(facts: Facts, *, openmetrics: bool) -> Iterator[str]:
    """The exposition, family by family."""
    page = None if facts.snapshot is None else Page(facts, facts.snapshot, _by_name(facts.snapshot.pmds))
    for family in FAMILIES:
        if family.of_facts is not None:
            rows = family.of_facts(facts)
        elif page is not None:
            rows = family.rows(page)
        else:
            continue
        yield written(family.name, family.kind, family.help, rows, openmetrics=openmetrics)
    if openmetrics:
        yield "# EOF\n"


def _by_name(pmds: Iterable[Pmd]) -> tuple[tuple[str, str, Pmd], ...]:
    """One PMD a name. While a new process's wait to be registered they may bear the names of the old one's."""
    chosen: dict[str, Pmd] = {}
    for pmd in pmds:
        name = one_line(pmd.name)
        if name not in chosen or chosen[name].state is State.UNUSED:
            chosen[name] = pmd
    return tuple(
        (name, f'{label("pmd", name)},core="{pmd.core}",numa="{"" if pmd.numa is None else pmd.numa}"', pmd)
        for name, pmd in chosen.items()
    )


# --- the rows ----------------------------------------------------------------------------------


def _build(facts: Facts) -> Iterable[Row]:
    return [Row(label("version", facts.version), 1)]


def _up(page: Page) -> Iterable[Row]:
    if not page.snapshot.settings.enabled:
        return
    for source, words in BLIND.items():
        blind = any(line.startswith(words) for line in page.snapshot.blind)
        yield Row(f'source="{source}"', int(page.snapshot.vswitchd.process is not None and not blind))


def _looks(page: Page) -> Iterable[Row]:
    counts = page.snapshot.counts
    for source, done, failed in (
        ("control-socket", sum(counts.answers), page.snapshot.looks_failed),
        ("proc", counts.proc, counts.proc_failed),
    ):
        yield Row(f'source="{source}",result="done"', done)
        yield Row(f'source="{source}",result="failed"', failed)


def _durations(page: Page) -> Iterable[Row]:
    counts = page.snapshot.counts
    if not counts.answers:
        return
    for bound, count in zip((*tally.BOUNDS, math.inf), accumulate(counts.answers), strict=True):
        yield Row(f'le="{"+Inf" if bound == math.inf else bound}"', count, "_bucket")
    yield Row("", counts.answer_seconds, "_sum")
    yield Row("", sum(counts.answers), "_count")


def _states(page: Page) -> Iterable[Row]:
    for _, labels, pmd in page.pmds:
        for state in State:
            yield Row(f'{labels},state="{state}"', int(pmd.state is state))


def _causes(page: Page) -> Iterable[Row]:
    for _, labels, pmd in page.pmds:
        if pmd.cause is not Cause.NONE:
            yield Row(f'{labels},cause="{pmd.cause}"', 1)


def _seen(page: Page) -> Iterable[Row]:
    return (Row(labels, pmd.progress.wall_ms / 1000) for _, labels, pmd in page.pmds if pmd.progress != NEVER)


def _iterations(page: Page) -> Iterable[Row]:
    return (Row(labels, pmd.iterations) for _, labels, pmd in page.pmds if pmd.iterations is not None)


def _busy(page: Page) -> Iterable[Row]:
    for _, labels, pmd in page.pmds:
        if pmd.shares is not None and pmd.shares.busy is not None:
            yield Row(labels, pmd.shares.busy)


def _missed(page: Page) -> Iterable[Row]:
    counted = page.facts.counted
    return (Row(labels, counted.get(name, ledger.NOTHING).misses) for name, labels, _ in page.pmds)


def _transitions(page: Page) -> Iterable[Row]:
    for name, labels, _ in page.pmds:
        for (to, cause), count in page.facts.counted.get(name, ledger.NOTHING).transitions.items():
            yield Row(f'{labels},to="{to}",cause="{cause}"', count)


def _vswitchd(page: Page) -> Iterable[Row]:
    if page.snapshot.settings.enabled:  # else nobody has looked
        for state in VswitchdState:
            yield Row(f'state="{state}"', int(page.snapshot.vswitchd.state is state))


def _breaks(page: Page) -> Iterable[Row]:
    return (Row(f'kind="{kind}"', count) for kind, count in page.snapshot.break_counts.items())


def _last_break(page: Page) -> Iterable[Row]:
    lasted = breaks.data_plane(page.snapshot.breaks[-1]) if page.snapshot.breaks else None
    return [] if lasted is None else [Row("", lasted[1])]


def _ports(page: Page) -> Iterable[Row]:
    """None of a port whose state is not known is 1."""
    for name, state in page.facts.ports:
        labels = label("port", name)
        for one in PortState:
            yield Row(f'{labels},state="{one}"', int(state is one))


def _transactions(facts: Facts) -> Iterable[Row]:
    return [Row('result="committed"', facts.committed), Row('result="failed"', facts.failed)]


PMD = ("pmd", "core", "numa")
FAMILIES = (
    Family("build_info", Kind.INFO, ("version",), "The version of the daemon that answers.", _build),
    Family(
        "enabled",
        Kind.GAUGE,
        (),
        "Whether keepalive is enabled (other_config:enable-keepalive); while it is 0 no thread is looked at.",
        rows=lambda page: [Row("", int(page.snapshot.settings.enabled))],
    ),
    Family(
        "interval_seconds",
        Kind.GAUGE,
        (),
        "The keepalive interval that is asked for (other_config:keepalive-interval).",
        rows=lambda page: [Row("", page.snapshot.settings.interval)],
    ),
    Family(
        "effective_interval_seconds",
        Kind.GAUGE,
        (),
        "The interval in force: longer where looks would cost more than max-main-share, or where PMDs may nap so long.",
        rows=lambda page: [Row("", page.snapshot.effective)],
    ),
    Family(
        "beat_timestamp_seconds",
        Kind.GAUGE,
        (),
        "When the newest verdict was made, at least once a second; if it stands still, so does every state below.",
        rows=lambda page: [Row("", page.snapshot.at.wall_ms / 1000)],
    ),
    Family(
        "up",
        Kind.GAUGE,
        ("source",),
        "Whether this source shows all it should; absent while keepalive is disabled.",
        rows=_up,
    ),
    Family(
        "looks_total",
        Kind.COUNTER,
        ("source", "result"),
        "Looks at vswitchd through this source, done and failed.",
        rows=_looks,
    ),
    Family(
        "look_duration_seconds",
        Kind.HISTOGRAM,
        ("le",),
        "How long vswitchd took to answer a look on its control socket; one that it still owes is not in it.",
        rows=_durations,
    ),
    Family(
        "blind_seconds_total",
        Kind.COUNTER,
        (),
        "Time for which the daemon itself was not given the CPU it was due: it counts as nobody's miss.",
        rows=lambda page: [Row("", page.snapshot.blind_seconds)],
    ),
    Family(
        "look_lateness_max_seconds",
        Kind.GAUGE,
        (),
        "By how much the latest of all looks since the daemon began came late.",
        rows=lambda page: [Row("", page.snapshot.latest)],
    ),
    Family(
        "pmd_state",
        Kind.GAUGE,
        (*PMD, "state"),
        "1 for the state that the PMD thread is in, 0 for the others.",
        rows=_states,
    ),
    Family(
        "pmd_cause",
        Kind.GAUGE,
        (*PMD, "cause"),
        "1 for the cause why the PMD thread makes no progress, or too little (starved); absent while there is none.",
        rows=_causes,
    ),
    Family(
        "pmd_last_seen_timestamp_seconds",
        Kind.GAUGE,
        PMD,
        "When progress of the PMD thread was last observed; absent before the first.",
        rows=_seen,
    ),
    Family(
        "pmd_iterations_total",
        Kind.COUNTER,
        PMD,
        "Iterations of the PMD thread as vswitchd counts them; from 0 again after pmd-stats-clear or a restart.",
        rows=_iterations,
    ),
    Family(
        "pmd_busy_ratio",
        Kind.GAUGE,
        PMD,
        "Part of the iterations that found packets, over the last second or more.",
        rows=_busy,
    ),
    Family(
        "pmd_starved",
        Kind.GAUGE,
        PMD,
        "Whether the PMD thread wants its CPU and is not given it.",
        rows=lambda page: (Row(labels, int(pmd.cause is Cause.STARVED)) for _, labels, pmd in page.pmds),
    ),
    Family(
        "pmd_missed_heartbeats_total",
        Kind.COUNTER,
        PMD,
        "Times that the PMD of this name left UNUSED, ALIVE or SLEEP for MISSING, DEAD or GONE since the daemon began.",
        rows=_missed,
    ),
    Family(
        "pmd_transitions_total",
        Kind.COUNTER,
        (*PMD, "to", "cause"),
        "Changes of state of the PMD of this name since the daemon began (between ALIVE and SLEEP is none).",
        rows=_transitions,
    ),
    Family(
        "vswitchd_state",
        Kind.GAUGE,
        ("state",),
        "1 for the state that ovs-vswitchd is in, 0 for the others; absent while keepalive is disabled.",
        rows=_vswitchd,
    ),
    Family(
        "vswitchd_breaks_total",
        Kind.COUNTER,
        ("kind",),
        "Times that ovs-vswitchd ended since the daemon began: orderly, crash, or planned, which is announced.",
        rows=_breaks,
    ),
    Family(
        "vswitchd_last_break_seconds",
        Kind.GAUGE,
        (),
        "About how long the newest of them left packets unsent; absent while that is not known (no traffic, no end).",
        rows=_last_break,
    ),
    Family(
        "port_state",
        Kind.GAUGE,
        ("port", "state"),
        "1 for the state that the port is in, 0 for the others; all 0 where none is proven.",
        rows=_ports,
    ),
    *offload_metrics.FAMILIES,
    Family(
        "ovsdb_transactions_total",
        Kind.COUNTER,
        ("result",),
        "Transactions that wrote the columns, committed and failed.",
        _transactions,
    ),
    Family(
        "process_cpu_seconds_total",
        Kind.COUNTER,
        (),
        "CPU time that the daemon has taken, all its threads.",
        lambda facts: [Row("", facts.own.cpu)],
    ),
    Family(
        "process_resident_memory_bytes",
        Kind.GAUGE,
        (),
        "Memory of the daemon in RAM.",
        lambda facts: [Row("", facts.own.memory)],
    ),
    Family(
        "process_start_time_seconds",
        Kind.GAUGE,
        (),
        "When the daemon began.",
        lambda facts: [Row("", facts.own.began)],
    ),
)
