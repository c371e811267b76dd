# SPDX-License-Identifier: Apache-2.0
"""vswitchd's log: any text is read, every event comes back as it was printed, and however it was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.core.model import Moment, Seen
from ovs_keepalive.formats import vlog_lines
from ovs_keepalive.sensors.vswitchd_log import LogSensor

LOG = (Path(__file__).parents[1] / "golden" / "2.15.0" / "log.txt").read_text()
NOW = Moment(1.0, 1000)

threads = st.sampled_from(["main", "urcu3", "pmd-c01/id:10", ">d-c127/id:1390", "revalidator12"])
numbers = st.integers(0, 2**32 - 1)


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A real log's line with a stretch replaced."""
    line = draw(st.sampled_from(LOG.splitlines()))
    start, end = sorted(draw(st.integers(0, len(line))) for _ in range(2))
    return line[:start] + draw(st.text(max_size=20)) + line[end:]


@given(st.text() | mangled())
def test_any_text_is_read(line: str) -> None:
    assert isinstance(vlog_lines.parse(line), Blocked | None)


@given(threads, threads, numbers)
def test_events_come_back_as_they_were_printed(who: str, by: str, number: int) -> None:
    thread = "" if by == "main" else f"({by})"
    line = f"2026-11-21T06:18:41.265Z|00093|ovs_rcu{thread}|WARN|blocked {number} ms waiting for {who} to quiesce"
    assert vlog_lines.parse(line) == Blocked(number, who, by)


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def rotate(path: Path, text: bytes) -> None:
    """As logrotate does it by default: vswitchd writes to the old file until it hears of the new one."""
    old = os.open(path, os.O_WRONLY | os.O_APPEND)
    path.rename(f"{path}.1")
    path.touch()
    os.write(old, text)
    os.close(old)
    append(path, b"2026-11-21T06:18:41.265Z|00093|vlog|INFO|opened log file\n")


def recreate(path: Path, text: bytes) -> None:
    path.rename(f"{path}.1")
    append(path, text)


WAYS: list[Callable[[Path, bytes], None]] = [append, append, append, rotate, recreate]
LINES = [f"{line}\n".encode() for line in LOG.splitlines()]


@given(
    st.lists(st.tuples(st.sampled_from(WAYS), st.integers(1, 20)), min_size=1, max_size=12),
    st.lists(st.integers(1, 300), max_size=8),
)
def test_however_a_log_is_written_each_event_is_seen_once_and_in_order(
    writes: list[tuple[Callable[[Path, bytes], None], int]], pieces: list[int]
) -> None:
    expected: list[object] = []
    seen: list[object] = []
    with TemporaryDirectory() as directory:
        path = Path(directory, "ovs-vswitchd.log")
        path.write_bytes(b"".join(LINES))  # from before
        sensor = LogSensor(path)

        def look() -> None:
            found = sensor.look(NOW)
            seen.extend(found.value if isinstance(found, Seen) else ())

        look()
        at = 30
        for write, count in writes:
            lines = LINES[at : at + count]
            at = (at + count) % len(LINES)
            events = (vlog_lines.parse(line.decode().rstrip("\n")) for line in lines)
            expected += [event for event in events if event is not None]
            text = b"".join(lines)
            if write is append:
                for size in pieces:  # what one write() brings may be seen half
                    append(path, text[:size])
                    text = text[size:]
                    look()
            write(path, text)
            for _ in range(3):
                look()
        sensor.close()
    assert seen == expected
