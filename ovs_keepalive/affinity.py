# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon off the CPUs of PMD threads, and never takes one that it was not given, unless told to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import ovs.vlog

from ovs_keepalive.config import CHOSEN_BY_ITSELF
from ovs_keepalive.core.model import Pmd
from ovs_keepalive.formats.procfs import parse_cpu_list

log = ovs.vlog.Vlog("affinity")


class Room:
    """Follows the PMD threads as they come and go."""

    def __init__(self, inherited: Iterable[int]) -> None:
        self.inherited = frozenset(inherited)  # CPUs that the daemon may use
        self._made: tuple[str, frozenset[int]] = ("auto", frozenset())

    def make(self, wanted: str, pmds: Iterable[Pmd]) -> None:
        """Confine the daemon anew where this differs from what was done last. wanted: as for `follow`."""
        room = (wanted, pinned_cpus(pmds))
        if room != self._made:
            self._made = room
            log.info(follow(wanted, self.inherited, room[1]))


def pinned_cpus(pmds: Iterable[Pmd]) -> frozenset[int]:
    """CPUs to which a PMD thread is pinned. A thread that may run on several (dummy PMDs) pins none."""
    return frozenset(
        cpu for pmd in pmds if pmd.look.cpus is not None and len(pmd.look.cpus) == 1 for cpu in pmd.look.cpus
    )


def follow(wanted: str, inherited: Iterable[int], pinned: frozenset[int]) -> str:
    """Confine every thread of this process as the configuration key `affinity` wants it; returns what was done.

    wanted: "auto", "inherit" or a list of CPUs; inherited: CPUs at the start; pinned: those of PMD threads.
    """
    given = frozenset(inherited)
    if wanted not in CHOSEN_BY_ITSELF:
        try:
            _confine(parse_cpu_list(wanted))
        except (OSError, ValueError) as error:
            return f"CPU affinity unchanged: affinity: {wanted!r}: {error}: name CPUs that this host lets it use"
        return f"CPU affinity {wanted}, as configured"
    left = given - pinned if wanted == "auto" else given
    try:
        _confine(left or given)
    except OSError as error:  # the CPUs that it was started with have been taken from it since; no descriptor is left
        return f"CPU affinity unchanged: {_words(left or given)}: {error.strerror}: start the daemon anew"
    words = _words(left or given)
    if not left:
        return f"CPU affinity {words}, as given: PMD threads are pinned to every CPU that this daemon may use"
    if wanted == "inherit":
        return f"CPU affinity {words}, as given"
    return f"CPU affinity {words}: off the CPUs of PMD threads ({_words(pinned) or 'none pinned'})"


def _words(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _confine(cpus: frozenset[int]) -> None:
    """Raises OSError when this process may use none of them."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cpus)
        except ProcessLookupError:  # a thread that has just ended
            continue
