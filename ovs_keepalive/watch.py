# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive show --watch`: the node as it changes, on one screen, or a line a change where there is no screen.

It asks the daemon by its control socket and waits for nothing: keys are obeyed while the daemon is silent, and what is
old is shown as old. A daemon that is restarted is followed.
"""

from __future__ import annotations

import codecs
import errno
import importlib.util
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovs_keepalive import dirs
from ovs_keepalive.formats import document, node, screen
from ovs_keepalive.formats.node import Node
from ovs_keepalive.formats.plain import json_line, one_line
from ovs_keepalive.formats.view import Open, View, keys, press, rows
from ovs_keepalive.question import Question, daemon_socket, standing
from ovs_keepalive.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 0.5  # seconds between two questions for the state
ESCAPE = 0.05  # seconds after which an escape is no beginning of another key
WELL, UNHEALTHY, UNREACHABLE = 0, 1, 3
NO_RICH = "show --watch: plain lines, since rich is not installed: pip install 'ovs-keepalive[cli]'"

# By the words of formats.screen; what is not here has no style.
STYLES = {
    "WELL": "bold black on green",
    "WARNING": "bold black on yellow",
    "FAILURE": "bold white on red",
    "RESTARTING": "bold black on cyan",
    "UNKNOWN": "bold black on magenta",
    "DISABLED": "reverse",
    "ALIVE": "green",
    "SLEEP": "cyan",
    "MISSING": "bold yellow",
    "DEAD": "bold red",
    "GONE": "bold red",
    "UNUSED": "dim",
    "head": "bold",
    "selected": "reverse",
    "old": "dim",
}


class Watched:
    """The node as the daemon tells it, and how old that is."""

    def __init__(self, rundir: Path) -> None:
        self.question = Question(partial(daemon_socket, rundir), EVERY, "keepalive/status", "--json")
        self.document: Any = None
        self.node: Node | None = None
        self._moved = 0.0  # monotonic: when the daemon's looks were last seen to go on
        self._foreign = ""

    def step(self, now: float) -> bool:
        """True for a new document."""
        if not self.question.step(now) or self.question.answer is None:
            return False
        try:
            decoded = json.loads(self.question.answer)
            told = node.read(decoded)
        except (ValueError, RecursionError):
            said = one_line(self.question.answer[:80])
            self._foreign = f"the daemon answers no node document: {said}: is it of another version?"
            return False
        if self.node is None or told.sequence != self.node.sequence:
            self._moved = now
        self.document, self.node, self._foreign = decoded, told, ""
        return True

    def stale(self, now: float) -> str:
        """Why it is old; "" while it is new."""
        if why := self.question.stale(now) or self._foreign:
            return why
        if self.node is None:
            return "asking the daemon"
        return standing(now - self._moved)

    def status(self, now: float) -> int:
        """The exit status: 0 well, 1 not, 3 not known."""
        if self.stale(now):
            return UNREACHABLE
        return WELL if document.is_well(self.document) else UNHEALTHY


def run(as_json: bool) -> int:
    """Watch until somebody quits; the exit status."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    watched = Watched(dirs.rundir())
    try:
        if as_json:
            return _print(watched, _Documents().lines)
        if on_terminal and importlib.util.find_spec("rich") is not None:
            return _Screen(watched).run()
        if on_terminal:
            print(f"ovs-keepalive: {NO_RICH}", file=sys.stderr)
        return _print(watched, _Changes().lines)
    finally:
        watched.question.close()


# --- without a screen --------------------------------------------------------------------------


class _Changes:
    """A line a transition, and one with the health of the node whenever that is another."""

    def __init__(self) -> None:
        self._before: list[node.Transition] | None = None
        self._said = ""

    def lines(self, watched: Watched, stale: str) -> list[str]:
        """What is to be printed now."""
        told = watched.node
        if stale or told is None:
            words = f"UNKNOWN  {stale.partition(' for ')[0]}"
            return self._once(words, f"{screen.moment(time.time_ns() // 1_000_000)}  UNKNOWN  {stale}")
        fresh = node.news(self._before, told.transitions)
        said = [screen.happened(change) for change in fresh]
        if len(fresh) == document.RECENT:
            said.insert(0, "there may be more changes before these: ovs-appctl -t ovs-keepalive keepalive/history")
        self._before = told.transitions
        words = f"{told.health}  {told.summary}"
        return said + self._once(words, f"{screen.moment(told.at)}  {words}")

    def _once(self, words: str, line: str) -> list[str]:
        if words == self._said:
            return []
        self._said = words
        return [one_line(line)]


class _Documents:
    """A node document a line, whenever something else than a number in it is another."""

    def __init__(self) -> None:
        self._said: object = None

    def lines(self, watched: Watched, stale: str) -> list[str]:
        """What is to be printed now."""
        told = watched.node
        if stale or told is None:
            words: object = stale.partition(" for ")[0]
            shown: Any = {"version": document.VERSION, "health": "UNKNOWN", "summary": stale}
        else:
            pmds = [(pmd.name, pmd.state, pmd.cause, pmd.witness, pmd.rxqs) for pmd in told.pmds]
            vswitchd = (told.vswitchd.state, told.vswitchd.pid, told.vswitchd.culprit, told.vswitchd.warnings)
            words = (told.enabled, told.health, told.summary, told.transitions, told.blind, vswitchd, pmds)
            shown = watched.document
        if words == self._said:
            return []
        self._said = words
        return [json_line(shown)]


def _print(watched: Watched, said: Callable[[Watched, str], list[str]]) -> int:
    """Print what is said, until nobody reads it or Ctrl-C."""
    while True:
        now = time.monotonic()
        watched.step(now)
        stale = watched.stale(now)
        if stale != "asking the daemon":
            for line in said(watched, stale):
                print(line, flush=True)
        poll = select.poll()
        watched.question.wait(poll.register)
        poll.register(sys.stdout.fileno(), 0)  # POLLERR: whoever read it is gone
        if any(descriptor == sys.stdout.fileno() for descriptor, _ in poll.poll(EVERY * 1000 / 2)):
            return WELL


# --- on a screen -------------------------------------------------------------------------------


class _Screen:
    def __init__(self, watched: Watched) -> None:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to import

        self._watched = watched
        self._view = View()
        self._explain: Question | None = None
        self._typed, self._decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
        self._typed_at = 0.0
        self._console = Console(force_terminal=True, highlight=False, markup=False, emoji=False)
        self._ended: int | None = None

    def run(self) -> int:
        with Terminal(sys.stdin.fileno(), sys.stdout.fileno(), sys.stdout.encoding) as terminal:
            try:
                while self._ended is None and not self._view.over:
                    self._turn(terminal)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._ended = signal.SIGHUP  # the terminal is gone
            status = self._watched.status(time.monotonic())
        if self._explain is not None:
            self._explain.close()
        if self._ended == signal.SIGINT:
            raise KeyboardInterrupt
        if self._ended is not None:  # whoever waits for us is told the truth
            signal.signal(self._ended, signal.SIG_DFL)
            os.kill(os.getpid(), self._ended)
        return status

    def _turn(self, terminal: Terminal) -> None:
        now = time.monotonic()
        self._watched.step(now)
        if self._explain is not None:
            self._explain.step(now)
        self._draw(terminal, now)
        self._block(terminal)
        self._obey(terminal)

    def _draw(self, terminal: Terminal, now: float) -> None:
        width, height = terminal.size()
        explained = ""
        if self._explain is not None:
            explained = self._explain.answer or ""
            if why := self._explain.stale(now):
                explained = f"({why})\n{explained}"
        drawn = screen.draw(self._watched.node, self._view, width, height, stale=self._watched.stale(now),
                            explained=explained)  # fmt: skip
        terminal.show([_styled(self._console, line, width) for line in drawn])

    def _block(self, terminal: Terminal) -> None:
        poll = select.poll()
        poll.register(sys.stdin.fileno(), select.POLLIN)
        poll.register(terminal.wakeup.fileno(), select.POLLIN)
        self._watched.question.wait(poll.register)
        if self._explain is not None:
            self._explain.wait(poll.register)
        seconds = ESCAPE if self._typed else EVERY / 2
        for descriptor, events in poll.poll(seconds * 1000):
            if descriptor == sys.stdin.fileno():
                data = os.read(descriptor, 4096) if events & select.POLLIN else b""
                if not data:  # the terminal is gone
                    self._ended = signal.SIGHUP
                self._typed += self._decoder.decode(data)
                self._typed_at = time.monotonic()

    def _obey(self, terminal: Terminal) -> None:
        for number in terminal.signals():
            match number:
                case signal.SIGTSTP:
                    terminal.stop()
                case signal.SIGCONT:
                    terminal.retake()
                case signal.SIGWINCH:
                    terminal.forget()
                case _:
                    self._ended = number
        pressed, self._typed = keys(self._typed, time.monotonic() - self._typed_at >= ESCAPE)
        for key in pressed:
            told = self._watched.node
            names = [] if told is None else [pmd.name for pmd in rows(told, self._view)]
            self._view = press(self._view, key, names)
        self._ask_to_explain()

    def _ask_to_explain(self) -> None:
        """Ask for the explanation that is open, and for none else."""
        wanted = self._view.about if self._view.open is Open.EXPLAIN else None
        if self._explain is not None and (wanted is None or not self._explain.asks(wanted)):
            self._explain.close()
            self._explain = None
        if wanted is not None and self._explain is None:
            self._explain = Question(partial(daemon_socket, dirs.rundir()), 2 * EVERY, "keepalive/explain", wanted)


def _styled(console: Console, line: screen.Line, width: int) -> str:
    """The line as the terminal takes it, cut to its width in cells: some letters take two."""
    from rich.text import Text  # noqa: PLC0415 - as above

    text = Text(end="", no_wrap=True)
    for part in line:
        text.append(one_line(part.text), STYLES.get(part.style, ""))
    text.truncate(width, overflow="ellipsis")
    with console.capture() as captured:
        console.print(text, end="", soft_wrap=True)
    return captured.get()
