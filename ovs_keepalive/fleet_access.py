# SPDX-License-Identifier: Apache-2.0
"""From the section `fleet` of the configuration to the store: for the agent, the command line and the fleet's page."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ovs_keepalive.command_line import USAGE, Problem
from ovs_keepalive.config_sections import Fleet
from ovs_keepalive.core.mesh import Asked
from ovs_keepalive.formats import fleet as documents

if TYPE_CHECKING:
    from ovs_keepalive.fleet.session import Options
    from ovs_keepalive.fleet.tree import Tree

NO_KAZOO = "fleet: kazoo is not installed: pip install 'ovs-keepalive[fleet]'"


def options(fleet: Fleet) -> Options:
    """How the store is reached. Raises Problem where the configuration does not say that, or not all of it."""
    try:
        from ovs_keepalive.fleet.session import Options  # noqa: PLC0415 - kazoo is an extra
        from ovs_keepalive.fleet.wire import Tls  # noqa: PLC0415
    except ImportError as error:
        raise Problem(NO_KAZOO, USAGE) from error
    if not fleet.zookeeper:
        raise Problem("fleet.zookeeper: names no server: set it in the configuration, or give --zookeeper", USAGE)
    files = (fleet.certificate, fleet.private_key, fleet.ca_cert)
    if any(files) and not all(files):
        raise Problem("fleet: TLS needs certificate, private-key and ca-cert: set all three, or none", USAGE)
    tls = Tls(*files, check_name=fleet.check_name) if all(files) else None
    return Options(fleet.zookeeper, fleet.session_timeout, tls, fleet.digest_file, fleet.insecure)


def tree(fleet: Fleet, cell: str | None = None) -> Tree:
    """Where in the store a cell is: this host's, or that one. Raises Problem."""
    from ovs_keepalive.fleet.tree import Guard, Tree  # noqa: PLC0415 - kazoo is an extra

    guard = Guard.CERTIFICATE if fleet.certificate else Guard.DIGEST if fleet.digest_file else Guard.OPEN
    return Tree(cell or fleet.cell, guard, fleet.admin)


def mesh(fleet: Fleet) -> Asked | None:
    """The mesh of this host; None: it takes part in none. Raises Problem."""
    if fleet.mesh and not fleet.address:
        raise Problem(
            "fleet.address: names no address, and fleet.mesh needs one: set that of this host's underlay", USAGE
        )
    if fleet.services and not fleet.mesh:
        raise Problem("fleet.services: packets for them come by the mesh: set fleet.mesh: true, or remove them", USAGE)
    return Asked(fleet.cell, own_name(fleet), fleet.address) if fleet.mesh else None


def own_name(fleet: Fleet) -> str:
    """This host's name in the fleet. Raises Problem."""
    name = fleet.node or socket.gethostname()
    try:
        documents.host_name(name)
    except ValueError as error:
        raise Problem(f"fleet.node: {error}", USAGE) from error
    return name
