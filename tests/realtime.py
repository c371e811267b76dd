# SPDX-License-Identifier: Apache-2.0
"""CPU first for what is measured with: on a machine shared with others a test that times threads of a real OVS asks for
SCHED_RR, as the daemon's own unit can (share/systemd), for its own threads, the daemon, ovsdb-server and vswitchd's
main thread. PMD threads stay as vswitchd makes them: they are what is measured.

Where that is not allowed all stays as it is; more runs are void then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

from ovs_keepalive.sandbox import Sandbox

# The main thread may spin: whoever watches it goes before it.
WATCHERS, DATABASE, MAIN = 10, 5, 1


def prefer(tids: Iterable[int], priority: int = WATCHERS) -> None:
    """Let these threads run before others; what they start begins as usual."""
    for tid in tids:
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(tid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def prefer_watchers(sandbox: Sandbox) -> None:
    """All who watch in this sandbox, and whoever runs the test. To be said again when one of them was started anew."""
    prefer(_threads(os.getpid()))
    for name, priority in (("ovs-keepalive", WATCHERS), ("ovsdb-server", DATABASE)):
        if name in sandbox.children:
            prefer(_threads(sandbox.children.process(name).pid), priority)
    if "ovs-vswitchd" in sandbox.children:
        prefer([sandbox.vswitchd_pid], MAIN)


def _threads(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [thread.id for thread in psutil.Process(pid).threads()]
    return []
