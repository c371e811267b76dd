# SPDX-License-Identifier: Apache-2.0
"""Pieces of the port verbs that need no switch; the verbs themselves are in tests/real/test_port_verbs.py."""

from __future__ import annotations

import pytest

from ovs_keepalive.cli import main
from ovs_keepalive.core.places import socket_directory


@pytest.mark.parametrize(
    ("told", "directory"),
    [
        ({}, "/run/ovs"),
        ({"vhost-sock-dir": ""}, "/run/ovs"),
        ({"vhost-sock-dir": "vms"}, "/run/ovs/vms"),
        ({"vhost-sock-dir": "/vms/"}, "/run/ovs/vms"),
        ({"vhost-sock-dir": "../vms"}, "/run/ovs"),  # vswitchd does not take it
    ],
)
def test_the_directory_of_server_sockets_is_vswitchds(told: dict[str, str], directory: str) -> None:
    assert socket_directory(told, "/run/ovs") == directory


@pytest.mark.parametrize("words", [[], ["none"], ["add"], ["add", "br0"], ["del"], ["migrate"], ["path", "a"]])
def test_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ports", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("ovs-keepalive: ")
