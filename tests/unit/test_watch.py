# SPDX-License-Identifier: Apache-2.0
"""`show --watch`: what stands on the screen, what each key does, and that nothing old is shown as new."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from ovs_keepalive import watch
from ovs_keepalive.core.model import Cause, Moment, Pmd, Rxq, Shares, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.formats import document, node, screen
from ovs_keepalive.formats.node import Node
from ovs_keepalive.formats.view import LONGEST_FILTER, Open, Sort, View, keys, press, rows
from tests.control_socket import ControlSocket
from tests.looks import WALL_MS, pmd, running, snapshot

NOW = Moment(1003.0, WALL_MS + 3000)
HOSTILE = "x\n\x1b[2Jvswitchd RUNNING\r\x00;\u2028\x9b"


def told(shown: Snapshot) -> Node:
    return node.read(json.loads(msgspec.json.encode(document.node(shown, NOW, {}))))


def well(core: int, **fields: Any) -> Pmd:
    near = Moment(1002.9, WALL_MS + 2900)
    return pmd(core, core + 6, **{"progress": near, "rxqs": (Rxq(f"vhu{core}", 0), Rxq(f"vhu{core}", 1)), **fields})


def dead(core: int, **fields: Any) -> Pmd:
    why = {"state": State.DEAD, "cause": Cause.TRACED, "witness": "state t, held by gdb (pid 12)"}
    return well(core, **{**why, "progress": Moment(1001.0, WALL_MS + 1000), **fields})


def four(**fields: Any) -> Node:
    busy = Shares(10.0, 0.25, 0.75, None, None, None)
    changed = (Transition(NOW, "pmd-c02/id:8", "ALIVE", "DEAD", "traced", "last progress 1.10 s ago"),)
    return told(snapshot([well(0), well(1, shares=busy), dead(2), well(3)], **{"history": changed, **fields}))


def drawn(of: Node | None, view: View | None = None, width: int = 100, height: int = 24, **fields: Any) -> list[str]:
    lines = screen.draw(of, view or View(), width, height, **fields)
    assert len(lines) == height
    return screen.text(lines).splitlines()


# --- what stands where ---------------------------------------------------------------------------


def test_the_word_for_the_node_is_first_and_the_worst_pmd_next_with_its_bar_and_its_ports() -> None:
    lines = drawn(four())
    assert lines[0] == " FAILURE  pmd-c02/id:8 DEAD (traced); PMDs: 3 ALIVE, 1 DEAD"
    assert lines[1] == "vswitchd RUNNING (pid 100); interval 1000 ms; as of 14 Nov 2023 22:13:20 UTC"
    assert lines[2] == "blind to nothing"
    assert " ".join(lines[5].split()) == "> pmd-c02/id:8 2 D DEAD ██████··· 2.0 s - - - vhu2/0,1"
    assert " ".join(lines[7].split()) == "pmd-c01/id:7 1 A ALIVE ········· 0.1 s 25% 75% - vhu1/0,1"
    assert "pmd-c02/id:8: traced: state t, held by gdb (pid 12)" in lines
    assert lines[-1].startswith("q quit")
    assert "22:13:23.000Z  pmd-c02/id:8  ALIVE -> DEAD  traced: last progress 1.10 s ago" in lines


@pytest.mark.parametrize(
    ("age", "cells"), [(None, " " * 9), (0, "·" * 9), (999, "██·······"), (1000, "███······"), (9999, "█" * 9)]
)
def test_a_bar_is_full_at_three_intervals(age: float | None, cells: str) -> None:
    assert screen.bar(age, 1000) == cells


def test_a_state_has_its_letter_and_its_colour() -> None:
    [row] = [line for line in screen.draw(four(), View(), 100, 24) if line and line[0].text.startswith("> pmd")]
    assert next(part for part in row if part.style == "DEAD").text.strip() == "D DEAD"
    assert row[0].style == "selected"
    states = {state.value for state in State}
    assert states | {"WELL", "WARNING", "FAILURE", "RESTARTING", "UNKNOWN", "DISABLED"} <= set(watch.STYLES)


def test_what_is_old_has_a_question_mark_no_age_and_no_colour() -> None:
    lines = screen.draw(four(), View(), 100, 24, stale="no answer from the daemon for 3 s")
    assert lines[0][0] == screen.Part(" UNKNOWN ", "UNKNOWN")
    text = screen.text(lines)
    assert "no answer from the daemon for 3 s" in text
    assert "? (DEAD)" in text
    assert "D DEAD" not in text
    assert "█" not in text
    styles = {part.style for line in lines[1:] for part in line if part.text.strip()}
    assert styles <= {"", "old", "head", "selected"}


def test_before_the_first_answer_it_says_what_it_waits_for() -> None:
    assert drawn(None, stale="no answer from the daemon: no such file")[0] == (
        " UNKNOWN  no answer from the daemon: no such file"
    )


def test_a_long_reason_is_there_to_its_end_where_the_cure_stands() -> None:
    reason = "no answer from the daemon for 5 s: " + "/a/long/path " * 10 + "start ovs-keepalive run, or set OVS_RUNDIR"
    for of in (None, four()):
        lines = drawn(of, width=60, stale=reason)
        assert " ".join(" ".join(lines).split()).startswith(f"UNKNOWN {reason}")


def test_a_hung_vswitchd_and_what_is_blind_are_told() -> None:
    hung = running(state=VswitchdState.HUNG, silent=12.0, witness="blocked 4000 ms", culprit="pmd-c02/id:8")
    lines = drawn(four(vswitchd=hung, blind=("rxqs: refused", "log: hidden", "more: x")))
    assert lines[1].startswith(
        "vswitchd HUNG (pid 100), silent for 12 s, held up by pmd-c02/id:8: blocked 4000 ms; interval"
    )
    assert lines[2:4] == ["blind: rxqs: refused", "blind: log: hidden (and 1 more: keepalive/status)"]


def test_a_disabled_node_says_how_to_enable_it() -> None:
    off = msgspec.structs.replace(four(), enabled=False)
    assert "To enable: ovs-vsctl set" in drawn(off)[4]


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 12, 50])
@pytest.mark.parametrize("width", [10, 60, 200])
@pytest.mark.parametrize("open_", Open)
def test_any_size_will_do(width: int, height: int, open_: Open) -> None:
    many = told(snapshot([dead(core) for core in range(256)]))
    assert drawn(many, View(open=open_, about="vswitchd"), width, height, explained="one\ntwo\n" * 30)


def test_256_pmds_scroll_with_what_is_selected() -> None:
    many = told(snapshot([well(core) for core in range(256)]))
    first = drawn(many, View(sort=Sort.CORE))
    assert [line for line in first if "rows 1 to" in line and "of 256" in line]
    names = [one.name for one in rows(many, View(sort=Sort.CORE))]
    last = drawn(many, press(View(sort=Sort.CORE), "end", names))
    assert [line for line in last if line.startswith("> pmd-c255/id:261")]
    assert [line for line in last if "to 256 of 256" in line]


def test_no_name_can_forge_a_line_or_reach_the_terminal() -> None:
    hung = running(state=VswitchdState.HUNG, culprit=HOSTILE, witness=HOSTILE)
    ill = dead(0, name=HOSTILE, witness=HOSTILE, rxqs=(Rxq(HOSTILE, 0),))
    history = (Transition(NOW, HOSTILE, "ALIVE", "DEAD", "traced", HOSTILE),)
    shown = told(snapshot([ill], vswitchd=hung, blind=(HOSTILE,), history=history))
    for view in (
        View(),
        View(open=Open.EXPLAIN, about=HOSTILE),
        View(filter=HOSTILE),
        View(typing=True, filter="\x9b"),
    ):
        lines = screen.draw(shown, view, 100, 24, stale="", explained=HOSTILE)
        assert all(part.text.isprintable() for line in lines for part in line)
    stale = screen.draw(None, View(), 100, 24, stale=HOSTILE)
    assert all(part.text.isprintable() for line in stale for part in line)


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "found", "rest"),
    [
        ("sq", ["s", "q"], ""),
        ("\x1b[A\x1bOBj", ["up", "down", "j"], ""),
        ("\x1b[5~\x1b[6~", ["page up", "page down"], ""),
        ("\x1b[1;5Cx", ["x"], ""),  # Ctrl-Right: none of ours
        ("\r\n\x7f\x15", ["enter", "enter", "backspace", "clear"], ""),
        ("j\x1b", ["j"], "\x1b"),
        ("\x1b[", [], "\x1b["),
        ("é\x01", ["é"], ""),
    ],
)
def test_the_keys_in_what_a_terminal_sends(typed: str, found: list[str], rest: str) -> None:
    assert keys(typed, ended=False) == (found, rest)


def test_an_escape_that_nothing_follows_is_the_key_itself() -> None:
    assert keys("\x1b", ended=True) == (["escape"], "")
    assert keys("\x1bq", ended=False) == (["escape", "q"], "")


def pressed(*typed: str, view: View | None = None, of: Node | None = None) -> View:
    now = view or View()
    for key in typed:
        now = press(now, key, [one.name for one in rows(of or four(), now)])
    return now


def test_the_selection_stays_with_its_pmd_when_the_order_changes() -> None:
    chosen = pressed("down", "s")
    assert (chosen.selected, chosen.sort) == ("pmd-c00/id:6", Sort.CORE)
    assert pressed("s").sort is Sort.CORE
    assert pressed("s", "s").sort is Sort.BUSY
    assert pressed("s", "s", "s").sort is Sort.WORST
    assert pressed("end", "down").selected == "pmd-c03/id:9"
    assert pressed("end", "home", "k").selected == "pmd-c02/id:8"


@pytest.mark.parametrize(
    ("sort", "cores"), [(Sort.WORST, [2, 0, 1, 3]), (Sort.CORE, [0, 1, 2, 3]), (Sort.BUSY, [1, 0, 2, 3])]
)
def test_the_orders(sort: Sort, cores: list[int]) -> None:
    assert [one.core for one in rows(four(), View(sort=sort))] == cores


def test_worst_first_has_the_unused_last_and_a_starved_one_before_the_well() -> None:
    mixed = told(
        snapshot(
            [well(0, state=State.UNUSED), well(1), well(2, cause=Cause.STARVED), dead(3, state=State.GONE), dead(4)]
        )
    )
    assert [one.core for one in rows(mixed, View())] == [3, 4, 2, 1, 0]


@pytest.mark.parametrize(("words", "cores"), [("dead", [2]), ("VHU1", [1]), ("traced", [2]), ("c03", [3]), ("zz", [])])
def test_the_filter_looks_at_names_states_causes_and_rxqs(words: str, cores: list[int]) -> None:
    view = pressed("/", *words, "enter")
    assert (view.filter, view.typing) == (words, False)
    assert [one.core for one in rows(four(), view)] == cores
    assert pressed("escape", view=view).filter == ""


def test_while_the_filter_is_typed_no_key_does_anything_else() -> None:
    view = pressed("f", "q", "s", "backspace", "é")
    assert (view.filter, view.over, view.typing) == ("qé", False, True)
    assert pressed("clear", view=view).filter == ""
    assert pressed("escape", view=view) == View()
    assert len(pressed("f", *"x" * 200).filter) == LONGEST_FILTER


def test_explain_is_of_the_selected_pmd_and_q_goes_back_before_it_quits() -> None:
    view = pressed("down", "e")
    assert (view.open, view.about) == (Open.EXPLAIN, "pmd-c00/id:6")
    assert pressed("down", "down", "up", view=view).scroll == 1
    assert pressed("q", view=view).open is Open.TABLE
    assert not pressed("q", view=view).over
    assert pressed("q").over
    assert pressed("v").about == "vswitchd"
    assert pressed("?").open is Open.HELP
    nobody = told(snapshot([]))
    assert pressed("e", "enter", "down", of=nobody) == View()


# --- asking the daemon ---------------------------------------------------------------------------


class Daemon:
    """A daemon that answers when the test lets it."""

    def __init__(self, rundir: Path, pid: int) -> None:
        self.socket = ControlSocket(rundir / f"ovs-keepalive.{pid}.ctl")
        (rundir / "ovs-keepalive.pid").write_text(f"{pid}\n")

    def answer(self, shown: Snapshot) -> None:
        self.socket.reply(json.dumps(document.node(shown, NOW, {})))


@pytest.fixture
def start(tmp_path: Path) -> Any:
    started: list[Daemon] = []

    def begin(pid: int) -> Daemon:
        started.append(Daemon(tmp_path, pid))
        return started[-1]

    yield begin
    for daemon in started:
        daemon.socket.__exit__(None, None, None)


Start = Callable[[int], Daemon]


def test_an_answer_is_new_then_old_then_new_again(tmp_path: Path, start: Start) -> None:
    daemon, watched = start(7), watch.Watched(tmp_path)
    assert not watched.step(10.0)
    assert watched.stale(10.0) == "asking the daemon"
    daemon.answer(snapshot([well(0)], seq=1))
    assert watched.step(10.1)
    assert (watched.stale(10.2), watched.status(10.2)) == ("", 0)
    watched.step(10.6)  # asked, and not answered
    assert watched.stale(11.0) == ""
    assert watched.stale(12.1) == "no answer from the daemon for 2 s"
    assert watched.status(12.1) == 3
    watched.step(12.7)
    assert watched.stale(12.7) == "no answer from the daemon for 3 s: none within 2 s"
    watched.step(13.2)
    daemon.answer(snapshot([dead(0)], seq=2))
    assert watched.step(13.3)
    assert (watched.stale(13.3), watched.status(13.3)) == ("", 1)
    watched.question.close()


def test_a_daemon_that_answers_without_looking_is_old_too(tmp_path: Path, start: Start) -> None:
    daemon, watched = start(7), watch.Watched(tmp_path)
    for number in range(8):
        watched.step(10.0 + number)
        daemon.answer(snapshot([well(0)], seq=1))
        watched.step(10.1 + number)
    assert watched.stale(17.2) == "the daemon answers, but has not looked for 7 s"
    watched.question.close()


def test_a_restarted_daemon_is_followed(tmp_path: Path, start: Start) -> None:
    first, watched = start(7), watch.Watched(tmp_path)
    watched.step(10.0)
    first.answer(snapshot([well(0)]))
    watched.step(10.1)
    first.socket.stop_listening()
    (tmp_path / "ovs-keepalive.pid").unlink()
    watched.step(11.0)
    assert "No such file or directory: start ovs-keepalive run" in watched.stale(11.0)
    second = start(8)
    watched.step(12.0)
    second.answer(snapshot([well(0)], seq=5))
    assert watched.step(12.1)
    assert watched.stale(12.1) == ""
    watched.question.close()


@pytest.mark.parametrize("answer", ["[]", "{}", "no JSON", '{"enabled": true}'])
def test_what_is_no_node_document_is_told(tmp_path: Path, start: Start, answer: str) -> None:
    daemon, watched = start(7), watch.Watched(tmp_path)
    watched.step(10.0)
    daemon.socket.reply(answer)
    assert not watched.step(10.1)
    assert watched.stale(10.1).startswith("the daemon answers no node document: ")
    watched.question.close()


def test_a_pidfile_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "ovs-keepalive.pid").write_text("no pid")
    watched = watch.Watched(tmp_path)
    watched.step(10.0)
    assert "b'no pid' is no process id" in watched.stale(10.0)


# --- without a screen ----------------------------------------------------------------------------


def test_changes_are_told_once_the_health_whenever_it_is_another(tmp_path: Path) -> None:
    watched, changes = watch.Watched(tmp_path), watch._Changes()
    watched.node = told(snapshot([well(0)]))
    [first] = changes.lines(watched, "")
    assert first == "2023-11-14T22:13:20.000Z  WELL  PMDs: 1 ALIVE"
    assert changes.lines(watched, "") == []
    history = (Transition(NOW, "pmd-c00/id:6", "ALIVE", "DEAD", "traced", "seen"),)
    watched.node = told(snapshot([dead(0)], history=history))
    assert changes.lines(watched, "") == [
        "2023-11-14T22:13:23.000Z  pmd-c00/id:6  ALIVE -> DEAD  traced: seen",
        "2023-11-14T22:13:20.000Z  FAILURE  pmd-c00/id:6 DEAD (traced); PMDs: 1 DEAD",
    ]
    [silent] = changes.lines(watched, "no answer from the daemon for 2 s")
    assert silent.endswith("Z  UNKNOWN  no answer from the daemon for 2 s")
    assert changes.lines(watched, "no answer from the daemon for 3 s: none within 2 s") == []
    assert changes.lines(watched, "")[0].endswith("FAILURE  pmd-c00/id:6 DEAD (traced); PMDs: 1 DEAD")


def test_more_changes_than_a_document_holds_are_said_to_be(tmp_path: Path) -> None:
    watched, changes = watch.Watched(tmp_path), watch._Changes()
    watched.node = told(snapshot([well(0)]))
    changes.lines(watched, "")
    history = tuple(Transition(Moment(NOW.mono + n, NOW.wall_ms + n), "x", "a", "b", "none", "") for n in range(40))
    watched.node = told(snapshot([well(0)], history=history))
    said = changes.lines(watched, "")
    assert "keepalive/history" in said[0]
    assert len(said) == 1 + document.RECENT


def test_documents_are_printed_in_a_line_when_a_word_in_them_changes(tmp_path: Path) -> None:
    watched, documents = watch.Watched(tmp_path), watch._Documents()

    def shows(shown: Snapshot) -> list[str]:
        watched.document = json.loads(msgspec.json.encode(document.node(shown, NOW, {"hooks": HOSTILE})))
        watched.node = node.read(watched.document)
        return documents.lines(watched, "")

    [line] = shows(snapshot([well(0)], seq=1))
    assert json.loads(line) == watched.document
    assert line.isprintable()
    assert shows(snapshot([well(0, iterations=77)], seq=2)) == []
    assert json.loads(shows(snapshot([dead(0)]))[0])["health"] == "FAILURE"
    [silent] = documents.lines(watched, "no answer from the daemon for 2 s")
    assert json.loads(silent) == {"version": 1, "health": "UNKNOWN", "summary": "no answer from the daemon for 2 s"}
    assert documents.lines(watched, "no answer from the daemon for 3 s") == []


def test_a_terminal_without_rich_gets_lines_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(watch, "_print", lambda *_: 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert watch.run(as_json=False) == 0
    assert "pip install 'ovs-keepalive[cli]'" in capsys.readouterr().err
    monkeypatch.setenv("TERM", "dumb")
    assert watch.run(as_json=False) == 0
    assert capsys.readouterr().err == ""


def test_no_colour_is_asked_for_and_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    line = (screen.Part(" FAILURE ", "FAILURE"), screen.Part("wide 漢字" * 20))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;37;41m" in watch._styled(Console(force_terminal=True), line, 40)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = re.sub(r"\x1b\[[017;]*m", "", watch._styled(Console(force_terminal=True), line, 40))
    assert plain.isprintable()
    assert cell_len(plain) <= 40
    assert plain.endswith("…")
