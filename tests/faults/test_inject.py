# SPDX-License-Identifier: Apache-2.0
"""Each fault that the tests inject is what it says it is: the kernel's own words on a real PMD thread, the others run
on meanwhile, and the thread works again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ovs_keepalive.ptrace import Hold, HoldError, tracer
from ovs_keepalive.sandbox import Sandbox
from tests.faults.inject import asleep, end_thread, held, paused, spinning, uninterruptible

pytestmark = pytest.mark.real

Fault = Callable[[int], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "state", "syscall"),
    [
        pytest.param(held, "t", None, id="held"),
        pytest.param(asleep, "S", "35", id="asleep"),
        pytest.param(paused, "S", "34", id="paused"),
        pytest.param(spinning, "R", "running", id="spinning"),
        pytest.param(uninterruptible, "D", "58", id="uninterruptible"),
    ],
)
def test_a_fault_is_what_it_says(sandbox: Sandbox, fault: Fault, state: str, syscall: str | None) -> None:
    sick, well = sandbox.pmds().values()
    with fault(sick):
        sandbox.wait(lambda: _stat(sick) == state, f"state {state}")
        if syscall:
            sandbox.wait(lambda: _syscall(sick) == syscall, f"system call {syscall}")
        assert (tracer(sick) != 0) == (fault is held)
        before = _iterations(sandbox)
        sandbox.wait(lambda: _iterations(sandbox)[1] != before[1], "the other PMD iterates")  # and vswitchd answers
        assert _iterations(sandbox)[0] == before[0]
        assert _stat(sick) == state
        assert _stat(well) in "RS"
    sandbox.wait(lambda: _iterations(sandbox)[0] != before[0], "the PMD iterates again")
    assert tracer(sick) == 0


def test_a_spinning_pmd_uses_its_core(sandbox: Sandbox) -> None:
    sick = next(iter(sandbox.pmds().values()))
    with spinning(sick):
        before = _run_time(sick)
        sandbox.wait(lambda: _run_time(sick) - before > 0.2e9, "0.2 s of run time")


def test_faults_follow_one_another_and_meet_in_one_process(sandbox: Sandbox) -> None:
    first, second = sandbox.pmds().values()
    for _ in range(5):
        with paused(first), spinning(second):
            sandbox.wait(lambda: _stat(first) + _stat(second) == "SR", "states S and R")
        _wait_until_all_iterate(sandbox)


def test_a_thread_that_ends_leaves_its_process(sandbox: Sandbox) -> None:
    name, tid = next(iter(sandbox.pmds().items()))
    end_thread(tid)
    sandbox.wait(lambda: name not in sandbox.pmds(), "the thread has gone")
    assert len(sandbox.pmds()) == 1
    assert sandbox.appctl("version").startswith("ovs-vswitchd")
    assert len(_iterations(sandbox)) == 2  # vswitchd does not know


@pytest.mark.parametrize("fault", [held, asleep, uninterruptible])
def test_a_process_that_ends_amid_a_fault_leaves_nothing(sandbox: Sandbox, fault: Fault) -> None:
    tid = next(iter(sandbox.pmds().values()))
    with fault(tid):
        children = [int(pid) for pid in Path(f"/proc/{tid}/task/{tid}/children").read_text().split()]
        sandbox.kill_vswitchd()
        sandbox.wait(lambda: not any(_alive(pid) for pid in [tid, *children]), "it and its child have gone")


def test_a_thread_that_cannot_be_held_is_one_line(sandbox: Sandbox) -> None:
    tid = min(sandbox.pmds().values())
    with (
        Hold(tid),
        pytest.raises(HoldError, match=rf"^thread {tid}: traced already by \S+ \(pid \d+\): end that first$"),
    ):
        Hold(tid)
    sandbox.kill_vswitchd()
    with pytest.raises(HoldError, match=rf"^thread {tid}: no such thread: .*$"):
        Hold(tid)


def _wait_until_all_iterate(sandbox: Sandbox) -> None:
    before = _iterations(sandbox)
    sandbox.wait(lambda: all(a != b for a, b in zip(before, _iterations(sandbox), strict=True)), "all PMDs iterate")


def _stat(tid: int) -> str:
    return Path(f"/proc/{tid}/stat").read_text().rpartition(")")[2].split()[0]


def _alive(pid: int) -> bool:
    try:
        return _stat(pid) not in "ZX"
    except OSError:
        return False


def _syscall(tid: int) -> str:
    return Path(f"/proc/{tid}/syscall").read_text().split()[0]


def _run_time(tid: int) -> int:
    return int(Path(f"/proc/{tid}/schedstat").read_text().split()[0])


def _iterations(sandbox: Sandbox) -> list[str]:
    """As each PMD counts them, in the order of the cores."""
    shown = sandbox.appctl("dpif-netdev/pmd-perf-show", "-nh")
    return [line.split()[1] for line in shown.splitlines() if line.strip().startswith("Iterations:")]
