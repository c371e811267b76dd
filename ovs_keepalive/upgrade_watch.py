# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive upgrade-watch`: a restart of vswitchd by the operator's own command, announced, watched to its end.

It starts nothing but that command, and repairs nothing: it says beforehand how long such a restart broke on this host,
and afterwards what came back.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TextIO

from ovs_keepalive.core import comeback
from ovs_keepalive.core.breaks import KEPT
from ovs_keepalive.core.comeback import Host, Report
from ovs_keepalive.core.model import State, VswitchdState
from ovs_keepalive.formats import comeback as said
from ovs_keepalive.formats import document
from ovs_keepalive.formats.plain import json_text, one_line
from ovs_keepalive.publishers import schema

PAUSE = 0.2  # seconds between two questions whether all is back
BEGIN = 3.0  # seconds after the command ended, until which vswitchd has ended if it ever does
PATIENCE = 5.0  # seconds for the database or ovs-ofctl to answer
_FLOWS = re.compile(r"flow_count=([0-9]{1,12})\b")

Ask = Callable[..., Any]  # a command of the daemon and its arguments, to its decoded answer


class NotBegun(Exception):
    """Nothing was started: one line why."""


class Wishes(NamedTuple):
    """What the operator asks for."""

    command: Sequence[str]
    max_break: float | None  # seconds
    deadline: float  # seconds that the restart may take, its ports included
    as_json: bool


def run(wishes: Wishes, ask: Ask, remote: str, out: TextIO) -> bool:
    """Whether all came back. Raises NotBegun, and whatever `ask` raises."""
    node = ask("keepalive/status", "--json")
    _check(node)
    expected = comeback.expected(ask("keepalive/breaks", str(KEPT), "--json"))
    if wishes.max_break is not None and expected.worst is not None and expected.worst > wishes.max_break:
        allowed = f"--max-break allows {wishes.max_break:g} s"
        raise NotBegun(f"the worst of {expected.n} announced restarts broke for {expected.worst:.2f} s, {allowed}")
    try:
        before = _host(node, remote)
    except schema.Failed as error:
        raise NotBegun(str(error)) from error
    if not wishes.as_json:
        print(said.promise(expected), file=out, flush=True)
    ask("keepalive/plan-restart", str(math.ceil(wishes.deadline)), "--json")
    try:
        begun = time.monotonic()
        status = _command(wishes)
        broke, after = _wait(begun + wishes.deadline, ask, remote, before, node["vswitchd"]["pid"])
    finally:
        ask("keepalive/plan-cancel", "--json")
    report = Report(wishes.command, status, expected, wishes.max_break, broke, before, after)
    if wishes.as_json:
        out.write(json_text(said.document(report)))
    else:
        out.writelines(f"{one_line(line)}\n" for line in said.lines(report))
    return report.well


def _check(node: Any) -> None:
    if not document.is_node(node) or (node["enabled"] and "breaks" not in node):
        raise NotBegun("the daemon is of another version: ovs-appctl -t ovs-keepalive version")
    if not node["enabled"]:
        cure = "ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"
        raise NotBegun(f"keepalive is disabled, nobody would see the break: {cure}")
    state = node["vswitchd"]["state"]
    if state != VswitchdState.RUNNING:
        raise NotBegun(f"vswitchd is {state}: begin when it is RUNNING")


def _command(wishes: Wishes) -> int:
    """Run it to its end; its words are the operator's, stdout is left to the report when that is a document."""
    try:
        return subprocess.run(wishes.command, stdout=sys.stderr if wishes.as_json else None, check=False).returncode
    except OSError as error:
        raise NotBegun(f"{wishes.command[0]}: {error.strerror}: name a command that can be run") from error


def _wait(deadline: float, ask: Ask, remote: str, before: Host, pid: int) -> tuple[Any, Host]:
    """The break and the host once all is back, or when the time is over (monotonic seconds)."""
    ended = time.monotonic()
    while True:
        now = time.monotonic()
        node = ask("keepalive/status", "--json")
        broke = comeback.newest(node, pid)
        try:
            after = _host(node, remote, bridges=())
        except schema.Failed:  # it is restarted too
            after = Host(frozenset(), {}, {})
        back = broke is not None and comeback.is_back(node, broke, before, after)
        if back or now >= deadline or (broke is None and now - ended >= BEGIN):
            return broke, after._replace(flows=_flows(before.flows))
        time.sleep(PAUSE)


def _host(node: Any, remote: str, bridges: Iterable[str] | None = None) -> Host:
    """What there is now. bridges: whose flows are counted, all by default. Raises schema.Failed."""
    wanted = [("Interface", ["name", "link_state"]), ("Bridge", ["name"])]
    selects = [{"op": "select", "table": table, "where": [], "columns": columns} for table, columns in wanted]
    interfaces, rows = schema.call(remote, "transact", ["Open_vSwitch", *selects], PATIENCE)
    links = {row["name"]: row["link_state"] if isinstance(row["link_state"], str) else "" for row in interfaces["rows"]}
    polling = frozenset(pmd["core"] for pmd in node["pmds"] if pmd["state"] in (State.ALIVE, State.SLEEP))
    names = sorted(row["name"] for row in rows["rows"]) if bridges is None else bridges
    return Host(polling, links, _flows(names))


def _flows(bridges: Iterable[str]) -> dict[str, int | None]:
    return {bridge: _flow_count(bridge) for bridge in bridges}


def _flow_count(bridge: str) -> int | None:
    argv = ["ovs-ofctl", f"--timeout={PATIENCE:.0f}", "dump-aggregate", bridge]
    try:
        told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:  # it is not installed
        return None
    found = _FLOWS.search(told)
    return int(found[1]) if found is not None else None
