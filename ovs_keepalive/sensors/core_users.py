# SPDX-License-Identifier: Apache-2.0
"""Who runs on a starved thread's CPU. A scan of every thread of the host: never in the beat thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import ThreadId
from ovs_keepalive.formats import procfs

PAUSE = 0.2  # seconds between the two readings of their run time
NAMED = 2  # threads that are named, at most


class User(NamedTuple):
    """A thread that ran on the CPU."""

    name: str  # comm
    pid: int
    tid: int
    ran_ns: int  # in the pause

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid == self.tid else f"{self.name} (tid {self.tid})"


def of_thread(id: ThreadId, proc: Path, pause: Callable[[], object]) -> tuple[int, tuple[User, ...]]:
    """The CPU on which this thread runs, or waits to, and who else ran there during a pause, the busiest first.

    Raises OSError or ValueError when the thread is gone. A hidden thread (hidepid) is not found.
    """
    cpu = procfs.last_cpu((proc / str(id.process.pid) / "task" / str(id.tid) / "stat").read_text(errors="replace"))
    threads = [(pid, tid) for pid, tid in _threads(proc) if tid != id.tid and _cpu(proc, pid, tid) == cpu]
    before = {thread: _run_ns(proc, *thread) for thread in threads}
    pause()
    users = []
    for (pid, tid), earlier in before.items():
        run_ns = _run_ns(proc, pid, tid)
        if earlier is not None and run_ns is not None and run_ns > earlier:
            users.append(User(_name(proc, tid), pid, tid, run_ns - earlier))
    return cpu, tuple(sorted(users, key=lambda user: -user.ran_ns))


def words(cpu: int, users: tuple[User, ...]) -> str:
    """What is told of them."""
    named = ", ".join(str(user) for user in users[:NAMED])
    return f"on CPU {cpu} ran {named}" if named else f"nobody else was seen to run on CPU {cpu}"


class CoreUsers:
    """Looks for them in a thread of its own, one search at a time. ask() and take() return at once."""

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
        """What was found, once; empty while there is nothing."""
        if self._search is None or self._search.is_alive():
            return {}
        self._search = None
        found, self._found = self._found, {}
        return found

    def _run(self, ids: tuple[ThreadId, ...]) -> None:
        for id in ids:
            try:
                self._found[id] = words(*of_thread(id, self._proc, lambda: self._closed.wait(PAUSE)))
            except (OSError, ValueError):  # it has ended, and so has the question
                continue


def _threads(proc: Path) -> Iterable[tuple[int, int]]:
    for pid in os.listdir(proc):
        if pid.isdigit():
            try:
                yield from ((int(pid), int(tid)) for tid in os.listdir(proc / pid / "task"))
            except OSError:  # it ended
                continue


def _cpu(proc: Path, pid: int, tid: int) -> int | None:
    try:
        return procfs.last_cpu((proc / str(pid) / "task" / str(tid) / "stat").read_text(errors="replace"))
    except (OSError, ValueError):  # it ended
        return None


def _run_ns(proc: Path, pid: int, tid: int) -> int | None:
    try:
        return procfs.parse_schedstat((proc / str(pid) / "task" / str(tid) / "schedstat").read_text())[0]
    except (OSError, ValueError):  # it ended, or the kernel has no CONFIG_SCHED_INFO
        return None


def _name(proc: Path, tid: int) -> str:
    try:
        return (proc / str(tid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a thread that has ended"
