# SPDX-License-Identifier: Apache-2.0
"""The daemon runs out of what a process needs: descriptors, a state directory; and its wall clock steps.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from ovs_keepalive.ptrace import leash
from ovs_keepalive.sandbox import wait
from tests.around import Watched
from tests.faults.innocent import CLOCK
from tests.lab import node, stopped

pytestmark = pytest.mark.real


def usual_limit(pid: int) -> tuple[int, int]:
    """Of a process whose soft limit may have been lowered."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[1], resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]


@contextmanager
def exhausted(pid: int) -> Iterator[None]:
    """Let a process open no descriptor more."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = next(number for number in range(len(used) + 1) if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


@pytest.mark.slow
def test_no_descriptor_is_left(watched: Watched) -> None:
    """What is open stays open: a PMD that fails is told, with its cause; whatever is new waits until there are some."""
    watched.start(web_listen="127.0.0.1:0")
    page = urlsplit(node(watched.sandbox)["daemon"]["web"].partition(",")[0])
    daemon = psutil.Process(watched.pid)
    name, tid = next(iter(watched.sandbox.pmds().items()))
    begin = time.monotonic()
    with exhausted(watched.pid):
        with stopped(tid):
            wait(lambda: watched.first(name, "GONE", begin), "GONE", 5)
        wait(lambda: watched.states(name)[-1] == "ALIVE", "ALIVE again", 5)
        with socket.create_connection((page.hostname, page.port), 5) as browser:
            browser.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            before = sum(daemon.cpu_times()[:2])
            time.sleep(2.0)  # the fault's own length
            assert sum(daemon.cpu_times()[:2]) - before < 1.0, "it does not spin on who cannot be let in"
            resource.prlimit(watched.pid, resource.RLIMIT_NOFILE, usual_limit(watched.pid))
            assert b" 200 " in browser.recv(100), "who waited is answered"
    watched.wait_until_well()
    assert watched.states(name) == ["ALIVE", "MISSING", "DEAD", "GONE", "ALIVE"]
    assert [line for line in watched.lies if not line.startswith(name)] == []
    assert "RUNNING" in watched.status()
    watched.came_through(lines=40)


@pytest.mark.long
def test_vswitchd_and_the_database_go_while_no_descriptor_is_left(watched: Watched) -> None:
    """A crash is told as one, not as an orderly stop; what comes new is seen as soon as there are descriptors again."""
    watched.start(web_listen="127.0.0.1:0")
    with exhausted(watched.pid):
        watched.sandbox.kill_vswitchd()
        wait(lambda: {v.partition(",")[0] for v in watched.sandbox.column().values()} == {"GONE"}, "GONE", 5)
        watched.sandbox.start_vswitchd()
        watched.sandbox.kill_ovsdb()
        time.sleep(2.0)  # the fault's own length
        watched.sandbox.start_ovsdb()
    watched.wait_until_well(30)
    assert ("RUNNING", "GONE") in [
        (line["from"], line["to"]) for line in watched.history() if line["who"] == "vswitchd"
    ]
    watched.came_through(lines=60)


@pytest.mark.parametrize("descriptors", [6, 10])
def test_too_few_descriptors_to_begin_with_are_one_line(tmp_path: Path, descriptors: int) -> None:
    """It ends with status 2, and its last line names the limit; before it there are lines of the log at most."""
    run = [sys.executable, "-m", "ovs_keepalive", "run"]
    argv = [*leash(), "prlimit", f"--nofile={descriptors}:{descriptors}", *run]
    env = {**os.environ, "OVS_RUNDIR": str(tmp_path)}
    result = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 2, result.stderr
    *log, last = result.stderr.splitlines()
    assert re.fullmatch(r"ovs-keepalive: .*: Too many open files: raise the limit of open files \(ulimit -n\)", last)
    assert all("| WARN |" in line for line in log), result.stderr


@pytest.mark.slow
def test_the_state_directory_goes_away(watched: Watched) -> None:
    """Removed, then a file in its place: told once each, nothing else suffers; a directory again: records again."""
    watched.start()
    state = watched.sandbox.dir / "state"
    name, tid = next(iter(watched.sandbox.pmds().items()))

    def incident() -> None:
        with stopped(tid):
            wait(lambda: watched.sandbox.column()[name].startswith("DEAD,"), "DEAD", 5)
        watched.wait_until_well()

    shutil.rmtree(state)
    state.write_text("a file")
    incident()
    assert watched.count("no incident is recorded") == 1
    assert "no incident is recorded" in watched.status()
    state.unlink()
    incident()
    wait(lambda: list(state.glob("incident-1.jsonl.gz")), "the next one recorded", 10)
    shutil.rmtree(state)
    incident()
    wait(lambda: list(state.glob("incident-1.jsonl.gz")), "made again", 10)
    assert [line for line in watched.lies if not line.startswith(name)] == []
    watched.came_through(lines=60)


@pytest.mark.long
def test_the_wall_clock_steps(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day back and a day on, the daemon's own wall clock only: no verdict, and a real fault takes its usual time."""
    clock = tmp_path / "clock"
    clock.write_bytes(bytes(8))
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(path=str(clock)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    watched.start()
    name, tid = next(iter(watched.sandbox.pmds().items()))
    with watched.stretch() as stretch:
        for days in (-1, 1, 0):
            with clock.open("r+b") as file:
                file.write(struct.pack("q", days * 86_400 * 10**9))
            wait(partial(is_days_off, watched, days), "the beat in the new time", 5)
            time.sleep(1.0)  # the fault's own length
        assert watched.lies == []
        with stopped(tid) as injected:
            dead = wait(lambda: watched.first(name, "DEAD", injected.earliest), "DEAD", 5)
    watched.beat_on(stretch)
    assert 1.0 * watched.interval - 0.1 <= dead.at - injected.earliest <= 1.5 * watched.interval + stretch.machine
    watched.wait_until_well()
    watched.came_through(lines=20)


def is_days_off(watched: Watched, days: int) -> bool:
    """Whether the newest beat in the column lies so many days before or after the machine's clock."""
    beat = int(watched.sandbox.detail()["daemon"].rpartition("beat=")[2])
    return abs(beat - days * 86_400_000 - time.time() * 1000) < 60_000
