# SPDX-License-Identifier: Apache-2.0
"""The daemon's own hot upgrade on a real Open vSwitch: nothing is missed, and a broken successor changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from tests.lab import Ticker, stopped
from tests.relayed import Client, Relayed, Scraper, upgraded

pytestmark = pytest.mark.real

WELL = {"ALIVE", "SLEEP"}
TRIES = 4
CALM = 0.05  # seconds: half an interval


@pytest.fixture
def relayed(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Relayed]:
    """A daemon that watches at 100 ms. Parameter: seconds that its successors have to be ready in."""
    sandbox.settings(enable_keepalive=True, keepalive_interval=100)
    with Relayed(sandbox, tmp_path, getattr(request, "param", 30.0)) as daemon:
        yield daemon


@pytest.mark.timeout(900)
@pytest.mark.parametrize("upgrades", [3, pytest.param(50, marks=pytest.mark.long)])
def test_upgrades_in_a_row_miss_nothing_and_nobody(relayed: Relayed, upgrades: int) -> None:
    for _ in range(TRIES):
        run = upgraded(relayed, upgrades)
        print(run)
        client, scraper = run.client, run.scraper
        assert (client.failures, scraper.failures, scraper.went_back) == ([], [], [])
        assert scraper.scrapes > upgrades
        assert client.sequence == sorted(client.sequence)
        if run.late < CALM:
            break
    else:
        pytest.skip(f"{TRIES} runs in which this machine was late by {CALM * 1000:.0f} ms: too busy to judge a beat by")
    assert run.given_up == 0
    assert client.states() <= WELL
    for name in relayed.sandbox.pmds():
        assert set(run.told.states(name)) <= WELL
    assert client.widest() < 0.2 + run.late
    lines = [one for one in relayed.ask("keepalive/history", "1000") if "hot upgrade" in one["evidence"]]
    assert len(lines) >= min(upgrades, 10)
    for line in lines[-min(upgrades, 10) :]:
        old, new = (int(line[way].rpartition(" ")[2]) for way in ("from", "to"))
        last = int(line["evidence"].rpartition(" ")[2])
        assert client.of(old)
        assert client.of(new)
        assert (
            max(client.of(old)) <= last < min(client.of(new)) <= last + 20
        )  # whom it asked it asked for a second at least


BROKEN = {
    "import": "ImportError: no such thing on this host",
    "crash after ready": "it ended with status 9",
    "hang after ready": "it said nothing for 0.05 s",
    "crash after state": "it ended with status 9",
    "hang after state": "it said nothing for 0.05 s",
    "crash after taken": "after it had taken over: it ended with status 9",
    "crash after done": "after it had taken over: it ended with status 9",
    "older document": "version 2 of the document, this daemon reads -1 and 0",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_successor_leaves_the_old_daemon_beating_and_is_told(relayed: Relayed, how: str) -> None:
    pid = relayed.pid
    name, tid = next(iter(relayed.sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: _state(relayed, name) == "GONE", "GONE", 5)
        before = _pmd(relayed, name)
        with Client(relayed) as client, Scraper(relayed.port) as scraper, Ticker() as ticker:
            assert BROKEN[how] in relayed.fails(how)
            assert relayed.pid == pid
            assert _pmd(relayed, name) == before
        # Whom it had accepted when it crashed, that one has lost; the next one is served.
        lost = 1 if how == "crash after done" else 0
        assert len(client.failures) <= lost, client.failures
        assert len(scraper.failures) <= lost, scraper.failures
        assert client.widest() < 0.3 + ticker.worst
        assert {node["daemon"]["lock"] for node in client.nodes[-1:]} == {"held"}
    wait(lambda: relayed.sandbox.column()[name].partition(",")[0] in WELL, "well again in the column", 5)
    relayed.upgrade()
    assert relayed.pid != pid


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_successor_that_beats_goes_on_when_the_old_daemon_is_killed(relayed: Relayed, when: str) -> None:
    relayed.breaks.write_text(f"the old one is killed {when} taken")
    successor = relayed.begin()
    wait(lambda: relayed.pid == successor, "the successor's pidfile", 30)
    relayed.breaks.write_text("")
    wait(lambda: relayed.told.startswith("done"), "the upgrade told", 5)
    before = relayed.node["sequence"]
    wait(lambda: relayed.node["sequence"] > before, "another heartbeat", 5)
    wait(lambda: f"pid={successor};" in relayed.sandbox.detail().get("daemon", ""), "the successor's columns", 5)
    assert set(relayed.sandbox.column()) == set(relayed.sandbox.pmds())
    relayed.upgrade()
    assert relayed.pid != successor


@pytest.mark.parametrize("relayed", [3.0], indirect=True)
def test_a_successor_that_hangs_while_it_prepares_is_given_up(relayed: Relayed) -> None:
    pid = relayed.pid
    with Client(relayed) as client:
        assert "not ready within 3 s" in relayed.fails("hang in prepare")
    assert relayed.pid == pid
    assert client.failures == []


@pytest.mark.slow
def test_an_invalid_configuration_leaves_the_old_daemon_beating_and_is_told(relayed: Relayed) -> None:
    configuration = relayed.sandbox.dir / "config.yaml"
    good = configuration.read_text()
    configuration.write_text("refresh: 3\n")
    pid = relayed.pid
    assert "refresh: 3: expected" in relayed.fails("")
    assert relayed.pid == pid
    configuration.write_text(good)
    relayed.upgrade()


@pytest.mark.parametrize("python", ["python3", "/tmp/python3", "/nowhere/python3"])  # noqa: S108
def test_an_interpreter_that_others_could_have_put_there_is_refused(relayed: Relayed, python: str) -> None:
    with pytest.raises(SandboxError, match="PYTHON"):
        relayed.ask("keepalive/upgrade", python)
    assert relayed.told == ""


def _pmd(relayed: Relayed, name: str) -> dict[str, object]:
    [found] = [pmd for pmd in relayed.node["pmds"] if pmd["name"] == name]
    return {key: found[key] for key in ("state", "since", "cause", "cause_since", "last_seen", "missed_heartbeats")}


def _state(relayed: Relayed, name: str) -> object:
    return _pmd(relayed, name)["state"]
