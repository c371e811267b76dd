# SPDX-License-Identifier: Apache-2.0
"""The daemon as a user that may connect to the two sockets and write in OVS_RUNDIR, and nothing else.

While the main thread answers every stall is told in time all the same; what is lost is detail, and doctor lists it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from ovs_keepalive.ptrace import as_user
from tests.faults.inject import asleep, frozen, frozen_v1, paused, spinning, uninterruptible
from tests.faults.laboratory import Course, Fault, Laboratory, Rounds
from tests.lab import stopped

pytestmark = pytest.mark.real

USER = 65534  # nobody


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(stopped, "traced", id="held"),
        pytest.param(asleep, "blocked", id="asleep"),
        pytest.param(paused, "blocked", id="paused"),
        pytest.param(uninterruptible, "uninterruptible", id="uninterruptible"),
        pytest.param(frozen, "blocked", id="frozen"),  # only wchan would tell: S in get_signal
        pytest.param(frozen_v1, "uninterruptible", id="frozen_v1"),  # D, and only wchan would tell where
        pytest.param(spinning, "spinning", id="spinning"),
    ],
)
def test_every_stall_is_told_in_time(rounds: Rounds, fault: Fault, cause: str) -> None:
    def run(laboratory: Laboratory) -> Course:
        course = laboratory.stall(fault)
        course.assert_told_in_time()
        assert course.causes == {cause}
        return course

    rounds.repeat(f"{fault.__name__}, as nobody", run)


def test_doctor_lists_what_is_lost(laboratory: Laboratory) -> None:
    sandbox = laboratory.sandbox
    argv = [*as_user(USER), sys.executable, "-m", "ovs_keepalive", "doctor", "--ovsdb", sandbox.remote]
    done = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=60, check=False)
    [line] = [line for line in done.stdout.splitlines() if "privileges" in line]
    assert line.startswith("WARN"), done.stdout
    assert "syscall, wchan" in line
    assert "a blocked or frozen PMD keeps its state, unverified, while the main thread is silent" in line
    assert "a frozen PMD is told as blocked" in line
    assert "FAIL" not in done.stdout, done.stdout
