# SPDX-License-Identifier: Apache-2.0
"""Which of our columns the server has now; and `schema: auto`, which puts them back, carefully and never in a storm.

Calls to the server last longer than a beat: each runs in a thread of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import ovs.poller
import ovs.vlog

from ovs_keepalive.core.model import Moment, Snapshot, VswitchdState
from ovs_keepalive.formats.schema import Found, Status
from ovs_keepalive.publishers import schema

log = ovs.vlog.Vlog("schema")

AGAIN = 2.0  # seconds until a look that failed is made again
CALM = 1.0  # seconds without news before anything is converted
MEMORY = 600.0  # seconds for which an attempt counts
FREE = 2  # attempts in that time without a pause between them
FIRST_PAUSE = 30.0  # seconds before the third; doubles with each


class LiveSchema:
    """The columns as the server has them. run() and wait() belong to the main loop."""

    def __init__(self, remote: str) -> None:
        self._remote = remote
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._worker: threading.Thread | None = None
        self._result: Status | None = None
        self._wanted: float | None = None  # monotonic time from which a look is due
        self.status: Status | None = None  # None: not known
        self.error = ""  # why not

    def look(self, now: Moment) -> None:
        """Have the schema read anew: what was known of it may no longer hold."""
        self._wanted = now.mono

    def add(self) -> None:
        """Have the absent columns added."""
        self._start(lambda: schema.apply(self._remote).after)

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._worker is not None

    @property
    def columns(self) -> frozenset[str]:
        """Those of our columns that the server has with exactly our type."""
        return frozenset(self.status.names(Found.PRESENT)) if self.status is not None else frozenset()

    def run(self, now: Moment) -> bool:
        """Go on; True when there is news."""
        news = False
        if self._worker is not None and not self._worker.is_alive():
            self._worker = None
            news = self._result != self.status
            self.status = self._result
            if self.status is None:
                self._wanted = now.mono + AGAIN
        if self._worker is None and self._wanted is not None and now.mono >= self._wanted:
            self._wanted = None
            self._start(lambda: schema.status(self._remote))
        return news

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake when a call has ended."""
        poller.fd_wait(self._event, ovs.poller.POLLIN)
        if self._worker is not None and not self._worker.is_alive():
            poller.immediate_wake()
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        poller.timer_wait(10)  # it has rung, and ends this moment

    def _start(self, call: Callable[[], Status]) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._call, args=(call,), name="schema", daemon=True)
            self._worker.start()

    def _call(self, call: Callable[[], Status]) -> None:
        try:
            self._result, self.error = call(), ""
        except OSError as error:  # schema.Failed is one
            if str(error) != self.error:  # it is tried again and again
                log.warn(f"the columns are not known: {error}")
            self._result, self.error = None, str(error)
        finally:
            os.eventfd_write(self._event, 1)


class SchemaKeeper:
    """Decides when `schema: auto` may convert."""

    def __init__(self, live: LiveSchema) -> None:
        self._live = live
        self._missing_since: float | None = None
        self._attempts: list[float] = []

    def run(self, now: Moment, snapshot: Snapshot | None, may_write: bool) -> None:
        """Convert, if it is time to. may_write: connected, and holder of the lock."""
        status = self._live.status
        if status is None or not status.names(Found.ABSENT):
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now.mono
        if snapshot is None or not snapshot.settings.enabled or not may_write or self._live.busy:
            return
        vswitchd = snapshot.vswitchd
        calm_since = max(self._missing_since, vswitchd.since.mono)
        if vswitchd.state is not VswitchdState.RUNNING or now.mono - calm_since < CALM:
            return
        self._attempts = [at for at in self._attempts if now.mono - at < MEMORY]
        if self._attempts and now.mono - self._attempts[-1] < pause(len(self._attempts)):
            return
        self._attempts.append(now.mono)
        names = ", ".join(status.names(Found.ABSENT))
        log.info(f"adding {names} (schema: auto), attempt {len(self._attempts)} in 10 min")
        self._live.add()


def pause(attempts: int) -> float:
    """Seconds to wait after the newest of so many attempts within MEMORY."""
    return CALM if attempts < FREE else min(MEMORY, FIRST_PAUSE * 2.0 ** (attempts - FREE))
