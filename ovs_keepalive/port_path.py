# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive ports path A B [FLOW]`: whether a packet from A reaches B, by the switch's own `ofproto/trace`.

It asks only: no packet is sent, nothing is learned or changed.
"""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple, TextIO

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.port_plan import Bridge, Iface, Switch
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.trace import Rule, Trace, datapath_numbers, parse_trace
from ovs_keepalive.port_ask import Refused, Vswitchd
from ovs_keepalive.sensors.openflow import NoFlows, Ofctl

# To everybody, from an address that no VM has: what a switch does with it depends on flows, not on what it learned.
BROADCAST = "dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff"
LONGEST_FLOW = 1000  # characters
_IN_PORT = re.compile(r"\bin_port\b")


class End(NamedTuple):
    """A port, and where it is."""

    bridge: Bridge
    iface: Iface


def tell(switch: Switch, vswitchd: Vswitchd, options: argparse.Namespace, out: TextIO) -> bool:
    """Whether it reaches; the lines that say why go to `out`. Raises Refused."""
    flow = _flow(options.flow)
    source, target = _end(switch, "A", options.source), _end(switch, "B", options.target)
    if source.iface.name == target.iface.name:
        raise Refused(f"A and B are both {short(source.iface.name)}: a switch sends nothing back: name two ports")
    text = vswitchd.ask("ofproto/trace", source.bridge.name, f"in_port={source.iface.ofport},{flow}")
    number = datapath_numbers(vswitchd.ask("dpif/show")).get(target.iface.name)
    if number is None:
        raise Refused(
            f"B {short(target.iface.name)}: vswitchd does not list it in dpif/show: does it hang on a datapath?"
        )
    trace = parse_trace(text)
    if not trace.rules:
        raise Refused(f"ofproto/trace: says no flow that could be read: {short(one_line(text))}", 3)
    reaches = number in trace.outputs
    verb = "reaches" if reaches else "does not reach"
    lines = [f"A packet from {source.iface.name} {verb} {target.iface.name} ({flow})."]
    lines += _decision(trace, switch, vswitchd)
    if not reaches:
        lines += _missing(trace, source, target)
    for line in lines:
        print(one_line(line), file=out)
    return reaches


def _flow(text: str) -> str:
    if len(text) > LONGEST_FLOW or not text.isprintable():
        raise Refused(f"FLOW {short(one_line(text))}: write it as ovs-ofctl does, at most {LONGEST_FLOW} characters")
    if _IN_PORT.search(text):
        raise Refused(f"FLOW {short(text)}: in_port is A's: leave it out")
    return text.strip(", ") or BROADCAST


def _end(switch: Switch, which: str, name: str) -> End:
    for bridge in switch.bridges:
        for iface in (iface for port in bridge.ports for iface in port.interfaces):
            if iface.name == name:
                if iface.ofport is None or iface.ofport < 1:
                    why = iface.error or "vswitchd has not opened it"
                    raise Refused(f"{which} {short(name)}: has no ofport: {why}")
                return End(bridge, iface)
    raise Refused(f"{which} {short(name)}: no such port: see ovs-vsctl show")


def _decision(trace: Trace, switch: Switch, vswitchd: Vswitchd) -> list[str]:
    rule = trace.decided
    if rule is None or rule.missed:
        return []
    actions = "; ".join(rule.actions) or "drop"
    return [
        f"The flow that decides: {rule}: {actions}",
        f"Packets that it has matched: {_count(rule, switch, vswitchd)}",
    ]


def _count(rule: Rule, switch: Switch, vswitchd: Vswitchd) -> str:
    if switch.bridge(rule.bridge) is None:
        return "unknown: its bridge is not in the database"
    try:
        count = Ofctl(vswitchd.rundir, rule.bridge).packets(rule)
    except NoFlows as error:
        return f"unknown: {error}"
    return "unknown: it is not among the flows of ovs-ofctl dump-flows" if count is None else str(count)


def _missing(trace: Trace, source: End, target: End) -> list[str]:
    """What would have to be there."""
    rule, there = trace.decided, target.bridge.name
    if source.bridge.name != there and len({rule.bridge for rule in trace.rules}) == 1:
        whose = f"{target.iface.name} is on {there}, and the packet stays on {source.bridge.name}"
        return [f"Missing: {whose}: a pair of patch ports, and flows to them."]
    cure = f"ovs-ofctl add-flow {there} in_port={source.iface.ofport},actions=output:{target.iface.ofport}"
    if rule is None or rule.missed:
        return [f"Missing: {rule or 'a flow that matches'}. For example: {cure}"]
    if not trace.outputs:
        return [f"Missing: that flow sends it nowhere, and none of a higher priority matches. For example: {cure}"]
    others = f"Missing: that flow sends it to {len(trace.outputs)} other ports"
    return [f"{others}; see VLANs (ovs-vsctl show: tag, trunks) and addresses (ovs-appctl fdb/show {there})."]
