# SPDX-License-Identifier: Apache-2.0
"""What has to stand in a VM's definition so that it uses a vhost-user port: libvirt's XML, and QEMU's arguments.

The paths that come here were checked (core/port_plan.py): nothing in them needs quoting in either.
"""

from __future__ import annotations

import re
from typing import NamedTuple

RECONNECT = 1  # seconds after which a VM that is the client tries again


class Socket(NamedTuple):
    """One port, as the VM sees it."""

    name: str
    path: str
    vm_is_server: bool
    queues: int


def libvirt(socket: Socket) -> str:
    """The device, and what the domain needs besides: its memory has to be shared, in huge pages."""
    mode = "server" if socket.vm_is_server else "client"
    lines = ["<interface type='vhostuser'>"]
    if socket.vm_is_server:
        lines += [f"  <source type='unix' path='{socket.path}' mode='{mode}'/>"]
    else:
        lines += [
            f"  <source type='unix' path='{socket.path}' mode='{mode}'>",
            f"    <reconnect enabled='yes' timeout='{RECONNECT}'/>",
            "  </source>",
        ]
    lines += ["  <model type='virtio'/>"]
    if socket.queues > 1:
        lines += [f"  <driver name='vhost' queues='{socket.queues}'/>"]
    return "\n".join([*lines, "</interface>"])


def libvirt_memory() -> str:
    """Beside it in the domain, once; a NUMA cell of its own takes memAccess='shared' instead of the last line."""
    return "<memoryBacking>\n  <hugepages/>\n  <access mode='shared'/>\n</memoryBacking>"


def qemu(socket: Socket) -> str:
    """The same as arguments, a line each."""
    role = "server=on" if socket.vm_is_server else f"reconnect={RECONNECT}"
    many = f",queues={socket.queues}" if socket.queues > 1 else ""
    # A vector for each queue of a pair, one for the configuration, one for the control queue.
    vectors = f",mq=on,vectors={2 * socket.queues + 2}" if socket.queues > 1 else ""
    id = re.sub(r"[^A-Za-z0-9_.-]", "_", socket.name)  # a port that is there already may be called anything
    return "\n".join(
        [
            f"-chardev socket,id=char-{id},path={socket.path},{role}",
            f"-netdev vhost-user,id=net-{id},chardev=char-{id}{many}",
            f"-device virtio-net-pci,netdev=net-{id}{vectors}",
        ]
    )


def qemu_memory() -> str:
    """Beside it, once. MEMORY is the VM's, as of -m."""
    return (
        "-object memory-backend-file,id=mem,size=MEMORY,mem-path=/dev/hugepages,share=on\n"
        "-numa node,memdev=mem"
    )  # fmt: skip
