# SPDX-License-Identifier: Apache-2.0
"""The processes of a sandbox: direct children, each with a log, that die with us, even by SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ovs_keepalive.ptrace import leash

POLL = 0.015  # seconds between two tries of a condition

T = TypeVar("T")


class SandboxError(Exception):
    """One line: what, which value, what to do. The exit status is that of the verb."""

    def __init__(self, line: str, status: int = 3) -> None:
        super().__init__(line)
        self.status = status


def wait(condition: Callable[[], T | None], what: str, seconds: float = 10.0) -> T:
    """The first true value of the condition. While nobody answers it (OSError) it counts as not yet true."""
    deadline = time.monotonic() + seconds
    while True:
        last_try, why = time.monotonic() >= deadline, ""
        try:
            if value := condition():
                return value
        except OSError as error:
            why = f": {error}"
        if last_try:
            raise SandboxError(f"{what}: not within {seconds:g} s{why}")
        time.sleep(POLL)


class Children:
    """Processes by name. One that ends unasked is missed: whatever waits for it says so."""

    def __init__(self, directory: Path) -> None:
        """directory: where their logs go."""
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._processes))

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Start a child that dies with us, in a group of its own: Ctrl-C in the terminal reaches the sandbox only."""
        if name in self._processes and self._processes[name].poll() is None:
            raise SandboxError(f"{name}: runs already (pid {self._processes[name].pid}): end it first")
        quiet = subprocess.DEVNULL
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*leash(), *argv], env=env, stdin=quiet, stdout=log, stderr=log, process_group=0)
        self._processes[name] = process
        return process.pid

    def until(self, name: str, condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
        """Wait, but no longer than that daemon runs."""

        def holds() -> bool:
            self.check(name)
            return bool(condition())

        wait(holds, what, seconds)

    def check(self, *names: str) -> None:
        """Raise if one of them has ended."""
        for name in names:
            if (status := self.process(name).poll()) is not None:
                raise SandboxError(f"{name} ended with status {status}{self.last_words(name)}")

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The one of that name, whether or not it has ended by now."""
        if name not in self._processes:
            raise SandboxError(f"{name}: does not run in this sandbox: start it first")
        return self._processes[name]

    def kill(self, name: str, number: int) -> int:
        """Send a signal, and see a process through that is to end; its exit status. It is missed no more."""
        process = self.process(name)
        process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            return 0
        try:
            status = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait(10)
        del self._processes[name]
        return status

    def last_words(self, name: str) -> str:
        """The end of an error's line: what that daemon logged last."""
        lines = (self._directory / f"{name}.log").read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"; last words of {name}: {said[-1]}" if said else ""
