# SPDX-License-Identifier: Apache-2.0
"""The listener of a real daemon: a port that is taken, viewers by the dozen, one that never reads."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from ovs_keepalive.publishers.board import REFRESH
from ovs_keepalive.publishers.http import AGAIN, CONNECTIONS, PATIENCE, VIEWERS
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import free_port
from tests.lab import node, stopped, undisturbed
from tests.subscriber import Subscriber

pytestmark = pytest.mark.real


@pytest.fixture
def port(sandbox: Sandbox) -> int:
    """Of the daemon that is told to listen there; it watches."""
    port = free_port()
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config={"web-listen": f"127.0.0.1:{port}"})
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "all PMDs in the column", 15)
    return port


def fetch(port: int, path: str) -> bytes:
    """The body of a 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bytes(answer.read())


@contextmanager
def viewing(port: int) -> Iterator[socket.socket]:
    """One that follows the events, and reads them if the test does."""
    with socket.socket() as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        viewer.settimeout(5)
        viewer.connect(("127.0.0.1", port))
        viewer.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield viewer


def test_what_is_served_is_what_the_control_socket_says(sandbox: Sandbox, port: int) -> None:
    served: dict[str, Any] = json.loads(fetch(port, "/api/node.json"))
    told = node(sandbox)
    assert {pmd["name"] for pmd in served["pmds"]} == {pmd["name"] for pmd in told["pmds"]} == set(sandbox.pmds())
    assert served.keys() == told.keys()
    assert fetch(port, "/healthz").startswith(b"PMDs: ")
    assert fetch(port, "/").startswith(b"<!doctype html>")
    assert set(json.loads(fetch(port, "/api/strip.json"))["pmds"]) == set(sandbox.pmds())


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_and_tried_again(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        sandbox.settings(enable_keepalive=True, keepalive_interval=500)
        sandbox.start_daemon(config={"web-listen": f"127.0.0.1:{port}"})
        wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "watches all the same", 15)
        assert f"127.0.0.1:{port}: Address already in use: trying again" in node(sandbox)["daemon"]["web"]
    wait(lambda: fetch(port, "/healthz"), "listens", AGAIN + 5)
    said = (sandbox.dir / "ovs-keepalive.log").read_text()
    assert said.count("Address already in use") == 1


def test_viewers_by_the_dozen_and_one_that_never_reads_hold_nobody_up(sandbox: Sandbox, port: int) -> None:
    daemon = psutil.Process(int((sandbox.dir / "ovs-keepalive.pid").read_text()))
    wait(daemon.children, "its survey of ports runs: it has descriptors, too", 10)
    threads, descriptors = daemon.num_threads(), daemon.num_fds()
    name, tid = next(iter(sandbox.pmds().items()))
    with ExitStack() as stack:
        subscriber = stack.enter_context(Subscriber(sandbox.remote))
        viewers = [stack.enter_context(viewing(port)) for _ in range(50)]
        heads = [viewer.recv(12) for viewer in viewers]
        assert heads.count(b"HTTP/1.1 200") == VIEWERS
        assert heads.count(b"HTTP/1.1 503") == 50 - VIEWERS
        assert daemon.num_threads() <= threads + CONNECTIONS

        def detection() -> float:
            with stopped(tid) as held:
                dead = wait(lambda: subscriber.first(name, "DEAD", held.earliest), f"{name} DEAD", 10)
            wait(lambda: subscriber.updates[-1].state(name) in ("ALIVE", "SLEEP"), f"{name} well again", 5)
            return (dead.at - held.latest) / 0.5

        assert undisturbed(sandbox, detection) <= 1.5
    wait(lambda: daemon.num_threads() <= threads, "their threads gone", PATIENCE + REFRESH + 5)
    wait(lambda: daemon.num_fds() <= descriptors, "their descriptors gone", 5)
