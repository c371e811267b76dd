# SPDX-License-Identifier: Apache-2.0
"""The listener: what it serves, whom it refuses, and that nobody can hold it or the main loop up."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from ovs_keepalive.core.model import Cause, Moment, State, Transition, VswitchdState
from ovs_keepalive.formats import answers, listen
from ovs_keepalive.publishers import board
from ovs_keepalive.publishers import http as web
from ovs_keepalive.publishers.board import Shown
from ovs_keepalive.publishers.http import CONNECTIONS, VIEWERS, WebServer
from ovs_keepalive.sandbox import wait
from tests.looks import SETTINGS, WALL_MS, pmd, running, snapshot

LOOPBACK = listen.Address("127.0.0.1", 0, 4)


class Served:
    """A listener on a free port, and a clock that a test sets."""

    def __init__(self, address: listen.Address = LOOPBACK) -> None:
        self.now = Moment(1000.0, WALL_MS)
        self.web = WebServer(address, lambda: self.now, lambda accept: ("text/plain", accept.encode()))
        self.web.run(self.now.mono)
        self.port = int(self.web.url.rpartition(":")[2].rstrip("/"))

    def show(self, **fields: Any) -> None:
        """Publish a snapshot of now, with one PMD that is well unless said otherwise."""
        fields = {"pmds": [pmd(3)], "at": self.now, "vswitchd": running(), **fields}
        self.web.publish(Shown(snapshot(**fields), {"lock": "held"}, ()))

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def connect(self) -> socket.socket:
        """A connection that has asked nothing yet."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)


@contextmanager
def serving(address: listen.Address = LOOPBACK) -> Iterator[Served]:
    """It is closed whatever happens."""
    served = Served(address)
    try:
        yield served
    finally:
        served.web.close()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What comes up to and with the mark."""
    text = b""
    while mark not in text:
        part = connection.recv(65536)
        assert part, f"hung up after {text[-200:]!r}"
        text += part
    return text


def test_the_node_document_is_that_of_the_newest_snapshot(served: Served) -> None:
    assert served.get("/api/node.json")[0] == 503
    served.show()
    status, headers, body = served.get("/api/node.json?x=1")
    node = json.loads(body)
    assert (status, headers["Content-Type"], node["health"]) == (200, "application/json", "WELL")
    assert node["daemon"] == {"lock": "held"}
    transition = Transition(served.now, "pmd-c03/id:8", "ALIVE", "DEAD", "traced", "state t")
    served.show(pmds=[pmd(3, state=State.DEAD, cause=Cause.TRACED)], history=(transition,))
    node = json.loads(served.get("/api/node.json")[2])  # although the one before is not a quarter of a second old
    assert (node["health"], node["transitions"][0]["to"]) == ("FAILURE", "DEAD")
    assert node["summary"].startswith("pmd-c03/id:8 DEAD (traced)")


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/node.json", "/api/strip.json", "/nothing"])
def test_every_answer_forbids_what_a_page_could_be_made_to_do(served: Served, path: str) -> None:
    served.show()
    status, headers, body = served.get(path)
    assert status == (404 if path == "/nothing" else 200)
    assert {name: headers[name] for name in answers.HEADERS} == answers.HEADERS
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert len(body) == int(headers["Content-Length"])
    assert "Python" not in headers["Server"]


def test_head_is_get_without_the_body(served: Served) -> None:
    served.show()
    for path in ("/", "/api/node.json", "/healthz", "/api/events"):
        status, headers, body = served.get(path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["Content-Type"] == served.get(path, "HEAD")[1]["Content-Type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    status, headers, body = served.get("/", method)
    assert (status, headers["Content-Type"]) == (501, answers.TEXT)
    assert b"GET and HEAD" in body


def test_healthz_tells_whether_the_daemon_watches(served: Served) -> None:
    assert served.get("/healthz")[0] == 503
    served.show(pmds=[pmd(3, state=State.DEAD, cause=Cause.TRACED)])
    status, _, body = served.get("/healthz")
    assert (status, body.decode()) == (200, "pmd-c03/id:8 DEAD (traced); PMDs: 1 DEAD\n")  # it watches, and sees that
    served.now = Moment(served.now.mono + 1.9, served.now.wall_ms + 1900)
    assert served.get("/healthz")[0] == 200
    served.now = Moment(served.now.mono + 0.2, served.now.wall_ms + 200)
    status, _, body = served.get("/healthz")
    assert (status, body) == (503, b"the last snapshot is 2.1 s old: the daemon stands still\n")


def test_healthz_is_well_and_says_so_while_disabled_or_restarting(served: Served) -> None:
    served.show(settings=replace(SETTINGS, enabled=False))
    status, _, body = served.get("/healthz")
    assert (status, body.partition(b":")[0]) == (200, b"disabled")
    served.show(vswitchd=running()._replace(state=VswitchdState.RESTARTING))
    status, _, body = served.get("/healthz")
    assert status == 200
    assert b"vswitchd RESTARTING" in body


def test_metrics_get_the_accept_header(served: Served) -> None:
    assert served.get("/metrics", Accept="application/openmetrics-text")[2] == b"application/openmetrics-text"


def test_events_come_at_once_with_news_and_are_whole_documents(served: Served) -> None:
    served.show()
    with served.connect() as viewer:
        viewer.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = read_until(viewer, b"\n\n").decode() + read_until(viewer, b"}\n\n").decode()
        assert "text/event-stream" in first
        assert "retry: 2000" in first
        transition = Transition(served.now, "pmd-c03/id:8", "ALIVE", "GONE", "exited", "its thread is gone")
        before = time.monotonic()
        served.show(pmds=[pmd(3, state=State.GONE, cause=Cause.EXITED)], history=(transition,))
        event = read_until(viewer, b"}\n\n")
        assert time.monotonic() - before < board.REFRESH / 2
        node = json.loads(event.partition(b"data: ")[2])
        assert (node["health"], node["pmds"][0]["state"]) == ("FAILURE", "GONE")
        assert event.startswith(b"event: node\nid: ")


def test_viewers_are_bounded_and_the_others_are_told_what_to_do(served: Served) -> None:
    served.show()
    with ExitStack() as stack:
        for _ in range(VIEWERS):
            viewer = stack.enter_context(served.connect())
            viewer.sendall(b"GET /api/events HTTP/1.1\r\n\r\n")
            read_until(viewer, b"}\n\n")
        status, headers, body = served.get("/api/events")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert b"/api/node.json" in body
        assert served.get("/api/node.json")[0] == 200
        assert f"{VIEWERS} viewers" in served.web.fact
    wait(lambda: "0 viewers" in served.web.fact, "all viewers gone", board.REFRESH * 3)


def test_connections_are_bounded(served: Served) -> None:
    served.show()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(served.connect())
        with served.connect() as one_more:
            assert read_until(one_more, b"\r\n").startswith(b"HTTP/1.1 503 ")
    wait(lambda: served.get("/healthz")[0] == 200, "room again", 5)


def test_a_request_that_does_not_come_is_not_waited_for(served: Served) -> None:
    served.show()
    with served.connect() as slow, served.connect() as viewer:
        viewer.sendall(b"GET /api/events HTTP/1.1\r\n\r\n")
        read_until(viewer, b"}\n\n")
        slow.sendall(b"GET / HT")
        served.now = Moment(served.now.mono + web.PATIENCE + 1, served.now.wall_ms)
        assert slow.recv(100) == b""
        read_until(viewer, b"}\n\n")  # who has asked is not meant


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n",
        b"\0" * 1000 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"A" * 70000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET \xff\xfe HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_harms_nobody(served: Served, bytes_: bytes) -> None:
    served.show()
    with served.connect() as client:
        client.sendall(bytes_)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):  # it hung up on what was still to come
            while part := client.recv(65536):
                answer += part
    assert b"Traceback" not in answer
    assert served.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("127.0.0.1:9811", 200),
        ("[::1]:9811", 200),
        ("evil.example", 421),
        ("10.0.0.1:9811", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[", 421),
    ],
)
def test_a_page_of_another_name_does_not_get_in(served: Served, host: str, status: int) -> None:
    served.show()
    assert served.get("/api/node.json", Host=host)[0] == status


def test_a_port_that_is_taken_is_tried_again(served: Served) -> None:
    taken = served.web._address._replace(port=served.port)
    other = WebServer(taken, lambda: served.now)
    other.run(served.now.mono)
    assert other.fact == f"127.0.0.1:{served.port}: Address already in use: trying again every 5 s"
    served.web.close()
    other.run(served.now.mono + 1)
    assert "in use" in other.fact
    other.run(served.now.mono + web.AGAIN)
    assert other.fact == f"http://127.0.0.1:{served.port}/, 0 viewers"
    other.close()


def test_one_that_is_open_to_others_says_so() -> None:
    with serving(listen.Address("0.0.0.0", 0, 4)) as wide:  # noqa: S104 - it is what is tested, for a moment
        wide.show()
        assert wide.web.fact.endswith("open to others than this host")
        assert wide.get("/healthz", Host="node7.example:9811")[0] == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("off", None),
        ("127.0.0.1:9811", ("127.0.0.1", 9811, 4)),
        ("localhost:0", ("127.0.0.1", 0, 4)),
        ("[::1]:80", ("::1", 80, 6)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535, 4)),  # noqa: S104 - an example, nobody listens there
    ],
)
def test_where_to_listen(text: str, address: tuple[str, int, int] | None) -> None:
    assert listen.parse(text) == address
    assert address is None or str(listen.parse(text)) == text.replace("localhost", "127.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9811",
        ":9811",
        "node7:9811",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "::1:80",
        "127.0.0.1:-1",
        "127.0.0.1:99999999999999999999",
        "[::1]",
        "Off",
    ],
)
def test_where_one_cannot_listen(text: str) -> None:
    with pytest.raises(listen.BadAddress, match="give HOST:PORT"):
        listen.parse(text)
