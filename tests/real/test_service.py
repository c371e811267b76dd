# SPDX-License-Identifier: Apache-2.0
"""The daemon as systemd has it: what it says at a real notify socket, and what a reload changes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_keepalive.ptrace import tracer
from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import stopped

pytestmark = pytest.mark.real

KEEPING = {"FDSTORE", "FDNAME", "FDSTOREREMOVE"}


class Manager:
    """The end of the notify socket that is systemd's."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[tuple[float, str]] = []  # when (monotonic seconds), and what

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def listen(self) -> list[tuple[float, str]]:
        """All that was heard until now."""
        while True:
            try:
                words = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard += [(time.monotonic(), word) for word in words.split("\n")]

    def has(self, word: str, since: float = 0.0) -> bool:
        return any(at >= since and said.startswith(word) for at, said in self.listen())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager which wants a sign of life every 4 s."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    with Manager(tmp_path / "notify") as listening:
        yield listening


def test_it_is_ready_with_its_first_snapshot_and_its_line_follows_each_state(
    sandbox: Sandbox, manager: Manager
) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon()
    wait(lambda: manager.has("READY=1"), "READY", 5)
    wait(lambda: manager.has("STATUS=PMDs: 2 "), "the line of two PMDs that are well", 10)
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: manager.has(f"STATUS={name} DEAD (traced); "), "the line of a dead PMD", 10)
    healed = time.monotonic()
    wait(lambda: manager.has("STATUS=PMDs: 2 ", healed), "the line of two PMDs that are well again", 10)
    assert sandbox.stop_daemon() == 0
    words = [said for _, said in manager.listen()]
    # Of what follows it, what is known, to be kept, is the only thing.
    assert {word.partition("=")[0] for word in words[words.index("STOPPING=1") + 1 :]} <= KEEPING


def test_without_a_database_it_is_ready_too(sandbox: Sandbox, manager: Manager) -> None:
    sandbox.start_daemon("--ovsdb", f"unix:{sandbox.dir}/nowhere.sock")
    wait(lambda: manager.has("READY=1"), "READY", 5)


@pytest.mark.slow
def test_a_beat_that_stands_still_starves_the_watchdog_though_the_main_loop_answers(
    sandbox: Sandbox, manager: Manager
) -> None:
    sandbox.settings(enable_keepalive=True)
    pid = sandbox.start_daemon()
    wait(lambda: sum(said == "WATCHDOG=1" for _, said in manager.listen()) >= 3, "a fed watchdog", 10)
    [beat] = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == "beat"]
    with stopped(int(beat.name)):
        assert tracer(int(beat.name))
        time.sleep(1.2)  # what was under way
        begin = time.monotonic()
        while time.monotonic() - begin < 5.0:
            assert "Enabled" in sandbox.appctl("keepalive/status", target="ovs-keepalive")
            time.sleep(0.2)
        assert not manager.has("WATCHDOG=1", begin)
    wait(lambda: manager.has("WATCHDOG=1", time.monotonic() - 0.5), "a fed watchdog again", 10)


# --- a reload ------------------------------------------------------------------------------------


def rewrite(sandbox: Sandbox, **changes: object) -> None:
    path = sandbox.dir / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def said(sandbox: Sandbox, line: str) -> Callable[[], bool]:
    return lambda: line in (sandbox.dir / "ovs-keepalive.log").read_text()


@pytest.mark.slow
def test_a_reload_takes_what_can_be_taken_live_and_says_what_cannot(sandbox: Sandbox, manager: Manager) -> None:
    sandbox.settings(enable_keepalive=True)
    pid = sandbox.start_daemon()
    # A manager that does not listen is told no more than ten messages: this one does.
    wait(lambda: manager.listen() and len(sandbox.column()) == 2, "2 PMDs in the column", 15)
    rewrite(sandbox, refresh=30000, mirror="external_ids")
    os.kill(pid, signal.SIGHUP)
    changed = said(sandbox, "configuration read anew: refresh: 1000 -> 30000")
    wait(lambda: manager.listen() and changed(), "the change", 5)
    assert said(sandbox, "mirror: 'none' -> 'external_ids': at the next start")()

    def told() -> list[str]:
        """What came from the reload on."""
        words = [word.partition("=")[0] for _, word in manager.listen()]
        return words[words.index("RELOADING") :] if "RELOADING" in words else []

    wait(lambda: "READY" in told(), "RELOADING, then READY", 5)
    assert told()[:2] == ["RELOADING", "MONOTONIC_USEC"]
    written = sandbox.detail()["daemon"]
    time.sleep(3)  # three refreshes of before
    assert sandbox.detail()["daemon"] == written


def test_a_file_in_error_changes_nothing_and_is_told_in_one_line(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True)
    pid = sandbox.start_daemon()
    rewrite(sandbox, refresh=3)
    os.kill(pid, signal.SIGHUP)
    wait(said(sandbox, "refresh: 3: expected `int` >= 1000; the configuration in force stays"), "the refusal", 5)
    assert f"pid {pid}" in sandbox.appctl("keepalive/status", target="ovs-keepalive")
