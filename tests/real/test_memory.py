# SPDX-License-Identifier: Apache-2.0
"""A daemon that comes back knows what was known: a kill, a clean stop, and what must not be gone by."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from ovs_keepalive.formats import memory as form
from ovs_keepalive.sandbox import Sandbox, wait
from ovs_keepalive.shelf import BOOT_ID
from tests.lab import stopped
from tests.subscriber import Subscriber

pytestmark = pytest.mark.real


def asked(sandbox: Sandbox, *command: str) -> Any:
    return json.loads(sandbox.appctl(*command, "--json", target="ovs-keepalive"))


def pmd(sandbox: Sandbox, name: str) -> dict[str, Any]:
    [found] = [pmd for pmd in asked(sandbox, "keepalive/status")["pmds"] if pmd["name"] == name]
    return dict(found)


def is_dead(sandbox: Sandbox, name: str) -> bool:
    return sandbox.column().get(name, "").startswith("DEAD")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_pmd_that_was_dead_is_dead_since_then_whoever_ended_the_daemon(sandbox: Sandbox, number: int) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=2000)
    sandbox.start_daemon()
    name, tid = next(iter(sandbox.pmds().items()))
    wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
    with stopped(tid):
        wait(lambda: is_dead(sandbox, name), "DEAD in the column", 10)
        before, history = pmd(sandbox, name), asked(sandbox, "keepalive/history")
        sandbox.stop_daemon(number)
        with Subscriber(sandbox.remote) as subscriber:
            sandbox.start_daemon()
            wait(lambda: is_dead(sandbox, name), "DEAD in the column again", 10)
            after, told = pmd(sandbox, name), asked(sandbox, "keepalive/history")
            assert set(subscriber.states(name)) <= {"", "DEAD"}
        kept = ("state", "since", "cause", "cause_since", "witness", "last_seen", "missed_heartbeats")
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
        assert (before["state"], before["missed_heartbeats"]) == ("DEAD", 1)
        assert [one for one in told if one in history] == history
        assert [(one["from"], one["to"]) for one in told if one["who"] == "daemon"] == [("away", "back")]
    wait(lambda: pmd(sandbox, name)["state"] in ("ALIVE", "SLEEP"), "alive again", 10)
    assert pmd(sandbox, name)["missed_heartbeats"] == 1


@pytest.mark.slow
def test_a_restart_that_was_announced_is_expected_by_the_daemon_that_comes_back(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon()
    wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
    asked(sandbox, "keepalive/plan-restart", "600")
    announced = asked(sandbox, "keepalive/status")["vswitchd"]["announced"]
    assert announced["seconds"] == 600
    note = sandbox.dir / "state" / "ovs-keepalive.memory"
    boot = BOOT_ID.read_text().strip()
    pidfile = str(sandbox.dir / "ovs-keepalive.pid")
    wait(lambda: form.decode(note.read_bytes(), boot, pidfile).plan, "the announcement noted", 10)
    sandbox.stop_daemon(signal.SIGKILL)
    sandbox.start_daemon()
    assert asked(sandbox, "keepalive/status")["vswitchd"]["announced"] == announced


@pytest.mark.slow
def test_of_another_vswitchd_nothing_is_known(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=200)
    sandbox.start_daemon()
    wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
    sandbox.stop_daemon(signal.SIGKILL)
    sandbox.kill_vswitchd()
    sandbox.start_vswitchd()
    sandbox.wait_for_pmds()
    sandbox.start_daemon()
    # The column may name them already: their names can be those of before.
    wait(lambda: asked(sandbox, "keepalive/status")["enabled"], "the settings read", 15)
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "the PMDs of now in the column", 15)
    assert not [one for one in asked(sandbox, "keepalive/history") if one["who"] == "daemon"]
    [line] = [line for line in (sandbox.dir / "ovs-keepalive.log").read_text().splitlines() if "not gone by" in line]
    assert "which is over" in line
