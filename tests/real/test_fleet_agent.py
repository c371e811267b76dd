# SPDX-License-Identifier: Apache-2.0
"""The fleet's agent on real hosts and a real ZooKeeper: what the command line says of them, and who helps whom."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.beat import moment
from ovs_keepalive.core.fleet import PmdBrief
from ovs_keepalive.core.help import AddCore
from ovs_keepalive.fleet.session import Options
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet.watch import CellWatch
from ovs_keepalive.fleet_load import KEPT, MASK, Cores, LoadSensor
from ovs_keepalive.formats.node_brief import Polled
from ovs_keepalive.sandbox import Sandbox, wait
from tests.around import Watched
from tests.fleet_agents import FAIR, TIMEOUT, FleetHost
from tests.lab import stopped
from tests.zookeeper import TICK, Client, Zookeeper

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROOM = 60.0  # seconds: while this machine starves its PMD a host has no room, and claims nothing
SOON = 1.5  # seconds: a second between two tellings, and a busy machine
Sandboxes = Callable[..., Sandbox]


@pytest.fixture
def zookeeper(tmp_path: Path) -> Iterator[Zookeeper]:
    """One server of the test's own."""
    with Zookeeper(tmp_path) as zookeeper:
        yield zookeeper


def states(host: dict[str, Any]) -> list[str]:
    """Of its PMDs, as it said last."""
    return [pmd["state"] for pmd in host["said"]["pmds"]]


def hold_one(sandbox: Sandbox) -> int:
    """The thread of one of its PMDs."""
    return next(iter(sandbox.pmds().values()))


def test_a_held_pmd_is_dead_in_the_fleet_and_well_again_when_it_is_let_go(
    make_sandbox: Sandboxes, zookeeper: Zookeeper
) -> None:
    with FleetHost(make_sandbox(), zookeeper, "a") as a:
        a.until_it_is(*FAIR)
        assert _is_told_as(a)
        with a.watches() as lines, stopped(_held_once(lines, a)):
            a.until_it_is("FAILURE")
            status, hosts = a.status()
            assert status == 1
            assert set(states(hosts["a"])) & {"DEAD", "GONE"}
            shown = a.runs("show", "a")
            assert shown.returncode == 1
            assert "state     : FAILURE since" in shown.stdout
            wait(lambda: "-> FAILURE" in lines(), "the watch tells it", 5)
            wait(lambda: "a--dead" in {one["id"] for one in a.asked()["requests"]}, "a asks for help", 10)
        a.until_it_is(*FAIR)
        wait(lambda: a.asked()["requests"] == [], "a takes that back", 15)
        assert _is_told_as(a)


@pytest.mark.slow
def test_a_failure_is_seen_by_others_at_once(watched: Watched, zookeeper: Zookeeper) -> None:
    """Counted from its arrival at a subscriber of the column to a follower of the cell."""
    watched.start()
    name, tid = next(iter(watched.sandbox.pmds().items()))
    with FleetHost(watched.sandbox, zookeeper, "a") as a, Client(Options(zookeeper.hosts, timeout=TIMEOUT)) as client:
        a.until_it_is(*FAIR)
        follower = CellWatch(client.session, Tree("default"))

        def state() -> str:
            follower.turn(client.session.news(), time.monotonic())
            live = follower.cell.hosts["a"].live
            return live.state if live is not None else "GONE"

        wait(lambda: state() in FAIR, "a is followed")
        held = time.monotonic()
        with stopped(tid):
            wait(lambda: state() == "FAILURE", "a fails")
            seen = time.monotonic()
        told = watched.first(name, "DEAD", held) or watched.first(name, "GONE", held)
        assert told is not None
        print(f"FAILURE seen {(seen - told.at) * 1000:.0f} ms after DEAD in OVSDB, {seen - held:.2f} s after the hold")
        assert seen - told.at < SOON


def _held_once(lines: Callable[[], str], host: FleetHost) -> int:
    """The thread of a PMD, once the watch has begun."""
    wait(lambda: "1 host: " in lines(), "the watch begins", 30)
    return hold_one(host.sandbox)


def _is_told_as(host: FleetHost) -> bool:
    """Whether the exit status says what the state does."""
    status, hosts = host.status()
    return status == (0 if hosts[host.name]["state"] == "WELL" else 1)


@pytest.mark.slow
def test_a_host_whose_agent_is_killed_is_gone_with_its_last_states_and_is_not_called_dead(
    make_sandbox: Sandboxes, zookeeper: Zookeeper
) -> None:
    with FleetHost(make_sandbox(), zookeeper, "a") as a:
        a.until_it_is(*FAIR)
        with stopped(hold_one(a.sandbox)):
            a.until(lambda hosts: "GONE" in states(hosts["a"]), "the held PMD is GONE")
            a.end(signal.SIGKILL)
            took = a.until_it_is("GONE", seconds=TIMEOUT + 10)
            print(f"GONE {took:.2f} s after SIGKILL, session timeout {TIMEOUT} s")
            assert took <= TIMEOUT + 2 + 2 * TICK
        status, hosts = a.status()
        assert status == 1
        assert sorted(states(hosts["a"])) == ["ALIVE", "GONE"] or sorted(states(hosts["a"])) == ["GONE", "SLEEP"]
        shown = a.runs("show", "a")
        assert "no session; its last word was FAILURE" in shown.stdout
        assert "PMD threads, as it said last" in shown.stdout
        a.start()
        a.until_it_is(*FAIR)
        refused = a.runs("forget", "a")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "a is a member now" in refused.stderr
        assert a.end() == 0
        took = a.until_it_is("GONE", seconds=5)
        print(f"GONE {took:.2f} s after SIGTERM")
        assert a.runs("forget", "a").returncode == 0
        assert a.status() == (1, {}), "a fleet without hosts is not well"


@pytest.mark.slow
def test_a_restart_within_the_sessions_timeout_stays(make_sandbox: Sandboxes, zookeeper: Zookeeper) -> None:
    with FleetHost(make_sandbox(), zookeeper, "a") as a:
        a.until_it_is(*FAIR)
        a.end(signal.SIGKILL)
        a.start()
        deadline = time.monotonic() + 2 * TIMEOUT
        a.until_it_is(*FAIR)
        while time.monotonic() < deadline:
            assert a.status()[1]["a"]["state"] in FAIR


@pytest.mark.slow
def test_a_store_that_was_emptied_fills_again(make_sandbox: Sandboxes, zookeeper: Zookeeper) -> None:
    with FleetHost(make_sandbox(), zookeeper, "a") as a, Client(Options(zookeeper.hosts, timeout=TIMEOUT)) as client:
        a.until_it_is(*FAIR)
        client.session._client.delete("/ovs-keepalive", recursive=True)
        took = a.until_it_is(*FAIR)
        print(f"back {took:.1f} s after the store was emptied")
        assert "changed by others in between" not in a.said()


@pytest.mark.slow
def test_without_a_store_the_beat_goes_on_and_the_agent_comes_back(watched: Watched, zookeeper: Zookeeper) -> None:
    watched.start()
    [server] = zookeeper.servers
    with FleetHost(watched.sandbox, zookeeper, "a") as a:
        a.until_it_is(*FAIR)
        with watched.stretch() as before:
            time.sleep(8)  # as long as what it is compared with
        server.stop()
        try:
            with watched.stretch() as without:
                time.sleep(8)
            assert a.runs("status").returncode == 3
        finally:
            server.go_on()
        watched.beat_on(before)
        watched.beat_on(without)
        assert watched.lies == []
        a.until_it_is(*FAIR)
        wait(lambda: "CONNECTED" in a.said().rpartition("SUSPENDED")[2], "the agent is connected again", 20)


@pytest.mark.slow
def test_one_that_has_room_makes_an_offer(make_sandbox: Sandboxes, zookeeper: Zookeeper) -> None:
    with (
        FleetHost(make_sandbox(), zookeeper, "a") as a,
        FleetHost(make_sandbox(pmds=1), zookeeper, "b", headroom_cpus="1") as b,
    ):
        b.until(lambda hosts: _free(hosts, "b") == {"0": 1}, "b has a free core", ROOM)
        with stopped(hold_one(a.sandbox)):
            begin = time.monotonic()
            [done] = wait(lambda: a.asked()["done"], "b has helped", ROOM)
            print(f"the offer stands {time.monotonic() - begin:.2f} s after the PMD was held")
            assert (done["host"], done["by"], done["n"]) == ("a", "b", 1)
            assert done["result"].startswith("offer: host b, numa 0, cores 1, busy ")
            assert a.asked()["requests"] == []
            b.until(lambda hosts: _free(hosts, "b") == {"0": 0}, "what is promised is not free", ROOM)


@pytest.mark.slow
def test_a_hook_of_a_claimer_that_dies_leaves_the_request_free(
    make_sandbox: Sandboxes, zookeeper: Zookeeper, tmp_path: Path
) -> None:
    hook, runs = _hook(tmp_path)
    with FleetHost(make_sandbox(pmds=1), zookeeper, "c", headroom_cpus="1", help="hook", hook=str(hook)) as c:
        c.until(lambda hosts: _free(hosts, "c") == {"0": 1}, "c has a free core", ROOM)
        posted = c.runs("help", "post", "manual", "take vm7", "--node", "b")
        assert posted.returncode == 0, posted.stderr
        wait(lambda: runs.exists() and runs.read_text(), "c runs its hook", ROOM)
        begin = time.monotonic()
        c.end(signal.SIGKILL)
        wait(lambda: not [one for one in c.asked()["requests"] if one["claim"]], "the request is free", TIMEOUT + 5)
        print(f"free {time.monotonic() - begin:.2f} s after SIGKILL, session timeout {TIMEOUT} s")
        (tmp_path / "go").touch()
        c.start()
        [done] = wait(lambda: c.asked()["done"], "c has helped", ROOM)
        assert (done["host"], done["kind"], done["by"], done["n"]) == ("b", "manual", "c", 2)
        assert done["result"] == "hook hook: moved b for manual"
        assert runs.read_text().split() == ["b--manual", "1", "b--manual", "2"]


@pytest.mark.slow
def test_a_hook_is_killed_before_what_it_works_on_can_be_anothers(
    make_sandbox: Sandboxes, zookeeper: Zookeeper, tmp_path: Path
) -> None:
    """The store hangs: whether the session lives on nobody knows. Afterwards the request is given back, or free."""
    hook, runs = _hook(tmp_path)
    [server] = zookeeper.servers
    with FleetHost(make_sandbox(pmds=1), zookeeper, "c", headroom_cpus="1", help="hook", hook=str(hook)) as c:
        c.until(lambda hosts: _free(hosts, "c") == {"0": 1}, "c has a free core", ROOM)
        assert c.runs("help", "post", "manual", "take vm7", "--node", "b").returncode == 0
        wait(lambda: runs.exists() and runs.read_text(), "c runs its hook", ROOM)
        begin = time.monotonic()
        server.stop()
        try:
            wait(lambda: "killed" in c.said(), "the hook is killed", TIMEOUT + 10)
            took = time.monotonic() - begin
            print(f"killed {took:.2f} s after the store hung, session timeout {TIMEOUT} s")
            assert took <= TIMEOUT + 1
        finally:
            server.go_on()
        (tmp_path / "go").touch()
        [done] = wait(lambda: c.asked()["done"], "c has helped in the end", 100)
        assert (done["host"], done["by"]) == ("b", "c")
        assert done["fence"] > 1


def _free(hosts: dict[str, Any], name: str) -> dict[str, int]:
    """Its free cores, by NUMA node; none as long as it is not well."""
    return dict(hosts[name]["said"]["headroom"]["cores"]) if name in hosts else {}


def _hook(directory: Path) -> tuple[Path, Path]:
    """One that waits until it is allowed to go on; and where it says for what it ran."""
    runs, hook = directory / "runs", directory / "hook"
    hook.write_text(
        f"#!/bin/sh\necho $OVSKA_REQUEST_ID $OVSKA_FENCE >> {runs}\n"
        f"while [ ! -e {directory}/go ]; do sleep 0.1; done\necho moved $OVSKA_HOST for $OVSKA_KIND\n"
    )
    hook.chmod(0o755)
    return hook, runs


@pytest.mark.slow
def test_what_vswitchd_says_of_cycles_and_the_mask_that_is_added_to(sandbox: Sandbox) -> None:
    sensor = LoadSensor(sandbox.dir, None, sandbox.remote, Cores("", 0))
    try:
        _until(sensor, lambda: bool(sensor.shares), 25)
        assert set(sensor.shares) == {0, 1}
        assert all(0 <= share <= 100 for share in sensor.shares.values())
        pmds = [Polled(PmdBrief(core, 0, "SLEEP", None, 1, None, 0), frozenset({f"p{core}"})) for core in (0, 1)]
        assert [load.busy for load in sensor.loads(pmds)] == [sensor.shares[0], sensor.shares[1]]
        sensor.add_core(AddCore(2, frozenset({0, 1, 2}), frozenset({0, 1})))
        _until(sensor, lambda: "0x7" in sandbox.vsctl("get", "Open_vSwitch", ".", f"other_config:{MASK}"), 10)
        assert sandbox.vsctl("get", "Open_vSwitch", ".", f"external_ids:{KEPT}").strip() == '"0x3"'
        sensor.add_core(AddCore(3, frozenset({0, 1, 3}), frozenset({0, 1})))  # of a mask that is not there any more
        _until(sensor, lambda: sensor._drops._write is None and sensor._drops._act is None, 10)
        assert "0x7" in sandbox.vsctl("get", "Open_vSwitch", ".", f"other_config:{MASK}")
        sensor.rebalance()
        _until(sensor, lambda: sensor._rebalance is None, 10)
    finally:
        sensor.close()


def _until(sensor: LoadSensor, condition: Callable[[], bool], seconds: float) -> None:
    def turned() -> bool:
        sensor.run(moment())
        return condition()

    wait(turned, "the sensor has seen it", seconds)
