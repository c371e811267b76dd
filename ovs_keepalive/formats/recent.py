# SPDX-License-Identifier: Apache-2.0
"""The looks of the last minute, each a line of JSON: small enough to be kept always, for the day of an incident."""

from __future__ import annotations

from collections import deque

import msgspec

from ovs_keepalive.core.model import Pmd, Snapshot, Transition
from ovs_keepalive.formats.plain import json_bytes

KEPT = 60.0  # seconds
PACE = 0.19  # seconds between two rows at least, unless a transition lies between them
MOST = 4 << 20  # bytes; 64 PMDs at an interval of 100 ms take 1.5 MB

FIELDS = ("name", "state", "iterations", "quiet_ms", "kernel_state", "run_ns", "wait_ns")  # of a PMD in a row


class Recent:
    """A ring of rows, bounded in time and in bytes."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._history: tuple[Transition, ...] = ()

    def add(self, snapshot: Snapshot) -> None:
        """Keep a row of this snapshot, let go of what is too old or too much."""
        at = snapshot.at.mono
        if self._rows and at - self._rows[-1][0] < PACE and snapshot.history is self._history:
            return
        self._history = snapshot.history
        row = json_bytes(
            {
                "at": snapshot.at.wall_ms,
                "vswitchd": snapshot.vswitchd.state,
                "silent_ms": round(snapshot.vswitchd.silent * 1000),
                "pmds": [_cells(pmd) for pmd in snapshot.pmds],
            }
        )
        self._rows.append((at, row))
        self._size += len(row)
        while self._rows and (at - self._rows[0][0] > KEPT or self._size > MOST):
            self._size -= len(self._rows.popleft()[1])

    def rows(self) -> list[msgspec.Raw]:
        """The rows, oldest first, ready to be put into a JSON document."""
        return [msgspec.Raw(row) for _, row in self._rows]


def _cells(pmd: Pmd) -> tuple[object, ...]:
    look = pmd.look
    return pmd.name, pmd.state, pmd.iterations, round(pmd.quiet * 1000), look.state, look.run_ns, look.wait_ns
