# SPDX-License-Identifier: Apache-2.0
"""What /metrics answers: the newest snapshot, what was counted of the PMDs, and what the daemon itself takes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ovs_keepalive.core import ledger
from ovs_keepalive.core.model import Snapshot, Transition
from ovs_keepalive.core.ports import PortState
from ovs_keepalive.formats import metric, metrics
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.publishers.weight import Weight

NO_OFFLOAD = metric.Offloaded()
PAUSE = 0.25  # seconds between two snapshots without a transition of which one page will do


class _Taken(NamedTuple):
    """All that the main loop has handed over, replaced as a whole: any thread may read it."""

    snapshot: Snapshot | None
    counted: Mapping[str, ledger.Counted]
    committed: int
    failed: int
    ports: Sequence[tuple[str, PortState | None]] = ()
    offload: metric.Offloaded = NO_OFFLOAD


class Exposition:
    """take() belongs to the main loop, render() to any thread, several at once too."""

    def __init__(self, version: str, own: Weight) -> None:
        """version, own: of this daemon."""
        self._version = version
        self._own = own
        self._cpu_before = 0.0  # seconds that earlier daemons took, from which this one goes on
        self._taken = _Taken(None, {}, 0, 0)
        self._lock = threading.Lock()
        self._pages: dict[bool, tuple[_Taken | None, bytes]] = dict.fromkeys((False, True), (None, b""))
        self._history: tuple[Transition, ...] = ()  # the last one that was counted …
        self._counted_to = float("-inf")  # … up to this moment, monotonic
        self.ports: Sequence[tuple[str, PortState | None]] = ()  # as the next page tells them
        self.offload = NO_OFFLOAD

    def take(self, snapshot: Snapshot, committed: int = 0, failed: int = 0) -> None:
        """The newest snapshot, and how many transactions there were. Costs nothing while no state changes."""
        counted = self._taken.counted
        if snapshot.history is not self._history:
            self._history = snapshot.history
            counted = self._count(counted, snapshot)
        self._taken = _Taken(snapshot, counted, committed, failed, self.ports, self.offload)

    @property
    def counted(self) -> tuple[tuple[ledger.Line, ...], float, float]:
        """What was counted of the PMDs, up to which moment (monotonic), and the seconds of CPU that all this took."""
        return ledger.flat(self._taken.counted), max(0.0, self._counted_to), self._cpu

    def go_on_from(self, lines: tuple[ledger.Line, ...], until: float, cpu: float) -> None:
        """Count on from what an earlier daemon has counted."""
        self._cpu_before = cpu
        self._taken = self._taken._replace(counted=ledger.unfolded(lines))
        self._counted_to = until

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and page, as the header `Accept` asks for it.

        One thread at a time makes one, and it serves all who ask until there is news, or for PAUSE: however many they
        are, they take no more of the interpreter from the beat.
        """
        openmetrics = metric.wants_openmetrics(accept)
        with self._lock:
            of, page = self._pages[openmetrics]
            if of is None or not _says_the_same(of, self._taken):
                of = self._taken
                page = self._page(of, openmetrics=openmetrics)
                self._pages[openmetrics] = (of, page)
        return metric.OPENMETRICS if openmetrics else metric.TEXT, page

    def _page(self, taken: _Taken, *, openmetrics: bool) -> bytes:
        own = metric.Own(self._cpu, self._own.rss, self._own.began)
        told = taken.committed, taken.failed, taken.snapshot, taken.counted, taken.ports, taken.offload
        facts = metric.Facts(self._version, own, *told)
        return "".join(metrics.text(facts, openmetrics=openmetrics)).encode()

    @property
    def _cpu(self) -> float:
        return self._cpu_before + self._own.cpu

    def _count(self, counted: Mapping[str, ledger.Counted], snapshot: Snapshot) -> Mapping[str, ledger.Counted]:
        news = [transition for transition in snapshot.history if transition.at.mono > self._counted_to]
        if not news:
            return counted
        self._counted_to = news[-1].at.mono
        of_pmds = (t._replace(who=one_line(t.who)) for t in news if t.who.startswith("pmd-"))
        return ledger.counted(counted, of_pmds, {one_line(pmd.name) for pmd in snapshot.pmds})


def _says_the_same(of: _Taken, now: _Taken) -> bool:
    """Whether a page of that will do."""
    if of.snapshot is None or now.snapshot is None:
        return of is now
    same = of.snapshot.history is now.snapshot.history and of.snapshot.settings == now.snapshot.settings
    same = same and of.ports is now.ports and of.offload.netdevs is now.offload.netdevs
    return same and now.snapshot.at.mono - of.snapshot.at.mono < PAUSE
