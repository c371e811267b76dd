# SPDX-License-Identifier: Apache-2.0
"""The client of control sockets: it never waits, and no server can make it believe a wrong answer."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_keepalive.sensors import appctl_client
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused
from tests.control_socket import ControlSocket

TEXT = 'pmd thread numa_id 0 core_id 0:\n  port: vhu-1.é {"x": "}"}\n'


@pytest.fixture
def client(server: ControlSocket) -> Iterator[AppctlClient]:
    asking = AppctlClient(server.path)
    yield asking
    asking.close()


def _fails(call: Callable[[], object]) -> str:
    """The line with which a call fails for good."""
    with pytest.raises(NoAnswer) as caught:
        call()
    line = str(caught.value)
    assert line.isprintable()
    return line


def _waits(client: AppctlClient) -> bool:
    return client.waiting


def _sends(client: AppctlClient) -> bool:
    return client.sending


def _answers(client: AppctlClient, server: ControlSocket, text: str) -> None:
    client.ask("version")
    server.reply(text)
    assert client.receive() == text


# --- a reply -------------------------------------------------------------------------------------


def test_a_question_is_one_request_and_its_reply_the_text(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("dpif-netdev/pmd-perf-show", "-nh", "ovs-netdev")
    assert _waits(client)
    assert client.receive() is None
    server.reply(TEXT)
    assert client.receive() == TEXT
    assert not _waits(client)
    (request,) = server.requests
    assert request["method"] == "dpif-netdev/pmd-perf-show"
    assert request["params"] == ["-nh", "ovs-netdev"]


def test_many_questions_take_one_connection_and_an_id_each(client: AppctlClient, server: ControlSocket) -> None:
    for number in range(5):
        _answers(client, server, f"reply {number}")
    assert server.connections == 1
    assert len({request["id"] for request in server.requests}) == 5


def test_a_reply_is_taken_wherever_it_is_cut(client: AppctlClient, server: ControlSocket) -> None:
    length = len(json.dumps({"id": 1, "result": TEXT, "error": None}, ensure_ascii=False).encode())
    for cut in range(1, length):
        client.ask("version")
        (request,) = server.read()
        reply = json.dumps({"id": request["id"], "result": TEXT, "error": None}, ensure_ascii=False).encode()
        server.send(reply[:cut])
        assert client.receive() is None
        assert _waits(client)
        server.send(reply[cut:])
        assert client.receive() == TEXT


def test_a_reply_that_comes_byte_by_byte_is_taken_when_it_is_whole(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version")
    (request,) = server.read()
    reply = json.dumps({"id": request["id"], "result": TEXT, "error": None}, ensure_ascii=False).encode()
    for byte in reply[:-1]:
        server.send(bytes([byte]))
        assert client.receive() is None
    server.send(reply[-1:])
    assert client.receive() == TEXT


def test_the_reply_about_512_pmds_is_taken(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version")
    (request,) = server.read()
    text = TEXT * 5000
    reply = json.dumps({"id": request["id"], "result": text, "error": None}).encode()
    sender = threading.Thread(target=server.send, args=(reply,))
    sender.start()
    taken = client.receive()
    while taken is None:
        taken = client.receive()
    sender.join()
    assert taken == text


def test_fields_that_a_later_ovs_may_add_are_passed_over(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version")
    (request,) = server.read()
    server.send(json.dumps({"id": request["id"], "result": "ok", "error": None, "reply-format": "plain"}).encode())
    assert client.receive() == "ok"


def test_a_whole_reply_counts_although_the_server_hangs_up_behind_it(
    client: AppctlClient, server: ControlSocket
) -> None:
    client.ask("exit")
    server.reply("goodbye")
    server.hang_up()
    assert client.receive() == "goodbye"
    assert client.receive() is None
    _answers(client, server, "another life")


def test_an_error_reply_is_refused_with_its_text_and_keeps_the_connection(
    client: AppctlClient, server: ControlSocket
) -> None:
    client.ask("dpif-netdev/pmd-rxq-show")
    server.reply(None, error="please specify an existing datapath\n")
    with pytest.raises(Refused, match=r"^please specify an existing datapath$"):
        client.receive()
    _answers(client, server, "3.1.0")
    assert server.connections == 1


# --- no reply ------------------------------------------------------------------------------------


def test_half_a_reply_and_the_end_of_the_connection_are_no_answer(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version")
    server.read()
    server.send(b'{"id": 1, "result": "pmd thr')
    assert client.receive() is None
    server.hang_up()
    assert "closed the connection before it answered" in _fails(client.receive)
    assert client.fileno() is None
    _answers(client, server, "3.1.0")


def test_a_server_that_hangs_up_without_a_word_is_no_answer(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version")
    server.read()
    server.hang_up()
    assert "closed the connection" in _fails(client.receive)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x01\x02",
        b"\xff\xfe}",
        b"[]",
        b"[{}]",
        b"}",
        b"{garbage}",
        b'{"id": 1, "result": "a"} x}',
        b'{"id": [1], "result": "a", "error": null}',
        b'{"id": 1, "result": "\xff", "error": null}',
        b'{"id": 1, "result": "\\ud800", "error": null}',
        b'"a}"}',
    ],
)
def test_garbage_is_no_answer_and_ends_the_connection(
    client: AppctlClient, server: ControlSocket, garbage: bytes
) -> None:
    client.ask("version")
    server.read()
    server.send(garbage)
    _fails(client.receive)
    assert client.fileno() is None
    assert not _waits(client)
    _answers(client, server, "3.1.0")


@pytest.mark.parametrize("result", [None, 1, True, ["a"], {"reply": "a", "reply-format": "plain"}])
def test_a_result_that_is_no_text_is_no_answer(client: AppctlClient, server: ControlSocket, result: object) -> None:
    client.ask("version")
    (request,) = server.read()
    server.send(json.dumps({"id": request["id"], "result": result, "error": None}).encode())
    assert "instead of text" in _fails(client.receive)


@pytest.mark.parametrize("other", [0, 2, -1, "1", None])
def test_the_reply_to_another_question_is_no_answer(client: AppctlClient, server: ControlSocket, other: object) -> None:
    client.ask("version")
    server.read()
    server.send(json.dumps({"id": other, "result": "of another", "error": None}).encode())
    assert "instead of 1" in _fails(client.receive)
    assert client.fileno() is None


def test_a_second_reply_is_not_taken_for_that_to_the_next_question(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("first")
    server.reply("one")
    assert client.receive() == "one"
    server.send(b'{"id": 1, "result": "one again", "error": null}')
    client.ask("second")
    assert "instead of 2" in _fails(client.receive)
    _answers(client, server, "three")


def test_two_replies_at_once_never_answer_two_questions(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("first")
    server.read()
    server.send(b'{"id": 1, "result": "one", "error": null}{"id": 2, "result": "two", "error": null}')
    _fails(client.receive)
    _answers(client, server, "three")


def test_a_word_that_nobody_asked_for_ends_the_connection(client: AppctlClient, server: ControlSocket) -> None:
    _answers(client, server, "3.1.0")
    server.send(b'{"id": 2, "result": "the future", "error": null}')
    assert client.receive() is None
    assert client.fileno() is None
    _answers(client, server, "3.1.0")


def test_a_reply_without_end_is_given_up(server: ControlSocket) -> None:
    client = AppctlClient(server.path, 1000)
    client.ask("version")
    server.read()
    server.send(b'{"id": 1, "result": "' + b"x" * 500)
    assert client.receive() is None
    server.send(b"x" * 500)
    assert "1000 bytes" in _fails(client.receive)


# --- a silent server -----------------------------------------------------------------------------


def test_a_server_that_never_answers_holds_nobody_and_gets_no_second_request(
    client: AppctlClient, server: ControlSocket
) -> None:
    client.ask("version")
    for _ in range(100):
        assert client.receive() is None
        assert "in flight" in _fails(lambda: client.ask("version"))
    assert _waits(client)
    assert len(server.read()) == 1
    server.send(json.dumps({"id": 1, "result": "late", "error": None}).encode())
    assert client.receive() == "late"


def test_a_server_that_does_not_even_read_holds_nobody(client: AppctlClient, server: ControlSocket) -> None:
    long = "x" * (4 << 20)
    client.ask("version", long)
    assert _sends(client)
    assert client.receive() is None
    while _sends(client):
        server._accept()
        assert server._connection is not None
        server._received += server._connection.recv(1 << 20).decode()
        assert client.receive() is None
    server.reply("read at last")
    assert client.receive() == "read at last"
    assert server.requests[0]["params"] == [long]


def test_a_server_that_ends_while_it_reads_is_no_answer(client: AppctlClient, server: ControlSocket) -> None:
    client.ask("version", "x" * (4 << 20))
    server._accept()
    server.hang_up()
    _fails(client.receive)
    assert not _sends(client)


def test_nothing_is_received_before_anything_was_asked(client: AppctlClient) -> None:
    assert client.receive() is None
    assert client.fileno() is None
    assert not _waits(client)


# --- between two questions -----------------------------------------------------------------------


def test_a_server_that_went_and_came_back_is_asked_anew(client: AppctlClient, server: ControlSocket) -> None:
    _answers(client, server, "one life")
    server.hang_up()
    assert client.receive() is None
    assert client.fileno() is None
    _answers(client, server, "another life")
    assert server.connections == 2


def test_a_server_that_went_unnoticed_is_no_answer_once(client: AppctlClient, server: ControlSocket) -> None:
    _answers(client, server, "one life")
    server.hang_up()

    def question() -> None:
        client.ask("version")
        client.receive()

    _fails(question)
    _answers(client, server, "another life")


def test_a_closed_client_can_be_closed_again_and_asked_again(client: AppctlClient, server: ControlSocket) -> None:
    client.close()
    client.ask("version")
    client.close()
    client.close()
    assert not _waits(client)
    _answers(client, server, "3.1.0")


# --- a socket that cannot be reached -------------------------------------------------------------


def test_a_socket_of_a_process_that_ended_is_told_as_such(client: AppctlClient, server: ControlSocket) -> None:
    server.stop_listening()
    line = _fails(lambda: client.ask("version"))
    assert line == f"{server.path}: connection refused: the process that made this socket has ended"
    assert client.fileno() is None


def test_a_socket_that_is_gone_is_named(tmp_path: Path) -> None:
    client = AppctlClient(tmp_path / "absent.ctl")
    assert _fails(lambda: client.ask("version")) == f"{tmp_path / 'absent.ctl'}: No such file or directory"


def test_a_file_that_is_no_socket_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "plain.ctl"
    path.write_text("")
    _fails(lambda: AppctlClient(path).ask("version"))


def test_a_socket_without_permission_says_what_to_give(client: AppctlClient, server: ControlSocket) -> None:
    server.path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        line = _fails(lambda: client.ask("version"))
    finally:
        if root:
            os.seteuid(0)
    assert "permission denied: give this user write access" in line


def test_a_server_whose_queue_is_full_does_not_hold_the_client(tmp_path: Path) -> None:
    path = tmp_path / "full.ctl"
    with ControlSocket(path, backlog=0):
        waiting = []
        try:
            while True:
                other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                waiting.append(other)
                other.connect(str(path))
        except BlockingIOError:
            assert "its queue is full" in _fails(lambda: AppctlClient(path).ask("version"))
        finally:
            for other in waiting:
                other.close()


@pytest.mark.parametrize("length", [106, 107, 108, 109, 250])
def test_a_path_longer_than_an_address_is_reached_too(tmp_path: Path, length: int) -> None:
    room = length - len(os.fsencode(tmp_path)) - len("//v.ctl")
    assert room > 0, "the temporary directory is too deep for this test"
    directory = tmp_path / ("d" * room)
    directory.mkdir()
    path = directory / "v.ctl"
    assert len(os.fsencode(path)) == length
    with ControlSocket(path) as server:
        client = AppctlClient(path)
        _answers(client, server, "from afar")
        client.close()


def test_a_long_path_of_a_socket_that_is_gone_is_no_answer(tmp_path: Path) -> None:
    _fails(lambda: AppctlClient(tmp_path / ("d" * 150) / "v.ctl").ask("version"))


def test_a_name_longer_than_an_address_is_no_answer(tmp_path: Path) -> None:
    _fails(lambda: AppctlClient(tmp_path / ("v" * 200)).ask("version"))


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_behind_by_what_fails(tmp_path: Path, server: ControlSocket) -> None:
    server.stop_listening()
    before = _descriptors()
    for path in (server.path, tmp_path / "absent.ctl", tmp_path / ("d" * 150) / "v.ctl", tmp_path / ("v" * 200)):
        for _ in range(20):
            _fails(lambda path=path: AppctlClient(path).ask("version"))  # type: ignore[misc]
    assert _descriptors() == before


def test_a_word_that_is_no_unicode_is_no_answer(client: AppctlClient, server: ControlSocket) -> None:
    """An argument of the command line that is not UTF-8 arrives so."""
    _fails(lambda: client.ask("dpif-netdev/pmd-rxq-show", os.fsdecode(b"br\xff")))
    _answers(client, server, "3.1.0")


# --- one command, waited for ---------------------------------------------------------------------


def _serve(server: ControlSocket, *pieces: bytes) -> threading.Thread:
    """Accept one client, and send it these pieces."""

    def serve() -> None:
        server._listener.setblocking(True)
        server._listener.settimeout(10.0)
        server._connection, _ = server._listener.accept()
        server._connection.settimeout(10.0)
        server._connection.recv(1 << 16)
        for piece in pieces:
            server._connection.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_command_line_gets_the_whole_answer(server: ControlSocket) -> None:
    thread = _serve(server, b'{"id": 1, "result": "keep', b'Alive", ', b'"error": null}')
    assert appctl_client.ask(server.path, 10.0, "keepalive/status") == "keepAlive"
    thread.join()


def test_a_command_line_is_told_what_was_refused(server: ControlSocket) -> None:
    thread = _serve(server, b'{"id": 1, "result": null, "error": "\\"x\\" is not a valid command"}')
    with pytest.raises(Refused, match="is not a valid command"):
        appctl_client.ask(server.path, 10.0, "x")
    thread.join()


def test_a_command_line_does_not_wait_for_ever(server: ControlSocket) -> None:
    assert "no answer within 0.02 s" in _fails(lambda: appctl_client.ask(server.path, 0.02, "version"))
