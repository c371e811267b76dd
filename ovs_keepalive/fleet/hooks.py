# SPDX-License-Identifier: Apache-2.0
"""Runs the operator's program for a request that this host has claimed: no shell, a minute at most, once a fence.

Exactly once is what the record says; what the program does may be done twice, by two hosts, when a session is lost in
the middle of it. So it is told the request's id and fence, and has to make nothing of a pair that it has seen before.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.fleet import Held
from ovs_keepalive.formats.plain import one_line, short

LONGEST = 60.0  # seconds that a hook may take; then it is killed with its process group
GIVE_BACK = 75  # EX_TEMPFAIL of sysexits.h: not by this host, not now
PRINTED = 300  # bytes of what it prints that are kept; the rest is read and dropped
PIPE = 1 << 16  # bytes read at a time
LONGEST_FACT = 400  # characters
REMEMBERED = 1000  # fences
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR")
PREFIX = "OVSKA_"


class Result(Enum):
    """What is to become of the request."""

    DONE = "done"
    GIVEN_BACK = "given back"


class Ending(NamedTuple):
    """How a hook ended."""

    result: Result
    words: str  # for the record and the log


def facts(held: Held, numa: int) -> dict[str, str]:
    """What a hook is told, by the names of its environment. Other hosts' text is one line, and bounded."""
    said = {
        "REQUEST_ID": held.help.id,
        "FENCE": str(held.fence),
        "HOST": held.help.host,
        "KIND": held.help.kind,
        "WHY": held.help.why,
        "NUMA": str(numa),
    }
    return {f"{PREFIX}{name}": short(one_line(value), LONGEST_FACT) for name, value in said.items()}


class Hooks:
    """Those under way. Nothing here waits; look() belongs to the main loop. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._seen: dict[tuple[str, int], None] = {}

    def start(self, program: Path, held: Held, numa: int, now: float) -> Ending | None:
        """Run it for this claim, unless it was before; an ending if it cannot be run."""
        mark = held.help.id, held.fence
        if mark in self._seen:
            return Ending(Result.GIVEN_BACK, f"hook {program.name}: ran for fence {held.fence} before: not run again")
        self._seen[mark] = None
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        try:
            self._runs[held.help.id] = _Run(program, facts(held, numa), now + LONGEST)
        except OSError as error:
            cure = ": its first line has to name its interpreter, as #!/bin/sh" if error.errno == errno.ENOEXEC else ""
            return Ending(Result.GIVEN_BACK, f"hook {program.name}: could not be started: {error.strerror}{cure}")
        return None

    def look(self, now: float) -> dict[str, Ending]:
        """Those that have ended since, by the request's id; one that took too long is killed."""
        endings = {id: ending for id, run in self._runs.items() if (ending := run.look(now)) is not None}
        for id in endings:
            del self._runs[id]
        return endings

    def kill(self, why: str) -> dict[str, Ending]:
        """End all of them at once: this host may not have what it claimed any more."""
        endings = {id: run.killed(why) for id, run in self._runs.items()}
        self._runs.clear()
        return endings

    @property
    def running(self) -> tuple[str, ...]:
        """The requests for which one runs."""
        return tuple(self._runs)

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that turn readable when one ends or prints."""
        return tuple(descriptor for run in self._runs.values() for descriptor in run.filenos())

    def next_look(self) -> float | None:
        """When one has to be looked at at the latest."""
        return min((run.until for run in self._runs.values()), default=None)


class _Run:
    """One hook under way."""

    def __init__(self, program: Path, told: Mapping[str, str], until: float) -> None:
        """until: when it is killed. Raises OSError when it cannot be started."""
        self.name = program.name
        self.until = until
        self._text = b""
        self._open = True
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._output, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._output, False)
            self._process = subprocess.Popen(
                [os.fspath(program)], env={**kept, **told}, cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=theirs, stderr=theirs,
            )  # fmt: skip
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        self._pidfd = os.pidfd_open(self._process.pid)

    def filenos(self) -> tuple[int, ...]:
        return (self._pidfd, self._output) if self._open else (self._pidfd,)

    def look(self, now: float) -> Ending | None:
        self._read()
        if self._has_ended:
            return self._ending()
        return self.killed(f"took more than {LONGEST:g} s") if now >= self.until else None

    def killed(self, why: str) -> Ending:
        """End it and all that it started, but for what made a session of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._finish()
        return Ending(Result.GIVEN_BACK, f"hook {self.name}: {why}: killed")

    @property
    def _has_ended(self) -> bool:
        """Whether it has; it stays a zombie until _finish, so that its number is nobody else's."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _ending(self) -> Ending:
        with suppress(ProcessLookupError):  # what it left behind in its group
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._finish()
        said = short(one_line(self._text.decode(errors="replace").strip().replace("\n", " | ")), PRINTED)
        words = f"hook {self.name}: " + (said or "printed nothing")
        if status == 0:
            return Ending(Result.DONE, words)
        how = "gives it back" if status == GIVE_BACK else f"signal {-status}" if status < 0 else f"status {status}"
        return Ending(Result.GIVEN_BACK, f"{words} ({how})")

    def _finish(self) -> int:
        self._read()
        os.close(self._output)
        status = self._process.wait()  # it has ended, or was killed: at once
        os.close(self._pidfd)
        return status

    def _read(self) -> None:
        if not self._open:
            return
        try:
            part = os.read(self._output, PIPE)
        except BlockingIOError:
            return
        self._open = bool(part)  # empty: it and its children have closed it
        self._text = (self._text + part)[:PRINTED]
