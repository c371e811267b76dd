# SPDX-License-Identifier: Apache-2.0
"""Hosts in network namespaces of their own, on one Ethernet that can be cut: each with a real Open vSwitch, whose
userspace datapath (netdev) sends tunnelled packets through a real interface.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ovs_keepalive.beat import moment
from ovs_keepalive.core.fleet import Headroom, HostState, Known, Member
from ovs_keepalive.core.mesh import MARK, Asked
from ovs_keepalive.core.tunnels import Link, Matrix
from ovs_keepalive.fabric import Fabric
from ovs_keepalive.sandbox import SandboxError, wait
from tests.conftest import cannot
from tests.fleets import of_fleet
from tests.numbered import stamps
from tests.switch import RAN, TestedSandbox

CELL = "rack1"
TOLD = 5.0  # seconds within which a cut is in both views (issue 9)
RATE = 100  # packets a second


def ip(*arguments: str) -> None:
    """What has to work where a namespace can be made."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


class Host(TestedSandbox):
    """One of them: a bridge br-phy with its interface eth0 and its address; no PMD thread."""

    def __init__(self, name: str, namespace: str, address: str) -> None:
        super().__init__(ovs_root=None)  # always this host's Open vSwitch: a chroot has no namespaces
        self.name = name
        self.namespace = namespace
        self.address = address

    def _configure(self) -> None:
        words = "--no-wait init -- add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0"
        self.vsctl(*words.split())

    def start_vswitchd(self) -> None:
        """In the namespace, and without `override`: its ports are real, but for those of type dummy."""
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(asked)
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "ovs-vswitchd", f"unix:{self.dir}/db.sock"]
        options = ["--enable-dummy", "--disable-system", "--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off"]
        self.children.start("ovs-vswitchd", [*inside, *options], self.env)
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers")
        RAN.add(f"{self.appctl('version').splitlines()[0]}, in namespaces")

    def wait_for_pmds(self) -> None:
        """Wait until it has configured everything; then give it its address."""

        def configured() -> bool:
            row = self._row("cur_cfg", "next_cfg")
            return bool(row["cur_cfg"] == row["next_cfg"])

        self.children.until("ovs-vswitchd", configured, "it is configured", 30)
        ip("-n", self.namespace, "address", "replace", f"{self.address}/24", "dev", "br-phy")
        ip("-n", self.namespace, "link", "set", "br-phy", "up")

    def service_port(self, name: str, service: str = "") -> None:
        """A port on the mesh's bridge that takes packets from NAME.stream and writes what it sends to NAME.pcap; the
        packets of a client are for that service.
        """
        options = [f"options:pstream=punix:{self.dir}/{name}.stream", f"options:tx_pcap={self.dir}/{name}.pcap"]
        marks = [f"external_ids:ovs-keepalive-service={service}"] if service else []
        self.vsctl("add-port", "ovska-mesh", name, "--", "set", "interface", name, "type=dummy", *options, *marks)
        self.appctl("netdev-dummy/set-admin-state", name, "up")  # else its link is down, and nobody is served there


class Underlay:
    """The Ethernet, and the hosts on it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._name = f"oka{os.getpid()}"
        tried = subprocess.run(["ip", "netns", "add", f"{self._name}-"], check=False, capture_output=True, text=True)
        if tried.returncode:
            cannot(f"no network namespaces: {tried.stderr.strip()}")
        stack.callback(_gone, f"{self._name}-")
        self.hosts: dict[str, Host] = {}
        self._made(self._name)
        ip("-n", self._name, "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        ip("-n", self._name, "link", "set", "switch", "up")

    def host(self, name: str) -> Host:
        """One more, called by one letter, started."""
        inside = f"{self._name}{name}"
        self._made(inside)
        ip("-n", self._name, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", inside)
        for namespace, one in ((self._name, f"to-{name}"), (inside, "eth0")):
            ip("-n", namespace, "link", "set", one, "addrgenmode", "none")
            ip("-n", namespace, "link", "set", one, "up")
        self.heal(name)
        host = Host(name, inside, f"192.0.2.{ord(name) - ord('a') + 1}")
        self._stack.enter_context(host)
        self.hosts[name] = host
        return host

    def cut(self, name: str) -> None:
        """Take its cable out of the switch; both ends of it stay up: nobody is told."""
        ip("-n", self._name, "link", "set", f"to-{name}", "nomaster")

    def heal(self, name: str) -> None:
        """Put it back."""
        ip("-n", self._name, "link", "set", f"to-{name}", "master", "switch")

    def _made(self, namespace: str) -> None:
        ip("netns", "add", namespace)
        self._stack.callback(_gone, namespace)
        ip("-n", namespace, "link", "set", "lo", "up")


def _gone(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


@contextmanager
def underlay() -> Iterator[Underlay]:
    """Without hosts."""
    with ExitStack() as stack:
        yield Underlay(stack)


class Agents:
    """What the fleet's agents do of tunnels, each on its host; the store between them is this object."""

    def __init__(self) -> None:
        self.fabrics: dict[str, Fabric] = {}
        self.known: set[str] = set()
        self.last: dict[str, Known] = {}
        self.cores: dict[str, int] = {}  # of each host that are free
        self._addresses: dict[str, str] = {}

    def join(self, host: Host, registered: Mapping[str, str] | None = None) -> Fabric:
        """An agent on that host; one that was there before has ended."""
        self.leave(host.name)
        asked = Asked(CELL, host.name, host.address)
        self.fabrics[host.name] = Fabric(host.remote, host.dir, asked, registered)
        self._addresses[host.name] = host.address
        self.known.add(host.name)
        return self.fabrics[host.name]

    def leave(self, name: str) -> None:
        """Its session ends; it stays known."""
        if name in self.fabrics:
            self.last[name] = Known(0, 0, self.members()[name])
            self.fabrics.pop(name).close()

    def members(self) -> dict[str, Member]:
        """Of those that have a session."""
        return {
            name: Member(
                name, 1, 0, "", HostState.WELL, 0,
                headroom=Headroom({0: self.cores.get(name, 0)}, {}),
                tunnels=fabric.tunnels, services=fabric.services, address=self._addresses[name],
            )
            for name, fabric in self.fabrics.items()
        }  # fmt: skip

    def turn(self) -> None:
        """One turn of each."""
        live = self.members()
        for fabric in self.fabrics.values():
            fabric.run(live, self.known, moment())

    def matrix(self) -> Matrix:
        """As it is after another turn."""
        self.turn()
        return of_fleet(self.members(), {name: self.last[name] for name in self.known & self.last.keys()})

    def until(self, condition: Callable[[], object], what: str, seconds: float = 15.0) -> float:
        """Turn until it holds; the seconds it took."""
        begin = time.monotonic()

        def holds() -> bool:
            self.turn()
            return bool(condition())

        try:
            wait(holds, what, seconds)
        except SandboxError as error:
            said = {name: told(fabric) for name, fabric in self.fabrics.items()}
            raise AssertionError(f"{error}: {self.matrix()}; told: {said}") from error
        return time.monotonic() - begin

    def link(self, a: str, b: str) -> Link | None:
        """The pair's."""
        return next((one for one in self.matrix().links if {one.a, one.b} == {a, b}), None)

    def close(self) -> None:
        """End them all."""
        for name in list(self.fabrics):
            self.leave(name)


def routes(fabric: Fabric) -> Mapping[str, str]:
    """Service -> host, of those whose packets leave this node."""
    assert fabric._flows is not None
    return fabric._flows.routes.chosen


def told(fabric: Fabric) -> tuple[str, ...]:
    """What is not as somebody asked for, and why: the log has a line for each."""
    assert fabric._mesh is not None
    assert fabric._flows is not None
    return (*fabric._mesh.told, *fabric._flows.routes.told)


def arrived(host: Host, port: str) -> list[int]:
    """The numbers of the packets that were sent to that port."""
    file = host.dir / f"{port}.pcap"
    return [number for _, number in stamps(file.read_bytes())] if file.exists() else []


def ports(host: Host) -> list[str]:
    """The names of the Interfaces that bear our mark."""
    marked = ["external_ids", "includes", ["map", [[MARK, CELL]]]]
    [result] = host.transact({"op": "select", "table": "Interface", "where": [marked], "columns": ["name"]})
    return [row["name"] for row in result["rows"]]
