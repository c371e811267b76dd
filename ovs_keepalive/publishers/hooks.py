# SPDX-License-Identifier: Apache-2.0
"""Runs the operator's own programs when a state changes: the alarm of a host that has no monitoring system.

Belongs to the main loop; nothing here waits. One program at a time, never through a shell, the facts in its
environment; what it prints goes to the log, bounded, and it is killed with its process group when it takes too long.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import ovs.poller
import ovs.vlog

from ovs_keepalive import __version__
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.health import judge
from ovs_keepalive.core.model import Moment, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import summary, tables
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.programs import trust
from ovs_keepalive.programs.running import Program, environment, why_not_started

log = ovs.vlog.Vlog("hooks")

LONGEST = 10.0  # seconds that a hook may take
QUEUE = 100  # changes that wait; of more the oldest are dropped
FAREWELL = 2.0  # seconds that a clean stop waits for the hook that runs
PRINTED = 1500  # bytes of what a hook prints that go to the log; the rest is read and dropped …
LOOK = 0.1  # … so often (seconds)
LONGEST_FACT = 2000  # characters

PREFIX = "OVS_KEEPALIVE_"
# What speaks to systemd in our name.
OURS = (b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC", b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES")

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


class Hooks:
    """Gets every snapshot of the main loop. directory: "" for none; a reload sets another one."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._last: Moment | None = None  # the newest transition that was taken
        self._queue: deque[dict[str, str]] = deque()
        self._told: dict[str, str] = {}  # the facts of the change under way …
        self._next: list[Path] = []  # … and the hooks that are still to be run for it
        self._running: Program | None = None
        self._read_at = 0.0  # monotonic: when what it prints is read again
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
    def _about(self) -> str:
        """The change under way, in words."""
        return "{} {} -> {}".format(*(self._told[PREFIX + fact] for fact in ("WHO", "FROM", "TO")))

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
            for descriptor in self._running.ending:
                poller.fd_wait(descriptor, ovs.poller.POLLIN)
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
        if not run.ends_within(FAREWELL):
            log.warn(f"hook {run.name}: killed, since the daemon ends")
            run.kill()
        if run.ends_within(FAREWELL):
            run.finish()
        self._running = None

    def _programs(self, now: float) -> list[Path]:
        """The hooks as they are in the directory now; why one is not run is told when it is news."""
        if not self.directory:  # a reload has taken it away
            return []
        found, refused = trust.of_directory(Path(self.directory))
        for path, why in refused.items():
            if self._refused.get(path) != why:
                self._say(f"refused {path}", f"{path}: {why}: not run", now)
        self._refused = refused
        return found

    def _start(self, path: Path, now: float) -> None:
        self._runs += 1
        inherited = {name: value for name, value in os.environb.items() if name not in OURS}
        try:
            self._running = Program(path, environment(self._told, inherited), now + LONGEST, PRINTED)
        except OSError as error:
            self._failed += 1
            self._say(f"start {path.name}", f"hook {path.name}: could not be started: {why_not_started(error)}", now)

    def _attend(self, run: Program, now: float) -> None:
        if now >= self._read_at:
            self._read_at = now + LOOK
            run.read()
        if not run.has_ended:
            if now >= run.until and not run.was_killed:
                run.kill()
            return
        status = run.finish()
        self._running = None
        name = f"hook {run.name}"
        if said := _printed(run):
            self._say(f"printed {run.name}", f"{name}: {one_line(said)}", now, bad=False)
        if run.was_killed or status:
            self._failed += 1
            took = f"took more than {LONGEST:g} s: killed"
            why = (
                took
                if run.was_killed
                else f"killed by signal {-status}"
                if status < 0
                else f"ended with status {status}"
            )
            self._say(f"failed {run.name}", f"{name}: {why}, for {self._about}", now)
        else:
            self._say(f"ran {run.name}", f"{name}: ran for {self._about}", now, bad=False)

    def _say(self, kind: str, text: str, now: float, *, bad: bool = True) -> None:
        if line := self._repeats.line(kind, text, now):
            (log.warn if bad else log.info)(line)


def _printed(run: Program) -> str:
    """What it printed, in one line; "" for nothing."""
    said = " | ".join(run.printed.decode(errors="replace").split("\n")).strip(" |")
    return f"printed more than {PRINTED} bytes, at first: {said}" if run.printed_more else said
