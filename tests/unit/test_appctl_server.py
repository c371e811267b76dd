# SPDX-License-Identifier: Apache-2.0
"""The control socket against clients that mean no good: bounded in everything, and an ordinary client is served."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ovs.poller
import ovs.unixctl
import ovs.vlog
import pytest

from ovs_keepalive.publishers import appctl_server
from ovs_keepalive.publishers.appctl_server import ANSWERS, CONNECTIONS, LARGEST, Answer, AppctlServer, Refusal


class Serving:
    """A server and its clients, all in this thread: turn() is one turn of the main loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = AppctlServer(str(path), "1.2.3")
        self.answered = 0
        self.clients: list[socket.socket] = []
        self.now = 1000.0
        self.server.register("test/echo", "[TEXT]", 0, 1, self._echo)
        self.server.register("test/large", "", 0, 0, lambda _: Answer(lambda: "x" * 1_000_000, dict))
        self.server.register("test/fail", "", 0, 0, self._fail)
        self.server.register("test/refuse", "", 0, 0, self._refuse)

    def _echo(self, arguments: list[str]) -> Answer:
        self.answered += 1
        return Answer(lambda: " ".join(arguments), lambda: arguments)

    def _fail(self, _arguments: list[str]) -> Answer:
        raise KeyError("a bug")

    def _refuse(self, _arguments: list[str]) -> Answer:
        raise Refusal("not now")

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.01
            self.server.run(self.now)

    def client(self, data: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(1.0)
        client.connect(str(self.path))
        self.clients.append(client)
        client.sendall(data)
        return client

    def ask(self, method: str, *params: object) -> Any:
        """What an ordinary client is told: the result, or the error behind a `!`."""
        client = self.client(request(method, *params))
        self.turn(3)
        answer = json.loads(client.recv(1 << 20))
        client.close()
        return answer["result"] if answer["error"] is None else f"!{answer['error']}"

    def is_closed(self, client: socket.socket) -> bool:
        client.setblocking(False)
        try:
            return client.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    @property
    def connections(self) -> int:
        return len(self.server._connections)

    @property
    def waits(self) -> bool:
        """Whether the main loop would sleep."""
        poller = ovs.poller.Poller()
        self.server.wait(poller)
        return bool(poller.timeout != 0)


def request(method: str, *params: object) -> bytes:
    return json.dumps({"id": 7, "method": method, "params": params}).encode()


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(ovs.unixctl, "commands", {"help": ovs.unixctl.commands["help"]})
    ovs.vlog.Vlog.set_levels_from_string("any:off")
    serving = Serving(tmp_path / "x.ctl")
    yield serving
    for client in serving.clients:
        client.close()
    serving.server.close()


@pytest.fixture
def warned(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(appctl_server.log, "warn", lines.append)
    return lines


def test_an_ordinary_client_is_answered(serving: Serving) -> None:
    assert serving.ask("test/echo", "a ü") == "a ü"
    assert serving.ask("test/echo", "a", "--json") == '[\n  "a"\n]\n'
    assert serving.ask("version").endswith(" (Open vSwitch) 1.2.3")
    assert re.search(r"^  test/echo +\[TEXT\]$", serving.ask("list-commands"), re.MULTILINE)
    assert serving.ask("nonsense") == '!"nonsense" is not a valid command'


@pytest.mark.parametrize("command", ["version", "list-commands", "help"])
def test_a_command_that_knows_only_text_answers_json_as_open_vswitch_does(serving: Serving, command: str) -> None:
    text = serving.ask(command)
    assert json.loads(serving.ask(command, "--json")) == {"reply-format": "plain", "reply": text}
    client = serving.client(request("set-options", "--format", "json") + request(command))
    serving.turn(6)
    answer = client.recv(1 << 20).decode()
    decoder = json.JSONDecoder()
    _, end = decoder.raw_decode(answer)
    assert decoder.raw_decode(answer[end:])[0]["result"] == {"reply-format": "plain", "reply": text}
    assert serving.ask(command, "--json", "--json").startswith(f'!"{command}" command takes at most 0')


def test_several_requests_on_one_connection_are_answered_in_their_order(serving: Serving) -> None:
    client = serving.client(b" \n".join(request("test/echo", str(number)) for number in range(5)) + request("test/ech"))
    serving.turn(20)
    text = client.recv(1 << 20).decode()
    decoder, answers = json.JSONDecoder(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer["result"] or answer["error"])
        text = text[end:]
    assert answers == ["0", "1", "2", "3", "4", '"test/ech" is not a valid command']


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_request_may_come_in_pieces(serving: Serving, cut: int) -> None:
    whole = request("test/echo", "ü}{")
    client = serving.client(whole[:cut])
    serving.turn(3)
    assert serving.waits
    client.sendall(whole[cut:])
    serving.turn(3)
    assert json.loads(client.recv(4096))["result"] == "ü}{"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\xff\xfe" * 10,
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 5000,
        b'{"id":1,"method":' + b"[" * 5000,
        b'{"id":1,"method":5,"params":[]}',
        b'{"id":1,"method":"version","params":{}}',
        b'{"id":null,"method":"version","params":[]}',
        b'{"method":"version","params":[]}',
        b'{"id":1,"result":"x","error":null}',
        b"1" * 5000 + b" ",
        b'{"id":1,"method":"version","params":["\xff"]}',
        b"{" + b'"x' * (LARGEST + 1),
    ],
)
def test_what_is_no_request_ends_the_connection_with_one_warning(
    serving: Serving, warned: list[str], garbage: bytes
) -> None:
    client = serving.client(garbage)
    serving.turn(5)
    assert serving.is_closed(client)
    assert len(warned) == 1, warned
    assert warned[0].isprintable()
    assert len(warned[0]) < 250
    assert serving.ask("test/echo", "well") == "well"


def test_a_request_without_an_end_is_read_to_its_limit_and_no_further(serving: Serving, warned: list[str]) -> None:
    client = serving.client()
    client.setblocking(False)
    sent, open_ = 0, True
    while open_ and sent < 2_000_000:
        try:
            sent += client.send(b"x" * 65536 if sent else b'{"id":1,"method":"')
        except BlockingIOError:
            serving.turn()
        except (BrokenPipeError, ConnectionResetError):
            open_ = False
    assert not open_
    assert all(len(connection._received) <= 2 * LARGEST for connection in serving.server._connections)
    assert "a request of more than" in warned[0]


def test_many_bad_clients_are_told_of_in_few_lines(serving: Serving, warned: list[str]) -> None:
    for _ in range(500):
        serving.client(b"garbage")
        serving.turn(2)
        serving.clients.pop().close()
    assert 1 <= len(warned) <= 10
    serving.now += 601
    serving.client(b"garbage")
    serving.turn(2)
    assert warned[-1].endswith("(and 490 more like it since the last one told)")


def test_a_thousand_idle_connections_keep_nobody_out(serving: Serving, warned: list[str]) -> None:
    for number in range(1000):
        serving.client(b'{"id":1,"meth' if number % 2 else b"")
        serving.turn()
        assert serving.connections <= CONNECTIONS
    assert serving.waits, "half a request is nothing to do"
    assert serving.ask("test/echo", "me too") == "me too"
    assert len([line for line in warned if "more than 256 connections" in line]) == 10


def test_the_quietest_connection_makes_room_not_the_one_that_asks(serving: Serving) -> None:
    busy = serving.client()
    for number in range(3 * CONNECTIONS):
        serving.client()
        busy.sendall(request("test/echo", str(number)))
        serving.turn(2)
        assert json.loads(busy.recv(4096))["result"] == str(number)


def test_one_turn_answers_a_few_and_all_are_served_in_turn(serving: Serving) -> None:
    clients = [serving.client(request("test/echo") * 20) for _ in range(40)]
    before = serving.answered
    serving.turn()
    assert serving.answered - before <= ANSWERS
    assert not serving.waits, "the rest is due at once"
    serving.turn(40 // ANSWERS + 1)
    for client in clients:
        client.setblocking(False)
        assert client.recv(4096), "each got one answer before any got many"


def test_a_client_that_never_reads_holds_up_nobody_and_is_asked_for_no_more(serving: Serving) -> None:
    deaf = serving.client(request("test/large") * 100)
    serving.turn(50)
    assert serving.waits
    held = sum(len(connection._to_send) + len(connection._received) for connection in serving.server._connections)
    assert held < 1_100_000, "one answer, not a hundred"
    assert serving.ask("test/echo", "me") == "me"
    deaf.close()
    serving.turn(2)
    assert serving.connections == 0


def test_a_command_that_fails_is_told_and_ends_nothing(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving.ask("test/refuse") == "!not now\n"
    assert "a bug" in serving.ask("test/fail")
    for arguments in (["--help"], ["-h", "x"], ["--format", "xml"], ["--format=", "x"], ["x"]):
        assert "is no option" in serving.ask("set-options", *arguments), arguments
    assert serving.ask("set-options", "--format", "json") == {"reply-format": "plain", "reply": ""}


def test_without_descriptors_it_waits_and_says_so_once(serving: Serving, warned: list[str]) -> None:
    idle = serving.client()
    serving.turn()
    late = serving.client(request("test/echo", "late"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
    spare = []
    try:
        while True:
            try:
                spare.append(socket.socket(socket.AF_UNIX))
            except OSError:
                break
        serving.turn()
        assert serving.is_closed(idle), "it made room"
        assert any("no connection can be accepted: Too many open files" in line for line in warned)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in spare:
            one.close()
    serving.turn(3)
    assert json.loads(late.recv(4096))["result"] == "late"
