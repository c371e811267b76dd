# SPDX-License-Identifier: Apache-2.0
"""vswitchd's other threads, of a real one: they are listed, and one that a debugger holds is a warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.sandbox import Sandbox
from tests.lab import node, stopped

pytestmark = pytest.mark.real


@pytest.mark.slow
def test_other_threads_are_listed_and_a_held_one_is_told(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(pmds=1, max_sleep=1000)
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon()

    def told() -> dict[str, Any]:
        answer = sandbox.appctl("keepalive/explain", "vswitchd", "--json", target="ovs-keepalive")
        vswitchd: dict[str, Any] = json.loads(answer)
        return vswitchd

    comms = {path.read_text().strip() for path in Path(f"/proc/{sandbox.vswitchd_pid}/task").glob("*/comm")}
    there = {comm for comm in comms if not comm.startswith("pmd-")} - {"ovs-vswitchd"}
    sandbox.wait(lambda: node(sandbox)["pmds"], "PMDs", 15)
    sandbox.wait(lambda: {thread["name"] for thread in told()["threads"]} == there, "the other threads", 25)
    threads = told()["threads"]
    assert told()["warnings"] == []
    handler = next(thread for thread in threads if thread["name"].startswith("handler"))
    with stopped(handler["tid"]):
        warning = f"{handler['name']} (tid {handler['tid']}) is held by a debugger or tracer"
        sandbox.wait(lambda: told()["warnings"] == [warning], "the warning", 15)
        text = sandbox.appctl("keepalive/explain", "vswitchd", target="ovs-keepalive")
        assert f"Warning: {warning}." in text
    sandbox.wait(lambda: told()["warnings"] == [], "the warning taken back", 15)
