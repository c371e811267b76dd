# SPDX-License-Identifier: Apache-2.0
"""Tens of thousands of flows in the datapath of a real Open vSwitch, each made by a packet of its own."""

from __future__ import annotations

import re
import time
from typing import Protocol

# Actions that make a flow of each packet: what is copied of it is looked at.
RULE = "in_port={},ip,actions=move:NXM_OF_IP_DST[]->NXM_NX_REG0[],move:NXM_OF_IP_SRC[]->NXM_NX_REG1[],output:{}"
PACKET = (
    "in_port(1),eth(src=02:00:00:00:00:03,dst=02:00:00:00:00:01),eth_type(0x0800),"
    "ipv4(src=10.7.{high}.{low},dst=10.9.{low}.{high},proto=17,tos=0,ttl=64,frag=no),udp(src=7,dst=9)"
)
AT_ONCE = 80  # packets: a dummy port keeps 100 that its PMD has not come to
ROOM = 1000  # flows below the limit at which vswitchd begins to take away what was not used for 100 ms
DRAINED = 0.05  # seconds in which the PMD comes to what was sent; what it lost is sent again
_MADE = re.compile(r"ipv4\(src=10\.7\.([0-9]+)\.([0-9]+),")
_LIMIT = re.compile(r"\(current ([0-9]+)\).*\(limit ([0-9]+)\)")


class Asks(Protocol):
    """Whoever hands commands to the control socket, all at once; for each "result" or "error", and the text."""

    def __call__(self, *commands: tuple[str, ...]) -> list[tuple[str, str]]:
        """The replies."""


def make(ask: Asks, port: str, number: int, seconds: float) -> None:
    """Have so many flows from a port that RULE holds for. vswitchd raises its own limit, by 1000 in half a second."""
    until = time.monotonic() + seconds
    while missing := sorted(set(range(number)) - _made(ask)):
        for start in range(0, len(missing), AT_ONCE):
            if time.monotonic() > until:
                raise TimeoutError(f"{len(missing) - start} of {number} flows are missing after {seconds:g} s")
            part = missing[start : start + AT_ONCE]
            current, limit = _flows(ask)
            while current + ROOM > limit and time.monotonic() < until:
                time.sleep(0.1)
                current, limit = _flows(ask)
            packets = [PACKET.format(high=one >> 8, low=one & 0xFF) for one in part]
            [(kind, said)] = ask(("netdev-dummy/receive", port, *packets))
            assert kind == "result", said
            _wait(ask, current + len(part))


def _made(ask: Asks) -> set[int]:
    found = _MADE.findall(ask(("dpctl/dump-flows", "-m", "--no-names"))[0][1])
    return {int(high) << 8 | int(low) for high, low in found}


def _flows(ask: Asks) -> tuple[int, int]:
    found = _LIMIT.search(ask(("upcall/show",))[0][1])
    return (int(found[1]), int(found[2])) if found else (0, ROOM)


def _wait(ask: Asks, wanted: int) -> None:
    until = time.monotonic() + DRAINED
    while _flows(ask)[0] < wanted and time.monotonic() < until:
        time.sleep(0.002)
