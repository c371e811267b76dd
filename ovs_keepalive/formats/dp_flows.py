# SPDX-License-Identifier: Apache-2.0
"""The flows in a reply of `dpctl/dump-flows -m --no-names`: tens of thousands of lines.

What changes of a line from dump to dump is its counters. What its key and its actions mean is found out once, and kept
while the line says the same. Source: lib/dpctl.c format_dpif_flow(), lib/odp-util.c odp_flow_format() and
format_odp_actions(); seen on OVS 3.1 and 4.0 (tests/golden).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ovs_keepalive.core.offload import Flow, Hardware
from ovs_keepalive.formats.trace import split

# flow-dump from pmd on cpu core: 0
# ufid:c14ff1b5-6ebd-4734-9138-a15f6ad99e7a, skb_priority(0/0),…,in_port(1),…,udp(src=1000/0,dst=0/0), packets:14,
#  bytes:1484, used:0.697s, flags:SP., offloaded:yes, dp:dummy, actions:2, dp-extra-info:miniflow_bits(4,1)
_HEADER = "flow-dump from"
_UFID = re.compile(r"ufid:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}), ")
_IN_PORT = re.compile(r"\bin_port\(([0-9]{1,10})\)")
_NUMBER = re.compile(r"[0-9]{1,10}")
_NEVER_USED = "used:never"
_OFFLOADED, _PARTIAL = "offloaded:", "offloaded:partial"
_EXTRA = ", dp-extra-info:"
_AGES = 1e10  # seconds: a flow was not used that long ago

NOTHING = ("/0", "/0x0", "/0.0.0.0", "/::", "/00:00:00:00:00:00")  # masks of what the flow does not look at
TELLING = ("eth_type", "proto", "frag", "flags", "ct_state", "tcp_flags")  # their values are a matter of support
CONNECTION = ("ct_state", "ct_zone", "ct_mark", "ct_label")
_ATTRIBUTES = 4096  # of keys, that are remembered at most
_SHORT = 28  # characters of those
_GONE = 1000  # flows, and as many as there are, whose meaning is remembered though they are gone

HOLDING = ("clone", "check_pkt_len", "gt", "le")  # actions that hold actions
KNOWN = {"drop", "meter", "trunc", "hash", "lb_output", "dec_ttl", "add_mpls", "ct_clear", "tnl_push", "output", "set"}
KNOWN |= {f"{way}_{what}" for way in ("push", "pop") for what in ("vlan", "mpls", "eth", "nsh")} | set(HOLDING)
BARRED = {
    "recirc": "recirculated",
    "ct": "ct",
    "userspace": "userspace",
    "tnl_pop": "tunnel pop",
    "sample": "sample",
    "psample": "sample",
}
# A newer OVS's, or the name of a port: what is not understood cannot be put back.
NOT_KNOWN = "an action that is not known"
NO_UFID = "no ufid"
CHANGING = "changing"  # its copies on several PMDs are not alike


class Nature(NamedTuple):
    """What a line means besides its counters."""

    actions: str  # as it says them: they may change while the key stays
    ufid: str
    netdev: str
    shape: str
    barred: str


class Scanned(NamedTuple):
    """What a dump says."""

    flows: tuple[Flow, ...]  # each once, though several PMDs have it
    unread: int  # lines that are no flow that can be read: cut, or printed by an OVS that writes them otherwise


class Scanner:
    """Remembers what the lines of the last dump meant: one for each datapath."""

    def __init__(self) -> None:
        self._natures: dict[str, Nature] = {}  # by all that stands before the counters
        self._names: Mapping[int, str] = {}
        self._attributes: dict[str, tuple[str, str]] = {}
        self._actions: dict[str, tuple[str, str]] = {}

    def scan(self, text: str, names: Mapping[int, str]) -> Scanned:
        """All flows. names: of the netdevs, by their number in the datapath. Never raises.

        One with no ufid has its key in the ufid's place.
        """
        if names != self._names:
            self._natures, self._names = {}, dict(names)
        self._actions = {}
        flows, firsts, natures = dict[str, Flow](), dict[str, Nature](), self._natures
        known, put, of, new, software = natures.get, flows.setdefault, firsts.setdefault, tuple.__new__, Hardware.NONE
        lines = text.split("\n")
        unread = int(lines.pop() != "")  # the last one ends like all others, unless it is cut
        for line in lines:
            key, _, rest = line.rpartition(", packets:")
            nature = known(key)
            try:
                count, _, age, rest = rest.split(", ", 3)
                state, found, actions = rest.partition("actions:")
                packets, used = int(count), None if age == _NEVER_USED else float(age[5:-1])
                if nature is None or nature.actions != actions:
                    nature = natures[key] = self._nature(key, actions if found else None)
                if packets >> 64 or not 0.0 <= (used or 0.0) < _AGES:
                    raise ValueError  # noqa: TRY301 -- as of any other number that is none
            except ValueError:
                unread += bool(line) and not line.startswith(_HEADER)
                continue
            hardware = software if _OFFLOADED not in state else _hardware(state)
            _, ufid, netdev, shape, barred = nature
            flow = new(Flow, (ufid, netdev, packets, used, hardware, shape, barred))  # Flow(…), at half its cost
            first, other = of(ufid, nature), put(ufid, flow)
            if other is not flow:
                flows[ufid] = _merged(other, flow, first is nature)
        if len(natures) > 2 * len(flows) + _GONE:
            self._natures = {key: nature for key, nature in natures.items() if nature.ufid in flows}
        return Scanned(tuple(flows.values()), unread)

    def _nature(self, line: str, actions: str | None) -> Nature:
        """Raises ValueError for what is no flow."""
        if not line or actions is None:
            raise ValueError(line)
        found = _UFID.match(line)
        key = line[found.end() :] if found else line
        port = _IN_PORT.search(key)
        netdev = self._name(int(port[1])) if port else ""
        fields, barred = self._key(key)
        if actions not in self._actions:
            self._actions[actions] = self._acts(actions.partition(_EXTRA)[0])
        acts, barred_too = self._actions[actions]
        why = "" if found else NO_UFID
        if not port:
            why = why or "no port"
        return Nature(
            actions, found[1] if found else key, netdev, f"{netdev} {fields} -> {acts}", why or barred or barred_too
        )

    def _name(self, number: int) -> str:
        return self._names.get(number, f"port {number}")

    def _key(self, key: str) -> tuple[str, str]:
        """Its fields, and why they bar it."""
        fields, barred, known = [], "", self._attributes
        for attribute in key.split("),"):
            told = known.get(attribute)
            if told is None:
                told = _attribute(attribute)
                if len(attribute) < _SHORT:  # a longer one is of as many kinds as there are flows
                    if len(known) >= _ATTRIBUTES:
                        known.clear()
                    known[attribute] = told
            if told[0]:
                fields.append(told[0])
            if told[1]:
                barred = told[1]
        return ",".join(fields), barred

    def _acts(self, actions: str) -> tuple[str, str]:
        """Their kinds, and why they bar it."""
        kinds, barred = [], ""
        for name, what in _kinds(actions):
            kinds.append(f"{name} {self._name(int(what))}" if name == "output" else f"{name} {what}".rstrip())
            if name not in KNOWN and not barred:
                barred = "slow path" if "slow_path" in what else BARRED.get(name, NOT_KNOWN)
        return ",".join(kinds), barred


def _attribute(text: str) -> tuple[str, str]:
    """What it looks at, with the masks, and why that bars a flow.

    `ipv4(src=10.0.0.1/0.0.0.0,dst=10.1.0.0/255.255.0.0,proto=6` is "ipv4.dst/255.255.0.0,ipv4.proto=6".
    """
    name, _, inner = text.rstrip(")}").partition("(")
    if "(" in inner and "(" in inner.partition("=")[0]:  # encap(eth_type(0x0800
        more, _, inner = inner.partition("(")
        name = f"{name}.{more}"
    fields = []
    for field in inner.split(","):
        if field.endswith(NOTHING):
            continue
        sub, _, value = field.rpartition("=")
        path = f"{name}.{sub}" if sub else name
        value, masked, mask = value.partition("/")
        if masked:
            fields.append(f"{path}/{mask}")
        elif "(" in value:  # tunnel(…,flags(-df-csum+key
            fields.append(f"{path}.{value}")
        else:
            fields.append(f"{path}={value}" if (sub or name.rpartition(".")[2]) in TELLING else path)
    if name == "in_port" or not fields:
        return "", ""
    if name == "recirc_id":
        return ("", "") if value in ("0", "0x0") else ("recirc_id", "recirculated")
    # A packet that comes in is not tracked yet: a match on just that bars nothing.
    tracked = name in CONNECTION and (value.strip("0x") if not value.startswith("-") else "+" in value)
    return ",".join(fields), "ct" if tracked else ""


def _kinds(actions: str, depth: int = 8) -> Iterator[tuple[str, str]]:
    """Each action's name, and what of it says whether it is supported: the port's number, the header that is set.

    depth: of actions in actions; what lies deeper is not known.
    """
    for part in split(actions):
        name, opened, inner = part.partition("(")
        if _NUMBER.fullmatch(part):
            yield "output", part
        elif opened and name in HOLDING:
            yield name, ""
            yield from _kinds(inner.removesuffix(")"), depth - 1) if depth else [("", "")]
        elif opened and name == "set":
            yield name, inner.partition("(")[0]
        elif not part.startswith("size="):  # of check_pkt_len
            yield name, "slow_path" if name == "userspace" and "slow_path(" in inner else ""


def _hardware(state: str) -> Hardware:
    return Hardware.PARTIAL if _PARTIAL in state else Hardware.FULL


def _merged(one: Flow, other: Flow, alike: bool) -> Flow:
    """One flow of two PMDs' copies. alike: but for their counters they say the same."""
    ages = [used for used in (one.used, other.used) if used is not None]
    return one._replace(
        packets=one.packets + other.packets,
        used=min(ages, default=None),
        hardware=max(one.hardware, other.hardware, key=list(Hardware).index),
        barred=one.barred or other.barred or ("" if alike and one.shape == other.shape else CHANGING),
    )
