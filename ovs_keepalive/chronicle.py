# SPDX-License-Identifier: Apache-2.0
"""Each transition as one line of the log (DESIGN law 10); what comes again and again is counted instead."""

from __future__ import annotations

from collections.abc import Callable

import ovs.vlog

from ovs_keepalive.core.model import NEVER, Moment, Snapshot
from ovs_keepalive.core.repeats import Repeats

log = ovs.vlog.Vlog("ovs_keepalive")


class Chronicle:
    """What was written, up to which transition."""

    def __init__(self) -> None:
        self.told: Moment = NEVER  # the newest transition that was written
        self._repeats = Repeats()

    def publish(self, snapshot: Snapshot) -> None:
        """Write the transitions that are new."""
        for transition in snapshot.history:
            if transition.at > self.told:
                why = f"{transition.cause}: " if transition.cause != "none" else ""
                text = f"{transition.who}: {transition.old} -> {transition.new}: {why}{transition.evidence}"
                kind = f"{transition.who.partition('/')[0]} {transition.old} {transition.new}"
                self.tell(kind, text, transition.at.mono, log.info)
        if snapshot.history:
            self.told = snapshot.history[-1].at

    def tell(self, kind: str, text: str, now: float, write: Callable[[str], object]) -> None:
        """Write a line, unless too many of its kind were written lately. now: monotonic seconds."""
        if line := self._repeats.line(kind, text, now):
            write(line)
