# SPDX-License-Identifier: Apache-2.0
"""When a stall of a DPDK PMD is told, with and without the event witness: python -m tests.bench.witness [RUNS]"""

from __future__ import annotations

import ctypes
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovs_keepalive.ptrace import ptrace, seize
from ovs_keepalive.sandbox import Sandbox, wait
from tests.dpdk import dpdk_sandbox
from tests.faults import inject
from tests.faults.inject import PTRACE_SETREGS
from tests.faults.laboratory import Fault
from tests.lab import stopped
from tests.subscriber import Subscriber


@contextmanager
def blocked(tid: int) -> Iterator[None]:
    """In pause(2). One stop is enough to send it there: a PMD of DPDK is in no system call that would have to end."""
    with inject._stopped(tid, seize):
        healthy = inject._registers(tid)
        inject._send(tid, healthy, inject._stub(tid) + inject.CALL_AT, inject.SYS_PAUSE)
    try:
        yield
    finally:
        with inject._stopped(tid, seize):
            healthy.orig_rax = inject.NOT_IN_SYSCALL
            ptrace(PTRACE_SETREGS, tid, ctypes.byref(healthy))


FAULTS: dict[str, Fault] = {"traced": stopped, "blocked": blocked, "frozen": inject.frozen}


def main(runs: int) -> None:
    """Print one line a fault."""
    with dpdk_sandbox() as sandbox:
        [(name, tid)] = sandbox.pmds().items()
        for witness in ("auto", "off"):
            sandbox.settings(enable_keepalive=True, keepalive_interval=1000)
            pid = sandbox.start_daemon(config={"event-witness": witness})
            wait(lambda: name in sandbox.column(), "the PMD in the column", 20)
            with Subscriber(sandbox.remote) as subscriber:
                rest(sandbox, pid, witness)
                for ms in (1000, 500):
                    sandbox.settings(keepalive_interval=ms)
                    time.sleep(2)
                    for fault in FAULTS:
                        times = [told(subscriber, name, tid, fault, ms / 1000) for _ in range(runs)]
                        missing, dead = zip(*times, strict=True)
                        print(
                            f"{witness:5} {ms:5} ms {fault:8} MISSING {spread(missing)}  DEAD {spread(dead)}",
                            flush=True,
                        )
            print(f"{witness:5} afterwards: {status(sandbox)}", flush=True)
            sandbox.stop_daemon()
            wait(lambda: not sandbox.column(), "the column empty", 5)


def rest(sandbox: Sandbox, pid: int, witness: str, seconds: float = 8.0) -> None:
    """What the daemon costs while all is well."""
    before = cpu(pid)
    sandbox.linger(seconds)
    print(f"{witness:5} all is well: {(cpu(pid) - before) / seconds:.2%} of a core; {status(sandbox)}", flush=True)


def cpu(pid: int) -> float:
    """Seconds of CPU of a process so far."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def status(sandbox: Sandbox) -> str:
    """The line of keepalive/status."""
    text = sandbox.appctl("keepalive/status", target="ovs-keepalive")
    return next((line for line in text.splitlines() if line.startswith("event witness")), "")


def told(subscriber: Subscriber, name: str, tid: int, fault: str, interval: float) -> tuple[float, float]:
    """MISSING and DEAD, in intervals since the fault took hold."""
    time.sleep(interval + random.uniform(0, interval))  # noqa: S311 -- at any phase of the looks
    begin = time.monotonic()
    with FAULTS[fault](tid):
        dead = wait(lambda: subscriber.first(name, "DEAD", begin), "DEAD", 3 * interval + 2)
        missing = subscriber.first(name, "MISSING", begin)
        released = time.monotonic()
    wait(lambda: subscriber.first(name, "ALIVE", released), "ALIVE", 5)
    assert missing is not None
    return (missing.at - begin) / interval, (dead.at - begin) / interval


def spread(times: tuple[float, ...]) -> str:
    """min / median / max."""
    return " / ".join(f"{f(times):.3f}" for f in (min, statistics.median, max))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
