# SPDX-License-Identifier: Apache-2.0
"""The control socket: what `ovs-appctl -t ovs-keepalive` is answered. Text, or JSON when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import ovs.poller
import ovs.unixctl
import ovs.unixctl.server
import ovs.vlog

from ovs_keepalive.core.model import Snapshot

log = ovs.vlog.Vlog("appctl")

MOST = 100_000  # lines that can be asked for


class Refusal(Exception):
    """The command cannot be answered: one line that says why and what to do."""


class Answer:
    """One answer in both forms. Only the one that is asked for is made."""

    def __init__(self, text: Callable[[], str], document: Callable[[], Any]) -> None:
        self.text = text
        self.document = document


Command = Callable[[list[str]], Answer]


class AppctlServer:
    """Serves commands on one control socket. run() and wait() belong to the main loop."""

    def __init__(self, path: str, version: str) -> None:
        """Listen at once. path: of the socket. Raises OSError when that is not possible."""
        error, server = ovs.unixctl.server.UnixctlServer.create(path, version)
        if error:
            raise OSError(error, f"control socket {path} cannot be made")
        self._server = server

    def register(self, name: str, usage: str, least: int, most: int, command: Command) -> None:
        """Answer `name` with this command; `--json` as a further, last argument asks for JSON."""

        def callback(connection: Any, arguments: Sequence[str], _aux: object) -> None:
            try:
                _reply(connection, command, list(arguments), most)
            except Refusal as refusal:
                connection.reply_error(f"{refusal}\n")
            except Exception as error:
                # An exception here would leave run() and end the main loop (python-ovs).
                log.err(f"{name}: {type(error).__name__}: {error}")
                log.exception(f"{name} failed")
                connection.reply_error(f"{name} failed: {error}: see the log of ovs-keepalive\n")

        ovs.unixctl.command_register(name, usage, least, most + 1, callback, None)

    def run(self) -> None:
        """Answer what has come."""
        self._server.run()

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for requests."""
        self._server.wait(poller)

    def close(self) -> None:
        """Stop to listen and remove the socket."""
        self._server.close()


def _reply(connection: Any, command: Command, arguments: list[str], most: int) -> None:
    as_json = bool(arguments) and arguments[-1] == "--json"
    if as_json:
        arguments.pop()
    if len(arguments) > most:
        raise Refusal(f"takes at most {most} arguments, and --json as the last")
    answer = command(arguments)
    # What `ovs-appctl --format json` (3.4 and later) asked for; python-ovs keeps it to itself.
    if connection._fmt == ovs.unixctl.UnixctlOutputFormat.JSON:  # noqa: SLF001
        connection.reply_json(answer.document())
    elif as_json:
        connection.reply(msgspec.json.format(msgspec.json.encode(answer.document()), indent=2).decode() + "\n")
    else:
        connection.reply(answer.text())


def count(arguments: Sequence[str], default: int) -> int:
    """The number that a command takes. Raises Refusal."""
    if not arguments:
        return default
    if not (arguments[0].isascii() and arguments[0].isdigit() and 0 < int(arguments[0][:9]) <= MOST):
        raise Refusal(f"{arguments[0]!r} is no number from 1 to {MOST}")
    return int(arguments[0])


def pick(snapshot: Snapshot, name: str) -> Any:
    """The PMD of that name, of that beginning of a name ("pmd-c03"), or of that core. Raises Refusal."""
    for pmd in snapshot.pmds:
        if name in (pmd.name, pmd.name.partition("/")[0], str(pmd.core)):
            return pmd
    names = ", ".join(pmd.name for pmd in snapshot.pmds) or "none"
    raise Refusal(f"no PMD {name!r}: the PMDs are {names}")
