# SPDX-License-Identifier: Apache-2.0
"""Requests for help, while those who claim them and the leader of the store are killed and stopped at random.

At the end each request stands in the record once, none was lost, and nobody was ever given a fence that another had.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from ovs_keepalive.core.fleet import Done
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.store import Refused, Unreachable, Unsure
from ovs_keepalive.sandbox import wait
from tests.fleets import help_of
from tests.zookeeper import TREE, Client, Server, Zookeeper, planted

pytestmark = pytest.mark.real

TIMEOUT = 4.0  # seconds of a worker's session
WORKERS = 6
ASLEEP = 7.0  # seconds that one stays stopped: its session is over by then
EVERY = 1.5  # seconds between misfortunes


class Workers:
    """Processes that claim; one that was killed is followed by another."""

    def __init__(self, servers: str, directory: Path, seed: int) -> None:
        self._servers, self._directory, self._seed = servers, directory, seed
        self._running: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._stopped: dict[int, float] = {}  # pid -> when it may go on

    def start(self) -> None:
        self._started += 1
        host, seed = f"w{self._started}", str(self._seed + self._started)
        argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.fleet_worker"]
        with (self._directory / f"{host}.txt").open("wb") as said:
            place = Path(__file__).parents[2]
            worker = subprocess.Popen([*argv, self._servers, host, seed, str(TIMEOUT)], stdout=said, cwd=place)
        self._running.append(worker)

    def kill_one(self, chance: random.Random) -> None:
        worker = self._running.pop(chance.randrange(len(self._running)))
        self._stopped.pop(worker.pid, None)
        worker.kill()
        worker.wait(10)
        self.start()

    def stop_one(self, chance: random.Random, now: float) -> None:
        worker = chance.choice(self._running)
        worker.send_signal(signal.SIGSTOP)
        self._stopped.setdefault(worker.pid, now + ASLEEP)

    def wake(self, now: float) -> None:
        """Those that slept long enough go on; one that stopped itself is found asleep."""
        for worker in self._running:
            if Path(f"/proc/{worker.pid}/stat").read_text().rpartition(") ")[2].startswith("T"):
                self._stopped.setdefault(worker.pid, now + ASLEEP)
            if now >= self._stopped.get(worker.pid, now + 1):
                del self._stopped[worker.pid]
                worker.send_signal(signal.SIGCONT)

    def wake_all(self) -> None:
        for worker in self._running:
            worker.send_signal(signal.SIGCONT)

    def end(self) -> None:
        for worker in self._running:
            worker.kill()
            worker.wait(10)

    @property
    def said(self) -> list[list[str]]:
        """Every line of all of them, in words."""
        return [
            line.split() for path in sorted(self._directory.glob("w*.txt")) for line in path.read_text().splitlines()
        ]


class Outcome(NamedTuple):
    """What a run came to."""

    posted: list[str]
    maybe: list[str]  # nobody answered
    records: list[Done]
    said: list[list[str]]
    misfortunes: Counter[str]

    def __str__(self) -> str:
        words = Counter(line[0] for line in self.said)
        return (
            f"posted {len(self.posted)}, done {len(self.records)}, claims {words['claimed']}, "
            f"given back {words['gave']}, fenced off {words['fenced']}, asleep {words['sleeps']}, "
            f"unsure {words['unsure']}, released {words['released']}, "
            + ", ".join(f"{count} x {what}" for what, count in sorted(self.misfortunes.items()))
        )


class Run:
    """Posts requests while things go wrong."""

    def __init__(self, zookeeper: Zookeeper, client: Client, workers: Workers, seed: int) -> None:
        self._zookeeper, self._client, self._workers = zookeeper, client, workers
        self._claims = Claims(client.session, TREE, "asks")
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated
        self._misfortunes: Counter[str] = Counter()
        self._number = 0
        self._posted: list[str] = []
        self._maybe: list[str] = []
        self._down: tuple[Server, float] | None = None  # the leader that was, and when it comes back

    def go(self, seconds: float) -> Outcome:
        for _ in range(WORKERS):
            self._workers.start()
        began = time.monotonic()
        trouble = began + EVERY
        while (now := time.monotonic()) < began + seconds:
            self._post()
            self._clear()
            self._workers.wake(now)
            if now >= trouble:
                trouble = now + EVERY * self._chance.uniform(0.5, 1.5)
                self._go_wrong(now)
            self._mend(now)
            self._client.bell.wait(0.1)
            self._client.bell.clear()
        return self._drain()

    def _post(self) -> None:
        """One more; one of which nobody answered may be posted yet."""
        self._number += 1
        request = help_of("asks", kind=f"k{self._number}", n=0, by="")
        self._client.news()
        try:
            self._claims.post(request)
        except Unsure:
            self._maybe.append(request.id)
        except Unreachable:
            return
        else:
            self._posted.append(request.id)

    def _clear(self) -> None:
        """As an operator does with those that are stuck."""
        with suppress(Unreachable, Refused):
            for request, version in self._claims.requests().values():
                if request.is_stuck:
                    self._claims.clear(request, version, "cleared")

    def _go_wrong(self, now: float) -> None:
        what = self._chance.choices(["worker killed", "worker stopped", "leader"], [4, 4, 2])[0]
        if what == "worker killed":
            self._workers.kill_one(self._chance)
        elif what == "worker stopped":
            self._workers.stop_one(self._chance, now)
        elif self._down is None:
            leaders = [server for server in self._zookeeper.servers if server.mode == "leader"]
            if not leaders:
                return
            how = self._chance.choice(["leader killed", "leader stopped"])
            [leader] = leaders
            leader.kill() if how == "leader killed" else leader.stop()
            self._down = (leader, now + self._chance.uniform(2.0, 4.0))
            what = how
        else:
            return
        self._misfortunes[what] += 1

    def _mend(self, now: float) -> None:
        if self._down is not None and now >= self._down[1]:
            server, self._down = self._down[0], None
            if server.is_running():
                server.go_on()
            else:
                server.start()

    def _drain(self) -> Outcome:
        self._mend(float("inf"))
        for server in self._zookeeper.servers:
            self._zookeeper.wait_for(server, 40)

        def empty() -> bool:
            self._workers.wake_all()
            self._client.news()
            self._clear()
            try:
                return not self._claims.requests()
            except Unreachable:
                return False

        wait(empty, "every request is done", 60)
        return Outcome(self._posted, self._maybe, self._claims.records(), self._workers.said, self._misfortunes)


def chaos(directory: Path, seconds: float) -> Outcome:
    """One run; its seed is in the output."""
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    with ExitStack() as stack:
        zookeeper = stack.enter_context(Zookeeper(directory, 3))
        client = stack.enter_context(planted(zookeeper, timeout=10.0))()
        workers = Workers(zookeeper.hosts, directory, seed)
        stack.callback(workers.end)
        outcome = Run(zookeeper, client, workers, seed).go(seconds)
    print(outcome)
    return outcome


def check(outcome: Outcome) -> None:
    """What may never happen."""
    done = Counter(f"{record.host}--{record.kind}" for record in outcome.records)
    assert [id for id, times in done.items() if times > 1] == [], "done twice"
    assert set(outcome.posted) - set(done) == set(), "lost"
    assert set(done) <= {*outcome.posted, *outcome.maybe}
    fences = Counter((line[1], line[2]) for line in outcome.said if line[0] == "claimed")
    assert [pair for pair, times in fences.items() if times > 1] == [], "one fence, two claimers"
    ends = {(f"{record.host}--{record.kind}", str(record.fence)) for record in outcome.records}
    told = {(line[1], line[2]) for line in outcome.said if line[0] == "done"}
    assert told <= ends, "somebody was told that it is done, and there is no record"
    fenced = {(line[1], line[2]) for line in outcome.said if line[0] == "fenced"}
    assert fenced & told == set()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_slice_of_chaos_does_each_request_once(tmp_path: Path) -> None:
    outcome = chaos(tmp_path, 12.0)
    check(outcome)
    assert len(outcome.posted) > 20
    assert sum(outcome.misfortunes.values()) >= 3


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_minute_of_chaos_does_each_request_once(tmp_path: Path) -> None:
    outcome = chaos(tmp_path, 60.0)
    check(outcome)
    assert len(outcome.posted) > 200
    assert outcome.misfortunes["leader killed"] + outcome.misfortunes["leader stopped"] > 0
    assert outcome.misfortunes["worker killed"] > 5
