# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in the columns, collectd gets lines that it can read, and is told nothing twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats import collectd
from ovs_keepalive.formats.alarms import Content, Link, Watch
from tests.collectd_words import Told, Value, read

START = 1_700_000_000_000
STATES = st.sampled_from(["ALIVE", "SLEEP", "MISSING", "DEAD", "GONE"])
HOSTILE = st.text(max_size=60) | st.sampled_from(['"', "\\", 'a" s:x="', "a\nPUTVAL b", "pmd-c03/id:8", "vswitchd"])
PAIRS = st.builds("{},{},{}".format, STATES, st.integers(0, 3), st.integers(START - 5000, START + 5000)) | HOSTILE
DETAILS = st.builds("cause={};since=1;witness={}".format, HOSTILE, HOSTILE) | HOSTILE
DAEMON = st.builds("interval={};beat={}".format, st.integers(0, 10**19), st.integers(0, 2 * START)) | HOSTILE
VSWITCHD = st.sampled_from(["RUNNING;pid=7", "HUNG;culprit=x", "GONE", ""]) | HOSTILE
NAMES = st.sampled_from(["pmd-c00/id:1", "pmd-c01/id:2", "pmd-c01/id:3"]) | HOSTILE


@st.composite
def contents(draw: st.DrawFn) -> Content:
    detail = draw(st.dictionaries(NAMES, DETAILS, max_size=3))
    detail |= draw(st.fixed_dictionaries({}, optional={"daemon": DAEMON, "vswitchd": VSWITCHD}))
    return Content(
        draw(st.none() | st.dictionaries(NAMES, PAIRS, max_size=4)),
        draw(st.none() | st.just(detail)),
        draw(st.sampled_from([{"enable-keepalive": "true"}] * 4 + [{}])),
    )


STEPS = st.lists(st.tuples(contents(), st.booleans(), st.floats(0, 100)), max_size=8)


@settings(max_examples=150)
@given(STEPS, HOSTILE)
def test_each_line_is_one_that_collectd_reads_and_each_change_is_one(
    steps: list[tuple[Content, bool, float]], host: str
) -> None:
    now = Moment(0.0, START)
    watch, last = Watch(1.0, now), dict[tuple[str, str], tuple[str, str]]()
    for content, connected, seconds in steps:
        now = Moment(now.mono + seconds, now.wall_ms + round(seconds * 1000))
        notices = [*watch.take(content, now), *watch.look(Link(connected, "unix:x", ""), now)]
        for notice in notices:
            told = read(collectd.notification(notice, host))
            assert isinstance(told, Told)
            now_is = (str(notice.alarm.severity), notice.alarm.word)
            thing = (notice.thing.name, notice.thing.aspect)
            assert last.get(thing, ("okay", "")) != now_is
            last[thing] = now_is
        assert watch.look(Link(connected, "unix:x", ""), now) == []
        for line in collectd.values(watch, host, 10.0, now):
            assert isinstance(read(line), Value)


@given(st.text(), st.integers(0, 300))
def test_quoting_is_undone_by_collectd(text: str, most: int) -> None:
    quoted = collectd.quoted(text, most)
    assert len(quoted.encode()) - 2 <= most
    line = f"PUTNOTIF time=1 severity=okay host=h plugin=ovs_keepalive plugin_instance=i type=gauge type_instance=x s:a={quoted} message=m"  # noqa: E501
    told = read(line)
    assert isinstance(told, Told)
    if text.isprintable() and 2 * len(text.encode()) <= most:
        assert told.meta["a"] == text
