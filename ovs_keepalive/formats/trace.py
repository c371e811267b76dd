# SPDX-License-Identifier: Apache-2.0
"""What vswitchd and ovs-ofctl answer about the way of a packet: `ofproto/trace`, `dpif/show`, `dump-flows`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# 'bridge("br0")' then ' 0. in_port=1,dl_vlan=100, priority 9000, cookie 0x5adc15c0' then '    output:2'
# '10. No match.' … 'Datapath actions: 2,3'
_BRIDGE = re.compile(r'bridge\("(.*)"\)')
_RULE = re.compile(r" ?([0-9]{1,3})\. (.*)")
_PRIORITY = re.compile(r"(?:(.*), )?priority ([0-9]{1,5})(?:, cookie 0x[0-9a-f]+)?")
_ACTIONS = "Datapath actions: "
_NO_MATCH = "No match"
_FORWARDS = ("output:", "NORMAL", "FLOOD", "ALL", "group:", "enqueue:", "in_port", "LOCAL", "bundle(", "clone(")
#     br0 65534/1: (tap)
_PORT = re.compile(r"\s+(\S.*) ([0-9]{1,5})/([0-9]{1,10}|none): \(.*")
#  cookie=0x0, duration=1.2s, table=0, n_packets=5, n_bytes=300, priority=10,in_port=1 actions=output:2
_FLOW = re.compile(r"n_packets=([0-9]{1,20}), .*?(?:, |\s)(\S+) actions=")
_COUNT = re.compile(r"flow_count=([0-9]{1,12})\b")
DEEPEST = 32  # levels of actions within actions that are followed
_DEFAULT_PRIORITY = 32768  # dump-flows leaves it out
_INNER = ("clone", "sample", "actions", "check_pkt_len", "gt", "le")  # of the datapath: they hold actions


class Rule(NamedTuple):
    """A flow that a traced packet hit, or a table in which it hit none."""

    bridge: str
    table: int
    match: str  # as ovs-ofctl writes it; "" matches all
    priority: int
    actions: tuple[str, ...]
    missed: bool = False

    @property
    def forwards(self) -> bool:
        """Whether one of its actions sends the packet somewhere."""
        return any(action.startswith(_FORWARDS) for action in self.actions)

    def __str__(self) -> str:
        where = f"table {self.table} of {self.bridge}"
        if self.missed:
            return f"no flow in {where}"
        match = f"{self.match}," if self.match else ""
        return f"{match}priority={self.priority} in {where}"


class Trace(NamedTuple):
    """The way of one packet."""

    rules: tuple[Rule, ...]  # in the order in which it hit them
    outputs: frozenset[int]  # of the datapath's numbers of ports; it is sent to each

    @property
    def decided(self) -> Rule | None:
        """The last flow that sent the packet somewhere; where none did, the last one that it hit."""
        forwarding = [rule for rule in self.rules if rule.forwards]
        return (forwarding or list(self.rules) or [None])[-1]  # type: ignore[list-item]


def parse_trace(text: str) -> Trace:
    """What `ofproto/trace` answered, recirculated parts too. Never raises: of other text there are no rules."""
    rules: list[Rule] = []
    outputs: set[int] = set()
    bridge = ""
    for line in text.splitlines():
        if found := _BRIDGE.fullmatch(line.strip()):
            bridge = found[1]
        elif found := _RULE.fullmatch(line.rstrip()):
            rules.append(_rule(bridge, int(found[1]), found[2]))
        elif line.startswith(_ACTIONS):
            outputs |= set(_outputs(line.removeprefix(_ACTIONS)))
        elif rules and line.startswith("    "):
            last = rules[-1]
            rules[-1] = last._replace(actions=(*last.actions, line.strip()))
    return Trace(tuple(rules), frozenset(outputs))


def _rule(bridge: str, table: int, text: str) -> Rule:
    found = _PRIORITY.fullmatch(text)
    if found is None:
        return Rule(bridge, table, "", 0, (), missed=text.startswith(_NO_MATCH))
    return Rule(bridge, table, found[1] or "", int(found[2]), ())


def _outputs(actions: str, levels: int = DEEPEST) -> Iterator[int]:
    """The ports to which the datapath's actions send: plain numbers, also in actions that hold others."""
    if not levels:
        return
    for part in split(actions.strip()):
        name, opened, inner = part.partition("(")
        if part.isdecimal():
            yield int(part)
        elif opened and name in _INNER:
            yield from _outputs(inner.removesuffix(")"), levels - 1)


def split(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no brackets."""
    depth, part = 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            yield part
            part = ""
        else:
            part += char
    yield part


def datapath_numbers(text: str) -> dict[str, int]:
    """By the name of a port its number in the datapath, from `dpif/show`. Patch ports have none."""
    found = (_PORT.fullmatch(line) for line in text.splitlines())
    return {match[1]: int(match[3]) for match in found if match and match[3] != "none"}


def packets(text: str, rule: Rule) -> int | None:
    """The packets that a flow has matched, from `ovs-ofctl dump-flows`; None if it is not there."""
    wanted = rule.priority, frozenset(split(rule.match))
    for line in text.splitlines():
        found = _FLOW.search(line)
        if found is not None:
            fields = frozenset(split(found[2]))
            priority = next((field for field in fields if field.startswith("priority=")), "")
            told = priority.partition("=")[2]
            number = int(told) if told.isdecimal() else _DEFAULT_PRIORITY
            if (number, fields - {priority} or frozenset({""})) == wanted:
                return int(found[1])
    return None


def flow_count(text: str) -> int | None:
    """The number of flows that `ovs-ofctl dump-aggregate` counted; None if it says none."""
    found = _COUNT.search(text)
    return int(found[1]) if found else None
