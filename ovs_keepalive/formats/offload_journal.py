# SPDX-License-Identifier: Apache-2.0
"""The journal of flows that were removed: a JSON line before each removal, another one when it is made good."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ovs_keepalive.core.offload_act import Entry
from ovs_keepalive.formats.plain import json_bytes, one_line

LARGEST = 1 << 20  # bytes; an entry has some 700, and what is made good goes
_LONGEST = 100_000  # characters of a key


class Damaged(Exception):
    """It cannot be gone by: why, in words."""


class _Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    done: int  # number of the entry


_ENTRY = msgspec.json.Decoder(Entry)
_DONE = msgspec.json.Decoder(_Done)


def begun(entry: Entry) -> bytes:
    """The line before."""
    return json_bytes(entry) + b"\n"


def done(number: int) -> bytes:
    """The line after."""
    return json_bytes(_Done(number)) + b"\n"


def open_entries(document: bytes) -> tuple[Entry, ...]:
    """What was begun and not made good. Raises Damaged.

    A last line that has no end was cut off while it was written: what it would have announced was not done.
    """
    *lines, _ = document.split(b"\n")
    found: dict[int, Entry] = {}
    for line in _known(lines):
        if isinstance(line, Entry):
            found[line.number] = line
        else:
            found.pop(line.done, None)
    return tuple(found.values())


def _known(lines: Iterable[bytes]) -> Iterable[Entry | _Done]:
    for number, line in enumerate(lines, 1):
        try:
            yield _DONE.decode(line) if line.startswith(b"{") else _entry(line)
        except (ValueError, RecursionError) as error:
            raise Damaged(one_line(f"line {number}: {error}")) from error


def _entry(line: bytes) -> Entry:
    entry = _ENTRY.decode(line)
    words = (entry.datapath, entry.ufid, entry.key, entry.actions)
    if not all(words) or any(len(word) > _LONGEST or not word.isprintable() for word in words):
        raise ValueError("no flow of ours")
    return entry
