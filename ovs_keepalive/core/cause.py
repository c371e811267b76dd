# SPDX-License-Identifier: Apache-2.0
"""Why a PMD thread makes no progress: one table, first match wins.

Each row is a fault that was injected into a real PMD thread and looked at from outside
(notes/pmd-signals, section 2). A row uses only what the kernel says of the thread.
"""

from __future__ import annotations

from typing import NamedTuple

from ovs_keepalive.core.model import Cause, CloseLook, Shares, ThreadLook

# Below this part of wall time a thread cannot be said to run (fair_server leaves a starved one 5 %).
RUNS = 0.05
# A busy main thread parks a PMD in poll(2) while its only port is reconfigured: never a fault by itself.
POLL = ("7", "271")  # poll, ppoll on x86_64 …
POLL_WCHAN = ("poll_schedule_timeout", "do_poll", "do_sys_poll")  # … and by the kernel's function elsewhere
SLEEP_WCHAN = ("hrtimer_nanosleep", "do_nanosleep", *POLL_WCHAN)  # functions in which a thread is never D by itself
FREEZER_WCHAN = ("get_signal", "do_freezer_trap", "__refrigerator")


class Verdict(NamedTuple):
    """A cause and the evidence for it, in words without `;`."""

    cause: Cause
    witness: str


WELL = Verdict(Cause.NONE, "")


def of_starved(shares: Shares, user: str) -> Verdict:
    """Of a thread that makes progress and waits for its CPU. user: who has it, in words."""
    return Verdict(Cause.STARVED, f"runs {shares.run or 0:.0%} and waits {shares.wait or 0:.0%} of the time, {user}")


def of_thread(base: ThreadLook, look: ThreadLook) -> Verdict:
    """Judge a thread that made no progress. base: a look at it after its last progress; look: the newest one."""
    ran = _part(base.run_ns, look.run_ns, look.at - base.at)
    close = look.close or CloseLook(None, None, None)
    runs = ran is not None and ran >= RUNS
    where = _where(close)
    if look.state == "t":
        return Verdict(Cause.TRACED, f"state t, held by {close.tracer or 'a tracer'}")
    if look.state == "T":
        return Verdict(Cause.STOPPED, "state T, stopped by a signal")
    if look.state in "XZ":
        return Verdict(Cause.EXITED, f"state {look.state}, the thread is ending")
    if _frozen(look.state, close):
        return Verdict(Cause.FROZEN, f"state {look.state}, cgroup freezer{where}")
    if look.state == "D" and not runs:
        return Verdict(Cause.UNINTERRUPTIBLE, f"state D{where}")
    if look.state == "S" and not runs:
        return Verdict(Cause.BLOCKED, f"state S{where}, no run time")
    if ran is None:
        return Verdict(Cause.UNKNOWN, f"state {look.state}, run time not readable")
    if runs:
        return Verdict(Cause.SPINNING, f"runs {ran:.0%} of the time and finishes no iteration")
    return Verdict(Cause.STARVED, f"state {look.state}, ran {ran:.1%} of the time")


def stands_still(earlier: ThreadLook, look: ThreadLook) -> bool:
    """Whether /proc alone proves that the thread made no progress between two looks and is not parked by OVS.

    Needed while vswitchd's main thread is silent. R cannot be judged; S only with the right to read its
    system call, since S in poll(2) is where OVS itself parks a PMD.
    """
    if look.run_ns is None or look.run_ns != earlier.run_ns:
        return False
    if look.state in "tTDZX":
        return True
    if look.state != "S" or look.close is None or look.close.syscall is None:
        return False
    if _frozen(look.state, look.close):
        return True
    return look.close.syscall not in (*POLL, "running", "-1") and _function(look.close) not in POLL_WCHAN


def _frozen(state: str, close: CloseLook) -> bool:
    # A frozen cgroup v2 thread is S in get_signal; a v1 one is D, there or wherever it slept interruptibly (S).
    return (state in "SD" and _function(close) in FREEZER_WCHAN) or (state == "D" and _function(close) in SLEEP_WCHAN)


def _function(close: CloseLook) -> str:
    # The compiler's own copies of a function carry a suffix: poll_schedule_timeout.constprop.0
    return (close.wchan or "").partition(".")[0]


def _part(before: int | None, after: int | None, elapsed: float) -> float | None:
    if before is None or after is None or elapsed <= 0:
        return None
    return (after - before) / 1e9 / elapsed


def _where(close: CloseLook) -> str:
    words = []
    if close.syscall not in (None, "running", "-1"):
        words.append(f"in system call {close.syscall}")
    if close.wchan not in (None, "", "0"):
        words.append(f"waiting in {close.wchan}")
    return ", " + " ".join(words) if words else ""
