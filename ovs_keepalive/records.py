# SPDX-License-Identifier: Apache-2.0
"""The state directory's black-box records: numbered files of gzipped JSON lines, the newest five of them.

A record appears whole or not at all; its first line (`Head`) is enough for a list.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Sequence
from pathlib import Path
from zlib import error as ZlibError  # noqa: N812 - its own name is a mere `error`

import msgspec

from ovs_keepalive.formats.incident import Head, Section
from ovs_keepalive.formats.plain import json_bytes

KEPT = 5
LARGEST = 4_000_000  # bytes of a file; five of them stay below 20 MB
UNPACKED = 64 << 20  # bytes that a whole record is read to: gzip makes 4 GB of 4 MB
LEVEL = 5  # of gzip: 1 MB of looks in 30 ms

_NAME = re.compile(r"incident-([1-9][0-9]{0,8})\.jsonl\.gz")
_HALF = re.compile(r"\.incident-[0-9]+\.tmp")


class Unusable(Exception):
    """One line: what, why, the cure."""


def prepare(directory: Path) -> None:
    """Make the directory if need be, and see that it can be written. Raises Unusable."""
    cure = "make it, writable for the daemon's user, or set state-dir"
    try:
        directory.mkdir(mode=0o750, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise Unusable(f"state-dir {directory}: not writable: no incident is recorded: {cure}")
    except OSError as error:
        raise Unusable(f"state-dir {directory}: {error.strerror}: no incident is recorded: {cure}") from error


def clean(directory: Path) -> None:
    """Remove what a killed run left half-written. Only while nobody writes. Raises OSError."""
    for path in directory.iterdir():
        if _HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def numbers(directory: Path) -> list[int]:
    """The numbers of the records, oldest first. Raises OSError."""
    return sorted(int(match[1]) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))


def path_of(directory: Path, number: int) -> Path:
    """The file of a record."""
    return directory / f"incident-{number}.jsonl.gz"


def write(directory: Path, head: Head, sections: Sequence[Section]) -> None:
    """Make the record, or put it in the place of an earlier state of it; then the oldest go. Raises OSError."""
    data = _packed(head, sections)
    half = directory / f".incident-{head.number}.tmp"
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    half.replace(path_of(directory, head.number))
    for number in numbers(directory)[:-KEPT]:
        path_of(directory, number).unlink(missing_ok=True)


def _packed(head: Head, sections: Sequence[Section]) -> bytes:
    """Gzipped lines. What is too large for the file loses its largest sections, which say so."""
    sections = list(sections)
    while True:
        lines = [json_bytes(part) + b"\n" for part in (head, *sections)]
        data = gzip.compress(b"".join(lines), LEVEL)
        sizes = [len(line) for line in lines[1:]]
        if len(data) <= LARGEST or not sizes:
            return data
        largest = sizes.index(max(sizes))
        note = f"left out: {sizes[largest]} bytes would make the record larger than {LARGEST}"
        sections[largest] = Section(sections[largest].name, note=note)


def head(directory: Path, number: int) -> Head:
    """What a record is of. Raises Unusable."""
    return _read(directory, number, whole=False)[0]


def read(directory: Path, number: int) -> tuple[Head, list[Section]]:
    """A whole record. Raises Unusable."""
    return _read(directory, number, whole=True)


def heads(directory: Path) -> list[Head]:
    """What all records are of, oldest first. Raises Unusable, also for one that cannot be read."""
    try:
        return [head(directory, number) for number in numbers(directory)]
    except OSError as error:
        raise Unusable(f"state-dir {directory}: {error.strerror}: is state-dir the daemon's?") from error


def _read(directory: Path, number: int, whole: bool) -> tuple[Head, list[Section]]:
    path = path_of(directory, number)
    try:
        with gzip.open(path, "rb") as file:
            first = msgspec.json.decode(file.readline(1 << 20), type=Head)
            data = file.read(UNPACKED + 1) if whole else b""
        if len(data) > UNPACKED:
            raise Unusable(f"{path}: unpacks to more than {UNPACKED} bytes: this is no record of ours: remove it")
        return first, [msgspec.json.decode(line, type=Section) for line in data.splitlines()]
    except FileNotFoundError as error:
        raise Unusable(f"incident {number}: no such record in {directory}: see ovs-keepalive incident") from error
    except (OSError, EOFError, ZlibError, ValueError, RecursionError) as error:  # DecodeError is a ValueError
        why = getattr(error, "strerror", None) or str(error)
        raise Unusable(f"{path}: {why}: read it as the daemon's user, or remove it") from error
