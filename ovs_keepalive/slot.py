# SPDX-License-Identifier: Apache-2.0
"""What the two threads share: the newest snapshot, and a descriptor that rings for it."""

from __future__ import annotations

import os

from ovs_keepalive.core.model import Snapshot


class Slot:
    """Where the beat leaves its newest snapshot: newest wins, nothing queues. fileno() turns readable."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._snapshot: Snapshot | None = None

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._event

    def put(self, snapshot: Snapshot | None) -> None:
        """Leave a snapshot and ring; None rings only."""
        if snapshot is not None:
            self._snapshot = snapshot
        os.eventfd_write(self._event, 1)

    def take(self) -> Snapshot | None:
        """The newest snapshot, once."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return None
        snapshot, self._snapshot = self._snapshot, None
        return snapshot
