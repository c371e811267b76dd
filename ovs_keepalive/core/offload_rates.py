# SPDX-License-Identifier: Apache-2.0
"""How many packets per second a flow has: counts compared between dumps.

One pair of looks is no rate: what is planned by must have held for two rounds, judged to the disadvantage of the move.
A flow in software counts for the least that it had, one in hardware for the most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ovs_keepalive.core.offload import Dump, Flow, Rate

SMOOTH = 6.0  # seconds; what is older counts for 1/e
IDLE = 5.0  # seconds without a packet after which a flow has no rate, whatever it had
SAMPLES = 2  # pairs of looks without which a flow is not judged


def after(was: Mapping[str, Rate], dump: Dump, passed: float) -> dict[str, Rate]:
    """The rates by this dump, passed seconds after the one before it. What has no ufid cannot be followed."""
    weight = 1.0 - math.exp(-passed / SMOOTH)
    return {flow.ufid: _next(was.get(flow.ufid), flow, passed, weight) for flow in dump.flows if flow.ufid}


def known(rate: Rate) -> bool:
    """Whether a flow has been seen long enough to be judged."""
    return rate.samples >= SAMPLES


def low(rate: Rate) -> float:
    """The least that it had in the last two rounds: what a flow in software is worth; nothing before it is known."""
    return min(rate.smooth, rate.newest, rate.low_before)


def high(rate: Rate) -> float:
    """The most that it had in the last two rounds: what a flow in hardware is worth."""
    return max(rate.smooth, rate.newest, rate.high_before)


def _next(was: Rate | None, flow: Flow, passed: float, weight: float) -> Rate:
    if was is None:
        return Rate(flow.packets, flow.hardware, flow.shape, flow.netdev)
    if passed <= 0.0:  # the same look twice
        return was._replace(packets=flow.packets, hardware=flow.hardware)
    if flow.used is None or flow.used > IDLE:
        newest = smooth = 0.0
    else:
        newest = _packets(was, flow.packets, passed) / passed
        smooth = was.smooth + weight * (newest - was.smooth) if was.samples else newest
    return Rate(
        flow.packets,
        flow.hardware,
        flow.shape,
        flow.netdev,
        smooth,
        newest,
        min(was.smooth, was.newest),
        max(was.smooth, was.newest),
        was.samples + 1,
    )


def _packets(was: Rate, count: int, passed: float) -> float:
    """Packets since the last look."""
    if count >= was.packets:
        return count - was.packets
    # It began anew, and these are its packets since then; or one of the PMDs' copies of it expired, and they are those
    # of all time. So they prove no more than was known of it.
    return min(float(count), was.smooth * passed)
