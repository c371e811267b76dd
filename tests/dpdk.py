# SPDX-License-Identifier: Apache-2.0
"""A sandbox with one PMD thread of DPDK: it polls a vhost-user port and never gives its CPU up, as in production.

It takes one core wholly, and 300 MiB of hugepages, which are given back.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox

BINARY = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")  # of 2 MiB
WANTED = 160
MEMORY = 256  # MiB of them, for DPDK


class DpdkSandbox(Sandbox):
    """Its one PMD runs on the machine's last core."""

    def __init__(self) -> None:
        super().__init__(pmds=1, max_sleep=0)

    def _configure(self) -> None:
        core = (os.cpu_count() or 1) - 1
        config = {
            "dpdk-init": "true",
            "dpdk-lcore-mask": "0x1",
            "dpdk-socket-mem": str(MEMORY),
            "dpdk-extra": "--no-pci --iova-mode=va --in-memory",
            "pmd-cpu-mask": f"{1 << core:#x}",
        }
        words = "--no-wait init -- set Open_vSwitch ."
        argv = [*words.split(), *(f'other_config:{key}="{value}"' for key, value in config.items())]
        argv += ["--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"]
        argv += ["--", "add-port", "br0", "v0", "--", "set", "interface", "v0", "type=dpdkvhostuserclient"]
        self.vsctl(*argv, f"options:vhost-server-path={self.dir}/v0.sock")

    def start_vswitchd(self) -> None:
        """Start the vswitchd that has DPDK in it, under the usual name."""
        program = self.dir / "ovs-vswitchd"
        if not program.is_symlink():
            program.symlink_to(BINARY)
        options = ["--disable-system", "--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off"]
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(asked)  # as of a plain sandbox: wait_for_pmds
        self.children.start("ovs-vswitchd", [str(program), f"unix:{self.dir}/db.sock", *options], self.env)
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers", 30)


@contextmanager
def dpdk_sandbox() -> Iterator[Sandbox]:
    """Started, or the test is skipped with what is missing."""
    if not BINARY.exists():
        pytest.skip(f"{BINARY}: not installed: apt-get install openvswitch-switch-dpdk")
    before = HUGEPAGES.read_text()
    try:
        HUGEPAGES.write_text(str(int(before) + WANTED))
    except OSError as error:
        pytest.skip(f"{HUGEPAGES}: {error.strerror}")
    try:
        if int(HUGEPAGES.read_text()) < int(before) + WANTED:
            pytest.skip(f"{HUGEPAGES}: this machine has not {WANTED} to give")
        with _tracefs(), DpdkSandbox() as sandbox:
            yield sandbox
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
