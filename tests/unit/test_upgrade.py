# SPDX-License-Identifier: Apache-2.0
"""The hot upgrade as the old daemon sees it, with a successor that no signal ends while the kernel holds it."""

from __future__ import annotations

import io
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ovs_keepalive.relay import Line
from ovs_keepalive.upgrade import Parts, Upgrade, _Successor


class Held:
    """A process in state D."""

    pid = 4711

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.waited = 0.0  # seconds

    def kill(self) -> None:
        self.happened.append("killed")

    def wait(self, timeout: float = float("inf")) -> int:
        self.waited += timeout
        raise subprocess.TimeoutExpired("successor", timeout)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def successor(held: Held) -> Iterator[_Successor]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield _Successor(cast("subprocess.Popen[bytes]", held), Line(one), io.BytesIO(), 0.0)
    one.close()
    other.close()


@pytest.fixture
def upgrade(held: Held, tmp_path: Path) -> Upgrade:
    def happens(what: str) -> object:
        return lambda *_, **__: held.happened.append(what)

    parts = SimpleNamespace(
        beat=SimpleNamespace(beat_on=happens("beats on")),
        session=SimpleNamespace(note=happens("told"), take_back=happens("lock back")),
        appctl=SimpleNamespace(),
        web=None,
        notifier=SimpleNamespace(main_is=happens("main again")),
        control=tmp_path / "ovs-keepalive.1.ctl",
        claim=happens("pidfile back"),
    )
    return Upgrade(cast("Parts", parts))


def test_a_successor_that_the_kernel_holds_stops_the_beat_for_half_a_second_at_most(
    upgrade: Upgrade, successor: _Successor, held: Held
) -> None:
    upgrade._successor = successor
    upgrade.cancel()
    assert held.happened == ["killed", "beats on", "told"]
    assert 0.0 < held.waited <= 0.5
    assert "failed: successor pid 4711" in upgrade.fact


def test_so_does_one_that_had_taken_over(upgrade: Upgrade, successor: _Successor, held: Held) -> None:
    upgrade._take_back(successor, "after it had taken over: it hangs")
    assert held.happened == ["killed", "lock back", "main again", "pidfile back", "beats on", "told"]
    assert 0.0 < held.waited <= 0.5
