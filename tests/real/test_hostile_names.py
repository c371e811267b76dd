# SPDX-License-Identifier: Apache-2.0
"""Ports of a real Open vSwitch whose names are meant to harm, and clients that are: OVS takes any name for a port."""

from __future__ import annotations

import json

import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError, request
from tests.switch import add_port

pytestmark = pytest.mark.real

NAMES = (
    "pmd thread numa_id 0 core_id 1:",  # the header of a PMD's block in pmd-rxq-show
    "x\x1b[2Jy\u202ez",
    "n;ew\nline",
    "a queue-id: 3",
)


def test_no_name_of_a_port_hides_a_pmd_or_leaves_unfit(sandbox: Sandbox) -> None:
    for name in NAMES:
        add_port(sandbox, name)
    sandbox.wait(lambda: all(name in sandbox.appctl("dpif-netdev/pmd-rxq-show") for name in NAMES), "its ports", 15)
    sandbox.settings(enable_keepalive=True, keepalive_interval="1000\n\x1b[31mforged|ERR|")
    sandbox.start_daemon()
    sandbox.wait(lambda: len(sandbox.column()) == 2, "two PMDs in the column", 20)
    for command in ("status", "pmd-xstats-show", "history"):
        text = sandbox.appctl(f"keepalive/{command}", target="ovs-keepalive")
        assert all(line.isprintable() for line in text.split("\n"))
    node = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
    ports = {rxq.rpartition("/")[0] for pmd in node["pmds"] for rxq in pmd["rxqs"]}
    assert ports >= {NAMES[0], NAMES[1], "n;ew", NAMES[3]}
    log = (sandbox.dir / "ovs-keepalive.log").read_text()
    assert "[31mforged|ERR|: 1000 ms stays in force" in log
    assert all(line.isprintable() for line in log.split("\n"))


def test_no_request_ends_the_daemon(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True)
    pid = sandbox.start_daemon()
    sandbox.wait(lambda: len(sandbox.column()) == 2, "two PMDs in the column", 20)
    control = sandbox.dir / f"ovs-keepalive.{pid}.ctl"
    for method, *params in (
        ("set-options", "--format", "yaml"),
        ("set-options", "--help"),
        ("vlog/set", "FACILITY"),
        ("vlog/set", "pattern:console:%D{(}"),
        ("keepalive/history", f"000000001{'9' * 5000}"),
        ("keepalive/explain", "\x1b[2J"),
    ):
        with pytest.raises((SandboxError, OSError)):
            request(control, method, params)
        assert "ovs-keepalive" in sandbox.appctl("version", target="ovs-keepalive")
    assert sandbox.stop_daemon() == 0
