# SPDX-License-Identifier: Apache-2.0
"""vswitchd's log, followed: the witness that names the thread for which the main thread waits. Never required.

A look takes what is in memory already, 64 KiB at most: not even a disk that hangs may hold the beat up.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.core.model import Moment, NotSeen, Seen
from ovs_keepalive.formats import vlog_lines

CHUNK = 65536  # bytes that a look reads at most, and that are kept of a line whose end has not been written yet
BACKLOG = 4 * CHUNK  # bytes; of more than that only the last are read: late news is no news
SHORTEST = 40  # bytes of a line that can tell anything: 65,000 empty ones would cost 35 ms
ABSENT = 1.0  # seconds between two looks for a log that is not there …
REFUSED = 60.0  # … or may not be read: each try may be a line in the host's audit log


def log_path(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """The file that this process logs to, by its command line; None if there is none, or nobody can tell."""
    root = proc / str(pid)
    try:
        program, *words = os.fsdecode((root / "cmdline").read_bytes()).split("\0")
    except OSError:  # it ended, or hidepid
        return None
    path = None
    for word in words:
        option, _, value = word.partition("=")
        if len(option) > len("--") and "--log-file".startswith(option):  # getopt takes --log too
            path = value or f"{_logdir()}/{os.path.basename(program).removeprefix('lt-')}.log"
    if path is None or not path.startswith("/"):  # relative to a directory that it has left since
        return None
    return Path(path) if _shares_root(root) else Path(f"{root}/root{path}")


def _logdir() -> str:
    return os.environ.get("OVS_LOGDIR") or "/var/log/openvswitch"


def _shares_root(process: Path) -> bool:
    try:
        return os.path.samefile(process / "root", "/")
    except OSError:  # only its owner may ask: then it does, most likely
        return True


class LogSensor:
    """Follows one log from its end on, whoever renames, truncates or removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: _Log | None = None
        self._whole = False  # the next log to be opened is new: all of it is news
        self._again = float("-inf")  # when to try to open it

    def close(self) -> None:
        """Let the file go."""
        if self._log is not None:
            with suppress(OSError):  # EIO again
                os.close(self._log.fd)
            self._log = None

    def look(self, now: Moment) -> Seen[tuple[Blocked, ...]] | NotSeen | None:
        """What was logged since the last look; None: nothing of interest. Seen, and empty: it can be read from now on.

        NotSeen stays true until then, and is told again at each further try.
        """
        if self._log is None:
            return self._open(now) if now.mono >= self._again else None
        replaced = self._is_replaced(self._log)  # asked first: the old one is complete by then
        try:
            lines = self._log.read()
        except OSError as error:  # EIO, or ESTALE from a network file system
            self.close()
            return self._wait(now, error, ABSENT)
        if replaced and self._log.is_read:
            self.close()
            self._whole = True
        texts = (line.decode(errors="replace") for line in lines if len(line) >= SHORTEST)
        events = tuple(event for text in texts if (event := vlog_lines.parse(text)) is not None)
        return Seen(now, events) if events else None

    def _open(self, now: Moment) -> Seen[tuple[Blocked, ...]] | NotSeen:
        whole, self._whole = self._whole, False
        try:
            self._log = _Log(self._path, whole)
        except FileNotFoundError as error:
            self._whole = True
            return self._wait(now, error, ABSENT)
        except OSError as error:
            return self._wait(now, error, REFUSED)
        return Seen(now, ())

    def _wait(self, now: Moment, error: OSError, seconds: float) -> NotSeen:
        self._again = now.mono + seconds
        return NotSeen(now, f"{self._path}: {error.strerror}")

    def _is_replaced(self, log: _Log) -> bool:
        """Whether vswitchd writes to another file of this name. While that one is empty it writes to the old one still:
        it is told to reopen its log through the control socket, which a main thread that hangs does not hear.
        """
        try:
            other = os.stat(self._path)
        except OSError:  # renamed, and nothing new in its place yet
            return False
        return other.st_size > 0 and stat.S_ISREG(other.st_mode) and (other.st_dev, other.st_ino) != log.id


class _Log:
    """An open log, and how far it has been read. Raises OSError."""

    def __init__(self, path: Path, whole: bool) -> None:
        _refuse_irregular(os.stat(path))  # before it is opened: a FIFO or a device would notice
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(self.fd)
            _refuse_irregular(status)
            self.id = (status.st_dev, status.st_ino)
            self._size = status.st_size
            self._offset = 0 if whole else status.st_size
            # Whether to skip what comes up to the next end of a line.
            self._midway = self._offset > 0 and _read(self.fd, 1, self._offset - 1) != b"\n"
        except OSError:
            os.close(self.fd)
            raise
        self._begun = b""  # of a line whose end has not been written yet

    @property
    def is_read(self) -> bool:
        """Whether all was read that was there."""
        return self._offset == self._size

    def read(self) -> list[bytes]:
        """The next lines that are complete."""
        self._size = os.fstat(self.fd).st_size
        if self._size < self._offset:  # truncated, as by logrotate's copytruncate
            self._offset, self._begun, self._midway = 0, b"", False
        if self._size - self._offset > BACKLOG:
            self._offset, self._begun, self._midway = self._size - CHUNK, b"", True
        if self.is_read:
            return []
        new = _read(self.fd, min(CHUNK, self._size - self._offset), self._offset)
        self._offset += len(new)
        *lines, self._begun = (self._begun + new).split(b"\n")
        if self._midway and lines:
            del lines[0]
            self._midway = False
        if self._midway or len(self._begun) > CHUNK:
            self._begun, self._midway = b"", True
        return lines


def _refuse_irregular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _read(fd: int, size: int, offset: int) -> bytes:
    """As os.pread, but nothing of what would have to be waited for: a later look finds it in memory."""
    buffer = bytearray(size)
    try:
        count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)
        return b""
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # of a file system that cannot tell
            raise
        return os.pread(fd, size, offset)
    return bytes(buffer[:count])
