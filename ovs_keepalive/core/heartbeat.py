# SPDX-License-Identifier: Apache-2.0
"""The laws of the heartbeat: every transition of a PMD's state stands in TABLE, and nowhere else.

1. Progress is a change of the PMD's Iterations, up or down; nothing else is.
2. Silence counts only where two looks prove it. Time in which nobody could look is no silence.
3. An rxq list older than the last progress proves nothing: without a newer one there is no MISSING.
4. MISSING is published before DEAD, unless the thread or its process ended.
5. The cause found first stays until progress.
6. A thread that vanished is normal until vswitchd, asked afterwards, still counts its core.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ovs_keepalive.core import cause, observe, vswitchd
from ovs_keepalive.core.model import (
    NEVER,
    Cause,
    Looks,
    Moment,
    Pmd,
    Seen,
    Settings,
    State,
    ThreadId,
    Transition,
    Vswitchd,
    VswitchdState,
)
from ovs_keepalive.core.pace import LOOKS

HISTORY = 500  # transitions kept
CONFIRM = 0.1  # intervals between MISSING and the look that confirms DEAD
GONE_AFTER = 3.0  # intervals
STARVED_AFTER = 3.0  # intervals
ASLEEP_FROM, AWAKE_BELOW = 0.6, 0.4  # sleep iterations / iterations
UNVERIFIED = "run-time (unverified)"
RXQS_AGE = 5.0  # seconds after which an rxq list is asked for again


class Sight(Enum):
    """What the looks at one PMD amount to. The value is the sentence of docs/states.md."""

    QUIET = "no progress, for less than one interval; or nothing could be proven"
    AWAKE = "its Iterations changed"
    ASLEEP = "its Iterations changed, and in 60 % of them or more it slept (until below 40 %)"
    UNPOLLED = "vswitchd, asked after its last progress, lists no rxq for it"
    SILENT = "no progress for one interval, and it has rxqs"
    PROVEN = "still none in a later look, and the additional checks are done"
    LONG = "no progress for three intervals"
    EXITED = "its thread is gone, vswitchd still counts its core, one interval of silence"
    ENDED = "its process is gone: a crash, or an orderly stop whose deadline is over"


U, A, S, M, D, G = State.UNUSED, State.ALIVE, State.SLEEP, State.MISSING, State.DEAD, State.GONE

# fmt: off
TABLE: dict[Sight, dict[State, State]] = {
    #                from U  A     S     M     D     G
    Sight.QUIET:    {U: U, A: A, S: S, M: M, D: D, G: G},
    Sight.AWAKE:    {U: A, A: A, S: A, M: A, D: A, G: A},
    Sight.ASLEEP:   {U: A, A: S, S: S, M: A, D: A, G: A},
    Sight.UNPOLLED: {U: U, A: U, S: U, M: U, D: U, G: U},
    Sight.SILENT:   {U: M, A: M, S: M, M: M, D: D, G: G},
    Sight.PROVEN:   {U: M, A: M, S: M, M: D, D: D, G: G},
    Sight.LONG:     {U: M, A: M, S: M, M: D, D: G, G: G},
    Sight.EXITED:   {U: U, A: G, S: G, M: G, D: G, G: G},
    Sight.ENDED:    {U: U, A: G, S: G, M: G, D: G, G: G},
}
# fmt: on

WELL = (State.UNUSED, State.ALIVE, State.SLEEP)


@dataclass(frozen=True)
class Register:
    """All PMD threads known, and the process they belong to."""

    judged: dict[ThreadId, Pmd]  # at the last look that showed anything else than PMDs that go on
    vswitchd: Vswitchd
    history: tuple[Transition, ...]  # newest last
    version: int  # another number for each change of a state or cause
    course: observe.Course | None  # what they have done since then; None when more has to be seen of them
    steady: bool = False  # the last look showed nothing but PMDs that go on

    @cached_property
    def pmds(self) -> dict[ThreadId, Pmd]:
        """As of now: replaced as a whole, never changed in place."""
        return observe.caught_up(self.judged, self.course) if self.steady and self.course else self.judged


EMPTY = Register({}, vswitchd.UNKNOWN, (), 0, None)


def judge(register: Register, looks: Looks, settings: Settings, interval: float, period: float) -> Register:
    """The register after these looks.

    interval: seconds, the effective one; period: seconds between two looks.
    """
    if register.course is not None and vswitchd.goes_on(register.vswitchd, looks):
        course = observe.gone_on(register.course, looks)
        if course is not None:
            return Register(register.judged, register.vswitchd, register.history, register.version, course, steady=True)
    process = vswitchd.judge(register.vswitchd, looks, register.pmds.values(), settings)
    view = observe.view(looks, period)
    pmds: dict[ThreadId, Pmd] = {}
    for pmd in _with_new_threads(register.pmds, looks):
        seen: Pmd | None = pmd
        if pmd.id.process == process.process:
            seen = observe.after(pmd, view)
            sight = Sight.QUIET if seen is None else _sight(seen, view, interval)
        elif vswitchd.keeps_verdicts(process, looks.now):
            sight = Sight.QUIET
        else:
            sight = Sight.ENDED
        if seen is not None:
            unverified = seen.quiet < interval / 2 and min(view.silent, looks.now.mono - seen.progress.mono) >= interval
            user = None if looks.core_users is None else looks.core_users.get(seen.id)
            pmds[seen.id] = _move(seen, sight, looks.now, _while_well(seen, unverified, user))
    pmds, process = _hand_over(pmds, process, view, looks.now, settings, interval)
    news = tuple(_transitions(register, pmds, process, looks.now))
    history = (register.history + news)[-HISTORY:] if news else register.history
    version = register.version + (bool(news) or _retold(register, pmds, process))
    return Register(pmds, process, history, version, observe.course(pmds, process.process, looks.now))


def wants_rxqs(register: Register, interval: float, now: float) -> bool:
    """Whether vswitchd should be asked for its rxq list: before any MISSING, and where a PMD's use is in doubt."""
    for pmd in register.pmds.values():
        if pmd.id.process != register.vswitchd.process:
            continue
        if pmd.rxqs is None:
            return True
        age = now - pmd.rxqs_at
        stale = pmd.rxqs_at <= pmd.progress.mono
        in_doubt = pmd.quiet >= 0.5 * interval or (pmd.state is State.UNUSED and age >= min(1.0, interval))
        if age > max(RXQS_AGE, interval) or (stale and in_doubt):
            return True
    return False


def next_look(register: Register, interval: float) -> float:
    """Monotonic time at which a fresh look could move a state; infinite when nothing is near."""
    times = []
    for pmd in register.pmds.values():
        if pmd.quiet <= 0.0 or not pmd.rxqs or pmd.id.process != register.vswitchd.process:
            continue
        if pmd.state is State.MISSING:
            times.append(pmd.since.mono + CONFIRM * interval)
        elif pmd.state is State.DEAD:
            times.append(pmd.compared + GONE_AFTER * interval - pmd.quiet)
        elif pmd.state is not State.GONE:
            times.append(pmd.compared + interval - pmd.quiet)
    return min(times, default=math.inf)


def starved(register: Register, interval: float) -> frozenset[ThreadId]:
    """PMDs that have waited for a CPU for three intervals, and of which it is not told yet who has it."""
    return frozenset(
        pmd.id
        for pmd in register.pmds.values()
        if pmd.starved_from
        and pmd.cause is Cause.NONE
        and pmd.witness != UNVERIFIED  # nothing else is told of it then: the answer would be asked for again and again
        and pmd.state in (State.ALIVE, State.SLEEP)
        # The newest look came a little early, as any may.
        and pmd.mark_look.at - pmd.starved_from >= 0.95 * STARVED_AFTER * interval
    )


def suspects(register: Register) -> frozenset[int]:
    """Threads (tids) that made no progress in their last look: /proc is asked for all it knows of them."""
    return frozenset(pmd.id.tid for pmd in register.pmds.values() if pmd.quiet > 0.0 and pmd.rxqs)


def lacks_base(register: Register) -> bool:
    """Whether a PMD has just fallen silent: /proc was not looked at since its last progress."""
    return any(pmd.quiet > 0.0 and pmd.rxqs and pmd.base.at <= pmd.progress.mono for pmd in register.pmds.values())


def _with_new_threads(known: dict[ThreadId, Pmd], looks: Looks) -> Iterator[Pmd]:
    yield from known.values()
    if isinstance(looks.threads, Seen):
        yield from (observe.new(thread, looks.threads.at) for thread in looks.threads.value if thread.id not in known)


def _sight(pmd: Pmd, view: observe.View, interval: float) -> Sight:
    if pmd.rxqs == () and (pmd.state is State.UNUSED or pmd.rxqs_at > pmd.progress.mono):
        return Sight.UNPOLLED
    if observe.progressed(pmd):
        return Sight.ASLEEP if _asleep(pmd) else Sight.AWAKE
    # A mute main thread cannot be asked: then the last list it gave has to do.
    listed = bool(pmd.rxqs) and (pmd.rxqs_at > pmd.progress.mono or view.mute)
    if not listed or pmd.quiet < interval:
        return Sight.QUIET
    if pmd.vanished_at is not None:
        # Whether it was removed or has died is vswitchd's to say, asked after it vanished.
        return Sight.EXITED if pmd.compared > pmd.vanished_at else Sight.QUIET
    if pmd.quiet >= GONE_AFTER * interval:
        return Sight.LONG
    if pmd.state is State.MISSING and pmd.compared - pmd.since.mono >= CONFIRM * interval:
        return Sight.PROVEN
    return Sight.SILENT


def _asleep(pmd: Pmd) -> bool:
    if pmd.shares is None or pmd.shares.sleep is None:
        return False
    return pmd.shares.sleep >= (AWAKE_BELOW if pmd.state is State.SLEEP else ASLEEP_FROM)


def _while_well(pmd: Pmd, unverified: bool, user: str | None) -> cause.Verdict:
    """What is told of it as long as it is well. user: who has its CPU, if that has just been found out."""
    if pmd.state is State.UNUSED:
        return cause.WELL
    if unverified:
        # Nobody can tell whether it makes progress: it keeps its state, and this is all that speaks for it.
        return cause.Verdict(Cause.NONE, UNVERIFIED)
    if pmd.starved_from and pmd.cause is Cause.STARVED and pmd.state in WELL:
        return cause.Verdict(pmd.cause, pmd.witness)
    if pmd.starved_from and user is not None and pmd.shares is not None:
        return cause.of_starved(pmd.shares, user)
    return cause.WELL


def _move(pmd: Pmd, sight: Sight, now: Moment, while_well: cause.Verdict) -> Pmd:
    state = TABLE[sight][pmd.state]
    verdict = while_well if state in WELL else _verdict(pmd, sight)
    if verdict != (pmd.cause, pmd.witness):
        since = now if verdict.cause is not pmd.cause else pmd.cause_since
        pmd = pmd._replace(cause=verdict.cause, cause_since=since, witness=verdict.witness)
    if state is pmd.state:
        return pmd
    missed = pmd.state in WELL and state not in WELL
    return pmd._replace(state=state, since=now, misses=pmd.misses + missed)


def _verdict(pmd: Pmd, sight: Sight) -> cause.Verdict:
    """The cause of a state that is bad: the one found first stays."""
    known = pmd.state not in WELL and pmd.cause not in (Cause.NONE, Cause.UNKNOWN)
    if known or sight is Sight.QUIET:
        return cause.Verdict(pmd.cause, pmd.witness)
    if sight is Sight.ENDED:
        return cause.Verdict(Cause.PROCESS_GONE, "the ovs-vswitchd process ended")
    if sight is Sight.EXITED:
        return cause.Verdict(Cause.EXITED, "the thread is gone, vswitchd still counts its core")
    return cause.of_thread(pmd.base, pmd.look)


def _hand_over(
    pmds: dict[ThreadId, Pmd], process: Vswitchd, view: observe.View, now: Moment, settings: Settings, interval: float
) -> tuple[dict[ThreadId, Pmd], Vswitchd]:
    """Let the PMDs of an earlier process go, all at once, when the present one has registered its own."""
    if all(pmd.id.process == process.process for pmd in pmds.values()):
        return pmds, process
    present = {id: pmd for id, pmd in pmds.items() if pmd.id.process == process.process}
    settled = process.state is VswitchdState.RUNNING and now.mono - process.since.mono > settings.restart_deadline
    if not process.first_at and any(pmd.state is not State.UNUSED for pmd in present.values()):
        process = process._replace(first_at=now.mono)
    waited = now.mono - process.first_at if process.first_at else 0.0
    if settled or waited > interval / 2 or _are_registered(present.values(), view, waited >= interval / LOOKS):
        if process.state is VswitchdState.STARTING:
            witness = "answers, its PMDs are registered"
            process = process._replace(state=VswitchdState.RUNNING, since=now, witness=witness)
        return present, process._replace(deadline=None)
    known = {id: pmd for id, pmd in pmds.items() if id not in present and pmd.state is not State.UNUSED}
    return known | {id: _held_back(pmd) for id, pmd in present.items()}, process


def _held_back(pmd: Pmd) -> Pmd:
    """A new process's PMD that waits to be registered with the others: names may be those of the old ones."""
    return pmd._replace(state=State.UNUSED, since=pmd.cause_since) if pmd.state in WELL else pmd


def _are_registered(pmds: Collection[Pmd], view: observe.View, again: bool) -> bool:
    """Whether all of a new process's PMDs can be registered. again: it was asked once more since the first could be."""
    # vswitchd counts a PMD as soon as it has made it, /proc shows its name a moment later.
    pending = any(pmd.state is State.UNUSED and pmd.rxqs != () for pmd in pmds)
    counted = view.blocks is not None and view.blocks.keys() <= {pmd.core for pmd in pmds}
    # It polls nothing, or not yet: vswitchd answers between two ports, too.
    idle = any(pmd.state is State.UNUSED for pmd in pmds)
    registered = any(pmd.state is not State.UNUSED for pmd in pmds)
    return registered and counted and not pending and (again or not idle)


def _retold(register: Register, pmds: dict[ThreadId, Pmd], process: Vswitchd) -> bool:
    """Whether something else than a state is news: a cause, a silence first noted, a thread or process that came."""
    before = register.pmds
    return (
        process.noted != register.vswitchd.noted
        or process.process != register.vswitchd.process
        or process.culprit != register.vswitchd.culprit
        or pmds.keys() != before.keys()
        or any((pmd.cause, pmd.witness) != (before[id].cause, before[id].witness) for id, pmd in pmds.items())
    )


def _transitions(register: Register, pmds: dict[ThreadId, Pmd], process: Vswitchd, now: Moment) -> Iterable[Transition]:
    was, told = vswitchd.told(register.vswitchd), vswitchd.told(process)
    if was.state is told.state is VswitchdState.CRASH_LOOP:
        news = told.crashes != was.crashes  # that it was started once more is none
    else:
        news = told.state is not was.state or told.process != was.process
    if news:
        yield Transition(now, "vswitchd", was.state, told.state, "none", told.witness)
    for id, pmd in pmds.items():
        old = register.pmds.get(id)
        if old is None or old.state is pmd.state or {old.state, pmd.state} == {State.ALIVE, State.SLEEP}:
            continue
        yield Transition(now, pmd.name, old.state, pmd.state, pmd.cause, _evidence(old, pmd, now))
    for id, old in register.pmds.items():
        if id not in pmds and old.state is not State.UNUSED:
            why = "replaced by the new process's PMDs" if id.process != process.process else "removed by vswitchd"
            yield Transition(now, old.name, old.state, State.UNUSED, "none", why)


def _evidence(old: Pmd, pmd: Pmd, now: Moment) -> str:
    if old.state is State.UNUSED and pmd.state in WELL:
        return "registered: " + (", ".join(f"{rxq.port}/{rxq.queue}" for rxq in pmd.rxqs or ()) or "rxqs not told yet")
    if pmd.state is State.UNUSED:
        return "vswitchd lists no rxq for it"
    if pmd.state is State.ALIVE:
        # Not old.quiet: that ends with the first sign of run time, which a silent main thread cannot confirm.
        return (
            f"progress again after {pmd.progress.mono - old.progress.mono:.2f} s"
            if old.progress != NEVER
            else "progress"
        )
    if pmd.progress == NEVER:
        seen = "no progress ever seen"
    else:
        seen = f"last progress {now.mono - pmd.progress.mono:.2f} s ago"
    return f"{seen}; {pmd.witness}" if pmd.witness else seen
