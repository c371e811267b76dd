# SPDX-License-Identifier: Apache-2.0
"""The words of `ovs-keepalive fleet`: its verbs with their options."""

from __future__ import annotations

import argparse
from typing import Any

from ovs_keepalive.core.fleet import HostState


def add(
    verbs: Any, common: argparse.ArgumentParser, run: argparse.ArgumentParser, database: argparse.ArgumentParser
) -> None:
    """Add `fleet` and its verbs. common: options of each; run: those of a process that runs beside vswitchd; database:
    those of a verb that needs nothing but its OVSDB.
    """
    fleet: argparse.ArgumentParser = verbs.add_parser(
        "fleet",
        help="all nodes of a fleet, as ZooKeeper has them; and the agent that tells it of this one",
        description="The section fleet of the configuration says where ZooKeeper is. Exit status of status and show: 0 "
        "if all is well, 1 if a host is not or none is there, 3 if ZooKeeper cannot be reached.",
        usage="ovs-keepalive fleet agent|status|show|watch|help|forget|unmesh ...",
    )
    actions = fleet.add_subparsers(
        required=True,
        dest="action",
        metavar="ACTION",
        parser_class=type(fleet),
        prog="ovs-keepalive fleet",
        help="one of these; --help behind it tells its options",
    )
    store = type(fleet)(add_help=False)
    store.add_argument("--zookeeper", metavar="SERVERS", help="HOST:PORT,HOST:PORT,... (fleet.zookeeper)")
    cell = type(fleet)(add_help=False)
    cell.add_argument("--cell", metavar="C", help="the cell (fleet.cell)")

    actions.add_parser("agent", parents=[run, store], help="tell the fleet of this host, in the foreground")

    status = actions.add_parser("status", parents=[common, store], help="every host, the worst first")
    status.add_argument("--cell", metavar="C", help="of this cell alone")
    status.add_argument("--state", metavar="S", choices=list(map(str, HostState)), help="those in this state alone")
    status.add_argument("--json", action="store_true", help="every fact as JSON")

    show = actions.add_parser("show", parents=[common, store, cell], help="one host, also one that is GONE")
    show.add_argument("host", metavar="HOST", help="as the fleet knows it")
    show.add_argument("--json", action="store_true", help="every fact as JSON")

    watch = actions.add_parser("watch", parents=[common, store], help="a line a change, until Ctrl-C")
    watch.add_argument("--cell", metavar="C", help="of this cell alone")

    asked = actions.add_parser(
        "help",
        parents=[common, store, cell],
        help="requests for help",
        usage="ovs-keepalive fleet help [list | post KIND WHY | cancel ID | clear ID] [--node H] [--cell C] [--json]",
    )
    asked.add_argument("what", nargs="?", choices=("list", "post", "cancel", "clear"), default="list",
                       help="list them; ask for this host; take one back; let one that is stuck go on")  # fmt: skip
    asked.add_argument("words", nargs="*", metavar="WORD", help="KIND and WHY of a new one, ID of one that there is")
    asked.add_argument("--node", metavar="H", help="for whom to ask (this host)")
    asked.add_argument("--json", action="store_true", help="list them as JSON, and the last that were done")

    forget = actions.add_parser("forget", parents=[common, store, cell], help="a host that is GONE for good")
    forget.add_argument("host", metavar="HOST", help="as the fleet knows it")

    actions.add_parser(
        "unmesh",
        parents=[database],
        help="take this host's tunnels of fleet.mesh away",
        description="Removes each port, bridge and flow that bears the mark of the mesh of fleet.cell, and nothing "
        "else; first set fleet.mesh: false, and restart the agent.",
    )
