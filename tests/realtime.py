# SPDX-License-Identifier: Apache-2.0
"""CPU first for what is measured with, and for what is measured: as on a host of Open vSwitch, where PMD threads have
cores of their own and the daemon's unit may ask for SCHED_RR. Then other work on this machine makes no PMD look
starved, and few runs void.

Where that is not allowed all stays as it is; more runs are void then.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ovs_keepalive.sandbox import Sandbox

WATCHERS, DATABASE = 10, 5  # priorities of SCHED_RR
# PMD threads and the main thread may spin: as SCHED_RR they would use up what the kernel leaves to all of that kind on
# a CPU (sched_rt_runtime_us), and it would hold the watchers up for 50 ms of each second.
NICE = -20


def prefer(tids: Iterable[int], priority: int = WATCHERS) -> None:
    """Let these threads run before others; what they start begins as usual."""
    for tid in tids:
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(tid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def prefer_sandbox(sandbox: Sandbox, pmds: bool = True) -> None:
    """The daemon, ovsdb-server and vswitchd. To be said again when one of them was started anew.

    pmds: its PMD threads, too, if they are not to be starved.
    """
    for name, priority in (("ovs-keepalive", WATCHERS), ("ovsdb-server", DATABASE)):
        if name in sandbox.children:
            prefer(_threads(sandbox.children.process(name).pid), priority)
    if "ovs-vswitchd" in sandbox.children:
        for tid in (sandbox.vswitchd_pid, *(sandbox.pmds().values() if pmds else ())):
            with suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, tid, NICE)


@contextmanager
def preferred(alone: bool = False) -> Iterator[None]:
    """The threads of this process that there are, while a block of code measures. alone: it takes a CPU from everybody,
    so no other test measures meanwhile, of those that run on this machine.
    """
    with (Path(tempfile.gettempdir()) / f"ovs-keepalive-measures.{os.getuid()}").open("w") as place:
        fcntl.flock(place, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        tids = _threads(os.getpid())
        prefer(tids)
        try:
            yield
        finally:
            for tid in tids:
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))


def _threads(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [thread.id for thread in psutil.Process(pid).threads()]
    return []
