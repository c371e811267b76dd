# SPDX-License-Identifier: Apache-2.0
"""PMD threads as /proc shows them: the witness that needs nobody's help.

`stat` and `schedstat` of each PMD thread stay open: reading them anew costs a tenth of opening them
(notes/pmd-signals, section 4).
"""

from __future__ import annotations

import os
from collections.abc import KeysView
from contextlib import suppress
from pathlib import Path

from ovs_keepalive.core.model import CloseLook, Moment, NotSeen, OtherThread, ProcessId, Seen, ThreadId, ThreadLook
from ovs_keepalive.formats import procfs

STATUS = 10.0  # seconds; `status` is a costly file and is read again after this time, or on suspicion
RENAME = 5.0  # seconds for which a young thread that still carries its parent's name is looked at again


class _Thread:
    """Open files of one PMD thread and what was read last."""

    def __init__(self, root: Path, tid: int) -> None:
        self.root = root / str(tid)
        self.stat = os.open(self.root / "stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.schedstat: int | None = os.open(self.root / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_SCHED_INFO
            self.schedstat = None
        self.last: ThreadLook | None = None
        self.status: procfs.Status | None = None
        self.status_at = float("-inf")

    def close(self) -> None:
        os.close(self.stat)
        if self.schedstat is not None:
            os.close(self.schedstat)


class ThreadSensor:
    """Reads the PMD threads of one process at a time."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._process: ProcessId | None = None
        self._root = proc
        self._threads: dict[int, _Thread] = {}
        self._others: dict[int, float] = {}  # threads that are no PMDs: until when to ask their name again
        self._glance: tuple[Moment, list[tuple[_Thread, bytes]]] | None = None  # schedstat as it was read

    def attach(self, process: ProcessId | None) -> None:
        """Turn to this process; let the files of the one before go."""
        if process == self._process:
            return
        for thread in self._threads.values():
            thread.close()
        self._threads.clear()
        self._others.clear()
        self._glance = None
        self._process = process
        if process is not None:
            self._root = self._proc / str(process.pid) / "task"

    def look(self, now: Moment, anew: bool, suspects: frozenset[int]) -> Seen[tuple[ThreadLook, ...]] | NotSeen:
        """All PMD threads. anew: read each; else only the new ones and the suspects (tids), these closely."""
        process = self._process
        if process is None:
            return NotSeen(now, "vswitchd is not known")
        try:
            tids = {int(name) for name in os.listdir(self._root)}
        except OSError as error:
            return NotSeen(now, f"{self._root}: {error.strerror}")
        for tid in self._threads.keys() - tids:
            self._threads.pop(tid).close()
        for tid in self._others.keys() - tids:
            del self._others[tid]
        looks = []
        for tid in tids:
            if self._others.get(tid, now.mono) < now.mono:
                continue
            look = self._one(process, tid, now, anew, tid in suspects)
            if look is not None:
                looks.append(look)
        return Seen(now, tuple(looks))

    def glance(self, now: Moment) -> None:
        """Keep the run time of the known PMD threads as it stands there: it is seldom asked for, 2 us each time."""
        read = []
        for thread in self._threads.values():
            if thread.schedstat is None:
                read.append((thread, b""))
                continue
            with suppress(OSError):  # ESRCH: it has ended, the next look tells
                read.append((thread, os.pread(thread.schedstat, 128, 0)))
        self._glance = (now, read)

    def glanced(self) -> Seen[tuple[ThreadLook, ...]] | None:
        """The newest glance as a look, once. All but the run time is as of the newest look."""
        if self._glance is None:
            return None
        (at, read), self._glance, looks = self._glance, None, []
        for thread, text in read:
            if thread.last is not None:
                run_ns, wait_ns = procfs.parse_schedstat(text.decode()) if text else (None, None)
                looks.append(thread.last._replace(at=at.mono, run_ns=run_ns, wait_ns=wait_ns, close=None))
        return Seen(at, tuple(looks))

    @property
    def tids(self) -> KeysView[int]:
        """The PMD threads of the last look."""
        return self._threads.keys()

    def is_off(self, tid: int) -> bool:
        """Whether a thread has left its CPU by itself, and not only for another one that wants to run there."""
        thread = self._threads.get(tid)
        if thread is None:
            return False
        try:
            return procfs.parse_stat(os.pread(thread.stat, 1024, 0).decode(errors="replace")).state != "R"
        except (OSError, ValueError):  # ESRCH: it has ended
            return True

    def others(self, now: Moment) -> Seen[tuple[OtherThread, ...]] | None:
        """The threads that are neither PMDs nor the main thread, as of the last look; None without a process."""
        process = self._process
        if process is None:
            return None
        stats = {}
        for tid in self._others:
            try:
                stats[tid] = procfs.parse_stat((self._root / str(tid) / "stat").read_text(errors="replace"))
            except (OSError, ValueError):  # it ended while we looked
                continue
        main = stats.pop(process.pid, None)
        # One that still carries its parent's name has just begun: the next look tells what it is.
        named = {tid: stat for tid, stat in stats.items() if main is None or stat.name != main.name}
        return Seen(
            now,
            tuple(
                OtherThread(ThreadId(process, tid, stat.start), stat.name, stat.state)
                for tid, stat in named.items()
                if procfs.pmd_core(stat.name) is None
            ),
        )

    def _one(self, process: ProcessId, tid: int, now: Moment, anew: bool, suspect: bool) -> ThreadLook | None:
        thread = self._threads.get(tid)
        if thread is None:
            thread = self._discover(tid, now)
            if thread is None:
                return None
        elif thread.last is not None and not (anew or suspect):
            return thread.last
        try:
            stat = procfs.parse_stat(os.pread(thread.stat, 1024, 0).decode(errors="replace"))
            run_ns, wait_ns = self._schedstat(thread)
        except (OSError, ValueError):  # ESRCH: it ended while we looked
            self._threads.pop(tid).close()
            return None
        core = procfs.pmd_core(stat.name)
        if core is None:
            return None
        if suspect or now.mono - thread.status_at > STATUS:
            self._read_status(thread, now)
        status = thread.status
        thread.last = ThreadLook(
            at=now.mono,
            id=ThreadId(process, tid, stat.start),
            name=stat.name,
            core=core,
            state=stat.state,
            run_ns=run_ns,
            wait_ns=wait_ns,
            cpus=status.cpus_allowed if status else None,
            voluntary=status.voluntary if status else None,
            involuntary=status.involuntary if status else None,
            close=self._closely(thread) if suspect else None,
        )
        return thread.last

    def _discover(self, tid: int, now: Moment) -> _Thread | None:
        # A new thread carries its parent's name until it renames itself.
        until = self._others.setdefault(tid, now.mono + RENAME)
        try:
            name = (self._root / str(tid) / "comm").read_text(errors="replace").strip()
            if procfs.pmd_core(name) is None:
                return None
            thread = _Thread(self._root, tid)
        except OSError:  # it ended while we looked, or descriptors ran out: the next look tells
            return None
        self._others.pop(tid, until)
        self._threads[tid] = thread
        return thread

    @staticmethod
    def _schedstat(thread: _Thread) -> tuple[int | None, int | None]:
        if thread.schedstat is None:
            return None, None
        return procfs.parse_schedstat(os.pread(thread.schedstat, 128, 0).decode())

    def _closely(self, thread: _Thread) -> CloseLook:
        """The costlier files, each of which the kernel may refuse to an unprivileged reader."""
        syscall = self._read(thread, "syscall")
        number = procfs.syscall_number(syscall) if syscall else None
        tracer = self._name(thread.status.tracer_pid) if thread.status is not None else None
        return CloseLook(number, self._read(thread, "wchan"), tracer)

    def _read_status(self, thread: _Thread, now: Moment) -> None:
        thread.status_at = now.mono
        text = self._read(thread, "status")
        try:
            thread.status = procfs.parse_status(text) if text is not None else None
        except ValueError:  # cut short: the thread is ending
            thread.status = None

    @staticmethod
    def _read(thread: _Thread, name: str) -> str | None:
        try:
            return (thread.root / name).read_text(errors="replace").strip()
        except OSError:  # EACCES without CAP_SYS_PTRACE, ESRCH when it ended
            return None

    def _name(self, pid: int) -> str:
        if pid == 0:
            return ""
        try:
            comm = (self._proc / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            return f"pid {pid}"
        return f"{comm} (pid {pid})"
