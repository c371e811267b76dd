# SPDX-License-Identifier: Apache-2.0
"""A real Open vSwitch with DPDK in a network namespace of its own, and VMs on it: dpdk-testpmd, whose virtio devices
hang on the sockets of vhost-user ports as a guest's do. What it needs and this host has not is unpacked, not installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ovs_keepalive.sandbox import wait
from tests.dpdk import BINARY, DpdkSandbox, hugepages

UNPACK = Path(__file__).parent / "matrix" / "dpdk"
PAGES = 352  # huge pages of 2 MiB: 256 MiB for vswitchd, 128 MiB for each of two VMs, and for the successor of one
BUFFERS = "mempool_ring"
DRIVERS = ("bus_vdev", "net_virtio", "net_af_packet", BUFFERS)  # of DPDK
VM_MEMORY = 128  # MiB
ATTACH = 15.0  # seconds for a VM to start and its devices to be negotiated


class Parts(NamedTuple):
    """What was unpacked."""

    testpmd: Path
    vswitchd: Path
    environment: Mapping[str, str]  # in which they find their libraries
    drivers: tuple[Path, ...]  # of the VMs' devices and of DPDK's buffers


def parts() -> Parts:
    """Unpacked now if they were not; the test is skipped with the reason where that cannot be."""
    done = subprocess.run([UNPACK], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip().rpartition("\n")[2] or f"{UNPACK.name}: exit status {done.returncode}")
    root = Path(done.stdout.strip())
    [libraries] = root.glob("usr/lib/*-linux-gnu")
    # What this host has itself DPDK loads unasked, and what is loaded from two places makes it panic: the host's first.
    own = Path("/") / libraries.relative_to(root)
    searched = ":".join(map(str, [own, libraries, *root.glob("lib/*-linux-gnu")]))
    drivers = [next(libraries.glob(f"dpdk/pmds-*/librte_{name}.so.*"), None) for name in DRIVERS]
    if None in drivers:
        pytest.skip(f"{libraries}: not all of {', '.join(DRIVERS)} are there: remove {root} and try again")
    vswitchd = BINARY if BINARY.exists() else root / str(BINARY).removeprefix("/")
    needed = (driver for driver in drivers if driver and not (own / driver.relative_to(libraries)).exists())
    return Parts(root / "usr/bin/dpdk-testpmd", vswitchd, {"LD_LIBRARY_PATH": searched}, tuple(needed))


class VhostSandbox(DpdkSandbox):
    """It has a bridge br0 without ports; its PMD rests while nothing comes."""

    def __init__(self, found: Parts, *, fail_mode: str = "") -> None:
        """fail_mode: "" is standalone: a switch that learns."""
        super().__init__()
        self.found = found
        self._fail_mode = fail_mode
        self._plugins = [word for driver in found.drivers if BUFFERS in driver.name for word in ("-d", str(driver))]
        self.vms: list[Vm] = []

    def _ports(self) -> list[str]:
        rest = ["--", "set", "Open_vSwitch", ".", "other_config:pmd-maxsleep=200"]
        return [*([f"fail_mode={self._fail_mode}"] if self._fail_mode else []), *rest]

    def start_vswitchd(self, *more: str) -> None:
        """As of any sandbox, in a namespace of its own: the tap of its bridge collides with nobody's."""
        program = self.dir / "ovs-vswitchd"
        if not program.is_symlink():
            program.symlink_to(self.found.vswitchd)
        options = ["--disable-system", "--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off", *more]
        self.transact({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]})
        argv = ["unshare", "--net", str(program), f"unix:{self.dir}/db.sock", *options]
        self.children.start("ovs-vswitchd", argv, {**self.env, **self.found.environment})
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers", 30)

    def wait_for_pmds(self) -> None:
        """Wait until it has configured everything: without ports there is no PMD yet."""

        def configured() -> bool:
            row = self._row("cur_cfg", "next_cfg")
            return bool(row["cur_cfg"] == row["next_cfg"])

        self.children.until("ovs-vswitchd", configured, "it is configured", 60)

    def restart_vswitchd(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal, and start another one."""
        self.kill_vswitchd(number)
        self.start_vswitchd()
        self.wait_for_pmds()

    def stop(self) -> None:
        """The VMs first."""
        for vm in self.vms:
            vm.stop()
        super().stop()

    def status(self, port: str) -> dict[str, str]:
        """Interface:status of a port."""
        return dict(self.interface(port)["status"][1])

    def interface(self, port: str) -> dict[str, Any]:
        """Its row."""
        [result] = self.transact({"op": "select", "table": "Interface", "where": [["name", "==", port]]})
        return dict(result["rows"][0]) if result["rows"] else {}

    def wait_for(self, port: str, status: str = "connected", link: str | None = "up", seconds: float = ATTACH) -> None:
        """Wait until OVSDB says so of a port."""

        def said() -> bool:
            self.children.check(*(vm.name for vm in self.vms if vm.name in self.children))
            row = self.interface(port)
            return bool(row and self.status(port).get("status") == status and link in (None, row["link_state"]))

        wait(said, f"{port} {status}, link {link}", seconds)

    def vm(self, *devices: Device) -> Vm:
        """Start a VM with these devices."""
        self.vms.append(Vm(self, devices))
        return self.vms[-1].start()


class Device(NamedTuple):
    """A virtio device of a VM."""

    path: Path  # of the socket
    server: bool = True  # whether the VM listens on it, as for a dpdkvhostuserclient port
    wire: str = ""  # the interface with which it exchanges all packets; without one it sends back what comes


class Vm:
    """One dpdk-testpmd. It is gone as a VM is that is killed: its socket files stay."""

    def __init__(self, sandbox: VhostSandbox, devices: Sequence[Device]) -> None:
        self._sandbox = sandbox
        self._devices = devices
        self.name = f"vm{len(sandbox.vms)}"

    def start(self) -> Vm:
        """Power on. As QEMU does it removes a stale file where it is to listen."""
        vdevs = []
        for number, device in enumerate(self._devices):
            if device.server:
                device.path.unlink(missing_ok=True)
            server = ",server=1" if device.server else ""
            vdevs.append(f"--vdev=net_virtio_user{number},path={device.path}{server},queues=1")
            if device.wire:
                vdevs.append(f"--vdev=net_af_packet{number},iface={device.wire}")
        wired = all(device.wire for device in self._devices)
        argv = [
            *("chrt", "-i", "0"),  # it spins: whoever else wants that CPU comes first, the survey with its nice 19 too
            str(self._sandbox.found.testpmd),
            *f"--lcores 0@0,1@0 -m {VM_MEMORY} --no-pci --no-telemetry --in-memory --single-file-segments".split(),
            *(word for driver in self._sandbox.found.drivers for word in ("-d", str(driver))),
            f"--file-prefix={self._sandbox.dir.name}-{self.name}",
            *vdevs,
            "--",
            *["--nb-cores=1", "--total-num-mbufs=4096", "--auto-start", "--forward-mode=io", "--stats-period=60"],
            f"--port-topology={'paired' if wired else 'loop'}",
        ]
        self._sandbox.children.start(self.name, argv, {**os.environ, **self._sandbox.found.environment})
        return self

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Power off: at once, as when QEMU is killed."""
        if self.name in self._sandbox.children:
            with suppress(ProcessLookupError):
                self._sandbox.children.kill(self.name, number)

    def signal(self, number: int) -> None:
        """SIGSTOP freezes all of it, SIGCONT lets it go on."""
        self._sandbox.children.kill(self.name, number)

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self.name in self._sandbox.children:
            self._sandbox.children.check(self.name)


@contextmanager
def vhost(**options: str) -> Iterator[VhostSandbox]:
    """Started (options as of VhostSandbox), or the test is skipped with what is missing."""
    found = parts()
    sandbox = VhostSandbox(found, **options)
    with hugepages(PAGES, found.vswitchd), sandbox:
        yield sandbox
