# SPDX-License-Identifier: Apache-2.0
"""What a VM's definition needs: XML that can be parsed, arguments in which both ends of the socket fit together."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from ovs_keepalive.formats import vm_lines
from ovs_keepalive.formats.vm_lines import Socket


@pytest.mark.parametrize("queues", [1, 4])
@pytest.mark.parametrize("is_server", [True, False])
def test_libvirts_definition_says_who_listens_and_how_many_queues_there_are(is_server: bool, queues: int) -> None:
    device = ET.fromstring(vm_lines.libvirt(Socket("vm1", "/run/vm1.sock", is_server, queues)))  # noqa: S314
    source = device.find("source")
    assert source is not None
    assert source.attrib == {"type": "unix", "path": "/run/vm1.sock", "mode": "server" if is_server else "client"}
    assert (source.find("reconnect") is not None) == (not is_server)
    driver = device.find("driver")
    assert (driver.get("queues") if driver is not None else "1") == str(queues)
    ET.fromstring(vm_lines.libvirt_memory())  # noqa: S314


def test_qemus_arguments_name_one_chardev_and_one_netdev() -> None:
    lines = vm_lines.qemu(Socket("vm1", "/run/vm1.sock", vm_is_server=True, queues=2)).splitlines()
    assert lines == [
        "-chardev socket,id=char-vm1,path=/run/vm1.sock,server=on",
        "-netdev vhost-user,id=net-vm1,chardev=char-vm1,queues=2",
        "-device virtio-net-pci,netdev=net-vm1,mq=on,vectors=6",
    ]
    legacy = vm_lines.qemu(Socket("vm1", "/run/vm1", vm_is_server=False, queues=1))
    assert "reconnect=1" in legacy
    assert "server" not in legacy
    assert "queues" not in legacy
    assert "share=on" in vm_lines.qemu_memory()
