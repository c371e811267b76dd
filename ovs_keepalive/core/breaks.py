# SPDX-License-Identifier: Apache-2.0
"""What a restart of vswitchd interrupted, told from outside: how long no packet was sent, and nobody answered.

A PMD iterates 0.4 to 0.9 s before it forwards again (notes/upgrade-and-break): the count of packets sent (Tx) judges.
Each moment lies between two bounds that the looks prove; the point between them is an estimate, its method named.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ovs_keepalive.core import vswitchd
from ovs_keepalive.core.heartbeat import Register
from ovs_keepalive.core.model import NEVER, Break, BreakKind, Ended, Looks, Moment, Seen, Sent, Settings, Vswitchd

KEPT = 50  # breaks
WINDOW = 1.0  # seconds, at least, over which the rate of packets is counted
IDLE = 1.0  # seconds without a packet, and three look periods: there is no traffic that a break could interrupt
PATIENCE = 60.0  # seconds after its first answer; a new process that has sent nothing by then has nothing to send
EXACT = 0.01  # seconds; the removal of flow-restore-wait is known to this, and packets flow as soon (measured: 3 ms)
NEAR = 0.1  # seconds; an estimate that lies so near to that removal means it
FINE = 0.02  # seconds between two looks while a break may begin (it was announced), and while its end is looked for …
HURRY = 10.0  # … which is for so long after the old process ended, and after the new one came
ENOUGH = 3  # breaks that a prediction needs
LONGEST = 3600  # seconds for which a restart can be announced

NO_TRAFFIC = "no traffic"
KERNEL = "system datapath: forwarding survives a restart, only upcalls and control are interrupted"


class Flow(NamedTuple):
    """What the present process was seen to send."""

    packets: int | None = None
    asked: float = 0.0  # monotonic; when it was asked for that
    answered: Moment = NEVER
    moved: Moment = NEVER  # the answer by which the count was last seen to have changed …
    still: float = 0.0  # … and when it was asked for the one before: the packet was sent after that
    mark: tuple[float, int] = (0.0, 0)  # monotonic time and count with which the window of the rate begins
    rate: float = 0.0  # packets a second in the last window; 0.0: not known
    kernel: bool = False  # a datapath of the kernel forwards


class Watch(NamedTuple):
    """What is known of breaks between two looks."""

    flow: Flow = Flow()
    log: tuple[Break, ...] = ()  # newest last
    counts: Mapping[BreakKind, int] = dict.fromkeys(BreakKind, 0)  # also those that are forgotten
    under_way: bool = False  # something of the last one is still to come
    rate: float = 0.0  # packets a second that the process sent which ended
    came: float = 0.0  # monotonic; when the new process was first seen


def follow(watch: Watch, looks: Looks, register: Register, settings: Settings, period: float) -> Watch:
    """The watch after these looks. register: as they were judged; period: seconds between two looks."""
    if looks.ended is not None:
        watch = _begun(watch, looks.ended, looks.now, register, period)
    if watch.under_way and looks.process is not None:
        watch = _gone_on(watch, looks, settings)
    if looks.sent is not None:
        watch = watch._replace(flow=_flow(watch.flow, looks.now, looks.sent))
    return watch


def forgotten(watch: Watch) -> Watch:
    """The watch when nothing is looked at: what was under way will not be known."""
    return watch._replace(flow=Flow(), under_way=False)


def is_urgent(watch: Watch, process: Vswitchd, settings: Settings, now: Moment) -> bool:
    """Whether a break may begin or end at any moment: one look more often tells when."""
    if process.process is not None and vswitchd.announced(process, settings, now):
        return True
    if not watch.under_way or not _awaits_packets(watch.log[-1]):
        return False
    return now.mono - (watch.came or watch.log[-1].ended.mono) < HURRY


def wants_rxqs(watch: Watch) -> bool:
    """Whether vswitchd should be asked which ports it polls."""
    return watch.under_way and watch.log[-1].control_to is not None and bool(missing(watch.log[-1]))


def missing(one: Break) -> tuple[str, ...]:
    """The ports that the old process polled and the new one does not."""
    return tuple(port for port, back in one.ports if back is None)


def first_port(one: Break) -> Moment | None:
    """When the first of the ports was polled again."""
    return min((back for _, back in one.ports if back is not None), default=None)


def data_plane(one: Break) -> tuple[float, float, float] | None:
    """Seconds in which no packet was sent: at least, about, at most; None when that is not known (yet)."""
    if one.unknown or one.to is None or one.to_high is None:
        return None
    low = max(0.0, one.to_low.mono - one.began_high.mono)
    high = one.to_high.mono - one.began_low.mono
    return low, min(max(low, one.to.mono - one.began.mono), high), high


def control_plane(one: Break) -> float | None:
    """Seconds between the last answer of the old process and the first of the new one; None: not yet."""
    return None if one.control_to is None else one.control_to.mono - one.control_from.mono


def predicted(earlier: Sequence[float]) -> tuple[float, float] | None:
    """Median and worst of earlier breaks (seconds); None where there are too few to say."""
    return None if len(earlier) < ENOUGH else (statistics.median(earlier), max(earlier))


def _flow(flow: Flow, at: Moment, sent: Sent) -> Flow:
    packets = sent.packets
    if packets is None or flow.packets is None:
        mark = (at.mono, packets or 0)
        return Flow(packets, sent.asked, at, flow.moved, flow.still, mark, flow.rate, sent.kernel)
    moved, still, mark, rate = flow.moved, flow.still, flow.mark, flow.rate
    if packets != flow.packets:
        moved, still = at, flow.asked
    if packets < mark[1]:
        mark = (at.mono, packets)  # pmd-stats-clear
    elif at.mono - mark[0] >= WINDOW:
        mark, rate = (at.mono, packets), (packets - mark[1]) / (at.mono - mark[0])
    return Flow(packets, sent.asked, at, moved, still, mark, rate, sent.kernel)


def _begun(watch: Watch, ended: Ended, now: Moment, register: Register, period: float) -> Watch:
    flow, kind = watch.flow, register.vswitchd.how
    if kind is None:
        kind = BreakKind.ORDERLY if ended.orderly else BreakKind.CRASH
    old = [pmd for pmd in register.pmds.values() if pmd.id.process == ended.process]
    left = [pmd.vanished_at for pmd in old if pmd.vanished_at is not None]
    high = now
    if left and len(left) == len(old):  # `ovs-appctl exit`: the threads go before their process
        high = _shifted(now, min(0.0, max(left) - now.mono))
    one = Break(
        pid_old=ended.process.pid,
        pid_new=None,
        kind=kind,
        ended=now,
        unknown=_why_unknown(flow, period),
        began_low=_shifted(now, flow.still - now.mono),
        began=now if high is now else _shifted(now, (flow.moved.mono + high.mono) / 2 - now.mono),
        began_high=high,
        to_low=now,
        to=None,
        to_high=None,
        method="",
        control_from=flow.answered if flow.answered != NEVER else now,
        control_to=None,
        ports=tuple((port, None) for port in sorted({rxq.port for pmd in old for rxq in pmd.rxqs or ()})),
    )
    rate = _rate(flow)
    last = watch.log[-1] if watch.under_way else None
    if last is not None and _awaits_packets(last):  # nothing was sent since the end before this one
        rate = watch.rate
        kept = {port: None for port, _ in (*last.ports, *one.ports)}
        one = one._replace(
            unknown=last.unknown,
            began_low=last.began_low,
            began=last.began,
            began_high=last.began_high,
            ports=tuple(kept.items()),
        )
    counts = {**watch.counts, kind: watch.counts[kind] + 1}
    return Watch(Flow(), (*watch.log, one)[-KEPT:], counts, under_way=True, rate=rate)


def _why_unknown(flow: Flow, period: float) -> str:
    if flow.packets is None and flow.kernel:
        return KERNEL
    recent = flow.moved != NEVER and flow.answered.mono - flow.moved.mono <= max(IDLE, 3 * period)
    return "" if recent and _rate(flow) else NO_TRAFFIC


def _rate(flow: Flow) -> float:
    """Packets a second of late; before the first window is over, in what there is of it."""
    elapsed = flow.answered.mono - flow.mark[0]
    return flow.rate or ((flow.packets or 0) - flow.mark[1]) / elapsed if elapsed > 0 else flow.rate


def _gone_on(watch: Watch, looks: Looks, settings: Settings) -> Watch:
    one, now = watch.log[-1], looks.now
    was = one
    if looks.process is not None and one.pid_new != looks.process.pid:
        one, watch = one._replace(pid_new=looks.process.pid), watch._replace(came=now.mono)
    if looks.sent is not None:
        if one.control_to is None:
            one = one._replace(control_to=now)
        one = _packets(one, looks.sent, now, settings.flow_restored, watch.rate)
    if isinstance(looks.rxqs, Seen) and missing(one):
        polled = {rxq.port for pmd in looks.rxqs.value for rxq in pmd.rxqs}
        one = one._replace(ports=tuple((port, back or (now if port in polled else None)) for port, back in one.ports))
    if one is was:
        return watch
    under_way = one.control_to is None or _awaits_packets(one) or bool(missing(one))
    return watch._replace(log=(*watch.log[:-1], one), under_way=under_way)


def _awaits_packets(one: Break) -> bool:
    return not one.unknown and one.to is None


def _packets(one: Break, sent: Sent, now: Moment, restored: Moment | None, rate: float) -> Break:
    """The break after an answer of the new process: the end of the silence, or a later lower bound of it."""
    if not _awaits_packets(one):
        return one
    freed = restored if restored is not None and restored.mono > one.ended.mono else None
    low = one.to_low
    if freed is not None:
        low = max(low, _shifted(freed, -EXACT))
    if restored is None or not sent.packets:
        if one.control_to is not None and now.mono - one.control_to.mono >= PATIENCE:
            return one._replace(unknown=f"{NO_TRAFFIC} after it", to_low=low)
        return one._replace(to_low=max(low, _shifted(now, sent.asked - now.mono)))
    point = min(now, max(low, _shifted(now, -sent.packets / rate)))
    method = f"the first answer that counts packets, less their time at {rate:.0f} packets/s"
    if freed is not None and abs(point.mono - freed.mono) <= NEAR:
        point, method = min(now, freed), "the removal of flow-restore-wait"
    return one._replace(to_low=low, to=point, to_high=now, method=method)


def _shifted(moment: Moment, seconds: float) -> Moment:
    return Moment(moment.mono + seconds, moment.wall_ms + round(seconds * 1000))
