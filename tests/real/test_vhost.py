# SPDX-License-Identifier: Apache-2.0
"""Each state and finding of a vhost-user port, provoked on a real OVS-DPDK with a real virtio peer, and what the
daemon's audit says of it. With VHOST_TABLE=FILE the table in that file (docs/ports.md) is written anew from this run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from tests.port_calls import call
from tests.vhost import Device, VhostSandbox, vhost
from tests.wire import wire

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

PATIENCE = 40.0  # seconds for a state to be told: it is looked at every 5 s, and what may pass is not told at once
BEGIN, END = "<!-- begin: written by tests/real/test_vhost.py -->", "<!-- end -->"
FLAPS = 3  # times that a peer has to leave


class Row(NamedTuple):
    """A line of the table."""

    what: str  # state or finding
    how: str
    said: str
    cure: str

    def __str__(self) -> str:
        return (
            "| "
            + " | ".join(cell.replace("|", "\\|") for cell in (f"`{self.what}`", *self[1:3], f"`{self.cure}`"))
            + " |"
        )


class Table:
    """What was provoked in this run."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def write(self, file: Path, directory: Path) -> None:
        """Put it into the page; the directory of the run is written as /run/openvswitch."""
        text = file.read_text()
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        lines = ["| told | how it was provoked | what the audit said | its cure |", "|---|---|---|---|"]
        lines += sorted(map(str, self.rows.values()))
        table = "\n".join(lines).replace(str(directory), "/run/openvswitch")
        file.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")


class Watched:
    """The switch, and the daemon's word on its ports."""

    def __init__(self, sandbox: VhostSandbox, table: Table) -> None:
        self.sandbox = sandbox
        self._table = table

    def port(self, name: str) -> dict[str, Any]:
        """What the audit says of it; nothing while it does not know it."""
        answer = json.loads(self.sandbox.appctl("ports/audit", "--json", target="ovs-keepalive"))
        return next((dict(port) for port in answer["ports"] if port["name"] == name), {})

    def is_told(self, name: str, what: str, how: str) -> dict[str, Any]:
        """Wait until a state or finding is told; it is a line of the table. UP has no finding."""

        def told() -> dict[str, Any] | None:
            port = self.port(name)
            if what == "UP" and port.get("state") == "UP":
                return {"evidence": port["why"], "cure": "-"}
            return next((found for found in port.get("findings", ()) if found["kind"] == what), None)

        finding: dict[str, Any] = wait(told, f"{name}: {what}; it is {self.port(name)}", PATIENCE)
        self._table.rows[what] = Row(what, how, finding["evidence"], finding["cure"])
        return finding

    def is_up(self, name: str) -> None:
        """Wait until it is."""
        try:
            wait(lambda: self.port(name).get("state") == "UP", f"{name} UP", PATIENCE)
        except SandboxError as error:
            for vm in self.sandbox.vms:
                vm.check()
            raise SandboxError(f"{error}; it is {self.port(name)}") from error

    def client(self, name: str) -> Path:
        """Add a client port; its socket."""
        called = call(self.sandbox, "add", "br0", name)
        assert called.status == 0, called
        return self.sandbox.dir / f"{name}.sock"

    def server(self, name: str) -> Path:
        """Add a server port; its socket."""
        called = call(self.sandbox, "add", "br0", name, "--server")
        assert called.status == 0, called
        return self.sandbox.dir / name


@pytest.fixture(scope="module")
def table() -> Table:
    """Written at the end, where that is asked for."""
    return Table()


@pytest.fixture(scope="module")
def switch(table: Table) -> Iterator[VhostSandbox]:
    """Watched by a daemon."""
    with vhost() as sandbox:
        sandbox.settings(enable_keepalive=True)
        sandbox.start_daemon()
        yield sandbox
        if file := os.environ.get("VHOST_TABLE"):
            table.write(Path(file), sandbox.dir)


@pytest.fixture
def watched(switch: VhostSandbox, table: Table) -> Iterator[Watched]:
    """The same, and afterwards without what the test made."""
    yield Watched(switch, table)
    for vm in switch.vms:
        vm.stop()
    for port in switch.vsctl("list-ports", "br0").split():
        switch.vsctl("del-port", "br0", port)
    for name in (*switch.dir.glob("*.sock"), *switch.dir.glob("old*")):
        if name.name != "db.sock":
            name.unlink()


def test_a_client_port_from_its_making_to_the_end_of_its_vm_and_back(watched: Watched) -> None:
    path = watched.client("vm1")
    watched.is_told("vm1", "ABSENT-SOCKET", "a client port is made, and its VM was never started")
    vm = watched.sandbox.vm(Device(path))
    watched.is_told("vm1", "UP", "its VM is started (dpdk-testpmd, server=1)")
    vm.stop()
    watched.is_told("vm1", "STALE-SOCKET", "its VM is killed (SIGKILL): the file of its socket stays")
    vm.start()
    watched.is_told("vm1", "UP", "its VM is started (dpdk-testpmd, server=1)")


def test_a_server_port_that_nobody_came_to_then_a_vm_that_left(watched: Watched) -> None:
    path = watched.server("old1")
    watched.is_told("old1", "NEVER-CONNECTED", "a server port is made, and nobody connects")
    watched.is_told("old1", "server-mode", "a port of type dpdkvhostuser")
    watched.is_told(
        "old1", "permission", "its socket is root's, mode 0755; the user nobody connects: permission denied"
    )
    assert refused_to_nobody(path)
    vm = watched.sandbox.vm(Device(path, server=False))
    watched.sandbox.wait_for("old1")
    watched.is_up("old1")
    vm.stop()
    watched.is_told("old1", "DISCONNECTED", "the VM of a server port is killed (SIGKILL)")


def refused_to_nobody(path: Path) -> bool:
    """Whether another user may not connect, as the kernel itself says. The directory is opened to it meanwhile."""
    path.parent.chmod(0o711)
    try:
        script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    finally:
        path.parent.chmod(0o700)
    return "PermissionError" in done.stderr


@pytest.mark.slow
def test_peers_that_connect_and_never_speak(watched: Watched) -> None:
    how = "a peer accepts (client port) or connects (server port), and never speaks vhost-user"
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(watched.client("vm1")))
        server.listen()
        connection, _ = server.accept()  # vswitchd tries once a second
        stack.enter_context(connection)
        watched.is_told("vm1", "NOT-NEGOTIATED", how)
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(watched.server("old1")))
        watched.is_told("old1", "NOT-NEGOTIATED", how)


@pytest.mark.slow
def test_a_crash_leaves_a_server_port_stale_and_then_its_vm_stranded_and_a_client_port_well(watched: Watched) -> None:
    """The port comes back when the file is gone, the VM does not."""
    sandbox, old, new = watched.sandbox, watched.server("old1"), watched.client("vm1")
    vms = [sandbox.vm(Device(old, server=False)), sandbox.vm(Device(new))]
    for port in ("old1", "vm1"):
        watched.is_up(port)
    sandbox.restart_vswitchd()
    watched.is_told(
        "old1", "STALE-BIND", "vswitchd is killed (SIGKILL) and started again; a server port's VM is connected"
    )
    old.unlink()
    sandbox.restart_vswitchd()  # a poke alone may hang it: after a failed bind it has closed a descriptor too many
    watched.is_told("old1", "STRANDED", "then the stale file is removed and vswitchd started again; the VM runs on")
    watched.is_up("vm1")
    for vm in vms:
        vm.check()


@pytest.mark.slow
def test_a_peer_that_comes_and_goes(watched: Watched) -> None:
    path = watched.client("vm1")
    vm = watched.sandbox.vm(Device(path))
    watched.is_up("vm1")  # what comes and goes before vswitchd is known to have started is not counted
    for _ in range(FLAPS):
        watched.sandbox.wait_for("vm1")
        vm.stop()
        watched.sandbox.wait_for("vm1", "disconnected", "down")
        vm.start()
    watched.is_told("vm1", "FLAPPING", f"the VM is killed and started again {FLAPS} times within 5 min")


def test_a_path_that_no_socket_can_have(watched: Watched) -> None:
    """Refused by `ports add`, so made with ovs-vsctl."""
    path = watched.sandbox.dir / ("p" * 90)
    words = f"add-port br0 vm1 -- set interface vm1 type=dpdkvhostuserclient options:vhost-server-path={path}"
    watched.sandbox.vsctl(*words.split())
    finding = watched.is_told("vm1", "path-too-long", "a client port with a path of more than 107 bytes (by ovs-vsctl)")
    assert str(len(str(path))) in finding["evidence"]


def test_a_port_that_vswitchd_cannot_open(watched: Watched) -> None:
    add = "--no-wait add-port br0 a/b -- set interface a/b type=dpdkvhostuser"
    watched.sandbox.vsctl(*add.split())
    watched.is_told("a/b", "ERROR", "a server port with a / in its name (by ovs-vsctl)")


@pytest.mark.slow
def test_a_port_that_no_flow_leads_to(watched: Watched) -> None:
    watched.client("vm1")
    subprocess.run(["ovs-ofctl", "del-flows", "br0"], env=watched.sandbox.env, check=True)
    try:
        watched.is_told("vm1", "no-flow", "all flows of its bridge are deleted (ovs-ofctl del-flows)")
    finally:
        flow = ["ovs-ofctl", "add-flow", "br0", "priority=0,actions=NORMAL"]
        subprocess.run(flow, env=watched.sandbox.env, check=True)


@pytest.mark.slow
def test_a_port_that_no_pmd_polls(watched: Watched) -> None:
    """The one PMD is kept for another port (pmd-rxq-affinity)."""
    sandbox = watched.sandbox
    for name in ("vm1", "vm2"):
        watched.client(name)
    core = (
        int(sandbox.vsctl("get", "Open_vSwitch", ".", "other_config:pmd-cpu-mask").strip().strip('"'), 0).bit_length()
        - 1
    )
    sandbox.vsctl("set", "interface", "vm2", f"other_config:pmd-rxq-affinity=0:{core}")
    watched.is_told("vm1", "not-polled", "the only PMD is reserved for another port (pmd-rxq-affinity)")


@pytest.mark.slow
def test_a_vm_that_takes_nothing(watched: Watched, tmp_path: Path) -> None:
    sandbox, sink = watched.sandbox, watched.client("vm2")
    with wire(tmp_path, 500) as ends:
        sandbox.vm(Device(watched.client("vm1"), wire=ends.into))
        guest = sandbox.vm(Device(sink))
        for port in ("vm1", "vm2"):
            sandbox.wait_for(port)
        guest.signal(signal.SIGSTOP)
        try:
            watched.is_told("vm2", "not-moving", "the VM is stopped (SIGSTOP) while packets come for it")
        finally:
            guest.signal(signal.SIGCONT)


def test_without_vswitchd_a_port_is_unknown_and_not_well(watched: Watched) -> None:
    sandbox: Sandbox = watched.sandbox
    watched.client("vm1")
    sandbox.kill_vswitchd()
    try:
        wait(lambda: watched.port("vm1").get("state") == "unknown", "unknown", PATIENCE)
        assert call(sandbox, "audit").status == 1
    finally:
        sandbox.start_vswitchd()
        sandbox.wait_for_pmds()
