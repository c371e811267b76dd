# SPDX-License-Identifier: Apache-2.0
"""What every command of the control socket asks first: whether the daemon looks at all, and what its words mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ovs_keepalive.core.model import Snapshot
from ovs_keepalive.formats import tables
from ovs_keepalive.publishers.appctl_server import Answer, Command, Refusal

LINES = 100_000  # that can be asked for


class Source(Protocol):
    """Who has the newest snapshot."""

    snapshot: Snapshot | None


def newest(source: Source) -> Snapshot:
    """The newest snapshot. Raises Refusal before the first."""
    if source.snapshot is None:
        raise Refusal("the daemon has just started and has not looked yet: try again")
    return source.snapshot


def while_enabled(source: Source, command: Callable[[Snapshot, list[str]], Answer]) -> Command:
    """The command, but that a disabled daemon says so and nothing else."""

    def answer(arguments: list[str]) -> Answer:
        snapshot = newest(source)
        if not snapshot.settings.enabled:
            return Answer(lambda: f"{tables.DISABLED}\n", lambda: {"enabled": False})
        return command(snapshot, arguments)

    return answer


def number(text: str, most: int, what: str = "number") -> int:
    """A number of at least 1. Raises Refusal."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 0 < int(text) <= most):
        raise Refusal(f"{text!r} is no {what} from 1 to {most}")
    return int(text)


def count(arguments: Sequence[str], default: int) -> int:
    """The number of lines that a command takes. Raises Refusal."""
    return number(arguments[0], LINES) if arguments else default


def pick(snapshot: Snapshot, name: str) -> Any:
    """The PMD of that name, of that beginning of a name ("pmd-c03"), or of that core. Raises Refusal."""
    for pmd in snapshot.pmds:
        if name in (pmd.name, pmd.name.partition("/")[0], str(pmd.core)):
            return pmd
    names = ", ".join(pmd.name for pmd in snapshot.pmds) or "none"
    raise Refusal(f"no PMD {name!r}: the PMDs are {names}")
