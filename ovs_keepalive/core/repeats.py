# SPDX-License-Identifier: Apache-2.0
"""Which of many lines alike are worth a line in the log. What fails again and again must not fill a disk."""

from __future__ import annotations

from typing import NamedTuple

from ovs_keepalive.core.model import Moment, Transition

FREE, WINDOW = 10, 600.0  # so many lines of a kind in so many seconds; the others are counted
TOLD = 8  # transitions of one judgement that are told one by one
KINDS = 1000  # that are remembered; names from outside are among them


class _Kind(NamedTuple):
    since: float  # monotonic; begin of the present window
    told: int
    held: int  # back, since a line was told


def few(news: tuple[Transition, ...], at: Moment, who: str, what: str) -> tuple[Transition, ...]:
    """As many as a history can bear: a restart of vswitchd moves everything at once. what: they are, in words."""
    if len(news) <= TOLD:
        return news
    rest = f"{len(news) - TOLD} more {what} changed at once"
    return (*news[:TOLD], Transition(at, who, "various", "various", "none", rest))


class Repeats:
    """Knows what was told lately. now: monotonic seconds."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def line(self, kind: str, text: str, now: float) -> str | None:
        """The line to log, with the number of those like it that were not; None: hold this one back."""
        known = self._kinds.pop(kind, None)
        if known is None or now - known.since >= WINDOW:
            known = _Kind(now, 0, known.held if known is not None else 0)
        if known.told >= FREE:
            self._kinds[kind] = known._replace(held=known.held + 1)
            return None
        self._kinds[kind] = known._replace(told=known.told + 1, held=0)
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]
        return f"{text} (and {known.held} more like it since the last one told)" if known.held else text
