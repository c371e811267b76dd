# SPDX-License-Identifier: Apache-2.0
"""The ovs-vswitchd process and its main thread: who it is, whether it answers, how it ended.

A silent main thread is not a dead one: creating hundreds of PMDs silences it for 25 s (notes/pmd-signals).
A crash loop lies over the state of the present process: that one is judged as ever, `told` is what is said of both.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovs_keepalive.core import observe
from ovs_keepalive.core.log_events import MAIN
from ovs_keepalive.core.model import (
    BreakKind,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    Plan,
    Pmd,
    ProcessId,
    Seen,
    Settings,
    State,
    Vswitchd,
    VswitchdState,
)

SILENT = 4.0  # seconds; silence this long **with** evidence is HUNG (CONTRACT section 4)
LEFT_BEFORE = 0.1  # seconds; the threads of a killed process vanish within less
NOTED = 1.0  # seconds; silence from here on is told as silent=
CRASHES, CALM = 3, 600.0  # so many crashes within so many seconds are a loop, until as many seconds pass without one

UNKNOWN = Vswitchd(None, VswitchdState.GONE, Moment(0.0, 0), 0.0, 0.0, "no ovs-vswitchd found yet", "", None)


def judge(was: Vswitchd, looks: Looks, pmds: Iterable[Pmd], settings: Settings) -> Vswitchd:
    """The process as it stands after these looks. pmds: as they were judged last."""
    now = looks.now
    pmds = tuple(pmds)
    bereft = looks.process == was.process and any(pmd.vanished_at is not None for pmd in pmds)
    if bereft and looks.ended is None and not _is_ending(looks.main):
        was = was._replace(alive_at=now.mono)
    if goes_on(was, looks):
        return was
    if _is_calm(was, now):
        was = was._replace(crashes=(), looping=None)
    if looks.ended is not None and was.process == looks.ended.process:
        was = _ended(was, looks.ended.orderly or _left_before(pmds, was.alive_at), now, settings)
    if looks.process is None:
        return _absent(was, now, settings)
    if looks.process != was.process:
        # A restart under way keeps its deadline in view: the new process gets the same time once more.
        restarting = was.state is VswitchdState.RESTARTING
        deadline = now.mono + _allowed(was, settings) if restarting else None
        was = _other(was, looks.process, VswitchdState.STARTING, now, "new process, no answer yet", deadline)
    main = looks.main
    if main is None:
        return was
    was = was._replace(awaited=_awaited(looks, was.awaited) if main.silent else "")
    state, witness, culprit = _main(was, main, pmds, settings)
    if state is VswitchdState.RUNNING and keeps_verdicts(was, now) and _awaits_pmds(looks, pmds):
        state, witness = VswitchdState.STARTING, "answers, its PMDs are not registered yet"
    silent = main.silent if main.silent >= NOTED else 0.0
    if state is was.state:
        return was._replace(silent=silent, noted=(was.noted or silent) if silent else 0.0)
    return was._replace(state=state, since=now, silent=silent, noted=silent, witness=witness, culprit=culprit)


def goes_on(was: Vswitchd, looks: Looks) -> bool:
    """Whether nothing happened to it: the common case, told at once."""
    return (
        was.state is VswitchdState.RUNNING
        and was.process == looks.process
        and looks.ended is None
        and not was.silent
        and looks.main is not None
        and looks.main.silent < NOTED
        and looks.main.state != "T"
        and not _is_calm(was, looks.now)
    )


def told(vswitchd: Vswitchd) -> Vswitchd:
    """What is said of it: the crash loop, while there is one, whatever the present process does."""
    if vswitchd.looping is None:
        return vswitchd
    loop = f"{len(vswitchd.crashes)} crashes within {CALM / 60:.0f} min; now {vswitchd.state}: {vswitchd.witness}"
    return vswitchd._replace(state=VswitchdState.CRASH_LOOP, since=vswitchd.looping, witness=loop)


def keeps_verdicts(vswitchd: Vswitchd, now: Moment) -> bool:
    """Whether the PMDs of a process that ended keep their last state: an orderly restart inside its deadline."""
    return vswitchd.deadline is not None and now.mono <= vswitchd.deadline


def _left_before(pmds: tuple[Pmd, ...], alive_at: float) -> bool:
    """Whether PMD threads were gone well before their process: `ovs-appctl exit` lets them go first.

    alive_at: when its main thread was last seen alive. That its end was noticed late proves nothing.
    """
    known = [pmd for pmd in pmds if pmd.state is not State.GONE]
    return bool(known) and all(
        pmd.vanished_at is not None and alive_at - pmd.vanished_at >= LEFT_BEFORE for pmd in known
    )


def _is_ending(main: MainLook | None) -> bool:
    """Whether a process is on its way out, which takes a second where its hugepages have to be given back."""
    return main is not None and main.state in "XZ"


def _awaits_pmds(looks: Looks, pmds: tuple[Pmd, ...]) -> bool:
    return any(pmd.id.process != looks.process and pmd.state is not State.UNUSED for pmd in pmds)


def announced(vswitchd: Vswitchd, settings: Settings, now: Moment) -> Plan | None:
    """The announced restart that is still to begin, or under way; None when it is over, or its time has passed."""
    plan = settings.plan
    if plan is None:
        return None
    if plan == vswitchd.plan:
        return plan if keeps_verdicts(vswitchd, now) and vswitchd.state is not VswitchdState.RUNNING else None
    return plan if now.mono <= plan.at.mono + plan.seconds else None


def _ended(was: Vswitchd, orderly: bool, now: Moment, settings: Settings) -> Vswitchd:
    plan = announced(was, settings, now)
    if plan is not None and plan != was.plan:
        # `ovs-ctl restart` may end it by SIGKILL: what was announced is no crash, however it ended.
        how = "orderly stop" if orderly else "the process ended without removing its pidfile"
        was = was._replace(how=BreakKind.PLANNED, plan=plan)
        return _other(was, None, VswitchdState.RESTARTING, now, f"announced: {how}", now.mono + plan.seconds)
    was = was._replace(how=BreakKind.ORDERLY if orderly else BreakKind.CRASH)
    if orderly:
        deadline = now.mono + settings.restart_deadline
        return _other(was, None, VswitchdState.RESTARTING, now, "orderly stop", deadline)
    crashes = (*(crash for crash in was.crashes if now.mono - crash.mono < CALM), now)
    looping = was.looping or (now if len(crashes) >= CRASHES else None)
    witness = "the process ended without removing its pidfile"
    return _other(was, None, VswitchdState.GONE, now, witness, None)._replace(crashes=crashes, looping=looping)


def _allowed(was: Vswitchd, settings: Settings) -> float:
    """Seconds that the restart under way may take, from its beginning: a plan that was cancelled counts no more."""
    planned = was.how is BreakKind.PLANNED and was.plan is not None and was.plan == settings.plan
    return was.plan.seconds if planned and was.plan is not None else settings.restart_deadline


def _other(
    was: Vswitchd, process: ProcessId | None, state: VswitchdState, now: Moment, witness: str, deadline: float | None
) -> Vswitchd:
    """Another process, or none. What the one before was is forgotten, its crash is not."""
    then = Vswitchd(process, state, now, 0.0, 0.0, witness, "", deadline)
    return then._replace(crashes=was.crashes, looping=was.looping, how=was.how, plan=was.plan)


def _is_calm(was: Vswitchd, now: Moment) -> bool:
    """Whether the last crash counts no more."""
    return bool(was.crashes) and now.mono - was.crashes[-1].mono >= CALM


def _absent(was: Vswitchd, now: Moment, settings: Settings) -> Vswitchd:
    if was.state is VswitchdState.RESTARTING and was.deadline is not None and settings.plan != was.plan:
        was = was._replace(deadline=min(was.deadline, was.since.mono + _allowed(was, settings)))  # cancelled meanwhile
    if was.state is VswitchdState.RESTARTING and not keeps_verdicts(was, now):
        witness = "no new process by the deadline"
        return was._replace(state=VswitchdState.GONE, since=now, witness=witness, deadline=None)
    if was.since.mono == 0.0:
        return was._replace(since=now)
    return was


def _main(was: Vswitchd, main: MainLook, pmds: tuple[Pmd, ...], settings: Settings) -> tuple[VswitchdState, str, str]:
    if main.state == "T":
        return VswitchdState.STOPPED, "main thread in state T, stopped by a signal", ""
    if main.silent == 0.0 and main.answered:
        return VswitchdState.RUNNING, "answers", ""
    if main.silent >= SILENT and main.answered:
        silence = f"no answer for {main.silent:.0f} s"
        if main.state in "tD":
            return VswitchdState.HUNG, f"{silence}, main thread in state {main.state}", ""
        own = (pmd for pmd in pmds if pmd.id.process == was.process)  # those of one before it cannot hold it up
        stalled = next((pmd.name for pmd in own if pmd.state in (State.DEAD, State.GONE)), None)
        if stalled is not None:
            return VswitchdState.HUNG, f"{silence}, while {stalled} is stalled", stalled
        if was.awaited:
            witness = f"{silence}, its log: blocked, waiting for {was.awaited} to quiesce"
            return VswitchdState.HUNG, witness, was.awaited if was.awaited.startswith("pmd-") else ""
    if main.silent >= settings.hung_after:
        return VswitchdState.HUNG, f"no answer for {main.silent:.0f} s", ""
    if was.state is VswitchdState.STOPPED:
        back = VswitchdState.RUNNING if main.answered else VswitchdState.STARTING
        return back, "main thread runs again, no answer yet", ""
    return was.state, was.witness, was.culprit


def _awaited(looks: Looks, before: str) -> str:
    """The thread that main has been waiting for, long enough to be evidence."""
    if not isinstance(looks.log, Seen):
        return before
    told = [event for event in looks.log.value if event.by == MAIN]
    return next((event.who for event in reversed(told) if event.ms >= SILENT * 1000), before)


def blind(looks: Looks, before: tuple[str, ...]) -> tuple[str, ...]:
    """What cannot be seen, a line each. before: the lines so far, of which those stay that nothing new was seen of."""
    lines = []
    for what, look in (
        ("threads", looks.threads),
        ("iterations", looks.counters or looks.iterations),
        ("rxqs", looks.rxqs),
        ("log", looks.log),
    ):
        if look is None:
            lines += [line for line in before if line.startswith(f"{what}:")]
        elif isinstance(look, NotSeen):
            lines.append(f"{what}: {look.why}")
        elif look is looks.counters and (cores := observe.shared_cores(looks.counters.value)):
            lines.append(f"iterations: PMDs of several datapaths share cores {cores}, /proc cannot tell which is which")
    if looks.main is not None and looks.main.silent >= NOTED:
        lines.append(f"main thread: no answer for {looks.main.silent:.0f} s")
    return tuple(lines)
