# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive web` as it is run, on a real ZooKeeper with a session for each host, looked at through a browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from ovs_keepalive.core.fleet import HostState, PmdBrief
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.members import Membership, forget
from ovs_keepalive.sandbox import wait
from tests.browser import Browser, browsing
from tests.conftest import free_port
from tests.fleet_scale import simulated
from tests.fleets import help_of, member
from tests.zookeeper import TREE, Zookeeper, planted

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
SESSION = 4.0  # seconds
DEAD = (PmdBrief(1, 0, "ALIVE", 41, 2, 812_345, 0), PmdBrief(2, 0, "DEAD", None, 1, None, 1))


class Web:
    """The process."""

    def __init__(self, directory: Path, zookeeper: str, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        config = directory / "web.yaml"
        config.write_text(f"fleet:\n  zookeeper: '{zookeeper}'\n  session-timeout: {SESSION}\n")
        argv = [sys.executable, "-m", "ovs_keepalive", "web", "--config", str(config)]
        argv += ["--web-listen", f"127.0.0.1:{self.port}", *options]
        self.log = directory / "web.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], cwd=ROOT, stderr=log)

    def get(self, path: str) -> Any:
        """A document."""
        with urllib.request.urlopen(f"{self.url}api/{path}", timeout=10) as answer:  # noqa: S310 - our own
            return json.load(answer)

    def states(self) -> str:
        """Of all hosts in the cell c1, a letter each; nothing while nobody answers."""
        try:
            return str(self.get("fleet.json")["cells"].get("c1", {}).get("states", ""))
        except OSError:
            return ""

    def stop(self) -> int:
        """End it; its exit status."""
        self.process.terminate()
        return self.process.wait(10)


@contextmanager
def web(directory: Path, zookeeper: str, *options: str) -> Iterator[Web]:
    """It ends whatever happens."""
    one = Web(directory, zookeeper, *options)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.mark.slow
def test_hosts_killed_hard_are_gone_in_time_and_their_last_pmd_states_stay(
    zookeeper: Zookeeper, browser: Browser, tmp_path: Path
) -> None:
    with planted(zookeeper) as connect, web(tmp_path, zookeeper.hosts) as page:
        client = connect()
        place = Membership(client.session, TREE, "node-07")
        place.tell(member(state=HostState.WELL, why="", pmds=DEAD))
        wait(lambda: page.states() == "W", "the first host", 20)
        browser.open(page.url)
        wait(lambda: browser.word == "ALL WELL", "the page")
        begin = time.monotonic()
        place.tell(member(seq=8, pmds=DEAD))
        wait(lambda: browser.word == "1 FAILURE", "its failure on the page")
        print(f"a failure is on the page {time.monotonic() - begin:.3f} s after it was told to the store")
        # A second client takes the session over and ends it: what the server does to one that was killed, at once.
        client.expire()
        wait(lambda: browser.word == "1 GONE", "it is gone", 3)
        browser.script("document.querySelector('#rows a').click()")
        wait(lambda: "It has no session" in browser.text("#single"), "its own page")
        assert "DEAD" in browser.text("#single"), "what it said last can still be read"
        again = connect()
        forget(again.session, TREE, "node-07")
        wait(lambda: page.states() == "", "it is forgotten", 10)
        assert page.stop() == 0
        assert b"Traceback" not in page.log.read_bytes()
    assert browser.complaints() == []


@pytest.mark.slow
def test_hosts_whose_process_is_killed_are_gone_within_their_session_and_two_seconds(
    zookeeper: Zookeeper, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fleet_scale.SESSION", SESSION)
    with planted(zookeeper), web(tmp_path, zookeeper.hosts, "--cell", "c1") as page:
        with simulated(zookeeper, 5, 1.0, 1.0):
            wait(lambda: page.states().count("W") == 5, "five hosts", 20)
            browser.open(page.url)
            wait(lambda: browser.word == "ALL WELL", "the page")
        begin = time.monotonic()
        wait(lambda: browser.word == "5 GONE", "they are gone", SESSION + 4)
        took = time.monotonic() - begin
        print(f"GONE on the page {took:.2f} s after SIGKILL, session {SESSION:.0f} s")
        assert took <= SESSION + 2
        assert page.get("host.json?cell=c1&host=n00003")["said"]["pmds"][0]["state"] == "ALIVE"


@pytest.mark.slow
def test_requests_are_seen_and_a_store_that_is_away_is_told(browser: Browser, tmp_path: Path) -> None:
    with Zookeeper(tmp_path / "own") as own, planted(own) as connect, web(tmp_path, own.hosts) as page:
        troubled, helper = connect(), connect()
        Membership(troubled.session, TREE, "node-07").tell(member(pmds=DEAD))
        Membership(helper.session, TREE, "node-09").tell(member("node-09", state=HostState.WELL, why=""))
        asked = help_of(n=0, by="", last="", t=int(time.time() * 1000))
        Claims(troubled.session, TREE, "node-07").post(asked)
        wait(lambda: sorted(page.states()) == ["F", "W"], "two hosts", 20)
        browser.open(page.url)
        wait(lambda: "OPEN" in browser.text("#requests"), "the request")
        own.servers[0].stop()
        try:
            wait(lambda: "Store SUSPENDED" in browser.text("#store"), "the store is away", 20)
            assert "1 FAILURE" in browser.text("#summary"), "what was known is still shown"
        finally:
            own.servers[0].go_on()
        wait(lambda: "Store CONNECTED" in browser.text("#store"), "it is back", 30)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_of_a_thousand_hosts_a_change_is_on_the_page_in_a_tenth_of_a_second(browser: Browser, tmp_path: Path) -> None:
    with Zookeeper(tmp_path / "zk", 3) as ensemble, planted(ensemble, timeout=10.0):
        took = measured(ensemble, browser, tmp_path, 1000, seconds=60.0)
    assert took[len(took) // 2] <= 100
    assert took[int(len(took) * 0.99)] <= 1000


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_of_two_hundred_hosts_a_change_is_on_the_page_within_a_second(browser: Browser, tmp_path: Path) -> None:
    with Zookeeper(tmp_path / "zk", 3) as ensemble, planted(ensemble, timeout=10.0):
        took = measured(ensemble, browser, tmp_path, 200, seconds=8.0)
    assert took[len(took) // 2] < 500
    assert took[int(len(took) * 0.99)] < 2000


WATCH = """
window.seen = {};
new MutationObserver(() => {
  for (const line of document.querySelectorAll('#events li')) {
    window.seen[line.textContent.replace(/,.*/s, '')] ??= performance.timeOrigin + performance.now();
  }
}).observe(document.querySelector('#events'), {childList: true, subtree: true});
"""


def measured(ensemble: Zookeeper, browser: Browser, directory: Path, count: int, seconds: float) -> list[float]:
    """From a change in a host to its line on the page, in ms, sorted."""
    with web(directory, ensemble.hosts) as page, simulated(ensemble, count, 5.0, seconds) as hosts:
        wait(lambda: page.states().count("W") == count, "all hosts", 60)
        browser.open(page.url)
        wait(lambda: browser.word == "ALL WELL", "the page", 20)
        browser.script(WATCH)
        process = psutil.Process(page.process.pid)
        used, begin = sum(process.cpu_times()[:2]), time.monotonic()
        hosts.begin()

        def ended() -> bool:
            hosts.take()
            return hosts.has_ended

        wait(ended, "the end of the changes", seconds + 60)
        busy = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - begin)
        wait(lambda: len(browser.script("return window.seen")) >= len(hosts.changes) * 0.9, "the page", 10)
        time.sleep(1.0)  # the last ones
        lines: dict[str, list[float]] = defaultdict(list)
        told = browser.script("return window.seen").items()
        for line, at in ((line, at) for line, at in told if " new → " not in line):
            lines[line.partition("/")[2].partition(" ")[0]].append(at)
        changes: dict[str, list[float]] = defaultdict(list)
        for (host, _), changed in sorted(hosts.changes.items()):
            changes[host].append(changed * 1000)
        # A host that went there and back between two looks has a line less: it cannot be paired.
        paired = {host: list(zip(times, sorted(lines[host]), strict=True)) for host, times in changes.items()
                  if len(times) == len(lines[host])}  # fmt: skip
        took = sorted(seen - changed for pairs in paired.values() for changed, seen in pairs)
        memory = process.memory_info().rss >> 20
        print(
            f"{count} hosts: {len(took)} of {len(hosts.changes)} changes: p50 {took[len(took) // 2]:.0f} ms, "
            f"p99 {took[int(len(took) * 0.99)]:.0f} ms, worst {took[-1]:.0f} ms; the page's process takes "
            f"{busy * 100:.0f} % of a CPU and {memory} MB"
        )
        assert len(took) > 0.8 * len(hosts.changes)
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(10) == 0
    return took
