# SPDX-License-Identifier: Apache-2.0
"""What this machine takes from whoever measures on it, while nothing of ours runs: python -m tests.bench.calm [SECONDS]

A run of the laboratory in which a thread lost more than 10 ms of CPU is void. This tells how many have to be: how often
a thread that only sleeps and looks at the clock, before all others (SCHED_RR), is woken that much late, and how much of
the time the host of this virtual machine gave to somebody else (`steal` of proc(5)).
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

from tests import realtime
from tests.lab import LOST, TICK

RUNS = {1000: 5.0, 500: 2.7, 100: 0.9}  # seconds that a run of a stall takes, by the interval in ms


def _stolen() -> float:
    """CPU-seconds that were taken, of all CPUs."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def main(seconds: float) -> None:
    """Print it."""
    gaps, stolen = [], _stolen()
    end = time.monotonic() + seconds
    with realtime.preferred():
        while (planned := time.monotonic() + TICK) < end:
            time.sleep(TICK)
            if (late := time.monotonic() - planned) > LOST:
                gaps.append(late)
    rate = len(gaps) / seconds
    stolen = (_stolen() - stolen) / seconds / (os.cpu_count() or 1)
    worst = max(gaps, default=0.0) * 1000
    print(f"{len(gaps)} times more than {LOST * 1000:.0f} ms late in {seconds:.0f} s, at most {worst:.0f} ms")
    print(f"taken by the host: {stolen:.1%} of the CPUs' time")
    for interval, lasts in RUNS.items():
        void = 1 - math.exp(-rate * lasts)
        print(f"a run at {interval} ms takes about {lasts:g} s: void in {void:.0%}, if they come at random")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
