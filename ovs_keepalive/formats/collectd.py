# SPDX-License-Identifier: Apache-2.0
"""The words of collectd's exec plugin: PUTVAL and PUTNOTIF (collectd-exec(5), collectd-unixsock(5)).

Whatever is in the columns, a line stays a line and shorter than the exec plugin's buffer: a longer one it takes for
the end of the child's output, and never listens to it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ovs_keepalive.core.model import Moment, State, VswitchdState
from ovs_keepalive.formats.alarms import DAEMON, SEVERITIES, VSWITCHD, Notice, Severity, Watch
from ovs_keepalive.formats.column import Pair
from ovs_keepalive.formats.plain import one_line

PLUGIN = "ovs_keepalive"
LONGEST_LINE = 1190  # bytes with the line's end; exec.c reads into 1200
LONGEST_NAME = 120  # characters of a part of an identifier; collectd keeps 127
LONGEST_INSTANCE = 80
LONGEST_TEXT = 240  # bytes of a message; collectd keeps 255, and would cut a character in two
LONGEST_WITNESS, LONGEST_FACT = 200, 40  # bytes of a meta value
_UNFIT = re.compile(r"[^A-Za-z0-9_.:+@-]")

# The numbers of the 2017 series. They are in no order of badness: bool-alive is what to draw and to alarm on.
STATE_NUMBERS = {State.UNUSED: 0, State.ALIVE: 1, State.DEAD: 2, State.GONE: 3, State.MISSING: 4, State.SLEEP: 5}
VSWITCHD_NUMBERS = {state: number for number, state in enumerate(VswitchdState, 1)}  # RUNNING 1 … CRASH-LOOP 7


def plain_name(text: str, most: int = LONGEST_INSTANCE) -> str:
    """A name as a part of an identifier, in which `/` parts: pmd-c03/id:8 is pmd-c03_id:8. Never empty."""
    return _UNFIT.sub("_", text[:most]) or "_"


def quoted(text: str, most: int) -> str:
    """The text as a quoted value of at most so many bytes, its quotes not counted."""
    kept, left = [], most
    for char in one_line(text):
        escaped = f"\\{char}" if char in '\\"' else char
        left -= len(escaped.encode())
        if left < 0:
            break
        kept.append(escaped)
    return f'"{"".join(kept)}"'


def notification(notice: Notice, host: str) -> str:
    """The line that tells a notice. Its meta values are strings: any other kind collectd refuses with the line."""
    at, thing, alarm, previous = notice
    facts = {"state": alarm.word, "previous": previous, "name": thing.name, **alarm.facts}
    most = {"witness": LONGEST_WITNESS, "name": LONGEST_INSTANCE}
    return " ".join(
        [
            f"PUTNOTIF time={at.wall_ms / 1000:.3f} severity={alarm.severity} host={plain_name(host, LONGEST_NAME)}",
            f"plugin={PLUGIN} plugin_instance={plain_name(thing.name)} type=gauge type_instance={thing.aspect}",
            *(f"s:{key}={quoted(text, most.get(key, LONGEST_FACT))}" for key, text in facts.items() if text),
            f"message={quoted(_message(notice), LONGEST_TEXT)}",
        ]
    )


def _message(notice: Notice) -> str:
    """A sentence: of a state, in the words that the note on collectd's own plugins has."""
    _, thing, alarm, previous = notice
    is_state = thing.aspect == "state" and (alarm.word in SEVERITIES or alarm.word in VSWITCHD_NUMBERS)
    if not is_state or (alarm.severity is Severity.WARNING and alarm.word == State.ALIVE):
        return alarm.text
    verb = "has been changed to" if previous and previous != alarm.word else "is"
    why = f": {alarm.text}" if alarm.text else ""
    return f'keepalive state of "{thing.name}" {verb} "{alarm.word}"{why}'


def values(watch: Watch, host: str, interval: float, now: Moment) -> Iterator[str]:
    """A line for each value, as long as they can be believed. interval: seconds until the next ones."""
    where = plain_name(host, LONGEST_NAME)

    def line(instance: str, what: str, value: float | str) -> str:
        return f'PUTVAL "{where}/{PLUGIN}-{instance}/{what}" interval={interval:g} N:{value}'

    if watch.beat_ms is not None:
        yield line(DAEMON, "duration-beat", _age(watch.beat_ms, now))
    if not watch.trusted:
        return
    for name, pair in watch.pairs.items():
        if not watch.is_stale(name):
            instance = plain_name(name)
            yield line(instance, "gauge-state", STATE_NUMBERS[pair.state])
            yield line(instance, "bool-alive", int(SEVERITIES[pair.state] is Severity.OKAY))
            yield line(instance, "duration-last_seen", _last_seen(pair, now))
    word = (watch.content.detail or {}).get(VSWITCHD, "").partition(";")[0]
    if word in VSWITCHD_NUMBERS:
        yield line(VSWITCHD, "gauge-state", VSWITCHD_NUMBERS[VswitchdState(word)])
        yield line(VSWITCHD, "bool-alive", int(word == VswitchdState.RUNNING))


def _last_seen(pair: Pair, now: Moment) -> str:
    return _age(pair.last_seen_ms, now) if pair.last_seen_ms else "U"


def _age(epoch_ms: int, now: Moment) -> str:
    """Seconds; a clock that is behind makes none of them negative."""
    return f"{max(0, now.wall_ms - epoch_ms) / 1000:.3f}"
