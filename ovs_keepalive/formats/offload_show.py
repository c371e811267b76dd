# SPDX-License-Identifier: Apache-2.0
"""What vswitchd says of its datapaths' flows and devices: `upcall/show`, `dpif/show`.

Each reader is lenient: what it cannot read it leaves out, and it never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ovs_keepalive.formats.trace import datapath_numbers

# dummy@ovs-dummy:                                   or, in dpif/show: dummy@ovs-dummy: hit:66 missed:10
_DATAPATH = re.compile(r"([a-z0-9_-]+@\S+):(?: hit:[0-9]+ missed:[0-9]+)?")
#   flows         : (current 10) (avg 9) (max 10) (limit 10000)
_FLOWS = re.compile(r"\n +flows +: \(current ([0-9]{1,12})\).* \(limit ([0-9]{1,12})\)")
#   dump duration : 1ms
_DURATION = re.compile(r"\n +dump duration : ([0-9]{1,12})ms")


class Upcalls(NamedTuple):
    """Of one datapath."""

    flows: int  # now; one that several PMDs have counts as often
    limit: int
    dump: float | None  # seconds that the revalidators' last round took


def upcalls(text: str) -> dict[str, Upcalls]:
    """By datapath, `dummy@ovs-dummy`, from `upcall/show`."""
    found = {}
    for name, section in _sections(text):
        if flows := _FLOWS.search(section):
            took = _DURATION.search(section)
            found[name] = Upcalls(int(flows[1]), int(flows[2]), int(took[1]) / 1000 if took else None)
    return found


def netdevs(text: str) -> dict[str, dict[int, str]]:
    """By datapath and number in it the netdev, from `dpif/show`.

    Tunnel ports share a number: the first of the names stands for them, with the count of the others.
    """
    found = {}
    for name, section in _sections(text):
        names: dict[int, list[str]] = {}
        for netdev, number in datapath_numbers(section).items():
            names.setdefault(number, []).append(netdev)
        found[name] = {
            number: min(those) + (f"+{len(those) - 1}" if len(those) > 1 else "") for number, those in names.items()
        }
    return found


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """The datapaths, each with the lines below it."""
    name, lines = "", list[str]()
    for line in text.split("\n"):
        if line and not line.startswith(" "):
            if name:
                yield name, "\n".join(lines)
            header = _DATAPATH.fullmatch(line)
            name, lines = header[1] if header else "", [""]
        else:
            lines.append(line)
    if name:
        yield name, "\n".join(lines)
