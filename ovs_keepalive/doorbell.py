# SPDX-License-Identifier: Apache-2.0
"""What the beat sleeps on: a time, descriptors that may have something to tell, and whoever rings."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence


class Doorbell:
    """One thread waits; any other one may ring."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._watched: Sequence[tuple[int | None, int]] | None = None  # what it is registered for

    def ring(self) -> None:
        """Wake the thread that waits, or the next time that it would."""
        os.eventfd_write(self._wake, 1)

    def wait(self, seconds: float, watched: Sequence[tuple[int | None, int]]) -> dict[int, int]:
        """The descriptors that rang, and their events. seconds: at most; watched: with the events (poll(2)) of
        each, None in place of one that there is not.
        """
        if watched != self._watched:
            self._watched, self._poll = watched, select.poll()
            self._poll.register(self._wake, select.POLLIN)
            for descriptor, events in watched:
                if descriptor is not None:
                    self._poll.register(descriptor, events)
        rung = dict(self._poll.poll(max(0.0, seconds) * 1000.0))
        if self._wake in rung:
            os.eventfd_read(self._wake)
        return rung
