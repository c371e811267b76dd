# SPDX-License-Identifier: Apache-2.0
"""What a look costs: the daemon itself, the main thread of vswitchd, ovsdb-server; and a shell loop beside it."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ovs_keepalive.sandbox import Sandbox, SandboxError
from tests.bench.meters import NONE, Run, grown, percent, pid_of, resident, switch, table, tally, thread, threads
from tests.switch import TestedSandbox

PAIRS = 2  # of windows, enabled and disabled
MIB = 1 << 20
LOOP_AT = (8, 64)  # PMDs at which the shell loop is measured too
# What a person would write who does without this project: it asks and writes once a second, but judges nothing.
LOOP = """
for ((turn = 0; turn < TURNS; turn++)); do
    ovs-appctl dpif-netdev/pmd-perf-show > /dev/null || exit
    ovsdb-client transact "$REMOTE" "$TRANSACTION" > /dev/null || exit
    sleep 1
done
"""


class Window(NamedTuple):
    """What was spent in one window, in seconds of CPU each."""

    seconds: float
    beat: Run
    main_loop: Run
    others: Run  # other threads of the daemon
    vswitchd: Run  # its main thread
    ovsdb: Run
    looks: int
    transactions: int

    @property
    def daemon(self) -> Run:
        """All threads of the daemon."""
        return self.beat + self.main_loop + self.others

    @property
    def share(self) -> float:
        """Part of one core that the daemon took."""
        return self.daemon.cpu / self.seconds


class Loop(NamedTuple):
    """What one turn of the shell loop took, in seconds of CPU each."""

    turns: int
    own: float  # bash and all that it started
    vswitchd: float
    ovsdb: float


class Costs(NamedTuple):
    """All that was measured at one number of PMDs."""

    pmds: int
    on: list[Window]
    off: list[Window]
    interval: float  # seconds; the effective one
    memory: int  # bytes
    growth: int  # bytes, from the first window to the last
    loop: Loop | None

    def per_second(self, spent: Callable[[Window], float]) -> float:
        """Something of the windows in which keepalive was enabled, a second."""
        return sum(spent(one) for one in self.on) / sum(one.seconds for one in self.on)

    def paired(self, spent: Callable[[Window], float]) -> list[float]:
        """What it was a second while enabled beyond what it was while disabled, for each pair."""
        return [spent(on) / on.seconds - spent(off) / off.seconds for on, off in zip(self.on, self.off, strict=True)]


def show(sizes: Sequence[int], seconds: float, warm_up: float) -> None:
    """Measure at each number of PMDs, and print the tables."""
    print(
        f"\n## 1. Cost per look, interval 1000 ms, five looks an interval\n\n"
        f"{PAIRS} pairs of windows of {seconds:g} s, enabled and disabled in turn, after {warm_up:g} s of warming up. "
        f"Shares are of one core.\nTo reach: 8 PMDs 0.4 %, 64 PMDs 1.0 %, memory 50 MB.\n"
    )
    measured = []
    for pmds in sizes:
        costs = measure(pmds, seconds, warm_up)
        measured.append(costs)
        print(f"measured: {pmds} PMDs, daemon {percent(costs.per_second(lambda one: one.daemon.cpu))}")
    print("\nWhat the daemon takes. Waiting: the share of time for which it wanted a CPU and got none.\n")
    print(_daemon(measured))
    print("\nWhat Open vSwitch pays: enabled beyond disabled, the mean of the pairs, and each pair.\n")
    print(_payers(measured))
    if any(costs.loop for costs in measured):
        print(
            "\nThe same by a shell loop, once a second: ovs-appctl dpif-netdev/pmd-perf-show, ovsdb-client transact.\n"
        )
        print(_loops(measured))


def measure(pmds: int, seconds: float, warm_up: float) -> Costs:
    """One sandbox with so many PMDs: windows in turn, then the shell loop in the place of the daemon."""
    with TestedSandbox(pmds=pmds) as sandbox:
        sandbox.settings(enable_keepalive=True, keepalive_interval=1000)
        pid = sandbox.start_daemon()
        switch(sandbox, True)
        time.sleep(warm_up)
        first, on, off = resident(pid), [], []
        for _ in range(PAIRS):
            on.append(_window(sandbox, pid, seconds))
            memory, interval = resident(pid), tally(sandbox).interval
            switch(sandbox, False)
            off.append(_window(sandbox, pid, seconds))
            switch(sandbox, True)
        sandbox.stop_daemon()
        loop = _loop(sandbox, round(seconds), off) if pmds in LOOP_AT else None
    return Costs(pmds, on, off, interval, memory, memory - first, loop)


def _window(sandbox: Sandbox, pid: int, seconds: float) -> Window:
    vswitchd, ovsdb = sandbox.vswitchd_pid, pid_of(sandbox, "ovsdb-server")
    counted, begin = tally(sandbox), time.monotonic()
    before, server, main = threads(pid), threads(ovsdb), thread(vswitchd, vswitchd)
    time.sleep(seconds)
    spent, end = grown(before, threads(pid)), time.monotonic()
    served, asked = grown(server, threads(ovsdb)), thread(vswitchd, vswitchd) - main
    sandbox.linger(0.01)  # whoever has ended is told here
    counts = tally(sandbox)
    main_loop = spent.pop(pid)
    beat, *others = (spent[tid] for tid in sorted(spent))  # the first thread that it starts is its beat
    return Window(
        seconds=end - begin,
        beat=beat,
        main_loop=main_loop,
        others=sum(others, NONE),
        vswitchd=asked,
        ovsdb=sum(served.values(), NONE),
        looks=counts.looks - counted.looks,
        transactions=counts.transactions - counted.transactions,
    )


def _loop(sandbox: Sandbox, turns: int, off: Sequence[Window]) -> Loop:
    """Run the shell loop. off: windows that tell what the others take without it."""
    pairs = [[name, f"ALIVE,{core},{time.time_ns() // 1_000_000}"] for core, name in enumerate(sandbox.pmds())]
    operation = {"op": "update", "table": "Open_vSwitch", "where": [], "row": {"keepalive": ["map", pairs]}}
    [result] = sandbox.transact(operation)
    if "error" in result:
        raise SandboxError(f"the shell loop's transaction: {result}")
    transaction = json.dumps(["Open_vSwitch", operation])
    env = {**sandbox.env, "TURNS": str(turns), "REMOTE": sandbox.remote, "TRANSACTION": transaction}
    vswitchd, ovsdb = sandbox.vswitchd_pid, pid_of(sandbox, "ovsdb-server")
    main, server, begin = thread(vswitchd, vswitchd), sum(threads(ovsdb).values(), NONE), time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["bash", "-c", LOOP], env=env, capture_output=True, text=True, check=False)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    if done.returncode:
        raise SandboxError(f"the shell loop ended with status {done.returncode}: {done.stderr.strip()}")
    asked = (thread(vswitchd, vswitchd) - main).cpu - seconds * _share(off, lambda one: one.vswitchd.cpu)
    served = (sum(threads(ovsdb).values(), NONE) - server).cpu - seconds * _share(off, lambda one: one.ovsdb.cpu)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Loop(turns, own / turns, asked / turns, served / turns)


def _share(windows: Sequence[Window], spent: Callable[[Window], float]) -> float:
    return sum(spent(one) for one in windows) / sum(one.seconds for one in windows)


def _daemon(measured: Sequence[Costs]) -> str:
    head = ["PMDs", "looks/s", "daemon", "each window", "beat", "main loop", "others", "waiting", "CPU/look"]
    rows = []
    for costs in measured:
        cpu = costs.per_second(lambda one: one.daemon.cpu)
        looks = costs.per_second(lambda one: one.looks)
        rows.append([
            str(costs.pmds),
            f"{looks:.1f}",
            percent(cpu),
            ", ".join(f"{one.share * 100:.2f}" for one in costs.on),
            percent(costs.per_second(lambda one: one.beat.cpu)),
            percent(costs.per_second(lambda one: one.main_loop.cpu)),
            percent(costs.per_second(lambda one: one.others.cpu)),
            percent(costs.per_second(lambda one: one.daemon.wait)),
            f"{cpu / looks * 1e6:.0f} us",
            percent(_share(costs.off, lambda one: one.daemon.cpu)),
            f"{costs.memory / MIB:.1f} MiB",
            f"{costs.growth / 1024:+.0f} KiB",
        ])  # fmt: skip
    return table([*head, "disabled", "memory", "growth"], rows)


def _payers(measured: Sequence[Costs]) -> str:
    head = ["PMDs", "effective interval", "vswitchd's main thread", "each pair", "of it a look", "without us"]
    rows = []
    for costs in measured:
        main, server = costs.paired(lambda one: one.vswitchd.cpu), costs.paired(lambda one: one.ovsdb.cpu)
        written = costs.per_second(lambda one: one.transactions)
        rows.append([
            str(costs.pmds),
            f"{costs.interval * 1000:.0f} ms",
            percent(statistics.fmean(main)),
            ", ".join(f"{pair * 100:.2f}" for pair in main),
            f"{statistics.fmean(main) / costs.per_second(lambda one: one.looks) * 1e6:.0f} us",
            percent(_share(costs.off, lambda one: one.vswitchd.cpu)),
            percent(statistics.fmean(server)),
            ", ".join(f"{pair * 100:.2f}" for pair in server),
            f"{written:.2f}",
            f"{statistics.fmean(server) / written * 1e6:.0f} us" if written else "-",
        ])  # fmt: skip
    return table([*head, "ovsdb-server", "each pair", "transactions/s", "each"], rows)


def _loops(measured: Sequence[Costs]) -> str:
    rows = [
        [
            str(costs.pmds),
            str(costs.loop.turns),
            percent(costs.loop.own),
            percent(costs.loop.vswitchd),
            percent(costs.loop.ovsdb),
            percent(costs.per_second(lambda one: one.daemon.cpu)),
        ]
        for costs in measured
        if costs.loop is not None
    ]
    return table(["PMDs", "turns", "shell loop", "vswitchd's main thread", "ovsdb-server", "our daemon"], rows)
