# SPDX-License-Identifier: Apache-2.0
"""What a scrape of /metrics costs the daemon, and how late its beat, or any thread beside it, gets meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import LookCounts, Moment, Shares, Snapshot, Transition
from ovs_keepalive.daemon import SWITCH
from ovs_keepalive.formats import listen
from ovs_keepalive.publishers.http import WebServer
from ovs_keepalive.publishers.prometheus import Exposition
from ovs_keepalive.publishers.weight import Weight
from tests.bench.meters import percent, quartiles, switch, table
from tests.conftest import free_port
from tests.lab import node, own_blind
from tests.looks import pmd, snapshot
from tests.switch import TestedSandbox

FORMATS = {"text": "", "OpenMetrics": "application/openmetrics-text;version=1.0.0"}
# Asks once for each line that it is told, and says when it has the page.
CLIENT = """
import sys, urllib.request
print("ready", flush=True)
for line in sys.stdin:
    request = urllib.request.Request(sys.argv[1], headers={"Accept": sys.argv[2]})
    with urllib.request.urlopen(request) as answer:
        print(len(answer.read()), flush=True)
"""
PAIRS = 4  # of windows, without scrapes and with
SCRAPES = 8  # in a window …
EVERY = 1.0  # … one in so many seconds: each finds a new snapshot, and Prometheus asks less often
TICK = 0.02  # seconds
BESIDE = 4.0  # seconds of nothing but pages, one after the other


class Scraped(NamedTuple):
    """A window with scrapes, beside one without."""

    pmds: int
    kib: float  # of a page
    took: list[float]  # seconds until a page was there
    late: tuple[float, float]  # the beat's blind time, part of the window: without, with
    latest: float  # seconds; by how much the latest look came late, with


def show(sizes: Sequence[int], warm_up: float) -> None:
    """Measure, and print the tables."""
    print(
        f"\n## 4. A scrape\n\nOne page after the other for {BESIDE:g} s, and a thread beside it that wants to wake "
        f"every {TICK * 1000:g} ms: how late it does\n(the interpreter's switch interval is the daemon's). "
        "To reach: 256 PMDs 30 ms of CPU.\n"
    )
    head = [
        "PMDs",
        "format",
        "page",
        "CPU a page, quartiles",
        "CPU over HTTP",
        "take(), no news",
        "thread late, quartiles",
        "with no pages",
    ]
    print(table(head, [row for pmds in sizes for row in _in_process(pmds)]))
    print(
        f"\nThe daemon itself, {PAIRS} pairs of windows of {SCRAPES * EVERY:g} s: left alone, and asked every "
        f"{EVERY:g} s.\nBlind: its beat came late.\n"
    )
    rows = []
    for pmds in sizes:
        scraped = _daemon(pmds, warm_up)
        rows.append([
            str(scraped.pmds),
            f"{scraped.kib:.0f} KiB",
            _milliseconds(scraped.took),
            percent(scraped.late[1]),
            percent(scraped.late[0]),
            f"{scraped.latest * 1000:.0f} ms",
        ])  # fmt: skip
    print(table(["PMDs", "page", "until it is there, quartiles", "blind", "left alone", "latest look"], rows))


def _in_process(pmds: int) -> list[list[str]]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        return [_pages(pmds, name, accept) for name, accept in FORMATS.items()]
    finally:
        sys.setswitchinterval(before)


def _pages(pmds: int, name: str, accept: str) -> list[str]:
    shares = Shares(1e5, 0.5, 0.3, 0.2, 0.9, 0.1)
    known = [
        pmd(name=f"pmd-c{core:02d}/id:{core + 7}", core=core, iterations=10**9 + core, shares=shares)
        for core in range(pmds)
    ]
    history = tuple(Transition(Moment(1.0, 1), one.name, "UNUSED", "ALIVE", "none", "") for one in known)
    told = snapshot(known, history=history, counts=LookCounts(1, 0, (1,) * 15, 1.0))
    exposition = Exposition("0.0.0", Weight(moment()))
    exposition.take(told, 1, 0)
    resting = _late(lambda: time.sleep(BESIDE))
    spent: list[float] = []
    size = 0

    def scrape() -> None:
        nonlocal size
        over = time.monotonic() + BESIDE
        while time.monotonic() < over:
            exposition.take(replace(told, at=Moment(1000.0 + len(spent), 1)), 1, 0)  # else no page is made anew
            begin = time.thread_time()
            size = len(exposition.render(accept)[1])
            spent.append(time.thread_time() - begin)

    beside = _late(scrape)
    begin = time.thread_time()
    for _ in range(1000):
        exposition.take(told, 1, 0)
    taken = (time.thread_time() - begin) / 1000
    cost = f"{taken * 1e6:.1f} us"
    served = f"{_over_http(exposition, told, accept) * 1000:.1f} ms"
    size_of_it = f"{size / 1024:.0f} KiB"
    return [
        str(pmds),
        name,
        size_of_it,
        _milliseconds(spent),
        served,
        cost,
        _milliseconds(beside),
        _milliseconds(resting),
    ]


def _over_http(exposition: Exposition, told: Snapshot, accept: str) -> float:
    """Seconds of CPU of the process that answers, a scrape: all of its threads, from accept(2) to the last byte.

    In this process, which does nothing else: the daemon's own would be lost in what its looks take.
    """
    server = WebServer(listen.Address("127.0.0.1", 0, 4), moment, exposition.render)
    server.run(0.0)
    try:
        argv = [sys.executable, "-c", CLIENT, f"{server.url}metrics", accept]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdout.readline()
            spent = 0.0
            for number in range(SCRAPES):
                exposition.take(replace(told, at=Moment(2000.0 + number, 1)), 1, 0)
                begin = time.process_time()
                print(file=client.stdin, flush=True)
                client.stdout.readline()
                spent += time.process_time() - begin
            client.stdin.close()
    finally:
        server.close()
    return spent / SCRAPES


def _late(work: Callable[[], object]) -> list[float]:
    """Seconds by which a thread woke late, each time, while that was done."""
    over, late = threading.Event(), list[float]()

    def tick() -> None:
        while not over.is_set():
            planned = time.monotonic() + TICK
            time.sleep(TICK)
            late.append(time.monotonic() - planned)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        work()
    finally:
        over.set()
        ticker.join()
    return late


def _daemon(pmds: int, warm_up: float) -> Scraped:
    address = f"127.0.0.1:{free_port()}"
    with TestedSandbox(pmds=pmds) as sandbox:
        sandbox.settings(enable_keepalive=True, keepalive_interval=1000)
        sandbox.start_daemon(config={"web-listen": address})
        switch(sandbox, True)
        time.sleep(warm_up)
        size, took, blind = len(_fetch(address)), list[float](), [0.0, 0.0]
        for _ in range(PAIRS):
            before = own_blind(sandbox)
            time.sleep(SCRAPES * EVERY)
            between = own_blind(sandbox)
            took += _ask(address)
            blind = [blind[0] + between - before, blind[1] + own_blind(sandbox) - between]
        window, latest = PAIRS * SCRAPES * EVERY, node(sandbox)["cost"]["own_latest_ms"] / 1000
    return Scraped(pmds, size / 1024, took, (blind[0] / window, blind[1] / window), latest)


def _ask(address: str) -> list[float]:
    """Seconds that each page took to come, one asked for every EVERY."""
    first, took = time.monotonic(), []
    for number in range(SCRAPES):
        time.sleep(max(0.0, first + number * EVERY - time.monotonic()))
        begin = time.monotonic()
        _fetch(address)
        took.append(time.monotonic() - begin)
    time.sleep(max(0.0, first + SCRAPES * EVERY - time.monotonic()))
    return took


def _fetch(address: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def _milliseconds(values: Sequence[float]) -> str:
    return " / ".join(f"{value * 1000:.1f}" for value in quartiles(values)) + " ms"
