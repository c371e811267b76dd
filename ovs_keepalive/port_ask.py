# SPDX-License-Identifier: Apache-2.0
"""The vswitchd that the port verbs ask: who it is, as whom it runs, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovs_keepalive import stall
from ovs_keepalive.core.model import NEVER, Seen
from ovs_keepalive.core.places import Account
from ovs_keepalive.sensors import appctl_client, places
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor

PATIENCE = 10.0  # seconds for an answer


class Refused(Exception):
    """Nothing was changed: one line why, and the exit status."""

    def __init__(self, line: str, status: int = 2) -> None:
        super().__init__(line)
        self.status = status


class Vswitchd:
    """Found when it is first asked. Raises Refused with status 3 when it is not there, or does not answer."""

    def __init__(self, rundir: Path, pidfile: Path | None) -> None:
        self.rundir = rundir
        self._pidfile = pidfile
        self._sensor = VswitchdSensor(rundir, pidfile)

    def check(self, insists: bool, say: Callable[[str], None]) -> None:
        """Whether its ports may be changed: it answers, or nothing could be verified, and no PMD stalls.

        insists: only say so, if one does. Raises Refused.
        """
        self.ask("version")
        why = stall.objection(self.rundir, self._pidfile)
        if why and not insists:
            raise Refused(f"{why}; or insist with --force")
        if why:
            say(f"warning: {why}")

    def ask(self, method: str, *arguments: str) -> str:
        """One command of its control socket. Raises Refused; with status 2 when it objects to the arguments."""
        try:
            return appctl_client.ask(self._process().control_socket, PATIENCE, method, *arguments)
        except appctl_client.NoAnswer as error:
            raise Refused(f"vswitchd: {error}", 3) from error
        except appctl_client.Refused as error:
            raise Refused(f"vswitchd refuses {method}: {error}") from error

    def account(self) -> Account:
        """As whom it runs."""
        process = self._process()
        try:
            return places.process_user(process.id.pid)._replace(source="vswitchd")
        except (OSError, ValueError) as error:
            raise Refused(f"vswitchd, process {process.id.pid}: cannot be looked at: {error}", 3) from error

    def _process(self) -> Process:
        look, _ = self._sensor.look(NEVER)
        if not isinstance(look, Seen):
            raise Refused(f"vswitchd: {look.why}; without it nothing can be verified: start it first", 3)
        return look.value
