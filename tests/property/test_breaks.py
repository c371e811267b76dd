# SPDX-License-Identifier: Apache-2.0
"""Whenever vswitchd is asked, and however late it answers: the true gap between two packets lies inside the bounds."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from ovs_keepalive.core import breaks, heartbeat
from ovs_keepalive.core.model import Break, BreakKind, Ended, Looks, Moment, ProcessId, Sent
from tests.looks import FIRST, SECOND, SETTINGS, running

PERIOD = 0.2
KINDS = {kind: replace(heartbeat.EMPTY, vswitchd=running(how=kind)) for kind in BreakKind}

Look = tuple[float, float, float]  # seconds until it is made; until it is answered; when in between it is counted (0…1)
looks = st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(0.0, 0.2), st.floats(0.0, 1.0)), min_size=4, max_size=40)


def at(seconds: float) -> Moment:
    return Moment(seconds, round(seconds * 1000))


class Watcher:
    """Asks a vswitchd that sends packets evenly from a moment on."""

    def __init__(self, kind: BreakKind) -> None:
        self.watch = breaks.Watch()
        self.register = KINDS[kind]
        self.now = 0.0

    def asks(self, process: ProcessId, look: Look, rate: float, since: float, until: float = math.inf) -> None:
        """One look; the first packet goes out one packet's time after `since`."""
        pause, latency, part = look
        asked = self.now + pause
        self.now = asked + latency
        sent = math.floor(rate * max(0.0, min(asked + part * latency, until) - since) + 1e-9)
        self._sees(Looks(at(self.now), process, sent=Sent(asked, sent, kernel=False)))

    def sees_the_end(self, process: ProcessId, moment: float) -> None:
        """The kernel tells that it ended."""
        self.now = moment
        self._sees(Looks(at(moment), None, Ended(process, orderly=True)))

    def _sees(self, looks: Looks) -> None:
        self.watch = breaks.follow(self.watch, looks, self.register, SETTINGS, PERIOD)

    @property
    def told(self) -> Break:
        return self.watch.log[-1]


@given(looks, looks, st.floats(20.0, 5000.0), st.floats(0.0, 2.0), st.floats(0.0, 3.0), st.sampled_from(BreakKind))
def test_the_true_gap_lies_inside_the_bounds(
    before: list[Look], after: list[Look], rate: float, down: float, slow: float, kind: BreakKind
) -> None:
    watcher = Watcher(kind)
    for look in before:
        watcher.asks(FIRST, look, rate, since=0.0)
    stopped = watcher.now + 0.05
    watcher.sees_the_end(FIRST, stopped)
    resumed = stopped + down + slow
    watcher.now += down
    for look in after:
        watcher.asks(SECOND, look, rate, since=resumed)
    one, lasted = watcher.told, breaks.data_plane(watcher.told)
    assert one.kind is kind
    assume(not one.unknown)
    assert (lasted is None) == (one.to is None)
    if lasted is None:
        assert watcher.watch.under_way
        return
    low, about, high = lasted
    last, first = math.floor(rate * stopped) / rate, resumed + 1 / rate
    assert low - 1e-6 <= first - last <= high + 1e-6
    assert low <= about <= high
    assert one.began_low <= one.began <= one.began_high <= one.to_low


@given(looks, looks)
def test_without_packets_nothing_is_ever_said_of_them(before: list[Look], after: list[Look]) -> None:
    watcher = Watcher(BreakKind.CRASH)
    for look in before:
        watcher.asks(FIRST, look, 0.0, since=0.0)
    watcher.sees_the_end(FIRST, watcher.now + 0.05)
    for look in after:
        watcher.asks(SECOND, look, 500.0, since=0.0)
    assert watcher.told.unknown == breaks.NO_TRAFFIC
    assert breaks.data_plane(watcher.told) is None
    assert watcher.told.control_to is not None
    assert not watcher.watch.under_way
