# SPDX-License-Identifier: Apache-2.0
"""Runs the operator's program for a request that this host has claimed: no shell, a minute at most, once a claim.

Exactly once is what the record says; what the program does may be done twice, by two hosts, when a session is lost in
the middle of it. So it is told the request's id, when it was posted, and the fence: no two claims have all three alike,
since a fence grows with each claim of a request, and begins again only with the next request by that id.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import Held
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.programs.running import Program, environment, why_not_started

LONGEST = 60.0  # seconds that a hook may take; then it is killed with its process group
GIVE_BACK = 75  # EX_TEMPFAIL of sysexits.h: not by this host, not now
PRINTED = 300  # bytes of what it prints that are kept; the rest is read and dropped
LONGEST_FACT = 400  # characters
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR")
PREFIX = "OVSKA_"


class Result(Enum):
    """What is to become of the request."""

    DONE = "done"
    GIVEN_BACK = "given back"


class Ending(NamedTuple):
    """How a hook ended."""

    result: Result
    words: str  # for the record and the log


def facts(held: Held, numa: int) -> dict[str, str]:
    """What a hook is told, by the names of its environment. Other hosts' text is one line, and bounded."""
    said = {
        "REQUEST_ID": held.help.id,
        "POSTED": str(held.help.t),
        "FENCE": str(held.fence),
        "HOST": held.help.host,
        "KIND": held.help.kind,
        "WHY": held.help.why,
        "NUMA": str(numa),
    }
    return {f"{PREFIX}{name}": short(one_line(value), LONGEST_FACT) for name, value in said.items()}


class Hooks:
    """Those under way. Nothing here waits; look() belongs to the main loop. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._runs: dict[str, Program] = {}

    def start(self, program: Path, held: Held, numa: int, now: float) -> Ending | None:
        """Run it for this claim; an ending if it cannot be run."""
        inherited = {name.encode(): os.environb[name.encode()] for name in INHERITED if name in os.environ}
        try:
            self._runs[held.help.id] = Program(
                program, environment(facts(held, numa), inherited), now + LONGEST, PRINTED
            )
        except OSError as error:
            why = f"hook {program.name}: could not be started: {why_not_started(error)}"
            return Ending(Result.GIVEN_BACK, why)
        return None

    def look(self, now: float) -> dict[str, Ending]:
        """Those that have ended since, by the request's id; one that took too long is killed."""
        endings = {id: ending for id, run in self._runs.items() if (ending := _look(run, now)) is not None}
        for id in endings:
            del self._runs[id]
        return endings

    def kill(self, why: str) -> dict[str, Ending]:
        """End all of them at once: this host may not have what it claimed any more."""
        endings = {id: _killed(run, why) for id, run in self._runs.items()}
        self._runs.clear()
        return endings

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that turn readable when one ends or prints."""
        return tuple(descriptor for run in self._runs.values() for descriptor in (*run.ending, *run.output))

    def next_look(self) -> float | None:
        """When one has to be looked at at the latest."""
        return min((run.until for run in self._runs.values()), default=None)


def _look(run: Program, now: float) -> Ending | None:
    run.read()
    if run.has_ended:
        return _ended(run)
    return _killed(run, f"took more than {LONGEST:g} s") if now >= run.until else None


def _killed(run: Program, why: str) -> Ending:
    run.kill()
    run.finish()
    return Ending(Result.GIVEN_BACK, f"hook {run.name}: {why}: killed")


def _ended(run: Program) -> Ending:
    status = run.finish()
    said = short(one_line(run.printed.decode(errors="replace").strip().replace("\n", " | ")), PRINTED)
    words = f"hook {run.name}: " + (said or "printed nothing")
    if status == 0:
        return Ending(Result.DONE, words)
    how = "gives it back" if status == GIVE_BACK else f"signal {-status}" if status < 0 else f"status {status}"
    return Ending(Result.GIVEN_BACK, f"{words} ({how})")
