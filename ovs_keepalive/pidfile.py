# SPDX-License-Identifier: Apache-2.0
"""The daemon's pidfile, locked as OVS locks its own: `ovs-appctl -t ovs-keepalive` refuses one without its lock."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from ovs_keepalive.sensors.vswitchd import FLOCK


class Taken(Exception):
    """Another process holds the pidfile: one line."""


class Pidfile:
    """Written and locked while the object lives. Its descriptor is the only one: closing any other drops the lock."""

    def __init__(self, path: Path, *, inherits: bool = False) -> None:
        """Raises Taken, or OSError when the file cannot be written. inherits: whoever holds it gives it away."""
        self._path = path
        new = path.with_name(f"{path.name}.tmp{os.getpid()}")
        self._file = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_TRUNC, 0o644)
        try:
            # Locked before it gets its name: nobody ever sees it unlocked.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._file, f"{os.getpid()}\n".encode())
            if inherits:
                new.rename(path)
            while not inherits and not self._takes_name(new):
                pass  # another one, which started together with this one, was faster: now it is known which
        except (OSError, Taken):
            os.close(self._file)
            raise
        finally:
            new.unlink(missing_ok=True)

    @property
    def is_there(self) -> bool:
        """Whether the file is still this process's. Raises OSError when nobody may know."""
        try:
            return self._path.stat().st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give up the lock of a file that is no longer there."""
        os.close(self._file)

    def remove(self) -> None:
        """Take the file away, if it is still this process's. Raises OSError when it may not be."""
        if self.is_there:
            self._path.unlink(missing_ok=True)

    def _takes_name(self, new: Path) -> bool:
        """Of several that start at once one gets the name. False: what was there went meanwhile. Raises Taken."""
        try:
            os.link(new, self._path)
        except FileExistsError:
            return self._replaces(new)
        return True

    def _replaces(self, new: Path) -> bool:
        """Put the new file in the place of one that a killed daemon left: only with that one's lock."""
        try:
            old = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(old), self._path.stat()):
                return False
            new.rename(self._path)
            left = os.pread(old, 32, 0).strip()
            if left.isdigit():  # of a daemon that was killed: nobody listens there any more
                self._path.with_name(f"ovs-keepalive.{int(left)}.ctl").unlink(missing_ok=True)
        except FileNotFoundError:
            return False
        except BlockingIOError as error:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, holder = struct.unpack(FLOCK, fcntl.fcntl(old, fcntl.F_GETLK, asked))
            if kind == fcntl.F_UNLCK:
                return False
            pid = str(holder) if holder > 0 else os.read(old, 32).decode(errors="replace").strip()
            raise Taken(
                f"{self._path}: already running as pid {pid}: stop it first, or name another file with --pidfile"
            ) from error
        finally:
            os.close(old)
        return True
