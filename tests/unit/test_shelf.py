# SPDX-License-Identifier: Apache-2.0
"""What an earlier daemon has left: read if it can be gone by, written without holding anybody up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import shelf as module
from ovs_keepalive.core.memory import OLDEST, Memory
from ovs_keepalive.core.model import NEVER, Moment, Plan, ProcessId, Transition
from ovs_keepalive.core.ports import PortsMemory
from ovs_keepalive.core.settings import Asked
from ovs_keepalive.formats import memory as form
from ovs_keepalive.sandbox import wait
from ovs_keepalive.shelf import REFRESH, Shelf
from tests.looks import FIRST, SETTINGS, WALL_MS, Scene, remembered, snapshot

LATER = Moment(1500.0, WALL_MS)


class Manager:
    """systemd's store, or none."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.dropped = 0

    def keep(self, descriptor: int) -> None:
        self.kept.append(os.pread(descriptor, 1 << 20, 0))

    def drop(self) -> None:
        self.dropped += 1


class Log:
    """What the log is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.warn = self.lines.append


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(module, "log", log)
    return log


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def shelf(tmp_path: Path, manager: Manager) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "state", tmp_path / "x.pid", manager)
    yield made
    made.close()


@pytest.fixture
def memory() -> Memory:
    scene = Scene()
    return remembered(scene.register, scene.moment)


def again(shelf: Shelf, tmp_path: Path) -> Shelf:
    """Of the daemon that starts next."""
    return Shelf(shelf.path.parent, tmp_path / "x.pid", Manager())


def recalled(shelf: Shelf, now: Moment = LATER, present: ProcessId | None = FIRST) -> Memory | None:
    return shelf.recall([], now, present)


def test_what_was_put_is_recalled_and_the_file_is_the_owners_and_groups_alone(
    shelf: Shelf, memory: Memory, tmp_path: Path
) -> None:
    shelf.put(memory)
    shelf.close()
    assert recalled(again(shelf, tmp_path)) == memory
    assert shelf.path.stat().st_mode & 0o137 == 0
    assert [path.name for path in shelf.path.parent.iterdir()] == ["x.memory"]


@pytest.mark.parametrize(
    ("now", "present", "why"),
    [
        (LATER, ProcessId(FIRST.pid, FIRST.start + 1), "it is of vswitchd process 100, which is over"),
        (LATER, None, "which is over"),
        (Moment(1003.0 + OLDEST + 1, WALL_MS), FIRST, "3601 s old"),
        (Moment(900.0, WALL_MS), FIRST, "of the future"),
    ],
)
def test_what_cannot_be_gone_by_is_named_in_one_line(
    shelf: Shelf, memory: Memory, said: Log, now: Moment, present: ProcessId | None, why: str
) -> None:
    shelf.put(memory)
    shelf.close()
    assert recalled(shelf, now, present) is None
    assert len(said.lines) == 1
    assert why in said.lines[0]


def test_a_memory_of_a_disabled_daemon_is_of_no_process(shelf: Shelf) -> None:
    shelf.put(remembered(asked=Asked(enabled=False, interval_ms=250)))
    shelf.close()
    kept = recalled(shelf)
    assert kept is not None
    assert kept.asked.interval_ms == 250


@pytest.mark.parametrize(
    ("was", "new", "why"),
    [
        (b'"version":2', b'"version":3', "version 3 of the document, this daemon reads 1 and 2"),
        (b'"boot":"', b'"boot":"other-', "of another boot"),
        (b"x.pid", b"y.pid", "it is of the daemon of"),
        (b"pmd-c00", b"pmd-c01", "damaged"),
        (b'"format"', b'"farmot"', "damaged"),
        (b"]\n", b"]", "damaged"),
    ],
)
def test_a_document_that_is_not_ours_or_not_whole_is_named_in_one_line(
    shelf: Shelf, memory: Memory, said: Log, was: bytes, new: bytes, why: str
) -> None:
    shelf.put(memory)
    shelf.close()
    document = shelf.path.read_bytes()
    assert was in document
    shelf.path.write_bytes(document.replace(was, new))
    assert recalled(shelf) is None
    assert len(said.lines) == 1
    assert why in said.lines[0]


def test_a_time_that_cannot_have_been_is_damage_though_the_sum_is_right(memory: Memory) -> None:
    future = Transition(Moment(9e9, WALL_MS), "x", "A", "B", "none", "")
    with pytest.raises(form.Unusable, match="a time in it cannot be"):
        form.decode(form.encode(memory._replace(events=(future,)), "b", "p"), "b", "p")


def test_the_newest_of_several_is_gone_by(shelf: Shelf, memory: Memory) -> None:
    shelf.put(memory)
    shelf.close()
    descriptors = []
    for second in (1200.0, 1300.0, 1100.0):
        descriptors.append(os.memfd_create("kept"))
        os.write(descriptors[-1], shelf.encoded(memory._replace(at=Moment(second, WALL_MS))))
    newest = shelf.recall(descriptors, LATER, FIRST)
    assert newest is not None
    assert newest.at.mono == 1300.0
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_systemd_is_given_the_same(shelf: Shelf, memory: Memory, manager: Manager) -> None:
    shelf.put(memory)
    shelf.close()
    assert manager.kept == [shelf.path.read_bytes()]
    shelf.forget()
    assert manager.dropped == 1
    assert not shelf.path.exists()


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Set while a file is put in its place; set, to let it be."""
    entered, back = threading.Event(), threading.Event()
    put_in_place = Shelf._replace

    def hangs(self: Shelf, document: bytes) -> None:
        entered.set()
        back.wait(10)
        put_in_place(self, document)

    monkeypatch.setattr(Shelf, "_replace", hangs)
    yield entered, back
    back.set()


def test_what_waits_or_is_being_written_is_forgotten_too(
    shelf: Shelf, memory: Memory, manager: Manager, slow_disk: tuple[threading.Event, threading.Event]
) -> None:
    entered, back = slow_disk
    shelf.put(memory)
    assert entered.wait(5)
    shelf.put(memory)  # it waits
    threading.Timer(0.2, back.set).start()
    shelf.forget()
    shelf.close()
    assert list(shelf.path.parent.iterdir()) == []
    assert (len(manager.kept), manager.dropped) == (1, 1)


def test_a_write_that_hangs_is_not_waited_for_without_end_when_all_is_forgotten(
    shelf: Shelf,
    memory: Memory,
    slow_disk: tuple[threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
    said: Log,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    shelf.put(memory)
    assert slow_disk[0].wait(5)
    shelf.forget()
    assert said.lines == [f"{shelf.path}: not written within 0.1 s: remove it if the next start fails as this one did"]


def test_a_disk_that_hangs_holds_up_nobody_and_only_the_newest_is_written_when_it_is_back(
    shelf: Shelf, memory: Memory, manager: Manager, slow_disk: tuple[threading.Event, threading.Event]
) -> None:
    entered, back = slow_disk
    shelf.put(memory)
    assert entered.wait(5)
    began = time.monotonic()
    for number in range(100):
        shelf.put(memory._replace(committed=number))
    assert time.monotonic() - began < 1.0
    assert len(manager.kept) == 1  # systemd's store did not wait for the disk
    back.set()
    wait(lambda: len(manager.kept) == 2, "the second write", 5)
    shelf.close()
    kept = recalled(shelf)
    assert kept is not None
    assert kept.committed == 99


def test_a_last_write_that_hangs_is_given_up_and_said(
    shelf: Shelf, memory: Memory, monkeypatch: pytest.MonkeyPatch, said: Log
) -> None:
    back = threading.Event()
    monkeypatch.setattr(Shelf, "_replace", lambda *_: back.wait(10))
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    shelf.put(memory)
    shelf.close()
    assert "not written within 0.1 s" in said.lines[-1]
    back.set()


def test_a_directory_that_cannot_be_written_is_a_fact_and_no_failure(
    memory: Memory, tmp_path: Path, manager: Manager
) -> None:
    (tmp_path / "file").write_text("")
    shelf = Shelf(tmp_path / "file", tmp_path / "x.pid", manager)
    shelf.put(memory)
    shelf.close()
    assert "nothing can be kept" in shelf.fact
    assert len(manager.kept) == 1


def test_it_is_noted_when_something_has_happened_and_from_time_to_time(shelf: Shelf, memory: Memory) -> None:
    noted: list[float] = []

    def follow(second: float, *history: Transition, **settings: Any) -> None:
        at = Moment(second, WALL_MS)

        def note() -> Memory:
            noted.append(second)
            return memory

        shelf.follow(snapshot(at=at, history=history, settings=replace(SETTINGS, **settings)), Asked(), note)

    news = Transition(Moment(1001.0, WALL_MS), "pmd-c00/id:6", "ALIVE", "MISSING", "none", "")
    plan = Plan(Moment(1002.5, WALL_MS), 600.0)
    follow(1000.0)
    follow(1000.5)
    follow(1001.0, news)
    follow(1002.0, news)
    follow(1003.0, news, plan=plan)  # a restart is announced …
    follow(1003.5, news, plan=plan)
    follow(1004.0, news, plan=plan, flow_restored=None)  # … begins …
    follow(1005.0, news, flow_restored=None)  # … and is over
    follow(1006.0, news, flow_restored=NEVER)
    follow(1006.0 + REFRESH, news)
    assert noted == [1000.0, 1001.0, 1003.0, 1004.0, 1005.0, 1006.0, 1006.0 + REFRESH]


def test_what_is_known_of_ports_holds_for_the_next_vswitchd_too(shelf: Shelf, memory: Memory) -> None:
    ports = PortsMemory(Moment(900.0, WALL_MS), FIRST)
    shelf.put(memory._replace(ports=ports))
    shelf.close()
    assert recalled(shelf, present=ProcessId(4711, 1)) is None, "the rest is of a process that is over"
    assert shelf.ports == ports
