# SPDX-License-Identifier: Apache-2.0
"""What a look at the datapath's flows costs: the process that looks, and vswitchd's main thread."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Seen
from ovs_keepalive.core.pace import pause_after
from ovs_keepalive.formats.dp_flows import Scanner
from ovs_keepalive.sandbox import Sandbox
from ovs_keepalive.sensors.appctl_client import AppctlClient
from ovs_keepalive.sensors.offload import MOST, FlowLook, FlowSensor
from tests import many_flows
from tests.bench.meters import percent, resident, table
from tests.lab import own_blind
from tests.switch import TestedSandbox

SIZES = (1_000, 10_000, 50_000)
LOOKS = 5
SECONDS = 300.0  # in which the flows have to be there
LARGEST = 128 << 20  # bytes of a dump
OFCTL = "ovs-ofctl"


class Cost(NamedTuple):
    """Seconds, each the median of some looks."""

    flows: int
    size: int  # bytes of a dump
    wall: float
    main: float  # of vswitchd's main thread
    own: float  # of the process that looks, in all
    known: float  # of that the scanner, where most flows were there at the last look …
    new: float  # … and where none was
    bare: float  # to find ufid, packets, actions and `offloaded` in each line, and nothing else
    memory: int  # bytes that the process grew by
    late: float  # by which the daemon's beat was, in all, while it was looked at from this process
    alarms: int  # transitions that it told meanwhile


def show(sizes: Sequence[int] = SIZES) -> None:
    """Measure, and print the table."""
    print(
        f"\n## 6. A look at the datapath's flows\n\nMedians of {LOOKS} looks. The scanner, in us a flow: flows known "
        "from the last look, flows all\nnew, and to find ufid, packets and actions alone. "
        "Share: of the main thread's time, at the pause that follows.\n"
    )
    head = ["flows", "dump", "wall", "main thread", "us a flow", "own CPU", "known", "new", "bare", "pause", "share"]
    head += ["memory", "beat late", "alarms"]
    rows = []
    with TestedSandbox() as sandbox:
        sandbox.settings(max_idle=3_600_000, enable_keepalive=True, keepalive_interval=1000)
        sandbox.start_daemon()
        sandbox._tool(OFCTL, "add-flow", f"unix:{sandbox._inner}/br0.mgmt", many_flows.RULE.format(1, 2))
        for size in sizes:
            cost = _measure(sandbox, size)
            pause = pause_after(cost.main)
            rows.append([
                str(cost.flows),
                f"{cost.size / 1e6:.1f} MB",
                f"{cost.wall * 1000:.0f} ms",
                f"{cost.main * 1000:.0f} ms",
                *(f"{cost.main / cost.flows * 1e6:.1f}", f"{cost.own * 1000:.0f} ms"),
                *(f"{seconds / cost.flows * 1e6:.2f}" for seconds in (cost.known, cost.new, cost.bare)),
                *(f"{pause:.1f} s", percent(cost.main / pause), f"{cost.memory / 1e6:.0f} MB"),
                *(f"{cost.late * 1000:.0f} ms", str(cost.alarms)),
            ])  # fmt: skip
    print(table(head, rows))


def _measure(sandbox: Sandbox, size: int) -> Cost:
    control = sandbox.dir / f"ovs-vswitchd.{sandbox.vswitchd_pid}.ctl"
    asking = AppctlClient(control, LARGEST)

    def ask(*commands: tuple[str, ...]) -> list[tuple[str, str]]:
        replies = []
        for command in commands:
            asking.ask(*command)
            replies.append(("result", asking.wait(30.0)))
        return replies

    sandbox.settings(pmd_maxsleep=0, pmd_sleep_max=0)  # one packet at a time is no reason for a PMD not to sleep
    many_flows.make(ask, "p0", size, SECONDS)
    sandbox.settings(pmd_maxsleep=sandbox.max_sleep, pmd_sleep_max=sandbox.max_sleep)
    text = ask(("dpctl/dump-flows", "-m", "--no-names"))[0][1]
    asking.close()
    gc.collect()
    gc.disable()  # flows are no garbage: whoever looks at them looks for it in between
    before = resident(os.getpid())
    sensor = FlowSensor(control, sandbox.vswitchd_pid, most=max(MOST, 2 * size))
    daemon = own_blind(sandbox), _transitions(sandbox)
    looks = [_look(sensor) for _ in range(LOOKS + 1)][1:]
    late, alarms = own_blind(sandbox) - daemon[0], _transitions(sandbox) - daemon[1]
    sensor.close()
    names = {1: "p0", 2: "p1"}
    scanner = Scanner()
    scanner.scan(text, names)
    cost = Cost(
        len(looks[-1][0].dump.flows),
        len(text),
        statistics.median(wall for _, wall, _ in looks),
        statistics.median(look.dump.cost for look, _, _ in looks),
        statistics.median(own for _, _, own in looks),
        _timed(lambda: scanner.scan(text, names)),
        _timed(lambda: Scanner().scan(text, names)),
        _timed(lambda: _bare(text)),
        resident(os.getpid()) - before,
        late,
        alarms,
    )
    gc.enable()
    return cost


def _transitions(sandbox: Sandbox) -> int:
    return len(sandbox.appctl("keepalive/history", "1000", target="ovs-keepalive").splitlines())


def _look(sensor: FlowSensor) -> tuple[FlowLook, float, float]:
    wall, own = time.monotonic(), time.thread_time()
    found = sensor.look(moment)
    assert isinstance(found, Seen), found
    return found.value, time.monotonic() - wall, time.thread_time() - own


def _bare(text: str) -> list[tuple[str, int, str, bool]]:
    found = []
    for line in text.split("\n"):
        at = line.rfind(", packets:")
        if at >= 0:
            actions = line.find(", actions:", at)
            packets = int(line[at + 10 : line.find(",", at + 10)])
            found.append((line[5:41], packets, line[actions + 10 :], line.find("offloaded:", at, actions) >= 0))
    return found


def _timed(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(LOOKS):
        began = time.thread_time()
        work()
        spent.append(time.thread_time() - began)
    return statistics.median(spent)
