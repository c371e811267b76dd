# SPDX-License-Identifier: Apache-2.0
"""The sandbox: a real OVS that is there when it says so, and of which nothing is left afterwards, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive import sandbox as module
from ovs_keepalive.ptrace import PTRACE_DETACH, Hold, is_holder, ptrace, seize, tracer
from ovs_keepalive.sandbox import PREFIX, Sandbox, SandboxError, pmd_threads, wait

pytestmark = pytest.mark.real

Maker = Callable[..., Sandbox]

# A program that uses a sandbox and waits for its end; what its first argument says is started beside it.
USER = """
import sys, signal
from ovs_keepalive.ptrace import Hold
from ovs_keepalive.sandbox import Sandbox
with Sandbox() as sandbox:
    if "hold" in sys.argv:
        hold = Hold(min(sandbox.pmds().values()))
    print(sandbox.dir, flush=True)
    if "raise" in sys.argv:
        raise ValueError("of the test")
    signal.pause()
"""


VERB = (sys.executable, "-m", "ovs_keepalive", "sandbox")


def test_each_pmd_is_there_and_polls_a_port_of_its_own(make_sandbox: Maker) -> None:
    sandbox = make_sandbox(pmds=3)
    assert [re.sub(r"\d+$", "N", name) for name in sandbox.pmds()] == [f"pmd-c0{core}/id:N" for core in range(3)]
    for name, tid in sandbox.pmds().items():
        assert Path(f"/proc/{sandbox.vswitchd_pid}/task/{tid}/comm").read_text() == f"{name}\n"
    assert sorted(_ports(sandbox)) == [["p0"], ["p1"], ["p2"]]


def test_the_tools_of_ovs_find_it_by_its_environment(sandbox: Sandbox) -> None:
    def say(*argv: str) -> str:
        return subprocess.run(argv, env=sandbox.env, check=True, capture_output=True, text=True, timeout=10).stdout

    assert say("ovs-appctl", "version") == sandbox.appctl("version")
    assert say("ovs-vsctl", f"--db={sandbox.remote}", "list-br") == sandbox.vsctl("list-br") == "br0\n"


def test_the_layout_of_numa_nodes_is_a_parameter(make_sandbox: Maker) -> None:
    sandbox = make_sandbox(numa=[0, 0, 1, 1])
    shown = sandbox.appctl("dpif-netdev/pmd-rxq-show")
    assert re.findall(r"numa_id (\d+) core_id (\d+)", shown) == [("0", "0"), ("0", "1"), ("1", "2"), ("1", "3")]
    assert all(len(ports) == 1 for ports in _ports(sandbox))


def test_many_pmds_share_one_port_with_many_queues(make_sandbox: Maker) -> None:
    sandbox = make_sandbox(pmds=17)
    assert _ports(sandbox) == [["p0"]] * 17


@pytest.mark.parametrize("suite", ["bullseye", "trixie", "sid"])
def test_another_ovs_runs_from_a_chroot(make_sandbox: Maker, suite: str) -> None:
    root = Path(os.environ.get("OVS_CHROOTS", "/var/tmp"), f"ovs-chroot-{suite}")  # noqa: S108 -- a place, not a file
    if not (root / "usr/share/openvswitch/vswitch.ovsschema").exists() or os.geteuid() != 0:
        pytest.skip(f"no OVS below {root} (debootstrap makes it), or not root")
    sandbox = make_sandbox(ovs_root=root)
    assert len(sandbox.pmds()) == 2
    assert sandbox.vsctl("list-br") == "br0\n"


def test_settings_are_set_and_removed(sandbox: Sandbox) -> None:
    sandbox.settings(enable_keepalive=True, keepalive_interval=500, keepalive_offload="off")
    assert sandbox.vsctl("get", "Open_vSwitch", ".", "other_config:keepalive-interval") == '"500"\n'
    sandbox.settings(enable_keepalive=False, keepalive_interval=None)
    kept = sandbox.vsctl("get", "Open_vSwitch", ".", "other_config")
    assert 'enable-keepalive="false"' in kept
    assert "keepalive-interval" not in kept
    assert "keepalive-offload=off" in kept


def test_the_columns_are_empty_while_there_are_none(sandbox: Sandbox) -> None:
    assert sandbox.column() == sandbox.detail() == {}


def test_daemons_are_killed_and_started_again(sandbox: Sandbox) -> None:
    old = sandbox.vswitchd_pid
    sandbox.kill_vswitchd()
    assert not Path(f"/proc/{old}").exists()
    assert sandbox.pmds() == {}
    sandbox.kill_ovsdb(signal.SIGTERM)
    with pytest.raises(OSError, match=r"."):
        sandbox.column()
    sandbox.start_ovsdb()
    sandbox.start_vswitchd()
    sandbox.wait_for_pmds()
    assert sandbox.vswitchd_pid != old
    with pytest.raises(SandboxError, match=r"^ovs-vswitchd: runs already \(pid \d+\): end it first$"):
        sandbox.start_vswitchd()


def test_stop_leaves_no_process_and_no_directory(make_sandbox: Maker) -> None:
    sandbox = make_sandbox()
    with Hold(min(sandbox.pmds().values())):
        assert len(_processes(sandbox.dir)) == 2
        sandbox.stop()
        assert _processes(sandbox.dir) == []
        assert not sandbox.dir.exists()
    sandbox.stop()


def test_a_kept_directory_holds_the_logs(make_sandbox: Maker, short_tmp: Path) -> None:
    sandbox = make_sandbox(keep=True)
    sandbox.stop()
    assert _processes(sandbox.dir) == []
    assert "opened log file" in (sandbox.dir / "ovs-vswitchd.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_its_user_leaves_nothing(short_tmp: Path, number: signal.Signals) -> None:
    with _user() as (user, place):
        assert len(_processes(place)) == 2
        user.send_signal(number)
        assert user.wait(20) != 0
        assert _processes(place) == []
        assert list(short_tmp.iterdir()) == []


def test_an_exception_in_its_user_leaves_nothing(short_tmp: Path) -> None:
    with _user("raise") as (user, place):
        assert user.wait(20) == 1
        assert _processes(place) == []
        assert list(short_tmp.iterdir()) == []


def test_sigkill_of_its_user_leaves_no_process(short_tmp: Path) -> None:
    with _user("hold") as (user, place):
        vswitchd = int((place / "ovs-vswitchd.pid").read_text())
        holder = tracer(min(pmd_threads(vswitchd).values()))
        assert holder
        user.kill()
        wait(lambda: not _processes(place), "its OVS has ended")
        wait(lambda: not is_holder(holder), "what held its PMD has ended")


# --- what goes wrong is one line ---------------------------------------------------------------


def test_a_missing_tool_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOOLS", ("ovs-nonsense",))
    with pytest.raises(SandboxError, match=r"^ovs-nonsense: not installed: apt-get install openvswitch-switch$"):
        Sandbox().start()


def test_a_directory_too_deep_for_sockets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(SandboxError, match=r"/xxx+: too long a path for sockets in it: set TMPDIR to a shorter"):
        Sandbox().start()
    assert list(deep.iterdir()) == []


def test_a_daemon_that_ends_early_is_told_with_its_last_words(sandbox: Sandbox) -> None:
    with pytest.raises(
        SandboxError, match=r"^ovs-keepalive ended with status 2; last words of ovs-keepalive: .*nonsense"
    ):
        sandbox.start_daemon("--nonsense")


def test_a_command_that_ovs_does_not_know_is_one_line(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r'^ovs-vswitchd\.\d+\.ctl: "nonsense" is not a valid command.*$'):
        sandbox.appctl("nonsense")
    with pytest.raises(SandboxError, match=r"^ovs-vsctl: unknown command 'nonsense'.*$"):
        sandbox.vsctl("nonsense")


def test_waiting_ends_at_its_deadline_and_says_why() -> None:
    with pytest.raises(SandboxError, match=r"^the moon: not within 0\.05 s$"):
        wait(lambda: False, "the moon", 0.05)
    with pytest.raises(SandboxError, match=r"^the moon: not within 0\.05 s: .*/nowhere'$"):
        wait(Path("/nowhere").read_text, "the moon", 0.05)


# --- the verb: a command, or the live table ----------------------------------------------------


def test_a_command_runs_in_the_sandbox_and_its_status_is_ours(short_tmp: Path) -> None:
    script = "ovs-appctl -t ovs-keepalive keepalive/pmd-health-show | grep -cE 'ALIVE|SLEEP'; kill -9 $$"
    status, said, _ = _run("--pmds", "2", "--", "sh", "-c", script)
    assert (status, said) == (128 + signal.SIGKILL, "2\n")
    assert list(short_tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--pmds", "0"], "--pmds 0: give a number from 1 to 512"),
        (["--pmds", "1", "--", "/nowhere"], "/nowhere: No such file or directory: give a command that can be run"),
    ],
)
def test_what_cannot_be_run_is_one_line(short_tmp: Path, words: list[str], line: str) -> None:
    assert _run(*words) == (2, "", f"ovs-keepalive sandbox: {line}\n")
    assert list(short_tmp.iterdir()) == []


def test_the_live_table_tells_how_to_ask_and_ends_by_ctrl_c(short_tmp: Path) -> None:
    with subprocess.Popen([*VERB, "--pmds", "1"], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        said = ""
        for line in user.stdout:
            said += line
            if line.startswith("pmd-c00"):
                break
        place = re.search(r"export OVS_RUNDIR=(\S+)", said)
        assert place
        wait(lambda: len(_processes(Path(place[1]))) == 4, "OVS, the daemon and its survey of ports run")
        assert re.search(r"fault pmd-c00 stop .*resume\nIn a browser: http://127\.0\.0\.1:\d+/\nCtrl-C ends the", said)
        assert "Keepalive status" in said
        user.send_signal(signal.SIGINT)
        assert user.wait(20) == 0
        assert _processes(Path(place[1])) == []
    assert list(short_tmp.iterdir()) == []


# --- the verb: faults from another terminal ----------------------------------------------------


def test_a_pmd_is_stopped_and_resumed_from_another_terminal(sandbox: Sandbox) -> None:
    name, tid = list(sandbox.pmds().items())[1]
    for typed in ("pmd-c01", name, "1"):
        assert _fault(sandbox, typed, "stop") == (0, f"{name} (tid {tid}) is held\n", "")
        assert tracer(tid)
        assert _fault(sandbox, typed, "stop") == (0, f"{name} is held already\n", "")
        assert _fault(sandbox, typed, "resume") == (0, f"{name} (tid {tid}) runs again\n", "")
        assert not tracer(tid)
        assert _fault(sandbox, typed, "resume") == (0, f"{name} is not held\n", "")


def test_a_fault_ends_with_its_sandbox(sandbox: Sandbox) -> None:
    tid = min(sandbox.pmds().values())
    assert _fault(sandbox, "pmd-c00", "stop")[0] == 0
    holder = tracer(tid)
    sandbox.stop()
    assert not is_holder(holder)


def test_a_fault_on_no_such_pmd_names_those_there_are(sandbox: Sandbox) -> None:
    for typed in ("pmd-c07", "pmd-c01/id:99", "nonsense"):
        status, said, line = _fault(sandbox, typed, "stop")
        assert (status, said) == (2, "")
        there = r"no such PMD thread in /\S+: pmd-c00/id:\d+ pmd-c01/id:\d+"
        assert re.fullmatch(rf"ovs-keepalive sandbox: {typed}: {there}\n", line)


def test_a_fault_beside_a_debugger_is_refused(sandbox: Sandbox) -> None:
    tid = min(sandbox.pmds().values())
    seize(tid)  # by this very process
    try:
        status, _, line = _fault(sandbox, "0", "stop")
        assert status == 3
        assert f"traced already by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})" in line
        status, _, line = _fault(sandbox, "0", "resume")
        assert status == 2
        assert f"held by process {os.getpid()}, which is none of ours" in line
    finally:
        ptrace(PTRACE_DETACH, tid)


def test_the_only_sandbox_is_found_and_of_several_one_has_to_be_named(make_sandbox: Maker, short_tmp: Path) -> None:
    line = "ovs-keepalive sandbox: no sandbox runs here: start one with"
    assert _fault(None, "0", "stop")[::2] == (
        3,
        f"{line} `ovs-keepalive sandbox`, or set OVS_RUNDIR to its directory\n",
    )
    first = make_sandbox()
    assert _fault(None, "0", "stop")[0] == 0
    assert tracer(min(first.pmds().values()))
    second = make_sandbox()
    status, _, line = _fault(None, "0", "resume")
    assert status == 2
    assert line.startswith("ovs-keepalive sandbox: 2 sandboxes run: set OVS_RUNDIR to one of /")
    assert {first.dir.name, second.dir.name} == set(re.findall(rf"{PREFIX}\w+", line))


# --- what the tests need -----------------------------------------------------------------------


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR of this test, with room for the sockets of a sandbox; tmp_path is too long a path for them."""
    with tempfile.TemporaryDirectory(prefix="s.") as path:
        monkeypatch.setenv("TMPDIR", path)
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


@contextmanager
def _user(*words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that uses a sandbox, and the directory of that."""
    argv = [sys.executable, "-c", USER, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as user:
        try:
            assert user.stdout is not None
            yield user, Path(user.stdout.readline().strip())
        finally:
            user.kill()


def _run(*words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit status and output of `ovs-keepalive sandbox`."""
    done = subprocess.run([*VERB, *words], env=env, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def _fault(sandbox: Sandbox | None, *words: str) -> tuple[int, str, str]:
    """Exit status and output of `ovs-keepalive sandbox fault`; sandbox: the one in OVS_RUNDIR."""
    env = sandbox.env if sandbox else {key: value for key, value in os.environ.items() if key != "OVS_RUNDIR"}
    return _run("fault", *words, env=env)


def _processes(place: Path) -> list[int]:
    """Every process that runs for the sandbox in that directory."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"OVS_RUNDIR={place}\0".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:  # it ended while we looked, or is not ours
            continue
    return found


def _ports(sandbox: Sandbox) -> list[list[str]]:
    """The ports that each PMD polls."""
    blocks = sandbox.appctl("dpif-netdev/pmd-rxq-show").split("pmd thread")[1:]
    return [re.findall(r"port: (\S+)", block) for block in blocks]
