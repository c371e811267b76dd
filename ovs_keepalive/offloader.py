# SPDX-License-Identifier: Apache-2.0
"""The looks at flows, and what is done about them: a process of its own, `python -m ovs_keepalive.offloader`.

A dump of 50,000 flows takes a second to come and a third of one to read: neither the beat nor the main loop may wait
for it. It looks when it is asked, plans, moves flows only if the question says so, answers, and ends when its input
does: first it makes good what it has begun.
"""

from __future__ import annotations

import gc
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ovs_keepalive import dirs
from ovs_keepalive.beat import moment
from ovs_keepalive.core import offload_act, offload_watch
from ovs_keepalive.core.model import NotSeen, ProcessId
from ovs_keepalive.core.offload import Facts, Plan, Told, Tried, Watch
from ovs_keepalive.core.offload_act import SETTLE, Anomaly, Counters, Examined, Kind, Outcome, Result
from ovs_keepalive.formats import offload_wire as wire
from ovs_keepalive.formats.offload_wire import Ask, Order, Report
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.hearing import Hearing
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer
from ovs_keepalive.sensors.offload import FlowLook, FlowSensor
from ovs_keepalive.sensors.offload_journal import NAME, Journal, Unwritten
from ovs_keepalive.sensors.offload_writer import Writer
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor

LATER = 1.0  # seconds after the last move until it is looked at again: hardware may take its time
TAKEN_FOR = (Result.PROMOTED, Result.REFUSED)  # results that tell something of the hardware
ENDING = 5.0  # seconds, at most, in which what is begun is made good before the end


class Offloader:
    """Looks at one vswitchd after the other."""

    def __init__(self, order: Order, withdrawn: Callable[[], bool]) -> None:
        """withdrawn: whether what is being done is no longer asked for."""
        self._withdrawn = withdrawn
        self._who = VswitchdSensor(dirs.rundir(), Path(order.pidfile) if order.pidfile else None)
        self._state_dir = Path(order.state_dir)
        self._process: Process | None = None
        self._most = 0
        self._sensor: FlowSensor | None = None
        self._writer: Writer | None = None
        self._journal: Journal | None = None
        self._watch = Watch()

    def round(self, ask: Ask) -> Report:
        """Look, plan, and move flows if that is asked for."""
        found, _ = self._who.look(moment())
        self._turn_to(None if isinstance(found, NotSeen) else found.value, ask.most)
        if self._sensor is None:
            why = found.why if isinstance(found, NotSeen) else "vswitchd does not run"
            return self._report(self._told(ask, None, why), ask)
        look = self._sensor.look(moment, dumped=ask.enabled)
        datapaths = {} if isinstance(look, NotSeen) else look.value.datapaths
        told = self._told(ask, *((None, look.why) if isinstance(look, NotSeen) else (look.value, "")))
        self._watch = told.watch
        report = self._report(told, ask)
        if ask.ready or self._has_left():
            report = self._act(report, ask, offload_act.slow(one.dump for one in datapaths.values()))
        gc.collect()  # not in the middle of a dump: see main()
        return report

    def finish(self) -> None:
        """Before the end: make good what is begun."""
        until = moment().mono + ENDING
        while self._writer is not None and self._writer.unfinished and moment().mono < until:
            try:
                self._writer.replay(moment())
            except (NoAnswer, Unwritten):
                return  # the next one finds it in the journal
            select.select([], [], [], SETTLE / 4)

    # --- the look ------------------------------------------------------------------------------

    def _turn_to(self, process: Process | None, most: int) -> None:
        if (process, most) == (self._process, self._most):
            return
        if self._sensor is not None:
            self._sensor.close()
        if process != self._process:
            self._process, self._writer = process, None
        self._most = most
        self._sensor = FlowSensor(process.control_socket, process.id.pid, most) if process is not None else None

    @property
    def _id(self) -> ProcessId | None:
        return self._process.id if self._process is not None else None

    def _told(self, ask: Ask, look: FlowLook | None, undumped: str) -> Told:
        datapaths = look.datapaths if look is not None else {}
        facts = Facts(
            at=moment(),
            process=self._id,
            enabled=ask.enabled,
            userspace=all(name.partition("@")[0] in offload_act.DATAPATHS for name in datapaths),
            rebalanced=ask.rebalanced,
            acting=ask.acting,
            netdevs=tuple(name for names in look.netdevs.values() for name in names) if look is not None else (),
            undumped=undumped,
        )
        return offload_watch.follow(self._watch, look.dump if look is not None else None, ask.limits, facts)

    def _report(self, told: Told, ask: Ask) -> Report:
        cost, pause = (self._sensor.cost, self._sensor.pause(ask.share)) if self._sensor is not None else (0.0, 0.0)
        plan = told.plan if ask.planning else Plan(told.plan.at, (), (), 0.0)
        return Report(moment(), self._id, told.netdevs, plan, "", (), (), (), 0, "", cost, pause)

    # --- the moves -----------------------------------------------------------------------------

    def _has_left(self) -> bool:
        """Whether a journal lies there with something in it: this process's, or of one that was killed."""
        try:
            return (self._state_dir / NAME).stat().st_size > 0
        except OSError:  # there is none: the usual case
            return False

    def _act(self, report: Report, ask: Ask, slow: str) -> Report:
        try:
            writer = self._ready()
            if why := writer.gate():
                return report._replace(gate=why)
            mended = tuple(writer.replay(moment()))
            if ask.acting and not slow:
                report = self._moved(report, writer, ask)
                mended += tuple(writer.replay(moment()))
            futile = offload_watch.futile(self._watch)
            return report._replace(gate=slow, mended=mended, unfinished=writer.unfinished, futile=futile)
        except Unwritten as error:
            return report._replace(gate=one_line(str(error)))
        except NoAnswer as error:
            anomaly = Anomaly(Kind.SILENT, "", one_line(str(error)))
            return report._replace(anomalies=(*report.anomalies, anomaly))

    def _ready(self) -> Writer:
        """Raises Unwritten."""
        process = self._process
        if self._journal is None:
            self._journal = Journal(self._state_dir)
        if self._writer is None and process is not None:
            self._writer = Writer(AppctlClient(process.control_socket), process.id, self._journal)
        if self._writer is None:
            raise Unwritten("vswitchd does not run")
        return self._writer

    def _moved(self, report: Report, writer: Writer, ask: Ask) -> Report:
        """The report with what came of its plan. Raises NoAnswer."""
        moves = (*report.plan.fills, *report.plan.swaps)
        if not moves:
            return report
        before = writer.counters()
        looked = writer.examine(moves, moment())
        _rest(SETTLE)
        if why := offload_act.busy(before, writer.counters()):
            looked = [one if isinstance(one, Outcome) else _left_out(one, why) for one in looked]
        outcomes = [one if isinstance(one, Outcome) else self._made(writer, one) for one in looked]
        if not self._withdrawn():
            _rest(LATER)
        outcomes = [writer.look_again(one) for one in outcomes]
        tried = [Tried(one.move, one.result is Result.PROMOTED) for one in outcomes if one.result in TAKEN_FOR]
        self._watch = offload_watch.acted(self._watch, tried, ask.limits, moment())
        return report._replace(outcomes=tuple(outcomes), anomalies=_too_many(before, writer.counters(), outcomes))

    def _made(self, writer: Writer, examined: Examined) -> Outcome:
        if self._withdrawn():
            return _left_out(examined, "no longer asked for")
        return writer.act(examined, moment())


def _left_out(examined: Examined, why: str) -> Outcome:
    return Outcome(examined.move, moment(), Result.SKIPPED, why)


def _too_many(before: Counters, after: Counters, outcomes: list[Outcome]) -> tuple[Anomaly, ...]:
    """Packets on the slow path beyond those of the flows that were removed, until these are back: 2 s, or 3 at most."""
    expected = sum(3.0 * one.move.victim_pps + 10.0 for one in outcomes if one.move.victim)
    anomaly = offload_act.duplicates(before, after, expected)
    return () if anomaly is None else (anomaly,)


def _rest(seconds: float) -> None:
    select.select([], [], [], seconds)


class Conversation:
    """What the daemon says, one line after the other."""

    def __init__(self) -> None:
        self._hearing = Hearing()
        self._lines: list[bytes] = []

    @property
    def over(self) -> bool:
        """Whether nobody is there any more."""
        return self._hearing.over

    def hear(self, timeout: float | None) -> None:
        """Wait until something is said, or for so many seconds; None: for ever."""
        if not self._lines and not self.over and select.select([0], [], [], timeout)[0]:
            self._lines += self._hearing.lines()

    def first(self) -> bytes | None:
        """The oldest line that has not been taken; None if there is none."""
        return self._lines.pop(0) if self._lines else None

    def withdrawn(self) -> bool:
        """Whether something was said since, or nobody is there any more."""
        self.hear(0.0)
        return self.over or bool(self._lines)


def _answer(conversation: Conversation, offloader: Offloader) -> None:
    """Until there is nobody left. Raises BrokenPipeError."""
    ask, due = None, 0.0
    while not conversation.over:
        conversation.hear(max(0.0, due - moment().mono) if ask is not None else None)
        if (line := conversation.first()) is not None:
            ask = wire.ask(line)
            due = moment().mono + ask.wait
        elif ask is not None and moment().mono >= due:
            report, ask = offloader.round(ask), None
            sys.stdout.buffer.write(wire.line(report))
            sys.stdout.buffer.flush()


def main() -> int:
    """Answer until there is nobody left."""
    # A dump makes some hundred thousand objects, none of them in a circle: the collector would only count them.
    gc.disable()
    # Whoever ends a service ends every process of it: this one ends by itself, once it has made good what it began.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    conversation = Conversation()
    while (line := conversation.first()) is None:
        if conversation.over:
            return 0
        conversation.hear(None)
    offloader = Offloader(wire.order(line), conversation.withdrawn)
    try:
        _answer(conversation, offloader)
    except BrokenPipeError:  # nobody reads any more
        sys.stderr.close()
    finally:
        offloader.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
