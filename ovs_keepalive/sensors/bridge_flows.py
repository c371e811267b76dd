# SPDX-License-Identifier: Apache-2.0
"""The flows of bridges as the survey looks at them: seldom, and only where they are few.

First they are counted, which costs vswitchd's main thread next to nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.sensors.openflow import NoFlows, Ofctl

MOST = 2000  # flows that are read; some 3 us of the main thread each
PAUSE = 30.0  # seconds between two looks at one bridge
AT_ONCE = 8  # bridges in one look
DEADLINE = 3.0  # seconds for one answer


class BridgeFlows:
    """Remembers what was seen, and looks anew from time to time."""

    def __init__(self, rundir: Path) -> None:
        self._rundir = rundir
        self._known: dict[str, Flows | str] = {}
        self._asked: dict[str, float] = {}  # monotonic

    def look(self, bridges: Collection[str], now: float) -> dict[str, Flows | str]:
        """The flows of these bridges, or why they are not known. now: monotonic seconds."""
        for gone in self._known.keys() - set(bridges):
            del self._known[gone], self._asked[gone]
        due = sorted((self._asked.get(bridge, 0.0), bridge) for bridge in bridges)
        for asked, bridge in due[:AT_ONCE]:
            if bridge not in self._known or now - asked >= PAUSE:
                self._known[bridge], self._asked[bridge] = self._flows(bridge), now
        return dict(self._known)

    def forget(self) -> None:
        """Look at all anew: they are another process's."""
        self._known, self._asked = {}, {}

    def _flows(self, name: str) -> Flows | str:
        bridge = Ofctl(self._rundir, name, DEADLINE)
        try:
            count = bridge.count()
            if count is None:
                return f"ovs-ofctl dump-tables {name}: its answer says nothing of flows"
            if count > MOST:
                return f"bridge {name} has more than {MOST} flows: they are not read"
            return bridge.flows()
        except NoFlows as error:
            return str(error)
