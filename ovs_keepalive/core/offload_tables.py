# SPDX-License-Identifier: Apache-2.0
"""The tables of the hardware: who is in them, who waits, how many they hold, and the best that they could hold.

How many a table holds is known, in this order, because a try was refused, because a person set it, or because a flow
waits though others of its shape are in hardware: then it was full once. OVS tells nobody that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core import offload_rates as rates
from ovs_keepalive.core.offload import Dump, Facts, Flow, Hardware, Limits, Rate, Refusal, Table, Watch


class Known(NamedTuple):
    """A flow and its rate."""

    flow: Flow
    rate: Rate


class Group(NamedTuple):
    """One table and the flows that are in it, or might be."""

    netdevs: tuple[str, ...]
    table: Table
    capacity: int | None  # flows that it holds; None: no limit is known
    proven: bool  # a person set the limit, or a try met it; else it is only learned
    fixed: tuple[Known, ...]  # in hardware, and never touched
    held: tuple[Known, ...]  # in hardware
    pending: tuple[Known, ...]  # in software, and might be in hardware
    waiting: tuple[Known, ...]  # those of them that have packets and prove that there is not enough hardware

    @property
    def room(self) -> int | None:
        """Free slots; None where no limit is known."""
        return None if self.capacity is None else max(0, self.capacity - self.table.flows)


def name_of(netdev: str, groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The netdevs that share a table with it."""
    return next((group for group in groups if netdev in group), (netdev,))


def grouped(watch: Watch, dump: Dump, limits: Limits, facts: Facts) -> tuple[Group, ...]:
    """Every table, by a watch that has taken in the flows of the dump."""
    names: dict[str, tuple[str, ...]] = {}
    flows: dict[tuple[str, ...], list[Known]] = {name_of(netdev, limits.groups): [] for netdev in facts.netdevs}
    for ufid, flow in {flow.ufid: flow for flow in dump.flows}.items():
        if not ufid or not flow.netdev:
            continue
        if (name := names.get(flow.netdev)) is None:
            name = names[flow.netdev] = name_of(flow.netdev, limits.groups)
        flows.setdefault(name, []).append(Known(flow, watch.rates[ufid]))
    return tuple(_group(name, flows[name], watch, limits, facts.at.mono) for name in sorted(flows))


def _group(name: tuple[str, ...], flows: list[Known], watch: Watch, limits: Limits, now: float) -> Group:
    there = [one for one in flows if one.flow.hardware is not Hardware.NONE]
    refused = {which for which, refusal in watch.refused.items() if believed(refusal, now)}
    pending = [
        one
        for one in flows
        if one.flow.hardware is Hardware.NONE
        and not one.flow.barred
        and not (refused and (one.flow.shape in refused or one.flow.ufid in refused))
    ]
    table = _seen(watch.tables.get(name, Table()), len(there))
    active = [one for one in pending if rates.low(one.rate) > 0.0]
    twins = [one for one in active if one.flow.shape in watch.taken]
    if twins and limits.capacity is None:
        table = table._replace(learned=table.peak)
    met = table.full if believed(table.refusal, now) else None
    set_or_learned = limits.capacity if limits.capacity is not None else table.learned
    capacity = min((limit for limit in (met, set_or_learned) if limit is not None), default=None)
    proven = met is not None or limits.capacity is not None
    # What was never in hardware may be of a kind that it does not take: it proves nothing while there is room.
    full = proven and capacity is not None and len(there) >= capacity
    return Group(
        name,
        table,
        capacity,
        proven,
        tuple(one for one in there if one.flow.barred),
        tuple(one for one in there if not one.flow.barred),
        tuple(pending),
        tuple(active if full else twins),
    )


def _seen(table: Table, flows: int) -> Table:
    """The table with so many flows in it: more than it could hold refutes what was learned of it."""
    if table.learned is not None and flows > table.learned:
        table = table._replace(learned=None)
    if table.full is not None and flows > table.full:
        table = table._replace(full=None, refusal=None)
    return table._replace(flows=flows, peak=max(flows, table.peak))


def believed(refusal: Refusal | None, now: float) -> bool:
    """Whether what was refused is not to be tried again yet."""
    return refusal is not None and now < refusal.until


def best(group: Group, taken: frozenset[str]) -> Mapping[str, float]:
    """Packets per second in hardware, by netdev, if the table held the fastest flows of those that it can hold."""
    found = dict.fromkeys(group.netdevs, 0.0)
    for one in group.fixed:
        found[one.flow.netdev] += one.rate.smooth
    # Without a limit only what is of a shape that was in hardware is known to be taken.
    able = group.pending if group.proven else [one for one in group.pending if one.flow.shape in taken]
    # Of flows as fast as each other those that are there come first.
    order = sorted((*group.held, *able), key=lambda one: one.rate.smooth, reverse=True)
    slots = len(order) if group.capacity is None else max(0, group.capacity - len(group.fixed))
    for one in order[:slots]:
        found[one.flow.netdev] += one.rate.smooth
    return found
