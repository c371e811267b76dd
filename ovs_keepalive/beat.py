# SPDX-License-Identifier: Apache-2.0
"""The keepalive thread: look, judge, post. Nothing slow ever runs here, and nothing else touches the beat."""

from __future__ import annotations

import math
import select
import threading
import time
from contextlib import suppress
from pathlib import Path

from ovs_keepalive.core import breaks, heartbeat, others, pace, vswitchd
from ovs_keepalive.core.model import (
    Ended,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    Others,
    ProcessId,
    Seen,
    Settings,
    Snapshot,
    ThreadLook,
)
from ovs_keepalive.core.pace import LONGEST, LOOKS, SHORTEST
from ovs_keepalive.core.tally import Tally
from ovs_keepalive.doorbell import Doorbell
from ovs_keepalive.sensors.core_users import CoreUsers
from ovs_keepalive.sensors.questions import NOTHING, Kind, Questions
from ovs_keepalive.sensors.switches import NoSwitches, Switches
from ovs_keepalive.sensors.threads import ThreadSensor
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor
from ovs_keepalive.sensors.vswitchd_log import LogSensor, log_path
from ovs_keepalive.slot import Slot

OTHERS = 10.0  # seconds between two looks at threads that are no PMDs …
OTHERS_SILENT = 1.0  # … while the main thread is silent
WHOLE = 3.0  # seconds; between two looks that bring everything, while nothing but progress is seen
LATE = 0.01  # seconds; a tick later than this was blind time of the daemon itself


def moment() -> Moment:
    """Now, on both clocks."""
    return Moment(time.monotonic(), time.time_ns() // 1_000_000)


class Beat:
    """One thread that looks five times an interval or more, judges at once, and posts what changed."""

    _register: heartbeat.Register
    _blind: tuple[str, ...]  # what cannot be seen now
    _enabled_at: Moment
    _next_tick: float
    _last_look: float
    _wholly: bool  # whether the present look brings everything
    _restless: bool  # something else than progress was seen: the next look has to
    _read_all: float  # the last look at which every thread was read anew
    _asked_rxqs: float
    _read_others: float
    _others: Others
    _seen: Seen[tuple[ThreadLook, ...]] | NotSeen | None  # threads looked at, to be judged with the next answer
    _soon: float  # when a fresh look could move a state
    _off: frozenset[int]  # threads (tids) that rang because they left their CPU, not looked at since
    _called: float  # when to look at them; infinite while there are none
    _posted: float
    _effective: float  # the interval in force, seconds
    _period: float  # seconds between two looks
    _grace: float  # seconds after which an answer is overdue: an idle main thread takes a third of a millisecond
    _told: tuple[object, ...]  # what the last snapshot said, as far as a change of it is news

    def __init__(
        self,
        who: VswitchdSensor,
        settings: Settings,
        slot: Slot,
        proc: Path = Path("/proc"),
        switches: Switches | NoSwitches | None = None,
    ) -> None:
        self.failure: BaseException | None = None  # what ended the thread, if it was not stop()
        self._who = who
        self._proc = proc
        self._threads = ThreadSensor(proc)
        self._switches = switches or NoSwitches("not asked for")
        self._core_users = CoreUsers(proc)
        self._slot = slot
        self._settings = self._wanted = settings
        self._bell = Doorbell()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._stretch(0.0)
        self._process: ProcessId | None = None
        self._questions: Questions | None = None
        self._tally = Tally()
        self._log: LogSensor | None = None  # None: vswitchd writes none
        self._seq = self._looks = self._looks_failed = 0
        self._blind_seconds = self._latest = 0.0
        self._breaks = breaks.Watch()
        self._begin(moment())

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, at the latest after one look."""
        self._stopping = True
        self._core_users.close()
        self._bell.ring()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def change(self, settings: Settings) -> None:
        """Take other settings from the next turn on."""
        self._wanted = settings
        self._bell.ring()

    # --- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(OSError):  # top -H and ps -L show it by this name; Python itself tells the kernel from 3.14 on
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("beat")
        try:
            rung: dict[int, int] = {}
            planned = time.monotonic()
            while not self._stopping:
                now = moment()
                if not rung and now.mono - planned > LATE:
                    self._blind_seconds += now.mono - planned
                    self._latest = max(self._latest, now.mono - planned)
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

    def _sleep(self, until: float) -> dict[int, int]:
        """Wait for the time or an event; the descriptors that rang, and their events."""
        answer = self._questions.awaited if self._questions is not None else (None, 0)
        leaving = ((descriptor, select.POLLIN) for descriptor in self._switches.descriptors)
        return self._bell.wait(until - time.monotonic(), (answer, (self._who.fileno(), select.POLLIN), *leaving))

    def _next_wake(self) -> float:
        if not self._settings.enabled:
            return self._posted + LONGEST
        wake = min(self._next_tick, self._again, self._call)
        if self._questions is not None and self._questions.busy and self._last_look <= self._questions.asked:
            wake = min(wake, self._questions.asked + self._grace)
        return wake

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self, now: Moment, rung: dict[int, int]) -> None:
        if rung and (tids := self._switches.rung(rung, now.mono)):
            self._hear(now.mono, tids)
        overdue = self._questions is not None and self._questions.silent(now.mono) >= self._grace
        due = self._is_due(now.mono, overdue)
        if not due and not rung:
            return
        ended, other = None, False
        # Its end is an event; where it can be told as one, nobody need look for it.
        event = self._who.fileno()
        if event in rung or (due and (event is None or overdue)):
            found, ended = self._who.look(now, overdue)
            other = self._turn_to(found)
            overdue = overdue and not other
        if self._process is None:
            looks = Looks(now, None, ended)
        else:
            looks = self._look(now, self._process, ended, due, overdue, rung)
            if looks.main is None and not other:
                return  # asked, and nothing has come yet
        self._glance(looks)
        self._judge(looks)
        if not self._register.steady and self._process is not None and heartbeat.lacks_base(self._register):
            # The main thread may be silent from now on: what /proc proves then begins here.
            self._judge(Looks(now, self._process, threads=self._look_at_threads(now, anew=False)))
        steady = self._register.steady
        self._soon = math.inf if steady else heartbeat.next_look(self._register, self._effective)
        if self._process is not None and (self._blind or not steady):
            self._blind = vswitchd.blind(looks, self._blind)
        self._restless = self._soon < math.inf or not (self._wholly or steady)
        if not steady:
            self._ask_more(now)

    def _glance(self, looks: Looks) -> None:
        """Keep the run times with each answer; when answers stop, what /proc proves begins with the last one."""
        if looks.iterations is not None or looks.counters is not None:
            self._threads.glance(moment())
        elif looks.main is not None and looks.main.silent and (known := self._threads.glanced()) is not None:
            self._judge(Looks(known.at, self._process, threads=known))

    def _ask_more(self, now: Moment) -> None:
        """What the looks so far have raised: who has a CPU, and which rxqs there are."""
        if starved := heartbeat.starved(self._register, self._effective):
            self._core_users.ask(starved)
            self._restless = True
        # An answer that does not come is not asked for in a loop.
        rested = now.mono - self._asked_rxqs >= self._period / 2
        wanted = breaks.wants_rxqs(self._breaks) or heartbeat.wants_rxqs(self._register, self._effective, now.mono)
        if self._questions is not None and rested and wanted:
            if not self._questions.busy:
                self._asked_rxqs = now.mono
            self._questions.ask(Kind.RXQS, now)

    @property
    def _again(self) -> float:
        """When to look between two ticks, because a state could move."""
        # While nothing can be proven this moment stays in the past: then not more often than this.
        return self._soon if self._soon > self._last_look else self._last_look + self._period / 4

    def _hear(self, now: float, tids: frozenset[int]) -> None:
        """Threads left their CPU: looked at now, as everything else is, their silence begins now if it is one."""
        if off := frozenset(tid for tid in tids if self._threads.is_off(tid)):
            rest = max(self._grace, self._cost / self._settings.max_main_share)
            self._off |= off
            self._called = min(self._called, max(now, self._last_look + rest))

    @property
    def _call(self) -> float:
        """When to look because a thread left its CPU: not while an answer is owed, which may have been read before."""
        questions = self._questions
        if self._called < math.inf and questions is not None and questions.busy:
            return max(self._called, questions.asked + self._grace)
        return self._called

    def _judge(self, looks: Looks) -> None:
        settings, now = self._settings, looks.now
        self._register = heartbeat.judge(self._register, looks, settings, self._effective, self._period)
        self._breaks = breaks.follow(self._breaks, looks, self._register, settings, self._period)
        owed = self._questions is not None and self._questions.busy  # then the answer is what is waited for
        if not owed and breaks.is_urgent(self._breaks, self._register.vswitchd, settings, now):
            self._next_tick = min(self._next_tick, now.mono + max(breaks.FINE, self._cost / settings.max_main_share))

    def _is_due(self, now: float, overdue: bool) -> bool:
        if now >= self._next_tick:
            self._next_tick += self._period * ((now - self._next_tick) // self._period + 1)
            return True
        if self._questions is not None and overdue and self._last_look <= self._questions.asked:
            return True  # its answer has just become overdue: from here on /proc has to prove what it can
        return now >= self._again or now >= self._call

    def _turn_to(self, found: Seen[Process] | NotSeen) -> bool:
        """Look at this process from now on; True if it is another one."""
        process = found.value.id if isinstance(found, Seen) else None
        if isinstance(found, NotSeen):
            self._blind = (found.why,)
        if process == self._process:
            return False
        if self._questions is not None:
            self._questions.close()
        self._questions = Questions(found.value.control_socket, self._tally) if isinstance(found, Seen) else None
        if self._log is not None:
            self._log.close()
        path = log_path(found.value.id.pid, self._proc) if isinstance(found, Seen) else None
        self._log = LogSensor(path) if path is not None else None
        self._process = process
        self._threads.attach(process)
        self._switches.close()
        self._forget()
        return True

    def _forget(self) -> None:
        """Nothing has been seen of the present process yet."""
        self._read_all = self._asked_rxqs = self._read_others = 0.0
        self._others, self._seen = Others(), None
        self._off, self._called = frozenset(), math.inf

    def _look(
        self, now: Moment, process: ProcessId, ended: Ended | None, due: bool, overdue: bool, rung: dict[int, int]
    ) -> Looks:
        """What this turn brings; without a main look it brings nothing yet."""
        questions = self._questions
        if questions is None:
            return Looks(now, process, ended)
        answers = questions.receive(now) if rung and questions.awaited[0] in rung else NOTHING
        if due:
            self._last_look = now.mono
            self._looks += 1
            anew = overdue or now.mono - self._read_all >= WHOLE - self._period / 2
            self._wholly = anew or self._restless or self._called < math.inf
            if self._wholly:
                self._seen = self._look_at_threads(now, anew)
            self._off, self._called = frozenset(), math.inf
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
        answers_now = questions.answered and not questions.unreachable
        main = MainLook(self._who.main_state() if silent else "S", silent, answers_now)
        threads, self._seen = self._seen, None
        if threads is None:
            return Looks(now, process, ended, main, None, *answers)
        log = self._log.look(now) if self._log is not None else None
        if now.mono - self._read_others >= (OTHERS_SILENT if silent else OTHERS) - self._period / 2:
            self._read_others = now.mono
            seen = self._threads.others(now)
            self._others = others.judge(self._others, seen, bool(self._register.pmds)) if seen else Others()
        return Looks(now, process, ended, main, threads, *answers, log=log, core_users=self._core_users.take())

    def _look_at_threads(self, now: Moment, anew: bool) -> Seen[tuple[ThreadLook, ...]] | NotSeen:
        if anew:
            self._read_all = now.mono
        suspects = heartbeat.suspects(self._register)
        if self._questions is not None and self._questions.silent(now.mono) > self._period / 2:
            suspects = frozenset(id.tid for id in self._register.pmds)  # before that a plain look is base enough
        seen = self._threads.look(now, anew, suspects | self._off)
        self._tally.looked(seen=isinstance(seen, Seen))
        self._switches.follow(self._threads.tids, now.mono)
        return seen

    # --- settings and time ---------------------------------------------------------------------

    def _begin(self, now: Moment) -> None:
        """Start to watch afresh."""
        self._register, self._blind, self._told = heartbeat.EMPTY, (), ()
        self._breaks = breaks.forgotten(self._breaks)
        self._enabled_at, self._next_tick = now, now.mono
        self._last_look = self._posted = 0.0
        self._soon = math.inf
        self._forget()
        self._wholly = self._restless = True

    def _adopt(self, settings: Settings, now: Moment) -> None:
        was, self._settings = self._settings, settings
        if settings.enabled != was.enabled:
            self._turn_to(NotSeen(now, "not looked for yet"))
            self._who.close()
            self._begin(now)
        self._stretch(self._cost)
        self._next_tick = min(self._next_tick, now.mono + self._period)

    @property
    def _cost(self) -> float:
        """Seconds of vswitchd's main thread that a look takes, at most; 0.0 while that is not known."""
        return self._questions.cost if self._questions is not None else 0.0

    def _stretch(self, cost: float) -> None:
        """Look less often where that would cost the main thread more than its share, or take a nap for a stall."""
        settings = self._settings
        allowed = min(cost / settings.max_main_share, LONGEST)
        least = max(settings.interval, pace.NAPS * settings.nap)
        self._effective = max(least, allowed * LOOKS)
        self._period = max(pace.period_of(self._effective), allowed)
        self._grace = max(SHORTEST, self._period / 20)

    # --- post ----------------------------------------------------------------------------------

    def _post(self, now: Moment) -> None:
        register = self._register
        told = (register.version, self._settings, self._blind, self._breaks.log)
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
                vswitchd=vswitchd.told(register.vswitchd),
                pmds=tuple(sorted(register.pmds.values(), key=lambda pmd: (pmd.core, pmd.id.tid))),
                history=register.history,
                others=self._others,
                blind=self._blind,
                look_cost=self._cost,
                blind_seconds=self._blind_seconds,
                latest=self._latest,
                looks=self._looks,
                looks_failed=self._looks_failed,
                counts=self._tally.told(),
                event_witness=self._switches.status,
                breaks=self._breaks.log,
                break_counts=self._breaks.counts,
            )
        )
