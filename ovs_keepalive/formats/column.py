# SPDX-License-Identifier: Apache-2.0
"""The pairs of the columns `keepalive` and `keepalive_detail` (CONTRACT section 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ovs_keepalive.core.model import Cause, Pmd, Snapshot, State
from ovs_keepalive.formats.plain import one_line

# ALIVE,3,1763690430123
_PAIR = re.compile(r"(ALIVE|SLEEP|MISSING|DEAD|GONE),([0-9]{1,9}),([0-9]{1,18})")


class Pair(NamedTuple):
    """A value of the column."""

    state: State
    core: int
    last_seen_ms: int  # epoch milliseconds of the last observed progress; 0: none was ever observed


def render(pair: Pair) -> str:
    """`STATE,core,last_seen`."""
    return f"{pair.state},{pair.core},{pair.last_seen_ms}"


def parse(value: str) -> Pair:
    """The reverse of render. Raises ValueError, one line."""
    match = _PAIR.fullmatch(value)
    if match is None:
        raise ValueError(f"{value[:30]!a} is not STATE,core,last_seen")
    return Pair(State(match[1]), int(match[2]), int(match[3]))


def keepalive(snapshot: Snapshot) -> dict[str, Pair]:
    """What the column `keepalive` has to hold, by the PMD's name; empty while disabled."""
    if not snapshot.settings.enabled:
        return {}
    return {clean(pmd.name): Pair(pmd.state, pmd.core, pmd.progress.wall_ms) for pmd in snapshot.registered}


def staged(wanted: Mapping[str, Pair], written: Mapping[str, Pair], snapshot: Snapshot) -> dict[str, Pair]:
    """The next step from what is written to what is wanted: MISSING goes into a transaction of its own.

    A database slower than the beat must not swallow it: only the exit of a thread or process has no MISSING.
    """
    ended = {clean(pmd.name) for pmd in snapshot.pmds if pmd.cause in (Cause.EXITED, Cause.PROCESS_GONE)}
    well = (State.ALIVE, State.SLEEP)
    return {
        name: pair._replace(state=State.MISSING)
        if pair.state in (State.DEAD, State.GONE)
        and name not in ended
        and (name not in written or written[name].state in well)
        else pair
        for name, pair in wanted.items()
    }


def detail(snapshot: Snapshot, version: str, pid: int) -> dict[str, str]:
    """What the column `keepalive_detail` has to hold, with `beat` in its pair `daemon`; empty while disabled."""
    if not snapshot.settings.enabled:
        return {}
    daemon = {
        "version": version,
        "pid": pid,
        "interval": round(snapshot.settings.interval * 1000),
        "since": snapshot.enabled_at.wall_ms,
        "beat": snapshot.at.wall_ms,
    }
    pairs = {"daemon": _parts(daemon), "vswitchd": _vswitchd(snapshot)}
    pairs.update(
        (clean(pmd.name), _cause(pmd)) for pmd in snapshot.registered if pmd.witness or pmd.cause is not Cause.NONE
    )
    return pairs


def without_beat(pairs: Mapping[str, str]) -> dict[str, str]:
    """The same without what changes at every beat: if this differs, it is news."""
    return {name: value.partition(";beat=")[0] if name == "daemon" else value for name, value in pairs.items()}


def told(state: State) -> State:
    """The state as far as it is news: SLEEP comes and goes with the next refresh."""
    return State.ALIVE if state is State.SLEEP else state


MIRROR_PREFIX = "ovs-keepalive-core"


def mirrored(snapshot: Snapshot) -> dict[str, str]:
    """What external_ids has to hold with `mirror: external_ids`: `STATE,<epoch ms>` of the state's begin, by core."""
    if not snapshot.settings.enabled:
        return {}
    return {f"{MIRROR_PREFIX}{pmd.core}": f"{told(pmd.state)},{pmd.since.wall_ms}" for pmd in snapshot.registered}


def same(value: str, wanted: str | None) -> bool:
    """Whether a mirrored value tells the state that is wanted, since whenever."""
    return wanted is not None and value.partition(",")[0] == wanted.partition(",")[0]


def clean(text: str) -> str:
    """Text without anything that could end a line or, as `;` does, a part of a value."""
    return one_line(text).replace(";", " ")


def _vswitchd(snapshot: Snapshot) -> str:
    process, state = snapshot.vswitchd.process, snapshot.vswitchd.state
    parts: dict[str, object] = {}
    if process is not None:
        parts["pid"] = process.pid
    parts["since"] = snapshot.vswitchd.since.wall_ms
    if snapshot.vswitchd.noted:
        parts["silent"] = round(snapshot.vswitchd.noted * 1000)
    if snapshot.vswitchd.culprit:
        parts["culprit"] = snapshot.vswitchd.culprit
    return f"{state};{_parts(parts)}"


def _cause(pmd: Pmd) -> str:
    return _parts({"cause": pmd.cause, "since": pmd.cause_since.wall_ms, "witness": pmd.witness or "nothing"})


def _parts(parts: Mapping[str, object]) -> str:
    return ";".join(f"{name}={clean(str(value))}" for name, value in parts.items())
