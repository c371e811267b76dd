# SPDX-License-Identifier: Apache-2.0
"""The shipped unit on a real systemd: ready, told, fed, restarted when its beat is no more, reloaded, stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.faults.inject import end_thread
from tests.lab import node, stopped
from tests.systemd import UserManager, for_a_user, missing

pytestmark = pytest.mark.real

UNIT = "ovs-keepalive.service"


@pytest.fixture
def manager(sandbox: Sandbox, tmp_path: Path) -> Iterator[UserManager]:
    """A systemd that has started the unit on the sandbox, with a watchdog of 2 s."""
    if reason := missing():
        cannot(reason)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    configuration = tmp_path / "config.yaml"
    configuration.write_text(json.dumps({"schema": "auto", "state-dir": str(tmp_path / "state")}))
    command = shlex.join([sys.executable, "-m", "ovs_keepalive", "run", "--config", str(configuration)])
    text = (files("ovs_keepalive") / "share/systemd" / UNIT).read_text()
    where = {name: sandbox.env[name] for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")}
    shipped = for_a_user(text, command, {**where, "PYTHONPATH": os.pathsep.join(sys.path)}, WatchdogSec="2")
    with UserManager(tmp_path) as systemd:
        systemd.install(UNIT, shipped)
        systemd.ctl("start", UNIT)
        wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
        yield systemd


def beat_of(pid: int) -> int:
    [task] = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == "beat"]
    return int(task.name)


def test_it_is_active_when_ready_tells_its_state_reloads_and_stops_with_empty_columns(
    sandbox: Sandbox, manager: UserManager
) -> None:
    shown = manager.show(UNIT)
    assert (shown["ActiveState"], shown["SubState"], shown["Type"]) == ("active", "running", "notify")
    wait(lambda: manager.show(UNIT)["StatusText"].startswith("PMDs: 2 "), "the line of two PMDs that are well", 10)
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: f"{name} DEAD (traced)" in manager.ctl("status", UNIT), "the line of a dead PMD", 10)

    pid = manager.show(UNIT)["MainPID"]
    manager.ctl("reload", UNIT)
    wait(lambda: manager.show(UNIT)["ActiveState"] == "active", "active after the reload", 5)
    assert manager.show(UNIT)["MainPID"] == pid
    manager.ctl("stop", UNIT)
    shown = manager.show(UNIT)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    assert (sandbox.column(), sandbox.detail()) == ({}, {})


@pytest.mark.slow
def test_a_daemon_without_its_beat_thread_is_restarted_and_a_killed_one_too(
    sandbox: Sandbox, manager: UserManager
) -> None:
    first = int(manager.show(UNIT)["MainPID"])
    end_thread(beat_of(first))
    wait(lambda: manager.show(UNIT)["NRestarts"] == "1", "a restart by the watchdog", 20)
    wait(lambda: manager.show(UNIT)["SubState"] == "running", "the new daemon", 15)
    second = int(manager.show(UNIT)["MainPID"])
    assert second != first
    wait(lambda: f"pid={second};" in sandbox.detail().get("daemon", ""), "the new daemon in the column", 15)
    os.kill(second, signal.SIGKILL)
    wait(lambda: manager.show(UNIT)["NRestarts"] == "2", "a restart after SIGKILL", 20)
    wait(lambda: f"pid={second};" not in sandbox.detail().get("daemon", ""), "the third daemon in the column", 15)
    wait(lambda: {value.partition(",")[0] for value in sandbox.column().values()} <= {"ALIVE", "SLEEP"}, "well", 15)


@pytest.mark.slow
def test_an_upgrade_is_followed_no_restart_is_counted_and_the_watchdog_is_fed(
    sandbox: Sandbox, manager: UserManager
) -> None:
    first = manager.show(UNIT)["MainPID"]
    argv = [sys.executable, "-m", "ovs_keepalive", "upgrade"]
    done = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = re.fullmatch(r"\S+, pid \d+ -> \S+, pid (\d+), hand-over [\d.]+ ms after snapshot \d+\n", done.stdout)
    assert told is not None
    second = told[1]
    wait(lambda: manager.show(UNIT)["MainPID"] == second, "the new main process", 5)
    assert second != first
    wait(lambda: f"pid={second};" in sandbox.detail().get("daemon", ""), "the new daemon in the column", 5)
    sandbox.linger(5.0)  # the watchdog's time is 2 s
    shown = manager.show(UNIT)
    assert (shown["MainPID"], shown["NRestarts"], shown["SubState"]) == (second, "0", "running")
    wait(lambda: manager.show(UNIT)["StatusText"].startswith("PMDs: 2 "), "the line of the new daemon", 5)
    os.kill(int(second), signal.SIGKILL)
    wait(lambda: manager.show(UNIT)["NRestarts"] == "1", "a restart after SIGKILL", 20)


@pytest.mark.slow
def test_what_was_known_is_kept_by_systemd_where_no_disk_keeps_it(
    sandbox: Sandbox, manager: UserManager, tmp_path: Path
) -> None:
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: _since(sandbox, name)[0] == "GONE", "GONE", 10)
        before = _since(sandbox, name)
        pid = int(manager.show(UNIT)["MainPID"])
        os.kill(pid, signal.SIGSTOP)  # it writes no more
        for kept in (tmp_path / "state").glob("*.memory"):
            kept.unlink()
        os.kill(pid, signal.SIGKILL)
        wait(lambda: manager.show(UNIT)["NRestarts"] == "1", "a restart after SIGKILL", 20)
        wait(lambda: f"pid={pid};" not in sandbox.detail().get("daemon", f"pid={pid};"), "the new daemon", 15)
        assert _since(sandbox, name) == before


def _since(sandbox: Sandbox, name: str) -> tuple[object, object]:
    [found] = [pmd for pmd in node(sandbox)["pmds"] if pmd["name"] == name]
    return found["state"], found["since"]
