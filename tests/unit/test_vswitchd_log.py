# SPDX-License-Identifier: Apache-2.0
"""vswitchd's log, followed on real files through all that may happen to one; and a real vswitchd's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ovs_keepalive.core.log_events import MAIN, Blocked
from ovs_keepalive.core.model import Moment, NotSeen, Seen
from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from ovs_keepalive.sensors.vswitchd import VswitchdSensor
from ovs_keepalive.sensors.vswitchd_log import ABSENT, BACKLOG, CHUNK, REFUSED, LogSensor, log_path
from tests.lab import stopped

NOISE = "2026-11-21T06:18:36.207Z|00057|coverage|INFO|LogEvent coverage, avg rate over last: 5 seconds\n"
ROOT = 0


def line(ms: int) -> str:
    return f"2026-11-21T06:18:38.265Z|00091|ovs_rcu|WARN|blocked {ms} ms waiting for pmd-c01/id:8 to quiesce\n"


def blocked(*ms: int) -> list[Blocked]:
    return [Blocked(one, "pmd-c01/id:8") for one in ms]


def at(mono: float) -> Moment:
    return Moment(mono, int(mono * 1000))


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Log:
    """A log and the sensor on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sensor = LogSensor(path)

    def write(self, text: str | bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def look(self, mono: float = 1.0) -> list[Blocked]:
        found = self.sensor.look(at(mono))
        assert not isinstance(found, NotSeen)
        return list(found.value) if found is not None else []

    def why(self, mono: float = 1.0) -> str:
        found = self.sensor.look(at(mono))
        assert isinstance(found, NotSeen)
        assert found.at == at(mono)
        return found.why


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A log that has something in it, and its sensor has looked once."""
    log = Log(tmp_path / "ovs-vswitchd.log")
    log.write(NOISE + line(1000))
    assert log.sensor.look(at(1)) == Seen(at(1), ())  # from its end on
    yield log
    log.sensor.close()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Log]:
    """A sensor, and no log yet."""
    log = Log(tmp_path / "ovs-vswitchd.log")
    yield log
    log.sensor.close()


# --- a log that grows ------------------------------------------------------------------------------


def test_what_is_appended_is_told_once(log: Log) -> None:
    assert log.sensor.look(at(2)) is None
    log.write(NOISE + line(2000) + NOISE)
    assert log.sensor.look(at(3)) == Seen(at(3), tuple(blocked(2000)))
    assert log.sensor.look(at(4)) is None
    log.write(NOISE)
    assert log.sensor.look(at(5)) is None


def test_lines_among_others_are_told_in_their_order(log: Log) -> None:
    log.write("x|1|dpif_netdev|INFO|PMD thread on numa_id: 0, core id:  1 destroyed.\n" + line(1000))
    log.write("x|2|timeval|WARN|Unreasonably long 1501ms poll interval (1003ms user, 27ms system)\n" + line(2000))
    assert log.look() == blocked(1000, 2000)


def test_half_a_line_waits_for_its_end(log: Log) -> None:
    text = line(4000)
    for piece in (text[:1], text[1:50], text[50:-1]):
        log.write(piece)
        assert log.look() == []
    log.write(text[-1:] + text[:5])
    assert log.look() == blocked(4000)
    log.write(text[5:])
    assert log.look() == blocked(4000)


def test_a_line_half_written_before_the_first_look_is_not_taken_for_a_whole_one(new: Log) -> None:
    new.write("2026-11-21T06:18:38.265Z|00091|vlog|INFO|user-message: ")
    new.look()
    new.write(line(1000) + line(2000))
    assert new.look() == blocked(2000)


@pytest.mark.parametrize(
    "junk",
    [b"\0" * 100, bytes(range(256)), b"\xff\xfe\n\xc3", b"\n\n\r\n", b"x" * (CHUNK // 2), "ß|é|\u2028".encode()],
    ids=["zeros", "all-bytes", "no-utf-8", "empty-lines", "long-line", "other-line-ends"],
)
def test_binary_between_the_lines(log: Log, junk: bytes) -> None:
    log.write(line(1000).encode() + junk + b"\n" + line(2000).encode())
    assert log.look() == blocked(1000, 2000)


def test_a_line_that_never_ends_is_not_kept(log: Log) -> None:
    for _ in range(6):
        log.write(b"x" * (CHUNK // 2))
        assert log.look() == []
        assert log.sensor._log is not None
        assert len(log.sensor._log._begun) <= CHUNK
    log.write(line(1000) + line(2000))  # the first of these ends it
    assert log.look() == blocked(2000)


def test_a_look_reads_64_kib_and_the_next_one_goes_on(log: Log) -> None:
    log.write(NOISE * ((3 * CHUNK - len(line(1000))) // len(NOISE)) + line(1000))
    assert [log.look() for _ in range(4)] == [[], [], blocked(1000), []]


def test_of_a_flood_only_the_last_is_read(log: Log) -> None:
    log.write(line(1000) + NOISE * (BACKLOG // len(NOISE)) + line(2000))
    assert log.look() == blocked(2000)


def test_what_is_not_in_memory_is_read_by_a_later_look(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise BlockingIOError

    log.write(line(1000))
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", refuse)
        assert log.look() == []
    assert log.look() == blocked(1000)


def test_a_file_system_that_cannot_tell_what_is_in_memory(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "preadv", refuse)
    log.write(line(1000))
    assert log.look() == blocked(1000)


# --- rotation --------------------------------------------------------------------------------------


def test_the_rest_of_the_old_log_comes_before_the_new_one(log: Log, tmp_path: Path) -> None:
    log.write(line(1000))
    log.path.rename(tmp_path / "old")
    log.write(line(2000))
    assert log.look() + log.look() + log.look() == blocked(1000, 2000)


def test_a_long_rest_of_the_old_log_is_read_to_its_end(log: Log, tmp_path: Path) -> None:
    log.write(NOISE * (2 * CHUNK // len(NOISE)) + line(1000))
    log.path.rename(tmp_path / "old")
    log.write(line(2000))
    assert [event for _ in range(6) for event in log.look()] == blocked(1000, 2000)


def test_the_old_log_is_followed_while_the_new_one_is_empty(log: Log, tmp_path: Path) -> None:
    """A main thread that hangs does not hear that it is to reopen its log."""
    with log.path.open("a") as vswitchd:
        log.path.rename(tmp_path / "old")
        assert log.look() == []
        log.path.touch()
        for ms in (1000, 2000):
            vswitchd.write(line(ms))
            vswitchd.flush()
            assert log.look() == blocked(ms)
        (tmp_path / "old").unlink()  # compressed, by now
        vswitchd.write(line(4000))
    assert log.look() == blocked(4000)
    log.write(line(8000))
    assert log.look() + log.look() + log.look() == blocked(8000)


def test_truncated_in_place(log: Log) -> None:
    log.write(line(1000)[:50])
    assert log.look() == []
    os.truncate(log.path, 0)
    assert log.look() == []
    log.write(line(2000))
    assert log.look() == blocked(2000)
    os.truncate(log.path, 0)
    log.write(line(4000))  # as long as what was there: only a longer one would go unnoticed
    assert log.look() == []


def test_truncated_and_written_to_between_two_looks(log: Log) -> None:
    log.write(NOISE)
    log.look()
    os.truncate(log.path, 0)
    log.write(line(1000))
    assert log.look() == blocked(1000)


def test_a_removed_log_is_followed_as_long_as_vswitchd_writes_to_it(log: Log) -> None:
    with log.path.open("a") as vswitchd:
        log.path.unlink()
        vswitchd.write(line(1000))
    assert log.look() == blocked(1000)
    log.write(line(2000))
    assert log.look() + log.look() + log.look() == blocked(2000)


def test_what_is_no_log_does_not_replace_one(log: Log, tmp_path: Path) -> None:
    with log.path.open("a") as vswitchd:
        log.path.rename(tmp_path / "old")
        os.mkfifo(log.path)
        vswitchd.write(line(1000))
    assert log.look() == blocked(1000)
    assert log.look() == []


# --- no log ----------------------------------------------------------------------------------------


def test_a_log_that_is_not_there_is_told_quietly_and_read_from_its_first_line(new: Log) -> None:
    assert new.why(10) == f"{new.path}: No such file or directory"
    assert new.sensor.look(at(10 + ABSENT / 2)) is None
    assert new.why(10 + ABSENT) == f"{new.path}: No such file or directory"
    new.write(line(1000))
    assert new.sensor.look(at(10 + 1.5 * ABSENT)) is None
    assert new.sensor.look(at(10 + 2 * ABSENT)) == Seen(at(10 + 2 * ABSENT), ())  # it can be read again
    assert new.look(20) == blocked(1000)


@contextmanager
def nobody() -> Iterator[None]:
    """A user without rights, if it is root who runs the tests."""
    if os.geteuid() != ROOT:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(ROOT)


def test_a_log_that_may_not_be_read_is_told_quietly_and_read_from_its_end(new: Log) -> None:
    new.write(line(1000))
    new.path.chmod(0)
    with nobody():
        assert new.why(10) == f"{new.path}: Permission denied"
        assert new.sensor.look(at(10 + 0.9 * REFUSED)) is None
    new.path.chmod(0o600)
    assert new.look(10 + REFUSED) == []
    assert new.look(11 + REFUSED) == []  # who knows how old that line is
    new.write(line(2000))
    assert new.look(12 + REFUSED) == blocked(2000)


def test_a_fifo_is_refused_and_does_not_notice(new: Log) -> None:
    os.mkfifo(new.path)
    assert new.why() == f"{new.path}: not a regular file"
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads it
        os.open(new.path, os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("target", ["/dev/null", "/proc", "ovs-vswitchd.log"])
def test_devices_directories_and_circles_are_refused(new: Log, target: str) -> None:
    new.path.symlink_to(target)
    assert str(new.path) in new.why()
    assert new.sensor._log is None


def test_a_regular_file_that_became_a_fifo_while_it_was_opened(new: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(new.path)
    regular = Path(__file__).stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda _: regular)
        assert new.why() == f"{new.path}: not a regular file"


def test_a_log_that_can_be_read_no_more(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    log.write(line(1000))
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", fail)
        assert log.why(10) == f"{log.path}: Input/output error"
    assert log.look(10 + ABSENT) == []
    log.write(line(2000))
    assert log.look(20) == blocked(2000)


def test_closed_it_begins_anew(log: Log) -> None:
    before = descriptors()
    log.sensor.close()
    log.sensor.close()
    assert descriptors() == before - 1
    log.write(line(1000))
    assert log.look() == []


def test_no_descriptor_is_left_open_by_rotation(log: Log, tmp_path: Path) -> None:
    before = descriptors()
    for _ in range(5):
        log.path.rename(tmp_path / "old")
        log.write(line(1000))
        assert log.look() + log.look() + log.look() == blocked(1000)
    assert descriptors() == before


# --- where it is -----------------------------------------------------------------------------------


def path_of(tmp_path: Path, *words: str) -> str | None:
    (tmp_path / "7").mkdir(exist_ok=True)
    (tmp_path / "7" / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    path = log_path(7, tmp_path)
    return None if path is None else str(path)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["--log-file=/var/log/a.log", "--pidfile"], "/var/log/a.log"),
        (["--log-file"], "/logs/ovs-vswitchd.log"),
        (["--log"], "/logs/ovs-vswitchd.log"),
        (["--log=/a"], "/a"),
        (["--log-file", "--log-file=/b b"], "/b b"),  # the last one counts
        (["--log-file=/\udcff"], "/\udcff"),
        (["--log-file=a.log"], None),  # relative to a directory that nobody knows any more
        (["--log-files=/a", "--logx", "-l", "--", "-vfile:dbg"], None),
        (["unix:/run/db.sock", "--pidfile"], None),
        ([], None),
    ],
)
def test_the_log_that_a_command_line_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], path: str | None
) -> None:
    monkeypatch.setenv("OVS_LOGDIR", "/logs")
    assert path_of(tmp_path, "/usr/sbin/ovs-vswitchd", *words) == path


def test_the_log_is_called_after_the_program_and_lies_where_the_distribution_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVS_LOGDIR", "")
    assert path_of(tmp_path, "lt-ovs-vswitchd-dpdk", "--log-file") == "/var/log/openvswitch/ovs-vswitchd-dpdk.log"


def test_a_process_that_is_gone_has_no_log(tmp_path: Path) -> None:
    assert log_path(7, tmp_path) is None


def test_the_log_of_a_process_in_another_root_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "root").symlink_to(tmp_path)
    assert path_of(tmp_path, "ovs-vswitchd", "--log-file=/a.log") == f"{tmp_path}/7/root/a.log"
    (tmp_path / "7" / "root").unlink()
    (tmp_path / "7" / "root").symlink_to("/")
    assert path_of(tmp_path, "ovs-vswitchd", "--log-file=/a.log") == "/a.log"


# --- a real one ------------------------------------------------------------------------------------


@pytest.fixture
def real_log(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """The log of a real vswitchd, where the sensors find it."""
    monkeypatch.setenv("OVS_LOGDIR", str(sandbox.dir))
    who = VswitchdSensor(sandbox.dir)
    found, _ = who.look(at(1))
    who.close()
    assert isinstance(found, Seen)
    path = log_path(found.value.id.pid)
    assert path == sandbox.dir / "ovs-vswitchd.log"
    log = Log(path)
    assert log.look() == []
    yield log
    log.sensor.close()


@contextmanager
def awaited(sandbox: Sandbox, tid: int) -> Iterator[None]:
    """A PMD for which the main thread waits."""
    with stopped(tid):
        with suppress(SandboxError):  # no answer in time: main waits already
            sandbox._tool("ovs-ofctl", "--timeout=2", "add-flow", f"unix:{sandbox.dir}/br0.mgmt", "actions=drop")
        yield


@pytest.mark.real
def test_a_real_main_thread_tells_for_which_pmd_it_waits(sandbox: Sandbox, real_log: Log) -> None:
    (name, tid), *_ = sandbox.pmds().items()
    seen: list[Blocked] = []

    def waits() -> bool:
        seen.extend(real_log.look())
        return any(event.ms >= 2000 for event in seen)

    with awaited(sandbox, tid):
        wait(waits, "blocked 2000 ms", 20)
    told = [event for event in seen if event.by == MAIN]
    assert [event.who for event in told] == [name, name]
    assert 1000 <= told[0].ms < 2000 <= told[1].ms


@pytest.mark.real
def test_a_real_log_that_is_rotated_tells_of_each_pmd_that_is_waited_for(sandbox: Sandbox, real_log: Log) -> None:
    (one, first), (other, second) = sandbox.pmds().items()
    seen: list[Blocked] = []

    def tells(name: str, tid: int) -> None:
        def told() -> bool:
            seen.extend(real_log.look())
            return any(event.who == name for event in seen)

        seen.clear()
        with awaited(sandbox, tid):
            wait(told, f"blocked, waiting for {name}", 20)
        wait(lambda: sandbox.appctl("version"), "the main thread awake again", 10)

    tells(one, first)
    real_log.path.rename(sandbox.dir / "old.log")
    real_log.path.touch()
    tells(other, second)  # in the old one
    sandbox.appctl("vlog/reopen")
    tells(one, first)
    assert f"waiting for {other} to quiesce" in (sandbox.dir / "old.log").read_text()
    assert f"waiting for {one} to quiesce" in real_log.path.read_text()
