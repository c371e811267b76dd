# SPDX-License-Identifier: Apache-2.0
"""Free text made fit for one line: names of ports, threads and processes are what somebody else chose."""

from __future__ import annotations

import re

# Control characters, what some readers take for a line's end, and what is no Unicode.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def one_line(text: str) -> str:
    """The text without anything that could end a line or reach a terminal."""
    return _UNFIT.sub(" ", text)
