# SPDX-License-Identifier: Apache-2.0
"""From one round to the next: a look, and what is remembered, become what is said and what is planned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ovs_keepalive.core import offload_rates, offload_states, offload_tables
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.offload import (
    Damping,
    Dump,
    Facts,
    Hardware,
    Limits,
    Netdev,
    Plan,
    Rate,
    Refusal,
    Round,
    Table,
    Told,
    Tried,
    Watch,
)
from ovs_keepalive.core.offload_plan import MINUTE, plan
from ovs_keepalive.core.offload_states import Case
from ovs_keepalive.core.offload_tables import Group, Known

SOON = 300.0  # seconds within which a flow that moves again is damped
LONGEST = 3600.0  # seconds for which a flow stays, or a refusal is believed, at most
EFFORTS = 5  # rounds of tries after which something has to be better than it was before them
SHAPES = 4096  # shapes remembered; beyond that only those that are in hardware now


def follow(watch: Watch, dump: Dump | None, limits: Limits, facts: Facts) -> Told:
    """What is remembered, said and planned after this look. Without a dump the rates wait for the next one."""
    if facts.process != watch.process:
        watch = Watch(facts.process, rounds=watch.rounds)
    if dump is None:
        return _told(watch, facts.netdevs or watch.rounds, (), Plan(facts.at, (), (), 0.0), facts)
    watch = _taken_in(watch, dump, limits)
    groups = offload_tables.grouped(watch, dump, limits, facts)
    watch = watch._replace(tables={group.netdevs: group.table for group in groups})
    nothing = facts.rebalanced or not facts.enabled or not watch.offloads
    moves = plan(() if nothing else groups, watch, limits, facts)
    return _told(watch, {*facts.netdevs, *(flow.netdev for flow in dump.flows if flow.netdev)}, groups, moves, facts)


def acted(watch: Watch, tried: Iterable[Tried], limits: Limits, at: Moment) -> Watch:
    """What is learned of moves that were made. What could not be tried, for want of a flow say, is not told here."""
    now, refused, damping = at.mono, dict(watch.refused), dict(watch.damping)
    tables, taken = dict(watch.tables), set(watch.taken)
    acts = [moment for moment in watch.acts if now - moment < MINUTE]
    # What took comes first: it tells how many the table held when it refused the others.
    for move, took in sorted(tried, key=lambda one: not one.took):
        acts.append(now)
        rate = watch.rates.get(move.promoted)
        if rate is None:
            continue
        name = offload_tables.name_of(rate.netdev, limits.groups)
        table = tables.get(name, Table())
        if took:
            taken.add(rate.shape)
            refused.pop(move.promoted, None)
            if not move.victim:
                tables[name] = table._replace(flows=table.flows + 1, full=None, refusal=None)
        elif move.victim or rate.shape not in taken:  # there was a slot, or nobody ever saw its like in one
            which = move.promoted if rate.shape in taken else rate.shape
            refused[which] = _refusal(watch.refused.get(which), now)
        else:
            before = watch.tables.get(name, table).refusal
            tables[name] = table._replace(full=table.flows, refusal=_refusal(before, now))
        # A victim has left though the move was in vain. It may come back later than the next dump, as a new flow.
        for ufid in ((move.promoted,) if took else ()) + ((move.victim,) if move.victim else ()):
            damping[ufid] = _moved(damping.get(ufid), limits, now)
    efforts = watch.efforts
    if now in acts and watch.efficiency is not None:
        efforts = (*efforts, watch.efficiency)[-EFFORTS - 1 :]
    return watch._replace(
        refused=refused, damping=damping, tables=tables, taken=frozenset(taken), acts=tuple(acts), efforts=efforts
    )


def futile(watch: Watch) -> str:
    """Why nothing more should be tried: what was done has not helped. "" while it has, or it is too early to say."""
    if len(watch.efforts) <= EFFORTS or max(watch.efforts[1:]) > watch.efforts[0]:
        return ""
    first, last = watch.efforts[0], watch.efforts[-1]
    return (
        f"{EFFORTS} rounds of moves did not help: {first:.1%} of the best that is possible before them, now {last:.1%}"
    )


def _taken_in(watch: Watch, dump: Dump, limits: Limits) -> Watch:
    """The watch with the flows of the dump."""
    now = dump.at.mono
    rates = offload_rates.after(watch.rates, dump, now - watch.dumped.mono)
    there = {flow.shape for flow in dump.flows if flow.hardware is not Hardware.NONE}
    taken = watch.taken | there
    return watch._replace(
        dumped=dump.at,
        rates=rates,
        damping=_damped(watch, rates, limits, now),
        refused={
            which: refusal
            for which, refusal in watch.refused.items()
            if which not in there and now < refusal.until + max(refusal.backoff, SOON)
        },
        taken=taken if len(taken) <= SHAPES else frozenset(there),
        offloads=watch.offloads or bool(there),
        acts=tuple(moment for moment in watch.acts if now - moment < MINUTE),
    )


def _damped(watch: Watch, rates: Mapping[str, Rate], limits: Limits, now: float) -> dict[str, Damping]:
    """Who has moved, whoever moved it, and for how long it stays for that."""
    damping = {
        ufid: moved
        for ufid, moved in watch.damping.items()
        if now - moved.at <= (max(SOON, 2 * moved.dwell) if ufid in rates else SOON)
    }
    for ufid, rate in rates.items():
        was = watch.rates.get(ufid)
        if was is not None and (was.hardware is Hardware.NONE) is not (rate.hardware is Hardware.NONE):
            before = damping.get(ufid)
            if before is None or before.at <= watch.dumped.mono:  # else it is what we did ourselves
                damping[ufid] = _moved(before, limits, now)
    return damping


def _moved(before: Damping | None, limits: Limits, now: float) -> Damping:
    """What a move makes of it. before: what is still remembered, so the move before this one was soon."""
    return Damping(now, limits.dwell if before is None else min(2 * before.dwell, LONGEST))


def _refusal(before: Refusal | None, now: float) -> Refusal:
    backoff = MINUTE if before is None else min(2 * before.backoff, LONGEST)
    return Refusal(now + backoff, backoff)


# --- what is said ------------------------------------------------------------------------------


def _told(watch: Watch, names: Iterable[str], groups: Sequence[Group], moves: Plan, facts: Facts) -> Told:
    """Each netdev, judged. Without a dump there are no groups."""
    rounds, netdevs = {}, []
    of = {name: group for group in groups for name in group.netdevs}
    figures = _figures(watch, of.values())
    best = sum(one.best for one in figures.values())
    watch = watch._replace(
        efficiency=sum(one.hardware_pps for one in figures.values()) / best if best else None,
        efforts=watch.efforts if moves.gain else (),
    )
    waiting = defaultdict[str, list[Known]](list)
    for one in (one for group in groups for one in group.waiting):
        waiting[one.flow.netdev].append(one)
    for name in sorted(names):
        was, group = watch.rounds.get(name), of.get(name)
        waits, free = (was.waiting, was.free) if was is not None else (0, 0)
        if group is not None:
            waits, free = (waits + 1, 0) if waiting[name] else (0, free + 1)
        told = was.state if was is not None else None
        state, why = offload_states.judge(Case(facts, group, tuple(waiting[name]), waits, free, told, watch.offloads))
        if was is None or was.state is not state:
            was = Round(state, facts.at, why)
        rounds[name] = was._replace(waiting=waits, free=free)
        figure = figures.get(name, Figures())
        netdevs.append(_netdev(name, rounds[name], why, figure, group))
    return Told(watch._replace(rounds=rounds), tuple(netdevs), moves)


class Figures(NamedTuple):
    """What is counted of one netdev. Packets per second but for the first two."""

    flows: int = 0  # in hardware
    pending: int = 0
    pps: float = 0.0
    hardware_pps: float = 0.0
    best: float = 0.0  # that might be in hardware


def _netdev(name: str, told: Round, why: str, figures: Figures, group: Group | None) -> Netdev:
    share = best = efficiency = None
    if figures.pps > 0.0:
        share, best = min(1.0, figures.hardware_pps / figures.pps), min(1.0, figures.best / figures.pps)
    if figures.best > 0.0:
        efficiency = min(1.0, figures.hardware_pps / figures.best)
    capacity = group.capacity if group is not None else None
    return Netdev(name, told.state, told.since, why, told.noted, *figures[:4], capacity, share, best, efficiency)


def _figures(watch: Watch, groups: Iterable[Group]) -> dict[str, Figures]:
    best, pending = dict[str, float](), Counter[str]()
    for group in {group.netdevs: group for group in groups}.values():
        best |= offload_tables.best(group, watch.taken)
        pending.update(one.flow.netdev for one in group.pending)
    flows, pps, hardware = Counter[str](), defaultdict[str, float](float), defaultdict[str, float](float)
    for rate in watch.rates.values():
        pps[rate.netdev] += rate.smooth
        if rate.hardware is not Hardware.NONE:
            flows[rate.netdev] += 1
            hardware[rate.netdev] += rate.smooth
    return {name: Figures(flows[name], pending[name], pps[name], hardware[name], best[name]) for name in best}
