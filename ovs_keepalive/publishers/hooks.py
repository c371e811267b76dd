# SPDX-License-Identifier: Apache-2.0
"""Runs the operator's own programs when a state changes: the alarm of a host that has no monitoring system.

Belongs to the main loop; nothing here waits. One program at a time, never through a shell, the facts in its
environment; what it prints goes to the log, bounded, and it is killed with its process group when it takes too long.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import stat
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import ovs.poller
import ovs.vlog

from ovs_keepalive import __version__
from ovs_keepalive.core.health import judge
from ovs_keepalive.core.model import Moment, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import summary, tables
from ovs_keepalive.formats.plain import one_line, short

log = ovs.vlog.Vlog("hooks")

LONGEST = 10.0  # seconds that a hook may take
QUEUE = 100  # changes that wait; of more the oldest are dropped
FAREWELL = 2.0  # seconds that a clean stop waits for the hook that runs
PRINTED = 1500  # bytes of what a hook prints that go to the log; the rest is read and dropped …
LOOK = 0.1  # … so often, 64 KB each time: one that prints without end is slowed down, the main loop is not (seconds)
PIPE = 1 << 16  # bytes
LONGEST_FACT = 2000  # characters

PREFIX = "OVS_KEEPALIVE_"
# What speaks to systemd in our name.
OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
# 10-mail
NAME = re.compile(r"[A-Za-z0-9_-]+")

OKAY = frozenset({State.UNUSED, State.ALIVE, State.SLEEP, VswitchdState.RUNNING})
WARNING = frozenset({State.MISSING, VswitchdState.STARTING, VswitchdState.RESTARTING})


def severity(state: str) -> str:
    """How bad a state of a PMD or of vswitchd is, in the words that collectd has too."""
    return "okay" if state in OKAY else "warning" if state in WARNING else "failure"


def is_told(transition: Transition) -> bool:
    """Whether hooks are run for it: not for what is well before and after, as a PMD that is registered or leaves."""
    return {severity(transition.old), severity(transition.new)} != {"okay"}


def facts(transitions: Sequence[Transition], snapshot: Snapshot) -> Iterator[dict[str, str]]:
    """What hooks are told of each, by the names of their environment. Other people's text is one line, and bounded."""
    pmds = {pmd.name: pmd for pmd in snapshot.pmds}
    health, in_short = judge(snapshot), summary.line(snapshot)
    for transition in transitions:
        pmd = pmds.get(transition.who)
        said = {
            "WHO": transition.who,
            "FROM": transition.old,
            "TO": transition.new,
            "CAUSE": transition.cause,
            "EVIDENCE": transition.evidence,
            "AT": str(transition.at.wall_ms),
            "SEVERITY": severity(transition.new),
            "HEALTH": health,
            "SUMMARY": in_short,
            "CORE": "" if pmd is None else str(pmd.core),
            "RXQS": "" if pmd is None else tables.rxqs(pmd),
            "VERSION": __version__,
        }
        yield {f"{PREFIX}{name}": short(one_line(str(value)), LONGEST_FACT) for name, value in said.items()}


def programs(directory: Path) -> tuple[list[Path], dict[Path, str]]:
    """What is to be run of a directory, in the order of the names; and what is not, with the reason and the cure."""
    try:
        for place in (directory, *directory.parents):
            found = place.stat()
            if why := _why_not_trusted(found, sticky=place != directory):
                return [], {place: why}
        entries = sorted(directory.iterdir())
    except OSError as error:
        return [], {directory: f"{error.strerror}: make it, or let hooks: name another directory"}
    refused = {path: why for path in entries if (why := _why_not_run(path))}
    return [path for path in entries if path not in refused], refused


def objection(program: Path) -> str:
    """Why a program that was named by itself is not run, with the thing and the cure; "" if it may be."""
    try:
        for place in program.parents:
            if why := _why_not_trusted(place.stat(), sticky=True):
                return f"{place}: {why}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}: name a program that is there"
    why = _why_no_program(program)
    return f"{program}: {why}" if why else ""


def _why_not_run(path: Path) -> str:
    if not NAME.fullmatch(path.name):
        return "only letters, digits, - and _ may be in the name of a hook: rename it"
    return _why_no_program(path)


def _why_no_program(path: Path) -> str:
    try:
        found = path.lstat()
    except OSError as error:  # taken away this moment
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "no regular file: put the program itself there"
    if why := _why_not_trusted(found, sticky=False):
        return why
    return "" if os.access(path, os.X_OK) else "not executable for this user: chmod +x"


def _why_not_trusted(found: os.stat_result, *, sticky: bool) -> str:
    """Whether somebody else could have put it there. sticky: others may write there, but not take away."""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}: chown root"
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not (sticky and found.st_mode & stat.S_ISVTX):
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o}): chmod go-w"
    return ""


class _Run:
    """One hook under way."""

    def __init__(self, path: Path, told: Mapping[str, str], until: float) -> None:
        """until: monotonic; it is killed then. Raises OSError when it cannot be started."""
        self.name = path.name
        self.about = f"{told[PREFIX + 'WHO']} {told[PREFIX + 'FROM']} -> {told[PREFIX + 'TO']}"
        self.until = until
        self.killed = False
        self._text = b""
        self._more = False
        self._due = 0.0  # monotonic: when it is read again
        inherited = {name: value for name, value in os.environb.items() if name.decode(errors="replace") not in OURS}
        environment = {**inherited, **{name.encode(): value.encode() for name, value in told.items()}}
        self._output, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._output, False)
            self._process = subprocess.Popen(
                [os.fspath(path)], env=environment, cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=theirs, stderr=theirs,
            )  # fmt: skip
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        if os.sched_getscheduler(0) != os.SCHED_OTHER:  # SCHED_RR of the unit is for the beat alone
            with suppress(OSError):  # a hook that is preferred is better than none
                os.sched_setscheduler(self._process.pid, os.SCHED_OTHER, os.sched_param(0))
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:  # a kernel before 5.3: its end is seen at the next look
            self.pidfd = -1

    @property
    def has_ended(self) -> bool:
        """Whether it has; it stays a zombie until finish(), so that its number is nobody else's."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def look(self, now: float) -> None:
        """Take what it has printed, if that is due. now: monotonic seconds."""
        if now >= self._due:
            self._due = now + LOOK
            self._read()

    def _read(self) -> None:
        try:
            part = os.read(self._output, PIPE)
        except BlockingIOError:
            return
        self._more |= len(self._text) + len(part) > PRINTED
        self._text = (self._text + part)[:PRINTED]

    def kill(self) -> None:
        """End it with all that it started, but for what made a session of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self) -> int:
        """After its end, which is also that of what it left in its group. Its exit status; negative: a signal."""
        self.kill()
        self._read()
        os.close(self._output)
        if self.pidfd >= 0:
            os.close(self.pidfd)
        return self._process.wait()

    @property
    def printed(self) -> str:
        """What it printed, in one line; "" for nothing."""
        said = " | ".join(self._text.decode(errors="replace").split("\n")).strip(" |")
        return f"printed more than {PRINTED} bytes, at first: {said}" if self._more else said


class Hooks:
    """Gets every snapshot of the main loop. directory: "" for none; a reload sets another one."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._last: Moment | None = None  # the newest transition that was taken
        self._queue: deque[dict[str, str]] = deque()
        self._told: dict[str, str] = {}  # the facts of the change under way …
        self._next: list[Path] = []  # … and the hooks that are still to be run for it
        self._running: _Run | None = None
        self._refused: dict[Path, str] = {}
        self._repeats = Repeats()
        self._runs = self._failed = self._dropped = 0

    @property
    def fact(self) -> str:
        """For `keepalive/status`."""
        if not self.directory:
            return "none"
        now = f", {self._running.name} runs" if self._running is not None else ""
        refused = "".join(f"; {path}: {why}" for path, why in self._refused.items())
        return (
            f"{self.directory}, {self._runs} runs, {self._failed} failed, {self._dropped} changes dropped{now}{refused}"
        )

    @property
    def is_idle(self) -> bool:
        """Whether none runs or waits."""
        return self._running is None and not self._next and not self._queue

    def go_on_from(self, told: Moment) -> None:
        """Up to then an earlier daemon has run them."""
        self._last = told

    def publish(self, snapshot: Snapshot) -> None:
        """Take what has changed since the last snapshot."""
        last, history = self._last, snapshot.history
        self._last = history[-1].at if history else last
        if not self.directory or self._last == last:
            return
        new = [transition for transition in history if (last is None or transition.at > last) and is_told(transition)]
        too_many = max(0, len(self._queue) + len(new) - QUEUE)
        self._queue.extend(facts(new[-QUEUE:], snapshot))
        while len(self._queue) > QUEUE:
            self._queue.popleft()
        if too_many:
            self._dropped += too_many
            why = f"more than {QUEUE} changes wait for their hooks: the {too_many} oldest are dropped"
            self._say("dropped", why, snapshot.at.mono)

    def run(self, now: float) -> None:
        """One turn of the main loop, in which at most one hook is started. now: monotonic seconds."""
        if self._running is not None:
            self._attend(self._running, now)
        if self._running is not None:
            return
        if not self._next and self._queue:
            self._told = self._queue.popleft()
            self._next = self._programs(now)
        if self._next:
            self._start(self._next.pop(0), now)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for the end of a hook, and for what it prints."""
        if self._running is not None:
            if self._running.pidfd >= 0:
                poller.fd_wait(self._running.pidfd, ovs.poller.POLLIN)
            poller.timer_wait(round(LOOK * 1000))
        elif self._next or self._queue:
            poller.immediate_wake()

    def close(self) -> None:
        """Give the hook that runs a moment to end; what waits is dropped."""
        waiting = len(self._queue) + bool(self._next)
        if waiting:
            log.warn(f"the daemon ends: {waiting} changes are told to no hook any more")
        self._queue.clear()
        self._next.clear()
        run = self._running
        if run is None:
            return
        if not _ends_within(run, FAREWELL):
            log.warn(f"hook {run.name}: killed, since the daemon ends")
            run.kill()
        if _ends_within(run, FAREWELL):
            run.finish()
        self._running = None

    def _programs(self, now: float) -> list[Path]:
        """The hooks as they are in the directory now; why one is not run is told when it is news."""
        if not self.directory:  # a reload has taken it away
            return []
        found, refused = programs(Path(self.directory))
        for path, why in refused.items():
            if self._refused.get(path) != why:
                self._say(f"refused {path}", f"{path}: {why}: not run", now)
        self._refused = refused
        return found

    def _start(self, path: Path, now: float) -> None:
        self._runs += 1
        try:
            self._running = _Run(path, self._told, now + LONGEST)
        except OSError as error:
            self._failed += 1
            cure = "its first line has to name its interpreter, as #!/bin/sh" if error.errno == errno.ENOEXEC else ""
            why = f"{error.strerror}: {cure}" if cure else str(error.strerror)
            self._say(f"start {path.name}", f"hook {path.name}: could not be started: {why}", now)

    def _attend(self, run: _Run, now: float) -> None:
        run.look(now)
        if not run.has_ended:
            if now >= run.until and not run.killed:
                run.killed = True
                run.kill()
            return
        status = run.finish()
        self._running = None
        name = f"hook {run.name}"
        if run.printed:
            self._say(f"printed {run.name}", f"{name}: {one_line(run.printed)}", now, bad=False)
        if run.killed or status:
            self._failed += 1
            took = f"took more than {LONGEST:g} s: killed"
            why = took if run.killed else f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
            self._say(f"failed {run.name}", f"{name}: {why}, for {run.about}", now)
        else:
            self._say(f"ran {run.name}", f"{name}: ran for {run.about}", now, bad=False)

    def _say(self, kind: str, text: str, now: float, *, bad: bool = True) -> None:
        if line := self._repeats.line(kind, text, now):
            (log.warn if bad else log.info)(line)


def _ends_within(run: _Run, seconds: float) -> bool:
    """Whether a hook ends in this time; without a pidfd there is no waiting for it."""
    if run.pidfd >= 0 and not run.has_ended:
        poll = select.poll()
        poll.register(run.pidfd, select.POLLIN)
        poll.poll(seconds * 1000)
    return run.has_ended
