# SPDX-License-Identifier: Apache-2.0
"""What collectd is told of the two columns: each change once, nothing twice, nothing that is not known."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ovs_keepalive.collectd import MOST, Pipe, interval
from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats import alarms, collectd
from ovs_keepalive.formats.alarms import Content, Link, Watch
from tests.collectd_words import Told, Value, read

ON = {"enable-keepalive": "true"}
UP, DOWN = Link(True, "unix:db.sock", ""), Link(False, "unix:db.sock", "")
NAME = "pmd-c03/id:8"
START = 1_700_000_000_000  # epoch ms


class Story:
    """A watch with a clock of its own: what it told of each step, as collectd reads it."""

    def __init__(self, refresh: float = 1.0) -> None:
        self.seconds = 0.0
        self.watch = Watch(refresh, self.now)
        self.link = UP

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.seconds, START + round(self.seconds * 1000))

    def says(self, content: Content) -> list[Told]:
        """An update, and a turn."""
        notices = [*self.watch.take(content, self.now), *self.watch.look(self.link, self.now)]
        return [_told(collectd.notification(notice, "host")) for notice in notices]

    def passes(self, seconds: float, *, beats: bool = True) -> list[Told]:
        """Time, in turns of half a second; the daemon goes on to beat, or does not."""
        told: list[Told] = []
        for _ in range(round(seconds * 2)):
            self.seconds += 0.5
            if beats and self.link.connected and self.watch.content.detail:
                told += self.says(self.again())
            else:
                notices = self.watch.look(self.link, self.now)
                told += [_told(collectd.notification(notice, "host")) for notice in notices]
        return told

    def again(self) -> Content:
        """The present content with a new beat."""
        content = self.watch.content
        return content._replace(detail={**(content.detail or {}), "daemon": self.daemon()})

    def daemon(self, interval_ms: int = 1000) -> str:
        return f"version=1;pid=7;interval={interval_ms};since={START};beat={self.now.wall_ms}"

    def content(self, state: str = "ALIVE", cause: str = "", vswitchd: str = "RUNNING", **more: str) -> Content:
        """A database in which one PMD is in this state, and more of them, c04="DEAD"."""
        pairs = {NAME: f"{state},3,{START}"}
        pairs |= {f"pmd-{core}/id:9": f"{said},{int(core[1:])},{START}" for core, said in more.items()}
        detail = {"daemon": self.daemon(), "vswitchd": f"{vswitchd};pid=8;since={START}"}
        if cause:
            detail[NAME] = f"cause={cause};since={START};witness=state t, held by gdb (pid 901)"
        return Content(pairs, detail, ON)

    def values(self) -> dict[str, str]:
        lines = [read(line) for line in collectd.values(self.watch, "host", 10.0, self.now)]
        assert all(isinstance(line, Value) and line.host == "host" and line.interval == 10.0 for line in lines)
        return {f"{line.instance}/{line.type}": line.value for line in lines if isinstance(line, Value)}


def _told(line: str) -> Told:
    said = read(line)
    assert isinstance(said, Told)
    return said


def short(told: list[Told]) -> list[tuple[str, str, str]]:
    """Severity, instance and type of each."""
    return [(one.severity, one.instance, one.type) for one in told]


@pytest.fixture
def watch() -> Story:
    return Story()


# --- states ------------------------------------------------------------------------------------


def test_what_is_well_from_the_beginning_is_not_told(watch: Story) -> None:
    assert watch.says(watch.content()) == []
    assert watch.passes(30) == []


def test_a_pmd_goes_down_and_comes_back(watch: Story) -> None:
    watch.says(watch.content())
    told = [one for state in ("MISSING", "DEAD", "GONE", "ALIVE") for one in watch.says(watch.content(state, "traced"))]
    instance = "pmd-c03_id:8"
    assert short(told) == [
        ("warning", instance, "gauge-state"),
        ("failure", instance, "gauge-state"),
        ("failure", instance, "gauge-state"),
        ("okay", instance, "gauge-state"),
    ]
    assert told[1] == Told(
        "failure",
        instance,
        "gauge-state",
        'keepalive state of "pmd-c03/id:8" has been changed to "DEAD": traced: state t, held by gdb (pid 901)',
        {
            "state": "DEAD",
            "previous": "MISSING",
            "name": NAME,
            "core": "3",
            "last_seen_ms": str(START),
            "cause": "traced",
            "witness": "state t, held by gdb (pid 901)",
        },
        START / 1000,
        "host",
    )
    assert [one.meta["previous"] for one in told] == ["ALIVE", "MISSING", "DEAD", "GONE"]


def test_nothing_is_told_twice(watch: Story) -> None:
    watch.says(watch.content())
    assert len(watch.says(watch.content("DEAD", "traced"))) == 1
    assert watch.says(watch.content("DEAD", "stopped")) == []
    assert watch.passes(10) == []


def test_sleep_is_no_news(watch: Story) -> None:
    watch.says(watch.content("SLEEP"))
    assert watch.says(watch.content("ALIVE")) == []
    assert watch.says(watch.content("SLEEP")) == []
    [told] = watch.says(watch.content("MISSING"))
    assert told.meta["previous"] == "ALIVE"


def test_what_is_ill_from_the_beginning_is_told(watch: Story) -> None:
    told = watch.says(watch.content("DEAD", vswitchd="HUNG"))
    assert short(told) == [("failure", "pmd-c03_id:8", "gauge-state"), ("failure", "vswitchd", "gauge-state")]
    assert told[0].message == f'keepalive state of "{NAME}" is "DEAD"'
    assert "previous" not in told[0].meta


def test_a_starved_pmd_is_a_warning_though_alive(watch: Story) -> None:
    watch.says(watch.content())
    [told] = watch.says(watch.content("ALIVE", "starved"))
    assert (told.severity, told.meta["state"], told.meta["cause"]) == ("warning", "ALIVE", "starved")
    assert "too little CPU" in told.message
    [told] = watch.says(watch.content("ALIVE"))
    assert (told.severity, told.message) == ("okay", f'keepalive state of "{NAME}" is "ALIVE"')


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("STARTING", "warning"),
        ("RESTARTING", "warning"),
        ("HUNG", "failure"),
        ("STOPPED", "failure"),
        ("GONE", "failure"),
        ("CRASH-LOOP", "failure"),
        ("no such state", "warning"),
    ],
)
def test_vswitchd_is_told(watch: Story, state: str, severity: str) -> None:
    watch.says(watch.content())
    [told] = watch.says(watch.content(vswitchd=state))
    assert (told.severity, told.instance) == (severity, "vswitchd")
    assert watch.values().get("vswitchd/bool-alive", "0") == "0"
    [told] = watch.says(watch.content())
    assert (told.severity, told.instance, told.meta["pid"]) == ("okay", "vswitchd", "8")
    assert watch.values()["vswitchd/bool-alive"] == "1"


def test_a_pair_that_is_none_is_told_and_the_others_go_on(watch: Story) -> None:
    watch.says(watch.content(c04="ALIVE"))
    content = watch.content(c04="DEAD")
    assert content.keepalive is not None
    told = watch.says(content._replace(keepalive={**content.keepalive, NAME: "garbage"}))
    assert [(one.severity, one.meta["state"]) for one in told] == [("warning", "UNREADABLE"), ("failure", "DEAD")]
    assert "pmd-c03_id:8/gauge-state" not in watch.values()


@pytest.mark.parametrize("name", ["vswitchd", "daemon", "ovsdb"])
def test_a_pmd_that_is_called_like_something_else_is_none(watch: Story, name: str) -> None:
    content = watch.content(vswitchd="HUNG")
    assert content.keepalive is not None
    content = content._replace(keepalive={**content.keepalive, name: f"DEAD,5,{START}"})
    assert len(watch.says(content)) == 1
    assert watch.says(content) == []


# --- values ------------------------------------------------------------------------------------


def test_the_values(watch: Story) -> None:
    watch.says(watch.content("ALIVE", c04="DEAD", c05="SLEEP"))
    watch.seconds = 1.5
    assert watch.values() == {
        "daemon/duration-beat": "1.500",
        "pmd-c03_id:8/gauge-state": "1",
        "pmd-c03_id:8/bool-alive": "1",
        "pmd-c03_id:8/duration-last_seen": "1.500",
        "pmd-c04_id:9/gauge-state": "2",
        "pmd-c04_id:9/bool-alive": "0",
        "pmd-c04_id:9/duration-last_seen": "1.500",
        "pmd-c05_id:9/gauge-state": "5",
        "pmd-c05_id:9/bool-alive": "1",
        "pmd-c05_id:9/duration-last_seen": "1.500",
        "vswitchd/gauge-state": "1",
        "vswitchd/bool-alive": "1",
    }


def test_what_was_never_seen_has_no_age(watch: Story) -> None:
    watch.says(watch.content()._replace(keepalive={NAME: "MISSING,3,0"}))
    assert watch.values()["pmd-c03_id:8/duration-last_seen"] == "U"


def test_a_clock_that_is_behind_makes_no_age_negative(watch: Story) -> None:
    watch.says(watch.content()._replace(keepalive={NAME: f"ALIVE,3,{START + 9000}"}))
    assert watch.values()["pmd-c03_id:8/duration-last_seen"] == "0.000"


def test_no_values_without_a_connection(watch: Story) -> None:
    watch.says(watch.content())
    watch.link = DOWN
    watch.passes(0.5)
    assert watch.values() == {}


# --- who watches -------------------------------------------------------------------------------


def test_a_beat_that_stands_still_is_a_failure_of_its_own(watch: Story) -> None:
    watch.says(watch.content())
    assert watch.passes(5, beats=False) == []
    [told] = watch.passes(1, beats=False)
    assert (told.severity, told.instance, told.type) == ("failure", "daemon", "gauge-beat")
    assert "ovs-keepalive hangs or was killed" in told.message
    assert list(watch.values()) == ["daemon/duration-beat"]  # of the PMDs nobody knows
    assert watch.passes(100, beats=False) == []
    [told] = watch.says(watch.again())
    assert (told.severity, told.instance) == ("okay", "daemon")
    assert "pmd-c03_id:8/bool-alive" in watch.values()


@pytest.mark.parametrize(
    ("interval_ms", "refresh", "patience"),
    [(100, 1.0, 5.0), (1000, 1.0, 5.0), (10_000, 1.0, 30.0), (1000, 60.0, 180.0)],
)
def test_how_long_a_beat_may_stand_still(interval_ms: int, refresh: float, patience: float) -> None:
    watch = Story(refresh)
    detail = {"daemon": watch.daemon(interval_ms)}
    watch.says(Content({}, detail, ON))
    assert watch.passes(patience, beats=False) == []
    assert len(watch.passes(0.5, beats=False)) == 1


def test_an_old_last_seen_under_a_fresh_beat_is_none_of_our_alarms(watch: Story) -> None:
    watch.says(watch.content())
    assert watch.passes(300) == []
    assert watch.values()["pmd-c03_id:8/duration-last_seen"] == "300.000"


def test_the_word_of_a_daemon_that_is_long_dead_is_no_value(watch: Story) -> None:
    watch.seconds = 1000.0
    watch.link = UP
    old = Story().content()
    watch.says(old)
    assert list(watch.values()) == ["daemon/duration-beat"]
    [told] = watch.passes(6, beats=False)
    assert told.type == "gauge-beat"


def test_clocks_that_differ_are_no_alarm(watch: Story) -> None:
    """The database may be another host's: what counts is that the beat moves."""
    watch.watch.take(watch.content(), watch.now)
    for _ in range(40):
        watch.seconds += 1.0
        content = watch.again()
        assert content.detail is not None
        behind = content.detail["daemon"].replace(f"beat={watch.now.wall_ms}", f"beat={watch.now.wall_ms - 3_600_000}")
        assert watch.says(content._replace(detail={**content.detail, "daemon": behind})) == []
    assert "pmd-c03_id:8/bool-alive" in watch.values()


def test_without_a_detail_column_a_pair_that_stands_still_is_stale(watch: Story) -> None:
    content = watch.content(c04="DEAD")._replace(detail=None)
    assert short(watch.says(content)) == [("failure", "pmd-c04_id:9", "gauge-state")]
    [told] = watch.passes(60, beats=False)
    assert (told.severity, told.type, told.meta["state"]) == ("warning", "gauge-columns", "NO keepalive_detail")
    [told] = watch.passes(1, beats=False)
    assert (told.severity, told.instance, told.type) == ("failure", "pmd-c03_id:8", "gauge-last_seen")
    assert "pmd-c03_id:8/bool-alive" not in watch.values()
    watch.seconds += 1
    pairs = {NAME: f"ALIVE,3,{START + 61_000}", "pmd-c04/id:9": f"DEAD,4,{START}"}
    assert short(watch.says(content._replace(keepalive=pairs))) == [("okay", "pmd-c03_id:8", "gauge-last_seen")]


def test_once_there_is_a_beat_last_seen_is_not_judged(watch: Story) -> None:
    watch.says(watch.content()._replace(detail=None))
    watch.passes(61, beats=False)
    told = watch.says(watch.content())
    assert {(one.severity, one.type) for one in told} == {("okay", "gauge-last_seen"), ("okay", "gauge-columns")}
    assert watch.passes(300) == []


# --- what comes and goes -----------------------------------------------------------------------


def test_transitions_missed_while_disconnected_are_told_afterwards(watch: Story) -> None:
    watch.says(watch.content())
    watch.link = DOWN
    assert watch.passes(2.5) == []
    [told] = watch.passes(60)
    assert (told.severity, told.instance, told.type) == ("failure", "ovsdb", "gauge-connection")
    watch.link = UP
    told_again = watch.says(watch.content("GONE", "process-gone"))
    assert short(told_again) == [
        ("failure", "pmd-c03_id:8", "gauge-state"),
        ("okay", "ovsdb", "gauge-connection"),
    ]
    assert watch.passes(4, beats=False) == []  # the beat was not seen to stand still


def test_a_short_loss_of_the_connection_is_no_news(watch: Story) -> None:
    watch.says(watch.content())
    for _ in range(5):
        watch.link = DOWN
        assert watch.passes(2.5) == []
        watch.link = UP
        assert watch.passes(2.5) == []


def test_why_it_is_not_connected_is_told(watch: Story) -> None:
    watch.link = Link(False, "unix:db.sock", "unix:db.sock: cannot connect: permission denied: run as root")
    [told] = watch.passes(4)
    assert told.message == "unix:db.sock: cannot connect: permission denied: run as root"


def test_a_database_that_came_back_empty_is_no_transition(watch: Story) -> None:
    """The columns are ephemeral: after a restart of ovsdb-server they are empty until the daemon has written them."""
    watch.says(watch.content("DEAD", c04="ALIVE"))
    empty = Content({}, {}, ON)
    assert watch.says(empty) == []
    assert watch.passes(4, beats=False) == []
    assert watch.values() == {}
    assert short(watch.says(watch.content("DEAD", c04="MISSING"))) == [("warning", "pmd-c04_id:9", "gauge-state")]


def test_a_clean_stop_tells_that_nobody_watches_and_nothing_of_the_pmds(watch: Story) -> None:
    watch.says(watch.content("DEAD"))
    watch.says(Content({}, {}, ON))
    [told] = watch.passes(60, beats=False)
    assert (told.severity, told.type) == ("failure", "gauge-beat")
    assert "ovs-keepalive does not run" in told.message


def test_a_clean_stop_without_a_detail_column_is_told_too(watch: Story) -> None:
    watch.says(watch.content()._replace(detail=None))
    watch.passes(20, beats=False)
    watch.says(Content({}, None, ON))
    assert watch.passes(60, beats=False) == []
    [told] = watch.passes(1, beats=False)
    assert (told.severity, told.type) == ("failure", "gauge-beat")
    assert [one.type for one in watch.says(watch.content()._replace(detail=None))] == ["gauge-beat"]


def test_disabling_ends_every_alarm(watch: Story) -> None:
    watch.says(watch.content("DEAD", vswitchd="HUNG", c04="ALIVE"))
    told = watch.says(watch.content("DEAD", vswitchd="HUNG")._replace(other_config={"enable-keepalive": "false"}))
    assert short(told) == [("okay", "pmd-c03_id:8", "gauge-state"), ("okay", "vswitchd", "gauge-state")]
    assert "keepalive is disabled" in told[0].message
    assert watch.says(Content({}, {}, {})) == []
    assert watch.passes(100) == []
    assert watch.values() == {}
    assert watch.says(watch.content()) == []  # enabled again, and well


def test_a_pmd_that_is_taken_away_is_a_warning_until_it_is_back(watch: Story) -> None:
    watch.says(watch.content(c04="ALIVE"))
    assert watch.says(watch.content()) == []
    [told] = watch.passes(10)
    assert (told.severity, told.instance, told.meta["state"]) == ("warning", "pmd-c04_id:9", "REMOVED")
    [told] = watch.says(watch.content(c04="ALIVE"))
    assert (told.severity, told.instance) == ("okay", "pmd-c04_id:9")


def test_a_pmd_that_another_replaces_on_its_core_is_none(watch: Story) -> None:
    """vswitchd was restarted: all names are new, and what was GONE is no more."""
    watch.says(watch.content("GONE", c04="ALIVE"))
    content = watch.content()
    new = {"pmd-c03/id:12": f"ALIVE,3,{START}", "pmd-c04/id:13": f"ALIVE,4,{START}"}
    [told] = watch.says(content._replace(keepalive=new))
    assert (told.severity, told.instance, told.meta["state"]) == ("okay", "pmd-c03_id:8", "REPLACED")
    assert watch.passes(20) == []


def test_pmds_that_went_long_ago_are_forgotten(watch: Story) -> None:
    many = {f"pmd-c{core}/id:1": f"ALIVE,{core},{START}" for core in range(alarms.MOST + 50)}
    watch.says(watch.content()._replace(keepalive=many))
    watch.says(watch.content()._replace(keepalive={}))
    told = watch.passes(5)
    assert len(told) == alarms.MOST  # the others were forgotten before
    assert len(watch.watch._told) < alarms.MOST + 10


def test_a_column_that_is_absent_is_told_once(watch: Story) -> None:
    content = Content(None, None, ON)
    assert watch.says(content) == []
    assert watch.passes(9) == []
    [told] = watch.passes(60)
    assert (told.severity, told.instance, told.type) == ("failure", "ovsdb", "gauge-columns")
    assert "ovs-keepalive schema apply" in told.message
    assert short(watch.says(watch.content())) == [("okay", "ovsdb", "gauge-columns")]


def test_columns_that_go_and_come_back_lose_nothing(watch: Story) -> None:
    watch.says(watch.content(c04="DEAD"))
    watch.says(Content(None, None, ON))
    assert watch.passes(8) == []
    assert short(watch.says(watch.content("MISSING", c04="DEAD"))) == [("warning", "pmd-c03_id:8", "gauge-state")]


def test_while_disabled_no_column_is_missed(watch: Story) -> None:
    assert watch.says(Content(None, None, {})) == []
    assert watch.passes(100) == []


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        (NAME, "pmd-c03_id:8"),
        ('a"b\\c d', "a_b_c_d"),
        ("a\nPUTVAL b", "a_PUTVAL_b"),
        ("é\u202e/\ud800", "____"),
        ("x" * 300, "x" * 80),
        ("", "_"),
    ],
)
def test_a_name_cannot_break_a_line(watch: Story, name: str, instance: str) -> None:
    content = watch.content()._replace(keepalive={name: f"DEAD,3,{START}"})
    [told] = watch.says(content)
    assert told.instance == instance
    if len(name) < 20 and name.isprintable():
        assert told.meta.get("name", "") == name
        assert f'"{name}"' in told.message
    assert f"{instance}/gauge-state" in watch.values()


def test_a_host_may_be_called_anything(watch: Story) -> None:
    watch.says(watch.content("DEAD"))
    for host in ("a/b", 'a" b', "\udcff", "x" * 500):
        for line in collectd.values(watch.watch, host, 1.0, watch.now):
            assert read(line)


def test_the_longest_line_is_taken(watch: Story) -> None:
    quotes = '"' * 500
    content = watch.content("GONE")
    detail = {**(content.detail or {}), quotes: f"cause={quotes};since=1;witness={quotes}"}
    notices = watch.watch.take(
        content._replace(keepalive={quotes: f"GONE,{'9' * 9},{'9' * 18}"}, detail=detail), watch.now
    )
    [line] = [collectd.notification(notice, quotes) for notice in notices]
    assert read(line)
    assert len(line.encode()) > 700


# --- the pipe ----------------------------------------------------------------------------------


@contextmanager
def pipe() -> Iterator[tuple[Pipe, int]]:
    """A pipe and its reading end."""
    read_end, write_end = os.pipe()
    try:
        yield Pipe(write_end), read_end
    finally:
        os.close(write_end)
        os.close(read_end)


def drain(descriptor: int) -> bytes:
    data = b""
    while select.select([descriptor], [], [], 0)[0]:
        data += os.read(descriptor, 1 << 16)
    return data


def test_a_reader_that_sleeps_blocks_nobody_and_gets_whole_lines() -> None:
    with pipe() as (out, end):
        for number in range(1000):
            out.tell(f"notice {number} {'x' * 200}")
            out.update([f"value {number} {index} {'y' * 80}" for index in range(20)])
            out.flush()
        said, stuck = b"", out.waits
        assert stuck
        while out.waits:
            said += drain(end)
            out.flush()
        lines = (said + drain(end)).decode().splitlines()
        notices = [line.split()[1] for line in lines if line.startswith("notice")]
        assert notices == [str(number) for number in range(1000)]
        assert [line for line in lines if line.startswith("value 999 ")] != []
        assert {len(line.split()[-1]) for line in lines} == {80, 200}
        assert len(lines) < 1000 * 21  # of the values the newest are enough
        assert not out.closed


def test_what_nobody_reads_is_bounded_and_counted() -> None:
    with pipe() as (out, end):
        while out._writable():
            out.tell("x" * 4000)
            out.flush()
        for number in range(MOST + 100):
            out.tell(f"notice {number}")
        out.flush()
        assert out.lost == 100
        said = drain(end)
        out.flush()
        assert f"notice {MOST + 99}\n".encode() in said + drain(end)


def test_a_reader_that_went_is_noticed_at_once() -> None:
    read_end, write_end = os.pipe()
    out = Pipe(write_end)
    os.close(read_end)
    out.flush()
    os.close(write_end)
    assert out.closed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10.000", 10.0), ("1", 1.0), ("0.5", 0.5), ("", 10.0), ("x", 10.0), ("nan", 10.0), ("inf", 10.0), ("-1", 10.0)],
)
def test_how_often_collectd_wants_values(text: str, seconds: float) -> None:
    assert interval(text) == seconds
