# SPDX-License-Identifier: Apache-2.0
"""A terminal taken over for a screen of our own, and given back as it was on every way out."""

from __future__ import annotations

import codecs
import os
import signal
import socket
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the other screen, without a cursor, empty
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
ASCII = str.maketrans({"█": "#", "·": ".", "…": "~"})  # for a terminal that knows no Unicode
USUAL = (80, 24)  # of one that does not know
CAUGHT = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)


class Terminal:
    """Keys come one by one, unseen; signals make `wakeup` readable and wait in signals(). Main thread only."""

    def __init__(self, stdin: int, stdout: int, encoding: str) -> None:
        """The two descriptors, both of a terminal, and the encoding that it understands."""
        self._in, self._out = stdin, stdout
        self._encoding = encoding
        self._usual: list[Any] = []  # the modes of the terminal, as they were
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []
        self._shown: list[str] = []
        self.wakeup, self._end = socket.socketpair()

    def __enter__(self) -> Self:
        self.wakeup.setblocking(False)
        self._end.setblocking(False)
        self._usual = termios.tcgetattr(self._in)
        try:
            signal.set_wakeup_fd(self._end.fileno(), warn_on_full_buffer=False)
            for number in CAUGHT:
                self._handlers[number] = signal.signal(number, self._catch)
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._give_back()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self.wakeup.close()
            self._end.close()

    def signals(self) -> list[int]:
        """Those that came since the last call."""
        with suppress(BlockingIOError):
            self.wakeup.recv(4096)
        came, self._came = self._came, []
        return came

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        columns, lines = os.get_terminal_size(self._out)
        return columns or USUAL[0], lines or USUAL[1]

    def stop(self) -> None:
        """Stop as Ctrl-Z asks, the terminal given back to the shell meanwhile; take it again when it goes on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # it returns when somebody sends SIGCONT
        signal.signal(signal.SIGTSTP, self._catch)
        self._take()

    def retake(self) -> None:
        """Take the terminal once more: after a SIGCONT somebody else may have had it."""
        self._take()

    def forget(self) -> None:
        """Draw every line next time."""
        self._shown = []

    def show(self, lines: Sequence[str]) -> None:
        """Write the lines that have changed."""
        if len(lines) != len(self._shown):
            self._write("\x1b[2J")
            self._shown = [""] * len(lines)
        changed = [
            f"\x1b[{number};1H\x1b[2K{line}"
            for number, (line, before) in enumerate(zip(lines, self._shown, strict=True), 1)
            if line != before
        ]
        self._shown = list(lines)
        if changed:
            self._write("".join(changed))

    def _take(self) -> None:
        tty.setcbreak(self._in)  # Ctrl-C and Ctrl-Z stay signals
        self._write(ENTER)
        self.forget()

    def _give_back(self) -> None:
        try:
            self._write(LEAVE)
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._usual)
        except (OSError, termios.error):  # the terminal itself is gone
            return

    def _write(self, text: str) -> None:
        known = text if codecs.lookup(self._encoding).name == "utf-8" else text.translate(ASCII)
        data = known.encode(self._encoding, errors="replace")
        while data:
            data = data[os.write(self._out, data) :]

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)
