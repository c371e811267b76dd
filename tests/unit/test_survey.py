# SPDX-License-Identifier: Apache-2.0
"""The survey: what it reads of files and /proc, how the daemon keeps it, and what becomes of the daemon without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import helper
from ovs_keepalive.beat import moment
from ovs_keepalive.children import wait
from ovs_keepalive.core.model import Transition
from ovs_keepalive.core.places import Kind, Place
from ovs_keepalive.core.ports import Counters, Peers, PortState, Reach
from ovs_keepalive.formats import flows, mounts, net_unix
from ovs_keepalive.formats import survey as wire
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.formats.survey import Order
from ovs_keepalive.ports import PortWatch
from ovs_keepalive.sensors.ports import Around, PortSensor, Row
from ovs_keepalive.survey_child import SurveyChild
from tests.looks import SETTINGS, running, snapshot
from tests.port_looks import FIRST, client, server, survey

ORDER = Order("unix:none", None, ("", "", "", ""))


def row(**fields: Any) -> Row:
    """A client port as OVSDB has it."""
    status = {"mode": "client", "status": "connected", "num_of_vrings": "4"}
    whole = Row("vhc0", "1-2", "br0", "netdev", "dpdkvhostuserclient", 1, "up", "up", "", status, {}, 0)
    return whole._replace(**fields)


def looked(path: object, **fields: Any) -> Any:
    """The facts of a client port with that socket, vswitchd being this process."""
    around = Around(5.0, os.getpid(), "/run/none", {}, {})
    [facts] = PortSensor().look([row(options={"vhost-server-path": str(path)}, **fields)], around)
    return facts


def test_a_socket_is_seen_with_its_directories_and_who_listens(tmp_path: Path) -> None:
    path = tmp_path / "vhc0.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
        listening.bind(str(path))
        path.chmod(0o640)
        facts = looked(path)
        assert isinstance(facts.socket, Place)
        assert facts.socket.kind is Kind.SOCKET
        assert facts.socket.itself is not None
        assert (facts.socket.itself.mode, facts.socket.itself.uid) == (0o640, os.getuid())
        assert [directory.path for directory in facts.socket.directories] == [
            str(one) for one in reversed(path.parents)
        ]
        assert facts.peers == Peers(0, 0, 0), "bound, and nobody listens: stale"
        listening.listen()
        assert looked(path).peers == Peers(1, 1, 0)
        peer.connect(str(path))
        assert looked(path).peers == Peers(1, 1, 1), "nobody has accepted it, and it is there"


def test_a_peer_in_another_network_namespace_is_seen(tmp_path: Path) -> None:
    """Linux gives the server's end of a connection to the namespace of the client, as of a VM that libvirt confined."""
    path = tmp_path / "old1"
    script = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); sys.stdin.read()"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        argv = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", script]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as peer:
            accepted, _ = listening.accept()
            with accepted:
                assert looked(path).peers == Peers(1, 1, 1)
            peer.terminate()


def test_what_lies_at_a_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    kinds = {name: looked(tmp_path / name).socket for name in ("directory", "file", "loop", "none", "none/below")}
    assert kinds["directory"].kind is Kind.DIRECTORY
    assert kinds["file"].kind is Kind.FILE
    assert (kinds["loop"].kind, kinds["loop"].problem) == (Kind.ABSENT, "Too many levels of symbolic links")
    assert (kinds["none"].kind, kinds["none"].problem) == (Kind.ABSENT, "")
    assert kinds["none/below"].problem == f"{tmp_path / 'none'}: No such file or directory"
    assert kinds["none/below"].directories[-1].path == str(tmp_path)
    assert looked(tmp_path / "file" / "below").socket.problem == f"{tmp_path / 'file'}: Not a directory"
    assert looked(tmp_path / ("x" * 300)).socket.problem == "File name too long"
    assert looked("relative.sock").socket == "relative.sock: a relative path"


def test_a_path_that_was_bound_in_other_words_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for name, bound in (("a.sock", "real/a.sock"), ("b.sock", str(tmp_path / "link" / "b.sock"))):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(bound)
            listening.listen()
            assert looked(tmp_path / "real" / name).peers == Peers(1, 1, 0)


def test_the_row_is_read_as_far_as_it_tells(tmp_path: Path) -> None:
    around = Around(
        5.0, os.getpid(), "/run/ovs/vm", {"vhu0": {"rx_packets": 3, "tx_packets": 4, "tx_dropped": 5}},
        {"br0": Flows(2, frozenset({7}), inputs=frozenset({1}))},
    )  # fmt: skip
    rows = [
        row(),
        row(name="vhu0", type="dpdkvhostuser", ofport=7),
        row(name="p0", type="dpdk", options={"n_rxq": "2"}, status={}),
    ]
    one, two, three = PortSensor().look(rows, around)
    assert (one.mode, one.peer, one.path, one.queues, one.counters) == ("client", "connected", "", 2, "")
    assert one.reach == Reach(2, to=False, of=True)
    assert (two.mode, two.path, two.reach) == ("server", "/run/ovs/vm/vhu0", Reach(2, to=True, of=False))
    assert two.counters == Counters(5.0, 3, 4, 5)
    assert (three.mode, three.peer, three.queues, three.reach, three.socket) == ("", "", 2, "", "")


def test_without_vswitchd_nobody_is_said_to_listen(tmp_path: Path) -> None:
    around = Around(5.0, None, "/run/none", "no answer", {})
    [facts] = PortSensor().look([row(options={"vhost-server-path": str(tmp_path / "x")})], around)
    assert facts.peers == "vswitchd does not run"
    assert facts.counters == "no answer"
    assert PortSensor().credentials(None) == "vswitchd does not run"


# --- text --------------------------------------------------------------------------------------


def test_flows_tell_which_ports_they_serve() -> None:
    text = (
        " cookie=0x0, priority=10,in_port=1,ip actions=output:2,resubmit(,5)\n"
        " cookie=0x0, priority=10,in_port=LOCAL actions=drop\n"
        " cookie=0x0, table=5, priority=0 actions=enqueue:3:1\n"
        "OFPST_FLOW reply (OF1.4) (xid=0x2):\n"
    )
    assert flows.parse(text) == Flows(3, frozenset({2, 3}), False, frozenset({1}), False)
    assert flows.parse(" priority=0 actions=NORMAL\n") == Flows(1, anywhere=True, any_input=True)
    for action in ("output:NXM_NX_REG0[]", "group:1", "learn(table=1,output:NXM_OF_IN_PORT[])", "FLOOD", "IN_PORT"):
        assert flows.parse(f" table=1, priority=0 actions={action}").anywhere, action
    assert not flows.parse(" table=1, actions=CONTROLLER:65535").anywhere
    assert flows.parse("").total == 0


def test_flows_are_counted_with_the_tables_that_are_only_hinted_at() -> None:
    text = "  table 0:\n    active=3, lookup=1, matched=1\n  table 1:\n    active=2, lookup=0\n  tables 2...4: ditto\n"
    assert flows.count(text) == 3 + 2 + 3 * 2
    assert flows.count("  table 0 (classifier):\n active=0, lookup=0, matched=0\n  tables 1...253: ditto\n") == 0
    assert flows.count("ovs-ofctl: br0 is not a bridge") is None


def test_only_stream_sockets_of_the_names_that_are_asked_for_count() -> None:
    text = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 22083 /run/a\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 22084 /run/a\n"
        "0000000000000000: 00000003 00000000 00000000 0001 02 22085 /run/a\n"
        "0000000000000000: 00000003 00000000 00000000 0002 03 22085 /run/a\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 22086\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 22087 /run/b\n"
    )
    assert net_unix.parse(text, {"a"}) == {"/run/a": net_unix.Use(1, 2)}


def test_a_path_that_a_unit_hides_lies_elsewhere() -> None:
    host = mounts.parse(
        "1 0 8:1 / / rw - ext4 x rw\n2 1 0:5 / /run rw - tmpfs x rw\n3 1 8:1 /a\\040b /c rw - ext4 x rw\n"
    )
    private = (*host, mounts.Mount("/srv", "8:1", "/srv/private"))
    assert mounts.place("/run/vm/a.sock", host) == ("0:5", "/vm/a.sock")
    assert mounts.place("/run/vm/a.sock", host) == mounts.place("/run/vm/a.sock", private)
    assert mounts.place("/srv/a.sock", host) != mounts.place("/srv/a.sock", private)
    assert mounts.place("/c/d", host) == ("8:1", "/a b/d")
    assert mounts.place("/running", host) == ("8:1", "/running")
    assert mounts.place("/x", ()) is None


# --- the daemon's side -------------------------------------------------------------------------

ANSWERS = """
import sys
from pathlib import Path
sys.stdin.readline()
for line in sys.stdin:
    sys.stdout.write(Path({answer!r}).read_text())
    sys.stdout.flush()
"""


class Daemon:
    """Turns its loop as the main loop does, with a survey that is a script of ours."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        program = tmp_path / "survey.py"
        program.write_text(script)
        popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda argv, **how: popen([sys.executable, "-S", str(program)], **how))
        monkeypatch.setattr("ovs_keepalive.ports.CALM", 0.0)
        self.child = SurveyChild(ORDER)
        self.noted: list[Transition] = []
        self.watch = PortWatch(self.child, 0.05, self.noted.append)
        self.shot = snapshot([], vswitchd=running(FIRST))

    def turn(self) -> PortWatch:
        """One turn."""
        self.watch.run(moment().mono, self.shot)
        return self.watch

    def turned(self) -> SurveyChild:
        """The survey's keeper after one turn."""
        self.turn()
        return self.child


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    """What the survey answers next."""
    return tmp_path / "answer"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Path) -> Iterator[Daemon]:
    """One whose survey answers that."""
    put(answer, wire.line(survey(client(), server())))
    daemon = Daemon(tmp_path, monkeypatch, ANSWERS.format(answer=str(answer)))
    yield daemon
    daemon.watch.close()


def test_a_survey_of_long_ago_proves_nothing(daemon: Daemon) -> None:
    wait(lambda: daemon.turn().told.ports, "the first survey")
    assert [port.state for port in daemon.watch.told.ports] == [None, None], "of a time long before: it proves nothing"
    assert daemon.watch.told.blind == ("the survey: it is silent",)


def put(answer: Path, line: bytes) -> None:
    """Have it answered from now on; never half of it."""
    whole = answer.with_suffix(".new")
    whole.write_bytes(line)
    whole.replace(answer)


def seen_now(*ports: Any, **fields: Any) -> bytes:
    """A survey of this moment."""
    return wire.line(survey(*ports, at=moment(), **fields))


def test_a_survey_of_now_is_believed_until_it_is_silent(daemon: Daemon, answer: Path) -> None:
    put(answer, seen_now(client(), server()))
    wait(lambda: [port.state for port in daemon.turn().told.ports] == [PortState.UP] * 2, "two that are up")
    assert set(daemon.watch.pairs) == {"port:vhc0", "port:vhu0"}
    assert daemon.watch.metric == [("vhc0", PortState.UP), ("vhu0", PortState.UP)]
    assert daemon.watch.fact == "2: 2 UP"
    put(answer, seen_now(client(peer="disconnected", link="down", peers=Peers(0, 1, 0)), server()))
    wait(lambda: daemon.turn().told.ports[0].state is PortState.DISCONNECTED, "one that is away")
    [gone] = daemon.noted
    assert (gone.who, gone.old, gone.new) == ("port:vhc0", "UP", "DISCONNECTED")


def test_a_database_that_is_away_takes_no_port_with_it(daemon: Daemon, answer: Path) -> None:
    put(answer, seen_now(client()))
    wait(lambda: daemon.turn().told.ports, "the first survey")
    put(answer, seen_now(blind=("unix:none: no database",), told=False))
    wait(lambda: daemon.turn().told.blind == ("unix:none: no database",), "its blindness")
    assert [port.word for port in daemon.watch.told.ports] == ["unknown"]
    put(answer, seen_now(client()))
    wait(lambda: daemon.turn().told.ports[0].state is PortState.UP, "the port again")
    assert daemon.noted == []


def test_a_survey_that_dies_is_told_and_another_one_started(daemon: Daemon, answer: Path) -> None:
    put(answer, seen_now(client()))
    wait(lambda: daemon.turn().told.ports, "the first survey")
    first = daemon.child.pid
    assert first is not None
    os.kill(first, 9)
    wait(lambda: daemon.turned().problem, "its death")
    assert daemon.child.problem == "it ended"
    assert "the survey: it ended" in daemon.watch.fact
    put(answer, seen_now(client()))
    wait(lambda: not daemon.turned().problem, "another one")
    assert daemon.child.pid != first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys\nsys.exit('no room on this host')", "it ended: no room on this host"),
        ("print('[]', flush=True)\nimport time\ntime.sleep(60)", "it said what is no answer"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "it said more than 16 MiB"),
    ],
)
def test_why_there_is_no_survey_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    daemon = Daemon(tmp_path, monkeypatch, script)
    try:
        wait(lambda: daemon.turned().problem, "the reason")
        assert daemon.child.problem.startswith(why)
        assert daemon.child.pid is None
        wait(lambda: any(why in line for line in daemon.turn().told.blind), "its blindness")
    finally:
        daemon.watch.close()


def test_one_that_says_nothing_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "SILENCE", 0.2)
    daemon = Daemon(tmp_path, monkeypatch, "import time\ntime.sleep(60)")
    wait(lambda: daemon.turned().problem, "the reason")
    assert daemon.child.problem.startswith("it said nothing for 0.2 s")
    assert daemon.child.pid is None


def test_while_disabled_or_not_wanted_there_is_no_survey(daemon: Daemon, answer: Path) -> None:
    put(answer, seen_now(client()))
    wait(lambda: daemon.turn().told.ports, "the first survey")
    daemon.watch.period = 0.0
    assert daemon.turn().told.ports == ()
    assert daemon.child.pid is None
    assert daemon.watch.pairs == {}
    daemon.watch.period = 0.05
    wait(lambda: daemon.turn().told.ports, "it again")
    daemon.shot = snapshot([], settings=replace(SETTINGS, enabled=False))
    assert daemon.turn().told.ports == ()
    assert daemon.child.pid is None


def test_many_ports_that_change_at_once_are_not_told_one_by_one(daemon: Daemon, answer: Path) -> None:
    ports = [client(name=f"v{number}") for number in range(50)]
    put(answer, seen_now(*ports))
    wait(lambda: daemon.turn().told.ports and daemon.watch.told.ports[0].state, "fifty that are up")
    put(answer, seen_now(*[port._replace(peer="disconnected", peers=Peers(0, 1, 0)) for port in ports]))
    wait(lambda: daemon.turn().told.ports[0].state is PortState.DISCONNECTED, "fifty that are away")
    assert len(daemon.noted) == 9
    assert daemon.noted[-1].evidence == "42 more ports changed at once"
