# SPDX-License-Identifier: Apache-2.0
"""A bridge's flows, through a child `ovs-ofctl`: python-ovs speaks no OpenFlow. Each call has a deadline.

vswitchd filters: what is counted by it is not sent, so that a bridge of 100,000 flows costs its main thread little.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.formats import flows
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.trace import Rule, flow_count, packets

DEADLINE = 5.0  # seconds for one answer
VERSIONS = ",".join(f"OpenFlow1{minor}" for minor in range(6))  # a bridge need not speak the usual one
COOKIE = 0x6F76736B  # "ovsk": of the flows that are ours
NORMAL = "priority=0,actions=NORMAL"
EVERYWHERE = ("NORMAL", "FLOOD", "ALL")  # actions that may lead to any port


class NoFlows(Exception):
    """ovs-ofctl did not do it: one line why."""


class Ofctl:
    """What it says of one bridge, by the socket that vswitchd has for it in its run directory."""

    def __init__(self, rundir: Path, name: str, deadline: float = DEADLINE) -> None:
        """deadline: seconds for one answer."""
        self._target = f"unix:{rundir}/{name}.mgmt"
        self._deadline = deadline

    def count(self) -> int | None:
        """The number of flows, of all tables; None of an answer that says nothing of them. Raises NoFlows."""
        return flows.count(self._ask("dump-tables"))

    def flows(self) -> Flows:
        """What all flows do with the ports. Raises NoFlows."""
        return flows.parse(self._ask("--no-names", "--no-stats", "dump-flows"))

    def leading_to(self, ofport: int) -> tuple[str, ...]:
        """The actions by which some flow may lead to that port. Raises NoFlows."""
        ways = (str(ofport), *EVERYWHERE)
        return tuple(way for way in ways if flow_count(self._ask("dump-aggregate", f"out_port={way}")))

    def packets(self, rule: Rule) -> int | None:
        """The packets that this flow has matched; None if it cannot be told. Raises NoFlows."""
        match = f",{rule.match}" if rule.match else ""
        return packets(self._ask("--no-names", "dump-flows", f"table={rule.table}{match}"), rule)

    def default(self) -> str:
        """The flow of the lowest priority that matches all, as it is listed; "" if there is none. Raises NoFlows."""
        everything = self._ask("--no-names", "--no-stats", "dump-flows", "table=0,out_port=ANY")
        lines = (line.strip() for line in everything.splitlines())
        return next((line for line in lines if "priority=0 actions=" in line), "")

    def add_normal(self) -> None:
        """Let the bridge forward as a switch does what no other flow matches. Raises NoFlows."""
        self._ask("add-flow", f"cookie={COOKIE:#x},{NORMAL}")

    def take_back_normal(self) -> None:
        """Take our flow away, and no other. Raises NoFlows."""
        self._ask("del-flows", f"cookie={COOKIE:#x}/-1")

    def with_cookie(self, cookie: int, mask: int) -> str:
        """The flows whose cookie is that one, by that mask, as they are listed. Raises NoFlows."""
        return self._ask("--no-names", "--no-stats", "dump-flows", f"cookie={cookie:#x}/{mask:#x}")

    def bundle(self, changes: str) -> None:
        """All of these changes at once or none, a line each: `add FLOW`, `delete FLOW`. Raises NoFlows."""
        self._ask("--bundle", "add-flows", "-", text=changes)

    def _ask(self, *words: str, text: str = "") -> str:
        """words: options, then the command; behind it comes the bridge. text: what it reads."""
        at = next(number for number, word in enumerate(words) if not word.startswith("--")) + 1
        options = [f"--protocols={VERSIONS}", f"--timeout={self._deadline:.0f}"]
        argv = ["ovs-ofctl", *options, *words[:at], self._target, *words[at:]]
        try:
            done = subprocess.run(
                argv, capture_output=True, check=False, timeout=2 * self._deadline, input=text.encode()
            )
        except (OSError, ValueError) as error:
            raise NoFlows(f"ovs-ofctl: {error}: is openvswitch-switch installed?") from error
        except subprocess.TimeoutExpired as error:
            raise NoFlows(f"ovs-ofctl: {self._target}: no answer within {2 * self._deadline:g} s") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
            raise NoFlows(short(one_line(said[-1]), 200))
        return done.stdout.decode(errors="replace")
