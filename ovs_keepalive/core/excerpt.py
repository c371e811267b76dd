# SPDX-License-Identifier: Apache-2.0
"""Somebody's text, as much of it as a sentence can bear."""

from __future__ import annotations

SHORT = 100  # characters of a name that a sentence shows; the longest that OVS itself makes has 60
_TAIL = 20  # of these, from its end


def short(name: str, most: int = SHORT) -> str:
    """Of a text that is longer the beginning and the end. What leaves is made printable where it leaves."""
    return name if len(name) <= most else f"{name[: most - _TAIL - 1]}…{name[-_TAIL:]}"
