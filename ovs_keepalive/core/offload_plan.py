# SPDX-License-Identifier: Apache-2.0
"""Which flow is to take whose place: pure, bounded, and told with its reasons.

1. Free slots are filled first, hottest flow first: nobody has to leave for that.
2. Then pairs change places: the i-th hottest in software and the i-th coldest in hardware, as long as the one is worth
   ratio times the other and the margin more. Both are judged to the move's disadvantage, over two rounds.
3. A flow that has moved stays where it is for a while, each time for longer if it soon moves again.
4. Of a shape that was never in hardware one flow is tried first, and what is colder than its second waits a round for
   that: the hardware may not take it.
5. No victim for a guess: a limit that is only learned is tried by a fill before anything is swapped.

When nothing is left to swap, the fastest flows that the table could hold have less than ratio times what it holds, and
the margin more for each slot. Nothing moves then until rates change by more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ovs_keepalive.core.offload import Damping, Facts, Limits, Move, Plan, Watch
from ovs_keepalive.core.offload_rates import high, known, low
from ovs_keepalive.core.offload_tables import Group, Known

FEW = 4  # swaps a round, though they be more than their part of a small table: else it would take minutes
MINUTE = 60.0  # seconds


def plan(groups: Iterable[Group], watch: Watch, limits: Limits, facts: Facts) -> Plan:
    """What would be better by this round's look."""
    now = facts.at.mono
    left = max(0, limits.a_minute - sum(1 for at in watch.acts if now - at < MINUTE))
    fills: list[Move] = []
    swaps: list[Move] = []
    for group in groups:
        able = _hottest(group, watch)
        free = _free(group, limits, facts)
        fills += [_fill(one, group, watch) for one in able[:free]]
        if group.room == 0 and (group.proven or not (facts.acting and facts.userspace)):
            swaps += _swaps(able[free:], group, watch, limits, now)
    fills.sort(key=lambda move: (-move.gain, move.promoted))
    fills = fills[: min(limits.swaps, left)]
    swaps.sort(key=lambda move: (-move.gain, move.promoted))
    swaps = swaps[: min(limits.swaps, left - len(fills))]
    return Plan(facts.at, tuple(fills), tuple(swaps), sum(move.gain for move in (*fills, *swaps)))


def dwells(ufid: str, damping: Mapping[str, Damping], now: float) -> bool:
    """Whether a flow has moved so lately that it stays."""
    moved = damping.get(ufid)
    return moved is not None and now - moved.at < moved.dwell


def _hottest(group: Group, watch: Watch) -> list[Known]:
    """The flows that may go into hardware, hottest first, as far as the second of a shape that never was there."""
    able = [one for one in group.pending if low(one.rate) > 0.0]
    able.sort(key=lambda one: (-low(one.rate), one.flow.ufid))
    tried: set[str] = set()
    for number, one in enumerate(able):
        if one.flow.shape in tried:
            return able[:number]
        if one.flow.shape not in watch.taken:
            tried.add(one.flow.shape)
    return able


def _free(group: Group, limits: Limits, facts: Facts) -> int:
    """How many may be filled in."""
    if group.room is None:
        return limits.swaps
    if group.room == 0 and not group.proven and facts.acting and facts.userspace:
        # Whether there is room is found out by trying: carefully, where a try has been refused before.
        return limits.swaps if group.table.refusal is None else 1
    return group.room


def _fill(one: Known, group: Group, watch: Watch) -> Move:
    pps = low(one.rate)
    if one.flow.shape not in watch.taken:
        why = "the first of its kind: whether the hardware takes it is not known"
    elif group.room is None:
        why = "no limit of the table is known"
    elif group.room == 0:
        why = f"whether more than {group.capacity} find room is not known"
    else:
        why = f"{group.table.flows} of {group.capacity} slots are taken"
    return Move(one.flow.ufid, pps, "", 0.0, pps, why, one.flow.netdev)


def _swaps(able: Sequence[Known], group: Group, watch: Watch, limits: Limits, now: float) -> Iterator[Move]:
    most = min(limits.swaps, max(FEW, int(limits.share * (group.capacity or 0))))
    stays = watch.damping
    promoted = [one for one in able if not dwells(one.flow.ufid, stays, now)][:most]
    victims = [one for one in group.held if known(one.rate) and not dwells(one.flow.ufid, stays, now)]
    victims.sort(key=lambda one: (high(one.rate), one.flow.ufid))
    for hot, cold in zip(promoted, victims, strict=False):
        pps, cost = low(hot.rate), high(cold.rate)
        if pps <= cost or pps < limits.ratio * cost + limits.margin:
            return
        why = f"{pps:.1f} pps of {hot.flow.netdev} for {cost:.1f} pps of {cold.flow.netdev}"
        if hot.flow.shape not in watch.taken:
            why += "; the first of its kind"
        yield Move(hot.flow.ufid, pps, cold.flow.ufid, cost, pps - cost, why, hot.flow.netdev)
