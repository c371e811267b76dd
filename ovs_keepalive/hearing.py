# SPDX-License-Identifier: Apache-2.0
"""What the daemon says to a process that looks for it: lines on stdin. The daemon's end of the pipe is `helper.py`."""

from __future__ import annotations

import os

_PART = 1 << 16


class Hearing:
    """The stdin of this process."""

    def __init__(self) -> None:
        os.set_blocking(0, False)
        self.over = False  # there is nobody left who could say anything
        self._taken = b""

    def lines(self) -> list[bytes]:
        """Those that have come since; waits for none."""
        try:
            heard = os.read(0, _PART)
        except BlockingIOError:  # nothing was said
            return []
        self.over = not heard
        *lines, self._taken = (self._taken + heard).split(b"\n")
        return lines
