# SPDX-License-Identifier: Apache-2.0
"""What vswitchd answers about one flow: `dpctl/get-flow`, `mod-flow` and the like, `ofproto/trace`, its counters."""

from __future__ import annotations

import re
from typing import NamedTuple

from ovs_keepalive.core.offload import Hardware

# ufid:87aabf94-…, recirc_id(0),…,in_port(p0),…, packets:2, bytes:212, used:0.001s, offloaded:yes, dp:dummy, actions:p1,
#  dp-extra-info:miniflow_bits(2,3)
# recirc_id(0),in_port(1),…,ipv4(src=10.0.0.1,frag=no), packets:4, bytes:424, used:0.019s, actions:2
_PACKETS = re.compile(r", packets:([0-9]{1,20}), bytes:[0-9]{1,20}, used:")
_OFFLOADED = re.compile(r", offloaded:([a-z]+)(?:,|$)")
_ACTIONS = ", actions:"
_EXTRA = ", dp-extra-info:"
_IN_PORT = "in_port("
_NUMBER = re.compile(r"in_port\(([0-9]{1,10})\)")
_UFID = re.compile(r"ufid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}, ")
_MEGAFLOW = "Megaflow: "
_SAYS = "Datapath actions: "
# ovs-vswitchd (Open vSwitch) 4.0.0
_VERSION = re.compile(r"\(Open vSwitch\) ([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})")
_COUNTER = re.compile(r"\s*([0-9]{1,20})\s*")


class Shown(NamedTuple):
    """A flow as `get-flow` prints it."""

    key: str
    packets: int
    hardware: Hardware
    actions: str


class Verdict(NamedTuple):
    """What the OpenFlow tables do with a packet."""

    megaflow: str  # which packets are alike to them
    actions: str


def shown(text: str) -> Shown | None:
    """One flow, with or without its ufid; None of anything else."""
    line = text.strip()
    if "\n" in line:
        return None
    head, found, actions = line.rpartition(_ACTIONS)
    packets = _PACKETS.search(head)
    if not found or packets is None:
        return None
    key = _UFID.sub("", head[: packets.start()], count=1)
    offloaded = _OFFLOADED.search(head, packets.end())
    word = offloaded[1] if offloaded else ""
    known = word if word in {part.value for part in Hardware} else Hardware.NONE
    actions = actions.partition(_EXTRA)[0]
    return Shown(key, int(packets[1]), Hardware(known), actions) if key and actions else None


def numbered(key: str, in_numbers: str, names: dict[str, int]) -> str | None:
    """The whole key with its port's number, which the short one has. None if they do not fit.

    vswitchd prints a whole key of one flow with names only, and reads them too; but a port may be called `5`.
    """
    number = _NUMBER.search(in_numbers)
    head, found, rest = key.partition(_IN_PORT)
    if number is None or not found:
        return None
    known = [name for name, port in names.items() if port == int(number[1])]
    for name in (*known, number[1]):
        if rest.startswith(f"{name})"):
            return f"{head}{_IN_PORT}{number[1]}{rest[len(name) :]}"
    return None


def verdict(text: str) -> Verdict | None:
    """Of `ofproto/trace`. None if it tells none, or several: the packet goes round."""
    lines = text.splitlines()
    megaflows = [line.removeprefix(_MEGAFLOW) for line in lines if line.startswith(_MEGAFLOW)]
    actions = [line.removeprefix(_SAYS).strip() for line in lines if line.startswith(_SAYS)]
    if len(megaflows) != 1 or len(actions) != 1 or not megaflows[0] or not actions[0]:
        return None
    return Verdict(megaflows[0], actions[0])


def was_read(error: str) -> bool:
    """Whether vswitchd could read what it was told to write. Other errors tell nothing: they are of one PMD of many."""
    return "parsing " not in error and "datapath" not in error


def version(text: str) -> tuple[int, int, int] | None:
    """Of `version`."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def counter(text: str) -> int:
    """Of `coverage/read-counter`; 0 of a vswitchd that does not count it."""
    found = _COUNTER.fullmatch(text)
    return int(found[1]) if found else 0
