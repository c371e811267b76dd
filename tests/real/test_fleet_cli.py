# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive fleet` on a real ZooKeeper without agents: what it says of a fleet that is not as expected."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.fleet.members import Membership
from ovs_keepalive.fleet.store import Create
from tests.fleets import HOST, member
from tests.zookeeper import TREE, Client, Zookeeper, planted

pytestmark = pytest.mark.real

Command = Callable[..., list[str]]


@pytest.fixture
def client(zookeeper: Zookeeper) -> Iterator[Client]:
    """A member's session. Afterwards there is no cell."""
    with planted(zookeeper) as connect:
        client = connect()
        yield client
        client.session._client.delete(TREE.top, recursive=True)


@pytest.fixture
def command(zookeeper: Zookeeper, tmp_path: Path) -> Command:
    """`ovs-keepalive fleet …` of a host of the cell."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"fleet": {"zookeeper": zookeeper.hosts, "node": "here", "cell": TREE.cell}}))
    return lambda *words: [sys.executable, "-m", "ovs_keepalive", "fleet", *words, "--config", str(config)]


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """To its end."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_fleet_without_hosts_is_not_well_and_says_where_nobody_is(zookeeper: Zookeeper, command: Command) -> None:
    done = run(command("status"))
    assert (done.returncode, done.stdout) == (1, "0 hosts\n")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"ovs-keepalive: fleet: no host is in any cell of the fleet at {zookeeper.hosts}: start ")
    done = run(command("status", "--json", "--cell", "typo"))
    assert (done.returncode, json.loads(done.stdout)["hosts"]) == (1, [])
    assert "no host is in cell typo" in done.stderr


def test_with_a_host_that_is_well_all_is_well_whatever_state_is_asked_for(client: Client, command: Command) -> None:
    Membership(client.session, TREE, HOST).tell(member(state=HostState.WELL, why=""))
    done = run(command("status", "--state", "GONE"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 hosts\n", "")


@pytest.mark.usefixtures("client")
def test_help_in_a_cell_that_is_not_there_is_not_called_asked_for(command: Command) -> None:
    done = run(command("help", "post", "manual", "take vm7", "--cell", "typo"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ovs-keepalive: fleet help: typo: there is no such cell: see fleet status\n"
    assert run(command("help", "post", "manual", "take vm7")).returncode == 0
    done = run(command("help", "post", "manual", "take vm7"))
    assert done.returncode == 2
    assert "here--manual: is asked for already" in done.stderr


def test_a_request_that_cannot_be_read_is_shown(client: Client, command: Command) -> None:
    Membership(client.session, TREE, HOST).tell(member(state=HostState.WELL, why=""))
    client.session.write(Create(TREE.help("x--y"), b"{", TREE.rights()))
    done = run(command("status"))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("request that cannot be read: c1: x--y: ")
    [problem] = json.loads(run(command("status", "--json")).stdout)["problems"]
    assert problem.startswith("c1: x--y: ")
    assert run(command("help", "list")).stdout.splitlines()[-1].startswith("request that cannot be read: x--y: ")


@pytest.mark.usefixtures("client")
def test_whoever_stops_to_read_ends_the_watch(command: Command) -> None:
    done = run(["sh", "-c", f"({shlex.join(command('watch'))}; echo $? >&2) | head -1"])
    assert (done.stdout, done.stderr) == ("0 hosts\n", "0\n")


def test_whoever_has_stopped_to_read_when_something_happens_ends_it_too(client: Client, command: Command) -> None:
    """The first thing that it would print after its reader has gone."""
    argv = command("watch")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stdout.readline() == "0 hosts\n"
        watch.stdout.close()
        Membership(client.session, TREE, HOST).tell(member())
        assert watch.wait(20) == 0
        assert watch.stderr.read() == ""
