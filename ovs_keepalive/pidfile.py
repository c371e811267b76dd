# SPDX-License-Identifier: Apache-2.0
"""The daemon's pidfile, locked as OVS locks its own: `ovs-appctl -t ovs-keepalive` refuses one without its lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Taken(Exception):
    """Another process holds the pidfile: one line."""


class Pidfile:
    """Written and locked while the object lives. Its descriptor is the only one: closing any other drops the lock."""

    def __init__(self, path: Path) -> None:
        """Raises Taken, or OSError when the file cannot be written."""
        self._path = path
        self._check()
        new = path.with_name(f"{path.name}.tmp{os.getpid()}")
        self._file = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_TRUNC, 0o644)
        try:
            # Locked before it gets its name: nobody ever sees it unlocked.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._file, f"{os.getpid()}\n".encode())
            new.rename(path)
        except OSError:
            new.unlink()
            raise

    def remove(self) -> None:
        """Take the file away, if it is still this process's."""
        try:
            if self._path.stat().st_ino == os.fstat(self._file).st_ino:
                self._path.unlink()
        except FileNotFoundError:
            return

    def _check(self) -> None:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(file, 32).decode(errors="replace").strip()
            raise Taken(
                f"{self._path}: already running as pid {pid}: stop it first, or name another file with --pidfile"
            ) from error
        finally:
            os.close(file)
