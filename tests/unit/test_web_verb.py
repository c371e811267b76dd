# SPDX-License-Identifier: Apache-2.0
"""What `ovs-keepalive web` says when it cannot serve: one line, with the thing, the value and the cure."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from ovs_keepalive import cli
from ovs_keepalive.command_line import USAGE


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the verb says on stderr."""
    assert cli.main(["web", *words]) == USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A fleet whose store nobody asks."""
    file = tmp_path / "config.yaml"
    file.write_text("fleet:\n  zookeeper: 127.0.0.1:1\n")
    return str(file)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("off", "--web-listen off: a page that nobody can reach: give HOST:PORT"),
        ("node7:1", "--web-listen node7:1: node7 is no numeric address: give HOST:PORT"),
        ("127.0.0.1", "--web-listen 127.0.0.1:"),
    ],
)
def test_where_it_cannot_listen(capsys: pytest.CaptureFixture[str], config: str, address: str, said: str) -> None:
    assert said in complaint(capsys, "--config", config, "--web-listen", address)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str], config: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = complaint(capsys, "--config", config, "--web-listen", address)
    assert said == f"ovs-keepalive: --web-listen {address}: Address already in use: choose another address or port\n"


def test_a_host_of_no_fleet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    said = complaint(capsys, "--config", str(tmp_path / "config.yaml"))
    assert "fleet.zookeeper: names no server" in said


def test_a_store_that_would_be_spoken_to_in_plain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("fleet:\n  zookeeper: 192.0.2.1:2181\n")
    assert "a plain connection would leave this host" in complaint(capsys, "--config", str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("name", ["uvicorn", "kazoo.client"])
def test_without_the_extras(
    capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ours = [one for one in sys.modules if one.startswith(("ovs_keepalive.fleet", "ovs_keepalive.web"))]
    for module in ours:
        monkeypatch.delitem(sys.modules, module)
    for attribute in ("web_app", "fleet_source"):
        monkeypatch.delattr(sys.modules["ovs_keepalive"], attribute, raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    assert "is not installed: pip install 'ovs-keepalive[fleet" in complaint(capsys, "--config", config)
