# SPDX-License-Identifier: Apache-2.0
"""The columns: whatever is known of the PMDs, and whatever they are called, every consumer can read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovs_keepalive.core.model import Cause, Moment, Pmd, Rxq, Snapshot, State, VswitchdState
from ovs_keepalive.formats import column
from ovs_keepalive.formats.column import Pair
from tests.looks import SECOND, SETTINGS, WALL_MS, pmd, running, snapshot

SHOWN = tuple(state for state in State if state is not State.UNUSED)
WELL = (State.ALIVE, State.SLEEP)
ENDED = (Cause.EXITED, Cause.PROCESS_GONE)
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# Surrogates too: that is how Python reads bytes that are no UTF-8.
NAMES = st.text(max_size=20) | st.text(st.sampled_from(";=\n\r\t\x00\x1b\x7f\x85\u2028\udcffa"), max_size=20)
MOMENTS = st.builds(Moment, st.floats(0, 1e9), st.integers(0, 4_000_000_000_000))
PAIRS = st.builds(Pair, st.sampled_from(SHOWN), st.integers(0, 999_999_999), st.integers(0, 10**18 - 1))


@st.composite
def _pmds(draw: st.DrawFn) -> Pmd:
    cause = draw(st.sampled_from(list(Cause)))
    return pmd(
        draw(st.integers(0, 1023)),
        draw(st.integers(0, 9)),
        # Not those of the other pairs: a thread counts as a PMD only if its name begins with "pmd-c".
        name=draw(st.sampled_from(["pmd-c00/id:6", "pmd-c01/id:7"]) | NAMES.filter(lambda name: name not in RESERVED)),
        state=draw(st.sampled_from(list(State))),
        cause=cause,
        cause_since=draw(MOMENTS),
        witness=draw(NAMES) or ("" if cause is Cause.NONE else "seen"),
        progress=draw(MOMENTS),
        rxqs=draw(st.none() | st.lists(st.builds(Rxq, NAMES, st.integers(0, 9)), max_size=2).map(tuple)),
    )


RESERVED = ("daemon", "vswitchd")


@st.composite
def _snapshots(draw: st.DrawFn) -> Snapshot:
    vswitchd = running(
        draw(st.none() | st.just(SECOND)),
        state=draw(st.sampled_from(list(VswitchdState))),
        noted=draw(st.floats(0, 1e6)),
        culprit=draw(NAMES),
        witness=draw(NAMES),
    )
    return snapshot(draw(st.lists(_pmds(), max_size=4)), vswitchd=vswitchd, at=draw(MOMENTS))


@given(PAIRS)
def test_a_pair_is_read_back_as_it_was_written(pair: Pair) -> None:
    assert column.parse(column.render(pair)) == pair


@given(st.text() | st.tuples(st.sampled_from(list(State)), st.text(), st.text()).map(",".join))
@example("ALIVE,\u0663,1")
def test_any_other_value_is_refused_in_one_line(text: str) -> None:
    why = ""
    try:
        pair = column.parse(text)
    except ValueError as error:
        why = str(error)
    else:
        assert column.parse(column.render(pair)) == pair
        assert text.isascii()
    assert why.isprintable()
    assert len(why) < 400


@given(_snapshots())
def test_the_column_has_one_readable_pair_for_each_registered_name(shown: Snapshot) -> None:
    pairs = column.keepalive(shown)
    assert set(pairs) == {column.clean(known.name) for known in shown.registered}
    for name, pair in pairs.items():
        assert not UNSAFE.search(name)
        assert ";" not in name
        assert column.parse(column.render(pair)) == pair


@given(_snapshots(), st.text(max_size=8), st.integers(1, 99999))
def test_no_name_puts_a_separator_or_a_control_character_into_a_detail(shown: Snapshot, version: str, pid: int) -> None:
    pairs = column.detail(shown, version, pid)
    for name, value in pairs.items():
        assert not UNSAFE.search(name + value)
        name.encode()
        value.encode()
        for part in value.split(";")[name == "vswitchd" :]:
            assert "=" in part
    assert [part.partition("=")[0] for part in pairs["daemon"].split(";")] == [
        "version",
        "pid",
        "interval",
        "since",
        "beat",
    ]
    causes = {column.clean(known.name) for known in shown.registered if known.cause is not Cause.NONE}
    for name in causes - {"daemon", "vswitchd"}:
        assert [part.partition("=")[0] for part in pairs[name].split(";")] == ["cause", "since", "witness"]


@given(_snapshots(), st.integers(0, 4_000_000_000_000))
def test_a_beat_alone_is_no_news(shown: Snapshot, later: int) -> None:
    one = column.detail(shown, "1", 2)
    other = {name: re.sub("beat=[0-9]+$", f"beat={later}", value) for name, value in one.items()}
    assert column.without_beat(one) == column.without_beat({**one, "daemon": other["daemon"]})
    assert "beat" not in column.without_beat(one)["daemon"]


def test_nothing_is_left_in_the_columns_while_disabled() -> None:
    off = snapshot([pmd(state=State.DEAD)], settings=type(SETTINGS)(False, 1.0, 0.01, 60.0, 60.0))
    assert column.keepalive(off) == {}
    assert column.detail(off, "1", 2) == {}


@given(st.lists(_snapshots(), min_size=1, max_size=6))
def test_missing_is_written_before_dead_unless_thread_or_process_ended(shown: list[Snapshot]) -> None:
    written: dict[str, Pair] = {}
    for now in shown:
        wanted = column.keepalive(now)
        step = column.staged(wanted, written, now)
        ended = {column.clean(known.name) for known in now.pmds if known.cause in ENDED}
        assert step.keys() == wanted.keys()
        for name, pair in step.items():
            was = written[name].state if name in written else State.ALIVE
            if pair.state in (State.DEAD, State.GONE) and was in WELL:
                assert name in ended
            assert pair._replace(state=wanted[name].state) == wanted[name]
        again = column.staged(wanted, step, now)
        assert again == wanted  # one step in between, not more
        written = step


@pytest.mark.parametrize("why", ENDED, ids=str)
def test_an_end_of_thread_or_process_is_written_at_once(why: Cause) -> None:
    before = column.keepalive(snapshot([pmd()]))
    now = snapshot([pmd(state=State.GONE, cause=why, witness="seen")])
    assert column.staged(column.keepalive(now), before, now) == column.keepalive(now)


@given(_snapshots())
def test_what_is_well_or_missing_is_written_as_it_is(shown: Snapshot) -> None:
    wanted = column.keepalive(shown)
    step = column.staged(wanted, {}, shown)
    for name, pair in wanted.items():
        if pair.state not in (State.DEAD, State.GONE):
            assert step[name] == pair


def test_last_seen_is_epoch_milliseconds_of_the_progress() -> None:
    shown = snapshot([pmd(3, 8, progress=Moment(5.0, 1763690430123))], at=Moment(9.0, WALL_MS))
    assert {name: column.render(pair) for name, pair in column.keepalive(shown).items()} == {
        "pmd-c03/id:8": "ALIVE,3,1763690430123"
    }
