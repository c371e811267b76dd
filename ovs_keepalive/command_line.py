# SPDX-License-Identifier: Apache-2.0
"""The words of the command line: every verb with its options. The man page and the completion are made of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from ovs_keepalive import __version__, fleet_options, port_options

WELL, UNHEALTHY, USAGE, UNREACHABLE = 0, 1, 2, 3  # exit statuses (CONTRACT section 6)
LONGEST_RESTART = 3600  # seconds


class Problem(Exception):
    """Ends a verb: the line to print and the exit status."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message}: see {self.prog} --help", USAGE)


def command_line() -> argparse.ArgumentParser:
    """Every verb with its options: the man page and the completion are made of it."""
    parser = _Parser(prog="ovs-keepalive", description="Tells whether each PMD thread of Open vSwitch is alive.")
    parser.add_argument("--version", action="version", version=f"ovs-keepalive {__version__}")
    verbs = parser.add_subparsers(required=True, dest="verb", metavar="VERB", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--config", type=Path, metavar="F", help="configuration file (/etc/ovs-keepalive/config.yaml)")
    database = _Parser(add_help=False, parents=[common])
    database.add_argument("--ovsdb", metavar="REMOTE", help="database (unix:$OVS_RUNDIR/db.sock)")

    run = verbs.add_parser("run", parents=[database], help="the daemon, in the foreground")
    run.add_argument("--vswitchd-pidfile", type=Path, metavar="F", help="any ovs-vswitchd*.pid in $OVS_RUNDIR")
    run.add_argument("--web-listen", metavar="HOST:PORT|off", help="page, metrics and JSON (127.0.0.1:9811)")
    run.add_argument("--pidfile", type=Path, metavar="F", help="$OVS_RUNDIR/ovs-keepalive.pid")
    run.add_argument("--log-file", nargs="?", const="", metavar="F", help="log to a file too")
    run.add_argument("-v", "--verbose", action="append", default=[], nargs="?", const="dbg", metavar="SPEC",
                     help="log more: dbg, or MODULE:FACILITY:LEVEL as OVS has it")  # fmt: skip

    show = verbs.add_parser("show", parents=[common], help="health at a glance")
    show.add_argument("--watch", action="store_true", help="go on: one screen, or a line a change without a terminal")
    show.add_argument("--json", action="store_true", help="the node document; with --watch a line at each change")

    schema = verbs.add_parser("schema", parents=[database], help="the columns in a running ovsdb-server")
    schema.add_argument("action", choices=("status", "apply", "revert"), help="compare, add or take away")

    port_options.add(verbs, database)
    _add_offload(verbs, common)
    _add_fleet(verbs, common, database)
    _add_incident(verbs, common)

    verbs.add_parser(
        "collectd",
        parents=[database],
        help="tells collectd what the columns say",
        description="A child of collectd's exec plugin: values and notifications on stdout, every "
        "COLLECTD_INTERVAL seconds, of the host COLLECTD_HOSTNAME. It ends when collectd does.",
    )

    _add_upgrade_watch(verbs, database)

    check = verbs.add_parser("check-config", parents=[common], help="check a configuration file")
    check.add_argument("--default", action="store_true", help="print the commented default file instead")

    doctor = verbs.add_parser(
        "doctor",
        parents=[database],
        help="what keeps the daemon from seeing, and the cure",
        description="A line a check: OK, WARN or FAIL, with the cure; run it as the daemon's user. Exit status: 1 if a "
        "line says FAIL, 3 if the database cannot be reached, else 0.",
    )
    doctor.add_argument("--vswitchd-pidfile", type=Path, metavar="F", help="any ovs-vswitchd*.pid in $OVS_RUNDIR")

    sandbox = verbs.add_parser("sandbox", parents=[common], help="a private real OVS with PMD threads, watched",
                               usage="ovs-keepalive sandbox [--pmds N] [--keep] [-- COMMAND]\n"
                                     "       ovs-keepalive sandbox fault PMD stop|resume")  # fmt: skip
    sandbox.add_argument("--pmds", type=int, default=4, metavar="N", help="PMD threads (4)")
    sandbox.add_argument("--keep", action="store_true", help="keep the directory with its logs")
    sandbox.add_argument("command", nargs="*", metavar="COMMAND", help="ends the sandbox when it ends")

    web = verbs.add_parser(
        "web",
        parents=[common],
        help="the fleet's page, in the foreground",
        description="Read-only: page, JSON and metrics of all hosts of the fleet, from its store alone (section fleet "
        "of the configuration). Needs the extras fleet and web.",
    )
    web.add_argument("--web-listen", default="127.0.0.1:9812", metavar="HOST:PORT", help="where (127.0.0.1:9812)")
    web.add_argument("--cell", action="append", default=[], metavar="C", help="only this cell; may be repeated (all)")

    upgrade = verbs.add_parser("upgrade", parents=[common], help="hand the running daemon's work over to a new one")
    upgrade.add_argument("python", nargs="?", metavar="PYTHON", help="its interpreter (the one that runs the daemon)")

    _add_install(verbs)
    return parser


def _add_offload(verbs: Any, common: _Parser) -> None:
    parser = verbs.add_parser(
        "offload",
        parents=[common],
        help="flows in hardware: how well it is used, what would be better, and the leave to move them",
        usage="ovs-keepalive offload show|plan|arm [MINUTES]|disarm [--json] [--config F]",
        description="Exit status of show: 1 while a device has too few slots or does not use them, else 0. arm lets "
        "flows be moved, where other_config:keepalive-offload=act and the configuration has offload.allow-act: true.",
    )
    parser.add_argument("action", choices=("show", "plan", "arm", "disarm"), help="what to tell, or to allow")
    parser.add_argument("minutes", nargs="?", metavar="MINUTES", help="for arm (60)")
    parser.add_argument("--json", action="store_true", help="the daemon's answer as JSON")


def _add_fleet(verbs: Any, common: _Parser, database: _Parser) -> None:
    agent = _Parser(add_help=False, parents=[database])
    agent.add_argument("--vswitchd-pidfile", type=Path, metavar="F", help="any ovs-vswitchd*.pid in $OVS_RUNDIR")
    agent.add_argument("--log-file", nargs="?", const="", metavar="F", help="log to a file too")
    agent.add_argument("-v", "--verbose", action="append", default=[], nargs="?", const="dbg", metavar="SPEC",
                       help="log more: dbg, or MODULE:FACILITY:LEVEL as OVS has it")  # fmt: skip
    fleet_options.add(verbs, common, agent, database)


def _add_incident(verbs: Any, common: _Parser) -> None:
    usage = "ovs-keepalive incident [show N | export N [--output F]] [--json] [--state-dir D] [--config F]"
    parser = verbs.add_parser("incident", parents=[common], help="the black-box records", usage=usage)
    parser.add_argument("action", nargs="?", choices=("list", "show", "export"), default="list",
                        help="a line each, or one of them, readable or as its file")  # fmt: skip
    parser.add_argument("number", nargs="?", type=int, metavar="N", help="of the record")
    parser.add_argument("--json", action="store_true", help="list or show it as JSON")
    parser.add_argument("--output", type=Path, metavar="F", help="export to this file (stdout)")
    parser.add_argument("--state-dir", type=Path, metavar="D", help="where they are (state-dir of the configuration)")


def _add_install(verbs: Any) -> None:
    where = _Parser(add_help=False)
    where.add_argument("--root", type=Path, metavar="DIR", help="a tree to work on instead of this host")
    where.add_argument("--prefix", type=Path, default=Path("/usr/local"), metavar="DIR",
                       help="where all but the configuration lies (/usr/local)")  # fmt: skip
    parser = verbs.add_parser("install", parents=[where], help="put unit, user, configuration and man pages in place")
    parser.add_argument("--systemd", action="store_true", required=True, help="for systemd; there is no other way")
    parser.add_argument("--umask", action="store_true", help="Open vSwitch's sockets for the group, no capability")
    parser.add_argument("--user", metavar="NAME", help="the user that Open vSwitch has of its own, as on RHEL")
    parser.add_argument("--full-causes", action="store_true", help="with CAP_SYS_PTRACE and CAP_PERFMON")
    verbs.add_parser("uninstall", parents=[where], help="take away what install put in place")


def _add_upgrade_watch(verbs: Any, database: _Parser) -> None:
    parser = verbs.add_parser(
        "upgrade-watch",
        parents=[database],
        help="announce a restart of vswitchd, run the command that makes it, report what it broke",
        description="It tells first how long such restarts broke on this host. Exit status: 0 only if all came back.",
        usage="ovs-keepalive upgrade-watch [--max-break S] [--deadline S] [--json] -- COMMAND",
    )
    parser.add_argument("--max-break", type=_seconds, metavar="S", help="begin only if no earlier one broke for longer")
    parser.add_argument("--deadline", type=_seconds, default=120.0, metavar="S", help="for all to be back (120)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="that restarts it, such as ovs-ctl restart")


def _seconds(text: str) -> float:
    seconds = float(text) if text.replace(".", "", 1).isdecimal() else 0.0
    if not 0.0 < seconds <= LONGEST_RESTART:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, above 0 and up to {LONGEST_RESTART}")
    return seconds
