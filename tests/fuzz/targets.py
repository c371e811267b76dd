# SPDX-License-Identifier: Apache-2.0
"""The table of all decoders of outside bytes: what is fuzzed, what it may raise, and what has to be true of what it
returns. One line of TARGETS a decoder; `python -m tests.fuzz` and tests/unit/test_fuzz.py run it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from ovs_keepalive import collector, config_file, records
from ovs_keepalive.core import doctor, excerpt, heartbeat, settings
from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.core.memory import after_a_gap
from ovs_keepalive.core.memory import register as registered
from ovs_keepalive.core.model import (
    Cause,
    Looks,
    MainLook,
    Moment,
    NotSeen,
    ProcessId,
    Seen,
    Sent,
    Settings,
    State,
    Transition,
)
from ovs_keepalive.formats import (
    alarms,
    collectd,
    column,
    document,
    incident,
    memory,
    plain,
    pmd_perf,
    pmd_rxq,
    ports,
    procfs,
    schema,
    tables,
)
from ovs_keepalive.formats import vlog_lines as vlog
from ovs_keepalive.publishers import mirror
from ovs_keepalive.publishers import schema as remote
from ovs_keepalive.sensors import core_users
from ovs_keepalive.sensors import doctor as kernel
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused
from ovs_keepalive.sensors.questions import Answers, Kind, Questions
from ovs_keepalive.sensors.threads import ThreadSensor
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor
from ovs_keepalive.sensors.vswitchd_log import LogSensor, log_path
from tests import collectd_words
from tests.fuzz.agent_targets import AGENT_TARGETS
from tests.fuzz.fleet_targets import FLEET_TARGETS
from tests.fuzz.http_targets import HTTP_TARGETS
from tests.fuzz.offload_targets import OFFLOAD_TARGETS
from tests.fuzz.offload_write_targets import OFFLOAD_WRITE_TARGETS
from tests.fuzz.port_targets import PORT_TARGETS
from tests.fuzz.target import (
    GOLDEN,
    NOW,
    Target,
    as_json,
    as_parts,
    as_text,
    golden_files,
    golden_lines,
    join_parts,
    kept_open,
    new_directory,
    seeds,
)
from tests.looks import Scene, pmd, remembered, snapshot
from tests.requests import Requests, Source

# --- replies of vswitchd's control socket ---------------------------------------------------------


def _pmd_perf(data: bytes) -> None:
    text = as_text(data)
    for block in pmd_perf.parse(text, "dp"):
        assert block.numa >= pmd_perf.NO_NUMA
        assert 0 <= block.core < 10**9
        assert all(count is None or 0 <= count < 10**20 for count in block[3:])
    assert (pmd_perf.parse_sent(text) or 0) >= 0
    for core, count in (pmd_perf.parse_iterations(text) or {}).items():
        assert 0 <= core < 10**9
        assert 0 <= count < 10**20


def _pmd_rxq(data: bytes) -> None:
    text = as_text(data)
    pmds = pmd_rxq.parse(text, "dp")
    assert len({(known.numa, known.core) for known in pmds}) == len(pmds)
    for known in pmds:
        assert f"core_id {known.core}:" in text.replace("core_id 0", "core_id ") or str(known.core) in text
        for rxq in known.rxqs:
            assert "\n" not in rxq.port
            assert pmd_rxq.NO_QUEUE <= rxq.queue < 10**9


class _Fed:
    """A connected socket on which these pieces come."""

    def __init__(self, pieces: Sequence[bytes], ends: bool) -> None:
        self._pieces = list(pieces)
        self._ends = ends

    def recv_into(self, buffer: memoryview) -> int:
        if not self._pieces:
            if self._ends:
                return 0
            raise BlockingIOError
        piece = self._pieces.pop(0)
        taken = min(len(piece), len(buffer))
        buffer[:taken] = piece[:taken]
        if taken < len(piece):
            self._pieces.insert(0, piece[taken:])
        return taken

    def send(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        self._pieces = []


def _received(pieces: Sequence[bytes], ends: bool = False) -> str | Exception | None:
    client = AppctlClient(Path("fuzz.ctl"))
    fed: Any = _Fed(pieces, ends)
    client._socket = fed
    client.ask("list-commands")
    try:
        reply = None
        for _ in range(len(pieces) + 1):
            reply = client.receive()
            if reply is not None:
                break
    except (NoAnswer, Refused) as error:
        assert client.waiting is False
        return error
    return reply


def _framing(data: bytes) -> None:
    cut, reply = data[:1], data[1:]
    at = (cut[0] if cut else 0) * max(1, len(reply) // 256)
    whole = _received([reply])
    pieces = _received([piece for piece in (reply[:at], reply[at:]) if piece])
    assert whole is None or isinstance(whole, str | NoAnswer | Refused)
    if isinstance(whole, str | Refused) and not (reply[:at] and isinstance(pieces, NoAnswer)):
        assert (type(pieces), str(pieces)) == (type(whole), str(whole))  # wherever it is cut
    if whole is None:
        assert isinstance(_received([reply], ends=True), NoAnswer)


class _Told:
    """A client that is told these answers; those that begin with ! are refusals."""

    def __init__(self, answers: list[str]) -> None:
        self._answers = answers
        self.waiting = False
        self.asked: list[str] = []

    def ask(self, *words: str) -> None:
        self.waiting = True
        self.asked.append(" ".join(words))

    def receive(self) -> str | None:
        self.waiting = False
        if not self._answers:
            raise NoAnswer("fuzz.ctl: closed the connection before it answered")
        text = self._answers.pop(0)
        if text.startswith("!"):
            raise Refused(text[1:])
        return text

    def close(self) -> None:
        self.waiting = False


def _questions(data: bytes) -> None:
    texts = [as_text(part) for part in data.split(b"\xff")][:32]
    questions = Questions(Path("fuzz.ctl"))
    told: Any = _Told(list(texts))
    questions._client = told
    for kind in (Kind.COUNTERS, Kind.RXQS, Kind.COUNTERS):
        answers = questions.ask(kind, NOW, wholly=kind is Kind.RXQS)
        for _ in range(len(texts) + 2):
            if not answers.is_empty or not told.waiting:
                break
            answers = questions.receive(NOW)
        assert isinstance(answers, Answers)
        for look in answers:
            assert look is None or isinstance(look, Seen | NotSeen | Sent)
            assert not isinstance(look, Seen) or isinstance(look.value, tuple | dict)
    assert len(told.asked) <= 3 * (len(texts) + 3)


# --- /proc -----------------------------------------------------------------------------------------


def _proc_stat(data: bytes) -> None:
    stat = procfs.parse_stat(as_text(data))
    assert len(stat.state) == 1
    assert procfs.pmd_core(stat.name) is None or stat.name.startswith("pmd-c")
    assert isinstance(procfs.last_cpu(as_text(data)), int)


def _proc_schedstat(data: bytes) -> None:
    run, wait = procfs.parse_schedstat(as_text(data))
    assert isinstance(run, int)
    assert isinstance(wait, int)


def _proc_status(data: bytes) -> None:
    status = procfs.parse_status(as_text(data))
    for cpus in (status.cpus_allowed, procfs.parse_cpu_list(as_text(data).partition("Cpus_allowed_list:")[2])):
        assert cpus is None or all(0 <= cpu <= procfs.MAX_CPU for cpu in cpus)


def _cpu_list(data: bytes) -> None:
    cpus = procfs.parse_cpu_list(as_text(data))
    assert len(cpus) <= procfs.MAX_CPU + 1
    assert procfs.parse_cpu_list(",".join(map(str, sorted(cpus)))) == cpus


def _proc_words(data: bytes) -> None:
    core = procfs.pmd_core(as_text(data))
    assert core is None or 0 <= core < 10**9
    assert procfs.syscall_number(as_text(data)).split()


_FILES = ("comm", "stat", "schedstat", "status", "syscall", "wchan")


class _Proc:
    """A /proc with one process of one thread, whose files hold what they are given."""

    def __init__(self) -> None:
        self.root = new_directory()
        self.pid = 7
        task = self.root / "7" / "task" / "7"
        task.mkdir(parents=True)
        self.paths = [task / name for name in _FILES]

    def hold(self, data: bytes) -> None:
        for path, part in zip(self.paths, as_parts(data, len(_FILES)), strict=True):
            path.write_bytes(part)


_proc: list[_Proc] = []


def _threads(data: bytes) -> None:
    if not _proc:
        _proc.append(_Proc())
    proc = _proc[0]
    proc.hold(data)
    sensor = ThreadSensor(proc.root)
    sensor.attach(ProcessId(proc.pid, 1))
    for suspects in (frozenset[int](), frozenset({proc.pid})):
        seen = sensor.look(NOW, anew=True, suspects=suspects)
        assert isinstance(seen, Seen)
        for look in seen.value:
            assert look.core == procfs.pmd_core(look.name)
            assert len(look.state) == 1
        sensor.is_off(proc.pid)
        sensor.others(NOW)
    sensor.attach(None)
    for user in core_users.core_users(frozenset(range(64)), lambda: None, proc.root):
        assert 0 <= user.cpu < 64
        assert core_users.words(user.cpu, [user])


def _command_line(data: bytes) -> None:
    root = _root("command-line")
    (root / "7").mkdir(exist_ok=True)
    (root / "7" / "cmdline").write_bytes(data)
    path = log_path(7, root)
    if path is not None:
        assert path.is_absolute()
        sensor = LogSensor(path)
        sensor.look(NOW)
        sensor.close()


_roots: dict[str, Path] = {}


def _root(name: str) -> Path:
    if name not in _roots:
        _roots[name] = new_directory()
    return _roots[name]


def _pidfile(data: bytes) -> None:
    path = _root("pidfile") / "ovs-vswitchd.pid"
    path.write_bytes(data)
    sensor = VswitchdSensor(path.parent)
    found, ended = sensor.look(NOW)
    assert ended is None
    assert isinstance(found, NotSeen), "no process holds a lock on it"
    assert found.why.isprintable()
    seventh = Process(ProcessId(7, 1), path, path.with_suffix(".7.ctl"))  # its control socket is not there
    assert not sensor._left_pidfile(seventh) or as_text(data).strip() == "7"


def _netlink(data: bytes) -> None:
    assert all(isinstance(value, bytes) for value in kernel._attributes(data).values())


# --- the log ---------------------------------------------------------------------------------------


def _is_event(event: Blocked) -> bool:
    return event.ms >= 0 and event.who.isprintable() and event.by.isprintable()


def _log_line(data: bytes) -> None:
    event = vlog.parse(as_text(data))
    assert event is None or _is_event(event)


def _log_file(data: bytes) -> None:
    """Written in pieces, parted by 0xff: what is read of it is what its whole lines say, in their order."""
    path = _root("log") / "ovs-vswitchd.log"
    path.write_bytes(b"")
    sensor = LogSensor(path)
    events: list[Blocked] = []
    assert sensor.look(NOW) == Seen(NOW, ())
    with path.open("ab", buffering=0) as log:
        for piece in data.split(b"\xff")[:16]:
            log.write(piece)
            for _ in range(2):
                look = sensor.look(NOW)
                assert not isinstance(look, NotSeen)
                events += look.value if look is not None else ()
    sensor.close()
    whole = b"".join(data.split(b"\xff")[:16]).split(b"\n")[:-1]
    said = [vlog.parse(as_text(line)) for line in whole if len(line) >= 40]
    assert all(map(_is_event, events))
    assert events == [event for event in said if event is not None]


# --- files -----------------------------------------------------------------------------------------


def _config(data: bytes) -> None:
    read = config_file.parse(as_text(data), "c.yaml")
    assert config_file.parse(msgspec.json.encode(read).decode(), "c.yaml") == read  # JSON is YAML


def _record(data: bytes) -> None:
    """After a first byte that says whether the rest is the file, what is packed in it, or what it tells of."""
    directory = _root("record")
    path = records.path_of(directory, 1)
    if data[:1] == b"\0":
        records.write(directory, _head(), [incident.Section("x", as_json(data), as_text(data))])
    else:
        path.write_bytes(data[1:] if data[:1] == b"z" else gzip.compress(data[1:], 0))
    head, sections = records.read(directory, 1)
    assert records.heads(directory) == [head]
    text = incident.text(head, sections)
    assert all(line.isprintable() for line in text.split("\n"))
    assert incident.listing([head])[0].isprintable()
    printed = plain.json_text({"incident": head, "sections": sections})
    assert msgspec.json.decode(printed)["incident"]["who"] == head.who


def _packed() -> Iterable[bytes]:
    head = incident.Head(
        number=1, at=NOW.wall_ms, who="pmd-c00/id:8", old="A", new="D", cause="traced", evidence="é", complete=True
    )
    threads = {"pmd-c00/id:8 (7)": {"stat": "7 (x) S", "status": "a\nb"}}
    sections = [incident.Section("threads", threads), incident.Section("history", [{"at": 1}], "note")]
    lines = b"\n".join(map(plain.json_bytes, (head, *sections)))
    yield b"-" + lines
    yield b"-" + plain.json_bytes(head)
    yield b"z" + gzip.compress(lines)
    yield bytes((0, 6, 3, 2, 5, 2, 4, 3, 97, 10, 98))


def _memory(data: bytes) -> None:
    if data[:1] == b"!":  # its sum is right
        head = memory.Head(format=memory.FORMAT, version=1, boot="boot", pidfile="f.pid", sum=crc32(data[1:]))
        data = b"%s\n%s\n" % (plain.json_bytes(head), data[1:])
    kept = memory.decode(data, "boot", "f.pid")
    assert memory.decode(memory.encode(kept, "boot", "f.pid"), "boot", "f.pid") == kept
    now = Moment(kept.at.mono + 1.0, NOW.wall_ms)
    news = Transition(now, "daemon", "away", "back", "none", kept.daemon)
    register = after_a_gap(registered(kept.beating), now, news)
    process = register.vswitchd.process
    asked = Settings(enabled=True, interval=0.1, max_main_share=0.01, restart_deadline=60.0, hung_after=60.0)
    for looks in (Looks(now, process), Looks(now, process, main=MainLook("S", 0.0, answered=True)), Looks(now, None)):
        register = heartbeat.judge(register, looks, asked, 0.1, 0.02)
    told = snapshot(register.pmds.values(), vswitchd=register.vswitchd, history=register.history, at=now)
    for text in (tables.health(told), tables.history(register.history), tables.explain_vswitchd(told)):
        assert all(line.isprintable() for line in text.replace("\t", " ").split("\n"))
    plain.json_bytes(document.node(told, now, {}))


def _memories() -> Iterable[bytes]:
    scene = Scene()
    yield memory.encode(remembered(scene.register, scene.moment), "boot", "f.pid")
    yield b"!" + plain.json_bytes(remembered(scene.register, scene.moment))
    scene.workers[0].fails(Cause.TRACED)
    scene.run(1.3)
    yield b"!" + plain.json_bytes(remembered(scene.register, scene.moment))
    yield memory.encode(remembered(), "another boot", "f.pid")
    yield b'{"format":"ovs-keepalive memory","version":9,"boot":"boot","pidfile":"f.pid","sum":0}\n{}\n'


# --- the database ----------------------------------------------------------------------------------


def _column(data: bytes) -> None:
    text = as_text(data)
    pair = column.parse(text)
    assert pair.state is not State.UNUSED
    assert column.parse(column.render(pair)) == pair


def _schema(data: bytes) -> None:
    live = as_json(data)
    status = schema.compare(live)
    assert isinstance(status.version, str)
    added, removed = schema.with_columns(live), schema.without_columns(live)
    assert schema.compare(added).names(schema.Found.ABSENT) == ()
    assert schema.compare(removed).names(schema.Found.PRESENT) == ()
    assert schema.without_columns(added) == removed
    assert doctor.schema(status.version, status.names(schema.Found.ABSENT), status.names(schema.Found.OTHER))


def _messages(data: bytes) -> None:
    cut, wire = data[:1], data[1:]
    at = (cut[0] if cut else 0) * max(1, len(wire) // 256)
    whole, rest = remote._messages(wire)
    assert all(isinstance(message, dict) for message in whole)
    assert len(rest) <= len(wire)
    first, left = remote._messages(wire[:at])
    second, left = remote._messages(left + wire[at:])
    # Garbage may be looked at sooner or later; what comes of it is the same. (By repr: nan != nan)
    for one, other in zip([*first, *second], whole, strict=False):
        assert repr(one) == repr(other)
    for message in whole:
        assert plain.one_line(remote._words(message.get("error"))).isprintable()


class _Mirrored:
    """A session that holds this map."""

    may_write = True

    def __init__(self, there: dict[str, str]) -> None:
        self.there = there

    def map(self, _column: str) -> dict[str, str]:
        return self.there


def _rows(data: bytes) -> None:
    """What a transaction's answer, other_config and external_ids hold."""
    rows = as_json(data)
    call, remote.call = remote.call, lambda *_: rows
    try:
        section = collector._attempt("database", lambda: collector._database("unix:db.sock"))
    finally:
        remote.call = call
    plain.json_bytes(section)
    assert all(line.isprintable() for line in incident.text(_head(), [section]).split("\n"))
    there = {str(key): str(value) for key, value in rows.items()} if isinstance(rows, dict) else {}
    asked = settings.read(there, settings.Asked())
    assert settings.SHORTEST_MS <= asked.interval_ms <= settings.LONGEST_MS
    found = doctor.live_settings(there)
    assert plain.one_line(str(found)).isprintable()
    session: Any = _Mirrored(
        {plain.sound(key): plain.sound(value) for key, value in there.items()}
    )  # the server's word
    mirrored = mirror.Mirror(session)
    mirrored.publish(snapshot([pmd(3), pmd(4, 4)]))
    for change in mirrored._operation():
        assert change[:2] in (["external_ids", "delete"], ["external_ids", "insert"])
        plain.json_bytes(change)


def _collectd(data: bytes) -> None:
    """Updates of the three columns, and a turn after each."""
    said = as_json(data)
    watch, now = alarms.Watch(1.0, NOW), NOW
    for step in (said if isinstance(said, list) else [said])[:8]:
        columns = step if isinstance(step, dict) else {}
        keepalive, detail, other_config = (
            {str(key): str(value) for key, value in columns[name].items()}
            if isinstance(columns.get(name), dict)
            else None
            for name in ("keepalive", "keepalive_detail", "other_config")
        )
        now = Moment(now.mono + 4, now.wall_ms + 4000)
        content = alarms.Content(keepalive, detail, other_config or {"enable-keepalive": "true"})
        link = alarms.Link(step is not None, str(columns.get("name")), str(columns.get("error")))
        notices = [*watch.take(content, now), *watch.look(link, now)]
        for line in (
            *(collectd.notification(notice, link.remote) for notice in notices),
            *collectd.values(watch, link.remote, 10.0, now),
        ):
            assert collectd_words.read(line)
        assert watch.look(link, now) == []


def _head() -> incident.Head:
    return incident.Head(number=1, at=0, who="", old="", new="", cause="", evidence="", complete=True)


# --- the daemon's own socket, and its answers ------------------------------------------------------

_requests: list[Requests] = []


def _control_socket(data: bytes) -> None:
    if not _requests:
        directory = new_directory()
        _requests.append(Requests(Source(snapshot([pmd(3), pmd(4, 4)]), directory, {"lock": "held"}), directory))
        kept_open.callback(_requests[0].close)
    _, said = _requests[0].answer(data)
    _requests[0].logged("fuzzed")
    decoder, at = json.JSONDecoder(), 0
    while at < len(said):
        answer, at = decoder.raw_decode(said, at)
        assert answer.keys() == {"id", "result", "error"}
        assert (answer["result"] is None) != (answer["error"] is None)


def _node(data: bytes) -> None:
    node = as_json(data)
    if document.is_node(node):
        assert isinstance(document.is_well(node), bool)
        glance = ports.glance(node.get("ports", ()))
        assert all(line.isprintable() for line in (tables.show(node) + glance).split("\n"))


def _nodes() -> Iterable[bytes]:
    node = document.node(snapshot([pmd(3), pmd(4, 4)]), NOW, {"lock": "held"})
    yield plain.json_bytes(node)
    port = {
        "name": "vhu0",
        "bridge": "br0",
        "type": "dpdkvhostuser",
        "state": "STRANDED",
        "why": "its VM was connected",
    }
    yield plain.json_bytes({**node, "ports": [port, {**port, "state": "UP"}]})
    yield b'{"enabled": false}'


def _daemons_word(data: bytes) -> None:
    """What other parts of a host say, judged by the doctor."""
    text = as_text(data)
    for cures in (doctor.DATABASE, doctor.VSWITCHD, doctor.CONTROL):
        finding = doctor.cured("x", text, cures)
        assert finding.cure
        assert plain.one_line(str(finding)).isprintable()
    doctor.python_ovs(text)
    doctor.datapaths(text.split(), ("netdev", "dummy"))
    doctor.silent_daemon(7, text)


def _plain(data: bytes) -> None:
    """Any text at all, half surrogates too."""
    text = data.decode("utf-8", "surrogateescape")
    assert plain.one_line(text).isprintable()
    assert plain.one_line(plain.one_line(text)) == plain.one_line(text)
    assert all(cell.isprintable() for line in plain.lines(text).split("\n") for cell in line.split("\t"))
    assert len(excerpt.short(text)) <= excerpt.SHORT
    assert column.clean(text).isprintable()
    assert ";" not in column.clean(text)
    printed = plain.json_text({text: [text]})
    assert all(line.isprintable() for line in printed.split("\n"))
    assert msgspec.json.decode(printed) == {plain.sound(text): [plain.sound(text)]}


_SCHEMA = {"name": "Open_vSwitch", "version": "8.0.0", "tables": {"Open_vSwitch": {"columns": dict(schema.WANTED)}}}
_REPLY = '{"id":1,"result":"%s","error":null}'

TARGETS = (
    Target("pmd-perf", _pmd_perf, (), golden_files("[0-9]*/perf-*"), "`dpif-netdev/pmd-perf-show`"),
    Target("pmd-rxq", _pmd_rxq, (), golden_files("[0-9]*/rxq-*"), "`dpif-netdev/pmd-rxq-show`"),
    Target(
        "appctl-framing",
        _framing,
        (),
        seeds(
            "a" + _REPLY % "ok\\n", "\x01" + _REPLY % "é\\ud83d\\ude00", 'x{"id":1,"result":null,"error":"no"}\n', "b"
        ),
        "the replies of a control socket, wherever they are cut",
    ),
    Target(
        "questions",
        _questions,
        (),
        lambda: [
            join_parts(
                "!please specify an existing datapath",
                "netdev@a\ndummy@b\n",
                *list(golden_files("3.1.0/perf-f*")())[:2],
            ),
            join_parts(*list(golden_files("3.1.0/perf-f*", "3.1.0/rxq-f*")())[:4]),
            join_parts(*golden_files("3.1.0/dump-dps*")()),
        ],
        "a conversation with vswitchd's main thread",
    ),
    Target("proc-stat", _proc_stat, (ValueError,), golden_files("linux-*/*/stat"), "`/proc/…/stat`"),
    Target(
        "proc-schedstat", _proc_schedstat, (ValueError,), golden_files("linux-*/*/schedstat"), "`/proc/…/schedstat`"
    ),
    Target("proc-status", _proc_status, (ValueError,), golden_files("linux-*/*/status"), "`/proc/…/status`"),
    Target("proc-cpus", _cpu_list, (ValueError,), seeds("0-3,8\n", "", "0", "1,3-5,7"), "lists of CPUs"),
    Target(
        "proc-words",
        _proc_words,
        (ValueError,),
        golden_files("linux-*/*/comm", "linux-*/*/syscall"),
        "`comm`, `syscall`",
    ),
    Target(
        "proc-threads",
        _threads,
        (),
        lambda: [
            join_parts(*[(path.parent / name).read_bytes() for name in _FILES])
            for path in sorted(GOLDEN.glob("linux-*/*/comm"))
        ],
        "a thread's directory in `/proc`",
    ),
    Target(
        "proc-cmdline",
        _command_line,
        (),
        seeds("ovs-vswitchd\0--log-file\0", "/usr/sbin/ovs-vswitchd\0--log-file=/tmp/no/such.log\0--pidfile\0", "x"),
        "`/proc/…/cmdline`: which log vswitchd writes",
    ),
    Target("pidfile", _pidfile, (), seeds("7\n", "4194304", " 12 \n", "x\n"), "the pidfile of vswitchd"),
    Target(
        "netlink",
        _netlink,
        (),
        lambda: [bytes.fromhex("08000100aabbccdd0c00020001000000020000000500030041000000")],
        "the kernel's list of unix sockets",
    ),
    Target("log-line", _log_line, (), golden_lines("[0-9]*/log.txt"), "a line of vswitchd's log"),
    Target(
        "log-file",
        _log_file,
        (),
        lambda: [
            join_parts(path.read_bytes()[:6000], b"half a line", b"\n") for path in sorted(GOLDEN.glob("*/log.txt"))
        ],
        "vswitchd's log as it is written",
    ),
    Target(
        "config",
        _config,
        (config_file.Invalid,),
        seeds("refresh: 2000\nschema: auto\n# x\nhung-after: 5.5\n", "{ovsdb: 'tcp:127.0.0.1:6640'}", "a: &a [*a]", ""),
        "the configuration file (YAML)",
    ),
    Target("record", _record, (records.Unusable,), _packed, "a black-box record"),
    Target("memory", _memory, (memory.Unusable,), _memories, "what an earlier daemon has left"),
    Target("column", _column, (ValueError,), seeds("ALIVE,3,1763690430123", "GONE,0,0"), "a pair of the column"),
    Target("schema", _schema, (schema.SchemaError,), seeds(_SCHEMA, {}, {"tables": {}}), "the schema of the database"),
    Target(
        "ovsdb-messages",
        _messages,
        (ValueError,),
        seeds('a{"id":"echo","method":"echo","params":[]}{"id":1,"error":{"error":"x","details":"y"}} ', 'b{"a":"é"}'),
        "what an ovsdb-server sends",
    ),
    Target(
        "ovsdb-rows",
        _rows,
        (),
        seeds(
            [{"rows": [{"name": "br0", "ports": ["set", []]}]}, {"error": "x"}],
            {"enable-keepalive": "true", "keepalive-interval": "100", "ovs-keepalive-core3": "ALIVE,1", "ovn-x": "y"},
        ),
        "rows: settings, `external_ids`, what a record asks for",
    ),
    Target(
        "collectd",
        _collectd,
        (),
        seeds(
            [
                {
                    "keepalive": {"pmd-c00/id:7": f"{state},0,{NOW.wall_ms}"},
                    "keepalive_detail": {
                        "daemon": f"version=1;pid=7;interval=1000;since=1;beat={NOW.wall_ms}",
                        "vswitchd": f"{vswitchd};pid=8;since=1;culprit=pmd-c00/id:7",
                        "pmd-c00/id:7": 'cause=traced;since=1;witness=state t, held by "gdb"',
                    },
                }
                for state, vswitchd in (("ALIVE", "RUNNING"), ("DEAD", "HUNG"), ("x", ""))
            ],
            [{"keepalive": {"a": "ALIVE,0,1"}}, None, {"keepalive": {}, "other_config": {"enable-keepalive": "x"}}],
            {"name": 'a/"b', "keepalive": {'"': "DEAD,0,0", "\n": "GONE,1,1"}},
        ),
        "the columns, as `collectd` subscribes to them",
    ),
    Target(
        "control-socket",
        _control_socket,
        (),
        lambda: [
            json.dumps({"id": 1, "method": method, "params": params}).encode()
            for method, params in (
                ("keepalive/status", ["--json"]),
                ("keepalive/history", ["5"]),
                ("keepalive/explain", ["pmd-c03"]),
                ("keepalive/explain", ["vswitchd", "--json"]),
                ("keepalive/pmd-xstats-show", ["4"]),
                ("keepalive/incidents", []),
                ("keepalive/breaks", ["2", "--json"]),
                ("keepalive/plan-restart", ["60"]),
                ("keepalive/plan-cancel", []),
                ("set-options", ["--format", "json"]),
                ("vlog/set", ["pattern:console:%D{%H:%M}|%m"]),
                ("vlog/set", ["unixctl:console:dbg"]),
                ("list-commands", []),
            )
        ],
        "requests at our own control socket",
    ),
    Target("node", _node, (), _nodes, "the node document that `show` reads"),
    Target(
        "doctor",
        _daemons_word,
        (),
        seeds(
            "unix:x: get_schema: no answer within 3 s",
            "no ovs-vswitchd*.pid in /run: is Open vSwitch running?",
            "pidfile x says 7, its lock is held by a process of another PID namespace: share the host's",
            "3.5.0",
        ),
        "what the doctor is told",
    ),
    Target("plain", _plain, (), seeds("é\x1b[2J", "a\u202e", "\U000e0041", '"\\'), "every way out: text and JSON"),
    *HTTP_TARGETS,
    *AGENT_TARGETS,
    *FLEET_TARGETS,
    *PORT_TARGETS,
    *OFFLOAD_TARGETS,
    *OFFLOAD_WRITE_TARGETS,
)

# What libFuzzer puts in besides what it finds: words that decoders in C compare, of which it learns nothing.
WORDS = (
    *(
        '{"',
        '":',
        '"}',
        "[[",
        "]]",
        "null",
        "true",
        "1e5",
        "-0",
        "\\u0000",
        "\\ud83d\\ude00",
        "\\ud800",
        '"id":',
        '"result":',
    ),
    *('"error":', '"method":"', '"params":[', '"enabled":true', '"pmds":[', '"data":', '"name":"', '"at":', '"rows":['),
    *("pmd thread numa_id 0", "main thread:", " core_id 1:", "\n  Iterations: ", "\n  port: ", " queue-id: ", "9" * 20),
    *(" R ", "(a) ", "TracerPid:\t", "Cpus_allowed_list:\t", "CoreDumping:\t1", "0-65535", "pmd-c1/id:2", "running"),
    *(
        "|WARN|",
        "ovs_rcu|WARN|blocked 9 ms waiting for x to quiesce\n",
        "timeval",
        "\n",
        "\r\n",
        "\xff",
        "\0",
        "\x1b[2J",
        "\t",
    ),
    *(
        "refresh: ",
        "schema: auto",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!float ",
        "!!timestamp ",
        "!!binary ",
        "? ",
        "- ",
        "0x",
    ),
    *(
        ".inf",
        ".nan",
        "1:2:3",
        "--- ",
        "%YAML 1.1\n",
        "|\n ",
        ">-\n ",
        "'",
        "keepalive-interval",
        "enable-keepalive",
        "ovn-",
    ),
    *(
        "--format",
        "=json",
        "--json",
        "pattern:console:",
        "%D{",
        "FACILITY",
        "keepalive/history",
        "vlog/set",
        "set-options",
    ),
    *("ALIVE,1,", "--log-file=", "../", "\u202e", "\u2028", "\U000e0041", "Open_vSwitch", '"tables":{', '"columns":{'),
)


def dictionary() -> str:
    """WORDS as libFuzzer reads them."""
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode("latin-1", "ignore") or word.encode()) for word in WORDS)
    return "".join(f'"{word}"\n' for word in quoted)


def named(name: str) -> Target:
    """The target of that name. Raises KeyError."""
    return {target.name: target for target in TARGETS}[name]
