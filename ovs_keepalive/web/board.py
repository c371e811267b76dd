# SPDX-License-Identifier: Apache-2.0
"""What all viewers of the fleet read: the newest picture, and what has changed since the one that each of them has.

All of it belongs to the event loop. What changes is written down once for all viewers, with a number. One who has
missed more than is kept takes the whole again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet_view import Event, Fleet, Key, Store
from ovs_keepalive.core.model import NEVER, Moment
from ovs_keepalive.formats import fleet_metrics, fleet_page
from ovs_keepalive.formats.fleet_page import Told

BATCH = 0.5  # seconds between two deltas that bring mere numbers …
URGENT = 0.05  # … and two that bring a change of state
REFRESH = 2.0  # seconds between two words to a viewer while nothing changes
KEPT = 4 << 20  # bytes of deltas that a viewer may be behind
LOG = 200  # events
BEGINNING = Fleet(Store("LOST", "not connected yet"))


class Delta(NamedTuple):
    """What one number brought."""

    seq: int
    body: bytes


class Board:
    """What is known, and who is told of it."""

    def __init__(self, clock: Callable[[], Moment], boot: str) -> None:
        """boot: a word that no other process has: what it has numbered is worth nothing to viewers of another."""
        self.clock, self.boot = clock, boot
        self.fleet = BEGINNING
        self.log: deque[Event] = deque(maxlen=LOG)
        self.over = False
        self.viewers = 0
        self.waits = [0] * (len(fleet_metrics.BOUNDS) + 1)
        self.waited = 0.0  # seconds
        self._told, self._seq, self._logged = BEGINNING, 0, 0  # what the newest delta brought viewers to
        self._deltas: deque[Delta] = deque()
        self._size = 0
        self._due: asyncio.TimerHandle | None = None
        self._flushed = float("-inf")  # monotonic, of the loop
        self._news = asyncio.Event()  # replaced by each delta, which sets it
        self._snapshot = (float("-inf"), b"")
        self._tunnels: dict[str, tuple[float, bytes]] = {}  # by cell, as the snapshot

    def put(self, fleet: Fleet) -> None:
        """A newer picture."""
        before, self.fleet = self.fleet, fleet
        if before.read != NEVER:  # else the hosts are not new, only now seen
            self.log.extend(events := fleet_view.events(before, fleet, self.clock().wall_ms))
            self._logged += len(events)
        for seconds in fleet_view.waits(before, fleet):
            self.waits[fleet_metrics.place(seconds)] += 1
            self.waited += seconds
        change = fleet_view.change(before, fleet)
        if change and not self.over:
            self._schedule(URGENT if change.urgent else BATCH)

    def _schedule(self, gap: float) -> None:
        """The next delta: this many seconds after the one before, or at once."""
        loop = asyncio.get_running_loop()
        at = max(loop.time(), self._flushed + gap)
        if self._due is not None:
            if self._due.when() <= at:
                return
            self._due.cancel()
        self._due = loop.call_at(at, self._flush)

    def _flush(self) -> None:
        self._due, self._flushed = None, asyncio.get_running_loop().time()
        change = fleet_view.change(self._told, self.fleet)
        if not change and not self._logged:  # it changed back
            return
        log = list(self.log)[len(self.log) - min(self._logged, LOG) :]
        self._seq += 1
        body = fleet_page.delta(self.fleet, change, log, self._told_now())
        self._told, self._logged = self.fleet, 0
        self._deltas.append(Delta(self._seq, body))
        self._size += len(body)
        while self._size > KEPT:
            self._size -= len(self._deltas.popleft().body)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _told_now(self) -> Told:
        return Told(self.boot, self._seq, self.clock())

    async def after(self, boot: str, seq: int) -> list[Delta] | None:
        """The deltas that come after that number, now or within REFRESH; None: they are not there (any more)."""
        if boot != self.boot or not 0 <= seq <= self._seq:
            return None
        if seq == self._seq and not self.over:
            try:
                await asyncio.wait_for(self._news.wait(), REFRESH)
            except TimeoutError:
                return []
        missed = [delta for delta in self._deltas if delta.seq > seq]
        return missed if len(missed) == self._seq - seq else None

    def beat(self) -> bytes:
        """That nothing changed."""
        return fleet_page.beat(self.fleet, self._told_now())

    async def snapshot(self) -> bytes:
        """All of it, as of the newest delta or one little older: what comes after it is told to whoever asks.

        It is made in another thread, for 10,000 hosts take a while; one serves all who ask within REFRESH.
        """
        at, body = self._snapshot
        now = asyncio.get_running_loop().time()
        if not body or now - at > REFRESH:
            told = self._told_now()
            # Of what the newest delta told, not of what has come since: a viewer adds the next one to it.
            fleet = self._told._replace(store=self.fleet.store, read=self.fleet.read)
            body = await asyncio.to_thread(fleet_page.snapshot, fleet, self._old_log(), told)
            self._snapshot = (now, body)
        return body

    def _old_log(self) -> list[Event]:
        log = list(self.log)
        return log[: len(log) - min(self._logged, len(log))]

    def host(self, key: Key) -> bytes:
        """All of one host."""
        return fleet_page.host(self.fleet, key, self.clock())

    async def tunnels(self, cell: str) -> bytes:
        """Those of a cell, made in another thread; one serves all who ask within REFRESH."""
        now = asyncio.get_running_loop().time()
        at, body = self._tunnels.get(cell, (float("-inf"), b""))
        if now - at > REFRESH and any(key[0] == cell for key in self.fleet.sights):
            body = await asyncio.to_thread(fleet_page.tunnels, self.fleet, cell)
            self._tunnels = {name: made for name, made in self._tunnels.items() if now - made[0] <= REFRESH}
            self._tunnels[cell] = (now, body)
        return body

    def metrics(self, version: str, *, openmetrics: bool) -> str:
        """The exposition."""
        facts = fleet_metrics.Facts(version, self.clock(), self.fleet, self.waits, self.waited, self.viewers)
        return fleet_metrics.text(facts, openmetrics=openmetrics)

    def close(self) -> None:
        """Let everybody go who waits."""
        self.over = True
        if self._due is not None:
            self._due.cancel()
        self._news.set()
