# SPDX-License-Identifier: Apache-2.0
"""From a look at the ports, and what is remembered of them, to what is said of them. The same look twice says the same.

What one look alone may catch in passing (a connection that is being negotiated) is said when it has lasted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ovs_keepalive.core import port_findings, port_states
from ovs_keepalive.core.model import NEVER, Moment, ProcessId, Snapshot, Transition
from ovs_keepalive.core.port_findings import Polled
from ovs_keepalive.core.port_states import Case
from ovs_keepalive.core.ports import (
    Counters,
    Port,
    PortFacts,
    PortMemory,
    Ports,
    PortsMemory,
    PortState,
    Return,
    Returned,
    Survey,
)

PATIENCE = 3.0  # seconds after which what is usually over in one is told
SLOW = (PortState.NOT_NEGOTIATED, PortState.NO_LINK, PortState.STALE_SOCKET)
UNPOLLED = 5.0  # seconds after which a port that no PMD polls is told: a reconfiguration takes less
FLAPS_KEPT = 16
RETURNS_KEPT = 10
BLIND = ("threads:", "rxqs:", "iterations:", "main thread:")  # in these words a snapshot says that it does not see


class Polling(NamedTuple):
    """Who polls what."""

    at: float  # monotonic; the oldest answer that it is made of
    ports: Mapping[str, Polled]


class Told(NamedTuple):
    """What comes of a look."""

    memory: PortsMemory
    ports: Ports
    news: tuple[Transition, ...]


def polling(snapshot: Snapshot, process: ProcessId | None) -> Polling | None:
    """Who polls what, as the beat has seen it; None where that is not known of every PMD of that process."""
    pmds = [pmd for pmd in snapshot.pmds if pmd.id.process == process]
    if not pmds or any(pmd.rxqs is None for pmd in pmds) or any(line.startswith(BLIND) for line in snapshot.blind):
        return None
    ports: dict[str, list[tuple[str, str, int]]] = {}
    for pmd in pmds:
        for rxq in pmd.rxqs or ():
            ports.setdefault(rxq.port, []).append((pmd.name, str(pmd.state), rxq.queue))
    return Polling(min(pmd.rxqs_at for pmd in pmds), {name: tuple(polled) for name, polled in ports.items()})


def follow(was: PortsMemory, survey: Survey, blind: str, polled: Polling | None) -> Told:
    """What is remembered and said after this look. blind: why vswitchd's rows prove nothing (port_states.why_blind)."""
    known = {memory.name: memory for memory in was.ports}
    returns = _begun(was, survey)
    memories, ports, news = [], [], []
    pending = False
    for facts in survey.ports:
        memory = known.get(facts.name)
        if memory is None or memory.type != facts.type:  # of a port made anew as another type nothing is known
            memory = PortMemory(facts.name, facts.id, facts.type, survey.at)
        case = Case(facts, _remembered(memory, Case(facts, memory, survey, blind), polled), survey, blind)
        memory, port = _judged(case, polled)
        pending = pending or memory.raw is not port.state or (memory.unpolled > 0.0 and not _may_tell(memory, polled))
        if port.state is not None and port.state is not case.memory.state:
            if (old := case.memory.state) is not None:
                news.append(Transition(survey.at, f"port:{facts.name}", str(old), str(port.state), "none", port.why))
            memory = memory._replace(state=port.state, since=survey.at)
            port = port._replace(since=survey.at)
        memories.append(memory)
        ports.append(port)
    returns = tuple(_went_on(one, memories, survey) for one in returns)
    since = was.since if was.since != NEVER else survey.at
    process = survey.process or was.process
    said = Ports(survey.at, survey.process, tuple(ports), survey.blind, since, returns, pending)
    return Told(PortsMemory(since, process, tuple(memories), returns), said, tuple(news))


def _remembered(memory: PortMemory, case: Case, polled: Polling | None) -> PortMemory:
    """The memory with what this look adds; the state is not judged yet."""
    facts, survey = case.facts, case.survey
    connected = port_states.is_connected(case)
    drops = facts.drops - (memory.drops if memory.run == survey.run else 0)
    flaps = memory.flaps
    # After a restart the row of the process before it ends, too: that is no flap.
    if drops > 0 and memory.process is not None and memory.process == survey.process:
        flaps = (*flaps, *[survey.at] * min(drops, FLAPS_KEPT))[-FLAPS_KEPT:]
    memory = memory._replace(run=survey.run, drops=facts.drops, flaps=flaps, id=facts.id)
    if connected:
        memory = memory._replace(here=True, connected=survey.at, process=survey.process)
    elif not case.blind and facts.peer == "disconnected" and case.age >= port_states.SETTLE:
        memory = memory._replace(here=False)
    return memory._replace(moved=_moved(memory.moved, facts, connected), unpolled=_unpolled(memory, case, polled))


def _moved(mark: Counters | None, facts: PortFacts, connected: bool) -> Counters | None:
    now = facts.counters
    if not connected or not isinstance(now, Counters):
        return None
    if mark is None or now.tx != mark.tx or now.tx_dropped <= mark.tx_dropped:
        return now
    return mark


def _unpolled(memory: PortMemory, case: Case, polled: Polling | None) -> float:
    if polled is None or case.blind or case.facts.name in polled.ports or (case.facts.ofport or -1) < 1:
        return 0.0
    return memory.unpolled or case.survey.at.mono


def _judged(case: Case, polled: Polling | None) -> tuple[PortMemory, Port]:
    """The memory, which knows of no new state yet, and the port with the one that is told."""
    memory, at = case.memory, case.survey.at
    raw, why = port_states.judge(case)
    if raw is not memory.raw:
        memory = memory._replace(raw=raw, raw_since=at)
    state, since = raw, memory.since
    if raw in SLOW and raw is not memory.state and case.facts.is_vhost and at.mono - memory.raw_since.mono < PATIENCE:
        state, why = memory.state, f"as of now: {why}"
    lost = NEVER if state is not None else memory.lost if memory.lost != NEVER else at
    memory = memory._replace(lost=lost)
    if state is None:
        since = lost
    polled_by = _polled(case, memory, polled)
    findings = []
    if state is not None and state is raw and (own := port_states.finding(case, state, why)) is not None:
        findings.append(own)
    findings += port_findings.beside(case, state, polled_by)
    flaps = len(port_states.recent(memory, at.mono))
    return memory, Port(case.facts, state, since, why, polled_by or (), tuple(findings), tuple(_unseen(case)), flaps)


def _polled(case: Case, memory: PortMemory, polled: Polling | None) -> Polled | None:
    """Who polls it; None while that is not known."""
    if polled is None or case.blind:
        return None
    found = polled.ports.get(case.facts.name)
    if found is None and not _may_tell(memory, polled):
        return None
    return found or ()


def _unseen(case: Case) -> list[str]:
    facts = case.facts
    looks = (("packets", facts.counters), ("socket", facts.socket), ("peers", facts.peers), ("flows", facts.reach))
    return [f"{what}: {look}" for what, look in looks if isinstance(look, str) and look]


def _may_tell(memory: PortMemory, polled: Polling | None) -> bool:
    """Whether a port that nobody polls has been so for long enough, and by an answer of that time."""
    return polled is not None and polled.at - memory.unpolled >= UNPOLLED


# --- a restart ---------------------------------------------------------------------------------


def _begun(was: PortsMemory, survey: Survey) -> tuple[Returned, ...]:
    if survey.process is None or was.process is None or survey.process == was.process:
        return was.returns
    there = tuple(Return(memory.name) for memory in was.ports if memory.here)
    if not there:
        return was.returns
    return (*was.returns, Returned(was.process.pid, survey.process.pid, there))[-RETURNS_KEPT:]


def _went_on(one: Returned, memories: list[PortMemory], survey: Survey) -> Returned:
    if survey.process is None or survey.process.pid != one.pid_new:
        return one
    there = {memory.name for memory in memories if memory.here and memory.process == survey.process}
    facts = {facts.name: facts for facts in survey.ports if facts.name in there}
    ports = tuple(_came(port, facts[port.name], survey.at) if port.name in facts else port for port in one.ports)
    return one if ports == one.ports else one._replace(ports=ports)


def _came(port: Return, facts: PortFacts, at: Moment) -> Return:
    """What this look adds."""
    # For some seconds its row has what the vswitchd before counted: more than at an earlier look of this one is proof.
    port = port._replace(connected=port.connected or at, link=port.link or (at if facts.link == "up" else None))
    if port.packets is not None or not isinstance(facts.counters, Counters):
        return port
    counted = facts.counters.rx + facts.counters.tx
    went = port.counted is not None and counted > port.counted
    return port._replace(packets=at if went else None, counted=None if went else counted)
