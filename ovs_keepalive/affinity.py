# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon off the CPUs of PMD threads, and never takes one that it was not given."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ovs_keepalive.core.model import Pmd


def pinned_cpus(pmds: Iterable[Pmd]) -> frozenset[int]:
    """CPUs to which a PMD thread is pinned. A thread that may run on several (dummy PMDs) pins none."""
    return frozenset(
        cpu for pmd in pmds if pmd.look.cpus is not None and len(pmd.look.cpus) == 1 for cpu in pmd.look.cpus
    )


def stay_off(inherited: Iterable[int], pinned: frozenset[int]) -> str:
    """Confine every thread of this process to the inherited CPUs less the pinned ones; returns what was done."""
    given = frozenset(inherited)
    left = given - pinned
    words = ",".join(map(str, sorted(left or given)))
    if not left:
        return f"CPU affinity unchanged ({words}): PMD threads are pinned to every CPU that this daemon may use"
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), left)
        except ProcessLookupError:  # a thread that has just ended
            continue
    return f"CPU affinity {words}: off the CPUs of PMD threads ({','.join(map(str, sorted(pinned))) or 'none pinned'})"
