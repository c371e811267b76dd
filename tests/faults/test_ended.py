# SPDX-License-Identifier: Apache-2.0
"""A PMD thread ends and its process does not know; the process ends in order, and PMDs are blamed for nothing.

(That it ends by SIGKILL is told within 50 ms: test_held.)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.faults.inject import end_thread
from tests.faults.laboratory import HARMLESS, Laboratory, Rounds, cause_of
from tests.subscriber import Subscriber, Told

pytestmark = pytest.mark.real


def test_a_thread_that_ended_is_gone_without_missing_and_only_a_restart_heals_it(rounds: Rounds) -> None:
    def run(laboratory: Laboratory) -> None:
        sandbox = laboratory.sandbox
        (sick, tid), (well, _) = sandbox.pmds().items()
        begin = time.monotonic()
        end_thread(tid)
        uncertainty = (time.monotonic() - begin) / laboratory.interval
        gone = laboratory.wait_for(sick, "GONE", begin)
        laboratory.assert_others_are_well(sick, begin)
        killed = time.monotonic()
        sandbox.kill_vswitchd()
        restarted = laboratory.wait_for(well, "GONE", killed)
        sandbox.start_vswitchd()
        sandbox.wait_for_pmds()
        names = list(sandbox.pmds())
        wait(lambda: all(laboratory.last.state(name) in ("ALIVE", "SLEEP") for name in names), "PMDs well", 15)

        late = (gone.at - begin) / laboratory.interval
        assert late <= 3.5 + uncertainty
        told = [one for one in laboratory.since(begin) if one.at < killed]
        assert {one.state(sick).replace("SLEEP", "ALIVE") for one in told} <= {"ALIVE", "GONE"}
        assert {cause_of(one.detail[sick]) for one in told if sick in one.detail} - HARMLESS == {"exited"}
        assert cause_of(restarted.detail[sick]) == "exited"  # the cause found first stays
        assert cause_of(restarted.detail[well]) == "process-gone"

    rounds.repeat("thread exit", run)


def by_sigterm(sandbox: Sandbox) -> None:
    """The pidfile goes first."""
    sandbox.kill_vswitchd(signal.SIGTERM)


def by_appctl_exit(sandbox: Sandbox) -> None:
    """The PMD threads go first, and main is silent meanwhile."""
    stat = Path(f"/proc/{sandbox.vswitchd_pid}/stat")
    sandbox.appctl("exit")
    wait(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "the end of vswitchd")
    sandbox.kill_vswitchd()  # only its exit status is left


@pytest.mark.slow
@pytest.mark.parametrize("stop", [by_sigterm, by_appctl_exit])
def test_an_orderly_restart_is_told_as_one_and_no_pmd_is_blamed(
    rounds: Rounds, stop: Callable[[Sandbox], None]
) -> None:
    def run(laboratory: Laboratory) -> None:
        sandbox, old = laboratory.sandbox, set(laboratory.sandbox.pmds())
        begin = time.monotonic()
        stop(sandbox)
        laboratory.wait_for_vswitchd("RESTARTING", begin)
        time.sleep(3.5 * laboratory.interval)  # GONE would have come by now
        sandbox.start_vswitchd()
        sandbox.wait_for_pmds()
        new = set(sandbox.pmds())
        started = time.monotonic()
        laboratory.wait_for_vswitchd("RUNNING", started)
        wait(lambda: set(laboratory.last.keepalive) == new, "the new PMDs", 10)
        told = laboratory.since(begin)
        assert {one.state(name) for one in told for name in one.keepalive} <= {"ALIVE", "SLEEP"}
        assert all(set(one.keepalive) in (old, new) for one in told)  # all in one transaction
        causes = {cause_of(one.detail[name]) for one in told for name in (old | new) & set(one.detail)}
        assert causes <= HARMLESS  # none of them is blamed

    rounds.repeat(f"orderly stop {stop.__name__}", run)


def test_a_process_that_dumps_core_is_gone_while_it_is_still_there(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """Its main thread and its PMDs are still in /proc for as long as the dump takes, here 4 s."""
    sandbox = make_sandbox()
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config={"max-main-share": 50})
    names = set(sandbox.pmds())
    wait(lambda: set(sandbox.column()) == names, "2 PMDs in the column", 15)
    with Subscriber(sandbox.remote) as subscriber, slow_core_dumps(tmp_path):
        pid, begin = sandbox.vswitchd_pid, time.monotonic()
        os.kill(pid, signal.SIGSEGV)

        def all_gone() -> Told | None:
            return next((one for one in subscriber.updates if {one.state(name) for name in names} == {"GONE"}), None)

        gone = wait(all_gone, "GONE", 10)
        dumps = "\nCoreDumping:\t1" in Path(f"/proc/{pid}/status").read_text()
        assert gone.at - begin <= 1.25 * 0.5
        assert {cause_of(gone.detail[name]) for name in names} == {"process-gone"}
        assert gone.detail["vswitchd"].startswith("GONE;")
        if not dumps:
            pytest.skip("the kernel did not start our program for core dumps: another root directory than the host's?")
        sandbox.kill_vswitchd()  # it ends when the dump has been taken


@contextmanager
def slow_core_dumps(directory: Path) -> Iterator[None]:
    """The kernel gives core dumps to a program that takes its time."""
    taker = directory / "taker"
    taker.write_text("#!/bin/sh\nsleep 4\nexec cat > /dev/null\n")
    taker.chmod(0o755)
    pattern = Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    try:
        pattern.write_text(f"|{taker}")
    except OSError as error:
        pytest.skip(f"{pattern}: {error.strerror}")
    try:
        yield
    finally:
        pattern.write_text(before)


def test_an_orderly_stop_that_nobody_restarts_is_gone_at_its_deadline(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox()
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config={"restart-deadline": 2})
    names = set(sandbox.pmds())
    wait(lambda: set(sandbox.column()) == names, "2 PMDs in the column", 15)
    with Subscriber(sandbox.remote) as subscriber:
        begin = time.monotonic()
        by_sigterm(sandbox)
        ended = time.monotonic()

        def all_gone() -> Told | None:
            return next((one for one in subscriber.updates if {one.state(name) for name in names} == {"GONE"}), None)

        gone = wait(all_gone, "GONE", 10)
        assert begin + 2.0 <= gone.at <= ended + 2.0 + 0.5
        assert gone.detail["vswitchd"].startswith("GONE;")
        assert {cause_of(gone.detail[name]) for name in names} == {"process-gone"}
