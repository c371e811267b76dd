# SPDX-License-Identifier: Apache-2.0
"""What vswitchd says of its datapaths' flows and of offload: `upcall/show`, `dpif/show`, `dpif/offload/show`,
`dpctl/offload-stats-show`.

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
# Globally enabled: true
_ENABLED = re.compile(r"Globally enabled: (true|false)")
# Behind `  - p0: port_no: 1` lines like `    rx_offload_full      : 14`
_PORT = re.compile(r"  - (\S.*): port_no: [0-9]+")
_COUNT = re.compile(r"    (\w+) *: ([0-9]{1,20})")
# Up to 3.6 `     Total                 Enqueued offloads:      0`, then the same of each thread behind `     [  0]`;
# from 3.7 on, of each provider, `    Offloaded port count:      4`
_STATISTIC = re.compile(r" +(?:Total +)?([A-Z]\S.*): +([0-9]{1,20})")


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


def enabled(text: str) -> bool | None:
    """Whether offload is on, from `dpif/offload/show`, which there is since 3.7; None of other text."""
    found = _ENABLED.match(text)
    return found[1] == "true" if found else None


def packets(text: str) -> dict[str, dict[str, int]]:
    """By datapath's port what the provider itself counts, as far as it does: `rx_offload_full` and others.

    Also from `dpif/offload/show`. A port of several providers: the sums.
    """
    found: dict[str, dict[str, int]] = {}
    counts: dict[str, int] = {}
    for line in text.split("\n"):
        if port := _PORT.fullmatch(line):
            counts = found.setdefault(port[1], {})
        elif count := _COUNT.fullmatch(line):
            counts[count[1]] = counts.get(count[1], 0) + int(count[2])
        else:
            counts = {}
    return found


def statistics(text: str) -> dict[str, int]:
    """What `dpctl/offload-stats-show` tells, by its own words: of all threads or providers together."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        if told := _STATISTIC.fullmatch(line):
            found[told[1]] = found.get(told[1], 0) + int(told[2])
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
