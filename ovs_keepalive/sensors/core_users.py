# SPDX-License-Identifier: Apache-2.0
"""Who ran on some CPUs: threads of the whole host last seen there, by the time they got between two samples.

It costs about 20 us a thread of the host: never in the beat thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import ThreadId
from ovs_keepalive.formats import procfs

TOP = 10  # threads told
NAMED = 2  # threads that a sentence names
PAUSE = 0.2  # seconds between the samples of a search


class User(NamedTuple):
    """A thread that was on one of those CPUs."""

    pid: int
    tid: int
    name: str  # comm
    state: str
    cpu: int  # where it ran last
    run_ns: int  # between the samples; 0: runnable, and got nothing


def core_users(cpus: frozenset[int], pause: Callable[[], object], proc: Path = Path("/proc")) -> list[User]:
    """The threads that used these CPUs most while pause() lasted; none that hidepid hides."""
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


class CoreUsers:
    """Searches, in a thread of its own, for who runs on the CPU of another thread. ask() and take() return at once."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._search: threading.Thread | None = None
        self._found: dict[ThreadId, str] = {}
        self._closed = threading.Event()

    def close(self) -> None:
        """Let a search under way end."""
        self._closed.set()

    def ask(self, ids: Iterable[ThreadId]) -> None:
        """Search for these threads, unless a search is under way."""
        if self._search is None:
            self._search = threading.Thread(target=self._run, args=(tuple(ids),), name="core-users", daemon=True)
            self._search.start()

    def take(self) -> dict[ThreadId, str]:
        """What was found, in words, once; empty while there is nothing."""
        if self._search is None or self._search.is_alive():
            return {}
        self._search = None
        found, self._found = self._found, {}
        return found

    def _run(self, ids: tuple[ThreadId, ...]) -> None:
        cpus = {}
        for id in ids:
            path = self._proc / str(id.process.pid) / "task" / str(id.tid) / "stat"
            try:
                cpus[id] = procfs.last_cpu(path.read_text(errors="replace"))
            except (OSError, ValueError):  # it has ended, and so has the question
                continue
        users = core_users(frozenset(cpus.values()), lambda: self._closed.wait(PAUSE), self._proc)
        for id, cpu in cpus.items():
            self._found[id] = words(cpu, [user for user in users if user.cpu == cpu and user.tid != id.tid])


def words(cpu: int, users: Iterable[User]) -> str:
    """A clause on who else ran on this CPU, the busiest first."""
    ran = [user for user in users if user.run_ns][:NAMED]
    named = ", ".join(f"{user.name} ({'pid' if user.pid == user.tid else 'tid'} {user.tid})" for user in ran)
    return f"on CPU {cpu} ran {named}" if named else f"nobody else was seen to run on CPU {cpu}"


def _threads(proc: Path) -> Iterator[tuple[int, int]]:
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            tids = os.listdir(proc / pid / "task")
        except OSError:  # it ended, or hidepid
            continue
        for tid in tids:
            yield int(pid), int(tid)


def _place(proc: Path, pid: int, tid: int, cpus: frozenset[int]) -> tuple[procfs.Stat, int] | None:
    """Its `stat`, and the CPU it ran on last, if that is one of these."""
    try:
        with open(f"{proc}/{pid}/task/{tid}/stat", errors="replace") as file:
            text = file.read()
        stat, cpu = procfs.parse_stat(text), procfs.last_cpu(text)
    except (OSError, ValueError):  # it ended
        return None
    return (stat, cpu) if cpu in cpus else None


def _run_ns(proc: Path, pid: int, tid: int) -> int:
    try:
        with open(f"{proc}/{pid}/task/{tid}/schedstat") as file:
            return procfs.parse_schedstat(file.read())[0]
    except (OSError, ValueError):  # it ended, or a kernel without CONFIG_SCHED_INFO
        return 0
