# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive collectd`: a child of collectd's exec plugin that tells it what the two columns say.

It subscribes through OVSDB like anybody, and ends when collectd does: by SIGTERM, or when nobody reads any more. A
collectd that does not read for a while costs values, which are sent anew, and last of all notifications, counted.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping

import ovs.poller

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats import collectd
from ovs_keepalive.formats.alarms import Notice, Watch
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.subscription import Subscription

TURN = 0.5  # seconds between two looks at the clock
FASTEST, SLOWEST = 0.1, 86400.0  # seconds between two values
USUAL = 10.0  # of them, where collectd does not say
ATOMIC = select.PIPE_BUF  # bytes: a pipe that poll(2) calls writable takes them at once
MOST = 2000  # notifications that may wait for collectd to read
LONGEST_COMPLAINT = 500  # characters


class Pipe:
    """Lines on their way to a reader that may have stopped reading. Nothing here waits for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun = b""  # of what was written in part
        self._notices: deque[bytes] = deque()
        self._values: deque[bytes] = deque()
        self.lost = 0  # notifications that no reader will see
        self.closed = False  # nobody reads any more

    def tell(self, line: str) -> None:
        """Send a line that must not be lost, unless too many wait: then the oldest is."""
        self._notices.append(f"{line}\n".encode())
        if len(self._notices) > MOST:
            self._notices.popleft()
            self.lost += 1

    def update(self, lines: list[str]) -> None:
        """Send lines that replace those before them which nobody has read."""
        self._values = deque(f"{line}\n".encode() for line in lines)

    @property
    def waits(self) -> bool:
        """Whether something is left to be read."""
        return bool(self._begun or self._notices or self._values)

    def flush(self) -> None:
        """Write what the reader takes now."""
        while self._writable() and self.waits:
            data = self._begun or self._next()
            try:
                written = os.write(self._descriptor, data)
            except BlockingIOError:  # no pipe, and somebody made it so
                self._begun = data
                return
            except OSError:  # nobody reads any more
                self.closed = True
                return
            self._begun = data[written:]

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake when the reader takes more, or goes."""
        poller.fd_wait(self._descriptor, ovs.poller.POLLOUT if self.waits else 0)

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        events = next((events for _, events in poll.poll(0)), 0)
        if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            self.closed = True
        return bool(events & select.POLLOUT) and not self.closed

    def _next(self) -> bytes:
        """Whole lines, as many as go in one piece; notifications first."""
        lines = self._notices or self._values
        data = lines.popleft()
        while lines and len(data) + len(lines[0]) <= ATOMIC:
            data += lines.popleft()
        return data


class Child:
    """One run: loop() returns when collectd has enough of it."""

    def __init__(self, remote: str, refresh: float, environment: Mapping[str, str]) -> None:
        """remote: of the database; refresh: of the daemon's configuration, seconds; environment: by collectd."""
        ovs.poller.SelectPoll = select.poll  # python-ovs's own fails on descriptors from 1024 on
        self.host = environment.get("COLLECTD_HOSTNAME", "") or socket.gethostname()
        self.interval = interval(environment.get("COLLECTD_INTERVAL", ""))
        self._stopping = False
        self._wakeup, self._wakeup_end = _catch_signals(self.stop)
        now = moment()
        self._subscription = Subscription(remote, now)
        self._watch = Watch(refresh, now)
        self._out, self._err = Pipe(1), Pipe(2)
        self._due = now.mono  # when the next values are
        self._lost = 0  # of them complained
        self._enabled: bool | None = None  # as said last

    def loop(self) -> int:
        """Tell until told to stop, or until nobody listens. The exit status, which is 0."""
        try:
            while not self._stopping and not self._out.closed:
                self._turn(moment())
                self._block()
        finally:
            self._subscription.close()
            signal.set_wakeup_fd(-1)
            self._wakeup.close()
            self._wakeup_end.close()
        return 0

    def stop(self) -> None:
        """End the loop after this turn."""
        self._stopping = True

    def _turn(self, now: Moment) -> None:
        for content in self._subscription.run(now):
            self._tell(self._watch.take(content, now))
        self._tell(self._watch.look(self._subscription.link, now))
        if now.mono >= self._due:
            self._due = max(self._due + self.interval, now.mono)
            self._out.update(list(collectd.values(self._watch, self.host, self.interval, now)))
        self._out.flush()
        self._complain()
        self._err.flush()

    def _tell(self, notices: list[Notice]) -> None:
        for notice in notices:
            self._out.tell(collectd.notification(notice, self.host))

    def _complain(self) -> None:
        """To stderr goes what collectd has to log: why nothing comes though nothing is wrong."""
        enabled = self._watch.asked.enabled
        if self._subscription.link.connected and enabled != self._enabled:
            self._enabled = enabled
            if not enabled:
                self._say("keepalive is disabled: set Open_vSwitch other_config:enable-keepalive=true")
        if self._out.lost > self._lost and not self._out.waits:
            self._say(f"{self._out.lost - self._lost} notifications are lost: collectd did not read them in time")
            self._lost = self._out.lost

    def _say(self, text: str) -> None:
        self._err.tell(one_line(f"ovs-keepalive: {text}")[:LONGEST_COMPLAINT])

    def _block(self) -> None:
        poller = ovs.poller.Poller()
        poller.fd_wait(self._wakeup.fileno(), ovs.poller.POLLIN)
        self._subscription.wait(poller)
        self._out.wait(poller)
        poller.timer_wait(1000 * max(0.0, min(TURN, self._due - moment().mono)))
        poller.block()
        try:
            self._wakeup.recv(64)
        except BlockingIOError:
            return


def interval(text: str) -> float:
    """Seconds between two values, as collectd says them (`10.000`); its usual ones where it says nothing usable."""
    try:
        seconds = float(text)
    except ValueError:
        return USUAL
    return seconds if FASTEST <= seconds <= SLOWEST else USUAL  # not a number is neither


def _catch_signals(stop: Callable[[], None]) -> tuple[socket.socket, socket.socket]:
    """Every signal to end stops; returns the socket that it makes readable, and its other end."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop())
    return read, write
