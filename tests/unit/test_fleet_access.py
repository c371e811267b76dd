# SPDX-License-Identifier: Apache-2.0
"""What of the section `fleet` belongs together: a part that would be off without a word is refused."""

from __future__ import annotations

import pytest

from ovs_keepalive.command_line import Problem
from ovs_keepalive.config_sections import Fleet
from ovs_keepalive.core.mesh import Asked
from ovs_keepalive.fleet_access import mesh, options

SERVER = "127.0.0.1:2181"


def test_a_mesh_needs_an_address_and_services_need_a_mesh() -> None:
    assert mesh(Fleet()) is None
    assert mesh(Fleet(node="a", mesh=True, address="192.0.2.1")) == Asked("default", "a", "192.0.2.1")
    with pytest.raises(Problem, match=r"fleet\.address: names no address, and fleet\.mesh needs one"):
        mesh(Fleet(mesh=True))
    with pytest.raises(Problem, match=r"fleet\.services: packets for them come by the mesh"):
        mesh(Fleet(address="192.0.2.1", services={"dns": "dns0"}))


def test_servers_have_to_be_named_and_tls_is_whole_or_not_at_all() -> None:
    assert options(Fleet(zookeeper=SERVER)).tls is None
    with pytest.raises(Problem, match=r"fleet\.zookeeper: names no server"):
        options(Fleet())
    with pytest.raises(Problem, match="set all three, or none"):
        options(Fleet(zookeeper=SERVER, certificate="/etc/cert.pem"))
