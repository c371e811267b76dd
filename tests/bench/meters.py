# SPDX-License-Identifier: Apache-2.0
"""What the bench reads and prints with: CPU and memory as the kernel counts them, medians, tables."""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.formats import procfs
from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import node
from tests.switch import RAN

SETTLE = 0.5  # seconds from a change of other_config until vswitchd has digested it


class Run(NamedTuple):
    """Seconds that a thread has spent on a CPU, and waiting for one."""

    cpu: float
    wait: float

    def __add__(self, other: object) -> Run:
        return Run(self.cpu + other.cpu, self.wait + other.wait) if isinstance(other, Run) else NotImplemented

    def __sub__(self, other: Run) -> Run:
        return Run(self.cpu - other.cpu, self.wait - other.wait)


NONE = Run(0.0, 0.0)


def thread(pid: int, tid: int) -> Run:
    """Of one thread. The kernel brings a running thread's numbers up to date at each of its ticks (4 to 10 ms)."""
    run_ns, wait_ns = procfs.parse_schedstat(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text())
    return Run(run_ns / 1e9, wait_ns / 1e9)


def threads(pid: int) -> dict[int, Run]:
    """Of each thread that a process has now."""
    return {tid: thread(pid, tid) for tid in sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())}


def grown(before: dict[int, Run], after: dict[int, Run]) -> dict[int, Run]:
    """What each thread that is still there has added."""
    return {tid: run - before.get(tid, NONE) for tid, run in after.items()}


def resident(pid: int) -> int:
    """Bytes of memory that a process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pid_of(sandbox: Sandbox, name: str) -> int:
    """The process id of a daemon of the sandbox."""
    return int((sandbox.dir / f"{name}.pid").read_text())


def switch(sandbox: Sandbox, on: bool) -> None:
    """Enable or disable keepalive, and wait until both daemons have followed and are calm again."""
    sandbox.settings(enable_keepalive=on)
    expected = set(sandbox.pmds()) if on else set()
    wait(lambda: set(sandbox.column()) == expected, f"{len(expected)} PMDs in the column", 30)
    time.sleep(SETTLE)


class Tally(NamedTuple):
    """What the daemon has counted since its start."""

    looks: int
    transactions: int
    interval: float  # seconds; the effective one


def tally(sandbox: Sandbox) -> Tally:
    """Ask the daemon. Costs it a few milliseconds: never inside a window that is measured."""
    document = node(sandbox)
    done = re.match(r"(\d+) done", document["daemon"]["transactions"])
    return Tally(
        document["cost"]["looks"], int(done[1]) if done is not None else 0, document["effective_interval_ms"] / 1000
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (math.nan,) * 3
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return float(first), float(median), float(third)


def sign_test(differences: Sequence[float]) -> float:
    """How likely so uneven a split of signs is if both are equally likely, two-sided; zeros are left out."""
    signs = [difference > 0 for difference in differences if difference]
    fewer = min(sum(signs), len(signs) - sum(signs))
    splits = sum(math.comb(len(signs), k) for k in range(fewer + 1))
    return min(1.0, 2 * splits / float(2 ** len(signs)))


def percent(share: float, digits: int = 2) -> str:
    """0.0042 as 0.42 %."""
    return f"{share * 100:.{digits}f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that reads well as plain text too."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * (width - 1) + ":" for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """A line on what was measured on, and when."""
    if not (ran := "; ".join(sorted(RAN))):
        said = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, check=False).stdout
        ran = said.partition("\n")[0] or "no ovs-vswitchd"
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, machine: {os.cpu_count()} cores ({_processor()}), "
        f"Linux {platform.release()}, load average {load}, Python {platform.python_version()}, {ran}"
    )


def _processor() -> str:
    # model name	: Intel(R) Xeon(R) Processor @ 2.60GHz
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match is not None else platform.machine()
