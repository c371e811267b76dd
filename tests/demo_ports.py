# SPDX-License-Identifier: Apache-2.0
"""`make demo-ports`: why a VM on a dpdkvhostuser port is stranded when vswitchd crashes, and one on a
dpdkvhostuserclient port is not. A real OVS-DPDK, a VM with two virtio devices (dpdk-testpmd), numbered packets through
both; in under two minutes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.sandbox import SandboxError, wait
from tests.port_calls import call
from tests.vhost import Device, VhostSandbox, Vm, vhost
from tests.wire import Wire, wire

RATE = 200  # packets a second
PORTS = ("vm-in", "vm-out")
PATIENCE = 10.0  # seconds for packets to come back; the kernel has a port of a client try once a second
AUDITED = 40.0  # seconds for the daemon to tell of both ports
NOTHING = "    no packet came through"


def main() -> int:
    """Play it. 0: all came true; 3: this machine has not what it takes; 1: something was not seen."""
    try:
        with tempfile.TemporaryDirectory() as directory, vhost() as sandbox, wire(Path(directory), RATE) as ends:
            return _play(sandbox, ends)
    except pytest.skip.Exception as reason:
        print(f"demo-ports: {reason}", file=sys.stderr)
        return 3
    except SandboxError as error:
        print(f"demo-ports: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _play(sandbox: VhostSandbox, ends: Wire) -> int:
    _tell("A private Open vSwitch with DPDK, its bridge br0, and ovs-keepalive. Two ports of the legacy kind:")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon()
    for port in PORTS:
        _verb(sandbox, "add", "br0", port, "--server", "--vm-user", "root")
    vm = _power_on(sandbox, ends, server=False)
    _flows(ends, "A VM is connected to both as their client; what comes in by vm-in leaves by vm-out:")
    _told(sandbox, "UP")
    _tell("\nNow vswitchd crashes (SIGKILL) and is started again.")
    sandbox.restart_vswitchd()
    _told(sandbox, "STALE-BIND")
    _tell("The files are removed, and vswitchd is started once more:")
    # Not by a poke: after a failed bind vswitchd has closed a descriptor too many, and may wait in accept for ever.
    for port in PORTS:
        (sandbox.dir / port).unlink()
    sandbox.restart_vswitchd()
    _told(sandbox, "STRANDED")
    _never(ends, "The VM runs on, and its packets:")
    vm.check()
    vm.stop()
    _tell("\nThe ports are migrated to dpdkvhostuserclient, of which the VM is the server:")
    for port in PORTS:
        _verb(sandbox, "migrate", port, "--vm-user", "root")
    vm = _power_on(sandbox, ends, server=True)
    _flows(ends, "The VM is started again, by its new definition:")
    _told(sandbox, "UP")
    _tell("\nvswitchd crashes once more (SIGKILL) and is started again. Nobody touches anything else.")
    crash = time.time()
    sandbox.restart_vswitchd()
    _flows(ends, "The VM runs on:")
    _tell(f"    The first came {ends.gap(crash - 1).seconds:.1f} s after the last one before the crash.")
    _told(sandbox, "UP")
    vm.check()
    return 0


def _told(sandbox: VhostSandbox, state: str) -> None:
    """Wait until the daemon says so of both ports, and say what it says."""

    def ports() -> list[dict[str, Any]]:
        answer = json.loads(sandbox.appctl("ports/audit", "--json", target="ovs-keepalive"))
        found = [port for port in answer["ports"] if port["name"] in PORTS and port["state"] == state]
        return found if len(found) == len(PORTS) else []

    for port in wait(ports, f"both ports {state}", AUDITED):
        _tell(f"    audit: {port['name']} {state}: {port['why']}")
        for finding in (finding for finding in port["findings"] if finding["kind"] == state):
            _tell(f"           {finding['consequence']}\n           cure: {finding['cure']}")


def _power_on(sandbox: VhostSandbox, ends: Wire, *, server: bool) -> Vm:
    paths = [sandbox.dir / (f"{port}.sock" if server else port) for port in PORTS]
    inner, outer = paths
    vm = sandbox.vm(Device(inner, server, ends.into), Device(outer, server, ends.out))
    for port in PORTS:
        sandbox.wait_for(port)
    return vm


def _verb(sandbox: VhostSandbox, *words: str) -> None:
    called = call(sandbox, *words)
    _tell(f"$ ovs-keepalive ports {' '.join(words)}")
    if called.status:
        raise SandboxError(called.complained.strip())
    _tell(f"    {next(line for line in called.said.splitlines() if line.startswith(('added', 'migrated')))}")


def _flows(ends: Wire, line: str) -> None:
    """Say it, and how many packets come through from now on."""
    begin = time.time()
    wait(lambda: len(ends.packets(begin)) >= RATE, f"{RATE} packets through both ports", PATIENCE)
    _tell(f"{line}\n    {RATE} packets came through within {time.time() - begin:.1f} s")


def _never(ends: Wire, line: str) -> None:
    """Say it, and hold it to that no packet comes through for as long as it would be waited for."""
    begin = time.time()
    while time.time() - begin < PATIENCE:
        if ends.packets(begin):
            raise SandboxError("packets came through: the VM was not stranded")
        time.sleep(0.5)
    _tell(f"{line}\n{NOTHING} within {PATIENCE:g} s")


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
