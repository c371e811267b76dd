# SPDX-License-Identifier: Apache-2.0
"""What a fuzz target is, and what their inputs are made of."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ovs_keepalive.core.model import Moment

GOLDEN = Path(__file__).parents[1] / "golden"
LARGEST = 1 << 16  # bytes of an input
SLOWEST = 1.0  # seconds of CPU that one input may take
NOW = Moment(1000.0, 1_700_000_000_000)

kept_open = ExitStack()
atexit.register(kept_open.close)


class Target(NamedTuple):
    """A decoder. function: takes an input, raises AssertionError when something returned is not as promised."""

    name: str
    function: Callable[[bytes], None]
    promised: tuple[type[Exception], ...]  # that the decoder may raise, each with a message of one line
    seeds: Callable[[], Iterable[bytes]]
    decodes: str  # for the table in docs/fuzzing.md

    def run(self, data: bytes) -> None:
        """Try one input. Raises whatever is a crash."""
        said = ""
        try:
            self.function(data)
        except self.promised as error:
            said = str(error)
        assert said.isprintable(), f"no line for people: {said!r}"


def golden_files(*patterns: str) -> Callable[[], Iterable[bytes]]:
    return lambda: (path.read_bytes() for pattern in patterns for path in sorted(GOLDEN.glob(pattern)))


def golden_lines(pattern: str, *more: str) -> Callable[[], Iterable[bytes]]:
    """The lines of golden files, each once but for its digits."""

    def shapes() -> Iterable[bytes]:
        texts = (line for path in sorted(GOLDEN.glob(pattern)) for line in path.read_text(errors="replace").split("\n"))
        known = {"".join("0" if char.isdigit() else char for char in line): line for line in texts}
        yield from (line.encode() for line in (*list(known.values())[:200], *more))

    return shapes


def seeds(*texts: object) -> Callable[[], Iterable[bytes]]:
    return lambda: (text.encode() if isinstance(text, str) else json.dumps(text).encode() for text in texts)


def as_text(data: bytes) -> str:
    return data.decode(errors="replace")


def as_parts(data: bytes, count: int) -> list[bytes]:
    """The input as several: parted by 0xff, which no text holds."""
    parts = data.split(b"\xff", count - 1)
    return [*parts, *[b""] * (count - len(parts))]


def join_parts(*parts: str | bytes) -> bytes:
    return b"\xff".join(part.encode() if isinstance(part, str) else part for part in parts)


def new_directory() -> Path:
    return Path(kept_open.enter_context(tempfile.TemporaryDirectory(prefix="ovs-keepalive-fuzz.")))


_KEYS: tuple[str, ...] = (
    "tables",
    "Open_vSwitch",
    "columns",
    "keepalive",
    "keepalive_detail",
    "type",
    "key",
    "value",
    "min",
    "ephemeral",
)
_KEYS += ("enabled", "vswitchd", "pmds", "blind", "state", "pid", "name", "core", "numa", "cause", "witness", "age_ms")
_KEYS += ("rxqs", "shares", "silent_ms", "effective_interval_ms", "rows", "error", "version", "string", "ovn-x", "set")
_KEYS += (
    "enable-keepalive",
    "keepalive-interval",
    "ovs-keepalive-core3",
    "ovs-keepalive-core9",
    "true",
    "100",
    "ALIVE,1",
    "DEAD,3,1763690430123",
    "interval=1000;beat=1763690430123",
    "HUNG;pid=8;culprit=x",
    "daemon",
    "other_config",
)


def _built(bytes_: Iterator[int], depth: int) -> Any:
    """A JSON value of bytes, whatever they are: coverage leads to no JSON, whose decoders are in C."""
    kind, size = next(bytes_, 0), next(bytes_, 0)
    match kind % 8:
        case 0:
            return (None, False, True, 1.5, float("nan"), 10**25, -1)[size % 7]
        case 1:
            return size
        case 2 | 3:
            return _KEYS[size % len(_KEYS)]
        case 4:
            return bytes(islice(bytes_, size % 32)).decode("utf-8", "surrogateescape")
        case 5 if depth:
            return [_built(bytes_, depth - 1) for _ in range(size % 6)]
        case _ if depth:
            return {_KEYS[next(bytes_, 0) % len(_KEYS)]: _built(bytes_, depth - 1) for _ in range(size % 12)}
    return {}


def as_json(data: bytes) -> Any:
    """The input as JSON, or one made of it: behind a first byte of 0."""
    if data[:1] == b"\0":
        return _built(iter(data[1:]), 6)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
