# SPDX-License-Identifier: Apache-2.0
"""What a watched PMD feels: iterations per microsecond on its CPU, with keepalive enabled and disabled in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ovs_keepalive.formats import pmd_perf
from ovs_keepalive.sandbox import Sandbox, SandboxError
from tests.bench.meters import percent, quartiles, sign_test, switch, table, thread
from tests.switch import TestedSandbox


class Window(NamedTuple):
    """One window of the PMD."""

    speed: float  # iterations per microsecond on a CPU
    waiting: float  # part of the time for which it wanted a CPU and got none


def show(pairs: int, seconds: float, warm_up: float) -> None:
    """Measure pairs of windows, and print how they differ."""
    print(
        f"\n## 2. Effect on a PMD that spins\n\n{pairs} pairs of windows of {seconds:g} s, enabled and disabled in "
        "turn, every other pair the other way round.\nSpeed: iterations per microsecond of CPU that the PMD got.\n"
    )
    on, off = measure(pairs, seconds, warm_up)
    head = ["windows", "speed, quartiles", "waiting for a CPU, median"]
    rows = []
    for name, windows in (("enabled", on), ("disabled", off)):
        speed = " / ".join(f"{quartile:.3f}" for quartile in quartiles([one.speed for one in windows]))
        rows.append([name, speed, percent(quartiles([one.waiting for one in windows])[1])])
    print(table(head, rows))
    print()
    print(
        table(
            ["pair by pair", "pairs", "difference, quartiles", "higher in", "sign test p"],
            [
                _difference("enabled against disabled", list(zip(on, off, strict=True))),
                _difference("disabled against the next disabled", list(pairwise(off))),
            ],
        )
    )
    print("\nThe second line shows how much of the first is this machine's own noise.")


def measure(pairs: int, seconds: float, warm_up: float) -> tuple[list[Window], list[Window]]:
    """The windows with keepalive enabled and those with it disabled, pair by pair."""
    windows: dict[bool, list[Window]] = {True: [], False: []}
    with TestedSandbox(pmds=1, max_sleep=0) as sandbox:
        sandbox.settings(enable_keepalive=True, keepalive_interval=1000)
        sandbox.start_daemon()
        switch(sandbox, True)
        time.sleep(warm_up)
        for pair in range(pairs):
            for on in (True, False) if pair % 2 == 0 else (False, True):
                switch(sandbox, on)
                windows[on].append(_window(sandbox, seconds))
    return windows[True], windows[False]


def _window(sandbox: Sandbox, seconds: float) -> Window:
    [tid] = sandbox.pmds().values()
    count, before, begin = _iterations(sandbox), thread(sandbox.vswitchd_pid, tid), time.monotonic()
    time.sleep(seconds)
    counted, after, end = _iterations(sandbox), thread(sandbox.vswitchd_pid, tid), time.monotonic()
    spent = after - before
    return Window((counted - count) / (spent.cpu * 1e6), spent.wait / (end - begin))


def _iterations(sandbox: Sandbox) -> int:
    [block] = pmd_perf.parse(sandbox.appctl("dpif-netdev/pmd-perf-show", "-nh"))
    if block.iterations is None:
        raise SandboxError("dpif-netdev/pmd-perf-show: no Iterations of the PMD")
    return block.iterations


def _difference(name: str, pairs: Sequence[tuple[Window, Window]]) -> list[str]:
    differences = [one.speed / other.speed - 1.0 for one, other in pairs]
    shown = " / ".join(f"{quartile * 100:+.2f}" for quartile in quartiles(differences))
    higher = sum(difference > 0 for difference in differences)
    return [name, str(len(pairs)), f"{shown} %", f"{higher} of {len(pairs)}", f"{sign_test(differences):.2f}"]
