# SPDX-License-Identifier: Apache-2.0
"""The black box: when an incident begins and ends, and that nothing of it can grow."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ovs_keepalive import records
from ovs_keepalive.blackbox import BlackBox
from ovs_keepalive.cli import main
from ovs_keepalive.core import incident
from ovs_keepalive.core.incident import Watch, follow
from ovs_keepalive.core.model import (
    NEVER,
    Moment,
    Snapshot,
    State,
    Transition,
    VswitchdState,
)
from ovs_keepalive.formats.incident import Head, Section, clipped, listing, text
from ovs_keepalive.formats.recent import KEPT, MOST, Recent
from ovs_keepalive.sandbox import wait
from ovs_keepalive.sensors import evidence
from ovs_keepalive.sensors.core_users import core_users
from tests import looks
from tests.looks import SETTINGS, pmd, running


def at(second: float) -> Moment:
    return Moment(second, 1_700_000_000_000 + round(second * 1000))


def snapshot(
    second: float, *told: tuple[str, str, str], states: tuple[State, ...] = (), vswitchd: str = "RUNNING"
) -> Snapshot:
    history = tuple(Transition(at(second), who, old, new, "none", "seen") for who, old, new in told)
    pmds = (pmd(core, state=state, iterations=10**12) for core, state in enumerate(states))
    long = (one._replace(look=one.look._replace(state="t", run_ns=10**15, wait_ns=10**15)) for one in pmds)
    return looks.snapshot(long, at=at(second), history=history, vswitchd=running(state=VswitchdState(vswitchd)))


P, Q = "pmd-c00/id:8", "pmd-c01/id:8"
A, D, M = State.ALIVE, State.DEAD, State.MISSING


@pytest.mark.parametrize(
    ("told", "vswitchd", "begins"),
    [
        ((P, "ALIVE", "MISSING"), "RUNNING", False),
        ((P, "MISSING", "DEAD"), "RUNNING", True),
        ((P, "ALIVE", "GONE"), "RUNNING", True),
        (("vswitchd", "RUNNING", "HUNG"), "HUNG", True),
        (("vswitchd", "RUNNING", "GONE"), "GONE", True),
        (("vswitchd", "RUNNING", "RESTARTING"), "RESTARTING", False),
        (("vswitchd", "RUNNING", "STOPPED"), "STOPPED", False),
    ],
)
def test_what_begins_an_incident(told: tuple[str, str, str], vswitchd: str, begins: bool) -> None:
    watch, began = follow(Watch(), snapshot(5, told, vswitchd=vswitchd, states=(M,)))
    assert (began is not None, watch.open) == (begins, begins)


def test_a_second_pmd_belongs_to_the_same_incident_until_all_is_well() -> None:
    watch, began = follow(Watch(), snapshot(5, (P, "MISSING", "DEAD"), states=(D, M)))
    assert began is not None
    assert began.who == P
    for after in (
        snapshot(6, (Q, "MISSING", "DEAD"), states=(D, D)),
        snapshot(7, (P, "DEAD", "ALIVE"), states=(A, D)),
        snapshot(8, (P, "MISSING", "DEAD"), states=(D, D)),
    ):
        watch, began = follow(watch, after)
        assert (began, watch.open) == (None, True)
    watch, _ = follow(watch, snapshot(9, states=(A, A)))
    assert not watch.open
    _, began = follow(watch, snapshot(10, (Q, "MISSING", "DEAD"), states=(A, D)))
    assert began is not None


def test_what_was_over_before_anybody_looked_is_an_incident_and_told_once() -> None:
    short = snapshot(5, (P, "MISSING", "DEAD"), (P, "DEAD", "ALIVE"), states=(A,))
    watch, began = follow(Watch(), short)
    assert began is not None
    assert not watch.open
    assert follow(watch, short)[1] is None


def test_to_disable_ends_an_incident() -> None:
    watch = Watch(open=True, seen=NEVER)
    disabled = replace(snapshot(5, states=(D,)), settings=replace(SETTINGS, enabled=False))
    assert not incident.follow(watch, disabled)[0].open


def test_the_ring_is_bounded_at_64_pmds_and_an_interval_of_100_ms() -> None:
    ring, seen = Recent(), snapshot(0, states=(A,) * 64)
    for tick in range(2000):
        ring.add(replace(seen, at=at(tick / 10)))
    rows = [msgspec.json.decode(row) for row in ring.rows()]
    assert 250 <= len(rows) <= KEPT / 0.19 + 1
    assert rows[-1]["at"] - rows[0]["at"] <= KEPT * 1000
    assert sum(len(bytes(row)) for row in ring.rows()) < 2_000_000
    many = snapshot(0, states=(A,) * 2000)
    for tick in range(60):
        ring.add(replace(many, at=at(300 + tick)))
    assert sum(len(bytes(row)) for row in ring.rows()) <= MOST


def head(number: int) -> Head:
    return Head(
        number=number, at=1_700_000_000_000, who=P, old="MISSING", new="DEAD", cause="traced", evidence="state t",
        complete=True,
    )  # fmt: skip


def test_five_records_are_kept_and_numbers_only_grow(tmp_path: Path) -> None:
    records.prepare(tmp_path)
    for number in range(1, 8):
        records.write(tmp_path, head(number), [Section("log", "a line")])
    assert records.numbers(tmp_path) == [3, 4, 5, 6, 7]
    assert [kept.number for kept in records.heads(tmp_path)] == [3, 4, 5, 6, 7]
    assert records.path_of(tmp_path, 7).stat().st_mode & 0o007 == 0
    assert records.read(tmp_path, 7) == (head(7), [Section("log", "a line")])


def test_a_record_too_large_loses_its_largest_section_and_says_so(tmp_path: Path) -> None:
    noise = os.urandom(3_000_000).hex()
    records.write(tmp_path, head(1), [Section("big", noise), Section("small", "here"), Section("bigger", noise * 2)])
    assert records.path_of(tmp_path, 1).stat().st_size <= records.LARGEST
    _, sections = records.read(tmp_path, 1)
    assert [section.data is None for section in sections] == [False, False, True]
    assert "left out" in sections[2].note
    assert clipped("0123456789", 4) == ("6789", "clipped to the last 4 of 10 characters")


def test_what_a_killed_run_left_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".incident-3.tmp").write_text("half")
    (tmp_path / "somebody-else.tmp").write_text("not ours")
    records.clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-else.tmp"]


def test_nothing_in_the_directory_that_the_daemon_was_started_in_is_the_collectors_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, imported = tmp_path / "state", tmp_path / "imported"
    (tmp_path / "msgspec.py").write_text(f"open({str(imported)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    box = BlackBox(state, "unix:/nowhere/db.sock", None)
    box.run(snapshot(5, (P, "MISSING", "DEAD"), states=(D,)), 5.0)

    def is_over() -> bool:
        box.run(None, 6.0)
        return box.is_idle

    wait(lambda: is_over() or records.numbers(state), "a record, or the end of the collector", 20)
    box.close()  # what it has by now is enough
    wait(is_over, "the end of the collector", 20)
    assert not imported.exists()
    assert records.numbers(state) == [1]


def test_a_directory_that_cannot_be_used_is_one_line_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "state", tmp_path / "no" / "parent"):
        with pytest.raises(records.Unusable, match=r"state-dir .*: no incident is recorded: make it"):
            records.prepare(directory)


def test_the_text_is_for_a_terminal(tmp_path: Path) -> None:
    said = text(
        head(1), [Section("threads", {"x\x1b (1)": {"stat": "a", "status": "b\nc"}}), Section("log", note="no")]
    )
    assert "\x1b" not in said
    assert "== log == (no)" in said
    assert "    b\n" not in said.partition("status")[0]
    assert listing([]) == ["no incidents recorded"]


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.write(tmp_path, head(1), [Section("log", "a line")])
    where = ["--state-dir", str(tmp_path)]
    assert main(["incident", *where]) == 0
    assert "MISSING -> DEAD  traced: state t" in capsys.readouterr().out
    assert main(["incident", "show", "1", *where]) == 0
    assert "a line" in capsys.readouterr().out
    copy = tmp_path / "copy.gz"
    assert main(["incident", "export", "1", "--output", str(copy), *where]) == 0
    assert copy.read_bytes() == records.path_of(tmp_path, 1).read_bytes()
    assert (main(["incident", "show", "9", *where]), main(["incident", "show", *where])) == (3, 2)
    records.path_of(tmp_path, 1).write_bytes(copy.read_bytes()[:30])
    assert main(["incident", "show", "1", *where]) == 3
    assert capsys.readouterr().err.count("\n") == 3


def test_each_file_that_cannot_be_read_says_why() -> None:
    section = evidence.threads(os.getpid())
    [files] = [files for name, files in section.data.items() if name.endswith(f"({os.getpid()})")]
    assert set(files) == set(evidence.FILES)
    assert "No such file" in evidence.threads(2**22 + 1).note
    assert "No such file" in evidence.log_tail(Path("/nowhere/at/all.log")).note


def test_who_ran_on_a_core_is_found() -> None:
    def burn() -> None:
        sum(range(300_000))

    users = core_users(frozenset(range(4096)), burn)
    assert os.getpid() in {user.pid for user in users}
    assert users == sorted(users, key=lambda user: -user.run_ns)
    assert core_users(frozenset({4095}), burn) == []
