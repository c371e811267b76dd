# SPDX-License-Identifier: Apache-2.0
"""A daemon that takes over from a running one: it loads, connects, rehearses, and beats as soon as it is told to."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress

import ovs.poller
import ovs.vlog

from ovs_keepalive.beat import moment
from ovs_keepalive.config import Options
from ovs_keepalive.core import memory as rehearsal
from ovs_keepalive.core.memory import Memory
from ovs_keepalive.core.model import Moment, Transition
from ovs_keepalive.daemon import Daemon
from ovs_keepalive.formats.memory import Unusable
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.lasting import whose
from ovs_keepalive.relay import VARIABLE, Ended, Line, Lost, Message, content
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

log = ovs.vlog.Vlog("successor")

CONNECT = 3.0  # seconds for which the database is waited for; without it the beat is handed over all the same
PATIENCE = 5.0  # seconds for what the old daemon says at once
KEPT = 1.5  # seconds for which the old control socket is answered: longer than the old daemon lingers


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether this process was started to succeed."""
    return VARIABLE in environment


def run(options: Options) -> int:
    """Take over, then watch until told to stop. Exit status 1 when it came to nothing: the old daemon says why."""
    end, stderr = (int(number) for number in os.environ.pop(VARIABLE).split(","))
    line = Line(socket.socket(fileno=end))
    os.dup2(stderr, 2)  # until now the old daemon has listened, to say in its own words what went wrong
    os.close(stderr)
    if "WATCHDOG_PID" in os.environ:  # it is inherited
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    try:
        daemon = Successor(options, line)
        daemon.prepare()
        daemon.take_over()
    except Lost:
        return 1  # the old one has given up, or has ended
    except Exception as error:  # noqa: BLE001 - whatever it is, the old daemon has to know that it goes on
        why = str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"
        return _refuse(line, one_line(why))
    return daemon.loop()


def _refuse(line: Line, why: str) -> int:
    try:
        line.say(Message("refused", why=why))
    except Ended:
        log.warn(why)
    return 1


class Successor(Daemon):
    """All of a daemon but what the old one still has: pidfile, listeners, lock, state."""

    def __init__(self, options: Options, line: Line) -> None:
        super().__init__(options)
        self._line = line

    def prepare(self) -> None:
        """Be as ready as can be. Raises Lost, Unusable."""
        _, [descriptor] = self._line.hear(PATIENCE)
        rehearsal.register(self._shelf.decoded(content(descriptor)).beating)
        until = moment().mono + CONNECT
        while moment().mono < until and not (self._session.connected and self._columns.schema.status is not None):
            self._wait(until)
        self._beat.warm(moment())
        self._line.say(Message("ready"))

    def take_over(self) -> None:
        """Wait for the state, beat, then take everything else. Raises Lost, Unusable, OSError."""
        while not self._line.has_news():
            self._wait(float("inf"))
        message, descriptors = self._line.hear(0.0)
        memory = self._shelf.decoded(content(descriptors.pop(0)))
        self._go_on_from(memory, None)
        self._beat.start()
        now = moment()
        try:  # it would have killed this one first, had it wanted to go on: if it has ended, nobody else beats
            self._line.say(Message("taken"))
            self._line.hear(PATIENCE)
        except Ended:
            log.warn("the daemon before ended in the midst of the upgrade: this one goes on")
        self._tell_of_it(memory, message, now)
        self._inherit(message, descriptors)

    def _inherit(self, message: Message, descriptors: list[int]) -> None:
        """Serve whoever came meanwhile with a snapshot of this beat, then bear the name."""
        poll = select.poll()
        poll.register(self._slot.fileno(), select.POLLIN)
        while (snapshot := self._slot.take()) is None and self._beat.failure is None:
            poll.poll(1000)
        if snapshot is None:
            raise RuntimeError(f"the beat failed: {self._beat.failure!r}")
        self._tell(snapshot, moment())
        listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._appctl.adopt(listeners[0], message.control, moment().mono + KEPT)
        if message.web and self._web is not None:
            self._web.adopt(message.web, listeners[1], moment().mono)
        self._presence.claim(inherits=True)
        with suppress(Ended):  # the daemon before has ended since it gave its state away: nobody is left to be told
            self._line.say(Message("done"))

    def _tell_of_it(self, memory: Memory, message: Message, now: Moment) -> None:
        took = f"hand-over {(now.mono - message.at) * 1000:.1f} ms after snapshot {memory.beating.seq}"
        self._upgrade.fact = f"done: {memory.daemon} -> {whose()}, {took}"
        self._session.note(Transition(now, "daemon", memory.daemon, whose(), "none", f"hot upgrade, {took}"))
        log.info(f"upgrade {self._upgrade.fact}")
        self._room.inherited = frozenset(memory.affinity)

    def _wait(self, until: float) -> None:
        """A turn without a beat: the database is listened to, so that nothing is left to be done when it counts."""
        if self._stopping:
            raise Lost("it was told to stop")
        self._run_database(moment())
        poller = ovs.poller.Poller()
        poller.fd_wait(self._line.fileno(), ovs.poller.POLLIN)
        poller.fd_wait(self._wakeup.fileno(), ovs.poller.POLLIN)
        self._session.wait(poller)
        self._columns.wait(poller)
        poller.timer_wait(round(max(0.0, min(1.0, until - moment().mono)) * 1000))
        poller.block()

    def _claim(self) -> None:
        """Nothing: the pidfile is the old daemon's until all is over."""

    def _recall(self, who: VswitchdSensor) -> None:
        """Nothing: what is to be known comes on the line."""
