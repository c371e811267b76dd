# SPDX-License-Identifier: Apache-2.0
"""CPU first for what is measured with, and for what is measured: as on a host of Open vSwitch, where PMD threads have
cores of their own and the daemon's unit may ask for SCHED_RR. Then other work on this machine makes no PMD look
starved, and few runs void.

Where that is not allowed all stays as it is; more runs are void then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

from ovs_keepalive.sandbox import Sandbox

# PMD threads and the main thread may spin: whoever watches them goes before them.
WATCHERS, DATABASE, MAIN, PMD = 10, 5, 2, 1


def prefer(tids: Iterable[int], priority: int = WATCHERS) -> None:
    """Let these threads run before others; what they start begins as usual."""
    for tid in tids:
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(tid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def prefer_all(sandbox: Sandbox, pmds: bool = True) -> None:
    """All who watch in this sandbox, whoever runs the test, and vswitchd. To be said again when one was started anew.

    pmds: its PMD threads, too. One that is to be starved has to stay as it is: a quota holds no SCHED_RR.
    """
    prefer(_threads(os.getpid()))
    for name, priority in (("ovs-keepalive", WATCHERS), ("ovsdb-server", DATABASE)):
        if name in sandbox.children:
            prefer(_threads(sandbox.children.process(name).pid), priority)
    if "ovs-vswitchd" in sandbox.children:
        prefer([sandbox.vswitchd_pid], MAIN)
        prefer(sandbox.pmds().values() if pmds else (), PMD)


def _threads(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [thread.id for thread in psutil.Process(pid).threads()]
    return []
