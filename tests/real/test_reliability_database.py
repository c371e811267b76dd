# SPDX-License-Identifier: Apache-2.0
"""The database fails: killed, stopped, slow, converted, refusing, its disk full. The daemon beats on, and writes again.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive import records
from ovs_keepalive.publishers import schema as publisher
from ovs_keepalive.sandbox import Sandbox, request, wait
from tests.around import REFRESH, Watched
from tests.between import Between
from tests.conftest import cannot
from tests.lab import stopped
from tests.switch import TestedSandbox

pytestmark = pytest.mark.real


def test_a_stop_amid_a_refusal_tries_again_and_empties_the_column(watched: Watched, tmp_path: Path) -> None:
    """Nothing that says ALIVE stays behind because one transaction failed at that moment."""
    with Between(tmp_path / "db.sock", watched.sandbox.dir / "db.sock") as between:
        watched.start("--ovsdb", between.remote)
        between.refusal = {"error": "constraint violation", "details": "for a moment"}
        os.kill(watched.pid, signal.SIGTERM)
        wait(lambda: between.refused, "the refusal", 5)
        between.refusal = None
        wait(lambda: not watched.is_up, "its end", 10)
        assert watched.sandbox.column() == {}


def test_a_stop_that_cannot_empty_the_column_says_why(watched: Watched, tmp_path: Path) -> None:
    with Between(tmp_path / "db.sock", watched.sandbox.dir / "db.sock") as between:
        watched.start("--ovsdb", between.remote)
        between.refusal = {"error": "constraint violation", "details": "for good"}
        assert watched.sandbox.stop_daemon() == 0
        assert [line for line in watched.said() if "the columns could not be emptied: " in line and "for good" in line]


@pytest.mark.slow
def test_a_mirror_that_is_refused_is_told_and_makes_no_storm(watched: Watched, tmp_path: Path) -> None:
    """Also while its keys are to be taken away, which is not to wait."""

    def mirrored() -> bool:
        return "ovs-keepalive-core" in watched.sandbox.vsctl("get", "Open_vSwitch", ".", "external_ids")

    with Between(tmp_path / "db.sock", watched.sandbox.dir / "db.sock") as between:
        watched.start("--ovsdb", between.remote, mirror="external_ids")
        wait(mirrored, "the mirror", 15)
        between.refusal = {"error": "constraint violation", "details": "no room"}
        watched.sandbox.settings(enable_keepalive=False)
        wait(lambda: "external_ids, not written: " in watched.status(), "the refusal told", 10)
        refused = between.refused
        time.sleep(3.0)  # the fault's own length
        assert between.refused - refused <= 6, "no storm of tries"
        between.refusal = None
        wait(lambda: not mirrored(), "its keys are gone", 15)
        watched.wrote_little(60)
        watched.sandbox.stop_daemon()


@pytest.mark.long
def test_ovsdb_server_killed_and_started_again(watched: Watched) -> None:
    """For 3 s there is no database: the beat goes on, appctl answers, and the column is back with the server."""
    watched.start()
    with watched.stretch() as stretch:
        watched.sandbox.kill_ovsdb()
        wait(lambda: "not connected, trying again" in watched.status(), "the loss told", 5)
        time.sleep(3.0)  # the fault's own length
        watched.sandbox.start_ovsdb()
        watched.wait_until_well()
    watched.subscribe()
    watched.beat_on(stretch)
    assert watched.lies == []
    story = [(line["from"], line["to"]) for line in watched.history() if line["who"] == "ovsdb"]
    assert story == [("disconnected", "connected"), ("connected", "disconnected"), ("disconnected", "connected")]
    watched.came_through(lines=30)


@pytest.mark.slow
def test_what_happens_while_ovsdb_server_is_stopped_is_told_when_it_goes_on(watched: Watched) -> None:
    """SIGSTOP for 5 s. A PMD fails meanwhile: when the server goes on, MISSING and DEAD come, in this order."""
    watched.start()
    name, tid = next(iter(watched.sandbox.pmds().items()))
    with watched.stretch() as stretch:
        watched.sandbox.kill_ovsdb(signal.SIGSTOP)
        with stopped(tid):
            time.sleep(5.0)  # the fault's own length
            assert f"{name}\t 0\tGONE" in watched.asks("keepalive/pmd-health-show"), "appctl told it meanwhile"
            assert re.search(r"transactions .*, one unanswered for [345] s", watched.status())
            watched.sandbox.kill_ovsdb(signal.SIGCONT)
            wait(lambda: watched.sandbox.column()[name].startswith("GONE,"), "the verdict in the column", 5)
        watched.wait_until_well()
    watched.beat_on(stretch)
    assert watched.states(name) == ["ALIVE", "MISSING", "GONE", "ALIVE"]
    assert [line for line in watched.lies if not line.startswith(name)] == []
    watched.came_through(lines=20)


@pytest.mark.long
def test_a_slow_server_delays_the_column_and_nothing_else(watched: Watched, tmp_path: Path) -> None:
    """Each transaction takes 0.4 s: the beat keeps its pace, and a new fault supersedes what is not written yet."""
    with Between(tmp_path / "db.sock", watched.sandbox.dir / "db.sock") as between:
        watched.start("--ovsdb", between.remote)
        between.delay = 0.4
        name, tid = next(iter(watched.sandbox.pmds().items()))
        with watched.stretch() as stretch:
            with stopped(tid):
                wait(lambda: watched.sandbox.column()[name].startswith("DEAD,"), "DEAD", 5)
            watched.wait_until_well()
        watched.beat_on(stretch)
        assert watched.states(name) == ["ALIVE", "MISSING", "DEAD", "ALIVE"]
        assert watched.longest_pause(stretch) <= REFRESH + 2 * 0.4 + 0.5 + stretch.machine
        watched.came_through(lines=20)
        watched.sandbox.stop_daemon()


@pytest.mark.slow
def test_the_schema_converted_under_it_again_and_again(watched: Watched) -> None:
    """Somebody adds and removes the columns three times: it writes whenever there are some, and never a lie."""
    watched.start()
    config = watched.sandbox.dir / "config.yaml"
    watched.sandbox.stop_daemon()
    config.write_text(config.read_text().replace('"auto"', '"manual"'))
    watched.start(schema="manual")
    with watched.stretch() as stretch:
        for _ in range(3):
            for action in ("revert", "apply"):
                argv = [sys.executable, "-m", "ovs_keepalive", "schema", action]
                subprocess.run(argv, env=watched.sandbox.env, check=True, capture_output=True, timeout=20)
                if action == "revert":
                    wait(lambda: "none: see ovs-keepalive schema apply" in watched.status(), "the loss told", 5)
                else:
                    watched.wait_until_well()
                    watched.subscribe()
    watched.beat_on(stretch)
    assert watched.lies == []
    watched.came_through(lines=60)


def test_columns_that_are_away_for_a_moment_only(watched: Watched) -> None:
    """The second of two conversions in a row finds no monitor to cancel: nobody is told of it."""
    publisher.apply(watched.sandbox.remote)
    watched.start(schema="manual")
    for _ in range(3):
        publisher.revert(watched.sandbox.remote)
        publisher.apply(watched.sandbox.remote)
        watched.wait_until_well()
    watched.subscribe()
    assert watched.lies == []
    watched.came_through(lines=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "details"),
    [
        ("constraint violation", "too many rows"),
        pytest.param("permission error", "RBAC rules for client do not permit it", marks=pytest.mark.long),
        pytest.param("I/O error", "No space left on device", marks=pytest.mark.long),
        pytest.param("not allowed", "not the leader", marks=pytest.mark.long),
    ],
)
def test_a_server_that_refuses_is_told_once_and_asked_once_a_second(
    watched: Watched, tmp_path: Path, error: str, details: str
) -> None:
    """The column stands still, and so does the beat in it: nobody is fooled. When it may, the daemon writes on."""
    with Between(tmp_path / "db.sock", watched.sandbox.dir / "db.sock") as between:
        watched.start("--ovsdb", between.remote)
        before = len(watched.said())
        with watched.stretch() as stretch:
            between.refusal = {"error": error, "details": details}
            wait(lambda: re.search(rf"the last with error: .*{error}", watched.status()), error, 5)
            told = len(watched.updates)
            time.sleep(2.5)  # the fault's own length
            assert len(watched.updates) == told, "nothing was written"
            assert between.refused <= 6, "no storm of tries"
            between.refusal = None
            wait(lambda: len(watched.updates) > told, "the column written again", 5)
        watched.beat_on(stretch)
        assert watched.lies == []
        *failures, last = [line for line in watched.said()[before:] if "| columns |" in line]
        assert 1 <= len(failures) <= 6
        assert all("the columns were not written: error: " in line and error in line for line in failures), failures
        assert "the columns are written again" in last
        watched.came_through(lines=20)
        watched.sandbox.stop_daemon()


@pytest.mark.long
def test_a_read_only_server_is_no_reason_to_end(watched: Watched) -> None:
    """A real ovsdb-server made a backup of another one refuses every write; then it is an active one again."""
    watched.start()

    def server(*command: str) -> None:
        watched.sandbox.appctl(*command, target="ovsdb-server")

    with watched.stretch() as stretch:
        server("ovsdb-server/set-active-ovsdb-server", "tcp:127.0.0.1:1")
        server("ovsdb-server/connect-active-ovsdb-server")
        wait(lambda: "the last with" in watched.status() or "not connected" in watched.status(), "the refusal told", 10)
        time.sleep(2.0)  # the fault's own length
        server("ovsdb-server/disconnect-active-ovsdb-server")
        begin = time.time() * 1000
        wait(lambda: last_beat(watched.sandbox) > begin, "the column written again", 15)
        watched.wait_until_well()
    watched.beat_on(stretch)
    assert watched.lies == []
    watched.came_through(lines=40)


def last_beat(sandbox: Sandbox) -> int:
    """Epoch ms of the newest beat in the column; 0 while there is none."""
    return int(sandbox.detail().get("daemon", "=0").rpartition("=")[2])


def test_a_column_that_takes_one_pair_only_is_left_alone_and_told(watched: Watched) -> None:
    """Somebody added `keepalive` with a constraint of their own: another type is another column, not ours to write."""
    path = watched.sandbox.dir / "db.sock"
    schema = request(path, "get_schema", ["Open_vSwitch"])
    pair = {"type": {"key": "string", "value": "string", "min": 0, "max": 1}, "ephemeral": True}
    schema["tables"]["Open_vSwitch"]["columns"]["keepalive"] = pair
    schema.pop("cksum", None)
    request(path, "convert", ["Open_vSwitch", schema])
    watched.pid = watched.sandbox.start_daemon()
    wait(lambda: watched.sandbox.detail().get("vswitchd", "").startswith("RUNNING;"), "the other column written", 15)
    assert watched.sandbox.column() == {}
    assert "columns : keepalive_detail" in " ".join(watched.status().split())
    watched.came_through(lines=20)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 12 MB."""
    path = Path(tempfile.mkdtemp(prefix="ovs-keepalive-disk.", dir="/tmp"))
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", path], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        path.rmdir()
        cannot(f"no small file system: {mount.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)
    path.rmdir()


@pytest.mark.slow
def test_a_full_disk_costs_lines_of_the_log_and_the_record_of_the_incident(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One disk for database, log and state directory, and it is full: verdicts come as ever."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with TestedSandbox() as sandbox, Watched(sandbox) as watched:
        log = sandbox.dir / "own.log"
        watched.start(f"--log-file={log}")
        name, tid = next(iter(sandbox.pmds().items()))
        with watched.stretch() as stretch:
            fill(small_disk / "filler")
            with stopped(tid):
                wait(lambda: watched.first(name, "GONE", stretch.begin), "GONE", 5)
            watched.wait_until_well()
            assert records_of(sandbox) == []
            wait(lambda: "the last record is not complete: " in watched.status(), "told", 30)
            (small_disk / "filler").unlink()
            with stopped(tid):
                wait(lambda: records_of(sandbox), "the next incident recorded", 10)
            watched.wait_until_well()
        watched.beat_on(stretch)
        assert watched.states(name)[:5] == ["ALIVE", "MISSING", "DEAD", "GONE", "ALIVE"]
        assert any("-> DEAD" in line for line in log.read_text().splitlines()), "it logs again"
        watched.came_through(lines=40)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    size = 65536
    with path.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:  # ENOSPC
                size //= 2
    assert shutil.disk_usage(path.parent).free == 0


def records_of(sandbox: Sandbox) -> list[str]:
    """Names of the black-box records."""
    directory = sandbox.dir / "state"
    return [f"incident-{number}" for number in records.numbers(directory)] if directory.exists() else []
