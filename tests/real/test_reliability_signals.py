# SPDX-License-Identifier: Apache-2.0
"""Signals come in storms, and stderr has nobody who reads it.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ovs_keepalive.ptrace import leash
from ovs_keepalive.sandbox import wait
from tests.around import REFRESH, Watched

pytestmark = pytest.mark.real

STORM = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGWINCH", "SIGURG", "SIGCONT")


@pytest.mark.slow
def test_a_storm_of_signals_that_mean_nothing(watched: Watched) -> None:
    """Each of nine signals a few hundred times within 3 s: it beats and writes on."""
    watched.start()
    numbers, sent = [getattr(signal, name) for name in STORM], 0
    with watched.stretch() as stretch:
        while time.monotonic() < stretch.begin + 3.0:
            for number in numbers:
                os.kill(watched.pid, number)
                sent += 1
            time.sleep(0.002)
    print(f"{sent} signals")
    watched.beat_on(stretch)
    assert watched.longest_pause(stretch) <= 1.25 * REFRESH + stretch.blind + stretch.machine
    assert watched.lies == []
    watched.came_through(lines=100)


def test_a_storm_of_sigterm_is_one_clean_stop(watched: Watched) -> None:
    """It goes on while it stops: columns empty, pidfile and socket gone, status 0."""
    watched.start()
    process = watched.sandbox.children.process("ovs-keepalive")
    for _ in range(10_000):
        if process.poll() is not None:
            break
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        time.sleep(0.0005)
    assert watched.sandbox.stop_daemon() == 0
    assert (watched.sandbox.column(), watched.sandbox.detail()) == ({}, {})
    assert list(watched.sandbox.dir.glob("ovs-keepalive.*.ctl")) == []
    assert not (watched.sandbox.dir / "ovs-keepalive.pid").exists()
    watched.wrote_little(lines=20)


@pytest.mark.slow
def test_sigterm_while_the_database_does_not_answer(watched: Watched) -> None:
    """It tries for 2 s to empty the columns, says that it could not, and ends with status 0."""
    watched.start()
    watched.sandbox.kill_ovsdb(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        assert watched.sandbox.stop_daemon() == 0
        assert time.monotonic() - begin < 5
    finally:
        watched.sandbox.kill_ovsdb(signal.SIGCONT)
    assert watched.count("the columns could not be emptied") == 1
    watched.wrote_little(lines=20)


def test_nobody_reads_its_stderr(watched: Watched) -> None:
    """`ovs-keepalive run 2>&1 | head -1`: the pipe is broken from then on, the daemon is not."""
    sandbox = watched.sandbox
    config = sandbox.dir / "config.yaml"
    config.write_text("{schema: auto, max-main-share: 10}")
    argv = [*leash(), sys.executable, "-m", "ovs_keepalive", "run", "--config", str(config)]
    with subprocess.Popen(argv, env=sandbox.env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline()
        process.stderr.close()
        try:
            wait(watched.is_well, "all PMDs well", 15)
            sandbox.kill_vswitchd()
            wait(lambda: {v.partition(",")[0] for v in sandbox.column().values()} == {"GONE"}, "GONE", 5)
            assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(10) == 0
