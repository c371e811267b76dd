# SPDX-License-Identifier: Apache-2.0
"""One program of the operator's that runs: in a session of its own, no shell, and what it prints is kept, bounded.

Nothing here waits, but for a process that has ended or was killed.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PIPE = 1 << 16  # bytes read at a time


class Program:
    """It ends by itself, or is killed with all that it started but for what made a session of its own."""

    def __init__(self, path: Path, environment: Mapping[bytes, bytes], until: float, kept: int) -> None:
        """until: monotonic seconds; kill it then. kept: bytes of what it prints. Raises OSError if it cannot start."""
        self.name = path.name
        self.until = until
        self.was_killed = False
        self.printed = b""  # the first of it
        self.printed_more = False  # than is kept
        self._kept = kept
        self._open = True
        self._output, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._output, False)
            self._process = subprocess.Popen(
                [os.fspath(path)], env=dict(environment), cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=theirs, stderr=theirs,
            )  # fmt: skip
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        if os.sched_getscheduler(0) != os.SCHED_OTHER:  # SCHED_RR of the unit is for the beat alone
            with suppress(OSError):  # a program that is preferred is better than none
                os.sched_setscheduler(self.pid, os.SCHED_OTHER, os.sched_param(0))
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # a kernel before 5.3: its end is seen at the next look
            self._pidfd = -1

    @property
    def ending(self) -> tuple[int, ...]:
        """The descriptor that turns readable when it ends; none on a kernel that has no such."""
        return (self._pidfd,) if self._pidfd >= 0 else ()

    @property
    def output(self) -> tuple[int, ...]:
        """The descriptor that turns readable when it prints; none once it and its children have closed it."""
        return (self._output,) if self._open else ()

    @property
    def has_ended(self) -> bool:
        """Whether it has; it stays a zombie until finish(), so that its number is nobody else's."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end so long at most; not at all on a kernel that tells of no end."""
        if self.ending and not self.has_ended:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        return self.has_ended

    def read(self) -> None:
        """Take what it has printed, 64 KB at most: one that prints without end is slowed down, its reader is not."""
        if not self._open:
            return
        try:
            part = os.read(self._output, PIPE)
        except BlockingIOError:
            return
        self._open = bool(part)
        self.printed_more |= len(self.printed) + len(part) > self._kept
        self.printed = (self.printed + part)[: self._kept]

    def kill(self) -> None:
        """End it, and its process group."""
        self.was_killed = True
        self._end_group()

    def finish(self) -> int:
        """After its end, or once it is killed; what it left in its group ends too. Exit status; negative: a signal."""
        self._end_group()
        self.read()
        os.close(self._output)
        for descriptor in self.ending:
            os.close(descriptor)
        return self._process.wait()

    def _end_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def why_not_started(error: OSError) -> str:
    """Why it could not be started, with the cure where there is one."""
    if error.errno == errno.ENOEXEC:
        return f"{error.strerror}: its first line has to name its interpreter, as #!/bin/sh"
    return str(error.strerror)


def environment(told: Mapping[str, str], inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What it inherits, and what it is told."""
    return {**inherited, **{name.encode(): value.encode() for name, value in told.items()}}
