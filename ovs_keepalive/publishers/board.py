# SPDX-License-Identifier: Apache-2.0
"""What all HTTP connections read: the newest that the main loop has left, and what is made of it once for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from ovs_keepalive.core.model import Moment, Snapshot, Transition
from ovs_keepalive.core.offload import Netdev
from ovs_keepalive.core.ports import Ports
from ovs_keepalive.core.strip import STEP, Strip
from ovs_keepalive.formats import document, summary
from ovs_keepalive.formats.plain import json_bytes

REFRESH = 2.0  # seconds between two events while nothing changes …
PAUSE = 0.25  # … and at least, whatever flaps; without news a document serves all viewers for as long


class Shown(NamedTuple):
    """What the main loop leaves for the viewers."""

    snapshot: Snapshot
    facts: dict[str, str]
    events: tuple[Transition, ...]  # of the database session
    ports: Ports = document.NOT_LOOKED
    netdevs: tuple[Netdev, ...] = ()  # of offload


class Board:
    """What all connections read. Written by the main loop only."""

    def __init__(self, clock: Callable[[], Moment]) -> None:
        self.clock = clock
        self.over = threading.Event()
        self.shown: Shown | None = None
        self._strip = Strip()
        self._news = threading.Condition()
        self._version = 0  # changes with a change that viewers are told at once
        self._lock = threading.Lock()
        self._made = (0, float("-inf"), b"")  # the newest document: of which version, when

    def put(self, shown: Shown) -> None:
        """Show this from now on."""
        with self._lock:
            self._strip.take(shown.snapshot)
        with self._news:
            was, self.shown = self.shown, shown
            if was is None or _news(was) != _news(shown):
                self._version += 1
                self._news.notify_all()

    def wait(self, version: int) -> int:
        """Until there is news, or for REFRESH; the version that is there then."""
        with self._news:
            self._news.wait_for(lambda: self._version != version or self.over.is_set(), REFRESH)
            return self._version

    def close(self) -> None:
        """Let everybody go who waits."""
        self.over.set()
        with self._news:
            self._news.notify_all()

    def node(self) -> bytes:
        """The node document; nothing before the first snapshot."""
        now, shown = self.clock(), self.shown
        if shown is None:
            return b""
        with self._lock:
            version, at, body = self._made
            if version != self._version or now.mono - at >= PAUSE:
                body = json_bytes(document.node(shown.snapshot, now, shown.facts, shown.events, *shown[3:]))
                self._made = (self._version, now.mono, body)
            return body

    def strip(self) -> bytes:
        """The last ten minutes of each PMD."""
        with self._lock:
            rows, end = self._strip.rows(), self._strip.end
        return json_bytes({"version": 1, "step_ms": STEP * 1000, "end": end, "pmds": rows})

    def health(self) -> tuple[HTTPStatus, str]:
        """`/healthz`: whether the daemon watches, not whether what it sees is well (CONTRACT section 10)."""
        shown = self.shown
        if shown is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, "no snapshot yet: the daemon has just started"
        age = self.clock().mono - shown.snapshot.at.mono
        if age > max(2 * shown.snapshot.settings.interval, 2.0):
            return HTTPStatus.SERVICE_UNAVAILABLE, f"the last snapshot is {age:.1f} s old: the daemon stands still"
        return HTTPStatus.OK, summary.line(shown.snapshot)


def _news(shown: Shown) -> tuple[object, ...]:
    snapshot = shown.snapshot
    return (snapshot.history[-1:], shown.events[-1:], snapshot.blind, snapshot.settings, snapshot.vswitchd.state)
