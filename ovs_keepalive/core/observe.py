# SPDX-License-Identifier: Apache-2.0
"""What a look adds to what is known of one PMD: progress, proven silence, shares. No state is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ovs_keepalive.core import cause
from ovs_keepalive.core.model import (
    NEVER,
    Cause,
    Looks,
    Moment,
    Pmd,
    PmdBlock,
    PmdRxqs,
    ProcessId,
    Seen,
    Shares,
    State,
    ThreadId,
    ThreadLook,
)


class Starved(NamedTuple):
    """Below `run` and above `wait`, parts of wall time, a PMD is starved."""

    run: float
    wait: float


STARVED_FROM, STARVED_UNTIL = Starved(0.5, 0.25), Starved(0.6, 0.15)
WINDOW = 0.95  # seconds; shares are computed over 1 s at least, less what a reply may come sooner


class View(NamedTuple):
    """The looks of one beat, arranged for look-up. A None mapping: that source brought nothing."""

    at: Moment  # of the threads look
    threads: Mapping[ThreadId, ThreadLook] | None
    cores: frozenset[int]  # cores that have a PMD thread now
    counters_at: Moment
    blocks: Mapping[int, PmdBlock] | None  # by core
    rxqs_at: Moment
    rxqs: Mapping[int, PmdRxqs] | None  # by core
    silent: float  # seconds for which the main thread has owed an answer
    mute: bool  # that is more than half a look period: it cannot be asked now
    longest_gap: float  # seconds of silence that two successive looks can prove


def view(looks: Looks, period: float) -> View:
    """Arrange the looks. period: seconds between two looks."""
    threads = looks.threads.value if isinstance(looks.threads, Seen) else None
    silent = looks.main.silent if looks.main is not None else 0.0
    if looks.iterations is not None:
        counters_at: Moment = looks.iterations.at
        blocks: dict[int, PmdBlock] | None = {
            core: _bare(core, count) for core, count in looks.iterations.value.items()
        }
    else:
        counters_at = looks.counters.at if looks.counters is not None else looks.now
        blocks = _blocks(looks.counters.value) if isinstance(looks.counters, Seen) else None
    return View(
        at=looks.threads.at if looks.threads is not None else looks.now,
        threads=None if threads is None else {thread.id: thread for thread in threads},
        cores=frozenset(thread.core for thread in threads or ()),
        counters_at=counters_at,
        blocks=blocks,
        rxqs_at=looks.rxqs.at if looks.rxqs is not None else looks.now,
        rxqs={pmd.core: pmd for pmd in looks.rxqs.value} if isinstance(looks.rxqs, Seen) else None,
        silent=silent,
        mute=silent > period / 2,
        # A look that comes late proves silence only for the time that was due to it: when the daemon, the
        # machine or vswitchd's main thread stood still, the PMD may rightly have stood still too.
        longest_gap=1.5 * period + 0.01,
    )


def shared_cores(blocks: tuple[PmdBlock, ...]) -> tuple[int, ...]:
    """Cores polled for several userspace datapaths: /proc cannot tell whose PMD thread is whose."""
    cores = [block.core for block in blocks]
    return tuple(sorted({core for core in cores if cores.count(core) > 1}))


def _bare(core: int, iterations: int) -> PmdBlock:
    return PmdBlock("", -1, core, iterations, None, None, None, None, None)


def _blocks(blocks: tuple[PmdBlock, ...]) -> dict[int, PmdBlock]:
    by_core = {block.core: block for block in blocks}
    if len(by_core) < len(blocks):
        for core in shared_cores(blocks):
            del by_core[core]
    return by_core


class Course(NamedTuple):
    """PMDs that do nothing but go on, told by their Iterations alone: the common case, made cheap."""

    at: Moment
    iterations: Mapping[int, int]  # by core
    parked: frozenset[int]  # cores whose PMD polls nothing: theirs stand still


def course(pmds: Mapping[ThreadId, Pmd], process: ProcessId | None, at: Moment) -> Course | None:
    """What the Iterations of the next look are compared with; None when there is more to see than progress."""
    iterations, parked = {}, set()
    for id, pmd in pmds.items():
        if (
            pmd.quiet
            or pmd.vanished_at is not None
            or pmd.iterations is None
            or id.process != process
            or pmd.core in iterations
        ):
            return None
        if pmd.state is State.UNUSED and pmd.rxqs == ():
            parked.add(pmd.core)
        elif (
            (pmd.state is not State.ALIVE and pmd.state is not State.SLEEP)
            or pmd.since.mono >= pmd.compared  # its state is new: whether it sleeps is not told yet
            or pmd.mark is None
        ):
            return None
        iterations[pmd.core] = pmd.iterations
    return Course(at, iterations, frozenset(parked))


def gone_on(course: Course, looks: Looks) -> Course | None:
    """The course after a look in which each PMD did nothing but go on; None when there is more to it."""
    if looks.iterations is None or looks.threads is not None or looks.rxqs is not None:
        return None
    before, now, parked = course.iterations, looks.iterations.value, course.parked
    if now.keys() != before.keys():
        return None
    for core, count in now.items():
        goes_on = count == before[core] if core in parked else count > before[core]
        if not goes_on:
            return None
    return Course(looks.iterations.at, now, parked)


def caught_up(pmds: Mapping[ThreadId, Pmd], course: Course) -> dict[ThreadId, Pmd]:
    """The PMDs at the end of a course that began with them."""
    at = course.at
    return {
        id: pmd
        if pmd.core in course.parked
        else pmd._replace(iterations=course.iterations[pmd.core], progress=at, compared=at.mono)
        for id, pmd in pmds.items()
    }


def new(thread: ThreadLook, at: Moment) -> Pmd:
    """A PMD thread at its first sight: nothing is proven yet."""
    return Pmd(
        id=thread.id,
        name=thread.name,
        core=thread.core,
        numa=None,
        state=State.UNUSED,
        since=at,
        cause=Cause.NONE,
        cause_since=at,
        witness="",
        progress=NEVER,
        iterations=None,
        quiet=0.0,
        compared=at.mono,
        still=0.0,
        rxqs=None,
        rxqs_at=0.0,
        look=thread,
        base=thread,
        vanished_at=None,
        mark=None,
        mark_look=thread,
        shares=None,
        starved_from=0.0,
        misses=0,
        longest=0.0,
    )


def progressed(pmd: Pmd) -> bool:
    """Whether the newest comparison showed progress."""
    return pmd.progress != NEVER and pmd.compared == pmd.progress.mono


def after(pmd: Pmd, view: View) -> Pmd | None:
    """The PMD after these looks; None when it is known to have been removed or replaced on purpose."""
    seen: Pmd | None = pmd
    if view.threads is not None:
        seen = _thread(pmd, view.threads, view)
    if seen is not None and view.blocks is not None:
        seen = _counters(seen, view.blocks, view)
    if seen is not None and view.rxqs is not None:
        seen = _rxqs(seen, view.rxqs, view.rxqs_at.mono)
    return seen


def _thread(pmd: Pmd, threads: Mapping[ThreadId, ThreadLook], view: View) -> Pmd | None:
    look = threads.get(pmd.id)
    if look is None:
        if pmd.core in view.cores:
            return None  # another thread polls its core now: it was replaced
        return pmd if pmd.vanished_at is not None else pmd._replace(vanished_at=view.at.mono)
    if pmd.vanished_at is not None:
        pmd = pmd._replace(vanished_at=None)  # one look had overlooked it
    if look is pmd.look:
        return pmd
    quiet, compared, still = pmd.quiet, pmd.compared, pmd.still
    base = look if pmd.base.at <= pmd.progress.mono else pmd.base
    if view.silent and look.at > compared and cause.stands_still(pmd.look, look):
        # It may have gone on until the look from which on it is proven to stand still.
        base = pmd.base if cause.stands_still(pmd.base, look) else pmd.look
        gap = min(max(0.0, pmd.look.at - max(compared, base.at)), view.longest_gap)
        gap += min(look.at - max(compared, pmd.look.at), view.longest_gap)
        quiet, compared, still = quiet + gap, look.at, still + gap
    elif look.run_ns != pmd.look.run_ns:
        # It ran: what looked like a stall was a nap, and naps do not add up. What the Iterations proved stays.
        quiet, still = max(0.0, quiet - still), 0.0
    return pmd._replace(look=look, name=look.name, base=base, quiet=quiet, compared=compared, still=still)


def _counters(pmd: Pmd, blocks: Mapping[int, PmdBlock], view: View) -> Pmd | None:
    block, at = blocks.get(pmd.core), view.counters_at
    if block is None:
        removed = pmd.vanished_at is not None and at.mono > pmd.vanished_at
        return None if removed else pmd
    if block.iterations is None:
        return pmd
    if pmd.iterations is None:
        if block.idle is None:
            return pmd
        numa = block.numa if block.numa >= 0 else None  # OVS knows no node for it
        return pmd._replace(
            iterations=block.iterations, numa=numa, compared=at.mono, mark=Seen(at, block), mark_look=pmd.look
        )
    if block.iterations == pmd.iterations:
        if not pmd.rxqs:
            return pmd  # nothing to do, as far as is known: that is no silence
        # /proc may have proven a part of this silence already.
        gap = max(0.0, min(at.mono - pmd.compared, view.longest_gap))
        return pmd._replace(quiet=pmd.quiet + gap, compared=max(at.mono, pmd.compared), still=0.0)
    shares, mark, mark_look = _window(pmd, Seen(at, block))
    starved_from = pmd.starved_from
    if mark_look is not pmd.mark_look and shares is not None:
        starved_from = (pmd.starved_from or pmd.mark_look.at) if _waits(pmd, shares) else 0.0
    return pmd._replace(
        iterations=block.iterations,
        progress=at,
        quiet=0.0,
        compared=at.mono,
        still=0.0,
        longest=max(pmd.longest, pmd.quiet),
        shares=shares,
        starved_from=starved_from,
        mark=mark,
        mark_look=mark_look,
    )


def _waits(pmd: Pmd, shares: Shares) -> bool:
    """Whether something else has the CPU that it could use: with hysteresis, for load comes and goes."""
    if shares.run is None or shares.wait is None:
        return False
    if pmd.starved_from:
        return shares.run < STARVED_UNTIL.run and shares.wait > STARVED_UNTIL.wait
    return shares.run < STARVED_FROM.run and shares.wait > STARVED_FROM.wait


def _rxqs(pmd: Pmd, rxqs: Mapping[int, PmdRxqs], at: float) -> Pmd | None:
    listed = rxqs.get(pmd.core)
    if listed is None and pmd.vanished_at is not None and at > pmd.vanished_at:
        return None
    polled = listed.rxqs if listed is not None else ()
    if polled and not pmd.rxqs:
        # It has work from now on. Silence before that was rest.
        pmd = pmd._replace(
            quiet=0.0, still=0.0, compared=max(at, pmd.compared) if not progressed(pmd) else pmd.compared
        )
    return pmd._replace(rxqs=polled, rxqs_at=at, quiet=pmd.quiet if polled else 0.0)


def _window(pmd: Pmd, now: Seen[PmdBlock]) -> tuple[Shares | None, Seen[PmdBlock], ThreadLook]:
    mark, look = pmd.mark, pmd.look
    if mark is None or mark.value.idle is None or mark.value.iterations is None or now.value.iterations is None:
        return pmd.shares, now, look
    if now.value.idle is None:
        return pmd.shares, mark, pmd.mark_look  # only its iterations were read
    elapsed = now.at.mono - mark.at.mono
    done = now.value.iterations - mark.value.iterations
    if done <= 0:
        return pmd.shares, now, look  # pmd-stats-clear: the next window tells
    if elapsed < WINDOW:
        return pmd.shares, mark, pmd.mark_look

    def part(after: int | None, before: int | None) -> float | None:
        # Counters are read one after the other without a lock: idle can exceed Iterations by one.
        return None if after is None or before is None or after < before else min(1.0, (after - before) / done)

    def spent(after: int | None, before: int | None, last: float | None) -> float | None:
        passed = look.at - pmd.mark_look.at
        if not passed:
            return last  # /proc was not read in this window
        return None if after is None or before is None or passed <= 0 else max(0.0, (after - before) / 1e9 / passed)

    shares = Shares(
        rate=done / elapsed,
        busy=part(now.value.busy, mark.value.busy),
        idle=part(now.value.idle, mark.value.idle),
        sleep=part(now.value.sleep, mark.value.sleep),
        run=spent(look.run_ns, pmd.mark_look.run_ns, pmd.shares.run if pmd.shares else None),
        wait=spent(look.wait_ns, pmd.mark_look.wait_ns, pmd.shares.wait if pmd.shares else None),
    )
    return shares, now, look
