# SPDX-License-Identifier: Apache-2.0
"""Who ovs-vswitchd is now: its pidfile, the lock on it, its start time; and a pidfd, so that its end is an event."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import Ended, Moment, NotSeen, ProcessId, Seen
from ovs_keepalive.formats import procfs

SEARCH = 0.02  # seconds, at least, between two searches for a process that is not there
PF_EXITING = 0x4  # include/linux/sched.h: "Getting shut down"
# struct flock as fcntl(2) has it on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
FLOCK = "hhqqi4x"


class Process(NamedTuple):
    """A running vswitchd and where it can be asked."""

    id: ProcessId
    pidfile: Path
    control_socket: Path


class VswitchdSensor:
    """Finds vswitchd by `ovs-vswitchd*.pid` in rundir, or by the pidfile it is given, and sees it end."""

    def __init__(self, rundir: Path, pidfile: Path | None = None, proc: Path = Path("/proc")) -> None:
        self._rundir = rundir
        self._pidfile = pidfile
        self._proc = proc
        self._process: Process | None = None
        self._pidfd: int | None = None
        self._dead: ProcessId | None = None  # still there while it dumps core
        self._expected: ProcessId | None = None
        self._searched = NotSeen(Moment(-SEARCH, 0), "not looked for yet")

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when the process ends; None while there is none."""
        return self._pidfd

    def look(self, now: Moment, silent: bool = False) -> tuple[Seen[Process] | NotSeen, Ended | None]:
        """Who it is, and the end of the one that was known until now.

        silent: its main thread owes an answer; then a core dump under way is looked for, which can take minutes.
        """
        ended = None
        if self._process is not None:
            dumps = silent and self._dumps_core(self._process)
            if not dumps and not self._has_ended(self._process):
                return Seen(now, self._process), None
            ended = Ended(self._process.id, orderly=not self._left_pidfile(self._process))
            self._dead = self._process.id
            self.close()
        elif now.mono - self._searched.at.mono < SEARCH:
            return self._searched, None
        found = self._find()
        if self._expected is not None:
            ended = ended or self._end_of(self._expected, found)
        if isinstance(found, str):
            self._searched = NotSeen(now, found)
            return self._searched, ended
        self._process = found
        try:
            self._pidfd = os.pidfd_open(found.id.pid)
        except OSError:  # it ended this moment, or the kernel has no pidfd: /proc tells at the next look
            self._pidfd = None
        return Seen(now, found), ended

    def glance(self, now: Moment) -> ProcessId | None:
        """Who it is, before anybody looks for good: it stays to be found. (See `expect` for its end.)"""
        found, _ = self.look(now)
        self.close()
        self._searched = NotSeen(Moment(-SEARCH, 0), "not looked for yet")
        return found.value.id if isinstance(found, Seen) else None

    def expect(self, process: ProcessId | None) -> None:
        """The one that is known from elsewhere: if it has ended before it is found, that is told as any end is."""
        self._expected = process

    def main_state(self) -> str:
        """The state of its main thread, one letter; "?" when it ends this moment: the pidfd tells.

        "X" also for one that the kernel has begun to end, and still calls running or asleep.
        """
        stat = self._stat(self._process.id.pid) if self._process is not None else None
        if stat is None:
            return "?"
        return "X" if stat.flags & PF_EXITING else stat.state

    def close(self) -> None:
        """Forget the process."""
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._process = self._pidfd = None

    def _has_ended(self, process: Process) -> bool:
        if self._pidfd is not None:
            return bool(select.select([self._pidfd], [], [], 0)[0])
        return self._is_gone(process.id)

    def _is_gone(self, process: ProcessId) -> bool:
        stat = self._stat(process.pid)
        if stat is None:  # unless descriptors have run out
            return not (self._proc / str(process.pid)).exists()
        return stat.start != process.start or stat.state in "ZX"

    def _end_of(self, expected: ProcessId, found: Process | str) -> Ended | None:
        """That it ended, if it did; it is not expected any more then, nor once it is found."""
        if isinstance(found, Process) and found.id == expected:
            self._expected = None
            return None
        if not self._is_gone(expected):
            return None
        self._expected = None
        # An orderly stop unlinks its control socket; a kill leaves it.
        return Ended(expected, orderly=not self._control_sockets(expected.pid))

    def _dumps_core(self, process: Process) -> bool:
        try:
            status = procfs.parse_status((self._proc / str(process.id.pid) / "status").read_text(errors="replace"))
        except (OSError, ValueError):  # it ends this moment
            return False
        return status.core_dumping is True

    def _left_pidfile(self, process: Process) -> bool:
        # An orderly stop unlinks the pidfile before the process ends; a kill leaves it, its lock freed.
        try:
            if process.pidfile.read_text().strip() == str(process.id.pid):
                return True
            # Another process has written its own already, as one that a monitor starts at once: the control socket,
            # which bears the old one's number, is unlinked or left with the pidfile.
            return process.control_socket.exists()
        except (FileNotFoundError, ValueError):
            return False
        except OSError:  # it is there, and cannot be read now: nobody took it away
            return True

    def _find(self) -> Process | str:
        if self._pidfile is not None:
            return self._identify(self._pidfile)
        try:
            names = sorted(os.listdir(self._rundir))  # Path.glob would find nothing where it may not look
        except OSError as error:
            return f"{self._rundir}: {error.strerror}: is Open vSwitch running? See OVS_RUNDIR"
        pidfiles = [self._rundir / name for name in names if name.startswith("ovs-vswitchd") and name.endswith(".pid")]
        why = f"no ovs-vswitchd*.pid in {self._rundir}: is Open vSwitch running?"
        for pidfile in pidfiles:
            found = self._identify(pidfile)
            if isinstance(found, Process):
                return found
            why = found
        return why

    def _identify(self, pidfile: Path) -> Process | str:
        try:
            with pidfile.open("rb") as file:
                text = file.read(32)
                holder = struct.unpack(
                    FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
                )
        except OSError as error:
            return f"pidfile {pidfile}: {error.strerror}"
        if not text.strip().isdigit():
            return f"pidfile {pidfile}: {text[:20]!r} is no process id"
        pid = int(text)
        if holder[0] == fcntl.F_UNLCK:
            return f"pidfile {pidfile} is stale: no process holds its lock"
        if holder[4] != pid:
            visible = holder[4] > 0
            return f"pidfile {pidfile} says {pid}, its lock is held by " + (
                f"process {holder[4]}" if visible else "a process of another PID namespace: share the host's"
            )
        stat = self._stat(pid)
        if stat is None or stat.state in "ZX":
            return (
                f"process {pid} of {pidfile} is not in {self._proc}: ended, hidden (hidepid), or another PID namespace"
            )
        id = ProcessId(pid, stat.start)
        if id == self._dead:
            return f"process {pid} of {pidfile} is ending: it dumps core"
        return Process(id, pidfile, self._control_socket(pidfile, pid))

    def _control_socket(self, pidfile: Path, pid: int) -> Path:
        # OVS names it after the program, in its own runtime directory; the pidfile may have been put elsewhere.
        usual = pidfile.parent / f"{pidfile.stem}.{pid}.ctl"
        if usual.exists():
            return usual
        return next(iter(self._control_sockets(pid)), usual)

    def _control_sockets(self, pid: int) -> list[Path]:
        return sorted(self._rundir.glob(f"ovs-vswitchd*.{pid}.ctl"))

    def _stat(self, pid: int) -> procfs.Stat | None:
        try:
            return procfs.parse_stat((self._proc / str(pid) / "stat").read_text(errors="replace"))
        except (OSError, ValueError):
            return None
