# SPDX-License-Identifier: Apache-2.0
"""The file in which it stands what was removed from the datapath: on the disk before the removal, so that a daemon that
is killed in the middle finds it when it starts again. It is locked: of two daemons one acts.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ovs_keepalive.core.offload_act import Entry
from ovs_keepalive.formats import offload_journal as form

NAME = "offload.journal"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Unwritten(Exception):
    """The journal cannot be kept: one line what, why and the cure. Nothing may be removed without it."""


class Journal:
    """The open file. Raises Unwritten."""

    def __init__(self, directory: Path) -> None:
        """directory: the state directory; a journal that was left there is read."""
        self.path = directory / NAME
        try:
            self._file = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise self._problem(error.strerror, "set state-dir to a directory that the daemon can write") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the file's own name
            finally:
                os.close(folder)
            self._read()
        except BlockingIOError as error:
            self.close()
            raise self._problem("locked by another process", "let one daemon of this host act") from error
        except OSError as error:
            self.close()
            raise self._problem(error.strerror, "set state-dir to a directory that the daemon can write") from error
        except form.Damaged as error:
            self.close()
            raise self._problem(str(error), "remove it once every flow is as it should be") from error

    def _read(self) -> None:
        document = os.pread(self._file, form.LARGEST + 1, 0)
        if len(document) > form.LARGEST:
            raise form.Damaged(f"longer than {form.LARGEST} bytes: no journal of ours")
        self.open = {entry.number: entry for entry in form.open_entries(document)}  # what is not made good
        if not document.endswith(b"\n"):  # cut off while it was written: nothing may follow it in its line
            os.ftruncate(self._file, document.rfind(b"\n") + 1)
        self._next = max(self.open, default=0) + 1

    def begin(self, *entries: Entry) -> list[int]:
        """Note what is going to be done; on the disk when this returns. Their numbers. Raises Unwritten."""
        entries = tuple(entry._replace(number=number) for number, entry in enumerate(entries, self._next))
        lines = b"".join(form.begun(entry) for entry in entries)
        try:
            size = os.fstat(self._file).st_size
            if os.write(self._file, lines) != len(lines):
                os.ftruncate(self._file, size)
                raise self._problem("its disk is full", "make room on it, or set state-dir")
            os.fdatasync(self._file)
        except OSError as error:
            raise self._problem(error.strerror, "make room on its disk, or set state-dir") from error
        self.open |= {entry.number: entry for entry in entries}
        self._next += len(entries)
        return [entry.number for entry in entries]

    def end(self, *numbers: int) -> None:
        """These are made good. What of this is lost does no harm: they are made good twice. Raises Unwritten."""
        for number in numbers:
            self.open.pop(number, None)
        try:
            if self.open:
                os.write(self._file, b"".join(form.done(number) for number in numbers))
            else:
                os.ftruncate(self._file, 0)
        except OSError as error:
            raise self._problem(error.strerror, "make room on its disk, or set state-dir") from error

    def close(self) -> None:
        """Let another one have it."""
        os.close(self._file)

    def _problem(self, why: str | None, cure: str) -> Unwritten:
        return Unwritten(f"{self.path}: {why}: no flow is moved: {cure}")
