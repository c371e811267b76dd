# SPDX-License-Identifier: Apache-2.0
"""What this process takes of the host. Asked for without a descriptor that is not open: there may be none left."""

from __future__ import annotations

import os
import resource

import psutil

from ovs_keepalive.core.model import Moment


class Weight:
    """Of the process that made it. Any thread may ask."""

    def __init__(self, now: Moment) -> None:
        """Raises OSError, or psutil.Error, where /proc cannot be read."""
        self.began = psutil.Process().create_time()  # epoch seconds, as the clock was then
        self._born = now.mono - max(0.0, now.wall_ms / 1000 - self.began)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    @property
    def rss(self) -> int:
        """Bytes of memory (proc(5): the second number of statm, in pages)."""
        return int(os.pread(self._statm, 100, 0).split()[1]) * resource.getpagesize()

    def share(self, now: Moment) -> float:
        """Part of one core, since it began."""
        return self.cpu / max(1e-3, now.mono - self._born)
