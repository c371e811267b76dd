# SPDX-License-Identifier: Apache-2.0
"""The event witness on real threads: of a child process that runs, sleeps and ends when it is told to."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.sensors import switches
from ovs_keepalive.sensors.switches import REST, STORM, NoSwitches, Switches, event_witness

CHILD = """
import sys, time
for line in sys.stdin:
    end = time.monotonic() + float(line)
    while time.monotonic() < end:
        pass
    print("ran", flush=True)
"""
Child = subprocess.Popen[str]


@pytest.fixture
def child() -> Iterator[Child]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        run(process, 0.0)
        yield process
        process.kill()


@pytest.fixture
def witness() -> Iterator[Switches]:
    found = event_witness("auto")
    if not isinstance(found, Switches):
        pytest.skip(found.status)
    yield found
    found.close()


def run(child: Child, seconds: float, wait: bool = True) -> None:
    """Let it run for so long, then sleep until it is told again."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{seconds}\n")
    child.stdin.flush()
    if wait:
        assert child.stdout.readline()


def listen(witness: Switches, seconds: float, now: float = 0.0) -> frozenset[int]:
    """Who rings within this time, at the latest at its end. now: of the witness."""
    poll = select.poll()
    for descriptor in witness.descriptors:
        poll.register(descriptor, select.POLLIN)
    polled = dict(poll.poll(seconds * 1000))
    tids = witness.rung(polled, now)
    assert not polled
    return tids


def test_a_thread_that_goes_to_sleep_rings(witness: Switches, child: Child) -> None:
    witness.follow({child.pid}, 0.0)
    while listen(witness, 0.1):  # it was still on its way to sleep
        pass
    run(child, 0.0)
    assert listen(witness, 1.0) == {child.pid}


def test_a_thread_that_ends_rings_once_and_is_let_go(witness: Switches, child: Child) -> None:
    witness.follow({child.pid}, 0.0)
    child.kill()
    child.wait()
    while witness.descriptors:
        assert listen(witness, 1.0) == {child.pid}
    assert not listen(witness, 0.05)
    witness.follow({child.pid, 1}, 1.0)  # gone by now: nobody to listen to, and no refusal
    assert not witness.status.startswith("off")


def test_a_storm_is_heard_a_few_times_and_then_not_for_a_minute(witness: Switches, child: Child) -> None:
    witness.follow({child.pid}, 0.0)
    rings = 0
    for turn in range(20):
        run(child, 0.0)
        rings += bool(listen(witness, 0.05, turn * 0.01))
    assert rings == STORM + 1
    assert witness.descriptors == ()
    assert "1 left their CPU too often" in witness.status
    witness.follow({child.pid}, REST / 2)
    assert witness.descriptors == ()
    witness.follow({child.pid}, REST + 1.0)
    run(child, 0.0)
    assert listen(witness, 1.0) == {child.pid}


def test_rings_that_are_rare_go_on_for_ever(witness: Switches, child: Child) -> None:
    witness.follow({child.pid}, 0.0)
    for turn in range(600):  # more than the ring holds undrained
        run(child, 0.0)
        assert listen(witness, 1.0, turn * 1.0) == {child.pid}


def test_the_descriptors_stay_the_same_object_until_they_change(witness: Switches, child: Child) -> None:
    witness.follow({child.pid}, 0.0)
    before = witness.descriptors
    witness.follow({child.pid}, 1.0)
    assert witness.descriptors is before
    witness.follow((), 2.0)
    assert witness.descriptors == ()


def test_where_tracefs_can_be_read_being_preempted_rings_nothing(child: Child) -> None:
    if switches._sched_switch(Path("/proc")) is None:
        pytest.skip("tracefs is not mounted, or not readable")
    witness = event_witness("auto")
    assert isinstance(witness, Switches)
    run(child, 1.0, wait=False)
    time.sleep(0.1)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as rival:
        witness.follow({child.pid}, 0.0)
        assert not listen(witness, 0.5)
        rival.kill()
    witness.close()


def test_a_refusal_is_told_and_leaves_a_null_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    level = tmp_path / "sys" / "kernel" / "perf_event_paranoid"
    level.parent.mkdir(parents=True)
    level.write_text("2\n")
    monkeypatch.setattr(switches, "perf_event", refused)
    witness = event_witness("auto", tmp_path)
    assert isinstance(witness, NoSwitches)
    assert witness.status == "off: perf_event_paranoid 2 needs CAP_PERFMON"
    witness.follow({1}, 0.0)
    assert witness.descriptors == ()


def test_a_refusal_for_one_thread_is_told(monkeypatch: pytest.MonkeyPatch, witness: Switches, child: Child) -> None:
    def refused(*_: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(switches, "perf_event", refused)
    witness.follow({child.pid}, 0.0)
    assert witness.status.startswith("off: perf_event_paranoid ")


def test_another_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert event_witness("auto").status == "off: perf_event_open: Function not implemented"


def test_it_can_be_switched_off() -> None:
    assert event_witness("off").status == "off: event-witness: off"
