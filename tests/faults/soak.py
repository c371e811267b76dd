# SPDX-License-Identifier: Apache-2.0
"""Hours in minutes: innocent events and real stalls one after the other, and a storm of small events beside them, while
the daemon's memory, descriptors, threads and history are measured.

    python -m tests.faults.soak --minutes 60 [--rate 50] [--seed N]

Prints a line a minute, then the slope. Exit status: 0; 1 if a verdict was false, memory grew by 1 MB/h or more (told
from 30 minutes on), or descriptors or threads did not come back to what they were; 3 it cannot be done here.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from ovs_keepalive.sandbox import Sandbox, SandboxError, missing, wait
from tests.faults import innocent
from tests.faults.innocent import Field, Tally, happen
from tests.lab import Background, Ticker, node, stopped

WARM_UP = 0.2  # part of the time in which memory may still grow
LEAST = 30.0  # minutes from which on a slope can be told from noise
SLOPE = 1.0  # MB/h, the most
ARENA = (
    2**20 / 1e6
)  # MB: Python takes memory by so much (Objects/obmalloc.c), when more is needed at once than ever was
PAIRED = 600  # samples of which each two are compared
SAMPLE = 2.0  # seconds
STALLS = 20  # innocent events between two real stalls
QUESTIONS = (
    ("keepalive/status",),
    ("keepalive/status", "--json"),
    ("keepalive/pmd-health-show",),
    ("keepalive/pmd-xstats-show", "--json"),
    ("keepalive/explain", "vswitchd"),
    ("keepalive/explain", "pmd-c00"),
    ("keepalive/history", "100", "--json"),
    ("keepalive/incidents",),
    ("list-commands",),
    ("keepalive/explain", "pmd-c99/id:\x1b[31m"),
    ("no/such-command", "a", "b"),
    ("keepalive/history", "many"),
)
UNIT = Path(__file__).parents[2] / "ovs_keepalive" / "share" / "systemd" / "ovs-keepalive.service"
HANDS = 3  # that let small events happen: one waits at times, for a daemon that is stopped on purpose
BEHIND = 5.0  # seconds for which one makes up afterwards
PAGES = ("/", "/healthz", "/metrics", "/api/node.json", "/api/strip.json", "/nothing")


class Sample(NamedTuple):
    """The daemon at one moment."""

    at: float  # seconds since the begin
    rss: int  # bytes
    descriptors: int
    threads: int
    history: int  # transitions remembered
    log: int  # bytes


class Storm(Background):
    """So many small events a second: questions, nonsense, reloads, settings, statistics cleared, pages, viewers."""

    def __init__(self, sandbox: Sandbox, pid: int, rate: float, rng: random.Random) -> None:
        super().__init__()
        self.events = self.failed = 0
        self._sandbox, self._pid, self._pause, self._rng = sandbox, pid, 1.0 / rate, rng
        self._control = sandbox.dir / f"ovs-keepalive.{pid}.ctl"
        url = urlsplit(node(sandbox)["daemon"]["web"].partition(",")[0])
        self._web = str(url.hostname), int(url.port or 0)

    def run(self) -> None:
        """One event after the other, at the times that are due."""
        due = time.monotonic()
        kinds = (self._ask,) * 6 + (
            self._clear,
            self._set,
            self._reload,
            self._babble,
            self._leave,
            self._browse,
            self._view,
        )
        while not self.over.is_set():
            try:
                self._rng.choice(kinds)()
            except SandboxError:
                self.events += 1  # an answer as well: refused
            except OSError:
                self.failed += 1  # who was asked is restarting or held
            else:
                self.events += 1
            due = max(due + self._pause, time.monotonic() - BEHIND)
            time.sleep(max(0.0, due - time.monotonic()))

    def _ask(self) -> None:
        self._sandbox.appctl(*self._rng.choice(QUESTIONS), target="ovs-keepalive")

    def _clear(self) -> None:
        self._sandbox.appctl("dpif-netdev/pmd-stats-clear")

    def _set(self) -> None:
        self._sandbox.settings(**{f"soak-{self._rng.randrange(8)}": self._rng.randrange(1000)})

    def _reload(self) -> None:
        os.kill(self._pid, signal.SIGHUP)

    def _babble(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._control))
            connection.sendall(self._rng.randbytes(self._rng.randrange(2000)))

    def _leave(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._control))
            connection.sendall(json.dumps({"id": 0, "method": "keepalive/status", "params": []}).encode())

    def _browse(self) -> None:
        with closing(http.client.HTTPConnection(*self._web, timeout=5)) as connection:
            connection.request("GET", self._rng.choice(PAGES))
            connection.getresponse().read()

    def _view(self) -> None:
        with socket.create_connection(self._web, 5) as viewer:
            viewer.sendall(b"GET /api/events HTTP/1.1\r\n\r\n")
            viewer.recv(self._rng.randrange(1, 10000))


class Meter(Background):
    """Measures the daemon again and again, and prints a line a minute."""

    def __init__(self, sandbox: Sandbox, pid: int, storms: Sequence[Storm], tally: Tally) -> None:
        super().__init__()
        self.samples: list[Sample] = []
        self._sandbox, self._process, self._storms, self._tally = sandbox, psutil.Process(pid), storms, tally

    def run(self) -> None:
        """Until the end, or until the daemon is no more."""
        begin = time.monotonic()
        log = self._sandbox.dir / "ovs-keepalive.log"
        print(" min    small innocent  RSS KiB  fds threads history log KiB", flush=True)
        while not self.over.wait(SAMPLE):
            at = time.monotonic() - begin
            try:
                text = self._sandbox.appctl("keepalive/history", "500", "--json", target="ovs-keepalive")
                with self._process.oneshot():
                    rss, descriptors = self._process.memory_info().rss, self._process.num_fds()
                    threads = self._process.num_threads()
            except (OSError, SandboxError, psutil.Error):
                continue  # it is stopped at this moment, on purpose; that it ended is told by who started it
            now = Sample(at, rss, descriptors, threads, len(json.loads(text)), log.stat().st_size)
            if not self.samples or now.at // 60 > self.samples[-1].at // 60:
                print(
                    f"{now.at / 60:>4.0f} {sum(storm.events for storm in self._storms):>8} "
                    f"{self._tally.events:>8} {now.rss >> 10:>8} "
                    f"{now.descriptors:>4} {now.threads:>7} {now.history:>7} {now.log >> 10:>7}",
                    flush=True,
                )
            self.samples.append(now)


def stall(field: Field) -> str:
    """Hold one PMD until it is DEAD, and see it well again; what was told wrongly.

    What is told of other PMDs while a CPU was taken from this machine, as of a nap that no timer ends, is void.
    """
    name, tid = next((name, tid) for name, tid in field.sandbox.pmds().items() if innocent.core(name) in (0, 1))
    begin = time.monotonic()
    with ExitStack() as stack:
        tickers = [stack.enter_context(Ticker(cpu)) for cpu in sorted(os.sched_getaffinity(0))]
        with stopped(tid):
            wait(lambda: any(told.state(name) == "DEAD" for told in field.since(begin)), f"{name} DEAD", 20)
        field.wait_until_well()
    told = "; ".join(line for line in field.alarms(begin) if name not in line and "vswitchd" not in line)
    lost = max(ticker.worst for ticker in tickers)
    if told and lost >= field.interval / 2:
        print(f"void: a CPU stood still for {lost * 1000:.0f} ms: {told}", flush=True)
        return ""
    return told


def verdict(samples: Sequence[Sample]) -> list[str]:
    """What the samples say, a line each; one that begins with `!` is a failure."""
    warm = [sample for sample in samples if sample.at >= WARM_UP * samples[-1].at]
    first, last = warm[: len(warm) // 3], warm[-(len(warm) // 3) :]
    slope, long = rise([(s.at / 3600, s.rss / 1e6) for s in warm]), samples[-1].at >= LEAST * 60
    grown = (statistics.median(s.rss for s in last) - statistics.median(s.rss for s in first)) / 1e6
    bound = SLOPE * (last[0].at - first[0].at) / 3600 + ARENA
    lines = [f"{'!' if long and slope >= SLOPE else ''}RSS slope after warm-up: {slope:+.2f} MB/h"]
    lines.append(f"{'!' if grown >= bound else ''}RSS of the last third: {grown:+.2f} MB, {bound:.2f} may be")
    for what in ("descriptors", "threads"):
        before, after = (at_rest([getattr(s, what) for s in part]) for part in (first, last))
        lines.append(f"{'!' if after > before else ''}{what} at rest: {before} in the first third, {after} in the last")
    lines.append(f"history: at most {max(s.history for s in samples)} transitions; log: {samples[-1].log >> 10} KiB")
    return lines


def rise(points: Sequence[tuple[float, float]]) -> float:
    """The slope that half of all pairs have at most (Theil and Sen): a leak is in each pair, a step in few of them."""
    few = points[:: max(1, len(points) // PAIRED)]
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(few, 2))


def at_rest(numbers: Sequence[int]) -> int:
    """What is there when nothing goes on; what is less for a moment only, as while a child is started anew, is not."""
    return sorted(numbers)[len(numbers) // 20]


def soak(minutes: float, rate: float, rng: random.Random) -> int:
    """The exit status."""
    wrong: list[str] = []
    with Field(rng, 500, 16) as field:
        pid = int((field.sandbox.dir / "ovs-keepalive.pid").read_text())
        tally, each = Tally(), [random.Random(rng.random()) for _ in range(HANDS)]  # noqa: S311
        storms = [Storm(field.sandbox, pid, rate / HANDS, its) for its in each]
        meter = Meter(field.sandbox, pid, storms, tally)
        end, done = time.monotonic() + minutes * 60, 0
        with ExitStack() as stack:
            for one in (*storms, meter):
                stack.enter_context(one)
            while time.monotonic() < end and not tally.stories:
                happen(field, rng.choice(innocent.KINDS), tally)
                done += 1
                if done % STALLS == 0 and (told := stall(field)):
                    wrong.append(told)
        if not Path(f"/proc/{pid}").exists():
            wrong.append(f"the daemon, pid {pid}, did not live to the end")
    lines = verdict(meter.samples)
    events, failed = sum(storm.events for storm in storms), sum(storm.failed for storm in storms)
    lines.append(f"small events: {events}, {events / meter.samples[-1].at:.0f} a second, {failed} unanswered")
    wrong += [line[1:] for line in lines if line.startswith("!")] + tally.stories
    print("\n".join([str(tally), f"stalls: {done // STALLS}", *(line.lstrip("!") for line in lines)]))
    print("\n".join(f"WRONG: {line}" for line in wrong) or "nothing wrong")
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options, and soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, metavar="N", help="small events a second")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311
    options = parser.parse_args(arguments)
    if reason := missing():
        print(reason, file=sys.stderr)
        return 3
    print(f"seed {options.seed}", flush=True)
    os.environ |= re.findall(r"^Environment=(MALLOC_\w+)=(\w+)$", UNIT.read_text(), re.MULTILINE)
    return soak(options.minutes, options.rate, random.Random(options.seed))  # noqa: S311


if __name__ == "__main__":
    sys.exit(main())
