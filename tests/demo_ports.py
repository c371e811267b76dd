# SPDX-License-Identifier: Apache-2.0
"""`make demo-ports`: why a VM on a dpdkvhostuser port is stranded when vswitchd crashes, and one on a
dpdkvhostuserclient port is not. A real OVS-DPDK, a VM with two virtio devices (dpdk-testpmd), numbered packets through
both; in under two minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import SandboxError, wait
from tests.port_calls import call
from tests.vhost import Device, VhostSandbox, Vm, vhost
from tests.wire import Wire, wire

RATE = 200  # packets a second
PORTS = ("vm-in", "vm-out")
PATIENCE = 10.0  # seconds for packets to come back; the kernel has a port of a client try once a second
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
    _tell("A private Open vSwitch with DPDK, and its bridge br0. Two ports of the legacy kind, dpdkvhostuser:")
    for port in PORTS:
        _verb(sandbox, "add", "br0", port, "--server", "--vm-user", "root")
    vm = _power_on(sandbox, ends, server=False)
    _flows(ends, "A VM is connected to both as their client; what comes in by vm-in leaves by vm-out:")
    _tell("\nNow vswitchd crashes (SIGKILL) and is started again.")
    sandbox.restart_vswitchd()
    for port in PORTS:
        _tell(f"    {port}: {sandbox.interface(port)['error'] or 'no error'}")
    _tell("Its own sockets are in its way. They are removed, and it is asked to try again.")
    for port in PORTS:
        (sandbox.dir / port).unlink(missing_ok=True)
    sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:try=again")
    _never(ends, f"The ports are there again ({_states(sandbox)}). The VM runs on, and its packets:")
    vm.check()
    _tell("    The VM is the client, and does not come back by itself: it is STRANDED until it is restarted.")
    vm.stop()
    _tell("\nThe ports are migrated to dpdkvhostuserclient, of which the VM is the server:")
    for port in PORTS:
        _verb(sandbox, "migrate", port, "--vm-user", "root")
    vm = _power_on(sandbox, ends, server=True)
    _flows(ends, "The VM is started again, by its new definition:")
    _tell("\nvswitchd crashes once more (SIGKILL) and is started again. Nobody touches anything else.")
    crash = time.time()
    sandbox.restart_vswitchd()
    _flows(ends, f"The ports: {_states(sandbox)}.")
    vm.check()
    _tell(f"    Packets came through again {ends.gap(crash - 1).seconds:.1f} s after the last one before the crash.")
    return 0


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


def _states(sandbox: VhostSandbox) -> str:
    wait(lambda: all(sandbox.status(port) for port in PORTS), "vswitchd tells the status of both ports")
    return ", ".join(f"{port} {sandbox.status(port)['status']}" for port in PORTS)


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
