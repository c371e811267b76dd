# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive upgrade`: asks the running daemon to hand over, and waits until it is told how that went."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 45.0  # seconds: the daemon itself gives up after 30
PAUSE = 0.1  # seconds between two questions

Ask = Callable[..., Any]  # of a method and its arguments, decoded


class Failed(Exception):
    """There is no new daemon: one line that says why."""


def run(python: str | None, ask: Ask) -> str:
    """How it went, in a line. ask: raises what it will when the daemon refuses. Raises Failed."""
    pid = int(ask("keepalive/upgrade", *([python] if python else []))["successor"])
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        told = str(ask("keepalive/status")["daemon"].get("upgrade", ""))
        if told.startswith("done: ") and f", pid {pid}," in told:
            return told.removeprefix("done: ")
        if told.startswith(f"failed: successor pid {pid}: "):
            raise Failed(f"upgrade {told}; the daemon goes on as it was")
        time.sleep(PAUSE)
    raise Failed(f"upgrade: not over within {PATIENCE:g} s: ask ovs-appctl -t ovs-keepalive keepalive/status")
