# SPDX-License-Identifier: Apache-2.0
"""What came of the looks since the daemon began, counted where a look may cost a fraction of a microsecond more."""

from __future__ import annotations

from bisect import bisect_left

from ovs_keepalive.core.model import LookCounts

# Seconds. An idle main thread answers within a third of a millisecond, one that reconfigures within seconds.
BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Tally:
    """Counts for the beat; told() is what a snapshot carries."""

    def __init__(self) -> None:
        self._proc = self._proc_failed = 0
        self._answers = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def looked(self, *, seen: bool) -> None:
        """At the threads, in /proc."""
        if seen:
            self._proc += 1
        else:
            self._proc_failed += 1

    def answered(self, seconds: float) -> None:
        """The main thread answered the question for the counters, after so long."""
        self._answers[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def told(self) -> LookCounts:
        """The counts as of now."""
        return LookCounts(self._proc, self._proc_failed, tuple(self._answers), self._seconds)
