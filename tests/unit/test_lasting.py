# SPDX-License-Identifier: Apache-2.0
"""A beat that is left and goes on, in the same process or in another one: no look too many, none too few."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ovs_keepalive.core.memory import Beating
from ovs_keepalive.core.model import Ended, Moment, NotSeen, ProcessId, Seen, Settings, Snapshot, Transition
from ovs_keepalive.lasting import LastingBeat
from ovs_keepalive.sandbox import wait
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor
from ovs_keepalive.slot import Slot

INTERVAL = 0.2
SETTINGS = Settings(enabled=True, interval=INTERVAL, max_main_share=0.5, restart_deadline=60.0, hung_after=60.0)
PERF = "\npmd thread numa_id 0 core_id 0:\n\n  Iterations:  {0}  (1 us/it)\n  - idle iterations: {0}  (9 %)\n"
RXQS = "pmd thread numa_id 0 core_id 0:\n  isolated : false\n  port: p0  queue-id:  0 (enabled)   pmd usage:  0 %\n"


class Vswitchd(VswitchdSensor):
    """Knows one process for good."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._only = Process(ProcessId(100, 0), directory / "v.pid", directory / "v.ctl")

    def fileno(self) -> int | None:
        return None

    def look(self, now: Moment, silent: bool = False) -> tuple[Seen[Process] | NotSeen, Ended | None]:
        return Seen(now, self._only), None


class Main(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A main thread that tells counters that grow, as long as it may."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[float] = []  # monotonic
        self.count = 0


class _Handler(socketserver.BaseRequestHandler):
    server: Main

    def handle(self) -> None:
        with suppress(OSError):  # whoever asked has gone
            self._serve(self.request)

    def _serve(self, connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            asked = json.loads(request)
            if "perf" in asked["method"]:
                self.server.asked.append(time.monotonic())
            self.server.answers.wait(10)
            self.server.count += 1000
            text = PERF.format(self.server.count) if "perf" in asked["method"] else RXQS
            connection.sendall(json.dumps({"id": asked["id"], "result": text, "error": None}).encode())


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Main]:
    with Main(tmp_path / "v.ctl") as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.answers.set()
        serving.shutdown()
        thread.join()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    thread = tmp_path / "proc" / "100" / "task" / "101"
    thread.mkdir(parents=True)
    (thread / "comm").write_text("pmd-c00/id:6\n")
    (thread / "stat").write_text("101 (pmd-c00/id:6) R " + " ".join(["0"] * 49) + "\n")
    (thread / "schedstat").write_text("0 0 0\n")
    return tmp_path / "proc"


class Run:
    """A beat, and what it has told."""

    def __init__(self, directory: Path, was: Beating | None = None, gap: Transition | None = None) -> None:
        self.slot = Slot()
        self.told: list[Snapshot] = []
        self.beat = LastingBeat(Vswitchd(directory), SETTINGS, self.slot, directory / "proc")
        if was is not None:
            self.beat.go_on_from(was, SETTINGS, Moment(time.monotonic(), 0), gap)
        self._looks = self.beat.noted().looks
        self.beat.start()

    def take(self) -> Snapshot | None:
        """The newest snapshot, if there is one."""
        if (snapshot := self.slot.take()) is not None:
            self.told.append(snapshot)
        return snapshot

    def lives(self) -> bool:
        """Whether its PMD is told to be well."""
        self.take()
        return bool(self.told) and [pmd.state for pmd in self.told[-1].pmds] == ["ALIVE"]

    def has_looked(self) -> bool:
        """Whether it has, and has told something."""
        self.take()
        return bool(self.told) and self.beat.noted().looks > self._looks

    def close(self) -> None:
        """End it."""
        self.beat.stop()
        if self.beat._questions is not None:
            self.beat._questions.close()

    @property
    def silent(self) -> float:
        """Seconds for which the main thread has owed it an answer."""
        return self.beat._questions.silent(time.monotonic()) if self.beat._questions is not None else 0.0

    def hand(self, directory: Path) -> Run:
        """To another one, as an upgrade does."""
        assert self.beat.leave()
        return Run(directory, self.beat.noted())


@pytest.fixture
def first(tmp_path: Path, proc: Path, main: Main) -> Iterator[Run]:
    run = Run(tmp_path)
    wait(run.lives, "ALIVE", 5)
    yield run
    run.close()
    assert run.beat.failure is None


def test_the_next_one_looks_when_this_one_would_have_and_counts_on(first: Run, tmp_path: Path, main: Main) -> None:
    runs = [first]
    for _ in range(5):
        wait(runs[-1].has_looked, "a look", 5)
        runs.append(runs[-1].hand(tmp_path))
    wait(runs[-1].has_looked, "a look of the last one", 5)
    runs[-1].beat.leave()
    runs[-1].take()
    for before, after in pairwise(runs):
        was = before.beat.noted()
        assert after.told[0].seq == was.seq + 1
        assert after.told[0].history == was.history
        assert [pmd.state for pmd in after.told[-1].pmds] == ["ALIVE"]
        assert after.beat.noted().looks > was.looks
    steps = [after - before for before, after in pairwise(main.asked)]
    assert max(steps) < INTERVAL  # no look is missing, though the machine may be slow
    assert all(run.beat.failure is None for run in runs)
    for run in runs[1:]:
        run.close()


def test_what_is_owed_is_owed_to_the_next_one_too(first: Run, tmp_path: Path, main: Main) -> None:
    main.answers.clear()
    wait(
        lambda: first.beat._questions is not None and first.beat._questions.silent(time.monotonic()) > 0.2, "silence", 5
    )
    assert first.beat.leave()
    was = first.beat.noted()
    second = Run(tmp_path, was)
    wait(lambda: second.silent, "a question of the next one", 5)
    assert second.beat._questions is not None
    assert second.beat._questions.asked == was.owed > 0.0
    assert second.beat._questions.answered
    second.close()


def test_one_that_was_left_in_vain_goes_on(first: Run) -> None:
    assert first.beat.leave()
    looks = first.beat.noted().looks
    first.beat.beat_on()
    wait(lambda: first.beat.noted().looks > looks + 2, "more looks", 5)
    assert first.lives()


def test_a_gap_is_told_and_the_state_stays(first: Run, tmp_path: Path) -> None:
    assert first.beat.leave()
    was = first.beat.noted()
    now = Moment(time.monotonic(), 0)
    second = Run(tmp_path, was, Transition(now, "daemon", "away", "back", "none", "a gap"))
    wait(second.lives, "ALIVE", 5)
    assert second.told[0].history[-1].new == "back"
    assert second.told[0].seq == was.seq + 1
    assert {one.since for snapshot in second.told for one in snapshot.pmds} == {one.since for one in was.pmds}
    second.close()
