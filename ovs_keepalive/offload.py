# SPDX-License-Identifier: Apache-2.0
"""What the daemon knows of offload, and whether it lets flows be moved: by a process of its own (`offloader.py`).

Belongs to the main loop. A person's arm lives here and nowhere else: it ends with this daemon.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import ovs.poller
import ovs.vlog

from ovs_keepalive.config import Config
from ovs_keepalive.core import offload_arm
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Moment, ProcessId, Snapshot, Transition
from ovs_keepalive.core.offload import Limits, Netdev, OffloadState
from ovs_keepalive.core.offload_arm import Act, Arm, Wanted
from ovs_keepalive.core.repeats import Repeats, few
from ovs_keepalive.core.settings import Asked, Offload, is_true
from ovs_keepalive.formats import offload as form
from ovs_keepalive.formats import offload_wire as wire
from ovs_keepalive.formats.metric import Offloaded
from ovs_keepalive.formats.offload_wire import Ask, Order, Report
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.helper import Helper

log = ovs.vlog.Vlog("offload")

CALM = 2.0  # seconds after the daemon's first snapshot until the first look: the start is the beat's
FIRST = 3.0  # seconds between two looks, at least, until one has told what it costs
OLD = 20.0  # seconds beyond its pause after which the last look proves nothing any more
HISTORY = 500  # acts that are remembered
PART = 0.5  # of what looks may take from vswitchd's main thread is for looks at flows, the other for the beat
LIMITS = Limits()
NO_MODE = Wanted(Offload.OFF, allowed=False, enabled=False, rebalanced=False)


class Refused(Exception):
    """Flows cannot be moved, or there is nothing to tell: one line."""


class OffloadChild(Helper[Report]):
    """The process that looks and moves."""

    def __init__(self, state_dir: str, pidfile: Path | None) -> None:
        """pidfile: of vswitchd."""
        order = wire.line(Order(str(pidfile) if pidfile is not None else None, state_dir))
        super().__init__("ovs_keepalive.offloader", "the look at flows", order, wire.report, wire.LARGEST)


class OffloadWatch:
    """run() and wait() are for the main loop, take() for whoever reads the settings, the rest for who publishes."""

    def __init__(self, child: Helper[Report], note: Callable[[Transition], None]) -> None:
        """note: takes a line of history."""
        self.netdevs: tuple[Netdev, ...] = ()
        self.pairs: dict[str, str] = {}  # of keepalive_detail
        self.history: deque[Act] = deque(maxlen=HISTORY)
        self.moves: Counter[tuple[str, str]] = Counter()  # "fill" or "swap", and what came of it, since the start
        self.arm: Arm | None = None
        self._disarmed = ""  # why the last one ended by itself
        self._wanted, self._limits, self._share, self._most = NO_MODE, LIMITS, 0.005, 50_000
        self._child = child
        self._note = note
        self._asked: Ask | None = None  # what the process was told last
        self._snapshot: Snapshot | None = None
        self._report: Report | None = None
        self._began: float | None = None  # monotonic: the first snapshot
        self._repeats = Repeats()

    def take(self, other_config: Mapping[str, str], asked: Asked, config: Config) -> None:
        """What is wanted from now on."""
        enabled, rebalanced = (is_true(other_config, key) for key in ("hw-offload", "offload-rebalance"))
        self._wanted = Wanted(asked.offload, config.offload.allow_act, enabled, rebalanced)
        self._limits = LIMITS._replace(capacity=config.offload.capacity or None, groups=config.offload.table_groups)
        self._share, self._most = config.max_main_share / 100 * PART, config.offload.most_flows

    def run(self, now: Moment, snapshot: Snapshot | None) -> None:
        """One turn. snapshot: the newest."""
        self._child.see_off(now.mono)
        self._snapshot = snapshot
        if snapshot is None:
            return
        if not snapshot.settings.enabled or self._wanted.mode is Offload.OFF:
            self._rest(now)
            return
        self._began = now.mono if self._began is None else self._began
        if now.mono - self._began < CALM:
            return
        if self.arm is not None and (why := offload_arm.ended(self.arm, now, _process(snapshot), (), "")):
            self._disarm(now, why)
        pause = max(FIRST, self._report.pause if self._report is not None else 0.0)
        if self._asked is not None and self._question(self._asked.wait) != self._asked:
            self._child.amend(now.mono, self._asking, pause)
        report = self._child.turn(now.mono, self._asking, pause)
        if report is not None:
            self._take_in(report, now)
        elif self._is_old(now):
            self._forget(now)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for a report."""
        self._child.wait(poller)

    def close(self, now: float) -> None:
        """Let the process end: what it has begun it makes good by itself. now: monotonic seconds."""
        self._child.dismiss(now)

    # --- what a person may do ------------------------------------------------------------------

    def arm_for(self, minutes: float, now: Moment) -> Arm:
        """Let flows be moved for so long. Raises Refused."""
        snapshot, report = self._snapshot, self._report
        if snapshot is None or report is None:
            raise Refused(f"flows have not been looked at yet: {self._child.problem or 'try again in a moment'}")
        if why := offload_arm.objection(self._wanted, snapshot) or report.gate:
            raise Refused(why)
        process = _process(snapshot)
        if process is None or process != report.process:
            raise Refused("vswitchd has just been restarted: try again in a moment")
        until = Moment(now.mono + minutes * 60, now.wall_ms + round(minutes * 60_000))
        self.arm, self._disarmed = Arm(now, until, process), ""
        self._tell(Act(now, "armed", f"for {minutes:g} min, vswitchd pid {process.pid}"))
        return self.arm

    def disarm(self, now: Moment) -> bool:
        """Let no flow be moved any more, and forget why an arm ended; whether it was armed."""
        was = self.arm is not None
        if was:
            self._disarm(now, "asked for")
        self._disarmed = ""
        return was

    # --- what is told --------------------------------------------------------------------------

    @property
    def told(self) -> form.Told:
        """All of it. Raises Refused while nobody looks."""
        if self._wanted.mode is Offload.OFF:
            way = "ovs-vsctl set Open_vSwitch . other_config:keepalive-offload=watch"
            raise Refused(f"flows are not looked at: {way} (or plan, or act)")
        return form.Told(
            self._wanted, self._report, self.netdevs, self.arm, self._objection, self._disarmed, self._child.problem
        )

    @property
    def plan(self) -> Report:
        """The report with the newest plan. Raises Refused while none is made."""
        told = self.told
        if told.wanted.mode is Offload.WATCH:
            raise Refused("keepalive-offload is watch: set plan or act")
        if told.report is None:
            raise Refused(f"flows have not been looked at yet: {told.problem or 'try again in a moment'}")
        return told.report

    @property
    def numbers(self) -> Offloaded:
        """Of /metrics."""
        return Offloaded(
            self.netdevs,
            self.arm is not None,
            {(kind, str(result)): number for (kind, result), number in self.moves.items()},
        )

    @property
    def fact(self) -> str:
        """For keepalive/status."""
        if self._wanted.mode is Offload.OFF:
            return "off"
        armed = ", armed" if self.arm is not None else f", disarmed: {self._disarmed}" if self._disarmed else ""
        problem = f"; the look at flows: {self._child.problem}" if self._child.problem else ""
        return f"{self._wanted.mode}{armed}: {form.tally(self.netdevs)}{problem}"

    @property
    def _objection(self) -> str:
        snapshot, report = self._snapshot, self._report
        why = offload_arm.objection(self._wanted, snapshot) if snapshot is not None else "nobody has looked yet"
        why = why or (report.gate if report is not None else "")
        return why or ("" if self.arm is not None else "not armed: offload/arm")

    # --- the process ---------------------------------------------------------------------------

    def _asking(self, wait: float) -> bytes:
        self._asked = self._question(wait)
        return wire.line(self._asked)

    def _question(self, wait: float) -> Ask:
        wanted, snapshot = self._wanted, self._snapshot
        return Ask(
            wait=wait,
            share=self._share,
            most=self._most,
            limits=self._limits,
            enabled=wanted.enabled,
            rebalanced=wanted.rebalanced,
            planning=wanted.mode in (Offload.PLAN, Offload.ACT),
            ready=wanted.mode is Offload.ACT,
            acting=self.arm is not None and snapshot is not None and not offload_arm.objection(wanted, snapshot),
        )

    def _take_in(self, report: Report, now: Moment) -> None:
        self._report = report
        for line in report.mended:
            self._tell(Act(report.at, "mended", line))
        for one in report.outcomes:
            self.moves["swap" if one.move.victim else "fill", str(one.result)] += 1
            self._tell(Act(one.at, one.result, form.moved(one.move) + (f": {one.why}" if one.why else ""), one))
        anomalies = (*chain.from_iterable(one.anomalies for one in report.outcomes), *report.anomalies)
        for anomaly in anomalies:
            who = f"flow {anomaly.ufid}: " if anomaly.ufid else ""
            self._tell(Act(report.at, "anomaly", f"{anomaly.kind}: {who}{anomaly.why}"))
        if self.arm is not None and (
            why := offload_arm.ended(self.arm, now, report.process, anomalies, report.futile) or report.gate
        ):
            self._disarm(now, why)
        self._show(report.netdevs, report.at)

    def _disarm(self, now: Moment, why: str) -> None:
        self.arm, self._disarmed = None, why
        self._tell(Act(now, "disarmed", why))

    def _tell(self, act: Act) -> None:
        act = act._replace(text=one_line(act.text))
        self.history.append(act)
        if line := self._repeats.line(act.what, f"{act.what}: {act.text}", act.at.mono):
            (log.warn if act.what in ("anomaly", "disarmed") else log.info)(line)

    # --- the netdevs ---------------------------------------------------------------------------

    def _rest(self, now: Moment) -> None:
        if self.arm is not None:
            self._disarm(now, "switched off")
        if self._child.pid is not None:
            self._child.dismiss(now.mono)
        self._report, self._asked, self._began = None, None, None
        self.netdevs, self.pairs = (), {}

    def _is_old(self, now: Moment) -> bool:
        return self._report is not None and now.mono - self._report.at.mono > self._report.pause + OLD

    def _forget(self, now: Moment) -> None:
        """The last report is too old to be believed."""
        why = f"nobody looks: {self._child.problem or 'the look at flows is silent'}"
        if self.netdevs and any(one.state is not OffloadState.SKIPPED for one in self.netdevs):
            self._show(tuple(Netdev(one.name, OffloadState.SKIPPED, now, why, why) for one in self.netdevs), now)

    def _show(self, netdevs: tuple[Netdev, ...], at: Moment) -> None:
        before = {one.name: one.state for one in self.netdevs}
        news = tuple(
            Transition(at, f"offload:{one.name}", str(before.get(one.name, "none")), str(one.state), "none", one.noted)
            for one in netdevs
            if before.get(one.name, OffloadState.OK) is not one.state
        )
        for transition in few(news, at, "offload", "devices"):
            self._note(transition)
            text = f"{transition.who}: {transition.old} -> {transition.new}: {short(transition.evidence, form.TOLD)}"
            if line := self._repeats.line(f"{transition.who} {transition.new}", text, at.mono):
                log.info(line)
        self.netdevs, self.pairs = netdevs, form.pairs(netdevs)


def _process(snapshot: Snapshot) -> ProcessId | None:
    return snapshot.vswitchd.process
