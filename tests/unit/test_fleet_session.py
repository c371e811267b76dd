# SPDX-License-Identifier: Apache-2.0
"""A session with what is no ZooKeeper: nothing a server sends ends more than the connection, and every wait ends."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ovs_keepalive.fleet import session
from ovs_keepalive.fleet.session import Options
from ovs_keepalive.fleet.store import Link, Put, Unreachable, Unsure
from tests.zookeeper import Client

HELLO = struct.pack(">iiiqi", 36, 0, 4000, 7, 16) + bytes(16)  # a session of 4 s with the number 7


@contextmanager
def server(*answers: bytes) -> Iterator[str]:
    """Answers each client's pieces one by one with these, and then says nothing more."""
    listening = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                clients.append(client)
                for answer in answers:
                    client.recv(8192)
                    client.sendall(answer)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        for one in (listening, *clients):
            one.close()
        serving.join()


@contextmanager
def client_of(servers: str, timeout: float = 2.0) -> Iterator[Client]:
    client = Client(Options(servers, timeout=timeout))
    client.session.start()
    try:
        yield client
    finally:
        client.session.stop(5.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">i", 4) + b"abcd",
        struct.pack(">i", -5),
        struct.pack(">i", 0),
        HELLO + struct.pack(">iiqi", 16, 99, 0, 0),
        HELLO + struct.pack(">iiqi", 16, -1, 0, 0) + bytes(7),
        HELLO + struct.pack(">iiqi", 16, 1, 0, -12345),
    ],
)
def test_what_no_zookeeper_sends_is_told_in_a_line(answer: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with server(answer, b"") as servers, client_of(servers) as client:
        client.until(lambda: client.session.problem != "", "it is told")
        assert client.session.problem.isprintable()
        with pytest.raises(Unreachable):
            client.session.read(["/"])
    assert capfd.readouterr().err == ""


def test_a_session_whose_client_gave_up_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REVIVE", 0.2)
    with server(HELLO + struct.pack(">iiqi", 16, 99, 0, 0)) as servers, client_of(servers) as client:
        first = client.session._client
        client.until(lambda: client.session._client is not first, "another client")


def test_who_answers_nothing_is_waited_for_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "DEADLINE", 0.3)
    calls: list[Callable[[Client], object]] = [
        lambda client: client.session.read(["/a"] * 200),
        lambda client: client.session.children(["/a"]),
    ]
    with server(HELLO, b"") as servers, client_of(servers) as client:
        client.until(lambda: client.session.link is Link.CONNECTED, "connected")
        began = time.monotonic()
        for call in calls:
            with pytest.raises(Unreachable, match="did not answer within 0 s"):
                call(client)
        with pytest.raises(Unsure, match="did not answer within 0 s"):
            client.session.write(Put("/a", b""))
        assert time.monotonic() - began < 3.0


@pytest.mark.parametrize(("asked", "doubtful"), [(60.0, 4.0 / 3), (3.0, 1.0)])
def test_a_session_is_doubtful_after_a_third_of_what_was_asked_for_and_granted(asked: float, doubtful: float) -> None:
    with server(HELLO, b"") as servers, client_of(servers, asked) as client:  # it grants 4 s
        client.until(lambda: client.session.link is Link.CONNECTED, "connected")
        client.session._told("SUSPENDED")
        lost = client.session.link_since
        assert not client.session.is_doubtful(lost + doubtful - 0.01)
        assert client.session.is_doubtful(lost + doubtful + 0.01)


def test_where_nobody_listens_nothing_is_sent_and_the_end_is_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        servers = f"127.0.0.1:{taken.getsockname()[1]}"
    began = time.monotonic()
    with client_of(servers) as client:
        client.until(lambda: "refused" in client.session.problem, "it is told")
        with pytest.raises(Unreachable, match=r"no connection to .*: Connection refused"):
            client.session.read(["/"])
    assert time.monotonic() - began < 5.0
