# SPDX-License-Identifier: Apache-2.0
"""A sandbox with one PMD thread of DPDK: it polls a vhost-user port and never gives its CPU up, as in production.

It takes one core wholly, and 300 MiB of hugepages, which are given back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError

BINARY = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")  # of 2 MiB
WANTED = 160
DRIVERS = ("net_af_packet", "mempool_ring")  # for the end of a veth pair, and its buffers; packages of their own
MEMORY = 256  # MiB of them, for DPDK


class DpdkSandbox(Sandbox):
    """Its one PMD runs on the machine's last core."""

    def __init__(self) -> None:
        super().__init__(pmds=1, max_sleep=0)
        self._plugins: list[str] = []

    def _configure(self) -> None:
        core = (os.cpu_count() or 1) - 1
        config = {
            "dpdk-init": "true",
            "dpdk-lcore-mask": "0x1",
            "dpdk-socket-mem": str(MEMORY),
            "dpdk-socket-limit": str(MEMORY),  # else it takes whatever pages there are for its buffers
            "dpdk-extra": " ".join(["--no-pci --iova-mode=va --in-memory", *self._plugins]),
            "pmd-cpu-mask": f"{1 << core:#x}",
        }
        words = "--no-wait init -- set Open_vSwitch ."
        argv = [*words.split(), *(f'other_config:{key}="{value}"' for key, value in config.items())]
        self.vsctl(*argv, "--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", *self._ports())

    def _ports(self) -> list[str]:
        argv = ["fail_mode=secure", "--", "add-port", "br0", "v0"]
        return [
            *argv,
            "--",
            "set",
            "interface",
            "v0",
            "type=dpdkvhostuserclient",
            f"options:vhost-server-path={self.dir}/v0.sock",
        ]

    def start_vswitchd(self, *more: str) -> None:
        """Start the vswitchd that has DPDK in it, under the usual name, with more options if need be."""
        program = self.dir / "ovs-vswitchd"
        if not program.is_symlink():
            program.symlink_to(BINARY)
        options = ["--disable-system", "--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off", *more]
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(asked)  # as of a plain sandbox: wait_for_pmds
        self.children.start("ovs-vswitchd", [str(program), f"unix:{self.dir}/db.sock", *options], self.env)
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers", 30)


class WiredSandbox(DpdkSandbox):
    """Its PMD polls both ends of a wire (tests/wire.py), and forwards between them as any switch; it naps meanwhile."""

    def __init__(self, into: str, out: str, *, monitor: bool = False) -> None:
        """monitor: something starts vswitchd again when it crashes, at most once in 10 s."""
        super().__init__()
        self._ends = (into, out)
        self._monitor = monitor
        self._plugins = drivers()

    def _ports(self) -> list[str]:
        argv = ["--", "set", "Open_vSwitch", ".", "other_config:pmd-maxsleep=200"]
        for number, end in enumerate(self._ends):
            argv += ["--", "add-port", "br0", f"w{number}", "--", "set", "interface", f"w{number}", "type=dpdk"]
            argv += [f"options:dpdk-devargs=net_af_packet{number},iface={end}"]
        return argv

    def start_vswitchd(self, *more: str) -> None:
        """As of any sandbox."""
        super().start_vswitchd(*more, *(["--monitor"] if self._monitor else []))

    def wait_for_pmds(self) -> None:
        """Wait until its PMD polls both ends."""

        def polls() -> bool:
            try:
                return self.appctl("dpif-netdev/pmd-rxq-show").count("queue-id:") == len(self._ends)
            except SandboxError:  # the command comes with the first datapath
                return False

        self.children.until("ovs-vswitchd", polls, "both ends are polled", 60)

    @property
    def vswitchd_pid(self) -> int:
        """Not of its monitor."""
        return int((self.dir / "ovs-vswitchd.pid").read_text()) if self._monitor else super().vswitchd_pid

    def stop(self) -> None:
        """The monitor first, or it would begin anew; what it started does not die with it."""
        if self._monitor and "ovs-vswitchd" in self.children:
            self.children.kill("ovs-vswitchd", signal.SIGKILL)
            with suppress(OSError, ValueError):  # it did not get so far
                os.kill(self.vswitchd_pid, signal.SIGKILL)
        super().stop()


def drivers() -> list[str]:
    """Options to load them: from $DPDK_PLUGINS, none from where Debian puts them. Without them the test is skipped."""
    told = os.environ.get("DPDK_PLUGINS")
    places = [Path(told)] if told else list(Path("/usr/lib").glob("*/dpdk/pmds-*"))
    for driver in DRIVERS:
        if not any(list(place.glob(f"librte_{driver}.so*")) for place in places):
            pytest.skip(f"DPDK's {driver}: not installed: apt-get install librte-{driver.replace('_', '-')}23")
    return ["-d", told] if told else []


@contextmanager
def dpdk_sandbox() -> Iterator[Sandbox]:
    """Started, or the test is skipped with what is missing."""
    with hugepages(), DpdkSandbox() as sandbox:
        yield sandbox


@contextmanager
def hugepages(wanted: int = WANTED, binary: Path = BINARY) -> Iterator[None]:
    """What DPDK needs; the test is skipped with what is missing. wanted: pages of 2 MiB."""
    if not binary.exists():
        pytest.skip(f"{binary}: not installed: apt-get install openvswitch-switch-dpdk")
    before = HUGEPAGES.read_text()
    try:
        HUGEPAGES.write_text(str(int(before) + wanted))
    except OSError as error:
        pytest.skip(f"{HUGEPAGES}: {error.strerror}")
    try:
        if int(HUGEPAGES.read_text()) < int(before) + wanted:
            pytest.skip(f"{HUGEPAGES}: this machine has not {wanted} to give")
        with _tracefs():
            yield
    finally:
        HUGEPAGES.write_text(before)


@contextmanager
def _tracefs() -> Iterator[None]:
    """Mounted somewhere, as on every host with systemd: by it the kernel tells who leaves from who is preempted."""
    if " tracefs " in Path("/proc/self/mounts").read_text():
        yield
        return
    with tempfile.TemporaryDirectory() as directory:
        mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", directory], check=False, capture_output=True)
        try:
            yield
        finally:
            if not mounted.returncode:
                subprocess.run(["umount", directory], check=True)
