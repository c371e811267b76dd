# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory as a document: one line that says what it is, one that holds it.

The first line can be read whatever the version. The second one is of exactly that version: it is decoded strictly, its
sum has to be right, and its times must have been possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from zlib import crc32

import msgspec

from ovs_keepalive.core.memory import Memory
from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats.plain import LAST_MS, json_bytes

VERSION = 2  # a successor reads its own and the one before
FORMAT: Literal["ovs-keepalive memory"] = "ovs-keepalive memory"
LARGEST = 16 << 20  # bytes; 512 PMDs with 500 transitions take less than 1 MB


class Unusable(Exception):
    """It cannot be gone by: why, in words."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. It grows by new keys only."""

    format: Literal["ovs-keepalive memory"]
    version: int
    boot: str  # the boot id of the kernel: monotonic stamps mean nothing in another one
    pidfile: str  # of the daemon whose it is: a state directory may be used by several
    sum: int  # CRC-32 of the second line


_HEAD = msgspec.json.Decoder(Head)
_MEMORY = msgspec.json.Decoder(Memory)


def encode(memory: Memory, boot: str, pidfile: str) -> bytes:
    """The document."""
    body = json_bytes(memory)
    head = Head(format=FORMAT, version=VERSION, boot=boot, pidfile=pidfile, sum=crc32(body))
    return b"%s\n%s\n" % (json_bytes(head), body)


def decode(document: bytes, boot: str, pidfile: str) -> Memory:
    """Read a document of this boot and this daemon. Raises Unusable."""
    first, _, rest = document.partition(b"\n")
    try:
        head = _HEAD.decode(first)
        if head.version not in (VERSION - 1, VERSION):
            raise Unusable(f"version {head.version} of the document, this daemon reads {VERSION - 1} and {VERSION}")
        if head.boot != boot:
            raise Unusable("it is of another boot")
        if head.pidfile != pidfile:
            raise Unusable(f"it is of the daemon of {head.pidfile!r}")
        if not rest.endswith(b"\n") or crc32(rest[:-1]) != head.sum:
            raise Unusable("it is damaged")
        memory = _MEMORY.decode(rest)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise Unusable("it is damaged") from error
    if not all(_is_possible(moment, memory.at) for moment in _moments(memory)):
        raise Unusable("it is damaged: a time in it cannot be")
    return memory


def _is_possible(moment: Moment, latest: Moment) -> bool:
    return 0.0 <= moment.mono <= latest.mono and 0 <= moment.wall_ms <= LAST_MS


def _moments(memory: Memory) -> Iterator[Moment]:
    beating = memory.beating
    yield from (
        memory.at,
        memory.told,
        memory.watch.seen,
        beating.enabled_at,
        beating.vswitchd.since,
        *beating.vswitchd.crashes,
    )
    for pmd in beating.pmds:
        yield from (pmd.since, pmd.cause_since, pmd.progress)
    yield from (transition.at for history in (beating.history, memory.events) for transition in history)
    yield from (other.since for other in beating.others.threads)
    yield from (since for _, since in beating.others.gone)
    for broken in beating.breaks.log:
        yield from (moment for moment in broken if isinstance(moment, Moment))
        yield from (back for _, back in broken.ports if back is not None)
    yield memory.ports.since
    for port in memory.ports.ports:
        yield from (moment for moment in port if isinstance(moment, Moment))
        yield from port.flaps
    for returned in memory.ports.returns:
        yield from (moment for port in returned.ports for moment in port if isinstance(moment, Moment))
    yield from (moment for moment in (memory.plan and memory.plan.at, memory.flow_restored) if moment is not None)
