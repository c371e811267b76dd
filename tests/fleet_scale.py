# SPDX-License-Identifier: Apache-2.0
"""Many hosts, a TCP session each: how long a change of state takes to a reader, and how long a whole look."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.fleet.watch import CellWatch, read_cell
from tests.zookeeper import TREE, Client, Zookeeper

SESSION = 30.0  # seconds; of a simulated host


class Hosts:
    """The process that simulates them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._rest = b""
        self.joining = float(self._out.readline().split()[1])  # seconds
        os.set_blocking(self._out.fileno(), False)
        self.changes: dict[tuple[str, int], float] = {}
        self.has_ended = False

    def begin(self) -> None:
        """Let the changes begin."""
        self._in.write(b"go\n")

    def take(self) -> None:
        """The changes that were made since."""
        *lines, self._rest = (self._rest + (self._out.read() or b"")).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["changed", host, seq, at]:
                    self.changes[host, int(seq)] = float(at)
                case ["ended"]:
                    self.has_ended = True


@contextmanager
def simulated(zookeeper: Zookeeper, count: int, rate: float, seconds: float) -> Iterator[Hosts]:
    argv = [zookeeper.hosts, str(count), str(SESSION), str(rate), str(seconds)]
    place = Path(__file__).parents[1]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.raw_sessions", *argv],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            yield Hosts(process)
        finally:
            process.kill()


class Measured(NamedTuple):
    """Seconds."""

    joining: float
    loading: float  # of a reader that begins
    reading: float  # of the whole cell, once
    delays: list[float]  # from a change to the reader, sorted
    cpu: float  # of the reader, a second

    def part(self, share: float) -> float:
        return self.delays[min(len(self.delays) - 1, int(share * len(self.delays)))]

    def __str__(self) -> str:
        return (
            f"joined in {self.joining:.1f} s, loaded in {self.loading:.2f} s, read once in {self.reading:.2f} s, "
            f"{len(self.delays)} changes: p50 {self.part(0.5) * 1000:.0f} ms, p99 {self.part(0.99) * 1000:.0f} ms, "
            f"max {self.delays[-1] * 1000:.0f} ms; the reader takes {self.cpu * 100:.0f} % of a CPU"
        )


def measure(zookeeper: Zookeeper, client: Client, count: int, rate: float, seconds: float) -> Measured:
    with simulated(zookeeper, count, rate, seconds) as hosts:
        began = time.monotonic()
        cell = read_cell(client.session, TREE)
        reading = time.monotonic() - began
        assert len(cell.hosts) == count
        assert {sighting.state for sighting in cell.hosts.values()} == {HostState.WELL}
        watch = CellWatch(client.session, TREE)
        began = time.monotonic()
        watch.turn(client.news(), began)
        loading = time.monotonic() - began
        hosts.begin()
        seen: dict[str, list[tuple[int, float]]] = defaultdict(list)  # host -> seq, and when it was read first
        known = watch.cell.hosts
        cpu, began = time.process_time(), time.monotonic()

        def follow() -> bool:
            nonlocal known
            hosts.take()
            watch.turn(client.news(), time.monotonic())
            now, before, known = time.time(), known, watch.cell.hosts
            for host, sighting in known.items():
                if sighting is not before.get(host) and sighting.live is not None:
                    seen[host].append((sighting.live.seq, now))
            return hosts.has_ended and None not in delays().values()

        def delays() -> dict[tuple[str, int], float | None]:
            """A change is read with itself, or with what came after it."""
            firsts = {(host, seq): _first(seen[host], seq) for host, seq in hosts.changes}
            return {
                change: None if first is None else first - hosts.changes[change] for change, first in firsts.items()
            }

        while not follow():
            assert time.monotonic() - began < seconds + 30, [change for change, at in delays().items() if at is None]
            client.bell.wait(0.1)
            client.bell.clear()
        used = (time.process_time() - cpu) / (time.monotonic() - began)
        took = sorted(delay for delay in delays().values() if delay is not None)
    return Measured(hosts.joining, loading, reading, took, used)


def _first(seen: list[tuple[int, float]], seq: int) -> float | None:
    return next((at for number, at in seen if number >= seq), None)
