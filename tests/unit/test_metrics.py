# SPDX-License-Identifier: Apache-2.0
"""/metrics, read by the parsers of the client library, which did not write it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from ovs_keepalive.beat import moment
from ovs_keepalive.core import ledger
from ovs_keepalive.core.model import (
    NEVER,
    BreakKind,
    Cause,
    LookCounts,
    Moment,
    Pmd,
    Shares,
    Snapshot,
    State,
    Transition,
    VswitchdState,
)
from ovs_keepalive.core.offload import Netdev, OffloadState
from ovs_keepalive.core.ports import PortState
from ovs_keepalive.core.tally import BOUNDS, Tally
from ovs_keepalive.formats import metric, metrics
from ovs_keepalive.formats.metric import Offloaded
from ovs_keepalive.publishers.prometheus import PAUSE, Exposition
from ovs_keepalive.publishers.weight import Weight
from tests.looks import SETTINGS, WALL_MS, broke, pmd, running, snapshot, unknown_pmd

OWN = Weight(moment())
ASKING = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(exposition: Exposition, accept: str = ASKING) -> Samples:
    """What a reader takes from it. No series stands there twice."""
    _, page = exposition.render(accept)
    parse = openmetrics if accept else plain
    found = [sample for family in parse(page.decode()) for sample in family.samples]
    read: Samples = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(read) == len(found)
    return read


def exposed(pmds: Iterable[Pmd] = (), **fields: object) -> Samples:
    """What a reader takes from one snapshot."""
    exposition = Exposition("1.2.3", OWN)
    exposition.take(snapshot(pmds, **fields))
    return samples(exposition)


def value(read: Samples, name: str, **labels: str) -> float | None:
    """Of the one series of that name with these labels, and maybe more."""
    found = [
        number
        for (series, pairs), number in read.items()
        if series == metric.PREFIX + name and labels.items() <= dict(pairs).items()
    ]
    assert len(found) < 2
    return found[0] if found else None


def later(seconds: float) -> Moment:
    """So long after the moment of a snapshot that says none."""
    return Moment(1000.0 + seconds, WALL_MS + round(seconds * 1000))


def change(mono: float, who: str, old: str, new: str, cause: str = "none") -> Transition:
    return Transition(Moment(mono, 0), who, old, new, cause, "")


def test_every_family_of_the_table_is_told_in_both_formats() -> None:
    shares = Shares(1e5, 0.25, 0.5, 0.25, 0.9, 0.1)
    well, dead = pmd(shares=shares), pmd(name="pmd-c01/id:9", core=1, state=State.DEAD, cause=Cause.TRACED)
    told = snapshot(
        [well, dead],
        counts=LookCounts(3, 1, (0, 2, *[0] * 12, 1), 20.5),
        history=(
            change(1.0, dead.name, "ALIVE", "MISSING", "traced"),
            change(1.2, dead.name, "MISSING", "DEAD", "traced"),
        ),
        breaks=(broke(),),
        break_counts={BreakKind.PLANNED: 3},
    )
    exposition = Exposition("1.2.3", OWN)
    exposition.ports = [('vhu"0', PortState.STRANDED), ("vhu1", None)]
    device = Netdev("p0", OffloadState.OOR, NEVER, "", "", 3, 2, 9.5, 4.5, 3, 0.5, 0.6, 0.8)
    exposition.offload = Offloaded((device,), armed=True, moves={("fill", "promoted"): 2})
    exposition.take(told, committed=7, failed=2)
    for accept in (ASKING, ""):
        _, page = exposition.render(accept)
        text = page.decode()
        for family in metrics.FAMILIES:
            assert f"\n{metric.PREFIX}{family.name}" in text, family.name
    read = samples(exposition)
    assert value(read, "build_info", version="1.2.3") == 1
    assert value(read, "port_state", port='vhu"0', state="STRANDED") == 1
    assert value(read, "port_state", port='vhu"0', state="UP") == 0
    assert all(value(read, "port_state", port="vhu1", state=state) == 0 for state in PortState)
    assert value(read, "enabled") == 1
    assert value(read, "interval_seconds") == SETTINGS.interval
    assert value(read, "beat_timestamp_seconds") == told.at.wall_ms / 1000
    assert value(read, "pmd_state", pmd=dead.name, core="1", numa="0", state="DEAD") == 1
    assert value(read, "pmd_state", pmd=dead.name, core="1", numa="0", state="ALIVE") == 0
    assert value(read, "pmd_cause", pmd=dead.name, cause="traced") == 1
    assert value(read, "pmd_cause", pmd=well.name) is None
    assert value(read, "pmd_last_seen_timestamp_seconds", pmd=well.name) == well.progress.wall_ms / 1000
    assert value(read, "pmd_busy_ratio", pmd=well.name) == 0.25
    assert value(read, "pmd_missed_heartbeats_total", pmd=dead.name) == 1
    assert value(read, "pmd_missed_heartbeats_total", pmd=well.name) == 0
    assert value(read, "pmd_transitions_total", pmd=dead.name, to="DEAD", cause="traced") == 1
    assert value(read, "looks_total", source="proc", result="done") == 3
    assert value(read, "looks_total", source="control-socket", result="done") == 3
    assert value(read, "look_duration_seconds_bucket", le="0.0005") == 2
    assert value(read, "look_duration_seconds_bucket", le="10.0") == 2
    assert value(read, "look_duration_seconds_bucket", le="+Inf") == 3
    assert value(read, "look_duration_seconds_sum") == 20.5
    assert value(read, "ovsdb_transactions_total", result="committed") == 7
    assert value(read, "ovsdb_transactions_total", result="failed") == 2
    assert value(read, "vswitchd_breaks_total", kind="planned") == 3
    assert value(read, "vswitchd_last_break_seconds") == pytest.approx(1.5)
    assert (value(read, "process_cpu_seconds_total") or 0) > 0
    assert (value(read, "process_resident_memory_bytes") or 0) > 1 << 20


def test_the_two_formats_say_the_same() -> None:
    exposition = Exposition("1.2.3", OWN)
    exposition.take(snapshot([pmd(), unknown_pmd(name="pmd-c03/id:1", core=3)]))
    changing = metric.PREFIX + "process_"
    one, other = (
        {series: number for series, number in samples(exposition, accept).items() if not series[0].startswith(changing)}
        for accept in (ASKING, "")
    )
    assert one == other
    assert len(one) >= 40


def test_what_is_not_known_is_absent() -> None:
    bare = unknown_pmd()
    read = exposed([bare], breaks=(broke(unknown="no traffic"),))
    assert value(read, "vswitchd_last_break_seconds") is None
    for name in ("pmd_last_seen_timestamp_seconds", "pmd_iterations_total", "pmd_busy_ratio", "pmd_cause"):
        assert value(read, name) is None, name
    assert bare.progress == NEVER
    assert value(read, "pmd_starved", pmd=bare.name) == 0


def test_before_the_first_snapshot_the_daemon_tells_of_itself_only() -> None:
    read = samples(Exposition("1.2.3", OWN))
    assert value(read, "build_info") == 1
    assert value(read, "enabled") is None
    assert not [name for name, _ in read if "pmd" in name or "vswitchd" in name]


def test_while_disabled_nothing_is_said_of_what_nobody_looks_at() -> None:
    read = exposed([], settings=replace(SETTINGS, enabled=False), vswitchd=running(None, state=VswitchdState.GONE))
    assert value(read, "enabled") == 0
    assert not [name for name, _ in read if "pmd" in name or "vswitchd" in name or name.endswith("_up")]


@pytest.mark.parametrize(
    ("blind", "control", "proc"),
    [
        ((), 1, 1),
        (("main thread: no answer for 5 s",), 0, 1),
        (("iterations: refused", "threads: Permission denied"), 0, 0),
        (("log: no such file",), 1, 1),
    ],
)
def test_a_source_is_up_that_shows_what_it_should(blind: tuple[str, ...], control: int, proc: int) -> None:
    read = exposed([pmd()], blind=blind)
    assert value(read, "up", source="control-socket") == control
    assert value(read, "up", source="proc") == proc


def test_without_a_vswitchd_no_source_is_up() -> None:
    read = exposed([], vswitchd=running(None, state=VswitchdState.GONE), blind=("no pidfile",))
    assert [value(read, "up", source=source) for source in metrics.BLIND] == [0, 0]
    assert value(read, "vswitchd_state", state="GONE") == 1
    assert value(read, "vswitchd_state", state="RUNNING") == 0


def test_a_registered_pmd_goes_before_one_of_its_name_that_waits() -> None:
    name = "pmd-c00/id:7"
    waits, old = pmd(name=name, state=State.UNUSED), pmd(name=name, state=State.GONE, cause=Cause.PROCESS_GONE)
    for pair in ((waits, old), (old, waits)):
        read = exposed(pair)
        assert value(read, "pmd_state", pmd=name, state="GONE") == 1


def test_what_is_counted_of_a_name_goes_on_when_it_comes_back() -> None:
    exposition, one = Exposition("1.2.3", OWN), pmd()
    first = (change(1.0, one.name, "UNUSED", "ALIVE"), change(2.0, one.name, "ALIVE", "GONE", "process-gone"))
    exposition.take(snapshot([one], history=first))
    assert value(samples(exposition), "pmd_missed_heartbeats_total") == 1
    exposition.take(snapshot([], history=first, at=later(1.0)))
    assert value(samples(exposition), "pmd_missed_heartbeats_total") is None
    # Disabled and enabled: the history begins anew.
    exposition.take(snapshot([], history=()))
    exposition.take(snapshot([one], history=(change(9.0, one.name, "UNUSED", "GONE", "process-gone"),)))
    read = samples(exposition)
    assert value(read, "pmd_missed_heartbeats_total") == 2
    assert value(read, "pmd_transitions_total", to="GONE") == 2
    assert value(read, "pmd_transitions_total", to="ALIVE") == 1


def test_a_transition_is_counted_once_however_often_it_is_told() -> None:
    exposition, one = Exposition("1.2.3", OWN), pmd()
    history: tuple[Transition, ...] = ()
    for turn in range(600):
        history = (*history, change(float(turn), one.name, "ALIVE", "MISSING", "blocked"))[-500:]
        exposition.take(snapshot([one], history=history))
        exposition.take(snapshot([one], history=tuple(history)))
    assert value(samples(exposition), "pmd_transitions_total", to="MISSING") == 600


def test_only_pmds_are_counted() -> None:
    exposition = Exposition("1.2.3", OWN)
    exposition.take(snapshot([pmd()], history=(change(1.0, "vswitchd", "RUNNING", "GONE"),)))
    assert exposition._taken.counted == {}


@pytest.mark.parametrize(("here", "kept"), [(1, ledger.ABSENT), (ledger.ABSENT, ledger.ABSENT), (300, 300)])
def test_the_ledger_forgets_names_that_are_gone_the_oldest_first(here: int, kept: int) -> None:
    present = {f"pmd-c01/id:{number}" for number in range(here)}
    names = [*sorted(present), *(f"pmd-c00/id:{number}" for number in range(kept + 2))]
    counted: Mapping[str, ledger.Counted] = {}
    for name in names:
        counted = ledger.counted(counted, [change(1.0, name, "UNUSED", "ALIVE")], present)
    assert present <= set(counted)
    assert len(counted) == here + kept
    assert "pmd-c00/id:1" not in counted
    assert f"pmd-c00/id:{kept + 1}" in counted


def test_an_answer_is_counted_where_it_belongs() -> None:
    tally = Tally()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1] * 2):
        tally.answered(seconds)
    tally.looked(seen=True)
    tally.looked(seen=False)
    told = tally.told()
    assert told.answers == (2, 1, *[0] * (len(BOUNDS) - 2), 1)
    assert (told.proc, told.proc_failed) == (1, 1)


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (ASKING, True),
        ("application/openmetrics-text", True),
        ("text/plain;q=0.3, Application/OpenMetrics-Text; charset=utf-8; version=1.0.0;escaping=allow-utf-8", True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=a", False),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-text;version=1.0.0;q=0.5", True),
        ("application/openmetrics-textual;version=1.0.0", False),
        (",;,=;" * 1000, False),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, asked: bool) -> None:
    assert metric.wants_openmetrics(accept) is asked
    content_type, page = Exposition("1.2.3", OWN).render(accept)
    assert content_type == (metric.OPENMETRICS if asked else metric.TEXT)
    assert page.endswith(b"# EOF\n") is asked


def test_no_help_needs_escapes() -> None:
    assert [family.name for family in metrics.FAMILIES if set(family.help) & set('\\\n"')] == []
    assert [family.name for family in metrics.FAMILIES if not family.help.endswith(".")] == []


def test_a_page_serves_all_who_ask_until_there_is_news() -> None:
    exposition, history = Exposition("1.2.3", OWN), (change(1.0, pmd().name, "UNUSED", "ALIVE"),)
    first = snapshot([pmd()], history=history)
    exposition.take(first)
    _, page = exposition.render(ASKING)
    assert exposition.render(ASKING)[1] is page
    assert exposition.render("")[1] != page
    exposition.take(replace(first, at=later(PAUSE * 0.9)))
    assert exposition.render(ASKING)[1] is page
    exposition.take(replace(first, at=later(PAUSE)))
    assert exposition.render(ASKING)[1] is not page
    _, page = exposition.render(ASKING)
    exposition.take(replace(first, at=later(PAUSE), settings=replace(SETTINGS, enabled=False), pmds=()))
    assert value(samples(exposition), "enabled") == 0
    exposition.take(replace(first, at=later(PAUSE), history=(*history, change(2.0, pmd().name, "ALIVE", "DEAD"))))
    assert value(samples(exposition), "pmd_missed_heartbeats_total") == 1


def test_pages_are_whole_while_the_main_loop_hands_over() -> None:
    exposition, stop, failures = Exposition("1.2.3", OWN), threading.Event(), list[str]()
    pmds = [pmd(name=f"pmd-c{core:02d}/id:{core}", core=core) for core in range(20)]

    def read() -> None:
        while not stop.is_set():
            _, page = exposition.render(ASKING)
            if page.count(b'state="DEAD"} ') != 20 and b"pmd_state" in page:
                failures.append("a page without all PMDs")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    told: Snapshot = snapshot(pmds)
    try:
        for turn in range(100):
            news = tuple(change(float(turn), one.name, "ALIVE", "DEAD", "blocked") for one in pmds)
            told = snapshot(pmds, history=(*told.history, *news)[-500:])
            exposition.take(told)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert value(samples(exposition), "pmd_transitions_total", pmd=pmds[0].name, to="DEAD") == 100
