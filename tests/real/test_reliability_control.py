# SPDX-License-Identifier: Apache-2.0
"""The daemon's control socket is flooded: the beat and the column go on, memory is bounded, others are served.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive.ptrace import leash
from ovs_keepalive.sandbox import missing
from tests.around import REFRESH, Watched
from tests.conftest import cannot
from tests.flood import KINDS
from tests.lab import stopped
from tests.switch import TestedSandbox

pytestmark = pytest.mark.real

FLOOD = Path(__file__).parents[1] / "flood.py"
LARGEST_GROWTH = 32 << 20  # bytes


@pytest.fixture(scope="module")
def flooded() -> Iterator[Watched]:
    """One daemon for all floods."""
    if reason := missing():
        cannot(reason)
    with TestedSandbox() as sandbox, Watched(sandbox) as watched:
        yield watched.start()


SECONDS = [pytest.param(2.0, id="2s"), pytest.param(60.0, id="60s", marks=[pytest.mark.long, pytest.mark.timeout(180)])]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of(flooded: Watched, kind: str, seconds: float) -> None:
    """A PMD that fails in the midst of it is told in time, and an ordinary client is answered all the while."""
    before = len(flooded.said())
    name, tid = next(iter(flooded.sandbox.pmds().items()))
    socket = flooded.sandbox.dir / f"ovs-keepalive.{flooded.pid}.ctl"
    slowest = 0.0
    with flooded.stretch() as stretch, flood(kind, socket, seconds) as process:
        with stopped(tid) as injected:
            while not (dead := flooded.first(name, "DEAD", injected.earliest)):
                time.sleep(0.01)
                assert time.monotonic() - injected.latest < 10, "no verdict"
        while process.poll() is None:
            begin = time.monotonic()
            assert "PMD threads        : 2" in flooded.asks("keepalive/pmd-health-show")
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.1)
        print(f"{kind}: DEAD after {(dead.at - injected.latest) / flooded.interval:.2f} intervals, the slowest of the")
        print(f"ordinary answers {slowest * 1000:.0f} ms; {process.stdout.read() if process.stdout else ''}")
    late = stretch.blind + 2 * stretch.machine
    assert dead.at - injected.latest <= 1.5 * flooded.interval + late
    assert slowest <= 1.0 + late
    flooded.beat_on(stretch, blind=0.15)
    assert flooded.longest_pause(stretch) <= 1.25 * REFRESH + late
    assert stretch.grown <= LARGEST_GROWTH
    flooded.wait_until_well()
    assert [line for line in flooded.lies if not line.startswith(name)] == []
    flooded.came_through(lines=before + 60)


@contextmanager
def flood(kind: str, socket: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Flood from a process of its own, that ends by itself."""
    argv = [*leash(), sys.executable, str(FLOOD), kind, str(socket), str(seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_an_option_that_it_does_not_know_does_not_end_it(flooded: Watched) -> None:
    """python-ovs hands `set-options` to argparse, which ends the process when it does not understand."""
    argv = ["ovs-appctl", "-t", "ovs-keepalive", "set-options", "--help"]
    result = subprocess.run(argv, env=flooded.sandbox.env, capture_output=True, text=True, check=False, timeout=10)
    assert result.returncode != 0
    assert "is no option" in result.stderr
    flooded.came_through(lines=10_000)
    assert json.loads(flooded.asks("keepalive/status", "--json"))["enabled"]
