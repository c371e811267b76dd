# SPDX-License-Identifier: Apache-2.0
"""Real collectd, run by nobody, beside its own ovs_events: what it is told of PMDs, of the daemon and the database."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import psutil
import pytest

from ovs_keepalive.core.model import State
from ovs_keepalive.formats import column
from ovs_keepalive.formats.collectd import STATE_NUMBERS, plain_name
from ovs_keepalive.publishers import schema
from ovs_keepalive.sandbox import Sandbox, wait
from tests.around import Watched
from tests.collectd import HOST, Collectd, Notification
from tests.lab import stopped

pytestmark = pytest.mark.real

INTERVAL = 0.5  # seconds; of the fixture's daemon


def of(collectd: Collectd, instance: str, severity: str, words: str = "") -> Notification | None:
    """The newest notification of a thing, if it is this one."""
    told = collectd.changes(instance)
    return told[-1] if told and told[-1].severity == severity and words in told[-1].message else None


def reads(collectd: Collectd) -> None:
    """Wait until the values of our child arrive."""
    wait(lambda: collectd.value("daemon/duration-beat"), "the first values", 15)


def test_a_held_pmd_gives_warning_failure_okay(watched: Watched) -> None:
    """Each within two intervals of the state's change in OVSDB; and what goes on to write_http, as JSON."""
    watched.start()
    name, tid = next(iter(watched.sandbox.pmds().items()))
    instance = plain_name(name)
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        begin = time.monotonic()
        with stopped(tid):
            wait(lambda: of(collectd, instance, "FAILURE", "GONE"), f"{name} GONE", 10)
            wait(
                lambda: collectd.value(f"{instance}/gauge-state") == f"{STATE_NUMBERS[State.GONE]:.6e}",
                "value",
                5,
            )
            assert collectd.value(f"{instance}/bool-alive") == "0.000000e+00"
        released = time.monotonic()
        wait(lambda: of(collectd, instance, "OKAY"), f"{name} ALIVE", 10)
        told = collectd.changes(instance)
        assert [one.severity for one in told] == ["WARNING", "FAILURE", "FAILURE", "OKAY"]
        for one, state in zip(told, ("MISSING", "DEAD", "GONE", "ALIVE"), strict=True):
            assert (one.type, f'"{state}"' in one.message) == ("gauge-state", True)
            written = watched.first(name, state, released if state == "ALIVE" else begin)
            if state == "ALIVE" and written is None:
                written = watched.first(name, "SLEEP", released)
            assert written is not None
            late = one.at - written.at
            print(f"{state}: {late * 1000:.0f} ms after its arrival at another subscriber")
            assert late <= 2 * INTERVAL
        assert "held by python" in told[1].message
        summaries = [one.message for one in told]
        wait(lambda: {item["annotations"]["summary"] for item in collectd.posted()} >= set(summaries), "the JSON", 10)
        [dead] = [item for item in collectd.posted() if item["annotations"]["summary"] == told[1].message]
        print(dead)
        assert dead["labels"] == {
            "alertname": "collectd_ovs_keepalive_gauge",
            "instance": HOST,
            "ovs_keepalive": instance,
            "type": "state",
            "severity": "FAILURE",
            "service": "collectd",
        }
        facts = dead["annotations"]
        assert facts["summary"] == told[1].message
        assert {key: facts[key] for key in ("state", "previous", "name", "core", "cause")} == {
            "state": "DEAD",
            "previous": "MISSING",
            "name": name,
            "core": "0",
            "cause": "traced",
        }
        assert abs(int(facts["last_seen_ms"]) / 1000 - time.time()) < 60
        pairs = {pmd: column.parse(value) for pmd, value in watched.sandbox.column().items()}
        for pmd, pair in pairs.items():
            wait(lambda pmd=pmd: collectd.value(f"{plain_name(pmd)}/bool-alive") == "1.000000e+00", f"{pmd} alive", 5)  # type: ignore[misc]
            assert float(collectd.value(f"{plain_name(pmd)}/gauge-state")) in (1.0, 5.0)
            assert 0.0 <= float(collectd.value(f"{plain_name(pmd)}/duration-last_seen")) < 10.0
            assert pair.state in ("ALIVE", "SLEEP")
        assert float(collectd.value("vswitchd/gauge-state")) == 1.0
        # Hundreds of writes to our columns, and ovs_events had nothing to say. It does listen:
        assert collectd.told("ovs_events") == []
        watched.sandbox.appctl("netdev-dummy/set-admin-state", "p0", "down")
        wait(
            lambda: [one for one in collectd.told("ovs_events") if "p0" in one.message], "ovs_events tells p0 down", 10
        )
        refused = [line for line in collectd.output().splitlines() if line.startswith("-")]
        assert refused == []


@pytest.mark.slow
def test_neither_a_killed_database_nor_a_converted_schema_loses_a_transition(watched: Watched) -> None:
    watched.start()
    (first, first_tid), (second, second_tid) = list(watched.sandbox.pmds().items())[:2]
    one, other = plain_name(first), plain_name(second)
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        watched.sandbox.kill_ovsdb()
        with stopped(first_tid):
            wait(lambda: "GONE" in watched.asks("keepalive/pmd-health-show"), f"{first} GONE", 10)
            wait(lambda: of(collectd, "ovsdb", "FAILURE"), "the loss told", 10)
            assert collectd.story(one) == []
            watched.sandbox.start_ovsdb()
            collectd.admit()
            wait(lambda: of(collectd, one, "FAILURE", "GONE"), f"{first} GONE is told afterwards", 30)
            wait(lambda: of(collectd, "ovsdb", "OKAY"), "the connection told", 10)
            schema.revert(watched.sandbox.remote)
        # Without the columns it comes back, and the other one goes; `schema: auto` brings them back.
        with stopped(second_tid):
            wait(lambda: of(collectd, one, "OKAY"), f"{first} well is told", 20)
            wait(lambda: of(collectd, other, "FAILURE", "GONE"), f"{second} GONE is told", 20)
            schema.revert(watched.sandbox.remote)
        schema.apply(watched.sandbox.remote)  # a third time the daemon itself would only do it after 30 s
        wait(lambda: of(collectd, other, "OKAY"), f"{second} well is told", 20)
        assert collectd.story(one)[-1] == collectd.story(other)[-1] == "OKAY"
        assert collectd.story("ovsdb") == ["FAILURE", "OKAY"]  # conversions are no news
        assert collectd.story("daemon") == []
        # ovs_events lives as well; a change that comes while it connects again it does not tell.
        states = itertools.cycle(("down", "up"))

        def told() -> bool:
            watched.sandbox.appctl("netdev-dummy/set-admin-state", "p0", next(states))
            time.sleep(0.5)
            return any("p0" in notification.message for notification in collectd.told("ovs_events"))

        wait(told, "ovs_events tells", 20)


@pytest.mark.slow
def test_a_daemon_that_stands_still_is_a_failure_and_no_value(watched: Watched) -> None:
    watched.start()
    instance = plain_name(next(iter(watched.sandbox.pmds())))
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        watched.sandbox.stop_daemon(signal.SIGSTOP)
        try:
            told = wait(lambda: of(collectd, "daemon", "FAILURE"), "the stale beat", 15)
            assert told.type == "gauge-beat"
            wait(lambda: not collectd.value(f"{instance}/bool-alive"), "no values of PMDs", 15)
            assert float(collectd.value("daemon/duration-beat")) > 5.0
        finally:
            watched.sandbox.stop_daemon(signal.SIGCONT)
        wait(lambda: of(collectd, "daemon", "OKAY"), "the beat told", 10)
        wait(lambda: collectd.value(f"{instance}/bool-alive"), "values of PMDs", 10)
        assert collectd.story(instance) == []


@pytest.mark.long
def test_a_daemon_that_was_stopped_is_told_until_it_is_disabled(watched: Watched) -> None:
    watched.start()
    instance = plain_name(next(iter(watched.sandbox.pmds())))
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        assert watched.sandbox.stop_daemon() == 0  # cleanly: the columns are empty
        told = wait(lambda: of(collectd, "daemon", "FAILURE"), "that nobody watches", 15)
        assert "does not run" in told.message
        assert collectd.story(instance) == []
        watched.sandbox.settings(enable_keepalive=False)
        wait(lambda: of(collectd, "daemon", "OKAY", "disabled"), "that it is disabled", 10)


def test_hostile_names_are_taken_as_they_are(sandbox: Sandbox) -> None:
    """Written by somebody else into the column of a real database; collectd refuses no line, and loses none."""
    schema.apply(sandbox.remote)
    sandbox.settings(enable_keepalive=True)
    names = ['a"b', "c\\d", "e\nPUTVAL f", "g=h s:i='j'", "\u202ek\u00e9\U0001f600", "l" * 2000, '"' * 300, "/", "m n"]
    witness = '"\\\n\u2028' * 200

    def write(state: str) -> None:
        now = int(time.time() * 1000)
        detail = {"daemon": f"version=1;pid=1;interval=60000;since=1;beat={now}", "vswitchd": "RUNNING;pid=1;since=1"}
        detail |= dict.fromkeys(names, f"cause=traced;since=1;witness={witness}")
        columns = {"keepalive": {name: f"{state},{number},{now}" for number, name in enumerate(names)}}
        columns["keepalive_detail"] = detail
        row = {column: ["map", [[*pair] for pair in pairs.items()]] for column, pairs in columns.items()}
        [done] = sandbox.transact({"op": "update", "table": "Open_vSwitch", "where": [], "row": row})
        assert done == {"count": 1}

    with Collectd(sandbox) as collectd:
        write("ALIVE")
        reads(collectd)
        write("DEAD")
        wait(lambda: all(of(collectd, plain_name(name), "FAILURE") for name in names), "a FAILURE of each", 10)
        wait(lambda: len(collectd.posted()) == len(names), "the JSON of each", 10)
        told = {item["annotations"]["name"] for item in collectd.posted()}
        assert told >= {name for name in names if len(name) < 80 and name.isprintable()}
        wait(lambda: collectd.value(f"{plain_name('m n')}/gauge-state") == "2.000000e+00", "its value", 5)
        assert [line for line in collectd.output().splitlines() if line.startswith("-")] == []


@pytest.mark.slow
def test_the_child_comes_back_and_goes_with_collectd(watched: Watched) -> None:
    watched.start()
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        child = wait(collectd.child, "the child", 5)
        assert child.uids().effective == 65534
        child.kill()
        wait(lambda: (new := collectd.child()) is not None and new.pid != child.pid, "another child", 15)
        again = wait(collectd.child, "it", 5)
        wait(lambda: float(collectd.value("daemon/duration-beat") or 99) < 5, "its values", 15)
        status, seconds = collectd.end(signal.SIGTERM)
        print(f"SIGTERM: {seconds * 1000:.0f} ms")
        assert status == 0
        assert seconds < 5
        wait(lambda: not psutil.pid_exists(again.pid), "the child's end", 5)
    assert "Traceback" not in collectd.log() + collectd.output()


@pytest.mark.long
def test_a_collectd_that_was_killed_leaves_no_child(watched: Watched) -> None:
    watched.start()
    with Collectd(watched.sandbox) as collectd:
        reads(collectd)
        child = wait(collectd.child, "the child", 5)
        collectd.end(signal.SIGKILL)
        wait(lambda: not Path(f"/proc/{child.pid}").exists() or child.status() == psutil.STATUS_ZOMBIE, "its end", 5)
