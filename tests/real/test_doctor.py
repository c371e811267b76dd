# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive doctor` on a real Open vSwitch: well, and with each thing wrong that can be made wrong here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ovs_keepalive.publishers import schema
from ovs_keepalive.sandbox import Sandbox
from tests.conftest import cannot
from tests.lab import stopped

pytestmark = pytest.mark.real

NEUTRON = Path(__file__).with_name("neutron_like.py")
DOCTOR = (sys.executable, "-m", "ovs_keepalive", "doctor")
# What it needs is imported before: nobody may not read everybody's Python.
AS_NOBODY = """
import os, sys
from pathlib import Path
from ovs_keepalive import doctor
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(doctor.run(f"unix:{os.environ['OVS_RUNDIR']}/db.sock", None, sys.stdout))
"""
NOBODY = (sys.executable, "-c", AS_NOBODY)


class Report(NamedTuple):
    """What doctor said."""

    status: int
    lines: dict[str, str]  # by check: level, finding and cure
    seconds: float

    @property
    def unwell(self) -> dict[str, str]:
        """The lines that are not OK."""
        return {what: line for what, line in self.lines.items() if not line.startswith("OK")}

    def level(self, level: str) -> set[str]:
        """The checks that found this."""
        return {what for what, line in self.lines.items() if line.startswith(level)}


def ask(box: Sandbox, *args: str, argv: tuple[str, ...] = DOCTOR) -> Report:
    began = time.monotonic()
    done = subprocess.run([*argv, *args], env=box.env, capture_output=True, text=True, timeout=30, check=False)
    seconds = time.monotonic() - began
    assert done.stderr == ""
    lines = {}
    for line in done.stdout.splitlines():
        what, colon, found = line[5:].partition(": ")
        assert colon, f"no finding: {line}"
        assert line[:5] in ("OK   ", "WARN ", "FAIL "), line
        lines[what] = f"{line[:4].strip()}: {found}"
    assert len(lines) == 18
    return Report(done.returncode, lines, seconds)


def as_root() -> None:
    if os.geteuid() != 0:
        cannot("only root can become nobody, or mount")


@contextmanager
def client(box: Sandbox) -> Iterator[None]:
    """A client as neutron's agent is one."""
    with subprocess.Popen([sys.executable, str(NEUTRON), box.remote], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"connected")
        yield
        process.terminate()


def test_a_fresh_host_gets_well_by_what_doctor_says(sandbox: Sandbox) -> None:
    fresh = ask(sandbox)
    assert fresh.status == 0
    assert set(fresh.unwell) == fresh.level("WARN") == {"schema", "settings", "daemon"}
    assert fresh.lines["schema"].endswith("then ovs-keepalive schema apply")
    argv = [sys.executable, "-m", "ovs_keepalive", "schema", "apply"]
    subprocess.run(argv, env=sandbox.env, check=True, capture_output=True)
    _, _, cure = fresh.lines["settings"].rpartition(": ")
    command, *words = cure.split()
    assert command == "ovs-vsctl"
    sandbox.vsctl("--no-wait", *words)
    sandbox.start_daemon(config={"schema": "manual"})
    sandbox.wait(sandbox.column, "the column is written")
    well = ask(sandbox)
    assert (well.status, well.unwell) == (0, {})
    assert "pmd-c00/id:" in well.lines["PMD threads"]
    assert well.lines["iterations"] == "OK: counted for 2 PMD threads"
    assert well.lines["rxqs"] == "OK: 2 are polled"
    assert well.lines["daemon"].endswith("lock held")


def test_python_clients_are_named_whether_the_columns_are_there_or_not(sandbox: Sandbox) -> None:
    with client(sandbox):
        line = ask(sandbox).lines["clients"]
        assert line.startswith("WARN: neutron_like.py (pid ")
        assert "restart" in line


def test_without_a_database_the_rest_is_checked_and_the_status_is_3(sandbox: Sandbox) -> None:
    sandbox.kill_ovsdb()
    gone = ask(sandbox)
    assert gone.status == 3
    assert gone.level("FAIL") == {"database"}
    assert "nothing listens there: systemctl start ovsdb-server" in gone.lines["database"]
    assert gone.lines["iterations"].startswith("OK")
    other = ask(sandbox, "--ovsdb", f"unix:{sandbox.dir}/nowhere.sock")
    assert other.status == 3
    assert "no such socket" in other.lines["database"]
    foreign = ask(sandbox, "--ovsdb", f"unix:{sandbox.dir}/ovs-vswitchd.{sandbox.vswitchd_pid}.ctl")
    assert foreign.status == 3
    assert "refuses get_schema" in foreign.lines["database"]


def test_a_database_that_never_answers(sandbox: Sandbox) -> None:
    sandbox.kill_ovsdb(signal.SIGSTOP)
    silent = ask(sandbox)
    assert silent.status == 3
    assert "no answer within 3 s" in silent.lines["database"]
    assert silent.seconds < 6


def test_a_stopped_vswitchd(sandbox: Sandbox) -> None:
    sandbox.kill_vswitchd(signal.SIGSTOP)
    silent = ask(sandbox)
    assert silent.status == 1
    assert silent.level("FAIL") == {"main thread"}
    pid = sandbox.vswitchd_pid
    assert silent.lines["main thread"].endswith(f"state T (stopped by a signal): kill -CONT {pid}")
    assert "pmd-c01/id:" in silent.lines["PMD threads"]
    assert "not checked without main thread" in silent.lines["iterations"]
    assert silent.seconds < 6


def test_a_main_thread_that_a_debugger_holds(sandbox: Sandbox) -> None:
    with stopped(sandbox.vswitchd_pid):
        held = ask(sandbox).lines["main thread"]
        assert held.endswith(f"state t (held by process {os.getpid()}): detach process {os.getpid()}")


def test_a_stale_pidfile_and_a_wrong_one(sandbox: Sandbox) -> None:
    wrong = ask(sandbox, "--vswitchd-pidfile", f"{sandbox.dir}/ovsdb.pid")
    assert wrong.status == 1
    assert "ovsdb.pid: No such file or directory: name the pidfile" in wrong.lines["vswitchd"]
    sandbox.kill_vswitchd()
    stale = ask(sandbox)
    assert stale.status == 1
    assert stale.level("FAIL") == {"vswitchd"}
    assert stale.lines["vswitchd"].endswith("is stale: no process holds its lock: systemctl start ovs-vswitchd")


def test_garbage_in_other_config_is_refused_in_one_line(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive="yes\n\x1b[31mplease", keepalive_interval="5 s: or so")
    refused = ask(sandbox)
    assert refused.status == 1
    assert refused.level("FAIL") == {"settings"}
    line = refused.lines["settings"]
    assert "enable-keepalive=yes [31mplease is refused" in line
    assert "keepalive-interval=5 s: or so is refused: ovs-vsctl set" in line


def test_a_column_of_another_type_is_nothing_that_apply_could_cure(sandbox: Sandbox) -> None:
    live = schema.call(sandbox.remote, "get_schema", ["Open_vSwitch"], 5)
    live["tables"]["Open_vSwitch"]["columns"]["keepalive"] = {"type": "string"}
    schema.call(sandbox.remote, "convert", ["Open_vSwitch", live], 30)
    taken = ask(sandbox)
    assert taken.status == 1
    assert taken.level("FAIL") == {"schema"}
    assert taken.lines["schema"].startswith("FAIL: keepalive of another type")


def test_no_bridge_means_nothing_to_watch_and_is_said(sandbox: Sandbox) -> None:
    sandbox.vsctl("del-br", "br0")
    empty = ask(sandbox)
    assert empty.status == 0
    assert empty.lines["datapath"] == "WARN: none: ovs-vsctl set bridge BRIDGE datapath_type=netdev"
    assert empty.lines["PMD threads"].startswith("WARN: none: add a port")
    assert empty.lines["privileges"].startswith("OK: syscall, wchan, stack, perf events of the main thread")


def test_a_daemon_that_does_not_answer(sandbox: Sandbox) -> None:
    pid = sandbox.start_daemon()
    sandbox.stop_daemon(signal.SIGSTOP)
    silent = ask(sandbox)
    sandbox.stop_daemon(signal.SIGCONT)
    assert silent.status == 1
    assert silent.level("FAIL") == {"daemon"}
    assert f"pid {pid}: " in silent.lines["daemon"]
    assert "no answer within 3 s: look at its log" in silent.lines["daemon"]


# --- other users, other namespaces ---------------------------------------------------------------


def test_a_user_who_may_nothing(sandbox: Sandbox) -> None:
    as_root()
    nobody = ask(sandbox, argv=NOBODY)
    assert nobody.status == 3
    assert nobody.level("FAIL") == {"runtime directory", "database"}
    assert nobody.lines["runtime directory"].endswith("nobody may not list or enter or write it: run as root")
    assert nobody.lines["database"].endswith("permission denied: run as root")
    assert "not checked without runtime directory" in nobody.lines["vswitchd"]
    assert "not checked without runtime directory" in nobody.lines["daemon"]


def test_a_user_who_may_connect_is_told_what_is_lost(sandbox: Sandbox) -> None:
    as_root()
    sandbox.start_daemon()
    sandbox.dir.chmod(0o777)
    (sandbox.dir / "db.sock").chmod(0o777)
    mute = ask(sandbox, argv=NOBODY)
    assert mute.status == 1
    assert mute.level("FAIL") == {"main thread"}
    assert mute.lines["main thread"].endswith(".ctl: permission denied: run as root")
    assert mute.lines["daemon"].endswith("this user may not ask it: run as root")
    for control in sandbox.dir.glob("*.ctl"):
        control.chmod(0o777)
    nobody = ask(sandbox, argv=NOBODY)
    assert nobody.status == 0
    assert set(nobody.unwell) - {"settings", "schema", "daemon"} == {"clients", "privileges"}
    assert nobody.lines["clients"].startswith("WARN: cannot tell whose ")
    assert nobody.lines["access"].endswith("may use Open vSwitch's sockets as root")  # the daemon
    assert "a blocked or frozen PMD keeps its state, unverified" in nobody.lines["privileges"]
    assert nobody.lines["iterations"].startswith("OK")


def can_unshare() -> None:
    """Skips where there is no namespace to be had: in a chroot the root is no mount point."""
    if shutil.which("unshare") is None:
        cannot("unshare is not installed")
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(tried.stderr.strip())


def test_another_pid_namespace_is_told(sandbox: Sandbox) -> None:
    as_root()
    can_unshare()
    inside = ask(sandbox, argv=("unshare", "--pid", "--fork", "--mount-proc", "--", *DOCTOR))
    assert inside.status == 1
    assert inside.level("FAIL") == {"vswitchd"}
    assert "of another PID namespace: share the host's: --pid=host" in inside.lines["vswitchd"]
    assert inside.lines["clients"].startswith("WARN: cannot tell whose 1 connections")


def test_a_proc_that_hides_vswitchd_is_told(sandbox: Sandbox) -> None:
    as_root()
    can_unshare()
    sandbox.dir.chmod(0o777)
    (sandbox.dir / "db.sock").chmod(0o777)
    hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    hidden = ask(sandbox, argv=("unshare", "--mount", "--", "sh", "-c", hide, "sh", *NOBODY))
    assert hidden.status == 1
    assert hidden.level("FAIL") == {"vswitchd"}
    assert "hidden (hidepid), or another PID namespace: share" in hidden.lines["vswitchd"]
    assert "remount,hidepid=0" in hidden.lines["vswitchd"]
