# SPDX-License-Identifier: Apache-2.0
"""The flows of a bridge, by a child `ovs-ofctl`: python-ovs speaks no OpenFlow.

First they are counted, which costs vswitchd's main thread next to nothing; only if they are few are they read.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

from ovs_keepalive.formats import flows
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.formats.plain import one_line, short

MOST = 2000  # flows that are read; some 3 us of the main thread each
PAUSE = 30.0  # seconds between two looks at one bridge
AT_ONCE = 8  # bridges in one look
DEADLINE = 3.0  # seconds for one answer
VERSIONS = ",".join(f"OpenFlow1{minor}" for minor in range(6))  # a bridge need not speak the usual one


class BridgeFlows:
    """Remembers what was seen, and looks anew from time to time."""

    def __init__(self, rundir: Path) -> None:
        self._rundir = rundir
        self._known: dict[str, Flows | str] = {}
        self._asked: dict[str, float] = {}  # monotonic

    def look(self, bridges: Collection[str], now: float) -> dict[str, Flows | str]:
        """The flows of these bridges. now: monotonic seconds."""
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

    def _flows(self, bridge: str) -> Flows | str:
        try:
            count = flows.count(self._ask("dump-tables", bridge))
            if count is None:
                return f"ovs-ofctl dump-tables {bridge}: its answer says nothing of flows"
            if count > MOST:
                return f"bridge {bridge} has more than {MOST} flows: they are not read"
            return flows.parse(self._ask("dump-flows", bridge))
        except OSError as error:
            return f"ovs-ofctl: {error.strerror or error}"
        except subprocess.TimeoutExpired:
            return f"ovs-ofctl: no answer for bridge {bridge} within {DEADLINE:g} s"

    def _ask(self, command: str, bridge: str) -> str:
        """Raises OSError, also with what ovs-ofctl complains of."""
        options = [f"--timeout={DEADLINE:.0f}", f"--protocols={VERSIONS}"]
        if command == "dump-flows":
            options += ["--no-names", "--no-stats"]
        argv = ["ovs-ofctl", *options, command, f"unix:{self._rundir}/{bridge}.mgmt"]
        done = subprocess.run(
            argv, capture_output=True, check=False, timeout=2 * DEADLINE, stdin=subprocess.DEVNULL
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
            raise OSError(0, short(one_line(said[-1]), 200))
        return done.stdout.decode(errors="replace")
