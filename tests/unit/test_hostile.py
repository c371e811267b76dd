# SPDX-License-Identifier: Apache-2.0
"""Names from outside: whatever a port, a bridge, a thread or a process is called, and whatever somebody writes into a
setting, nothing of it leaves in a form that forges a line, steers a terminal, or breaks a format.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import ovs.vlog
import pytest

from ovs_keepalive import blackbox, cli, doctor, log_file, records
from ovs_keepalive.command_line import UNHEALTHY, UNREACHABLE, USAGE
from ovs_keepalive.core import excerpt, settings
from ovs_keepalive.core.doctor import Finding, Level
from ovs_keepalive.core.model import Cause, Moment, Other, Others, OtherThread, Rxq, Snapshot, State, Transition
from ovs_keepalive.formats import breaks, column, document, incident, plain, pmd_rxq, tables
from ovs_keepalive.formats.incident import Head, Section
from ovs_keepalive.formats.recent import Recent
from ovs_keepalive.publishers import schema
from ovs_keepalive.publishers.session import Session
from tests.looks import WALL_MS, broke, pmd, running, snapshot
from tests.requests import Requests, Source

HARMLESS = "vhu-1.é/x"
NAMES = {
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "c1": "\x9b31m\x85\x7f",
    "newline": "x\nvswitchd: GONE\r\n",
    "line ends of Unicode": "a\u2028b\u2029c\x0bd\x0ce\x1cf",
    "tab": "\tALIVE\t",
    "semicolon": "a;cause=none;b",
    "quotes": "\"'`\\",
    "shell": "$(reboot)|`reboot`&& rm -rf /",
    "bidi": "\u202etxt.exe\u2066\u200f\u061c",
    "invisible": "a\u200b\ufeff\U000e0041\u00ad",
    "bytes": "a\udcff\udc9b",  # as Python reads bytes of a path that are no UTF-8
    "surrogate": "a\ud800",
    "nul": "a\0b",
    "path": "../../../etc/passwd",
    "long": "x" * 10_000,
}
NOW = Moment(1003.25, WALL_MS + 3250)


def known(name: str) -> Snapshot:
    """A node in which everything that others may choose is called so."""
    text = f"held by {name} (pid 7)"
    stalled = pmd(
        3,
        name=f"pmd-c03/id:{name}",
        state=State.DEAD,
        cause=Cause.TRACED,
        witness=text,
        rxqs=(Rxq(name, 0),),
        quiet=2.0,
    )
    other = OtherThread(stalled.id._replace(tid=5), name, "t")
    return snapshot(
        [stalled, pmd(4, 4, rxqs=(Rxq(name, 1), Rxq("p0", 0)))],
        vswitchd=running(witness=f"while {name}", culprit=stalled.name),
        history=(Transition(NOW, stalled.name, "ALIVE", "DEAD", Cause.TRACED, text),),
        others=Others((Other(other, NOW),), ((name, NOW),)),
        blind=(f"log: /var/log/{name}: no such file",),
        event_witness=name,
    )


def head(name: str) -> Head:
    return Head(
        number=1,
        at=WALL_MS,
        who=name,
        old="ALIVE",
        new="DEAD",
        cause="traced",
        evidence=name,
        complete=False,
        note=name,
    )


FACTS = ("database", "refused setting")


def _sections(name: str) -> list[Section]:
    return [
        Section("threads", {f"{name} (5)": {"comm": name, "stat": f"5 ({name}) S"}}, name),
        Section("history", [{"who": name, "deep": [{name: [name]}]}]),
        Section("log", name),
    ]


def _show(shown: Snapshot) -> str:
    return tables.show(json.loads(plain.json_text(document.node(shown, NOW, {}))))


# Everything that prints text for people, of a node in which everything is called so.
TEXTS: dict[str, Callable[[str], str]] = {
    "pmd-health-show": lambda name: tables.health(known(name)),
    "status": lambda name: tables.status(known(name), [(fact, name) for fact in FACTS]),
    "pmd-xstats-show": lambda name: tables.xstats(known(name).pmds),
    "explain": lambda name: tables.explain_pmd(known(name), known(name).pmds[0]),
    "explain vswitchd": lambda name: tables.explain_vswitchd(known(name)),
    "breaks": lambda name: breaks.listing([broke(ports=((name, None), ("vhu0", NOW)))]),
    "history": lambda name: tables.history(known(name).history),
    "show": lambda name: _show(known(name)),
    "incident": lambda name: "".join(f"{line}\n" for line in incident.listing([head(name)])),
    "doctor": lambda name: _printed(lambda out: doctor.tell(Finding(Level.FAIL, "vswitchd", name, "no shell"), out)),
    "log": lambda name: _logged(lambda log: log.warning(f"other_config:keepalive-interval={name}: refused")),
    "refusal": lambda name: "".join(_answers(name, "keepalive/explain", "nobody")),
}


def _printed(tell: Callable[[Any], None]) -> str:
    out = io.StringIO()
    tell(out)
    return out.getvalue()


def _logged(say: Callable[[logging.Logger], None]) -> str:
    out, log, fit = io.StringIO(), logging.getLogger("hostile"), log_file.Fit()
    handler = logging.StreamHandler(out)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    log.addFilter(fit)
    try:
        say(log)
    finally:
        log.removeHandler(handler)
        log.removeFilter(fit)
    return out.getvalue()


def _answers(name: str, method: str, *arguments: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        requests = Requests(Source(known(name), Path(directory), dict.fromkeys(FACTS, name)), Path(directory))
        try:
            data = json.dumps({"id": 1, "method": method, "params": arguments}).encode()
            answer = json.loads(requests.answer(data)[1])
        finally:
            requests.close()
    yield answer["result"] or answer["error"]


def is_fit(text: str) -> bool:
    """Whether it is lines of printable text and nothing else; a tab parts the cells of a table."""
    return all(cell.isprintable() for line in text.split("\n") for cell in line.split("\t"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_a_text_unfit_or_with_more_lines(text: str, name: str) -> None:
    said, harmless = TEXTS[text](NAMES[name]), TEXTS[text](HARMLESS)
    assert is_fit(said)
    assert (said.count("\n"), said.count("\t")) == (harmless.count("\n"), harmless.count("\t"))
    said.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_length_leaves_a_line_that_can_be_read(name: str) -> None:
    assert len(tables.rxqs(known(NAMES[name]).pmds[1])) < 150
    assert len(_logged(lambda log: log.info(NAMES[name]))) <= log_file.LONGEST_LOG_LINE + 1
    assert excerpt.short("x" * 100) == "x" * 100
    assert excerpt.short("a" * 100 + "b" * 100) == "a" * 79 + "…" + "b" * 20


@pytest.mark.parametrize("name", NAMES)
def test_a_record_keeps_its_names_and_prints_them_fit(name: str, tmp_path: Path) -> None:
    hostile = NAMES[name]
    records.write(tmp_path, head(hostile), _sections(hostile))
    assert [path.name for path in tmp_path.iterdir()] == ["incident-1.jsonl.gz"]  # whatever it is of
    found, sections = records.read(tmp_path, 1)
    assert found.who == plain.sound(hostile)
    assert is_fit(incident.text(found, sections))
    records.write(tmp_path, head(HARMLESS), _sections(HARMLESS))
    lines = incident.text(found, sections[:2]).count("\n")
    usual = incident.text(*_two(records.read(tmp_path, 1))).count("\n")
    breaks = hostile.count("\n")  # of free text each line is one; a name in it is indented below its key
    assert usual <= lines <= usual + 3 * breaks


def _two(record: tuple[Head, list[Section]]) -> tuple[Head, list[Section]]:
    return record[0], record[1][:2]


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_take_any_name(name: str) -> None:
    """`;` parts the values, and OVSDB takes Unicode only."""
    shown = known(NAMES[name])
    details = column.detail(shown, "1", 2)
    for text in (*column.keepalive(shown), *details, *details.values()):
        assert text.isprintable()
        text.encode()
    [of_pmd] = (value for key, value in details.items() if key.startswith("pmd-"))
    assert [part.partition("=")[0] for part in of_pmd.split(";")] == ["cause", "since", "witness"]
    assert [part.partition("=")[0] for part in details["vswitchd"].split(";")] == ["RUNNING", "pid", "since", "culprit"]
    assert ";" not in "".join(column.keepalive(shown))
    for key, value in column.mirrored(shown).items():
        assert re.fullmatch(r"ovs-keepalive-core\d+=[A-Z]+,\d+", f"{key}={value}")


@pytest.mark.parametrize("name", NAMES)
def test_json_gives_back_each_name_and_is_fit_for_a_terminal(name: str) -> None:
    hostile = NAMES[name]
    text = plain.json_text(document.node(known(hostile), NOW, {"database": hostile}))
    assert is_fit(text)
    node = msgspec.json.decode(text)
    assert node["daemon"]["database"] == plain.sound(hostile)
    assert node["pmds"][1]["rxqs"][0] == f"{plain.sound(hostile)}/1"
    if name not in ("bytes", "surrogate"):
        assert plain.sound(hostile) == hostile
    assert document.is_node(node)


@pytest.mark.parametrize("name", NAMES)
def test_the_control_socket_answers_with_any_name(name: str, tmp_path: Path) -> None:
    hostile = NAMES[name]
    records.write(tmp_path, head(hostile), _sections(hostile))
    requests = Requests(Source(known(hostile), tmp_path, {"database": hostile}), tmp_path)
    ask: dict[str, tuple[str, ...]] = {
        "status": (),
        "pmd-health-show": (),
        "pmd-xstats-show": (),
        "explain": ("4",),
        "history": (),
        "incidents": (),
    }
    try:
        for command, arguments in ask.items():
            for extra in ((), ("--json",)):
                request = {"id": 1, "method": f"keepalive/{command}", "params": [*arguments, *extra]}
                stays, said = requests.answer(json.dumps(request).encode())
                answer = json.loads(said)
                assert (stays, answer["error"]) == (True, None)
                assert is_fit(answer["result"])
            both = [
                {"id": 0, "method": "set-options", "params": ["--format", "json"]},
                {**request, "params": arguments},
            ]
            stays, said = requests.answer("".join(map(json.dumps, both)).encode())
            assert stays
            answer = json.JSONDecoder().raw_decode(said[said.index("}{") + 1 :])[0]  # behind that to set-options
            printed = json.dumps(answer["result"], ensure_ascii=False)  # as ovs-appctl prints it
            assert is_fit(printed)
            printed.encode()
    finally:
        requests.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_black_box_remembers_and_hands_over_any_name(name: str, tmp_path: Path) -> None:
    shown = known(NAMES[name])
    recent = Recent()
    recent.add(shown)
    assert msgspec.json.decode(recent.rows()[0])["pmds"][0][0] == plain.sound(shown.pmds[0].name)
    box = blackbox.BlackBox(tmp_path, "unix:db.sock", Path(f"/run/{NAMES[name]}"))
    box._log = Path(f"/var/log/{NAMES[name]}")
    request = msgspec.json.decode(box._request(shown, shown.history[0]))
    assert request["transition"]["who"] == plain.sound(shown.pmds[0].name)


@pytest.mark.parametrize("name", sorted(NAMES.keys() - {"nul", "surrogate"}))  # which no argument can hold
def test_an_error_of_the_command_line_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["show", "--config", f"/nowhere/{NAMES[name]}"], [NAMES[name]], ["incident", NAMES[name]]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert said[:-1].isprintable()
        assert said.endswith("\n")


@pytest.mark.parametrize("pid", ["../../x", "1 2", "", "\x1b[2J", "-1", "1\0", "²"])
def test_what_is_no_process_id_is_no_path(
    pid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ovs-keepalive.pid").write_text(f"{pid}\n")
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    assert cli.main(["show"]) == UNREACHABLE
    said = capsys.readouterr().err
    assert "is no process id: is ovs-keepalive running?" in said
    assert said[:-1].isprintable()


def test_a_terminal_without_the_letters_of_a_name_is_shown_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    monkeypatch.setattr(cli, "ask_daemon", lambda *_: document.node(known(HARMLESS), NOW, {}))
    assert cli.main(["show"]) == UNHEALTHY
    assert rb"vhu-1.\xe9/x/1" in raw.getvalue()


@pytest.mark.parametrize("node", [None, [], {}, {"enabled": 1}, {"enabled": True}, {"enabled": True, "pmds": [1]}])
def test_a_daemon_that_answers_something_else_is_one_line(
    node: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "ask_daemon", lambda *_: node)
    assert cli.main(["show"]) == UNREACHABLE
    assert "no node document: is it of another version?" in capsys.readouterr().err


# --- what comes in --------------------------------------------------------------------------------


def test_a_port_that_is_called_like_a_pmd_hides_no_pmd() -> None:
    reply = (
        "pmd thread numa_id 0 core_id 3:\n  isolated : false\n  port: p0  queue-id:  0 (enabled)   pmd usage:  0 %\n"
        "pmd thread numa_id 0 core_id 4:\n  isolated : false\n  port: {}  queue-id:  1 (enabled)   pmd usage:  0 %\n"
    )
    for name in ("pmd thread numa_id 0 core_id 3:", "\npmd thread numa_id 0 core_id 3:\n", "x queue-id: 7"):
        three, four = pmd_rxq.parse(reply.format(name))
        assert (three.core, three.rxqs[0]) == (3, Rxq("p0", 0))
        assert (four.core, len(four.rxqs)) == (4, 1)
    assert pmd_rxq.parse(reply.format("x queue-id: 7"))[1].rxqs == (Rxq("x queue-id: 7", 1),)


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_is_refused_is_told_verbatim_where_it_can_be(name: str) -> None:
    asked = settings.read({"keepalive-interval": NAMES[name]}, settings.Asked())
    assert NAMES[name] in asked.rejected[0]
    told = tables.status(snapshot([pmd()]), [("refused setting", line) for line in asked.rejected])
    assert plain.one_line(asked.rejected[0]) in told


NINES = "9" * 5000


@pytest.mark.parametrize(
    "data",
    [
        f'{{"id": {NINES}}}',
        f'{{"id": 1e-{NINES}}}',
        '{"id": ' + "[" * 2000,
        "[1]",
        "\x00",
    ],
)
def test_a_request_that_makes_python_ovs_raise_ends_its_connection_only(data: str, tmp_path: Path) -> None:
    source = Source(snapshot([pmd()]), tmp_path)
    requests = Requests(source, tmp_path)
    try:
        stays, said = requests.answer(data.encode())
        assert not stays
        assert said == ""
        assert "Enabled" in requests.answer(b'{"id": 1, "method": "keepalive/status", "params": []}')[1]
    finally:
        requests.close()


def test_a_command_of_python_ovs_that_raises_is_an_error_and_no_end(tmp_path: Path) -> None:
    requests = Requests(Source(snapshot([pmd()]), tmp_path), tmp_path)
    try:
        stays, said = requests.answer(b'{"id": 1, "method": "vlog/set", "params": ["FACILITY"]}')
    finally:
        requests.close()
    assert stays
    assert json.loads(said)["error"]


@pytest.mark.parametrize("spec", ["%D{(}", "%D{(a+)+$}", "%D{[}", "%2D{%H:%M}|%m", "%0d", "\x1b", "\n"])
def test_a_pattern_that_would_break_the_log_is_refused(spec: str, tmp_path: Path) -> None:
    requests = Requests(Source(snapshot([pmd()]), tmp_path), tmp_path)
    try:
        for pattern in (spec, "%D{%H:%M:%S.###Z}|%05N|%c%T|%p|%m"):
            request = {"id": 1, "method": "vlog/set", "params": [f"pattern:console:{pattern}"]}
            stays, said = requests.answer(json.dumps(request).encode())
            assert stays
            assert (json.loads(said)["error"] is not None) == (pattern == spec)
            assert "harmless" in requests.logged("harmless")
    finally:
        requests.close()


@pytest.mark.parametrize("words", [["--format", "yaml"], ["--help", "x"], ["-x"], ["--format=\x1b"]])
def test_an_option_that_is_not_known_is_refused_and_ends_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """python-ovs's own set-options ends the process: argparse exits."""
    requests = Requests(Source(snapshot([pmd()]), tmp_path), tmp_path)
    try:
        request = {"id": 1, "method": "set-options", "params": words}
        stays, said = requests.answer(json.dumps(request).encode())
    finally:
        requests.close()
    assert stays
    assert "there are --format text and --format json" in json.loads(said)["error"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", ["0", "-1", "x", "²", "000001" + NINES, NINES, "1e3", "100001", ""])
def test_a_number_that_is_none_is_refused(number: str, tmp_path: Path) -> None:
    requests = Requests(Source(snapshot([pmd()]), tmp_path), tmp_path)
    try:
        request = {"id": 1, "method": "keepalive/history", "params": [number]}
        answer = json.loads(requests.answer(json.dumps(request).encode())[1])
    finally:
        requests.close()
    assert "is no number from 1 to 100000" in answer["error"]


def test_what_python_ovs_cannot_read_of_the_database_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("unix:/nowhere/db.sock", ["other_config"])
    reconnected = []

    def run() -> None:
        raise ValueError("Exceeds the limit (4300 digits) for integer string conversion")

    monkeypatch.setattr(session._idl, "run", run)
    monkeypatch.setattr(session._idl, "force_reconnect", lambda: reconnected.append(True))
    session.run(NOW)
    session.close()
    assert reconnected == [True]
    assert not session.connected


def _record(directory: Path, content: bytes) -> Path:
    path = records.path_of(directory, 1)
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "truncated"),
        (b'{"number":1}', "missing required field"),
        (msgspec.json.encode(head("x")).replace(str(WALL_MS).encode(), b"9" * 18), "Expected `int` <="),
        (msgspec.json.encode(head("x")) + b'\n{"name":"\xff"}', "decode"),
        (msgspec.json.encode(head("x")) + b'\n{"name":"x","data":' + b"[" * 100_000, "recursion"),
        (msgspec.json.encode(head("x")) + b"\n" + b" " * (records.UNPACKED + 1), "unpacks to more than"),
    ],
)
def test_a_record_that_somebody_has_touched_is_one_line(
    content: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _record(tmp_path, content)
    with pytest.raises(records.Unusable, match=re.escape(str(path))) as caught:
        records.read(tmp_path, 1)
    assert why in str(caught.value)
    assert cli.main(["incident", "show", "1", "--state-dir", str(tmp_path)]) == UNREACHABLE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_record_that_is_nested_as_deep_as_json_may_be_is_printed(tmp_path: Path) -> None:
    deep = b'{"name":"x","data":' + b'{"a":' * 800 + b"1" + b"}" * 801
    _record(tmp_path, msgspec.json.encode(head("x")) + b"\n" + deep)
    assert '{"a":' in incident.text(*records.read(tmp_path, 1))


def test_an_exception_in_the_log_cannot_steer_a_terminal() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            int("\x1b[2J\nforged line")
        except ValueError:
            log.exception("failed")

    said = _logged(fail)
    assert "Traceback" in said
    assert is_fit(said)
    assert "forged line" in said.splitlines()[-1]


@pytest.mark.parametrize("kind", ["console", "file", "syslog"])
def test_every_way_into_the_log_is_filtered(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    monkeypatch.setattr(logging.Logger, "addFilter", lambda self, _filter: added.append(self.name))
    monkeypatch.setattr(ovs.vlog.Vlog, "init", lambda _path: None)
    log_file.open_log(str(tmp_path / "log"), [])
    assert kind in added


def test_a_record_is_not_exported_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(tmp_path, head("x"), [])
    words = ["incident", "export", "1", "--state-dir", str(tmp_path)]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(words) == USAGE
    assert "no text for a terminal: give --output F" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_version_of_somebody_elses_schema_is_printed_fit(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live = {"tables": {"Open_vSwitch": {"columns": {"keepalive": {"type": NAMES[name]}}}}, "version": NAMES[name]}
    monkeypatch.setattr(schema, "call", lambda _remote, method, params, _timeout: calls(method, params))

    def calls(method: str, params: list[Any]) -> object:
        if method == "convert":
            live.update(params[1])
        return live

    schema.verb("apply", "unix:db.sock", sys.stdout)
    said = capsys.readouterr().out
    assert is_fit(said)
    assert said.count("\n") == 4


def test_a_document_of_half_surrogates_is_encoded_however_deep_it_is() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(950):
        inner["a"] = inner = {}
    inner["a"] = "\ud800"
    assert plain.json_bytes({"deep": deep, "flat": "\udcff"}).endswith(b'"flat":"?"}')
