# SPDX-License-Identifier: Apache-2.0
"""A real terminal of its own for a command: tmux, on a private socket, which dies with us.

`python -m tests.screens` shows a held PMD on it, and writes what is to be seen into docs/monitoring.md.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ovs_keepalive.ptrace import Hold, leash
from ovs_keepalive.sandbox import Sandbox, wait

T = TypeVar("T")

WATCH = f"{shlex.quote(sys.executable)} -m ovs_keepalive show --watch"
PAGE = Path(__file__).parents[1] / "docs" / "monitoring.md"
CAPTURE = re.compile(r"(<!-- screen: [^>]*-->\n```\n).*?(```\n)", re.DOTALL)


def missing() -> str:
    """One line on what is not here; empty if all is there."""
    return "" if shutil.which("tmux") else "tmux: not installed: apt-get install tmux"


class Screen:
    """A terminal with a shell in it."""

    def __init__(self, sandbox: Sandbox, columns: int = 100, lines: int = 30) -> None:
        self._socket = sandbox.dir / "tmux"
        self._size = (columns, lines)
        usual = {name: value for name, value in sandbox.env.items() if name not in ("TMUX", "NO_COLOR", "COLUMNS")}
        self._env = {**usual, "LC_ALL": "C.UTF-8", "ENV": ""}
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        argv = [*leash(), "tmux", "-D", "-S", str(self._socket), "-f", os.devnull]
        quiet = subprocess.DEVNULL
        self._server = subprocess.Popen(argv, env=self._env, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            wait(self._socket.is_socket, "tmux listens", 10)
            columns, lines = map(str, self._size)
            self._tmux("new-session", "-d", "-x", columns, "-y", lines, "sh")
            wait(lambda: self.text().startswith(("$", "#")), "a shell in the terminal", 10)
            self.run("PS1='$ '; clear")
            wait(lambda: self.text().strip() == "$", "its prompt", 10)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None:
            self._server.kill()  # its shell hangs up, and with it what runs there
            self._server.wait(10)

    def press(self, *keys: str) -> None:
        """Press keys, by their tmux names: "C-c", "Escape", "Down", "q"."""
        self._tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command."""
        self._tmux("send-keys", "-l", command)
        self.press("Enter")

    def text(self) -> str:
        """What is to be seen."""
        return self._tmux("capture-pane", "-p")

    def colours(self) -> str:
        """The same with its escape sequences."""
        return self._tmux("capture-pane", "-p", "-e")

    def lines(self) -> list[str]:
        """What is to be seen, line by line, without the empty ones at the end."""
        return self.text().rstrip("\n").split("\n")

    def resize(self, columns: int, lines: int) -> None:
        """Make it another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def flag(self, name: str) -> bool:
        """A flag of tmux: "cursor_flag", "alternate_on"."""
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip() == "1"

    def until(self, condition: Callable[[str], T | None], what: str, seconds: float = 10.0) -> T:
        """Wait until what is to be seen is so."""
        try:
            return wait(lambda: condition(self.text()), what, seconds)
        except Exception as error:
            error.add_note(self.text())
            raise

    @property
    def pid(self) -> int:
        """Of what runs in the foreground: the youngest child of the shell."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[-1])

    def _tmux(self, *arguments: str) -> str:
        argv = ["tmux", "-u", "-S", str(self._socket), *arguments]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout


def _capture() -> str:
    """A PMD of four, held, as it is to be seen after two seconds."""
    with Sandbox(pmds=4, max_sleep=0) as sandbox:
        sandbox.settings(enable_keepalive=True)
        sandbox.start_daemon()
        wait(lambda: len(sandbox.column()) == 4, "four PMDs in the column", 20)
        name, tid = list(sandbox.pmds().items())[2]
        with Screen(sandbox, 98, 19) as screen:
            screen.run(WATCH)
            screen.until(lambda text: text.startswith(" WELL"), "the node is well", 60)
            with Hold(tid):
                return screen.until(
                    lambda text: text if f"{name}: traced" in text and "█████" in text else None, "DEAD"
                )


def main() -> None:
    """Put the screen into the page."""
    shown = _capture()
    text = PAGE.read_text()
    PAGE.write_text(CAPTURE.sub(lambda found: f"{found[1]}{shown.rstrip()}\n{found[2]}", text))
    print(shown)


if __name__ == "__main__":
    main()
