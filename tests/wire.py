# SPDX-License-Identifier: Apache-2.0
"""Two veth pairs whose far ends lie in a network namespace: numbered packets go into one and come out of the other.

`python -m tests.wire send IFACE RATE` and `receive IFACE FILE` run in that namespace; the kernel stamps what comes.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.conftest import cannot
from tests.numbered import ETHERTYPE, FRAME, MAGIC, Gap, frame, longest

STAMPED = struct.Struct("=dQ")  # epoch seconds, number
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
TIMESPEC = struct.Struct("@ll")


class Wire(NamedTuple):
    """The ends for a switch, and what came through it."""

    into: str  # interface that packets come from
    out: str  # interface that they have to be sent to
    received: Path
    rate: float  # packets a second

    def packets(self, since: float = 0.0) -> list[tuple[float, int]]:
        """When each was received (epoch seconds) and its number, from this moment on."""
        data = self.received.read_bytes()
        whole = len(data) - len(data) % STAMPED.size
        return [one for one in STAMPED.iter_unpack(data[:whole]) if one[0] >= since]

    def gap(self, since: float) -> Gap:
        """The longest time without one, from this moment on (epoch seconds)."""
        return longest(self.packets(since))


@contextmanager
def wire(directory: Path, rate: float) -> Iterator[Wire]:
    """Made anew, with a sender and a receiver; taken away again. Skipped where that is not allowed."""
    name = f"oka{os.getpid()}"
    near, far = (f"{name}a0", f"{name}b0"), (f"{name}a1", f"{name}b1")
    with ExitStack() as stack:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)  # the pairs go with it
        for inner, outer in zip(near, far, strict=True):
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
            stack.callback(_gone, outer)
            for end in (["-n", name, "link", "set", inner], ["link", "set", outer]):
                _ip(*end, "addrgenmode", "none")  # else IPv6 sends packets of its own
                _ip(*end, "up")
        file = directory / "received"
        file.touch()
        inside = ["ip", "netns", "exec", name, sys.executable, "-m", "tests.wire"]
        for arguments in (["receive", near[1], str(file)], ["send", near[0], str(rate)]):
            process = subprocess.Popen([*inside, *arguments], cwd=Path(__file__).parents[1])
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield Wire(far[0], far[1], file, rate)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        cannot(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _gone(interface: str) -> None:
    """It goes with its peer, or has gone already."""
    subprocess.run(["ip", "link", "del", interface], check=False, capture_output=True)


def send(interface: str, rate: float) -> None:
    """Packets, evenly; those of which the time has passed are lost."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
        port.bind((interface, 0))
        begin, number = time.monotonic(), 0
        while True:
            number = max(number + 1, int((time.monotonic() - begin) * rate))
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            with suppress(OSError):  # its queue is full, or the link is down
                port.send(frame(number))


def receive(interface: str, file: Path) -> None:
    """Write down each packet, and when the kernel received it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as port, file.open("ab", 0) as out:
        port.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        port.bind((interface, ETHERTYPE))
        while True:
            data, told, _, _ = port.recvmsg(2048, 64)
            *_, magic, number = FRAME.unpack_from(data)
            for _, kind, stamp in told:
                if kind == SO_TIMESTAMPNS and magic == MAGIC:
                    seconds, nanoseconds = TIMESPEC.unpack(stamp)
                    out.write(STAMPED.pack(seconds + nanoseconds / 1e9, number))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", interface, rate]:
            send(interface, float(rate))
        case ["receive", interface, file]:
            receive(interface, Path(file))
