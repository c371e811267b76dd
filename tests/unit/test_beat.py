# SPDX-License-Identifier: Apache-2.0
"""The beat thread before a vswitchd that refuses: its questions are few, whatever it is answered."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_keepalive.beat import Beat
from ovs_keepalive.core.model import Ended, Moment, NotSeen, ProcessId, Seen, Settings
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor
from ovs_keepalive.slot import Slot

SETTINGS = Settings(enabled=True, interval=0.1, max_main_share=0.5, restart_deadline=60.0, hung_after=60.0)
PERF = "\npmd thread numa_id 0 core_id 0:\n\n  Iterations:  {}  (1 us/it)\n"
LOOKS = 10


class Vswitchd(VswitchdSensor):
    """Knows one process for good."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.pidfile.parent)
        self._only = process

    def fileno(self) -> int | None:
        return None

    def look(self, now: Moment, silent: bool = False) -> tuple[Seen[Process] | NotSeen, Ended | None]:
        return Seen(now, self._only), None


class Main:
    """A main thread that tells counters that grow, and refuses everything else."""

    def __init__(self, path: Path, refusal: str) -> None:
        self.asked: Counter[str] = Counter()
        self.enough = threading.Event()
        self._refusal = refusal
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        for each in (self._connection, self._listener):
            if each is not None:
                each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._connection, _ = self._listener.accept()
            while request := self._connection.recv(1 << 16):
                self._connection.sendall(self._reply(json.loads(request)))
        except OSError:
            return

    def _reply(self, request: dict[str, str]) -> bytes:
        method = request["method"]
        self.asked[method] += 1
        counters = method == "dpif-netdev/pmd-perf-show"
        if self.asked["dpif-netdev/pmd-perf-show"] >= LOOKS or self.asked.total() >= 50 * LOOKS:
            self.enough.set()
        text = PERF.format(self.asked.total()) if counters else None
        return json.dumps({"id": request["id"], "result": text, "error": None if counters else self._refusal}).encode()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one PMD thread."""
    thread = tmp_path / "proc" / "100" / "task" / "101"
    thread.mkdir(parents=True)
    (thread / "comm").write_text("pmd-c00/id:6\n")
    (thread / "stat").write_text("101 (pmd-c00/id:6) R " + " ".join(["0"] * 49) + "\n")
    (thread / "schedstat").write_text("0 0 0\n")
    return tmp_path / "proc"


@pytest.fixture(params=["pmd-rxq-show is not a valid command", "please specify an existing datapath"])
def main(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Main]:
    serving = Main(tmp_path / "v.ctl", request.param)
    yield serving
    serving.close()


def test_a_look_that_costs_much_stretches_the_interval_however_much_it_costs(tmp_path: Path) -> None:
    """Looks never come less often than once a second; five of them fit in what is told as the effective interval."""
    beat = Beat(VswitchdSensor(tmp_path), replace(SETTINGS, interval=0.1, max_main_share=0.005), Slot())
    for cost, effective, period in ((0.0, 0.1, 0.0125), (0.0001, 0.1, 0.02), (0.0049, 4.9, 0.98), (0.0051, 5.0, 1.0)):
        beat._stretch(cost)
        assert beat._effective == pytest.approx(effective)
        assert beat._period == pytest.approx(period)


def test_a_question_that_is_refused_is_not_repeated_between_two_looks(tmp_path: Path, proc: Path, main: Main) -> None:
    process = Process(ProcessId(100, 0), tmp_path / "v.pid", tmp_path / "v.ctl")
    beat = Beat(Vswitchd(process), SETTINGS, Slot(), proc)
    beat.start()
    told = main.enough.wait(30.0)
    beat.stop()
    if beat._questions is not None:
        beat._questions.close()
    assert beat.failure is None
    assert told
    assert main.asked["dpif-netdev/pmd-perf-show"] >= LOOKS
    assert main.asked["dpif-netdev/pmd-rxq-show"] <= 2 * LOOKS
