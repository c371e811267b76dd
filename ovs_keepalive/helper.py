# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a process that looks for it: it starts one, asks, takes what comes, and says when nothing does.

Belongs to the main loop; nothing here waits. The process has one request at a time: no queue can grow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

import ovs.poller
import ovs.vlog

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.process import stand_back

log = ovs.vlog.Vlog("helper")
Answer = TypeVar("Answer")

SILENCE = 20.0  # seconds beyond the time it was given after which it is killed
FIRST_REST = 1.0  # seconds until a new one is started, after the first failure …
LONGEST_REST = 60.0  # … and at most: twice as long each time
GRACE = 10.0  # seconds for one that was dismissed to end
_PART = 1 << 16


class Helper(Generic[Answer]):
    """At most one process at a time: it reads questions on its stdin, and answers on its stdout, a line each."""

    def __init__(self, module: str, name: str, order: bytes, read: Callable[[bytes], Answer], largest: int) -> None:
        """module: that is run; name: of the process, in words; order: the first line that it gets; read: of an answer,
        raises ValueError; largest: bytes of one.
        """
        self.problem = ""  # why there is no answer now
        self._module, self._name, self._order, self._read, self._largest = module, name, order, read, largest
        self._process: subprocess.Popen[bytes] | None = None
        self._said: BinaryIO | None = None  # what it says on stderr
        self._taken = b""
        self._asked = 0.0  # monotonic: when the answer that is awaited is due
        self._rest = FIRST_REST
        self._start_at = float("-inf")
        self._repeats = Repeats()
        self._leaving: list[tuple[subprocess.Popen[bytes], float]] = []  # and until when: monotonic

    def turn(self, now: float, ask: Callable[[float], bytes], period: float) -> Answer | None:
        """The newest answer, if one has come. now: monotonic seconds; ask: the question whose answer is wanted in so
        many seconds; period: seconds between two.
        """
        self.see_off(now)
        if self._process is None:
            if now >= self._start_at:
                self._start(now, ask, period)
            return None
        process = self._process
        answer = self._hear(process, now)
        if answer is not None:
            self.problem, self._rest = "", FIRST_REST
            self._ask(process, now, ask(period), period)
        elif self.pid is not None and now - self._asked > SILENCE:
            self._failed(f"it said nothing for {SILENCE:g} s more than it was given", now)
        return answer

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for it."""
        if self._process is not None and self._process.stdout is not None:
            poller.fd_wait(self._process.stdout.fileno(), ovs.poller.POLLIN)

    def amend(self, now: float, ask: Callable[[float], bytes], period: float) -> None:
        """Put another question in the place of the one that is asked, of a process that takes the newest.

        The answer is due when it was. If it is overdue it is on its way, and the other one is the next: in a period.
        """
        if self._process is None:
            return
        if self._asked <= now:
            self._asked = now + period
        self._say(self._process, ask(self._asked - now), now)

    def dismiss(self, now: float) -> None:
        """Ask it nothing more: it ends by itself, once it has made good what it began. Nobody waits for that."""
        process, self._process, self._taken = self._process, None, b""
        if process is not None:
            self._leaving.append((process, now + GRACE))
            self._hang_up(process)

    def see_off(self, now: float) -> None:
        """Take leave of those that have ended since; of one that does not, by force."""
        for process, until in self._leaving:
            if process.poll() is None and now >= until:
                log.warn(f"{self._name} (pid {process.pid}) did not end within {GRACE:g} s: it is killed")
                process.kill()
        self._leaving = [one for one in self._leaving if one[0].returncode is None]

    def close(self) -> None:
        """End it."""
        process, self._process, self._taken = self._process, None, b""
        if process is None:
            return
        process.kill()
        self._hang_up(process)
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:  # the kernel holds it; it is dead when it comes back
            log.warn(f"{self._name} (pid {process.pid}) was killed, and has not ended yet")
            self._leaving.append((process, float("inf")))

    def _hang_up(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout, self._said):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process is not None else None

    def _start(self, now: float, ask: Callable[[float], bytes], period: float) -> None:
        try:
            self._said = os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "w+b", buffering=0)
            # -P: what lies in the directory in which the daemon was started is no code of ours.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._said, process_group=0, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            self._failed(f"it did not start: {error.strerror}", now)
            return
        self._process = process
        if process.stdin is not None and process.stdout is not None:
            os.set_blocking(process.stdin.fileno(), False)
            os.set_blocking(process.stdout.fileno(), False)
        try:
            stand_back(process.pid)
        except OSError as error:
            log.warn(f"{self._name} runs with the daemon's own priority: {error.strerror}")
        self._say(process, self._order, now)
        self._ask(process, now, ask(0.0), period)

    def _ask(self, process: subprocess.Popen[bytes], now: float, line: bytes, allowed: float) -> None:
        """allowed: seconds for the answer."""
        try:  # it goes where the daemon goes: off the CPUs of PMD threads
            os.sched_setaffinity(process.pid, os.sched_getaffinity(0))
        except OSError:  # it ends this moment
            return
        self._asked = now + allowed
        self._say(process, line, now)

    def _say(self, process: subprocess.Popen[bytes], line: bytes, now: float) -> None:
        try:
            if process.stdin is not None:
                process.stdin.write(line)
        except OSError as error:
            self._failed(f"it does not listen: {error.strerror}", now)

    def _hear(self, process: subprocess.Popen[bytes], now: float) -> Answer | None:
        try:
            while process.stdout is not None and (part := process.stdout.read(_PART)) is not None:
                if not part:
                    self._failed("it ended", now)
                    return None
                self._taken += part
                if len(self._taken) > self._largest:
                    self._failed(f"it said more than {self._largest >> 20} MiB", now)
                    return None
        except OSError as error:
            self._failed(f"it cannot be heard: {error.strerror}", now)
            return None
        *lines, self._taken = self._taken.split(b"\n")
        if not lines:
            return None
        try:
            return self._read(lines[-1])
        except ValueError as error:
            self._failed(f"it said what is no answer: {error}", now)
            return None

    def _failed(self, why: str, now: float) -> None:
        words = ""
        if self._said is not None and not self._said.closed:
            self._said.seek(0)
            said = self._said.read(1 << 16).decode(errors="replace").strip().splitlines()
            words = f": {short(said[-1], 300)}" if said else ""
        self.problem = one_line(f"{why}{words}")
        self.close()
        self._start_at, self._rest = now + self._rest, min(2 * self._rest, LONGEST_REST)
        if line := self._repeats.line("failed", f"{self._name} failed: {self.problem}: starting another", now):
            log.warn(line)
