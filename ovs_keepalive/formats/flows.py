# SPDX-License-Identifier: Apache-2.0
"""What `ovs-ofctl dump-tables` and `dump-flows` print: how many flows a bridge has, and which ports they serve."""

from __future__ import annotations

import re
from typing import NamedTuple

#   table 0:
#     active=1, lookup=5, matched=5
#   tables 1...253: ditto
_TABLE = re.compile(r"^\s*tables? (\d{1,3})(?:\.\.\.(\d{1,3}))?(?: \(.*\))?:(.*)$")
_ACTIVE = re.compile(r"\bactive=(\d{1,18})\b")

#  cookie=0x0, table=0, priority=10,in_port=1,ip actions=output:2,resubmit(,5)
_IN_PORT = re.compile(r"\bin_port=([^,\s]+)")
_IN_TABLE = re.compile(r"\btable=(\d+)")
_OUTPUT = re.compile(r"\b(?:output|enqueue):(\d+)|\boutput\(port=(\d+)")
# Actions of which the flow alone does not tell where they lead: fields, groups, what is learned.
_ANYWHERE = re.compile(
    r"\b(?:NORMAL|FLOOD|ALL|IN_PORT|in_port)\b|\boutput(?:\(port=|:)[A-Za-z]|\b(?:group|learn|bundle|bundle_load)[:(]"
)


class Flows(NamedTuple):
    """What the flows of a bridge do with its ports."""

    total: int
    outputs: frozenset[int] = frozenset()  # ports that they send to by number …
    anywhere: bool = False  # … or by what may be any port
    inputs: frozenset[int] = frozenset()  # ports from which the first table takes packets by number …
    any_input: bool = False  # … or whatever the port


def count(text: str) -> int | None:
    """The flows of all tables together; None of text that says nothing of it."""
    total, last, known = 0, 0, False
    for line in text.splitlines():
        if (table := _TABLE.match(line)) and "ditto" in table[3]:
            total += last * max(int(table[2] or table[1]) - int(table[1]) + 1, 1)
        if active := _ACTIVE.search(line):
            last, known = int(active[1]), True
            total += last
    return total if known else None


def parse(text: str) -> Flows:
    """Every line that is a flow; others say nothing."""
    flows, outputs, inputs, anywhere, any_input = 0, set[int](), set[int](), False, False
    for line in text.splitlines():
        match, found, actions = line.rpartition("actions=")
        if not found or line.startswith(("OFPST", "NXST")):
            continue
        flows += 1
        outputs.update(int(one or other) for one, other in _OUTPUT.findall(actions))
        anywhere = anywhere or bool(_ANYWHERE.search(actions))
        table = _IN_TABLE.search(match)
        if (table is not None and int(table[1])) or actions.strip() == "drop":
            continue
        port = _IN_PORT.search(match)
        if port is None:
            any_input = True
        elif port[1].isdecimal():
            inputs.add(int(port[1]))
    return Flows(flows, frozenset(outputs), anywhere, frozenset(inputs), any_input)
