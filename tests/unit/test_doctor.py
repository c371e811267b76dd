# SPDX-License-Identifier: Apache-2.0
"""What doctor makes of each thing it can find; and what it asks the kernel, of real sockets and threads."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from ovs_keepalive import doctor as verb
from ovs_keepalive.core import doctor
from ovs_keepalive.core.access import Credentials, SocketFile, access
from ovs_keepalive.core.doctor import Finding, Level
from ovs_keepalive.core.model import (
    Moment,
    NotSeen,
    PmdBlock,
    PmdRxqs,
    ProcessId,
    Rxq,
    ThreadId,
    ThreadLook,
)
from ovs_keepalive.sensors import doctor as kernel
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

NOW = Moment(100.0, 1_790_000_000_000)


def thread(core: int) -> ThreadLook:
    id = ThreadId(ProcessId(1, 1), 10 + core, 1)
    return ThreadLook(1.0, id, f"pmd-c{core:02}/id:{core}", core, "R", 1, 1, None, None, None)


def block(core: int, iterations: int | None = 5, datapath: str = "") -> PmdBlock:
    return PmdBlock(datapath, 0, core, iterations, None, None, None, None, None)


def polls(core: int, *ports: str) -> PmdRxqs:
    return PmdRxqs("", 0, core, tuple(Rxq(port, 0) for port in ports))


BOTH = (thread(1), thread(0))
DB, CTL = SocketFile("db.sock", 0, 7, 0o750), SocketFile("v.ctl", 0, 7, 0o750)  # as Open vSwitch makes them
GUEST = Credentials(9, frozenset({9, 7}), 0)  # in the sockets' group

FINDINGS = [
    (doctor.runtime_directory("/r", True, (), "root"), "OK   runtime directory: /r"),
    (doctor.runtime_directory("/r", True, ("write",), "bob"), "FAIL .*: /r: bob may not write it: run as root"),
    (doctor.runtime_directory("/r", False, ("write",), "bob"), "FAIL .*: /r is not there, .*: .*OVS_RUNDIR"),
    (doctor.schema("8.3.1", (), ()), "OK   schema: 8.3.1"),
    (doctor.schema("8.3.1", ("keepalive",), ()), "WARN schema: keepalive absent.*: .*ovs-keepalive schema apply"),
    (doctor.schema("", ("keepalive_detail",), ("keepalive",)), "FAIL schema: keepalive of another type"),
    (doctor.clients((), 0), "OK   clients: "),
    (doctor.clients(("neutron (pid 4)",), 2), r"WARN clients: neutron \(pid 4\) may go deaf.*: restart them"),
    (doctor.clients((), 2), "WARN clients: cannot tell whose 2 .*: run as root"),
    (doctor.clients_elsewhere("tcp:1.2.3.4:6640"), "WARN clients: those of tcp:1.2.3.4:6640"),
    (doctor.live_settings(None), "FAIL settings: .*no row: ovs-vsctl --no-wait init"),
    (doctor.live_settings({}), "WARN settings: .*: ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"),
    (doctor.live_settings({"enable-keepalive": "true"}), "OK   settings: enabled, interval 1000 ms"),
    (
        doctor.live_settings({"enable-keepalive": "a: b"}),
        "FAIL .*:enable-keepalive=a: b is refused: .*set true or false",
    ),
    (doctor.live_settings({"keepalive-interval": "0x10"}), "FAIL .*interval=0x10 is refused: ovs-vsctl .*to 3600000"),
    (doctor.silent_main(7, "T", 0, 3), "FAIL main thread: no answer within 3 s, state T .*: kill -CONT 7"),
    (doctor.silent_main(7, "t", 9, 3), r"FAIL main thread: .* state t \(held by process 9\): detach process 9"),
    (doctor.silent_main(7, "D", 0, 3), "FAIL main thread: .* state D .*: cat /proc/7/task/7/stack"),
    (doctor.silent_main(7, "R", 0, 3), "WARN main thread: .* state R .*: wait"),
    (doctor.silent_main(7, "S", 0, 3), "WARN main thread: .* state S .*: look for"),
    (doctor.datapaths(["system@a", "netdev@b"], ("netdev",)), "OK   datapath: system@a, netdev@b"),
    (doctor.datapaths(["system@a"], ("netdev",)), "WARN datapath: only system@a, .* no PMD threads: ovs-vsctl set"),
    (doctor.datapaths([], ("netdev",)), "WARN datapath: none: ovs-vsctl set bridge"),
    (doctor.pmd_threads(BOTH), "OK   PMD threads: pmd-c00/id:0, pmd-c01/id:1"),
    (doctor.pmd_threads(()), "WARN PMD threads: none: add a port"),
    (doctor.iterations(BOTH, (block(0), block(1))), "OK   iterations: counted for 2"),
    (doctor.iterations(BOTH, (block(0), block(1, None))), "FAIL iterations: not told for pmd-c01/id:1: ask again"),
    (doctor.iterations(BOTH, (block(0, 1, "a"), block(0, 1, "b"))), "FAIL iterations: .*share the cores 0, .*: keep"),
    (doctor.iterations(BOTH, NotSeen(NOW, "/s.ctl: answered garbage: b'x'")), "FAIL iterations: /s.ctl: .*: ask again"),
    (doctor.rxqs(BOTH, (polls(0, "p0"), polls(1, "p1", "p2"))), "OK   rxqs: 3 are polled$"),
    (doctor.rxqs(BOTH, (polls(0, "p0"), polls(1))), "OK   rxqs: 1 are polled, UNUSED pmd-c01/id:1"),
    (doctor.rxqs(BOTH, (polls(0), polls(1))), "WARN rxqs: no PMD polls any, UNUSED pmd-c00.*: add a port"),
    (doctor.rxqs((), ()), "WARN rxqs: no PMD polls any: add a port"),
    (doctor.rxqs(BOTH, (polls(0, "p0"),)), "FAIL rxqs: not told for pmd-c01/id:1: ask again"),
    (doctor.rxqs(BOTH, NotSeen(NOW, "/s.ctl: permission denied: give")), "FAIL rxqs: /s.ctl: permission denied: run"),
    (doctor.schedstat(5), "OK   schedstat: "),
    (doctor.schedstat(0), "WARN schedstat: .*: boot a kernel with CONFIG_SCHED_INFO"),
    (doctor.schedstat(None), "WARN schedstat: "),
    (doctor.rights("pmd", {"syscall": True, "wchan": True}), "OK   privileges: syscall, wchan of pmd can be read"),
    (doctor.rights("pmd", {"syscall": True, "stack": False}), "OK   privileges: stack of pmd .*no verdict needs"),
    (doctor.rights("pmd", {"syscall": True, "perf events": False}), "OK   privileges: perf events .* interval later"),
    (doctor.rights("pmd", {"syscall": False}), "WARN privileges: .*a blocked or frozen PMD keeps its state.*: run as"),
    (doctor.rights("pmd", {"wchan": False}), "WARN privileges: .*a frozen PMD is told as blocked: .*CAP_SYS_PTRACE"),
    (access("it", Credentials(0, frozenset({0}), 0x1FF), [DB]), "OK   access: it may use .* sockets as root"),
    (access("it", Credentials(9, frozenset({9}), 0x2), [DB]), r"OK   access: .* by CAP_DAC_OVERRIDE, way \(a\)"),
    (
        access("it", Credentials(9, frozenset({9, 7}), 0), [DB._replace(mode=0o770)]),
        r"OK   .* by their group, way \(b\)",
    ),
    (
        access("it", Credentials(9, frozenset({9, 7}), 0), [DB, CTL]),
        "FAIL access: it may not write to db.sock, v.ctl: run",
    ),
    (access("it", Credentials(0, frozenset({0}), 0), [DB]), "OK   access: .* as their owner"),
    (
        access("it", Credentials(9, frozenset({9}), 0), [DB._replace(mode=0o777)]),
        "WARN access: everybody .*: chmod o-w",
    ),
    (access("it", GUEST, [DB._replace(mode=0o707)]), "FAIL access: "),
    (doctor.clock(NOW, NOW, 1e-9), "OK   clock: 21 Sep 2026 14:13:20 UTC, monotonic in steps of 1 ns"),
    (doctor.clock(Moment(1, 0), Moment(1, 60_000), 1e-9), "FAIL clock: it is 01 Jan 1970.*: timedatectl"),
    (doctor.clock(NOW, NOW._replace(wall_ms=NOW.wall_ms - 3000), 1e-9), "WARN clock: .*stepped by -3.0 s"),
    (doctor.clock(NOW, NOW, 0.004), "WARN clock: .*every 4 ms"),
    (doctor.python_ovs("4.0.0"), "OK   python-ovs: 4.0.0"),
    (doctor.python_ovs("3.5.0"), "OK   python-ovs: 3.5.0"),
    (doctor.python_ovs("3.1.2"), "FAIL python-ovs: 3.1.2, older than 3.5: pip install 'ovs>=3.5'"),
    (doctor.python_ovs("unknown"), "FAIL python-ovs: unknown"),
    (doctor.no_daemon("stale"), r"WARN daemon: not running \(stale\), .*lock .*not known: systemctl start"),
    (doctor.daemon(3, {"version": "1, pid 3", "lock": "held"}), "OK   daemon: 1, pid 3, lock held"),
    (doctor.daemon(3, {"lock": "held by another daemon: waiting"}), "WARN daemon: pid 3, lock held by.*: stop one"),
    (doctor.daemon(3, {"lock": "not known"}), "WARN daemon: pid 3, lock not known: ovs-appctl"),
    (doctor.silent_daemon(3, "/k.ctl: permission denied: x"), "WARN daemon: runs as pid 3, .*: run as root"),
    (doctor.silent_daemon(3, "/k.ctl: no answer within 3 s"), "FAIL daemon: pid 3: /k.ctl: no answer within 3 s: look"),
    (doctor.not_checked("rxqs", "vswitchd"), "WARN rxqs: not checked without vswitchd: cure vswitchd first"),
]


@pytest.mark.parametrize(("finding", "line"), FINDINGS, ids=[line[:40] for _, line in FINDINGS])
def test_each_finding_is_one_line_that_names_the_cure(finding: Finding, line: str) -> None:
    assert re.match(line, str(finding)), str(finding)
    assert bool(finding.cure) is (finding.level is not Level.OK)


@pytest.mark.parametrize(
    ("why", "rest", "cure"),
    [
        ("cannot connect: permission denied", ": run as root, or as a user", "run as root"),
        ("cannot connect: no such socket", ": is ovsdb-server running?", "systemctl start ovsdb-server"),
        ("cannot connect: nothing listens there", ": is ovsdb-server running?", "systemctl start ovsdb-server"),
        ("cannot connect: its queue of connections is full", ": the server does not answer", "kill -CONT"),
        ("get_schema: no answer within 3 s", "", "kill -CONT"),
        ("the server refuses get_schema: x\ny", "", "--ovsdb"),
    ],
)
def test_what_keeps_the_database_away_has_its_cure(why: str, rest: str, cure: str) -> None:
    finding = doctor.cured("database", f"unix:/d: {why}{rest}", doctor.DATABASE)
    assert (finding.level, finding.found) == (Level.FAIL, f"unix:/d: {why}")
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("text", "told", "cure"),
    [
        (None, r"no ovs-vswitchd\*\.pid in \S+$", "systemctl start ovs-vswitchd"),
        ("1\n", "pidfile .* is stale: no process holds its lock$", "systemctl start ovs-vswitchd"),
        ("x", "pidfile .*: b'x' is no process id$", "--vswitchd-pidfile"),
    ],
)
def test_what_the_sensor_says_of_vswitchd_has_its_cure(tmp_path: Path, text: str | None, told: str, cure: str) -> None:
    if text is not None:
        (tmp_path / "ovs-vswitchd.pid").write_text(text)
    found, _ = VswitchdSensor(tmp_path).look(Moment(1, 1))
    assert isinstance(found, NotSeen)
    finding = doctor.cured("vswitchd", found.why, doctor.VSWITCHD)
    assert re.match(told, finding.found)
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("process 7 of /f is not in /proc: ended, hidden (hidepid), or another PID namespace", "hidepid=0"),
        ("pidfile /f says 7, its lock is held by a process of another PID namespace: share the host's", "--pid=host"),
        ("pidfile /f says 7, its lock is held by process 8", "--vswitchd-pidfile"),
        ("pidfile /f: Permission denied", "run as root"),
        ("process 7 of /f is ending: it dumps core", "keep the core"),
    ],
)
def test_what_it_says_in_a_container_or_beside_a_core_dump_has_its_cure(said: str, cure: str) -> None:
    assert cure in doctor.cured("vswitchd", said, doctor.VSWITCHD).cure


# --- the verb ------------------------------------------------------------------------------------


def test_without_anything_each_check_is_one_line_and_the_status_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path / "nowhere"))
    out = StringIO()
    assert verb.run(f"unix:{tmp_path}/nowhere/db.sock", None, out) == 3
    lines = out.getvalue().splitlines()
    assert [line[5:].partition(":")[0] for line in lines] == [name for name, _ in verb.CHECKS]
    assert "FAIL runtime directory" in lines[0]
    assert "no such socket" in lines[1]
    assert {line[:4] for line in lines} <= {"OK  ", "WARN", "FAIL"}


def test_a_check_that_breaks_is_a_line_and_the_others_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_case: verb.Case) -> Finding:
        raise RuntimeError("a\nb")

    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    monkeypatch.setattr(verb, "CHECKS", (("clock", broken), *verb.CHECKS))
    out = StringIO()
    verb.run(f"unix:{tmp_path}/db.sock", None, out)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(verb.CHECKS)
    assert lines[0].startswith("FAIL clock: cannot be checked (RuntimeError: a b): run")


def test_a_terminal_that_lacks_a_character_is_no_error() -> None:
    class Latin(StringIO):
        encoding = "latin-1"

    finding = Finding(Level.OK, "settings", "\u20ac")
    out = Latin()
    verb.tell(finding, out)
    assert out.getvalue() == "OK   settings: ?\n"


# --- the kernel ----------------------------------------------------------------------------------

CLIENT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A socket with a client in a Python program of its own, called agent.py; reached by a link."""
    (tmp_path / "agent.py").write_text(CLIENT)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "db.sock"))
        listener.listen(8)
        argv = [sys.executable, "-u", str(tmp_path / "agent.py"), str(tmp_path / "db.sock")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"there\n"
            accepted, _ = listener.accept()
            (tmp_path / "link").symlink_to(tmp_path)
            with accepted:
                yield tmp_path / "link" / "db.sock"


def test_the_python_clients_of_a_socket_are_named(server: Path) -> None:
    found = kernel.clients(server)
    assert found.unseen == 0
    [name] = found.pythons
    assert re.fullmatch(r"agent\.py \(pid \d+\)", name)


def test_a_client_that_may_not_be_seen_counts_as_one(server: Path, tmp_path: Path) -> None:
    (tmp_path / "proc" / "1").mkdir(parents=True)
    assert kernel.clients(server, tmp_path / "proc") == kernel.Clients((), 1)


@pytest.mark.parametrize(
    ("cmdline", "pythons"),
    [
        ("/usr/bin/python3 /usr/bin/neutron-agent --config-file x", ("neutron-agent (pid 5)",)),
        ("neutron-agent: master process", ("neutron-agent: master process (pid 5)",)),
        ("/usr/bin/python3 /usr/bin/ovs-keepalive run", ()),
        ("python3 -m ovs_keepalive run", ()),
        ("python3", ("python3.11 (pid 5)",)),
    ],
)
def test_the_name_is_that_of_the_program_and_our_own_is_none(
    tmp_path: Path, cmdline: str, pythons: tuple[str, ...]
) -> None:
    words = [cmdline] if ":" in cmdline else cmdline.split()  # it may rename itself, all in one word
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "db.sock"))
        listener.listen(8)
        client.connect(str(tmp_path / "db.sock"))
        process = tmp_path / "proc" / "5"
        (process / "fd").mkdir(parents=True)
        (process / "fd" / "3").symlink_to(f"socket:[{os.fstat(client.fileno()).st_ino}]")
        (process / "exe").symlink_to("/usr/bin/python3.11")
        (process / "comm").write_text("python3.11\n")
        (process / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        with listener.accept()[0]:
            assert kernel.clients(tmp_path / "db.sock", tmp_path / "proc") == kernel.Clients(pythons, 0)


def test_nobody_on_the_socket_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "db.sock"))
        listener.listen(8)
        assert kernel.clients(tmp_path / "db.sock") == kernel.Clients((), 0)


def test_rights_are_tried_on_the_thread(tmp_path: Path) -> None:
    may = kernel.rights(os.getpid(), threading.get_native_id())
    assert may["syscall"]
    assert may["wchan"]
    assert set(may) <= {"syscall", "wchan", "stack", "perf events"}
    assert not any(kernel.rights(os.getpid(), 2**22 + 1, tmp_path).values())
