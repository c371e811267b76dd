# SPDX-License-Identifier: Apache-2.0
"""While a PMD stalls no command line changes a port: vswitchd would wait for that PMD, and answer nobody meanwhile.

The PMD is held by ptrace, on a real switch; it has no DPDK: what is changed is a port that vswitchd could not open.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from ovs_keepalive import stall
from ovs_keepalive.core.mesh import BRIDGE, MARK
from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import node, stopped
from tests.port_calls import call, configuration, refused

pytestmark = pytest.mark.real

SEEN = r"the PMD on core {} has finished no iteration for 1\.\d s: vswitchd would wait for it and answer nobody"
HOUR = 3_600_000  # ms
CALM = {"schema": "manual"}  # no conversion, by which every connection with the database breaks


@pytest.fixture
def switch(sandbox: Sandbox) -> Sandbox:
    """With a vhost-user port that nobody uses, on a bridge that is nobody else's."""
    sandbox.vsctl("--no-wait", "del-fail-mode", "br0")
    sandbox.vsctl("--no-wait", "add-port", "br0", "vm1", "--", "set", "interface", "vm1", "type=dpdkvhostuserclient")
    return sandbox


def first(sandbox: Sandbox) -> tuple[str, int, int]:
    """A PMD: name, core, tid."""
    name, tid = min(sandbox.pmds().items())
    return name, int(name[5:7]), tid


def alone(_: Sandbox) -> None:
    """No daemon."""


def disabled(sandbox: Sandbox) -> None:
    """One that does not look."""
    sandbox.start_daemon(config=CALM)


def slow(sandbox: Sandbox) -> None:
    """One that will say so in an hour."""
    sandbox.settings(enable_keepalive=True, keepalive_interval=HOUR)
    sandbox.start_daemon(config=CALM)


@pytest.mark.parametrize("watcher", [alone, disabled, slow])
def test_a_stalled_pmd_is_seen_by_whoever_changes_a_port(switch: Sandbox, watcher: Callable[[Sandbox], None]) -> None:
    watcher(switch)
    _, core, tid = first(switch)
    with stopped(tid):
        line = refused(switch, "del", "vm1")
        switch.appctl("version")
    assert re.search(SEEN.format(core), line), line
    assert "or insist with --force" in line
    assert call(switch, "del", "vm1").status == 0


def test_the_daemon_says_who_it_is_and_where_to_read_why(switch: Sandbox) -> None:
    switch.settings(enable_keepalive=True, keepalive_interval=200)
    switch.start_daemon(config=CALM)
    name, _, tid = first(switch)

    def states() -> set[str]:
        return {pmd["state"] for pmd in node(switch)["pmds"] if pmd["name"] == name}

    with stopped(tid):
        wait(lambda: states() == {"GONE"}, f"{name} is GONE")
        line = refused(switch, "del", "vm1")
        switch.appctl("version")
    assert f"{name} is GONE (traced): vswitchd would wait for it and answer nobody" in line
    assert f"see ovs-appctl -t ovs-keepalive keepalive/explain {name}; or insist with --force" in line
    wait(lambda: states() & {"ALIVE", "SLEEP"}, f"{name} is well again")
    assert call(switch, "del", "vm1").status == 0


def test_who_insists_is_warned_and_obeyed(switch: Sandbox) -> None:
    """This port was never opened: vswitchd need not wait for anybody to let it go."""
    _, core, tid = first(switch)
    with stopped(tid):
        called = call(switch, "del", "vm1", "--force")
    assert (called.status, called.complained) == (0, "")
    assert re.match(f"warning: {SEEN.format(core)}", called.said)
    assert "took vm1 off br0" in called.said


def test_a_vswitchd_that_is_silent_may_be_held_up_already(switch: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "PATIENCE", 0.5)
    with stopped(switch.vswitchd_pid):
        said = stall.objection(switch.dir, None)
    assert said.startswith("vswitchd has not answered for 0.5 s, and a PMD may be what it waits for: try again")
    switch.kill_vswitchd()
    assert stall.objection(switch.dir, None) == "", "there is nobody to hold up"


def test_pmds_that_nap_and_those_that_poll_nothing_do_not_stall(switch: Sandbox) -> None:
    """They nap for up to 10 ms, as always in a sandbox; and one of them loses its only port."""
    assert stall.objection(switch.dir, None) == ""
    switch.vsctl("del-port", "br0", "p1")
    assert switch.appctl("dpif-netdev/pmd-rxq-show").count("queue-id:") == 1
    assert stall.objection(switch.dir, None) == ""
    assert call(switch, "del", "vm1").status == 0


def test_pmds_of_a_process_that_ended_hold_up_nobody(switch: Sandbox) -> None:
    """They are told as GONE until those of the next process are there, of which this one has none."""
    switch.settings(enable_keepalive=True, keepalive_interval=200)
    switch.start_daemon(config=CALM)
    wait(lambda: {pmd["state"] for pmd in node(switch)["pmds"]} & {"ALIVE", "SLEEP"}, "its PMDs are known")
    switch.kill_vswitchd()
    switch.vsctl("--no-wait", "del-port", "br0", "p0", "--", "del-port", "br0", "p1")
    switch.start_vswitchd()
    wait(lambda: node(switch)["vswitchd"]["state"] == "RUNNING", "the next one runs")
    assert {(pmd["state"], pmd["cause"]) for pmd in node(switch)["pmds"]} == {("GONE", "process-gone")}
    assert call(switch, "del", "vm1").status == 0


def test_the_mesh_is_not_taken_away_while_a_pmd_stalls(sandbox: Sandbox) -> None:
    mark = f"external_ids:{MARK}=rack1"
    sandbox.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", mark, "--", "set", "port",
                  BRIDGE, mark, "--", "set", "interface", BRIDGE, mark)  # fmt: skip
    sandbox.wait_for_pmds()
    config = sandbox.dir / "fleet.yaml"
    config.write_text(json.dumps({"fleet": {"cell": "rack1", "node": "a"}}))
    argv = [sys.executable, "-m", "ovs_keepalive", "fleet", "unmesh", "--config", str(config)]

    def unmesh() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=60, check=False)

    _, core, tid = first(sandbox)
    before = configuration(sandbox)
    with stopped(tid):
        held = unmesh()
        sandbox.appctl("version")
    assert (held.returncode, held.stdout) == (2, "")
    assert re.match(f"ovs-keepalive: fleet unmesh: {SEEN.format(core)}", held.stderr)
    assert held.stderr.count("\n") == 1
    assert "--force" not in held.stderr
    assert configuration(sandbox) == before
    done = unmesh()
    assert (done.returncode, done.stdout) == (0, f"{BRIDGE}: removes 0 ports and the bridge\n")
