# SPDX-License-Identifier: Apache-2.0
"""The fleet's page over real HTTP: what it serves, whom it refuses, and that a viewer misses nothing."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Request, Store
from ovs_keepalive.formats import answers
from ovs_keepalive.formats.listen import Address
from ovs_keepalive.sandbox import wait
from ovs_keepalive.web import app, patience
from tests.fleets import help_of
from tests.pages import Served, host, serving

SOON = 2.0  # seconds


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def get(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with small names, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def fleet(served: Served) -> dict[str, Any]:
    """The snapshot."""
    document: dict[str, Any] = json.loads(get(served, "/api/fleet.json")[2])
    return document


class Viewer:
    """One that follows the events."""

    def __init__(self, served: Served, after: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
        self.connection.request("GET", f"/api/events?after={after}", headers=headers)
        self.answer = self.connection.getresponse()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self.connection.close()

    def next(self, *wanted: str) -> tuple[str, dict[str, Any], str]:
        """Kind, document and id of the next event of such a kind."""
        while True:
            fields: dict[str, str] = {}
            while line := self.answer.readline().decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
            assert fields, "hung up"
            if fields.get("event") in wanted:
                return fields["event"], json.loads(fields["data"]), fields.get("id", "")


def test_the_page_and_its_files_are_served_with_what_binds_a_browser(served: Served) -> None:
    served.source.show(host("a"))
    wait(lambda: fleet(served)["cells"], "the host")
    paths = [*app.FILES, "/api/fleet.json", "/api/host.json?cell=c1&host=a", "/metrics", "/healthz"]
    for path in [*paths, "/api/tunnels.json?cell=c1", "/nothing", "/api/host.json?cell=c1&host=b"]:
        status, headers, body = get(served, path)
        assert status == (404 if path not in paths and "tunnels" not in path else 200), path
        assert {name: headers[name.lower()] for name in answers.HEADERS} == answers.HEADERS
        assert "server" not in headers
        assert body
        assert get(served, path, "HEAD")[::2] == (status, b"")
    assert get(served, "/")[1]["content-type"] == "text/html; charset=utf-8"
    assert get(served, "/fleet.js")[1]["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    status, headers, body = get(served, "/api/fleet.json", method)
    assert (status, headers["content-type"]) == (405, answers.TEXT)
    assert b"answers GET and HEAD" in body


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:9812", 200),
        ("[::1]:9812", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("[", 421),
    ],
)
def test_a_page_of_another_name_does_not_get_in(served: Served, name: str, status: int) -> None:
    for path in ("/api/fleet.json", "/", "/nothing"):
        answer, headers, _ = get(served, path, Host=name)
        assert answer == (404 if status == 200 and path == "/nothing" else status)
        assert headers["content-security-policy"] == answers.HEADERS["Content-Security-Policy"]


def test_one_that_is_open_to_others_answers_to_any_name() -> None:
    with serving(Address("0.0.0.0", 0, 4)) as wide:  # noqa: S104 - it is what is tested, for a moment
        assert get(wide, "/api/fleet.json", Host="fleet.example")[0] == 200


def test_a_viewer_is_told_each_change_soon_and_in_order(served: Served) -> None:
    served.source.show(*(host(f"h{number}") for number in range(50)))
    wait(lambda: fleet(served)["cells"], "the hosts")
    whole = fleet(served)
    with Viewer(served, f"{whole['boot']}-{whole['seq']}") as viewer:
        seen = []
        for number in range(5):
            begin = time.monotonic()
            served.source.show(host(f"h{number}", HostState.GONE))
            _, delta, id_ = viewer.next("delta")
            seen.append(time.monotonic() - begin)
            assert [row[:3] for row in delta["hosts"]] == [["c1", f"h{number}", "G"]]
            assert delta["seq"] == whole["seq"] + number + 1
            assert id_ == f"{whole['boot']}-{delta['seq']}"
        assert max(seen) < SOON
        beat = viewer.next("beat")[1]
        assert beat["seq"] == whole["seq"] + 5


def test_after_a_gap_the_whole_is_asked_for_again(served: Served) -> None:
    served.source.show(host("a"))
    wait(lambda: fleet(served)["seq"] == 1, "the first delta")
    boot = fleet(served)["boot"]
    for after in ("", "x-1", f"{boot}-2", f"{boot}-999999999999999999999", f"{boot}--1", f"{boot}-\u0661"):
        with Viewer(served, after.encode().hex() if not after.isascii() else after) as viewer:
            assert viewer.next("gap", "delta")[0] == "gap"
    with Viewer(served, "x-1", **{"Last-Event-ID": f"{boot}-0"}) as viewer:
        kind, delta, _ = viewer.next("gap", "delta")  # a browser that comes back goes on where it was
        assert (kind, delta["seq"]) == ("delta", 1)


def test_the_snapshot_is_compressed_for_who_takes_it_so(served: Served) -> None:
    served.source.show(*(host(f"{number * 7919 % 10007:x}") for number in range(500)))
    wait(lambda: fleet(served)["cells"], "the hosts")
    status, headers, body = get(served, "/api/fleet.json", **{"Accept-Encoding": "gzip"})
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert len(json.loads(gzip.decompress(body))["cells"]["c1"]["states"]) == 500


def test_healthz_tells_whether_the_page_knows_the_fleet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(served, "/healthz")[::2] == (503, b"nothing read yet; store LOST: not connected yet\n")
    served.source.show(host("a", HostState.GONE))
    wait(lambda: get(served, "/healthz")[0] == 200, "it is read")
    assert get(served, "/healthz")[2] == b"1 hosts; store CONNECTED\n"
    served.source.store = Store("SUSPENDED", "no answer")
    monkeypatch.setattr(app, "STALE", 0.3)
    served.source.freeze()
    wait(lambda: get(served, "/healthz")[0] == 503, "it is old")
    _, headers, body = get(served, "/healthz")
    assert body.endswith(b" s old; store SUSPENDED: no answer\n")
    assert headers["retry-after"] == "5"


def test_viewers_are_bounded_and_leave_no_trace(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "VIEWERS", 3)
    served.source.show(host("a"))
    wait(lambda: fleet(served)["seq"] == 1, "the first delta")
    after = f"{fleet(served)['boot']}-1"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Viewer(served, after)).next("beat")
        status, headers, body = get(served, "/api/events")
        assert (status, headers["retry-after"]) == (503, "5")
        assert b"/api/fleet.json" in body
        assert b"\novs_keepalive_fleet_viewers 3\n" in get(served, "/metrics")[2]
    wait(lambda: b"_viewers 0\n" in get(served, "/metrics")[2], "all viewers gone", 10)


def test_metrics_are_openmetrics_for_who_asks(served: Served) -> None:
    _, headers, body = get(served, "/metrics", Accept="application/openmetrics-text")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_requests_and_a_hosts_own_document_are_told(served: Served) -> None:
    served.source.requests = (Request("c1", help_of("a")),)
    served.source.show(host("a", HostState.GONE))
    wait(lambda: fleet(served)["requests"], "the request")
    document = json.loads(get(served, "/api/host.json?cell=c1&host=a")[2])
    assert document["said"]["pmds"][3]["busy"] == 30
    assert document["requests"][0]["kind"] == "pmd-dead"


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000 + b"\r\n",
        b"GET /api/host.json?cell=%ff&host=%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/events?after=%0d%0aid:x HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_harms_nobody(served: Served, bytes_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
        client.sendall(bytes_)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := client.recv(65536):
                answer += part
        except ConnectionResetError:
            answer += b""  # it hung up on what was still to come
    assert b"Traceback" not in answer
    assert get(served, "/metrics")[0] == 200


def test_the_end_lets_go_of_viewers_at_once() -> None:
    with ExitStack() as stack:
        served = stack.enter_context(serving())
        viewer = stack.enter_context(Viewer(served, "x-1"))
        served.source.show(host("a"))
        wait(lambda: fleet(served)["seq"] == 1, "the first delta")
        live = stack.enter_context(Viewer(served, f"{fleet(served)['boot']}-1"))
        live.next("beat")
        begin = time.monotonic()
        threading.Thread(target=served.close).start()
        assert live.answer.read() is not None
        assert time.monotonic() - begin < SOON
        assert viewer.answer.read() is not None


def test_a_request_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.5)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as slow:
        served.source.show(host("a"))
        wait(lambda: fleet(served)["seq"] == 1, "the first delta")
        with Viewer(served, f"{fleet(served)['boot']}-1") as viewer:
            begin = time.monotonic()
            with suppress(BrokenPipeError, ConnectionResetError):  # on a busy machine its time is over already
                while time.monotonic() - begin < 0.4:
                    slow.sendall(b"G")  # a byte at a time
                    time.sleep(0.05)
                assert slow.recv(100) == b""
            viewer.next("beat")
            viewer.next("beat")  # who has asked is not meant
            assert time.monotonic() - begin > 0.5


@pytest.mark.slow
def test_a_viewer_that_takes_nothing_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.5)
    served.source.show(host("a"))
    wait(lambda: fleet(served)["seq"] == 1, "the first delta")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", served.port))
        stuck.sendall(f"GET /api/events?after={fleet(served)['boot']}-1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait(lambda: b"_viewers 1\n" in get(served, "/metrics")[2], "it is a viewer")
        why = "x" * 300
        states = itertools.cycle((HostState.GONE, HostState.WARNING))

        def gone() -> bool:
            state = next(states)
            served.source.show(*(host(f"h{number}", state, why=why) for number in range(1000)))
            return b"_viewers 0\n" in get(served, "/metrics")[2]

        wait(gone, "it is no viewer any more", 20)
