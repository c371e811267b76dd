# SPDX-License-Identifier: Apache-2.0
"""One writer: the lock is stolen and returned, two daemons start at once.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive.ptrace import leash
from ovs_keepalive.sandbox import Sandbox, wait
from tests.around import Watched

pytestmark = pytest.mark.real


@contextmanager
def thief(sandbox: Sandbox) -> Iterator[socket.socket]:
    """Somebody who steals the lock and keeps it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(sandbox.dir / "db.sock"))
        client.sendall(json.dumps({"id": 1, "method": "steal", "params": ["ovs_keepalive"]}).encode())
        assert json.loads(client.recv(4096))["result"] == {"locked": True}
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("returned", ["by its end", pytest.param("by unlock", marks=pytest.mark.long)])
def test_the_lock_is_stolen_and_returned(watched: Watched, returned: str) -> None:
    """While another one has the lock nothing is written: the beat in the column grows old. Then it goes on."""
    watched.start()
    with watched.stretch() as stretch:
        with thief(watched.sandbox) as client:
            wait(lambda: "held by another daemon: waiting, nothing is written" in watched.status(), "the loss told", 5)
            told = len(watched.updates)
            time.sleep(2.5)  # the fault's own length
            assert len(watched.updates) == told, "nothing was written"
            if returned == "by unlock":
                client.sendall(json.dumps({"id": 2, "method": "unlock", "params": ["ovs_keepalive"]}).encode())
                client.recv(4096)
                wait(lambda: len(watched.updates) > told, "the column written again", 5)
        wait(lambda: len(watched.updates) > told + 1, "the column written on", 5)
    watched.beat_on(stretch)
    assert watched.lies == []
    assert "pid=" + str(watched.pid) in watched.sandbox.detail()["daemon"]
    story = [(line["from"], line["to"]) for line in watched.history() if line["who"] == "lock"]
    assert story == [("not asked for", "held"), ("held", "held by another"), ("held by another", "held")]
    watched.came_through(lines=20)


@pytest.mark.long
def test_a_lock_stolen_every_moment_ends_nothing(watched: Watched) -> None:
    """Fifty thefts in a row: a few lines of the log, and the column is written at the end."""
    watched.start()
    for _ in range(50):
        with thief(watched.sandbox):
            pass
    told = len(watched.updates)
    wait(lambda: len(watched.updates) > told, "the column written again", 5)
    assert watched.lies == []
    watched.came_through(lines=60)


@pytest.mark.parametrize("pidfile", ["one", "two"])
@pytest.mark.parametrize("tries", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
def test_two_daemons_started_at_once(watched: Watched, pidfile: str, tries: int) -> None:
    """On one pidfile one of them ends with one line and status 2; on two pidfiles one writes, the other waits."""
    sandbox = watched.sandbox
    config = sandbox.dir / "config.yaml"
    config.write_text(json.dumps({"schema": "auto", "max-main-share": 10, "state-dir": f"{sandbox.dir}/state"}))
    for _ in range(tries):
        pids = [
            sandbox.dir / "ovs-keepalive.pid",
            sandbox.dir / ("ovs-keepalive.pid" if pidfile == "one" else "second.pid"),
        ]
        both = [started(sandbox, config, path) for path in pids]
        try:
            if pidfile == "one":
                one_ends(sandbox, both)
            else:
                one_waits(sandbox, both)
        finally:
            for process in both:
                if process.poll() is None:
                    process.terminate()
                    process.communicate(timeout=10)
        assert sandbox.column() == {}
        assert not [path for path in pids if path.exists()]


def started(sandbox: Sandbox, config: Path, pidfile: Path) -> subprocess.Popen[str]:
    argv = [*leash(), sys.executable, "-m", "ovs_keepalive", "run", "--config", str(config), "--pidfile", str(pidfile)]
    return subprocess.Popen(argv, env=sandbox.env, stderr=subprocess.PIPE, text=True)


def one_ends(sandbox: Sandbox, both: list[subprocess.Popen[str]]) -> None:
    wait(lambda: [process for process in both if process.poll() is not None], "one of them ended", 15)
    [loser] = [process for process in both if process.poll() is not None]
    [winner] = [process for process in both if process is not loser]
    assert loser.returncode == 2
    said = loser.communicate(timeout=5)[1]
    assert re.fullmatch(rf"ovs-keepalive: .*already running as pid {winner.pid}: stop it first.*\n", said), said
    wait(lambda: f";pid={winner.pid};" in sandbox.detail().get("daemon", ""), "the other one writes", 15)


def one_waits(sandbox: Sandbox, both: list[subprocess.Popen[str]]) -> None:
    wait(lambda: ";pid=" in sandbox.detail().get("daemon", ""), "one of them writes", 15)
    [writer] = [process for process in both if f";pid={process.pid};" in sandbox.detail()["daemon"]]
    [waiter] = [process for process in both if process is not writer]
    control = sandbox.dir / f"ovs-keepalive.{waiter.pid}.ctl"
    argv = ["ovs-appctl", "-t", str(control), "keepalive/status"]

    def waits() -> bool:
        result = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, check=False, timeout=10)
        return "held by another daemon: waiting, nothing is written" in result.stdout

    wait(waits, "the other one says that it waits", 10)
    assert f";pid={writer.pid};" in sandbox.detail()["daemon"], "still the same writer"
