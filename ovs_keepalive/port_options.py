# SPDX-License-Identifier: Apache-2.0
"""The words of `ovs-keepalive ports`: its verbs with their options."""

from __future__ import annotations

import argparse
from typing import Any


def add(verbs: Any, database: argparse.ArgumentParser) -> None:
    """Add `ports` and its verbs."""
    ports: argparse.ArgumentParser = verbs.add_parser(
        "ports",
        help="vhost-user ports, and every other one: audited, made, taken away, moved",
        description="Exit status of audit: 0 if it finds nothing, else 1. Each of the others looks at everything first "
        "and changes nothing that it objects to (exit status 2); what it changed it verifies, and takes back if that "
        "fails (exit status 1).",
        usage="ovs-keepalive ports audit|add|del|migrate|path ...",
    )
    actions = ports.add_subparsers(
        required=True,
        dest="action",
        metavar="ACTION",
        parser_class=type(ports),
        prog="ovs-keepalive ports",
        help="one of these; --help behind it tells its options",
    )

    audit = _verb(actions, "audit", database, "what is wrong with them, why, and the cure")
    audit.add_argument("--json", action="store_true", help="every fact as JSON")

    new = _verb(actions, "add", database, "make a port and verify it")
    new.add_argument("bridge", metavar="BRIDGE", help="with datapath_type=netdev")
    _name(new)
    _place(new)
    new.add_argument("--server", action="store_true", help="the legacy kind, which a restart of OVS strands")
    new.add_argument("--ofport", type=int, metavar="N", help="its OpenFlow number (the next free one)")
    new.add_argument("--queues", type=int, default=1, metavar="N", help="pairs of queues of the VM (1)")
    new.add_argument("--normal-flow", action="store_true", help="add a flow that forwards as a switch does")
    new.add_argument("--keep", action="store_true", help="leave a port that fails the verification, for study")
    _force(new, "also on a bridge of a controller's, and while a PMD stalls")

    gone = _verb(actions, "del", database, "take a port away")
    _name(gone)
    _force(gone, "also if a VM is connected, the bridge is a controller's, or a PMD stalls")

    moved = _verb(actions, "migrate", database, "make a client port of a legacy server port")
    _name(moved)
    _place(moved)
    moved.add_argument("--queues", type=int, default=1, metavar="N", help="pairs of queues of the VM (1)")
    _force(moved, "also if a VM is connected, the bridge is a controller's, or a PMD stalls")

    path = _verb(actions, "path", database, "whether a packet from one port reaches another")
    path.add_argument("source", metavar="A", help="the port that it comes in by")
    path.add_argument("target", metavar="B", help="the port that it should leave by")
    path.add_argument("flow", nargs="?", default="", metavar="FLOW", help="the packet, as ofproto/trace has it")


def _verb(actions: Any, name: str, database: argparse.ArgumentParser, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, parents=[database], help=text)
    return parser


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the port")


def _place(parser: argparse.ArgumentParser) -> None:
    usual = "NAME.sock in /var/lib/vhost_sockets, else in OVS's directory"
    parser.add_argument("--path", default="", metavar="P", help=f"of the VM's socket ({usual})")
    parser.add_argument("--vm-user", metavar="USER", help="as whom VMs run (as libvirt is told)")


def _force(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--force", action="store_true", help=text)
