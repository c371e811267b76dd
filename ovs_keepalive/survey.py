# SPDX-License-Identifier: Apache-2.0
"""The slow looks: a process of its own looks at the ports and posts a frozen Survey, `python -m ovs_keepalive.survey`.

It is spawned, never forked, and has its own GIL and its own time: whatever it waits for, the heart beats on. It looks
when it is asked, as soon as something has changed or when the time that it was given is over, and ends when its input
does: with the daemon.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import ovs.poller

from ovs_keepalive import dirs
from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Moment, NotSeen, ProcessId
from ovs_keepalive.core.places import socket_directory
from ovs_keepalive.core.ports import VHOST, Survey
from ovs_keepalive.formats import survey as wire
from ovs_keepalive.formats.survey import Order
from ovs_keepalive.hearing import Hearing
from ovs_keepalive.port_rows import PortRows
from ovs_keepalive.publishers import tls
from ovs_keepalive.sensors import places
from ovs_keepalive.sensors.bridge_flows import BridgeFlows
from ovs_keepalive.sensors.ports import Around, PortSensor
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

PAUSE = 1.0  # seconds between two looks, at least, whatever changes
CONNECT = 3.0  # seconds for which the first look waits for the database
TICK = 1.0  # seconds, at most, between two turns: a vswitchd that comes is seen by its pidfile


class Surveyor:
    """Looks at everything that has to do with ports."""

    def __init__(self, order: Order) -> None:
        if all(order.tls[:3]):
            tls.use(tls.Files(*order.tls))
        self._rundir = dirs.rundir()
        self._who = VswitchdSensor(self._rundir, Path(order.pidfile) if order.pidfile else None)
        self.rows = PortRows(order.remote)
        self._remote = order.remote
        self._sensor = PortSensor()
        self._flows = BridgeFlows(self._rundir)
        self._process: ProcessId | None = None
        self.control: Path | None = None  # where vswitchd answers
        self._missing = ""  # why there is no vswitchd

    def follow(self, now: Moment) -> bool:
        """Take in what happened; whether anything changed."""
        changed = self.rows.run()
        found, _ = self._who.look(now)
        process = None if isinstance(found, NotSeen) else found.value.id
        self._missing = found.why if isinstance(found, NotSeen) else ""
        self.control = None if isinstance(found, NotSeen) else found.value.control_socket
        if process != self._process:
            self._process, changed = process, True
            self._flows.forget()
        return changed

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what may change."""
        self.rows.wait(poller)
        if (end := self._who.fileno()) is not None:
            poller.fd_wait(end, ovs.poller.POLLIN)

    def look(self, at: Moment) -> Survey:
        """All ports, as they are now."""
        rows, blind = self.rows.rows(), []
        if not self.rows.listens:
            rows, blind = [], [f"{self._remote}: no database, or none that answers"]
        pid = self._process.pid if self._process is not None else None
        if pid is None:
            blind.append(self._missing)
        flows = self._flows.look({row.bridge for row in rows if row.type in VHOST}, at.mono) if pid is not None else {}
        hidden = {bridge for bridge, ruled in self.rows.ruled.items() if ruled}
        flows |= {
            name: f"bridge {name} may have flows of its own besides its controller's" for name in hidden & flows.keys()
        }
        directory = socket_directory(self.rows.other_config, str(self._rundir))
        around = Around(at.mono, pid, directory, self.rows.statistics() if rows else "", flows)
        try:
            user = places.libvirt_user()
        except places.NoUser:  # libvirt was told of one that there is not: it tells that itself
            user = None
        return Survey(
            at=at,
            run=os.getpid(),
            process=self._process,
            began=_began(self._process),
            vswitchd=self._sensor.credentials(pid),
            vm_user=user.name if user is not None else "",
            vm=user.credentials if user is not None else None,
            ports=self._sensor.look(rows, around),
            blind=tuple(blind),
            told=self.rows.listens,
        )

    def connect(self) -> None:
        """Wait for the database for a while: a first look without it would only say so."""
        until = moment().mono + CONNECT
        while not self.rows.listens and (left := until - moment().mono) > 0:
            self.follow(moment())
            poller = ovs.poller.Poller()
            self.wait(poller)
            poller.timer_wait(round(min(left, 0.1) * 1000))
            poller.block()
        self.follow(moment())


def _began(process: ProcessId | None) -> float:
    """Monotonic seconds at which it began; the kernel counts ticks since boot, suspended time too."""
    if process is None:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")
    return moment().mono - age


class Conversation:
    """The lines on stdin, answered on stdout."""

    def __init__(self) -> None:
        self._hearing = Hearing()
        self._surveyor: Surveyor | None = None
        self._due: float | None = None  # monotonic; None: nothing is asked for
        self._last = float("-inf")
        self._news = False

    def go_on(self) -> bool:
        """Hear, look, answer; False when there is nobody left to hear."""
        lines = self._hearing.lines()
        if self._hearing.over:
            return False
        for line in lines:
            self._obey(line)
        surveyor, now = self._surveyor, moment()
        if surveyor is None:
            return True
        self._news = surveyor.follow(now) or self._news
        if self._due is not None and (now.mono >= self._due or (self._news and now.mono - self._last >= PAUSE)):
            self._last, self._due, self._news = now.mono, None, False
            sys.stdout.buffer.write(wire.line(surveyor.look(now)))
            sys.stdout.buffer.flush()
        return True

    def wait(self) -> None:
        """Until there may be something to do."""
        poller = ovs.poller.Poller()
        poller.fd_wait(0, ovs.poller.POLLIN)
        if self._surveyor is not None:
            self._surveyor.wait(poller)
            poller.timer_wait(round(TICK * 1000))
        poller.block()

    def _obey(self, line: bytes) -> None:
        if self._surveyor is None:
            self._surveyor = Surveyor(wire.order(line))
            self._surveyor.connect()
        else:
            self._due = moment().mono + wire.ask(line).wait


def main() -> int:
    """Answer until there is nobody left."""
    conversation = Conversation()
    try:
        while conversation.go_on():
            conversation.wait()
    except BrokenPipeError:  # nobody reads any more
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
