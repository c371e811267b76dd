# SPDX-License-Identifier: Apache-2.0
"""What is known of a restart of vswitchd before it happens: that it was announced, and who holds its forwarding up.

The main loop hears of it; the beat gets it with its settings, and judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ovs_keepalive.core import vswitchd
from ovs_keepalive.core.model import NEVER, Moment, Plan, Snapshot, Transition
from ovs_keepalive.core.settings import is_true
from ovs_keepalive.formats import breaks

HELD = "flow-restore-wait"  # of other_config: `ovs-ctl restart` sets it until the flows are back


class Restarts:
    """The announced restart, if there is one, and since when vswitchd may forward. Belongs to the main loop."""

    def __init__(self, note: Callable[[Transition], None], changed: Callable[[], None]) -> None:
        """note: takes a line of history; changed: tells the beat."""
        self.plan: Plan | None = None
        self.flow_restored: Moment | None = NEVER  # as in Settings
        self._note = note
        self._changed = changed

    def announce(self, seconds: float, now: Moment) -> Plan:
        """Expect a restart; it takes the place of one announced before."""
        self.plan = Plan(now, seconds)
        self._tell(now, "none", "announced", breaks.promise(self.plan))
        return self.plan

    def cancel(self, now: Moment) -> Plan | None:
        """Expect none any more; what was announced until now."""
        plan, self.plan = self.plan, None
        if plan is not None:
            self._tell(now, "announced", "none", "cancelled")
        return plan

    def follow(self, snapshot: Snapshot) -> None:
        """Forget what was announced once it is over, or its time has passed."""
        plan = self.plan
        if plan is None or snapshot.settings.plan != plan:  # the beat has not heard of it yet
            return
        if vswitchd.announced(snapshot.vswitchd, snapshot.settings, snapshot.at) is None:
            self.plan = None
            begun = plan == snapshot.vswitchd.plan
            self._tell(snapshot.at, "announced", "none", "over" if begun else "it did not begin in its time")

    def take(self, other_config: Mapping[str, str], now: Moment) -> None:
        """Follow flow-restore-wait."""
        held = is_true(other_config, HELD)
        if held != (self.flow_restored is None):
            self.flow_restored = None if held else now
            self._changed()

    def _tell(self, now: Moment, old: str, new: str, why: str) -> None:
        self._note(Transition(now, "restart", old, new, "none", why))
        self._changed()
