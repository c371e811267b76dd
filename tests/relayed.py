# SPDX-License-Identifier: Apache-2.0
"""A daemon in a sandbox that is upgraded again and again, and who watches it: a client, a scraper."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from ovs_keepalive.sandbox import Sandbox, wait
from tests import realtime
from tests.conftest import free_port
from tests.json_shapes import documented, wrong
from tests.lab import Background, Ticker
from tests.subscriber import Subscriber

PACE = 0.02  # seconds between two calls of the client: fifty a second
TRIES = 3
TOO_LATE = "it said nothing for"
TOLD = re.compile(r"done: .* hand-over ([\d.]+) ms")
SAMPLE = re.compile(r"^(ovs_keepalive_\w+(?:\{[^}]*\})?) (\S+)", re.MULTILINE)
# Breaks a successor, and nobody else, in the way that stands in the file; it is loaded by every Python at its start.
SITE = """
import os, sys, time
how = open(os.environ["BREAK_SUCCESSOR"]).read().strip()
if "OVS_KEEPALIVE_SUCCESSOR" in os.environ and how:
    if how == "import":
        raise_at = "ovs_keepalive.successor"
        class Finder:
            def find_spec(self, name, path, target=None):
                if name == raise_at:
                    raise ImportError("no such thing on this host")
        sys.meta_path.insert(0, Finder())
    else:
        from ovs_keepalive import dirs, lasting, relay, successor
        from ovs_keepalive.formats import memory
        def die(*_): os._exit(9)
        def hang(*_): time.sleep(60)
        S = successor.Successor
        if how == "hang in prepare": S.prepare = hang
        elif how == "crash after ready": S.take_over = die
        elif how == "hang after ready": S.take_over = hang
        elif how == "crash after state": S._go_on_from = die
        elif how == "hang after state": S._go_on_from = hang
        elif how == "crash after taken": S._inherit = die
        elif how == "crash after done": S.loop = die
        elif how == "older document": memory.VERSION = 0
        elif how in ("the old one is killed before taken", "the old one is killed after taken"):
            old, say = os.getppid(), relay.Line.say
            def kill(message, when):
                while message.say == "taken" and how.endswith(when) and os.getppid() == old:
                    os.kill(old, 9)
                    time.sleep(0.001)
            def say_and_kill(line, message, *rest):
                kill(message, "before taken")
                say(line, message, *rest)
                kill(message, "after taken")
            relay.Line.say = say_and_kill
        else: raise SystemExit(f"{how}?")
elif "OVS_KEEPALIVE_SUCCESSOR" not in os.environ and "run" in sys.orig_argv:
    from ovs_keepalive import dirs, upgrade
    upgrade.PREPARE = float(os.environ["PREPARE"])
"""


class Both(NamedTuple):
    """What it cost that a daemon and its successor lived at the same time."""

    lived: float  # seconds, from the command to the end of the old one
    cpu: float  # seconds of it, by the successor until it had the pidfile
    memory: tuple[int, int]  # bytes that are the old one's alone, and the successor's (USS), before that


class Relayed:
    """The daemon, whoever it is by now. It ends with the block."""

    def __init__(self, sandbox: Sandbox, directory: Path, prepare: float = 30.0) -> None:
        """prepare: seconds that a successor may take to be ready."""
        self.sandbox = sandbox
        self.port = free_port()
        self.costs: list[Both] = []  # of each upgrade
        self.given_up = 0  # upgrades, for a successor that was late
        self.breaks = directory / "break"
        self.breaks.write_text("")
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITE)
        self._through = [
            "env",
            f"PYTHONPATH={site}:{os.environ.get('PYTHONPATH', '')}",
            f"BREAK_SUCCESSOR={self.breaks}",
            f"PREPARE={prepare}",
        ]

    def __enter__(self) -> Relayed:
        config = {"web-listen": f"127.0.0.1:{self.port}"}
        self.sandbox.start_daemon(config=config, through=self._through)
        wait(lambda: set(self.sandbox.column()) == set(self.sandbox.pmds()), "all PMDs in the column", 15)
        realtime.prefer_sandbox(self.sandbox)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError, FileNotFoundError, psutil.NoSuchProcess):
            last = psutil.Process(self.pid)
            last.send_signal(signal.SIGTERM)
            with suppress(psutil.TimeoutExpired):
                last.wait(10)
                return
            last.kill()

    @property
    def pid(self) -> int:
        """As its pidfile says."""
        return int((self.sandbox.dir / "ovs-keepalive.pid").read_text())

    def ask(self, *command: str) -> Any:
        """What it answers, as JSON."""
        return json.loads(self.sandbox.appctl(*command, "--json", target="ovs-keepalive"))

    @property
    def node(self) -> dict[str, Any]:
        """The node document."""
        return dict(self.ask("keepalive/status"))

    @property
    def told(self) -> str:
        """How the last upgrade went."""
        return str(self.node["daemon"].get("upgrade", ""))

    def begin(self) -> int:
        """Let it start a successor; its pid."""
        answer = self.ask("keepalive/upgrade")
        assert list(wrong(answer, "successor", documented())) == []
        successor = int(answer["successor"])
        with suppress(PermissionError, ProcessLookupError):  # as the daemon; its threads inherit it, as from a unit
            os.sched_setscheduler(successor, os.SCHED_RR, os.sched_param(realtime.WATCHERS))
        return successor

    def upgrade(self) -> float:
        """Upgrade it, and see that it was; ms that the hand-over took.

        A successor that this machine kept waiting for half an interval was given up, as it has to be: another one then.
        """
        for _ in range(TRIES):
            before, began = self.pid, time.monotonic()
            successor = self._tried()
            if done := TOLD.match(self.told):
                break
            assert TOO_LATE in self.told, self.told
            self.given_up += 1
        assert done is not None, self.told
        cpu, memory = psutil.Process(successor).cpu_times(), (_own_memory(before), _own_memory(successor))
        wait(lambda: not _runs(before), "the end of the old daemon", 5)
        self.costs.append(Both(time.monotonic() - began, cpu.user + cpu.system, memory))
        return float(done[1])

    def _tried(self) -> int:
        """The pid of a successor that has taken over, or was given up."""
        successor = self.begin()
        wait(lambda: self.told.startswith("failed") or self.pid == successor, "the successor's pidfile", 30)
        return successor

    def fails(self, how: str) -> str:
        """Upgrade it with a successor that is broken in that way; what the daemon says of it."""
        self.breaks.write_text(how)
        before = self.told
        self.begin()
        wait(lambda: self.told != before and self.told.startswith("failed"), "the failure told", 40)
        self.breaks.write_text("")
        return self.told


def _own_memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().uss)


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class Client(Background):
    """Asks fifty times a second, at times by the real ovs-appctl, and keeps what it is told."""

    def __init__(self, relayed: Relayed) -> None:
        super().__init__()
        self._relayed = relayed
        self.nodes: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            began = time.monotonic()
            try:
                self.nodes.append(self._relayed.node)
                if number % 25 == 0:
                    self._ask_really()
            except Exception as error:  # noqa: BLE001 - each is a failure of the daemon
                self.failures.append(f"{type(error).__name__}: {error}")
            self.slowest = max(self.slowest, time.monotonic() - began)
            number += 1
            time.sleep(max(0.0, PACE - (time.monotonic() - began)))

    def _ask_really(self) -> None:
        argv = ["ovs-appctl", "-T", "5", "-t", "ovs-keepalive", "keepalive/pmd-health-show"]
        done = subprocess.run(
            argv, env=self._relayed.sandbox.env, capture_output=True, text=True, timeout=10, check=False
        )
        if done.returncode:
            raise ConnectionError(done.stderr.strip())

    @property
    def sequence(self) -> list[int]:
        """The numbers of the snapshots, as they came."""
        return [node["sequence"] for node in self.nodes]

    def of(self, pid: int) -> list[int]:
        """Those of one daemon."""
        return [node["sequence"] for node in self.nodes if node["daemon"]["version"].endswith(f", pid {pid}")]

    def states(self) -> set[str]:
        """All the states that were told of PMDs."""
        return {pmd["state"] for node in self.nodes for pmd in node["pmds"]}

    def widest(self) -> float:
        """Seconds between two successive snapshots, at most."""
        at = sorted({node["at"] for node in self.nodes})
        return max((after - before for before, after in pairwise(at)), default=0) / 1000


class Scraper(Background):
    """Reads /metrics ten times a second, and says what went back."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.scrapes = 0
        self.failures: list[str] = []
        self.went_back: list[str] = []

    def run(self) -> None:
        last: dict[str, float] = {}
        while not self.over.is_set():
            try:
                now = self._counters()
            except (OSError, HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            else:
                self.scrapes += 1
                self.went_back += [
                    f"{name}: {last[name]} -> {now.get(name)}" for name in last if now.get(name, -1) < last[name]
                ]
                last = now
            self.over.wait(0.1)

    def _counters(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            samples: Sequence[tuple[str, str]] = SAMPLE.findall(answer.read().decode())
        counted = ("_total", "_count", "_sum", "_bucket")
        return {name: float(value) for name, value in samples if name.partition("{")[0].endswith(counted)}


@dataclass
class Run:
    """Some upgrades in a row, and what was seen of them."""

    took: list[float]  # ms
    told: Subscriber
    client: Client
    scraper: Scraper
    late: float  # seconds for which the machine let this process wait, at worst
    given_up: int  # upgrades, because of that

    def __str__(self) -> str:
        client = self.client
        return (
            f"{len(self.took)} upgrades: hand-over p50 {statistics.median(self.took):.1f} ms, "
            f"max {max(self.took):.1f} ms; {len(client.nodes)} calls, the slowest {client.slowest * 1000:.0f} ms; "
            f"{self.scraper.scrapes} scrapes; at most {client.widest() * 1000:.0f} ms between two snapshots; "
            f"the machine late by up to {self.late * 1000:.0f} ms"
        )


def upgraded(relayed: Relayed, upgrades: int) -> Run:
    """Upgrade it so many times, in a row, under watch."""
    before = relayed.given_up
    with Subscriber(relayed.sandbox.remote) as told, Client(relayed) as client, Scraper(relayed.port) as scraper:
        with realtime.preferred(), Ticker() as ticker:
            took = [relayed.upgrade() for _ in range(upgrades)]
        wait(lambda: f"pid={relayed.pid};" in relayed.sandbox.detail().get("daemon", ""), "the last one's columns", 5)
    return Run(took, told, client, scraper, ticker.worst, relayed.given_up - before)
