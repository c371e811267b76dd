# SPDX-License-Identifier: Apache-2.0
"""The daemon's own hot upgrade, as the old one sees it: prepare, break, clean up.

The successor is a process of its own, started afresh: it has everything loaded and open before the old one ends its
beat. Whatever it does or fails to do, up to a second after it has taken over, the old one can go on where it was.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import ovs.poller
import ovs.vlog

from ovs_keepalive.beat import moment
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.memory import Memory
from ovs_keepalive.core.model import Transition
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.lasting import LastingBeat
from ovs_keepalive.programs import trust
from ovs_keepalive.publishers.appctl_server import AppctlServer
from ovs_keepalive.publishers.http import WebServer
from ovs_keepalive.publishers.session import Session
from ovs_keepalive.publishers.systemd import Notifier
from ovs_keepalive.relay import VARIABLE, Ended, Line, Lost, Message, in_memory
from ovs_keepalive.shelf import Shelf

log = ovs.vlog.Vlog("upgrade")

PREPARE = 30.0  # seconds in which a successor has to be ready
TAKING = (0.05, 0.5)  # seconds, at least and at most, in which it has to take over: half an interval
ENDING = 0.5  # seconds for which the end of one that was killed is waited for: TAKING is as much at most
LINGER = 1.0  # seconds for which the old daemon stays, to finish its answers and to see that all is well
OF_SYSTEMD = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")  # meant for the old process alone


class Refused(Exception):
    """No upgrade is begun: one line that says why."""


class Parts(NamedTuple):
    """What of the daemon is handed over or stopped."""

    beat: LastingBeat
    shelf: Shelf
    session: Session
    appctl: AppctlServer
    web: WebServer | None
    notifier: Notifier
    control: Path  # the control socket
    memory: Callable[[], Memory]
    is_idle: Callable[[], bool]  # nothing is under way that would be cut off
    is_stopping: Callable[[], bool]
    claim: Callable[[], None]  # put the pidfile in its place again


class _Successor(NamedTuple):
    """One that was started."""

    process: subprocess.Popen[bytes]
    line: Line
    said: BinaryIO  # what it said on stderr before it could speak on the line
    until: float  # monotonic: when it has to be ready


class Upgrade:
    """One at a time. run() and wait() belong to the main loop."""

    def __init__(self, parts: Parts) -> None:
        self.fact = ""  # for keepalive/status: how the last one went
        self._parts = parts
        self._successor: _Successor | None = None
        self._ready = False

    def begin(self, python: str | None) -> int:
        """Start a successor; its pid. python: another interpreter than this one's. Raises Refused."""
        if self._successor is not None:
            pid = self._successor.process.pid
            raise Refused(f"an upgrade is under way, successor pid {pid}: wait until it is over")
        if python is not None and (why := trust.of_interpreter(python, os.geteuid())):
            raise Refused(f"PYTHON {why}")
        memory = self._parts.memory()
        try:
            self._successor = successor = _start(python or sys.executable, memory.at.mono + PREPARE)
        except OSError as error:
            raise Refused(f"{python or sys.executable}: {error.strerror}: no successor started") from error
        pid, self._ready = successor.process.pid, False
        self.fact = f"under way: successor pid {pid} prepares"
        log.info(self.fact)
        try:
            _tell(successor, Message("sample"), [in_memory("sample", self._parts.shelf.encoded(memory))])
        except Lost as lost:
            self._fail(successor, str(lost))
        return pid

    def run(self, now: float) -> None:
        """Go on with what is under way; does not come back when the successor has taken over. now: monotonic."""
        successor = self._successor
        if successor is None:
            return
        try:
            if not self._ready:
                self._ready = self._is_ready(successor, now)
            if self._ready and self._parts.is_idle():
                self._break(successor)
        except (Lost, OSError) as error:
            self._fail(successor, str(error))

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for it."""
        if self._successor is not None:
            poller.fd_wait(self._successor.line.fileno(), ovs.poller.POLLIN)
            poller.timer_wait(10 if self._ready else 1000)

    def cancel(self) -> None:
        """The daemon ends: its successor with it."""
        if self._successor is not None:
            self._fail(self._successor, "the daemon was stopped")

    # --- the phases ----------------------------------------------------------------------------

    def _is_ready(self, successor: _Successor, now: float) -> bool:
        """Raises Lost when it never will be."""
        if now >= successor.until:
            raise Lost(f"it was not ready within {PREPARE:g} s")
        return successor.line.has_news() and _told(successor, "ready", 0.0)

    def _break(self, successor: _Successor) -> None:
        """The beat ends here and goes on there. Raises Lost, OSError as long as nothing but the beat was let go."""
        parts = self._parts
        interval = parts.memory().asked.interval_ms / 1000
        if not parts.beat.leave():
            raise Lost("the beat could not be left")
        ended = moment().mono
        control = os.dup(parts.appctl.listener.fileno())
        handed = [in_memory("state", parts.shelf.encoded(parts.memory())), control]
        web = parts.web.listener if parts.web is not None else None
        if web is not None:
            handed.append(os.dup(web[1].fileno()))
        asked = web[0] if web is not None else ""
        _tell(successor, Message("state", at=ended, control=str(parts.control), web=asked), handed)
        _told(successor, "taken", min(max(TAKING[0], interval / 2), TAKING[1]))
        try:
            parts.appctl.rests = True
            if parts.web is not None:
                parts.web.rest(rests=True)
            parts.session.let_go()
            parts.notifier.main_is(successor.process.pid)
            _tell(successor, Message("yours"), [])
            self._linger(successor)
        except (Lost, OSError) as error:
            self._take_back(successor, f"after it had taken over: {error}")

    def _linger(self, successor: _Successor) -> None:
        """Finish the answers, and see the successor through; ends this process. Raises Lost, OSError."""
        parts, until, done = self._parts, moment().mono + LINGER, False
        while (now := moment().mono) < until:
            poller = ovs.poller.Poller()
            poller.fd_wait(successor.line.fileno(), ovs.poller.POLLIN)
            parts.appctl.wait(poller)
            poller.timer_wait(50)
            poller.block()
            parts.appctl.run(now)
            parts.session.run(moment())
            if parts.is_stopping():  # whoever stops the daemon means the new one now
                successor.process.send_signal(signal.SIGTERM)
                os._exit(0)
            if successor.line.has_news():
                done = _told(successor, "done", 0.0)
        if not done:
            raise Lost(f"it was not done within {LINGER:g} s")
        log.info(f"handed over to pid {successor.process.pid}")
        os._exit(0)  # no hook of python-ovs runs: it would unlink what is the successor's now

    def _take_back(self, successor: _Successor, why: str) -> None:
        parts = self._parts
        _end(successor)
        parts.session.take_back()
        parts.notifier.main_is(os.getpid())
        parts.claim()
        parts.appctl.rests = False
        if parts.web is not None:
            parts.web.rest(rests=False)
        self._go_on(successor, why)

    def _fail(self, successor: _Successor, why: str) -> None:
        _end(successor)
        self._go_on(successor, why)

    def _go_on(self, successor: _Successor, why: str) -> None:
        """Nobody beats but this daemon from here on."""
        successor.line.close()
        successor.said.seek(0)
        words = [line for line in successor.said.read().decode(errors="replace").splitlines() if line.strip()]
        successor.said.close()
        self._successor = None
        pid = successor.process.pid
        self._parts.control.with_name(f"ovs-keepalive.{pid}.ctl").unlink(missing_ok=True)
        self._parts.beat.beat_on()
        because = f"{why}: {short(words[-1], 300)}" if words and not self._ready else why
        self.fact = one_line(f"failed: successor pid {pid}: {because}")
        log.warn(f"upgrade {self.fact}: this daemon goes on")
        self._parts.session.note(Transition(moment(), "daemon", "upgrade", "failed", "none", because))


def _start(python: str, until: float) -> _Successor:
    """Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said = os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "w+b", buffering=0)
    stderr = os.dup(2)
    environment = {name: value for name, value in os.environ.items() if name not in OF_SYSTEMD}
    environment[VARIABLE] = f"{theirs.fileno()},{stderr}"
    # -P: what lies in the directory in which the daemon was started is no code of ours.
    argv = [python, "-P", "-m", "ovs_keepalive", *sys.argv[1:]]
    try:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stderr=said, pass_fds=(theirs.fileno(), stderr)
        )
    except OSError:
        ours.close()
        said.close()
        raise
    finally:
        theirs.close()
        os.close(stderr)
    return _Successor(process, Line(ours), said, until)


def _end(successor: _Successor) -> None:
    """Let it do nothing any more. Not waited for without end: meanwhile nobody may beat."""
    successor.process.kill()
    # Where the kernel holds it, it is dead all the same: it runs no code of its own again. subprocess reaps it then,
    # whenever the daemon starts its next child.
    with suppress(subprocess.TimeoutExpired):
        successor.process.wait(ENDING)


def _tell(successor: _Successor, message: Message, descriptors: list[int]) -> None:
    """Say it with these descriptors, which are closed here. Raises Lost."""
    try:
        successor.line.say(message, descriptors)
    except Ended as ended:
        raise _explained(successor, ended) from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _told(successor: _Successor, wanted: str, seconds: float) -> bool:
    """True when it says so within that time. Raises Lost, also when it says anything else."""
    try:
        message, _ = successor.line.hear(seconds)
    except Ended as ended:
        raise _explained(successor, ended) from None
    if message.say != wanted:
        raise Lost(message.why or f"it said {message.say!r} before {wanted!r}")
    return True


def _explained(successor: _Successor, ended: Ended) -> Lost:
    try:
        return Lost(f"it ended with status {successor.process.wait(1.0)}")
    except subprocess.TimeoutExpired:  # it has hung up, and is there
        return ended
