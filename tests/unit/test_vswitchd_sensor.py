# SPDX-License-Identifier: Apache-2.0
"""Who vswitchd is: told by its pidfile, the lock on it, and /proc, with a real process that holds a real lock."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.core.model import Ended, Moment, NotSeen, Seen
from ovs_keepalive.sandbox import wait
from ovs_keepalive.sensors.vswitchd import PF_EXITING, VswitchdSensor

HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w"); file.write(f"{os.getpid()}\\n"); file.flush()
fcntl.lockf(file, fcntl.LOCK_EX); print("held", flush=True); time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ovs-vswitchd.pid as vswitchd does."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "ovs-vswitchd.pid")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def at(mono: float) -> Moment:
    return Moment(mono, int(mono * 1000))


def why(sensor: VswitchdSensor, mono: float) -> str:
    found, _ = sensor.look(at(mono))
    assert isinstance(found, NotSeen)
    return found.why


def test_the_holder_of_the_lock_is_found_and_its_end_is_an_event(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    sensor = VswitchdSensor(tmp_path)
    found, ended = sensor.look(at(1))
    assert isinstance(found, Seen)
    assert found.value.id.pid == holder.pid
    assert ended is None
    assert sensor.fileno() is not None
    holder.kill()
    holder.wait()
    found, ended = sensor.look(at(2))
    assert isinstance(found, NotSeen)
    assert "no process holds its lock" in found.why
    assert ended is not None
    assert not ended.orderly


def test_a_pidfile_that_went_first_makes_the_end_orderly(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    sensor = VswitchdSensor(tmp_path)
    sensor.look(at(1))
    (tmp_path / "ovs-vswitchd.pid").unlink()
    holder.terminate()
    holder.wait()
    _, ended = sensor.look(at(2))
    assert ended is not None
    assert ended.orderly


@pytest.mark.parametrize("left", [True, False])
def test_once_another_process_has_written_the_pidfile_the_control_socket_tells(
    tmp_path: Path, holder: subprocess.Popen[str], left: bool
) -> None:
    socket = tmp_path / f"ovs-vswitchd.{holder.pid}.ctl"
    socket.touch()
    sensor = VswitchdSensor(tmp_path)
    sensor.look(at(1))
    holder.kill()
    holder.wait()
    (tmp_path / "ovs-vswitchd.pid").write_text("1\n")
    if not left:
        socket.unlink()
    _, ended = sensor.look(at(2))
    assert ended is not None
    assert ended.orderly is not left


@pytest.mark.parametrize("orderly", [True, False])
def test_one_that_is_known_from_before_and_ended_meanwhile_is_told_to_have_ended(
    tmp_path: Path, holder: subprocess.Popen[str], orderly: bool
) -> None:
    """A daemon that goes on from what it has noted may come a moment too late to see it at all."""
    socket = tmp_path / f"ovs-vswitchd.{holder.pid}.ctl"
    socket.touch()
    sensor = VswitchdSensor(tmp_path)
    known = sensor.glance(at(1))
    assert known is not None
    sensor.expect(known)
    if orderly:
        socket.unlink()
        (tmp_path / "ovs-vswitchd.pid").unlink()
    holder.kill()
    holder.wait()
    found, ended = sensor.look(at(2))
    assert isinstance(found, NotSeen)
    assert ended == Ended(known, orderly)
    assert sensor.look(at(3))[1] is None, "once"


def test_one_that_is_known_from_before_and_cannot_be_found_has_not_ended(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    sensor = VswitchdSensor(tmp_path)
    known = sensor.glance(at(1))
    sensor.expect(known)
    pidfile = tmp_path / "ovs-vswitchd.pid"
    pidfile.rename(tmp_path / "away")
    assert isinstance(sensor.look(at(2))[0], NotSeen)
    assert sensor.look(at(3))[1] is None
    (tmp_path / "away").rename(pidfile)
    found, ended = sensor.look(at(4))
    assert isinstance(found, Seen)
    assert (found.value.id, ended) == (known, None)


def test_a_zombie_is_dead(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    sensor = VswitchdSensor(tmp_path)
    sensor.look(at(1))
    holder.send_signal(signal.SIGKILL)  # and nobody reaps it
    wait(lambda: sensor.look(at(2))[1], "its end noticed", 5)


def test_a_main_thread_that_the_kernel_ends_is_told_from_one_that_works(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    stat = tmp_path / "proc" / str(holder.pid) / "stat"
    stat.parent.mkdir(parents=True)
    head, _, fields = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(") ")
    state, *rest = fields.split()
    stat.write_text(f"{head}) {state} {' '.join(rest)}")
    sensor = VswitchdSensor(tmp_path, proc=tmp_path / "proc")
    sensor.look(at(1))
    assert sensor.main_state() == state
    rest[5] = str(int(rest[5]) | PF_EXITING)  # flags, field 9
    stat.write_text(f"{head}) {state} {' '.join(rest)}")
    assert sensor.main_state() == "X"


def test_a_process_that_dumps_core_counts_as_dead(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    proc = tmp_path / "proc"
    (proc / str(holder.pid)).mkdir(parents=True)
    (proc / str(holder.pid) / "stat").symlink_to(f"/proc/{holder.pid}/stat")
    real = Path(f"/proc/{holder.pid}/status").read_text()
    status = proc / str(holder.pid) / "status"
    status.write_text(real)
    sensor = VswitchdSensor(tmp_path, proc=proc)
    assert isinstance(sensor.look(at(1), silent=True)[0], Seen)
    assert "CoreDumping:\t0" in real
    status.write_text(real.replace("CoreDumping:\t0", "CoreDumping:\t1"))
    assert isinstance(sensor.look(at(2))[0], Seen)  # while its main thread answers nobody asks
    found, ended = sensor.look(at(3), silent=True)
    assert ended is not None
    assert not ended.orderly
    assert isinstance(found, NotSeen)
    assert "dumps core" in why(sensor, 4)


@pytest.mark.parametrize(
    ("text", "words"), [("", "is no process id"), ("x", "is no process id"), ("1\n", "no process holds its lock")]
)
def test_a_wrong_pidfile_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "ovs-vswitchd.pid").write_text(text)
    assert words in why(VswitchdSensor(tmp_path), 1)


def test_a_lock_held_by_another_process_than_the_file_says_is_no_vswitchd(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with (tmp_path / "ovs-vswitchd.pid").open("r+") as file:
        file.write("1\n\n\n\n\n\n")
    assert f"its lock is held by process {holder.pid}" in why(VswitchdSensor(tmp_path), 1)


def test_a_missing_directory_and_a_missing_pidfile_are_told(tmp_path: Path) -> None:
    assert "is Open vSwitch running?" in why(VswitchdSensor(tmp_path / "nowhere"), 1)
    assert "No such file" in why(VswitchdSensor(tmp_path, tmp_path / "x.pid"), 1)


def test_a_glance_tells_who_it_is_and_leaves_it_to_be_found(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    sensor = VswitchdSensor(tmp_path)
    process = sensor.glance(at(1))
    assert process is not None
    assert process.pid == holder.pid
    assert sensor.fileno() is None  # else its end would be waited for, and it never looked for
    found, ended = sensor.look(at(1.001))
    assert isinstance(found, Seen)
    assert found.value.id == process
    assert ended is None
    assert VswitchdSensor(tmp_path / "absent").glance(at(1)) is None
