# SPDX-License-Identifier: Apache-2.0
"""The daemon as its own user, in the two ways of docs/deployment.md: by one capability, and by none at all.

Open vSwitch's files are as it makes them: runtime directory 0755, sockets 0750, all of them root's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ovs_keepalive.ptrace import as_user
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.lab import stopped
from tests.subscriber import Subscriber

pytestmark = pytest.mark.real

USER, GROUP = 65534, 65533  # nobody, and a group of its own
AGAIN = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', '']).returncode)"


def by_capability(sandbox: Sandbox) -> Sequence[str]:
    """Way (a). The state directory is the unit's StateDirectory=."""
    return as_user(USER, capabilities=["dac_override"])


def by_group(sandbox: Sandbox) -> Sequence[str]:
    """Way (b): what tmpfiles.d and the umask options of Open vSwitch make of it."""
    os.chown(sandbox.dir, 0, GROUP)
    sandbox.dir.chmod(0o2775)
    for path in sockets(sandbox):
        os.chown(path, 0, GROUP)
        path.chmod(0o770)
    return as_user(USER, group=GROUP)


def sockets(sandbox: Sandbox) -> list[Path]:
    return [sandbox.dir / "db.sock", *sandbox.dir.glob("ovs-vswitchd.*.ctl")]


@pytest.fixture(autouse=True)
def _stock(sandbox: Sandbox) -> None:
    """The sandbox as stock Open vSwitch would have it, and a state directory as systemd makes it."""
    if os.geteuid():
        cannot("another user's process: needs root")
    sandbox.dir.chmod(0o755)
    for path in sockets(sandbox):
        path.chmod(0o750)
    state = sandbox.dir / "state"
    state.mkdir()
    os.chown(state, USER, GROUP)
    if not may_run([*as_user(USER), sys.executable, "-c", "import ovs_keepalive"]):
        pytest.skip("nobody may not read this checkout or its Python: put them where everybody may")


Way = Callable[[Sandbox], Sequence[str]]
WAYS = pytest.mark.parametrize("way", [by_capability, by_group])


def may_run(argv: Sequence[str]) -> bool:
    return not subprocess.run(argv, capture_output=True, check=False).returncode


@WAYS
def test_the_whole_job_is_done_as_its_own_user(sandbox: Sandbox, way: Way) -> None:
    through = way(sandbox)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    pid = sandbox.start_daemon(through=through)
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"\nUid:\t{USER}\t" in status
    [capabilities] = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    assert int(capabilities, 16) == (2 if way is by_capability else 0)
    names = set(sandbox.pmds())
    wait(lambda: set(sandbox.column()) == names, "2 PMDs in the column", 15)  # it added the columns as well
    name, tid = next(iter(sandbox.pmds().items()))
    with Subscriber(sandbox.remote) as subscriber:
        with stopped(tid):
            wait(lambda: subscriber.first(name, "GONE", 0.0), f"{name} GONE", 10)
        wait(lambda: subscriber.states(name)[-1] == "ALIVE", f"{name} ALIVE", 10)
        assert [state for state in subscriber.states(name) if state != "ALIVE"] == ["MISSING", "DEAD", "GONE"]
    records = sandbox.dir / "state"
    if may_run([*through, sys.executable, "-c", AGAIN]):  # the collector is a child, with the same interpreter
        wait(lambda: any(records.iterdir()), "a record of the incident", 20)
    health = subprocess.run(
        ["ovs-appctl", "-t", "ovs-keepalive", "keepalive/pmd-health-show"],
        env=sandbox.env, capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    assert name in health.stdout
    assert sandbox.stop_daemon() == 0
    assert sandbox.column() == {}


@WAYS
def test_a_restart_of_open_vswitch_is_survived_as_its_own_user(sandbox: Sandbox, way: Way) -> None:
    through = way(sandbox)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(through=through)
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "2 PMDs in the column", 15)
    sandbox.kill_vswitchd()
    sandbox.kill_ovsdb()
    sandbox.start_ovsdb()
    sandbox.start_vswitchd()
    way(sandbox)  # in way (b) the options of Open vSwitch do this by themselves
    sandbox.wait_for_pmds()

    def well() -> bool:
        column = sandbox.column()
        return set(column) == set(sandbox.pmds()) and all(v.startswith(("ALIVE", "SLEEP")) for v in column.values())

    wait(well, "the PMDs of the new process in the column", 20)


@WAYS
def test_doctor_says_which_way_is_in_force(sandbox: Sandbox, way: Way) -> None:
    pid = sandbox.start_daemon(through=way(sandbox))
    argv = [sys.executable, "-m", "ovs_keepalive", "doctor"]
    done = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, check=False, timeout=30)
    [line] = [line for line in done.stdout.splitlines() if line[5:].startswith("access: ")]
    said = "by CAP_DAC_OVERRIDE, way (a)" if way is by_capability else "by their group, way (b)"
    assert line == f"OK   access: the daemon, pid {pid}, may use Open vSwitch's sockets {said}"


def test_without_either_way_it_stays_up_and_says_what_it_lacks(sandbox: Sandbox) -> None:
    sandbox.dir.chmod(0o777)  # else it could not even have its pidfile
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(through=as_user(USER))
    assert "not connected, trying again" in sandbox.appctl("keepalive/status", target="ovs-keepalive")
    assert sandbox.column() == {}
