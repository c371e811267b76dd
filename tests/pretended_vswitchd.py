# SPDX-License-Identifier: Apache-2.0
"""As much of vswitchd as moving flows meets: OpenFlow tables, a datapath, hardware, and the revalidators' memory of it.

It forgets nothing that the real one keeps: what somebody else writes into the datapath the revalidators do not notice
while their own memory agrees with the tables (tests/real/test_offload_writer.py shows that on a real one).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused

DATAPATH = "netdev@ovs-netdev"
UFID = "00000000-0000-0000-0000-00000000000{}"


class Says(NamedTuple):
    """What the tables do with the packets of a host: which of them are alike, and the actions."""

    mask: str
    actions: str


class DatapathFlow(NamedTuple):
    """One flow of the datapath."""

    mask: str
    actions: str
    packets: int = 0
    hardware: bool = False


class Vswitchd:
    """Hosts are numbers; each has one flow at most."""

    def __init__(self, capacity: int) -> None:
        """capacity: flows that hardware takes."""
        self.capacity = capacity
        self.tables: dict[int, Says] = {}
        self.flows: dict[int, DatapathFlow] = {}
        self.remembered: dict[int, Says] = {}  # by the revalidators
        self.said: list[str] = []  # what was asked of it
        self.counts = dict.fromkeys(("handler_duplicate_upcall", "rev_flow_table"), 0)

    def rule(self, host: int, actions: str, mask: str = "32") -> None:
        """The tables change; the revalidators follow at once, or later by revalidate()."""
        self.tables[host] = Says(mask, actions)

    def revalidate(self) -> None:
        """Compare what is remembered with the tables, and only that."""
        for host, known in tuple(self.remembered.items()):
            says = self.tables[host]
            if says.mask != known.mask or host not in self.flows:  # of a missing flow: after some rounds
                self.flows.pop(host, None)
                del self.remembered[host]
            elif says != known:
                self.flows[host] = self.flows[host]._replace(actions=says.actions)
                self.remembered[host] = says
        for host, flow in tuple(self.flows.items()):
            if host not in self.remembered:  # of somebody else: looked at as a whole
                self.remembered[host] = Says(flow.mask, flow.actions)
                if self.remembered[host] != self.tables[host]:
                    del self.flows[host], self.remembered[host]

    def packet(self, host: int) -> None:
        """One comes; where there is no flow one is installed, unless one is remembered."""
        if host in self.flows:
            self.flows[host] = self.flows[host]._replace(packets=self.flows[host].packets + 1)
        elif host not in self.remembered:
            says = self.remembered[host] = self.tables[host]
            self.flows[host] = DatapathFlow(says.mask, says.actions, 0, self._room())

    def answer(self, method: str, *arguments: str) -> str:
        """One command. Raises Refused."""
        self.said.append(method)
        match method, arguments:
            case "version", ():
                return "ovs-vswitchd (Open vSwitch) 4.0.0\n"
            case "dpctl/dump-dps", ():
                return f"{DATAPATH}\n"
            case "coverage/read-counter", (name,):
                return f"{self.counts[name]}\n"
            case "dpif/show", ():
                return f"{DATAPATH}: hit:0 missed:0\n  br0:\n    p0 1/1: (dpdk)\n"
            case "dpctl/get-flow", (first, ufid):
                return self._shown(_host(ufid), whole=first == "-m")
            case "ofproto/trace", ("ovs-netdev", key):
                says = self.tables[int(key.partition("src=")[2].partition("/")[0])]
                return (
                    f"Flow: udp\n\nFinal flow: unchanged\nMegaflow: ip,{says.mask}\nDatapath actions: {says.actions}\n"
                )
            case "dpctl/del-flow", ("netdev@ovs-netdev", ufid):
                self.flows.pop(_host(ufid), None)
            case "dpctl/mod-flow" | "dpctl/add-flow", ("netdev@ovs-netdev", flow, actions):
                self._put(flow, actions, new=method.endswith("add-flow"))
            case _:
                raise AssertionError(f"{method} {arguments}")
        raise Refused("ovs-vswitchd: updating flow table (No such file or directory)")  # whatever it has done

    def _shown(self, host: int, *, whole: bool) -> str:
        flow = self.flows.get(host)
        if flow is None:
            raise Refused("ovs-vswitchd: getting flow (No such file or directory)")
        port, start = ("p0", f"ufid:{UFID.format(host)}, ") if whole else ("1", "")
        flags = "offloaded:yes, dp:dpdk, " if whole and flow.hardware else ""
        key = f"{start}recirc_id(0),in_port({port}),eth(),ipv4(src={host}/{flow.mask})"
        return f"{key}, packets:{flow.packets}, bytes:0, used:never, {flags}actions:{flow.actions}\n"

    def _put(self, text: str, actions: str, *, new: bool) -> None:
        if not actions.replace(",", "").isdecimal() and actions != "drop":
            raise Refused("ovs-vswitchd: parsing actions (Invalid argument)")
        host = _host(text)
        assert "in_port(1)" in text
        flow = self.flows.get(host)
        if new and flow is None:
            mask = text.partition(f"src={host}/")[2].partition(")")[0]
            self.flows[host] = DatapathFlow(mask, actions, 0, self._room())
        elif not new and flow is not None:
            self.flows[host] = flow._replace(actions=actions, hardware=flow.hardware or self._room())

    def _room(self) -> bool:
        return sum(flow.hardware for flow in self.flows.values()) < self.capacity


def _host(text: str) -> int:
    return int(text.removeprefix("ufid:")[35])


class Killed(BaseException):
    """The process that acts is no more."""


class Line(AppctlClient):
    """A connection to it. before, after: called with the number of each request, when it is made, when it is done."""

    def __init__(
        self, vswitchd: Vswitchd, before: Callable[[int], None] = lambda _: None,
        after: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        super().__init__(Path("vswitchd.ctl"))
        self._vswitchd, self._before, self._after = vswitchd, before, after
        self.requests = 0
        self.silent = False
        self._answer: str | Refused = ""

    def ask(self, method: str, *arguments: str) -> None:
        """Done at once."""
        self.requests += 1
        self._before(self.requests)
        if self.silent:
            raise NoAnswer("vswitchd.ctl: connection refused: the process that made this socket has ended")
        try:
            self._answer = self._vswitchd.answer(method, *arguments)
        except Refused as error:
            self._answer = error
        self._after(self.requests)

    def receive(self) -> str | None:
        """The answer."""
        if isinstance(self._answer, Refused):
            raise self._answer
        return self._answer
