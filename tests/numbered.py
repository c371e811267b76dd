# SPDX-License-Identifier: Apache-2.0
"""Numbered packets through the PMDs of a sandbox: what a restart of vswitchd really cost, told by the packets alone.

They come in by the stream of the dummy port p0 and are stamped by vswitchd itself as it sends them out of p1 (its
tx_pcap). What the port does not take at once is lost, as on a wire.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import Background, node

RATE = 500  # packets a second
ETHERTYPE = 0x88B5  # for experiments (IEEE 802)
FRAME = struct.Struct("!6s6sH4sQ32x")
MAGIC = b"okal"
TO, FROM = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
PCAP, RECORD = struct.Struct("=I20x"), struct.Struct("=IIII")
FAIR = 0.9  # part of the packets; more are lost where the sender does not get its CPU
BACKLOG = 4096  # bytes; the kernel doubles it, and a frame takes some 800 of them


class Gap(NamedTuple):
    """The longest time without a packet; epoch seconds."""

    last: float  # the packet before it
    first: float  # the one after it

    @property
    def seconds(self) -> float:
        return self.first - self.last


def frame(number: int) -> bytes:
    """One packet."""
    return FRAME.pack(TO, FROM, ETHERTYPE, MAGIC, number)


def answer(number: int) -> bytes:
    """One packet the other way."""
    return FRAME.pack(FROM, TO, ETHERTYPE, MAGIC, number)


class Sender(Background):
    """Sends packets evenly to the stream of a dummy port, whether or not anybody listens."""

    def __init__(self, path: Path, rate: float = RATE, packet: Callable[[int], bytes] = frame) -> None:
        super().__init__()
        self.sent = 0
        self._packet = packet
        self._path = path
        self._rate = rate
        self._stream: socket.socket | None = None

    def run(self) -> None:
        """One packet each time that one is due; those of which the time has passed are lost."""
        number = 0
        begin = time.monotonic()
        while not self.over.is_set():
            number = max(number + 1, int((time.monotonic() - begin) * self._rate))
            time.sleep(max(0.0, begin + number / self._rate - time.monotonic()))
            data = self._packet(number)
            with suppress(BlockingIOError):  # it does not read: lost
                self._send(struct.pack("!H", len(data)) + data)
        if self._stream is not None:
            self._stream.close()

    def _send(self, data: bytes) -> None:
        try:
            if self._stream is None:
                self._stream = socket.socket(socket.AF_UNIX)
                self._stream.setblocking(False)
                self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BACKLOG)
                self._stream.connect(str(self._path))
            self._stream.sendall(data)
            self.sent += 1
        except BlockingIOError:
            raise
        except OSError:  # nobody is there now
            if self._stream is not None:
                self._stream.close()
            self._stream = None


class Traffic:
    """A sandbox whose p0 takes packets and whose p1 sends them; it learns addresses as any switch."""

    def __init__(self, sandbox: Sandbox, rate: float = RATE) -> None:
        self.rate = rate
        self._pcap = sandbox.dir / "p1.pcap"
        self._sender = Sender(sandbox.dir / "p0.stream", rate)
        sandbox.vsctl(
            *("del-fail-mode", "br0"),
            *("--", "set", "interface", "p0", f"options:pstream=punix:{sandbox.dir}/p0.stream"),
            *("--", "set", "interface", "p1", f"options:tx_pcap={self._pcap}"),
        )

    def __enter__(self) -> Traffic:
        self._sender.__enter__()
        wait(lambda: len(self.packets()) > RATE // 4, "packets through the sandbox", 15)
        return self

    def __exit__(self, *error: Any) -> None:
        self._sender.__exit__(*error)

    def packets(self, since: float = 0.0) -> list[tuple[float, int]]:
        """When each was sent (epoch seconds) and its number, from this moment on."""
        return [one for one in stamps(self._pcap.read_bytes()) if one[0] >= since]

    def gap(self, since: float) -> Gap:
        """The longest one from this moment on (epoch seconds)."""
        return longest(self.packets(since))


def longest(packets: Sequence[tuple[float, int]]) -> Gap:
    """The longest time between two of them."""
    times = [at for at, _ in packets]
    return max((Gap(*pair) for pair in itertools.pairwise(times)), key=lambda gap: gap.seconds)


def stamps(pcap: bytes) -> list[tuple[float, int]]:
    """The numbered packets of a capture, and when they were stamped. A record that is not all there yet is left out."""
    found, at = [], PCAP.size
    while at + RECORD.size <= len(pcap):
        seconds, fraction, size, _ = RECORD.unpack_from(pcap, at)
        data = pcap[at + RECORD.size : at + RECORD.size + size]
        at += RECORD.size + size
        if len(data) == size >= FRAME.size:
            *_, kind, magic, number = FRAME.unpack_from(data)
            if (kind, magic) == (ETHERTYPE, MAGIC):
                found.append((seconds + fraction / 1e6, number))
    return found


class Judged(NamedTuple):
    """A break as the daemon published it, beside the truth. Milliseconds."""

    how: str
    kind: str
    truth: float
    low: float
    estimate: float
    high: float
    control: float
    traffic: float  # part of the packets that were due before it and came

    @property
    def is_inside(self) -> bool:
        """Whether the truth lies within the bounds; one packet more or less is nobody's error."""
        slack = 1000 / RATE + 1
        return self.low - slack <= self.truth <= self.high + slack

    @property
    def is_fair(self) -> bool:
        """Whether the traffic was as even as its rate says: only then can it be told back from a count."""
        return self.traffic >= FAIR

    @property
    def error(self) -> float:
        return self.estimate - self.truth

    def __str__(self) -> str:
        void = "" if self.is_fair else f" void: {self.traffic:.0%} of the traffic"
        return (
            f"| {self.how} | {self.kind} | {self.truth:.0f} | {self.low:.0f} … {self.high:.0f} | {self.estimate:.0f} "
            f"| {self.error:+.0f} | {self.control:.0f} |{void}"
        )


HEAD = (
    "| restart | kind told | true gap ms | bounds ms | estimate ms | error ms | no answer for ms |\n"
    "|---|---|---|---|---|---|---|"
)


def newest(sandbox: Sandbox, old: int) -> dict[str, Any] | None:
    """The break that ended this process, once it is over."""
    for one in reversed(node(sandbox)["breaks"]):
        if one["pid_old"] == old and one["data_plane_ms"] is not None and not one["ports_missing"]:
            return dict(one)
    return None


def judged(how: str, one: dict[str, Any], gap: Gap, traffic: float) -> Judged:
    """What was told, beside what was."""
    lasted = one["data_plane_ms"]
    return Judged(
        how,
        one["kind"],
        gap.seconds * 1000,
        lasted["low"],
        lasted["estimate"],
        lasted["high"],
        one["control_plane_ms"],
        traffic,
    )
