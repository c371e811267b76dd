# SPDX-License-Identifier: Apache-2.0
"""Who ran on some CPUs: threads of the whole host last seen there, by the time they got between two samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.formats import procfs

TOP = 10  # threads told


class User(NamedTuple):
    """A thread that was on one of those CPUs."""

    pid: int
    tid: int
    name: str
    state: str
    cpu: int  # where it ran last
    run_ns: int  # between the samples; 0: runnable, and got nothing


def core_users(cpus: frozenset[int], pause: Callable[[], None], proc: Path = Path("/proc")) -> list[User]:
    """The threads that used these CPUs most while pause() lasted. It costs about 20 us a thread of the host."""
    before = {
        (pid, tid): _run_ns(proc, pid, tid) for pid, tid in _threads(proc) if _place(proc, pid, tid, cpus) is not None
    }
    pause()
    users = []
    for (pid, tid), was in before.items():
        place = _place(proc, pid, tid, cpus)
        if place is None:
            continue
        run = _run_ns(proc, pid, tid) - was
        if run > 0 or place[0].state == "R":
            users.append(User(pid, tid, place[0].name, place[0].state, place[1], run))
    return sorted(users, key=lambda user: -user.run_ns)[:TOP]


def _threads(proc: Path) -> Iterator[tuple[int, int]]:
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            tids = os.listdir(proc / pid / "task")
        except OSError:  # it ended, or hidepid
            continue
        for tid in tids:
            yield int(pid), int(tid)


def _place(proc: Path, pid: int, tid: int, cpus: frozenset[int]) -> tuple[procfs.Stat, int] | None:
    """Its `stat`, and the CPU it ran on last (field 39), if that is one of these."""
    try:
        with open(f"{proc}/{pid}/task/{tid}/stat", errors="replace") as file:
            text = file.read()
        stat, cpu = procfs.parse_stat(text), int(text.rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):  # it ended
        return None
    return (stat, cpu) if cpu in cpus else None


def _run_ns(proc: Path, pid: int, tid: int) -> int:
    try:
        with open(f"{proc}/{pid}/task/{tid}/schedstat") as file:
            return procfs.parse_schedstat(file.read())[0]
    except (OSError, ValueError):  # it ended, or a kernel without CONFIG_SCHED_INFO
        return 0
