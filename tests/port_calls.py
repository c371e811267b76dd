# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive ports` as a person calls it, and what the database holds that a person could have changed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, NamedTuple

from ovs_keepalive.sandbox import Sandbox

CONFIGURED = {
    "Open_vSwitch": ("bridges", "other_config", "external_ids", "next_cfg"),
    "Bridge": ("name", "datapath_type", "ports", "controller", "fail_mode", "external_ids", "other_config"),
    "Port": ("name", "interfaces", "tag", "trunks", "external_ids", "other_config"),
    "Interface": ("name", "type", "options", "ofport_request", "external_ids", "other_config"),
    "Controller": ("target",),
}


class Called(NamedTuple):
    """What came of it."""

    status: int
    said: str
    complained: str


def call(sandbox: Sandbox, *words: str) -> Called:
    """`ovs-keepalive ports` with these words."""
    argv = [sys.executable, "-m", "ovs_keepalive", "ports", *words]
    done = subprocess.run(
        argv, env=sandbox.env, capture_output=True, text=True, errors="replace", check=False, timeout=60
    )
    return Called(done.returncode, done.stdout, done.stderr)


def configuration(sandbox: Sandbox) -> list[Any]:
    """Every row that a person sets, and the number of times that somebody asked vswitchd to look."""
    asked = [{"op": "select", "table": t, "where": [], "columns": ["_uuid", *c]} for t, c in CONFIGURED.items()]
    return [sorted(result["rows"], key=lambda row: str(row["_uuid"])) for result in sandbox.transact(*asked)]


def refused(sandbox: Sandbox, *words: str, status: int = 2) -> str:
    """The one line of a call that changed nothing."""
    before = configuration(sandbox)
    called = call(sandbox, *words)
    assert configuration(sandbox) == before
    assert called.status == status, called
    assert called.said == ""
    assert called.complained.count("\n") == 1, called.complained
    assert called.complained.startswith("ovs-keepalive: ")
    assert called.complained.rstrip("\n").isprintable()
    assert len(called.complained) < 500
    return called.complained
