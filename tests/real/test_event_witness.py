# SPDX-License-Identifier: Apache-2.0
"""The event witness on real PMD threads: quiet and exact on one of DPDK, left alone on those that sleep or yield."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.dpdk import dpdk_sandbox
from tests.lab import stopped, undisturbed
from tests.subscriber import Subscriber

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
INTERVAL = 0.5  # seconds
RUNS = 2


@pytest.fixture
def dpdk() -> Iterator[Sandbox]:
    with dpdk_sandbox() as sandbox:
        yield sandbox


@pytest.mark.slow
def test_a_stall_of_a_dpdk_pmd_is_dead_within_five_quarters_of_the_interval(dpdk: Sandbox) -> None:
    [(name, tid)] = dpdk.pmds().items()
    watch(dpdk)
    if not (before := line(dpdk)).startswith("1 of 1"):
        pytest.skip(f"no event witness here: {before}")
    with Subscriber(dpdk.remote) as subscriber:
        for phase in range(RUNS):
            time.sleep(INTERVAL * (1 + phase / RUNS))

            def stall() -> float:
                with stopped(tid) as injected:
                    dead = wait(lambda: subscriber.first(name, "DEAD", injected.earliest), "DEAD", 5)
                released = time.monotonic()
                wait(lambda: subscriber.first(name, "ALIVE", released), "ALIVE", 5)
                return (dead.at - injected.earliest) / INTERVAL

            assert 1.0 <= undisturbed(dpdk, stall) <= 1.25
    assert line(dpdk) == before  # a PMD that polls rings for nothing else


@pytest.mark.parametrize("max_sleep", [10000, 0], ids=["sleeps", "yields"])
def test_threads_that_leave_their_cpu_often_cost_a_few_looks_only(
    make_sandbox: Callable[..., Sandbox], max_sleep: int
) -> None:
    sandbox = make_sandbox(max_sleep=max_sleep)
    watch(sandbox)
    if line(sandbox).startswith("off"):
        pytest.skip(f"no event witness here: {line(sandbox)}")
    if max_sleep:
        wait(lambda: line(sandbox).startswith("0 of 2 PMD threads (2 left their CPU too often"), "left alone", 10)
    before = looks(sandbox)
    sandbox.linger(2.0)
    assert looks(sandbox) - before <= 2.0 / INTERVAL * 5 * 1.5 + 10


def watch(sandbox: Sandbox) -> None:
    """Start the daemon, and wait until it knows all PMDs."""
    sandbox.settings(enable_keepalive=True, keepalive_interval=round(INTERVAL * 1000))
    sandbox.start_daemon(config={"max-main-share": 10})
    wait(lambda: sandbox.column().keys() == sandbox.pmds().keys(), "all PMDs in the column", 15)


def status(sandbox: Sandbox, name: str) -> str:
    """A line of keepalive/status."""
    text = sandbox.appctl("keepalive/status", target="ovs-keepalive")
    found = re.search(rf"^{name} +: (.*)$", text, re.MULTILINE)
    assert found, text
    return found[1]


def line(sandbox: Sandbox) -> str:
    """What is said of the event witness."""
    return status(sandbox, "event witness")


def looks(sandbox: Sandbox) -> int:
    """How many there were."""
    return int(status(sandbox, "looks").partition(",")[0])
