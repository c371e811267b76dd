# SPDX-License-Identifier: Apache-2.0
"""The keepalive thread: look, judge, post. Nothing slow ever runs here, and nothing else touches the beat."""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path

from ovs_keepalive.core import heartbeat, observe, vswitchd
from ovs_keepalive.core.model import (
    Ended,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    ProcessId,
    Seen,
    Settings,
    Snapshot,
)
from ovs_keepalive.formats import procfs
from ovs_keepalive.sensors.questions import Answers, Kind, Questions
from ovs_keepalive.sensors.threads import ThreadSensor
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

LOOKS = 5  # per interval
SHORTEST, LONGEST = 0.002, 1.0  # seconds between two looks
LATE = 0.01  # seconds; a tick later than this was blind time of the daemon itself


def moment() -> Moment:
    """Now, on both clocks."""
    return Moment(time.monotonic(), time.time_ns() // 1_000_000)


class Slot:
    """Where the beat leaves its newest snapshot: newest wins, nothing queues. fileno() turns readable."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._snapshot: Snapshot | None = None

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._event

    def put(self, snapshot: Snapshot | None) -> None:
        """Leave a snapshot and ring; None rings only."""
        if snapshot is not None:
            self._snapshot = snapshot
        os.eventfd_write(self._event, 1)

    def take(self) -> Snapshot | None:
        """The newest snapshot, once."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return None
        snapshot, self._snapshot = self._snapshot, None
        return snapshot


class Beat:
    """One thread that looks five times an interval, judges at once, and posts what changed."""

    _register: heartbeat.Register
    _blind: tuple[str, ...]  # what cannot be seen now
    _enabled_at: Moment
    _next_tick: float
    _last_look: float  # when /proc was looked at …
    _read_all: float  # … and when every thread was read
    _posted: float
    _told: tuple[object, ...]  # what the last snapshot said, as far as a change of it is news

    def __init__(self, who: VswitchdSensor, settings: Settings, slot: Slot, proc: Path = Path("/proc")) -> None:
        self.failure: BaseException | None = None  # what ended the thread, if it was not stop()
        self._who = who
        self._proc = proc
        self._threads = ThreadSensor(proc)
        self._slot = slot
        self._settings = self._wanted = settings
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._effective = settings.interval
        self._period = self._period_of(settings.interval)
        self._process: ProcessId | None = None
        self._questions: Questions | None = None
        self._seq = self._looks = self._looks_failed = 0
        self._blind_seconds = 0.0
        self._begin(moment())

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, at the latest after one look."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def change(self, settings: Settings) -> None:
        """Take other settings from the next turn on."""
        self._wanted = settings
        os.eventfd_write(self._wake, 1)

    # --- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            planned = time.monotonic()
            while not self._stopping:
                now = moment()
                late = now.mono - planned
                if late > LATE:
                    self._blind_seconds += late
                if self._wanted is not self._settings:
                    self._adopt(self._wanted, now)
                if self._settings.enabled:
                    self._turn(now)
                self._post(now)
                planned = self._next_wake()
                if not self._sleep(planned):
                    planned = time.monotonic()
        except BaseException as error:
            # The main loop ends the process: a daemon without a heartbeat must not look healthy.
            self.failure = error
            self._slot.put(None)

    def _sleep(self, until: float) -> bool:
        """Wait for an event or the time; True when the time came."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._questions is not None and (answer := self._questions.fileno()) is not None:
            poll.register(answer, select.POLLIN | (select.POLLOUT if self._questions.sending else 0))
        if (end := self._who.fileno()) is not None:
            poll.register(end, select.POLLIN)
        events = poll.poll(max(0.0, until - time.monotonic()) * 1000.0)
        if any(descriptor == self._wake for descriptor, _ in events):
            os.eventfd_read(self._wake)
        return not events

    def _next_wake(self) -> float:
        if not self._settings.enabled:
            return self._posted + LONGEST
        wake = self._next_tick
        soon = heartbeat.next_look(self._register, self._effective)
        if soon is not None:
            # Not more often than this: while nothing can be proven the moment stays in the past.
            wake = min(wake, max(soon, self._last_look + self._period / 4))
        return wake

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self, now: Moment) -> None:
        tick = now.mono >= self._next_tick
        due = tick or self._is_due(now.mono)
        if tick:
            missed = (now.mono - self._next_tick) // self._period
            self._next_tick += self._period * (missed + 1)
        found, ended = self._who.look(now)
        if isinstance(found, Seen):
            process: ProcessId | None = found.value.id
            if self._questions is None or process != self._process:
                self._turn_to(process, Questions(found.value.control_socket))
        else:
            process = None
            self._turn_to(None, None)
        looks = self._look(now, process, ended, due)
        self._register = heartbeat.judge(self._register, looks, self._settings, self._effective, self._period)
        if not isinstance(found, Seen):
            self._blind = (found.why,)
        elif due or looks.counters is not None:
            self._blind = self._told_blind(looks)
        if self._questions is not None and heartbeat.wants_rxqs(self._register, self._effective, now.mono):
            self._questions.ask(Kind.RXQS, now)

    def _turn_to(self, process: ProcessId | None, questions: Questions | None) -> None:
        if self._questions is not None:
            self._questions.close()
        self._process, self._questions = process, questions
        self._threads.attach(process)

    def _is_due(self, now: float) -> bool:
        soon = heartbeat.next_look(self._register, self._effective)
        return soon is not None and now >= soon and now >= self._last_look + self._period / 4

    def _look(self, now: Moment, process: ProcessId | None, ended: Ended | None, due: bool) -> Looks:
        questions = self._questions
        if process is None or questions is None:
            return Looks(now, process, ended)
        answers = questions.receive(now)
        threads = None
        if due:
            self._last_look = now.mono
            self._looks += 1
            silent = questions.silent(now.mono) > self._period / 2
            anew = silent or now.mono - self._read_all >= min(self._effective, LONGEST)
            if anew:
                self._read_all = now.mono
            threads = self._threads.look(now, anew, self._closely(silent))
            at_once = questions.ask(Kind.COUNTERS, now)
            answers = Answers(at_once.counters or answers.counters, at_once.rxqs or answers.rxqs)
        if isinstance(answers.counters, NotSeen):
            self._looks_failed += 1
        elif answers.counters is not None:
            self._stretch(questions.cost)
        silent_for = questions.silent(now.mono)
        overdue = silent_for if silent_for > self._period / 2 else 0.0
        main = MainLook(self._main_state(process) if overdue else "S", overdue, questions.answered)
        return Looks(now, process, ended, main, threads, answers.counters, answers.rxqs)

    def _closely(self, silent: bool) -> frozenset[int]:
        if silent:
            return frozenset(id.tid for id in self._register.pmds)
        return heartbeat.suspects(self._register)

    def _main_state(self, process: ProcessId) -> str:
        path = self._proc / str(process.pid) / "stat"
        try:
            return procfs.parse_stat(path.read_text(errors="replace")).state
        except (OSError, ValueError):  # it ends this moment: the pidfd tells
            return "?"

    def _told_blind(self, looks: Looks) -> tuple[str, ...]:
        lines = vswitchd.blind(looks)
        if isinstance(looks.counters, Seen) and (cores := observe.shared_cores(looks.counters.value)):
            lines += (f"cores {cores}: PMDs of several datapaths share them, /proc cannot tell which is which",)
        return lines

    # --- settings and time ---------------------------------------------------------------------

    def _begin(self, now: Moment) -> None:
        """Start to watch afresh."""
        self._register, self._blind, self._told = heartbeat.EMPTY, (), ()
        self._enabled_at, self._next_tick = now, now.mono
        self._last_look = self._read_all = self._posted = 0.0

    def _adopt(self, settings: Settings, now: Moment) -> None:
        was, self._settings = self._settings, settings
        if settings.enabled != was.enabled:
            self._turn_to(None, None)
            self._who.close()
            self._begin(now)
        cost = self._questions.cost if self._questions is not None else 0.0
        self._effective = settings.interval
        self._stretch(cost)
        self._next_tick = min(self._next_tick, now.mono + self._period)

    def _stretch(self, cost: float) -> None:
        """Keep the looks' cost to the main thread below its share, by looking less often."""
        settings = self._settings
        wanted = max(self._period_of(settings.interval), min(cost / settings.max_main_share, LONGEST))
        self._effective = max(settings.interval, wanted * LOOKS if wanted < LONGEST else settings.interval)
        self._period = self._period_of(self._effective)

    @staticmethod
    def _period_of(interval: float) -> float:
        return max(SHORTEST, min(interval / LOOKS, LONGEST))

    # --- post ----------------------------------------------------------------------------------

    def _post(self, now: Moment) -> None:
        register = self._register
        told = (
            register.vswitchd.state,
            self._settings,
            [(pmd.id, pmd.state, pmd.cause) for pmd in register.pmds.values()],
            self._blind,
        )
        fresh = now.mono - self._posted < min(self._effective, LONGEST) - SHORTEST
        if fresh and told == self._told:
            return
        self._told, self._posted = told, now.mono
        self._seq += 1
        self._slot.put(
            Snapshot(
                seq=self._seq,
                at=now,
                settings=self._settings,
                effective=self._effective,
                enabled_at=self._enabled_at,
                vswitchd=register.vswitchd,
                pmds=tuple(sorted(register.pmds.values(), key=lambda pmd: (pmd.core, pmd.id.tid))),
                history=register.history,
                blind=self._blind,
                look_cost=self._questions.cost if self._questions is not None else 0.0,
                blind_seconds=self._blind_seconds,
                looks=self._looks,
                looks_failed=self._looks_failed,
            )
        )
