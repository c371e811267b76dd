# SPDX-License-Identifier: Apache-2.0
"""How often to look.

A stall is told one interval after the last look that saw progress. That one may have come a whole look period after the
PMD stopped: the period and the delivery have to fit in the quarter of an interval that the contract gives.
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
