# SPDX-License-Identifier: Apache-2.0
"""Floods a control socket for some seconds, from a process of its own: `python tests/flood.py KIND SOCKET SECONDS`.

Prints what it did as JSON. It asks for no CPU that anybody else wants: nice 19.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import socket
import sys
import time
from collections.abc import Callable

ASK = json.dumps({"id": 1, "method": "keepalive/status", "params": ["--json"]}).encode()


class Flood:
    """Connections to one socket, opened without waiting; what was done, counted."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.deadline = time.monotonic() + seconds
        self.open: list[socket.socket] = []
        self.counts = {"connections": 0, "bytes": 0, "answers": 0, "closed": 0}

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.deadline

    def connect(self, most: int) -> socket.socket | None:
        """One more, unless there are so many; None while the queue is full."""
        if len(self.open) >= most:
            return None
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            client.connect(self.path)
        except BlockingIOError:
            client.close()
            time.sleep(0.001)
            return None
        self.counts["connections"] += 1
        self.open.append(client)
        return client

    def send(self, client: socket.socket, data: bytes) -> bool:
        """False when it takes no more now."""
        try:
            self.counts["bytes"] += client.send(data)
        except BlockingIOError:
            return False
        except OSError:
            self.drop(client)
            return False
        return True

    def read(self) -> None:
        """Take what was answered, and notice who was hung up on."""
        for client in list(self.open):
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.drop(client)
            self.counts["answers"] += data.count(b'"error": null')

    def drop(self, client: socket.socket) -> None:
        client.close()
        self.open.remove(client)
        self.counts["closed"] += 1


def requests(flood: Flood) -> None:
    """32 clients ask as fast as they are answered, ten requests at a time."""
    while flood.goes_on:
        flood.connect(32)
        for client in list(flood.open):
            flood.send(client, ASK * 10)
        select.select(flood.open, [], [], 0.01)
        flood.read()


def huge(flood: Flood) -> None:
    """Requests of megabytes, without an end."""
    while flood.goes_on:
        if client := flood.connect(16):
            flood.send(client, b'{"id":1,"method":"')
        for client in list(flood.open):
            flood.send(client, b"x" * 1_000_000)
        select.select([], flood.open, [], 0.01)


def half(flood: Flood) -> None:
    """Half requests, a byte more now and then."""
    while flood.goes_on:
        if client := flood.connect(300):
            flood.send(client, ASK[:-10])
        for client in random.sample(flood.open, min(5, len(flood.open))):
            flood.send(client, b" ")
        flood.read()


def idle(flood: Flood) -> None:
    """1,000 connections that say nothing, each opened again when it was closed."""
    while flood.goes_on:
        flood.connect(1000)
        flood.read()


def garbage(flood: Flood) -> None:
    """Bytes of any kind."""
    rng = random.Random(1)  # noqa: S311 -- the same in every run
    while flood.goes_on:
        if client := flood.connect(100):
            flood.send(client, rng.choice([b"", b"{", b"[", b'{"id":']) + rng.randbytes(rng.choice([1, 100, 5000])))
        flood.read()


def deaf(flood: Flood) -> None:
    """60 clients ask and ask, and never read an answer."""
    while flood.goes_on:
        flood.connect(60)
        for client in list(flood.open):
            flood.send(client, ASK * 20)
        time.sleep(0.005)


KINDS: dict[str, Callable[[Flood], None]] = {
    kind.__name__: kind for kind in (requests, huge, half, idle, garbage, deaf)
}


def main() -> None:
    """Flood."""
    kind, path, seconds = sys.argv[1:]
    os.nice(19)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flood = Flood(path, float(seconds))
    KINDS[kind](flood)
    for client in flood.open:
        client.close()
    print(json.dumps(flood.counts))


if __name__ == "__main__":
    main()
