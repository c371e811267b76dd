# SPDX-License-Identifier: Apache-2.0
"""What the daemon knows of ports: it takes each survey, remembers what it adds, and has it ready for every publisher.

Belongs to the main loop. The verdicts are made anew when a survey comes, and when a PMD's state or rxqs change.
"""

from __future__ import annotations

from collections.abc import Callable

import ovs.poller
import ovs.vlog

from ovs_keepalive.core import port_states, port_watch
from ovs_keepalive.core.model import Snapshot, Transition
from ovs_keepalive.core.ports import Ports, PortsMemory, PortState, Survey
from ovs_keepalive.core.repeats import Repeats, few
from ovs_keepalive.formats import ports as form
from ovs_keepalive.survey_child import SurveyChild

log = ovs.vlog.Vlog("ports")

CALM = 2.0  # seconds after the daemon's first snapshot until the survey begins: the start is the beat's
AGAIN = 1.0  # seconds between two judgements without a survey
OLD = 15.0  # seconds beyond its period after which the last survey proves nothing any more


class PortWatch:
    """run() and wait() are for the main loop; everything else is for whoever publishes."""

    def __init__(self, child: SurveyChild, period: float, note: Callable[[Transition], None]) -> None:
        """period: seconds between two surveys, 0.0 for none; note: takes a line of history."""
        self.period = period  # may be changed at any time
        self.told = Ports()
        self.memory = PortsMemory()
        self.pairs: dict[str, str] = {}  # of keepalive_detail
        self.metric: list[tuple[str, PortState | None]] = []
        self._child = child
        self._note = note
        self._survey: Survey | None = None  # the newest that knows which ports there are …
        self._gone = ""  # … and why none does now
        self._began: float | None = None  # monotonic: the first snapshot
        self._judged: tuple[object, ...] = ()  # by what …
        self._judged_at = float("-inf")  # … and when: monotonic
        self._repeats = Repeats()

    def run(self, now: float, snapshot: Snapshot | None) -> None:
        """One turn. now: monotonic seconds; snapshot: the newest."""
        if snapshot is None:
            return
        if not snapshot.settings.enabled or not self.period:
            self._rest()
            return
        self._began = now if self._began is None else self._began
        if now - self._began < CALM:
            return
        survey = self._child.run(now, self.period)
        if survey is not None:
            if survey.told or self._survey is None:
                self._survey = survey
            self._gone = survey.blind[0] if survey.blind and not survey.told else ""
        elif now - self._judged_at < AGAIN:
            return
        self._judge(snapshot, now, anew=survey is not None)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for a survey."""
        self._child.wait(poller)

    def close(self) -> None:
        """End the survey."""
        self._child.close()

    @property
    def fact(self) -> str:
        """For keepalive/status."""
        if not self.period:
            return "not surveyed (ports-period: 0)"
        if self._survey is None:
            return self._child.problem or "not surveyed yet"
        problem = f"; the survey: {self._child.problem}" if self._child.problem else ""
        return f"{len(self.told.ports)}: {form.tally(port.word for port in self.told.ports)}{problem}"

    def _rest(self) -> None:
        if self._survey is not None or self._child.pid is not None:
            self._child.close()
            self._survey, self._began = None, None
            self._show(Ports())

    def _judge(self, snapshot: Snapshot, now: float, *, anew: bool) -> None:
        survey = self._survey
        self._judged_at = now
        if survey is None:
            self._show(Ports(blind=(f"ports: the survey: {self._child.problem}",) if self._child.problem else ()))
            return
        blind = self._gone or port_states.why_blind(snapshot.vswitchd, survey)
        if now - survey.at.mono > self.period + OLD and not self._gone:
            blind = f"the survey: {self._child.problem or 'it is silent'}"
        by = (blind, snapshot.blind, [(pmd.id, pmd.state, pmd.rxqs) for pmd in snapshot.pmds])
        if not anew and by == self._judged:
            return
        self._judged = by
        told = port_watch.follow(self.memory, survey, blind, port_watch.polling(snapshot, survey.process))
        self.memory = told.memory
        for transition in few(told.news, survey.at, "ports", "ports"):
            self._note(transition)
            text = f"{transition.who}: {transition.old} -> {transition.new}: {transition.evidence}"
            if line := self._repeats.line(f"{transition.who} {transition.new}", text, now):
                log.info(line)
        self._show(told.ports._replace(blind=(*told.ports.blind, blind)) if blind else told.ports)

    def _show(self, told: Ports) -> None:
        self.told = told
        self.pairs, metric = form.pairs(told), form.metric(told)
        if metric != self.metric:
            self.metric = metric
