# SPDX-License-Identifier: Apache-2.0
"""A beat that outlives its process: what it knows can be noted, taken over, and handed on between two looks."""

from __future__ import annotations

import os
import threading

from ovs_keepalive import __version__
from ovs_keepalive.beat import Beat, moment
from ovs_keepalive.core import breaks, heartbeat, memory
from ovs_keepalive.core.memory import Beating
from ovs_keepalive.core.model import Moment, NotSeen, ProcessId, Seen, Settings, Transition
from ovs_keepalive.core.tally import Tally
from ovs_keepalive.sensors.questions import Before
from ovs_keepalive.sensors.vswitchd import Process

EDGE = 0.003  # seconds before a look in which the thread is not left: the look goes first
LEAVING = 1.0  # seconds in which it has to be left


class LastingBeat(Beat):
    """Its thread may be ended and begun again; what it knows stays."""

    _leaving = False
    _known: ProcessId | None = None  # the process that the memory is of, until it is seen …
    _before = Before()  # … and what was known of its main thread

    def noted(self) -> Beating:
        """What it knows now. While its thread runs: as of about now."""
        register, questions, known = self._register, self._questions, self._before
        if questions is not None:
            known = Before(questions.cost, questions.asked if questions.busy else 0.0, questions.answered)
        return Beating(
            seq=self._seq,
            enabled_at=self._enabled_at,
            next_tick=self._next_tick,
            cost=known.cost,
            owed=known.owed,
            answered=known.answered,
            looks=self._looks,
            looks_failed=self._looks_failed,
            counts=self._tally.told(),
            blind_seconds=self._blind_seconds,
            latest=self._latest,
            blind=self._blind,
            others=self._others,
            pmds=tuple(register.pmds.values()),
            vswitchd=register.vswitchd,
            history=register.history,
            version=register.version,
            breaks=self._breaks,
        )

    def go_on_from(self, was: Beating, settings: Settings, now: Moment, gap: Transition | None) -> None:
        """Begin with what was known. Before start(). gap: nobody looked meanwhile, and this is said of it."""
        self._settings = self._wanted = settings
        self._stretch(was.cost)
        register = memory.register(was)
        self._register = register if gap is None else memory.after_a_gap(register, now, gap)
        self._seq, self._enabled_at = was.seq, was.enabled_at
        self._breaks = was.breaks if gap is None else breaks.forgotten(was.breaks)
        self._tally = Tally(was.counts)
        self._looks, self._looks_failed = was.looks, was.looks_failed
        self._blind_seconds, self._latest = was.blind_seconds, was.latest
        self._others, self._blind = was.others, was.blind
        self._known = was.vswitchd.process
        self._who.expect(self._known)
        if gap is None:
            self._before = Before(was.cost, was.owed, was.answered)
            self._next_tick = was.next_tick
            self._soon = heartbeat.next_look(register, self._effective)
        else:
            self._before = Before(was.cost)

    def warm(self, now: Moment) -> None:
        """Open now what the first look needs, so that it takes no longer than any other."""
        if (process := self._who.glance(now)) is not None:
            self._threads.attach(process)
            self._threads.look(now, anew=True, suspects=frozenset())

    def start(self) -> None:
        """Begin to beat, unless it does."""
        if not self._thread.is_alive():
            super().start()

    def leave(self) -> bool:
        """End the thread between two looks, no answer owed but an overdue one; whether it has ended."""
        self._leaving = True
        self._bell.ring()
        self._thread.join(LEAVING)
        return not self._thread.is_alive()

    def beat_on(self) -> None:
        """Let the thread go on that was left, or was to be."""
        self._leaving = False
        if not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
            self._thread.start()

    def _sleep(self, until: float) -> dict[int, int]:
        if self._leaving and self._is_edge(until):
            self._stopping = True
            return {}
        return super()._sleep(until)

    def _is_edge(self, until: float) -> bool:
        now = moment().mono
        if until - now < min(EDGE, self._period / 2):
            return False
        return self._questions is None or not self._questions.busy or self._questions.silent(now) >= self._grace

    def _turn_to(self, found: Seen[Process] | NotSeen) -> bool:
        known, self._known = self._known, None
        if known is None or not isinstance(found, Seen) or found.value.id != known:
            return super()._turn_to(found)
        others = self._others
        super()._turn_to(found)
        self._others = others
        if self._questions is not None:
            self._questions.resume(self._before)
        return False  # it is the one that was known, though this thread has not seen it before


def whose() -> str:
    """This daemon, in words."""
    return f"{__version__}, pid {os.getpid()}"
