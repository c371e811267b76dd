# SPDX-License-Identifier: Apache-2.0
"""Every command of a real daemon answers JSON, in both ways of asking, as docs/json.md describes it."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.json_shapes import documented, wrong
from tests.lab import node, stopped

pytestmark = pytest.mark.real

SHAPES = documented()
BACK_TO_TEXT = "set-options --format text"
ANSWERS = {
    "keepalive/status": "node",
    "keepalive/pmd-health-show": "health",
    "keepalive/pmd-xstats-show": "list of PMD",
    "keepalive/history": "list of transition",
    "keepalive/incidents": "list of incident",
    "keepalive/explain vswitchd": "vswitchd",
    "keepalive/explain 0": "PMD",
    "keepalive/breaks": "list of break",
    "keepalive/plan-restart 60": "announced",
    "keepalive/plan-cancel": "cancelled",
    "ports/show": "audit",
    "ports/audit": "audit",
    "offload/show": "offload",
    "offload/plan": "offload plan",
    "offload/disarm": "disarmed",
    "offload/history": "list of act",
    "version": "plain text",
    "list-commands": "plain text",
    "help": "plain text",
    BACK_TO_TEXT: "plain text",
    "vlog/list": "plain text",
    "vlog/set console:warn": "plain text",
    "vlog/reopen": "plain text",
}
ENDS = ("exit", "vlog/close")  # the daemon, and its log
ELSEWHERE = ("keepalive/upgrade", "offload/arm")  # test_upgrade and test_offload hold them to their shapes


def _formatted(sandbox: Sandbox, command: str) -> Any:
    """The answer as `ovs-appctl --format json` gets it: on one connection it asks for the form first."""
    pid = (sandbox.dir / "ovs-keepalive.pid").read_text().strip()
    method, *arguments = command.split()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(sandbox.dir / f"ovs-keepalive.{pid}.ctl"))
        _ask(connection, "set-options", "--format", "json")
        return _ask(connection, method, *arguments)


def _ask(connection: socket.socket, method: str, *params: str) -> Any:
    connection.sendall(json.dumps({"id": 0, "method": method, "params": params}).encode())
    text = b""
    while True:
        text += connection.recv(1 << 20)
        try:
            answer = json.loads(text)
        except ValueError:  # not all of it yet
            continue
        assert answer["error"] is None, answer["error"]
        return answer["result"]


def _incidents(sandbox: Sandbox) -> Any:
    return json.loads(sandbox.appctl("keepalive/incidents", "--json", target="ovs-keepalive"))


def test_every_command_answers_json_as_documented(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=500, keepalive_offload="plan", hw_offload=True)
    sandbox.start_daemon()
    wait(lambda: len(sandbox.column()) == 2, "two PMDs in the column", 20)
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: "DEAD" in {pmd["state"] for pmd in node(sandbox)["pmds"]}, f"{name} DEAD", 10)
        wait(lambda: _incidents(sandbox), "an incident on record", 20)
        wait(lambda: node(sandbox)["ports"] and node(sandbox)["offload"], "a look at the ports and at the flows", 20)
        listed = sandbox.appctl("list-commands", target="ovs-keepalive")
        commands = set(re.findall(r"^  (\S+)", listed, re.MULTILINE))
        assert {command.split()[0] for command in ANSWERS} | {*ENDS, *ELSEWHERE} == commands
        for command, kind in ANSWERS.items():
            text = sandbox.appctl(*command.split(), "--json", target="ovs-keepalive")
            assert list(wrong(json.loads(text), kind, SHAPES)) == [], command
            if command != BACK_TO_TEXT:
                assert list(wrong(_formatted(sandbox, command), kind, SHAPES)) == [], command

    sandbox.settings(enable_keepalive=False)
    wait(lambda: node(sandbox)["health"] == "DISABLED", "disabled", 10)
    for command in ("pmd-xstats-show", "explain vswitchd", "history"):
        text = sandbox.appctl(*f"keepalive/{command} --json".split(), target="ovs-keepalive")
        assert json.loads(text) == {"enabled": False}
    for command in ("status", "pmd-health-show"):
        shown = json.loads(sandbox.appctl(f"keepalive/{command}", "--json", target="ovs-keepalive"))
        assert list(wrong(shown, ANSWERS[f"keepalive/{command}"], SHAPES)) == []
    for command in reversed(ENDS):
        text = sandbox.appctl(command, "--json", target="ovs-keepalive")
        assert list(wrong(json.loads(text), "plain text" if "vlog" in command else "facts", SHAPES)) == []
