# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests: a sandbox, the same piece that `ovs-keepalive sandbox` shows to people."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import hypothesis
import pytest

from ovs_keepalive.sandbox import Sandbox, missing
from tests.switch import RAN, TestedSandbox

# How long an example takes says something of the machine, and nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def cannot(reason: str) -> NoReturn:
    """This machine cannot do what the test needs: skipped, with the reason. CI's machine can do all of it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI's machine has to be able to do this: {reason}")
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port of this host's loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what it ran to whoever prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ran"] = sorted(RAN)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it."""
    RAN.update(getattr(node, "workeroutput", {}).get("ran", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which Open vSwitch it was."""
    for ran in sorted(RAN):
        terminalreporter.line(f"Open vSwitch that ran: {ran}")


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Makes sandboxes (arguments as of Sandbox), started; the end of the test is theirs."""
    if reason := missing():
        cannot(reason)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(TestedSandbox(**options))


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A started sandbox with two PMD threads, without the daemon."""
    return make_sandbox()
