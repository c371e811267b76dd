# SPDX-License-Identifier: Apache-2.0
"""A question to a control socket that is asked again and again, by whoever watches: a screen, the fleet's agent."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path

from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused

DEADLINE = 2.0  # seconds for an answer
STALE = 1.5  # seconds after which an answer is old
LOOKED = 3.0  # seconds after which a daemon that looks once a second at least has not looked


class Question:
    """One question, asked again and again, of whichever process has the socket. Nothing here waits."""

    def __init__(self, find: Callable[[], Path], every: float, method: str, *arguments: str) -> None:
        """find: the control socket now, or NoAnswer; every: seconds between two questions."""
        self._find, self._every = find, every
        self._words = (method, *arguments)
        self._path: Path | None = None
        self._client: AppctlClient | None = None
        self._due = 0.0  # monotonic: the next question …
        self._sent = 0.0  # … and the last
        self.answer: str | None = None  # the last one
        self.at = 0.0  # monotonic, of that
        self.failure = ""  # why there has been none since; "" while all is well

    def step(self, now: float) -> bool:
        """Ask, or take the answer, whichever is due; True for a new answer. now: monotonic seconds."""
        try:
            if self._client is not None and self._client.waiting:
                return self._take(self._client, now)
            if now >= self._due:
                self._due = self._sent = now
                self._due += self._every
                self._ask()
        except Refused as refused:
            self.answer, self.at, self.failure = str(refused), now, ""
            return True
        except NoAnswer as error:
            self.failure = str(error)
        return False

    def stale(self, now: float) -> str:
        """Why what is known is old; "" while it is new."""
        if not self.failure and self.answer is not None and now - self.at <= STALE:
            return ""
        silence = f" for {now - self.at:.0f} s" if self.answer is not None else ""
        why = f": {self.failure}" if self.failure else ""
        if not why and self.answer is None and now - self._sent < STALE:
            return "asking the daemon"
        return f"no answer from the daemon{silence}{why}"

    def hurry(self) -> None:
        """Something has changed: do not wait for the next time."""
        self._due = 0.0

    @property
    def due(self) -> float:
        """When step() has something to do besides taking an answer."""
        waits = self._client is not None and self._client.waiting
        return self._sent + DEADLINE if waits else self._due

    def wait(self, register: Callable[[int, int], object]) -> None:
        """Let a poll wake for its answer."""
        if self._client is not None and self._client.waiting and (descriptor := self._client.fileno()) is not None:
            register(descriptor, select.POLLIN | (select.POLLOUT if self._client.sending else 0))

    def asks(self, argument: str) -> bool:
        """Whether that is its argument."""
        return self._words[-1] == argument

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()

    def _take(self, client: AppctlClient, now: float) -> bool:
        reply = client.receive()
        if reply is None:
            if now - self._sent > DEADLINE:
                client.close()
                raise NoAnswer(f"none within {DEADLINE:g} s")
            return False
        self.answer, self.at, self.failure = reply, now, ""
        return True

    def _ask(self) -> None:
        path = self._find()
        if self._client is None or path != self._path:
            self.close()
            self._path, self._client = path, AppctlClient(path)
        self._client.receive()  # it may have hung up since
        self._client.ask(*self._words)


def standing(seconds: float) -> str:
    """Why what a daemon answers is old, though it answers; "" while it is new. seconds: since its newest look."""
    return f"the daemon answers, but has not looked for {seconds:.0f} s" if seconds > LOOKED else ""


def daemon_socket(rundir: Path) -> Path:
    """Of the daemon that has the pidfile there. Raises NoAnswer."""
    pidfile = rundir / "ovs-keepalive.pid"
    try:
        pid = pidfile.read_bytes()[:32].strip()
    except OSError as error:
        raise NoAnswer(f"{pidfile}: {error.strerror}: start ovs-keepalive run, or set OVS_RUNDIR") from error
    if not pid.isdigit():
        raise NoAnswer(f"{pidfile}: {pid!r} is no process id: is ovs-keepalive running?")
    return rundir / f"ovs-keepalive.{pid.decode()}.ctl"
