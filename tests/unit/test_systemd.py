# SPDX-License-Identifier: Apache-2.0
"""What systemd is told, and the line that `systemctl status` shows."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ovs_keepalive.core.model import Cause, Moment, State, VswitchdState
from ovs_keepalive.formats import summary
from ovs_keepalive.publishers.systemd import Notifier
from tests.looks import SETTINGS, pmd, running, snapshot

# --- the line ------------------------------------------------------------------------------------


def test_the_line_names_the_worst_first_and_counts_the_rest() -> None:
    dead = [pmd(core, state=State.DEAD, cause=Cause.TRACED) for core in range(2)]
    gone = [pmd(core, state=State.GONE, cause=Cause.EXITED) for core in range(2, 4)]
    told = snapshot([*dead, pmd(4), *gone], vswitchd=running(state=VswitchdState.HUNG))
    line = summary.line(told)
    names = [one.name for one in (*gone, *dead)]
    assert line.startswith(
        f"vswitchd HUNG; {names[0]} GONE (exited); {names[1]} GONE (exited); {names[2]} DEAD (traced)"
    )
    assert "; 1 more; PMDs: 1 ALIVE, 2 DEAD, 2 GONE" in line


def test_the_line_says_what_it_is_blind_to() -> None:
    assert summary.line(snapshot([pmd(0)], blind=("rxqs: refused",))) == "PMDs: 1 ALIVE; blind to rxqs"


def test_the_line_of_a_disabled_daemon_says_how_to_enable_it() -> None:
    told = snapshot(settings=dataclasses.replace(SETTINGS, enabled=False))
    assert "enable-keepalive=true" in summary.line(told)


# --- systemd -------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What listens at NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


Tell = Callable[[float], list[str]]


@pytest.fixture
def tell(manager: socket.socket) -> Iterator[Tell]:
    """Publishes a snapshot of that monotonic second; what the manager was told by it."""
    environment = {"NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "77"}
    with closing(Notifier(environment, 77)) as notifier:

        def publish(second: float) -> list[str]:
            notifier.publish(snapshot([pmd(0)], at=Moment(second, 0)))
            return heard(manager)

        yield publish


def heard(manager: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += manager.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def test_the_first_snapshot_makes_it_ready(tell: Tell) -> None:
    assert tell(10.0) == ["READY=1", "WATCHDOG=1", "STATUS=PMDs: 1 ALIVE"]


def test_the_watchdog_is_fed_four_times_in_its_time(tell: Tell) -> None:
    tell(10.0)
    assert tell(11.9) == []
    assert tell(12.0) == ["WATCHDOG=1"]
    assert tell(12.5) == []


def test_a_watchdog_of_another_process_is_not_fed(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "78"}
    with closing(Notifier(environment, 77)) as notifier:
        notifier.publish(snapshot([pmd(0)]))
    assert "WATCHDOG=1" not in heard(manager)


def test_a_name_in_the_abstract_namespace_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")
        listening.settimeout(5)
        name = listening.getsockname()[1:].decode()
        with closing(Notifier({"NOTIFY_SOCKET": f"@{name}"}, 77)) as notifier:
            notifier.stopping()
        assert listening.recv(100) == b"STOPPING=1"


def test_a_manager_that_does_not_listen_changes_nothing(tmp_path: Path) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}, 77)) as notifier:
        for second in range(3):
            notifier.publish(snapshot([pmd(0)], at=Moment(float(second), 0)))
        notifier.stopping()


def test_without_systemd_nobody_is_told() -> None:
    notifier = Notifier({}, 77)
    notifier.publish(snapshot([pmd(0)]))
    notifier.reloading(Moment(1.0, 1))
    notifier.close()


def test_one_descriptor_is_kept_and_the_one_before_is_dropped(manager: socket.socket) -> None:
    words, kept = [], []
    with closing(Notifier({"NOTIFY_SOCKET": str(manager.getsockname())}, 77)) as notifier:
        for text in (b"first", b"second"):
            descriptor = os.memfd_create("memory")
            os.write(descriptor, text)
            notifier.keep(descriptor)
            os.close(descriptor)
        notifier.drop()
    for _ in range(4):
        message, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
        words.append(message.decode().split("\n"))
        for descriptor in descriptors:
            kept.append(os.pread(descriptor, 100, 0))
            os.close(descriptor)
    assert kept == [b"first", b"second"]
    assert words == [
        ["FDSTORE=1", "FDNAME=memory0"],
        ["FDSTORE=1", "FDNAME=memory1"],
        ["FDSTOREREMOVE=1", "FDNAME=memory0"],
        ["FDSTOREREMOVE=1", "FDNAME=memory1"],
    ]


HANDED = """
import os, subprocess, sys
from ovs_keepalive.publishers.systemd import Notifier
pid = sys.argv[1] or str(os.getpid())
environment = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "memory1:other:memory0", "LISTEN_PID": pid}
handed = Notifier(environment, os.getpid()).handed
there = [os.path.exists(f"/proc/self/fd/{descriptor}") for descriptor in (3, 4, 5)]
print(handed, there, [os.get_inheritable(descriptor) for descriptor in handed])
"""


@pytest.mark.parametrize(
    ("pid", "said"), [("", "[3, 5] [True, False, True] [False, False]"), ("1", "[] [True, True, True] []")]
)
def test_what_systemd_has_kept_of_ours_is_taken_and_the_rest_is_closed(pid: str, said: str) -> None:
    """In a process of its own: the descriptors have fixed numbers."""
    start = 'exec 3<&0 4<&0 5<&0; exec "$@"'
    argv = ["sh", "-c", start, "sh", sys.executable, "-c", HANDED, pid]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == said
