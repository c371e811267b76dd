# SPDX-License-Identifier: Apache-2.0
"""The answers of the appctl commands: the table of the series byte for byte; none fails on what is not known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ovs_keepalive.core.model import (
    Cause,
    Moment,
    Pmd,
    Rxq,
    Shares,
    Snapshot,
    State,
    Transition,
    VswitchdState,
)
from ovs_keepalive.formats import document, tables
from tests.looks import SETTINGS, WALL_MS, pmd, running, snapshot, unknown_pmd

NOW = Moment(1003.25, WALL_MS + 3250)

# CONTRACT section 5, with all four of its PMDs.
HEALTH = (
    "\n"
    "\t\tKeepalive status\n"
    "\n"
    "keepalive status   : Enabled\n"
    "keepalive interval : 1000 ms\n"
    "keepalive init time: 21 Aug 2017 16:20:31 \n"
    "PMD threads        : 4 \n"
    "\n"
    " PMD\tCORE\tSTATE\tLAST SEEN TIMESTAMP(UTC)\n"
    "pmd-c00/id:6\t 0\tALIVE\t21 Aug 2017 16:29:31\n"
    "pmd-c01/id:7\t 1\tMISSING\t21 Aug 2017 16:29:30\n"
    "pmd-c09/id:8\t 9\tSLEEP\t21 Aug 2017 16:29:31\n"
    "pmd-c12/id:9\t12\tGONE\t21 Aug 2017 16:29:01\n"
    "\n"
)


def _at(hour: int, minute: int, second: int) -> Moment:
    return Moment(1000.0, int(datetime(2017, 8, 21, hour, minute, second, tzinfo=UTC).timestamp() * 1000))


def _disabled(**fields: Any) -> Snapshot:
    return snapshot(settings=replace(SETTINGS, enabled=False), **fields)


def _stalled(**fields: Any) -> Pmd:
    values: dict[str, Any] = {
        "state": State.DEAD,
        "cause": Cause.SPINNING,
        "witness": "runs 97% of the time and finishes no iteration",
        "quiet": 2.5,
    }
    return pmd(**{**values, **fields})


# --- pmd-health-show -----------------------------------------------------------------------------


def test_the_health_table_is_that_of_the_series_byte_for_byte() -> None:
    pmds = (
        pmd(0, 6, progress=_at(16, 29, 31)),
        pmd(1, 7, progress=_at(16, 29, 30), state=State.MISSING),
        pmd(5, 5, state=State.UNUSED),
        pmd(9, 8, progress=_at(16, 29, 31), state=State.SLEEP),
        pmd(12, 9, progress=_at(16, 29, 1), state=State.GONE),
    )
    assert tables.health(snapshot(pmds, enabled_at=_at(16, 20, 31))) == HEALTH


def test_the_health_table_of_one_pmd_is_the_literal_of_the_contract() -> None:
    literal = (
        "\n\t\tKeepalive status\n\n"
        "keepalive status   : Enabled\nkeepalive interval : 1000 ms\n"
        "keepalive init time: 21 Aug 2017 16:20:31 \nPMD threads        : 1 \n\n"
        " PMD\tCORE\tSTATE\tLAST SEEN TIMESTAMP(UTC)\n"
        "pmd-c00/id:6\t 0\tALIVE\t21 Aug 2017 16:29:31\n\n"
    )
    one = snapshot([pmd(0, 6, progress=_at(16, 29, 31))], enabled_at=_at(16, 20, 31))
    assert tables.health(one).encode() == literal.encode()


def test_the_disabled_health_table_has_only_its_title_and_its_status() -> None:
    assert tables.health(_disabled(pmds=(pmd(),))) == "\n\t\tKeepalive status\n\nkeepalive status   : Disabled\n"


def test_the_health_table_without_pmds_keeps_its_head() -> None:
    text = tables.health(snapshot(enabled_at=_at(16, 20, 31)))
    assert "PMD threads        : 0 \n" in text
    assert text.endswith(" PMD\tCORE\tSTATE\tLAST SEEN TIMESTAMP(UTC)\n\n")


def test_the_interval_shown_is_the_one_that_was_asked_for() -> None:
    text = tables.health(snapshot(settings=replace(SETTINGS, interval=0.01), effective=0.05))
    assert "keepalive interval : 10 ms\n" in text


# --- status --------------------------------------------------------------------------------------


def test_the_first_line_of_status_is_the_one_of_the_series() -> None:
    assert tables.status(snapshot(), []).splitlines()[0] == "keepAlive Status: Enabled"
    assert tables.status(_disabled(), []).splitlines()[0] == "keepAlive Status: Disabled"


def test_status_tells_intervals_process_threads_and_blindness() -> None:
    text = tables.status(
        snapshot(
            [pmd(0, 6), pmd(1, 7), _stalled(core=2), pmd(4, 4, state=State.UNUSED)],
            settings=replace(SETTINGS, interval=0.02),
            effective=0.1,
            blind=("iterations: answered garbage", "rxqs: refused"),
            blind_seconds=1.25,
            latest=0.75,
            looks=77,
            looks_failed=3,
            look_cost=0.000145,
        ),
        [("database", "unix:/run/openvswitch/db.sock, connected"), ("lock", "held")],
    )
    for part in (
        "20 ms",
        "100 ms (looking more often would take too much of vswitchd's main thread)",
        "RUNNING, pid 100",
        "1 UNUSED, 2 ALIVE, 1 DEAD",
        "unix:/run/openvswitch/db.sock, connected",
        "lock               : held",
        "77, 3 failed",
        "145 us",
        "1.2 s",
        "iterations: answered garbage; rxqs: refused",
    ):
        assert part in text


def test_status_tells_of_an_interval_that_is_stretched_for_naps() -> None:
    napping = snapshot(settings=replace(SETTINGS, interval=0.01, nap=0.01), effective=0.02)
    assert "20 ms (OVS lets PMDs nap for up to 10 ms: pmd-maxsleep, pmd-sleep-max)" in tables.status(napping, [])


def test_status_says_nothing_of_stretching_where_the_interval_is_kept() -> None:
    text = tables.status(snapshot(), [])
    assert "effective interval : 1000 ms\n" in text
    assert "blind to           : nothing\n" in text


def test_disabled_status_still_tells_what_the_main_loop_knows() -> None:
    refused = "other_config:keepalive-interval=soon: 1000 ms stays in force"
    assert refused in tables.status(_disabled(), [("refused setting", refused)])


# --- pmd-xstats-show -----------------------------------------------------------------------------


def test_xstats_tell_what_the_contract_lists() -> None:
    known = pmd(
        iterations=123456,
        shares=Shares(rate=1_000_000.4, busy=0.25, idle=0.75, sleep=0.1, run=0.9, wait=0.1),
        rxqs=(Rxq("vhu1", 0), Rxq("dpdk0", 2)),
        misses=3,
        longest=1.25,
        numa=1,
    )
    known = known._replace(look=known.look._replace(run_ns=5_000_000, wait_ns=7_000_000, voluntary=11, involuntary=13))
    text = tables.xstats([known])
    assert text.startswith("keepAlive Status: Enabled\npmd-c03/id:8:\n")
    for part in (
        "123456",
        "1000000 iterations/s",
        "25%, 75%, 10%",
        "vhu1/0, dpdk0/2",
        "5 ms, 7 ms",
        "11 voluntary, 13 involuntary",
        "missed heartbeats : 3",
        "1250 ms",
        "3, 1",
        "14 Nov 2023 22:13:20 UTC",
    ):
        assert part in text


def test_the_silence_that_goes_on_counts_as_the_longest() -> None:
    stalled = _stalled(quiet=9.0, longest=1.0)
    assert "9000 ms" in tables.xstats([stalled])


def test_xstats_show_unused_pmds_too() -> None:
    unused = pmd(state=State.UNUSED, rxqs=())
    text = tables.xstats([unused])
    assert "UNUSED" in text
    assert re.search(r"rxqs +: none\n", text)


def test_xstats_without_pmds_say_so() -> None:
    assert tables.xstats([]) == "keepAlive Status: Enabled\nno PMD threads\n"


# --- explain -------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", Cause, ids=str)
@pytest.mark.parametrize("state", State, ids=str)
def test_every_state_and_cause_is_explained_in_sentences(state: State, why: Cause) -> None:
    explained = pmd(state=state, cause=why, witness="what was seen", quiet=2.5)
    lines = tables.explain_pmd(snapshot([explained]), explained).splitlines()
    assert lines[0] == "keepAlive Status: Enabled"
    assert f"pmd-c03/id:8 on core 3 is {state}" in lines[1]
    assert all(re.search(r"[.]$|^Before a restart collect: ", line) for line in lines[1:])
    assert not any("{}" in line for line in lines)


def test_a_bad_pmd_is_explained_with_evidence_silence_and_the_ports_it_serves() -> None:
    stalled = _stalled(rxqs=(Rxq("vhu1", 0), Rxq("dpdk0", 2)))
    text = tables.explain_pmd(snapshot([stalled]), stalled)
    assert "for 2.5 s" in text
    assert "Seen: runs 97% of the time and finishes no iteration." in text
    assert "Its rxqs: vhu1/0, dpdk0/2. Nothing of these ports is forwarded." in text
    assert f"perf record -e cpu-clock -F 199 -g -t {stalled.id.tid} -- sleep 2" in text


def test_a_starved_pmd_is_explained_as_alive_with_who_has_its_cpu_and_what_to_do() -> None:
    witness = "runs 5% and waits 95% of the time, on CPU 3 ran stress-ng (pid 77)"
    told = tables.explain_pmd(snapshot(), pmd(cause=Cause.STARVED, witness=witness))
    assert "is ALIVE: it finishes iterations." in told
    assert f"Warning: it is starved, it {witness}." in told
    assert "pmd-cpu-mask" in told


def test_an_exited_thread_is_explained_without_things_to_collect_from_it() -> None:
    exited = pmd(state=State.GONE, cause=Cause.EXITED, witness="the thread is gone", quiet=2.5)
    text = tables.explain_pmd(snapshot([exited]), exited)
    assert "its thread has ended" in text
    assert "/proc/" not in text
    assert "2.5 s" not in text


def test_an_explanation_tells_that_vswitchd_itself_is_not_well() -> None:
    restarting = running(None, state=VswitchdState.RESTARTING, witness="orderly stop")
    assert "vswitchd is RESTARTING: orderly stop." in tables.explain_pmd(snapshot([pmd()], vswitchd=restarting), pmd())


def test_vswitchd_is_explained_with_its_silence_and_its_culprit() -> None:
    hung = running(state=VswitchdState.HUNG, silent=12.0, witness="no answer for 4 s", culprit="pmd-c03/id:8")
    text = tables.explain_vswitchd(snapshot([pmd()], vswitchd=hung, blind=("threads: hidden",)))
    assert "vswitchd (pid 100) is HUNG since 14 Nov 2023 22:13:20 UTC: no answer for 4 s." in text
    assert "has not answered for 12 s" in text
    assert "pmd-c03/id:8 holds it up." in text
    assert "Its PMD threads: 1 ALIVE." in text
    assert "Blind: threads: hidden." in text


# --- history -------------------------------------------------------------------------------------


def test_the_history_is_one_line_a_transition_newest_last() -> None:
    text = tables.history(
        [
            Transition(NOW, "pmd-c03/id:8", "ALIVE", "MISSING", Cause.TRACED, "last progress 1.00 s ago"),
            Transition(NOW, "vswitchd", "RUNNING", "HUNG", "none", "no answer for 4 s"),
        ]
    )
    assert text == (
        "keepAlive Status: Enabled\n"
        "2023-11-14T22:13:23.250Z  pmd-c03/id:8  ALIVE -> MISSING  traced: last progress 1.00 s ago\n"
        "2023-11-14T22:13:23.250Z  vswitchd  RUNNING -> HUNG  no answer for 4 s\n"
    )


def test_an_empty_history_says_so() -> None:
    assert tables.history([]) == "keepAlive Status: Enabled\nno transitions yet\n"


# --- show ----------------------------------------------------------------------------------------


def _show(shown: Snapshot) -> str:
    """As the command line does it: by way of the JSON document."""
    return tables.show(json.loads(msgspec.json.encode(document.node(shown, NOW, {}))))


def test_show_lists_every_pmd_with_its_age_and_shares() -> None:
    busy = pmd(0, 6, shares=Shares(10.0, 0.25, 0.75, None, None, None), rxqs=(Rxq("vhu1", 0), Rxq("dpdk0", 2)))
    unused = pmd(11, 7, state=State.UNUSED, rxqs=())
    lines = _show(snapshot([busy, unused])).splitlines()
    assert lines[0] == "vswitchd RUNNING (pid 100), interval 1000 ms"
    assert lines[2].split() == ["PMD", "CORE", "NUMA", "STATE", "LAST", "PROGRESS", "BUSY", "IDLE", "SLEEP", "RXQS"]
    assert lines[3].split() == [
        "pmd-c00/id:6",
        "0",
        "0",
        "ALIVE",
        "3.2",
        "s",
        "ago",
        "25%",
        "75%",
        "-",
        "vhu1/0",
        "dpdk0/2",
    ]
    assert lines[4].split() == ["pmd-c11/id:7", "11", "0", "UNUSED", "3.2", "s", "ago", "-", "-", "-", "-"]


def test_show_tells_the_cause_of_what_is_bad_and_what_it_is_blind_to() -> None:
    text = _show(snapshot([_stalled()], blind=("rxqs: refused",)))
    assert "pmd-c03/id:8: spinning: runs 97% of the time and finishes no iteration\n" in text
    assert "blind: rxqs: refused\n" in text


def test_show_says_how_to_enable_it() -> None:
    assert _show(_disabled()) == (
        "keepAlive Status: Disabled\nTo enable: ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true\n"
    )


def test_show_without_pmds_says_so() -> None:
    assert "no PMD threads\n" in _show(snapshot(vswitchd=running(None, state=VswitchdState.GONE)))


# --- what is not known, and what is hostile ------------------------------------------------------

TEXTS: dict[str, Callable[[Snapshot, Pmd], str]] = {
    "pmd-health-show": lambda shown, _: tables.health(shown),
    "status": lambda shown, _: tables.status(shown, []),
    "pmd-xstats-show": lambda _, one: tables.xstats([one]),
    "explain": tables.explain_pmd,
    "explain vswitchd": lambda shown, _: tables.explain_vswitchd(shown),
    "show": lambda shown, _: _show(shown),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("state", State, ids=str)
@pytest.mark.parametrize("why", [Cause.NONE, Cause.UNKNOWN], ids=str)
def test_no_answer_fails_on_a_pmd_of_which_nothing_is_known(text: str, state: State, why: Cause) -> None:
    unknown = unknown_pmd(state=state, cause=why)
    nobody = running(None, state=VswitchdState.GONE, since=Moment(0.0, 0), witness="")
    answer = TEXTS[text](snapshot([unknown], vswitchd=nobody, enabled_at=Moment(0.0, 0), look_cost=0.0), unknown)
    assert answer.endswith("\n")
    assert "None" not in answer


HOSTILE = "x\n\x1b[2Jvswitchd RUNNING\r\x00;\u2028\x9b"


@pytest.mark.parametrize("text", TEXTS)
def test_no_name_can_forge_a_line_or_reach_the_terminal(text: str) -> None:
    """The name of a port is free text, and so is the name of the process that traces a thread."""

    def answer(word: str) -> str:
        one = _stalled(name=f"pmd-c03/{word}", witness=f"state t, held by {word}", rxqs=(Rxq(f"vhu{word}", 0),))
        hung = running(state=VswitchdState.HUNG, culprit=one.name, witness=f"while {one.name} is stalled")
        return TEXTS[text](snapshot([one], vswitchd=hung, blind=(f"threads: {word}",)), one)

    hostile = answer(HOSTILE)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", hostile)
    assert hostile.count("\n") == answer("harmless").count("\n")


def test_no_evidence_can_forge_a_line_of_the_history() -> None:
    text = tables.history([Transition(NOW, HOSTILE, "ALIVE", "DEAD", Cause.TRACED, HOSTILE)])
    assert text.count("\n") == 2
    assert "\x1b" not in text


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [pmd(), unknown_pmd(), _stalled(shares=Shares(1.0, None, None, None, None, None))])
def test_every_document_becomes_json_and_keeps_its_values(one: Pmd) -> None:
    node = json.loads(msgspec.json.encode(document.node(snapshot([one]), NOW, {"database": "connected"})))
    assert node["version"] == document.VERSION
    assert node["vswitchd"]["state"] == "RUNNING"
    assert node["daemon"] == {"database": "connected"}
    (found,) = node["pmds"]
    assert (found["name"], found["core"], found["state"]) == (one.name, one.core, one.state)
    assert found["last_seen"] == (one.progress.wall_ms or None)
    assert found["age_ms"] == (3250 if one.progress.wall_ms else None)


def test_a_transition_becomes_json() -> None:
    line = Transition(NOW, "vswitchd", VswitchdState.RUNNING, VswitchdState.HUNG, Cause.NONE, "no answer")
    assert json.loads(msgspec.json.encode(document.transition_document(line))) == {
        "at": NOW.wall_ms,
        "who": "vswitchd",
        "from": "RUNNING",
        "to": "HUNG",
        "cause": "none",
        "evidence": "no answer",
    }


@pytest.mark.parametrize(
    ("shown", "well"),
    [
        (snapshot([pmd()]), True),
        (snapshot([pmd(state=State.SLEEP), pmd(4, 4, state=State.UNUSED)]), True),
        (snapshot([pmd(state=State.MISSING)]), False),
        (snapshot([pmd(cause=Cause.STARVED)]), False),
        (snapshot([pmd()], vswitchd=running(None, state=VswitchdState.RESTARTING)), False),
        (_disabled(vswitchd=running(None, state=VswitchdState.GONE)), True),
    ],
)
def test_a_node_is_well_when_nothing_in_it_is_unhealthy(shown: Snapshot, well: bool) -> None:
    node = json.loads(msgspec.json.encode(document.node(shown, NOW, {})))
    assert document.is_well(node) is well
