# SPDX-License-Identifier: Apache-2.0
"""How often to look.

A stall is told one interval after the last look that saw progress. That one may have come a whole look period after the
PMD stopped: the period and the delivery have to fit in the quarter of an interval that the contract gives. Flows are
looked at as seldom as it takes to cost next to nothing.
"""

from __future__ import annotations

LOOKS = 5  # per interval
NAPS = 2  # of the longest, in an interval at least: a PMD makes no progress while OVS lets it nap
SHORTEST, LONGEST = 0.002, 1.0  # seconds between two looks
DELIVERY = 0.0125  # seconds, of that quarter, for waking up, the transaction, and the subscriber's own way


def period_of(interval: float) -> float:
    """Seconds between two looks: a fifth of the interval, and less where that would leave too little for delivery."""
    period = min(interval / LOOKS, interval / 4 - DELIVERY)
    return min(max(period, interval / (2 * LOOKS), SHORTEST), LONGEST)


DUMP_PAUSE = 3.0  # seconds between two dumps of the datapath's flows, at least


def pause_after(cost: float, share: float = 0.01) -> float:
    """Seconds from one dump to the next. cost: seconds of vswitchd's main thread that it took; share: of its time."""
    return max(DUMP_PAUSE, cost / share)
