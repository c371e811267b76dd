# SPDX-License-Identifier: Apache-2.0
"""A line that comes again and again is told a few times, and then how often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.repeats import FREE, KINDS, WINDOW, Repeats


def test_the_first_lines_are_told_the_others_counted_until_the_window_is_over() -> None:
    repeats = Repeats()
    told = [repeats.line("kind", f"line {second}", float(second)) for second in range(int(WINDOW))]
    assert told[:FREE] == [f"line {second}" for second in range(FREE)]
    assert set(told[FREE:]) == {None}
    assert repeats.line("kind", "again", WINDOW) == (
        f"again (and {int(WINDOW) - FREE} more like it since the last one told)"
    )
    assert repeats.line("kind", "and again", WINDOW + 1) == "and again"


def test_another_kind_is_not_held_back() -> None:
    repeats = Repeats()
    for second in range(100):
        repeats.line("kind", "line", float(second))
    assert repeats.line("other", "line", 100.0) == "line"


def test_kinds_without_end_are_forgotten() -> None:
    repeats = Repeats()
    for number in range(10 * KINDS):
        assert repeats.line(f"kind {number}", "line", float(number)) == "line"
    assert len(repeats._kinds) <= KINDS


@given(st.lists(st.floats(0, 300), max_size=200))
def test_no_line_is_lost_from_the_count(pauses: list[float]) -> None:
    repeats, now, counted = Repeats(), 0.0, 0
    held = 0
    for pause in pauses:
        now += pause
        line = repeats.line("kind", "x", now)
        if line is None:
            held += 1
        else:
            counted += 1 + (int(line.split()[2]) if " " in line else 0)
            held = 0
    assert counted + held == len(pauses)
