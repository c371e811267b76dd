# SPDX-License-Identifier: Apache-2.0
"""Flows of a real datapath for the tests of offload: made by packets, seen by vswitchd's own words."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.offload import Move
from ovs_keepalive.formats import procfs
from ovs_keepalive.sandbox import Sandbox, SandboxError
from tests.lab import Background
from tests.newer_ovs import NewerSandbox

# ufid:…, …in_port(1),…ipv4(src=10.0.0.1,…, packets:2, bytes:212, used:0.001s, offloaded:yes, dp:dummy, actions:2, dp-…
LINE = re.compile(
    r"ufid:(?P<ufid>[0-9a-f-]{36}), .*ipv4\(src=10\.0\.0\.(?P<host>\d+)[,/].*, packets:(?P<packets>\d+), .*"
    r"used:[^,]+, (?:offloaded:(?P<offloaded>\w+), )?.*actions:(?P<actions>.+?)(?:, dp-extra-info:.*)?$"
)
HARDWARE = re.compile(
    r"- (\S+): port_no: \d+\n\s+rx_offload_partial *: (\d+)\n\s+rx_offload_full *: (\d+)\n\s+rx_offload_miss *: (\d+)"
)
SENT = re.compile(r"tx pkts=(\d+)")
DATAPATH = "dummy@ovs-dummy"
PASSED = 0.5  # seconds after a PMD thread took a packet in which it is out, or is not forwarded
TICK = 0.1  # seconds between two bundles of packets
AT_ONCE = 80  # packets: a dummy port keeps 100 that its PMD has not come to
IDLE = 3_600_000  # ms: no flow goes while a test takes its time


class Lab:
    """A sandbox with OpenFlow rules that let p0's packets out of p1, a flow each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def rule(self, host: int, actions: str, how: str = "add-flow") -> None:
        """What OpenFlow does with packets from 10.0.0.<host>."""
        words = ("--strict",) if how == "mod-flows" else ()
        match = f"priority=100,in_port=1,ip,nw_src=10.0.0.{host}"
        self.ofctl(*words, how, "br0", f"{match},actions={actions}")

    def ofctl(self, *words: str) -> str:
        """ovs-ofctl of the same Open vSwitch."""
        sandbox = self.sandbox
        argv = [*sandbox._chroot, "ovs-ofctl", *words]
        env = sandbox._environment(sandbox._inner)
        return subprocess.run(argv, env=env, check=True, timeout=10, capture_output=True, text=True).stdout

    def sent(self) -> int:
        """Packets that have left p1."""
        found = SENT.search(self.ofctl("--no-names", "dump-ports", "br0", "2"))
        assert found is not None
        return int(found[1])

    def forwards(self, host: int, destination: int = 10) -> bool:
        """Whether a packet comes out. Hardware counts each, what p0 itself counts is only what came past it."""
        taken, sent = sum(self.hardware()), self.sent()
        self.packet(host, destination)
        self.sandbox.wait(lambda: sum(self.hardware()) > taken, "a PMD thread takes the packet")
        until = time.monotonic() + PASSED
        while self.sent() <= sent:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def pending(self, hosts: range) -> None:
        """Flows of these hosts in software, and all later ones in hardware: vswitchd tries to offload a flow once."""
        self.sandbox.settings(max_idle=IDLE)
        for host in hosts:
            self.rule(host, "output:2")
            self.ufid(host)
        self.sandbox.settings(hw_offload=True)
        self.sandbox.wait(lambda: "Globally enabled: true" in self.sandbox.appctl("dpif/offload/show"), "offload is on")
        assert all(match["offloaded"] is None for lines in self.flows().values() for match in lines)

    def settle(self) -> None:
        """Let vswitchd's revalidators see every flow that there is."""
        for _ in range(2):
            self.sandbox.appctl("revalidator/wait")

    def state(self, host: int) -> set[tuple[str | None, str]]:
        """What hardware has of the flow of that host, and its actions; of all its copies."""
        return {(match["offloaded"], match["actions"]) for match in self.flows().get(host, [])}

    def actions(self, host: int) -> set[str]:
        """Of the flow of that host; of all its copies."""
        return {actions for _, actions in self.state(host)}

    def packet(self, host: int, destination: int = 10) -> None:
        """One packet from there, into p0."""
        self.packets([packet(host, destination)])

    def packets(self, packets: Sequence[str]) -> None:
        """These, into p0, at most 100: a dummy port keeps no more."""
        self.sandbox.appctl("netdev-dummy/receive", "p0", *packets)

    def flows(self) -> dict[int, list[re.Match[str]]]:
        """By host, the lines of vswitchd's dump."""
        found: dict[int, list[re.Match[str]]] = {}
        for line in self.sandbox.appctl("dpctl/dump-flows", "-m", "--no-names").splitlines():
            if match := LINE.match(line):
                found.setdefault(int(match["host"]), []).append(match)
        return found

    def ufid(self, host: int) -> str:
        """Of the flow of that host, made if there is none."""
        if host not in self.flows():
            self.packet(host)
        return str(self.sandbox.wait(lambda: self.flows().get(host), f"a flow of 10.0.0.{host}")[0]["ufid"])

    def hardware(self, port: str = "p0") -> tuple[int, int, int]:
        """Packets of a port: in part in hardware, wholly, missed by it."""
        shown = self.sandbox.appctl("dpif/offload/show")
        return next((int(m[2]), int(m[3]), int(m[4])) for m in HARDWARE.finditer(shown) if m[1] == port)

    def count(self, name: str) -> int:
        """A counter of vswitchd's; 0 if it has none of that name."""
        try:
            return int(self.sandbox.appctl("coverage/read-counter", name))
        except SandboxError:
            return 0

    @property
    def process(self) -> ProcessId:
        """Of vswitchd."""
        pid = self.sandbox.vswitchd_pid
        return ProcessId(pid, procfs.parse_stat(Path(f"/proc/{pid}/stat").read_text()).start)

    @property
    def control(self) -> Path:
        """Where vswitchd answers."""
        return self.sandbox.dir / f"ovs-vswitchd.{(self.sandbox.dir / 'ovs-vswitchd.pid').read_text().strip()}.ctl"


@contextmanager
def a_lab(pending: range, offloaded: Iterable[int] = ()) -> Iterator[Lab]:
    """A new Open vSwitch with flows of these hosts in software, and of those in hardware."""
    with NewerSandbox() as sandbox:
        lab = Lab(sandbox)
        lab.pending(pending)
        for host in offloaded:
            lab.rule(host, "output:2")
            lab.ufid(host)
        yield lab


class Traffic(Background):
    """Packets of many hosts, each at its own rate."""

    def __init__(self, lab: Lab, rates: Mapping[int, int]) -> None:
        """rates: packets per second, by host."""
        super().__init__()
        self._lab = lab
        self._rates = rates

    def run(self) -> None:
        """Send what is due, until the end."""
        began, sent = time.monotonic(), dict.fromkeys(self._rates, 0)
        while not self.over.wait(TICK):
            lived = time.monotonic() - began
            due = [host for host, rate in self._rates.items() for _ in range(int(lived * rate) - sent[host])]
            for start in range(0, len(due), AT_ONCE):
                self._lab.packets([packet(host) for host in due[start : start + AT_ONCE]])
                self.over.wait(TICK / 4)
            for host in due:
                sent[host] += 1


def packet(host: int, destination: int = 10) -> str:
    """As netdev-dummy/receive takes it."""
    return (
        f"in_port(1),eth(src=50:54:00:00:00:{host:02x},dst=50:54:00:00:00:0a),eth_type(0x0800),"
        f"ipv4(src=10.0.0.{host},dst=10.0.0.{destination},proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)"
    )


def move(promoted: str, victim: str = "") -> Move:
    """With rates that nobody looks at."""
    return Move(promoted, 100.0, victim, 1.0, 99.0, "test")


def moment(mono: float) -> Moment:
    """An instant of the test's own clock."""
    return Moment(mono, round(mono * 1000))
