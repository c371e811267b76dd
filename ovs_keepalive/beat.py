# SPDX-License-Identifier: Apache-2.0
"""The keepalive thread: look, judge, post. Nothing slow ever runs here, and nothing else touches the beat."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from pathlib import Path

from ovs_keepalive.core import heartbeat, vswitchd
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
    ThreadLook,
)
from ovs_keepalive.formats import procfs
from ovs_keepalive.sensors.questions import Answers, Kind, Questions
from ovs_keepalive.sensors.threads import ThreadSensor
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor

LOOKS = 5  # per interval
SHORTEST, LONGEST = 0.002, 1.0  # seconds between two looks
WHOLE = 1.0  # seconds; between two looks that bring everything, while nothing but progress is seen
ANEW = 3.0  # seconds, at most, between two readings of every thread's run time
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
    _last_look: float
    _wholly: bool  # whether the present look brings everything
    _restless: bool  # something else than progress was seen: the next look has to
    _last_whole: float  # the last look at which everything was looked at, /proc too …
    _asked_rxqs: float
    _read_all: float  # … and at which every thread was read anew
    _seen: Seen[tuple[ThreadLook, ...]] | NotSeen | None  # threads looked at, to be judged with the next answer
    _soon: float  # when a fresh look could move a state
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
        self._poll = select.poll()
        self._polled: tuple[int | None, bool, int | None] | None = None  # what it is registered for
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
            rung: frozenset[int] = frozenset()
            planned = time.monotonic()
            while not self._stopping:
                now = moment()
                if not rung and now.mono - planned > LATE:
                    self._blind_seconds += now.mono - planned
                if self._wanted is not self._settings:
                    self._adopt(self._wanted, now)
                if self._settings.enabled:
                    self._turn(now, rung)
                self._post(now)
                planned = self._next_wake()
                rung = self._sleep(planned)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main loop ends the process for it
            self.failure = error
            self._slot.put(None)

    def _sleep(self, until: float) -> frozenset[int]:
        """Wait for the time or an event; the descriptors that rang."""
        questions = self._questions
        answer = questions.fileno() if questions is not None else None
        sending = questions is not None and questions.sending
        wanted = (answer, sending, self._who.fileno())
        if wanted != self._polled:
            self._polled = wanted
            self._poll = select.poll()
            self._poll.register(self._wake, select.POLLIN)
            if answer is not None:
                self._poll.register(answer, select.POLLIN | (select.POLLOUT if sending else 0))
            if wanted[2] is not None:
                self._poll.register(wanted[2], select.POLLIN)
        rung = self._poll.poll(max(0.0, until - time.monotonic()) * 1000.0)
        if not rung:
            return frozenset()
        descriptors = frozenset(descriptor for descriptor, _ in rung)
        if self._wake in descriptors:
            os.eventfd_read(self._wake)
        return descriptors

    def _next_wake(self) -> float:
        if not self._settings.enabled:
            return self._posted + LONGEST
        # Not more often than this: while nothing can be proven the next moment stays in the past.
        wake = min(self._next_tick, max(self._soon, self._last_look + self._period / 4))
        if self._questions is not None and self._questions.busy and self._last_look <= self._questions.asked:
            wake = min(wake, self._questions.asked + self._grace)
        return wake

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self, now: Moment, rung: frozenset[int]) -> None:
        due = self._is_due(now.mono)
        if not due and not rung:
            return
        ended, other = None, False
        if due or self._who.fileno() in rung:
            found, ended = self._who.look(now, self._is_overdue(now.mono))
            other = self._turn_to(found)
        if self._process is None:
            looks = Looks(now, None, ended)
        else:
            looks = self._look(now, self._process, ended, due, rung)
            if looks.main is None and not other:
                return  # asked, and nothing has come yet
        self._register = heartbeat.judge(self._register, looks, self._settings, self._effective, self._period)
        self._soon = heartbeat.next_look(self._register, self._effective)
        if self._process is not None:
            self._blind = vswitchd.blind(looks, self._blind)
        self._restless = self._soon < math.inf or not (self._wholly or self._register.steady)
        if self._register.steady:
            return
        rested = (
            now.mono - self._asked_rxqs >= self._period / 2
        )  # an answer that does not come is not asked for in a loop
        if self._questions is not None and rested and heartbeat.wants_rxqs(self._register, self._effective, now.mono):
            if not self._questions.busy:
                self._asked_rxqs = now.mono
            self._questions.ask(Kind.RXQS, now)

    def _is_overdue(self, now: float) -> bool:
        return self._questions is not None and self._questions.silent(now) >= self._grace

    def _is_due(self, now: float) -> bool:
        if now >= self._next_tick:
            self._next_tick += self._period * ((now - self._next_tick) // self._period + 1)
            return True
        if self._questions is not None and self._is_overdue(now) and self._last_look <= self._questions.asked:
            return True  # its answer has just become overdue: from here on /proc has to prove what it can
        return now >= self._soon and now >= self._last_look + self._period / 4

    def _turn_to(self, found: Seen[Process] | NotSeen) -> bool:
        """Look at this process from now on; True if it is another one."""
        process = found.value.id if isinstance(found, Seen) else None
        if isinstance(found, NotSeen):
            self._blind = (found.why,)
        if process == self._process:
            return False
        if self._questions is not None:
            self._questions.close()
        self._questions = Questions(found.value.control_socket) if isinstance(found, Seen) else None
        self._process = process
        self._threads.attach(process)
        self._last_whole = self._read_all = self._asked_rxqs = 0.0
        self._seen = None
        return True

    def _look(self, now: Moment, process: ProcessId, ended: Ended | None, due: bool, rung: frozenset[int]) -> Looks:
        """What this turn brings; without a main look it brings nothing yet."""
        questions = self._questions
        if questions is None:
            return Looks(now, process, ended)
        answers = questions.receive(now) if questions.fileno() in rung else Answers()
        if due:
            self._last_look = now.mono
            self._looks += 1
            due_whole = now.mono - self._last_whole >= WHOLE - self._period / 2
            self._wholly = self._restless or due_whole or self._is_overdue(now.mono)
            if self._wholly:
                self._last_whole = now.mono
                self._seen = self._look_at_threads(now, self._is_overdue(now.mono))
            answers = answers.or_else(questions.ask(Kind.COUNTERS, now, self._wholly))
        if isinstance(answers.counters, NotSeen):
            self._looks_failed += 1
        elif answers.counters is not None:
            self._stretch(questions.cost)
        silent = questions.silent(now.mono)
        if silent < self._grace:
            silent = 0.0
            if answers.is_empty:
                return Looks(now, process, ended)
        main = MainLook(self._main_state(process) if silent else "S", silent, questions.answered)
        threads, self._seen = self._seen, None
        return Looks(now, process, ended, main, threads, answers.counters, answers.rxqs)

    def _look_at_threads(self, now: Moment, silent: bool) -> Seen[tuple[ThreadLook, ...]] | NotSeen:
        anew = silent or now.mono - self._read_all >= min(3 * self._effective, ANEW) - self._period / 2
        if anew:
            self._read_all = now.mono
        suspects = heartbeat.suspects(self._register)
        if self._questions is not None and self._questions.silent(now.mono) > self._period / 2:
            suspects = frozenset(id.tid for id in self._register.pmds)  # before that a plain look is base enough
        return self._threads.look(now, anew, suspects)

    def _main_state(self, process: ProcessId) -> str:
        path = self._proc / str(process.pid) / "stat"
        try:
            return procfs.parse_stat(path.read_text(errors="replace")).state
        except (OSError, ValueError):  # it ends this moment: the pidfd tells
            return "?"

    # --- settings and time ---------------------------------------------------------------------

    def _begin(self, now: Moment) -> None:
        """Start to watch afresh."""
        self._register, self._blind, self._told = heartbeat.EMPTY, (), ()
        self._enabled_at, self._next_tick = now, now.mono
        self._last_look = self._last_whole = self._read_all = self._asked_rxqs = self._posted = 0.0
        self._soon, self._seen = math.inf, None
        self._wholly = self._restless = True

    def _adopt(self, settings: Settings, now: Moment) -> None:
        was, self._settings = self._settings, settings
        if settings.enabled != was.enabled:
            self._turn_to(NotSeen(now, "not looked for yet"))
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

    @property
    def _grace(self) -> float:
        """Seconds after which an answer is overdue: an idle main thread takes a third of a millisecond."""
        return max(SHORTEST, self._period / 20)

    @staticmethod
    def _period_of(interval: float) -> float:
        return max(SHORTEST, min(interval / LOOKS, LONGEST))

    # --- post ----------------------------------------------------------------------------------

    def _post(self, now: Moment) -> None:
        register = self._register
        told = (register.version, self._settings, self._blind)
        fresh = now.mono - self._posted < min(self._effective, LONGEST) - self._period / 2
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
