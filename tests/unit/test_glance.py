# SPDX-License-Identifier: Apache-2.0
"""The glance at PMD threads with each answer: what is kept of it, on real threads that are called as PMDs are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.children import wait
from ovs_keepalive.core.model import Moment, ProcessId, Seen
from ovs_keepalive.sensors.threads import ThreadSensor


class Worker(threading.Thread):
    """Works when it is told to, and is asleep else."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self._called = name
        self._turn, self.done, self.begun = threading.Event(), threading.Event(), threading.Event()
        self.over = False

    def run(self) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self._called)
        self.begun.set()
        while self._turn.wait() and not self.over:
            self._turn.clear()
            sum(range(200_000))
            self.done.set()

    def works(self) -> None:
        self.done.clear()
        self._turn.set()
        assert self.done.wait(10)

    def ends(self) -> None:
        self.over = True
        self._turn.set()
        self.join(10)
        wait(lambda: not Path(f"/proc/self/task/{self.native_id}").exists(), "the kernel has let it go", 10)


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker("pmd-c07/id:9")
    one.start()
    assert one.begun.wait(10)
    yield one
    one.ends()


def test_a_glance_keeps_the_run_time_of_its_moment(worker: Worker) -> None:
    sensor = ThreadSensor()
    sensor.attach(ProcessId(os.getpid(), 1))
    assert sensor.glanced() is None
    first = _run_ns(sensor.look(Moment(1.0, 1000), True, frozenset()))
    worker.works()
    sensor.glance(Moment(2.0, 2000))
    worker.works()
    last = _run_ns(sensor.look(Moment(3.0, 3000), True, frozenset()))
    glanced = sensor.glanced()
    assert glanced is not None
    assert glanced.at == Moment(2.0, 2000)
    assert [look.at for look in glanced.value] == [2.0]
    assert first < _run_ns(glanced) < last
    assert sensor.glanced() is None, "it is told once"


def test_a_glance_tells_nothing_of_a_thread_that_has_ended_or_of_another_process(worker: Worker) -> None:
    sensor = ThreadSensor()
    sensor.attach(ProcessId(os.getpid(), 1))
    sensor.look(Moment(1.0, 1000), True, frozenset())
    worker.ends()
    sensor.glance(Moment(2.0, 2000))
    glanced = sensor.glanced()
    assert glanced is not None
    assert glanced.value == ()
    sensor.glance(Moment(3.0, 3000))
    sensor.attach(None)
    assert sensor.glanced() is None


def _run_ns(seen: object) -> int:
    assert isinstance(seen, Seen)
    [look] = seen.value
    assert look.run_ns is not None
    return int(look.run_ns)
