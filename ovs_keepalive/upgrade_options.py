# SPDX-License-Identifier: Apache-2.0
"""The options of the verbs that upgrade, apart from what they do: the command line loads them for every verb."""

from __future__ import annotations

import argparse
from typing import Any

LONGEST_RESTART = 3600  # seconds


def add_watch(verbs: Any, database: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add `upgrade-watch`; its parser, to which the caller says what runs it."""
    parser: argparse.ArgumentParser = verbs.add_parser(
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
    return parser


def _seconds(text: str) -> float:
    seconds = float(text) if text.replace(".", "", 1).isdecimal() else 0.0
    if not 0.0 < seconds <= LONGEST_RESTART:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, above 0 and up to {LONGEST_RESTART}")
    return seconds
