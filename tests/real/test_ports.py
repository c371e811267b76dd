# SPDX-License-Identifier: Apache-2.0
"""Ports of a real Open vSwitch without DPDK: rows as they are written there, hostile ones, and five hundred of them.

What needs a vhost-user peer is in test_vhost.py.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.sandbox import Sandbox
from ovs_keepalive.sensors.bridge_flows import BridgeFlows
from tests.switch import add_port

pytestmark = pytest.mark.real

HOSTILE = ('a "quoted" name', "back\\slash;$(reboot)", "x\x1b[2Jy\u202ez", "n" * 200, "new\nline")


def audit(sandbox: Sandbox, *options: str) -> subprocess.CompletedProcess[str]:
    """`ovs-keepalive ports audit`."""
    argv = [sys.executable, "-m", "ovs_keepalive", "ports", "audit", *options]
    return subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=30, check=False)


def ask(sandbox: Sandbox, command: str = "ports/audit") -> dict[str, Any]:
    """What the daemon knows of ports."""
    answer: dict[str, Any] = json.loads(sandbox.appctl(command, "--json", target="ovs-keepalive"))
    return answer


def states(document: dict[str, Any]) -> dict[str, str]:
    """By port."""
    return {port["name"]: port["state"] for port in document["ports"]}


def port_of(sandbox: Sandbox, name: str) -> dict[str, Any]:
    """What the daemon knows of one."""
    return next(port for port in ask(sandbox)["ports"] if port["name"] == name)


def insert(sandbox: Sandbox, interfaces: Sequence[dict[str, Any]]) -> None:
    """Rows of any kind on br0, all in one transaction."""
    operations: list[dict[str, Any]] = []
    for number, row in enumerate(interfaces):
        port = {"name": row["name"], "interfaces": ["named-uuid", f"i{number}"]}
        operations += [
            {"op": "insert", "table": "Interface", "row": row, "uuid-name": f"i{number}"},
            {"op": "insert", "table": "Port", "row": port, "uuid-name": f"p{number}"},
        ]
    ports = ["set", [["named-uuid", f"p{number}"] for number in range(len(interfaces))]]
    operations.append(
        {"op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]], "mutations": [["ports", "insert", ports]]}
    )
    assert not any("error" in result for result in sandbox.transact(*operations))


def vhost(name: str, path: object, **columns: Any) -> dict[str, Any]:
    """The row of a client port."""
    return {
        "name": name,
        "type": "dpdkvhostuserclient",
        "options": ["map", [["vhost-server-path", str(path)]]],
        **columns,
    }


@contextmanager
def watched(sandbox: Sandbox, **config: object) -> Iterator[None]:
    """With the columns, enabled, and a daemon that has looked at the ports."""
    env = sandbox.env
    argv = [sys.executable, "-m", "ovs_keepalive", "schema", "apply"]
    subprocess.run(argv, env=env, capture_output=True, check=True, timeout=60)
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(config={"ports-period": 1, **config})
    sandbox.wait(lambda: ask(sandbox).get("at"), "a look at the ports", 20)
    yield


def surveys(sandbox: Sandbox) -> list[psutil.Process]:
    """The daemon's survey, if it has one now."""
    daemon = psutil.Process(int((sandbox.dir / "ovs-keepalive.pid").read_text()))
    with suppress(psutil.NoSuchProcess):
        return [child for child in daemon.children() if "ovs_keepalive.survey" in child.cmdline()]
    return []


def survey_of(sandbox: Sandbox) -> psutil.Process:
    """The same when it has one."""
    sandbox.wait(lambda: surveys(sandbox), "a survey")
    return surveys(sandbox)[0]


@pytest.mark.slow
def test_an_audit_without_a_daemon_looks_at_once_and_says_that_it_knows_no_past(sandbox: Sandbox) -> None:
    done = audit(sandbox)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without a past" in done.stdout
    assert "0 findings" in done.stdout
    sandbox.vsctl("--no-wait", "add-port", "br0", "nosuch", "--", "set", "interface", "nosuch", "type=dpdk")
    sandbox.wait(lambda: sandbox.vsctl("get", "interface", "nosuch", "error").strip() != "[]", "its error")
    done = audit(sandbox)
    assert done.returncode == 1
    assert "nosuch (br0, dpdk): ERROR" in done.stdout
    document = json.loads(audit(sandbox, "--json").stdout)
    assert document["watched_since"] is None
    assert states(document)["nosuch"] == "ERROR"
    polled = {port["name"]: [one["pmd"] for one in port["polled"]] for port in document["ports"]}
    assert polled["p0"] == ["pmd-c00"]


def test_no_database_is_one_line_and_status_3(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "ovs_keepalive", "ports", "audit"]
    env = {**os.environ, "OVS_RUNDIR": str(tmp_path)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"unix:{tmp_path}/db.sock" in done.stderr


@pytest.mark.slow
def test_without_vswitchd_the_facts_are_shown_and_the_rest_is_unknown(sandbox: Sandbox) -> None:
    with watched(sandbox):
        sandbox.wait(lambda: states(ask(sandbox)).get("p0") == "UP", "p0")
        before = states(ask(sandbox))
        sandbox.kill_vswitchd()
        sandbox.wait(lambda: set(states(ask(sandbox)).values()) == {"unknown"}, "nothing proven", 20)
        document = ask(sandbox)
        assert {port["name"]: port["type"] for port in document["ports"]}["p0"] == "dummy-pmd"
        assert document["blind"]
        assert not document["well"]
        done = audit(sandbox)
        assert done.returncode == 1
        assert "not seen: " in done.stdout
        sandbox.start_vswitchd()
        sandbox.wait(lambda: states(ask(sandbox)) == before, "all as before", 40)
    sandbox.stop_daemon()
    sandbox.kill_vswitchd()
    done = audit(sandbox, "--json")
    assert done.returncode == 1
    assert set(states(json.loads(done.stdout)).values()) == {"unknown"}


@pytest.mark.slow
def test_ports_are_told_wherever_pmds_are(sandbox: Sandbox) -> None:
    sandbox.vsctl("--no-wait", "add-port", "br0", "v0", "--", "set", "interface", "v0", "type=dpdkvhostuserclient")
    with watched(sandbox):
        sandbox.wait(
            lambda: states(ask(sandbox)).get("v0") == "ERROR", "the port that no vswitchd without DPDK can make"
        )
        sandbox.wait(lambda: sandbox.detail().get("port:v0", "").startswith("ERROR;since="), "its pair")
        assert "port:p0" not in sandbox.detail()
        [pmd] = port_of(sandbox, "p0")["polled"]
        assert pmd["state"] in ("ALIVE", "SLEEP")
        node = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
        assert [port["name"] for port in node["ports"] if port["state"] == "ERROR"] == ["v0"]
        assert node["health"] == "WARNING"
        text = sandbox.appctl("keepalive/explain", pmd["pmd"], target="ovs-keepalive")
        assert "It serves these ports: p0 (UP)." in text
        assert "v0" in sandbox.appctl("ports/show", target="ovs-keepalive")
        argv = [sys.executable, "-m", "ovs_keepalive", "show"]
        shown = subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, timeout=30, check=False)
        assert shown.returncode == 1
        assert "v0: ERROR: " in shown.stdout
        sandbox.vsctl("--no-wait", "del-port", "br0", "v0")
        sandbox.wait(lambda: "port:v0" not in sandbox.detail(), "its pair is gone")


def test_hostile_names_and_paths_are_told_and_harm_nobody(sandbox: Sandbox, tmp_path: Path) -> None:
    loop, directory = tmp_path / "loop", tmp_path / "directory"
    loop.symlink_to("loop")
    directory.mkdir()
    paths = (loop, directory, "/proc/self/x", "relative", tmp_path / ("y" * 250))
    insert(sandbox, [vhost(name, path) for name, path in zip(HOSTILE, paths, strict=True)])
    with watched(sandbox):
        sandbox.wait(lambda: set(HOSTILE) <= states(ask(sandbox)).keys(), "all of them")
        for text in (
            *(sandbox.appctl(f"ports/{what}", target="ovs-keepalive") for what in ("show", "audit")),
            audit(sandbox).stdout,
        ):
            assert all(line.isprintable() for line in text.split("\n"))
        found = {port["name"]: [one["kind"] for one in port["findings"]] for port in ask(sandbox)["ports"]}
        assert "path-too-long" in found[HOSTILE[4]]
        for key, value in sandbox.detail().items():
            assert key.isprintable()
            assert value.isprintable()
        log = (sandbox.dir / "ovs-keepalive.log").read_text()
        assert all(line.isprintable() for line in log.split("\n"))


def test_a_bridge_that_vanishes_takes_its_ports_with_it(sandbox: Sandbox) -> None:
    sandbox.vsctl("--no-wait", "add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=dummy")
    with watched(sandbox):
        sandbox.wait(lambda: "br1" in states(ask(sandbox)), "its local port")
        sandbox.vsctl("--no-wait", "del-br", "br1")
        sandbox.wait(lambda: "br1" not in states(ask(sandbox)), "it is gone")


@pytest.mark.slow
def test_the_survey_dies_with_the_daemon_and_its_death_is_told(sandbox: Sandbox) -> None:
    with watched(sandbox):
        survey = survey_of(sandbox)
        assert survey.nice() == 19
        survey.kill()
        sandbox.wait(
            lambda: "the survey: it ended" in sandbox.appctl("keepalive/status", target="ovs-keepalive"),
            "its death is told",
        )
        sandbox.wait(lambda: [one for one in surveys(sandbox) if one.pid != survey.pid], "another one", 20)
        survey = survey_of(sandbox)
        sandbox.stop_daemon(signal.SIGKILL)
        sandbox.wait(lambda: not survey.is_running() or survey.status() == psutil.STATUS_ZOMBIE, "it is gone too")


@pytest.mark.slow
def test_a_stopped_survey_holds_nobody_up(sandbox: Sandbox) -> None:
    with watched(sandbox):
        survey = survey_of(sandbox)
        survey.suspend()
        try:
            before = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
            sandbox.linger(2.0)
            after = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
            assert after["sequence"] > before["sequence"]
            assert sandbox.stop_daemon() == 0
        finally:
            if survey.is_running():
                survey.kill()


def test_while_disabled_nobody_looks(sandbox: Sandbox) -> None:
    with watched(sandbox):
        sandbox.settings(enable_keepalive=False)
        sandbox.wait(lambda: ask(sandbox) == {"enabled": False}, "it says so")
        sandbox.wait(
            lambda: not psutil.Process(int((sandbox.dir / "ovs-keepalive.pid").read_text())).children(), "no survey"
        )
        assert sandbox.detail() == {}


@pytest.mark.slow
def test_the_flows_of_a_bridge_are_read_as_open_vswitch_prints_them(sandbox: Sandbox) -> None:
    def ofctl(*words: str, flows: str | None = None) -> None:
        argv = ["ovs-ofctl", "-O", "OpenFlow13", *words]
        subprocess.run(argv, env=sandbox.env, input=flows, text=True, check=True, capture_output=True, timeout=30)

    reader, bridge = BridgeFlows(sandbox.dir), f"unix:{sandbox.dir}/br0.mgmt"

    def read() -> Flows | str:
        reader.forget()
        return reader.look({"br0"}, 1.0)["br0"]

    sandbox.vsctl("set", "bridge", "br0", "protocols=OpenFlow10,OpenFlow13")
    assert read() == Flows(0)
    ofctl("add-flow", bridge, "in_port=1,ip,actions=output:2,resubmit(,1)")
    ofctl("add-flow", bridge, "table=1,priority=3,actions=drop")
    assert read() == Flows(2, frozenset({2}), inputs=frozenset({1}))
    sandbox.vsctl("set", "bridge", "br0", "protocols=OpenFlow13")
    assert read() == Flows(2, frozenset({2}), inputs=frozenset({1})), "one that does not speak the usual version"
    ofctl("add-flow", bridge, "priority=0,actions=NORMAL")
    found = read()
    assert isinstance(found, Flows)
    assert (found.total, found.anywhere, found.any_input) == (3, True, True)
    many = "".join(f"table=2,priority={number},actions=drop\n" for number in range(2000))
    ofctl("add-flows", bridge, "-", flows=many)
    assert read() == "bridge br0 has more than 2000 flows: they are not read"
    [none] = reader.look({"no such"}, 1.0).values()
    assert isinstance(none, str)
    assert none.startswith("ovs-ofctl: ")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_five_hundred_ports_are_audited_in_less_than_2_s_of_cpu_and_the_beat_is_not_late(
    sandbox: Sandbox, tmp_path: Path, record_property: Any
) -> None:
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(250)]
    rows = []
    for number in range(500):
        path = tmp_path / f"v{number}.sock"
        if number < len(sockets):
            sockets[number].bind(str(path))
            sockets[number].listen()
        rows.append(vhost(f"v{number}", path))
    try:
        insert(sandbox, rows)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        document = json.loads(audit(sandbox, "--json").stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert sum(name.startswith("v") for name in states(document)) == 500
        print(f"audit of 500 ports without a daemon: {cpu:.2f} s of CPU")
        with watched(sandbox):
            sandbox.wait(lambda: len(ask(sandbox)["ports"]) > 500, "all ports", 20)
            survey, daemon = survey_of(sandbox), psutil.Process(int((sandbox.dir / "ovs-keepalive.pid").read_text()))
            calm = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))["cost"]
            used, own, looked = sum(survey.cpu_times()[:2]), sum(daemon.cpu_times()[:2]), ask(sandbox)["at"]
            sandbox.linger(10.0)  # nobody asks meanwhile: what an answer costs is not what a look does
            took = (ask(sandbox)["at"] - looked) / 1000
            spent, owned = sum(survey.cpu_times()[:2]) - used, sum(daemon.cpu_times()[:2]) - own
            cost = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))["cost"]
            print(f"survey each second: {spent / took:.1%} of a core, the daemon {owned / took:.1%}; "
                  f"latest look {calm['own_latest_ms']} -> {cost['own_latest_ms']} ms, "
                  f"blind {calm['own_blind_ms']} -> {cost['own_blind_ms']} ms")  # fmt: skip
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert audit(sandbox).returncode == 1
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            asked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"audit of 500 ports of the daemon: {asked:.2f} s of CPU")
        assert cpu < 2.0
        assert asked < 2.0
    finally:
        for one in sockets:
            one.close()


@pytest.mark.slow
def test_a_port_of_any_name_is_found_by_who_polls_it(sandbox: Sandbox) -> None:
    add_port(sandbox, HOSTILE[0])
    with watched(sandbox):
        sandbox.wait(
            lambda: port_of(sandbox, HOSTILE[0])["polled"],
            "who polls it",
            20,
        )
        sandbox.wait(lambda: states(ask(sandbox))[HOSTILE[0]] == "UP", "it is up")
