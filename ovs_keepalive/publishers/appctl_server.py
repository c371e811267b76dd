# SPDX-License-Identifier: Apache-2.0
"""The control socket: what `ovs-appctl -t ovs-keepalive` is answered. Text, or JSON when asked for."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from typing import Any

import ovs.poller
import ovs.unixctl
import ovs.unixctl.server
import ovs.vlog

from ovs_keepalive.core.model import Snapshot
from ovs_keepalive.formats.plain import json_text, one_line, sound

log = ovs.vlog.Vlog("appctl")

MOST = 100_000  # lines that can be asked for
PATTERN = re.compile(r"[\w %{}:#|,./-]{0,200}", re.ASCII)
FORMATS = {kind.name.lower(): kind for kind in ovs.unixctl.UnixctlOutputFormat}


class Refusal(Exception):
    """The command cannot be answered: one line that says why and what to do."""


class Answer:
    """One answer in both forms. Only the one that is asked for is made."""

    def __init__(self, text: Callable[[], str], document: Callable[[], Any]) -> None:
        self.text = text
        self.document = document


Command = Callable[[list[str]], Answer]


class _Connection(ovs.unixctl.server.UnixctlConnection):  # type: ignore[misc]  # python-ovs carries no types
    """A connection of which nothing can end the daemon: python-ovs lets some requests raise (a number of 5,000 digits,
    `set-options` with anything unknown, `vlog/set FACILITY`), and what leaves run() would end the main loop.
    """

    def run(self) -> int:
        """As python-ovs has it; an error number ends the connection."""
        try:
            return int(super().run() or 0)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - argparse exits, others raise whatever they raise
            log.warn(f"{self._rpc.name}: a request that cannot be read: {type(error).__name__}: {error}")
            return errno.EPROTO


ovs.unixctl.server.UnixctlConnection = _Connection  # by this name its server makes them


class AppctlServer:
    """Serves commands on one control socket. run() and wait() belong to the main loop."""

    def __init__(self, path: str, version: str) -> None:
        """Listen at once. path: of the socket. Raises OSError when that is not possible."""
        error, server = ovs.unixctl.server.UnixctlServer.create(path, version)
        if error:
            raise OSError(error, f"control socket {path} cannot be made")
        self._server = server
        # Its own would print a usage to our stderr, and exit.
        ovs.unixctl.commands["set-options"].callback = _set_options
        if (vlog_set := ovs.unixctl.commands.get("vlog/set")) is not None:  # once the log is open
            vlog_set.callback = _guarded(vlog_set.callback)

    def register(self, name: str, usage: str, least: int, most: int, command: Command) -> None:
        """Answer `name` with this command; `--json` as a further, last argument asks for JSON."""

        def callback(connection: Any, arguments: Sequence[str], _aux: object) -> None:
            try:
                _reply(connection, command, list(arguments), most)
            except Refusal as refusal:
                connection.reply_error(f"{one_line(str(refusal))}\n")
            except Exception as error:
                # An exception here would leave run() and end the main loop (python-ovs).
                log.err(f"{name}: {type(error).__name__}: {error}")
                log.exception(f"{name} failed")
                words = one_line(f"{name} failed: {error}: see the log of ovs-keepalive")
                connection.reply_error(f"{words}\n")

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
        connection.reply_json(sound(answer.document(), one_line))  # which ovs-appctl prints as it comes
    elif as_json:
        connection.reply(json_text(answer.document()))
    else:
        connection.reply(answer.text())


def count(arguments: Sequence[str], default: int) -> int:
    """The number that a command takes. Raises Refusal."""
    if not arguments:
        return default
    text = arguments[0]
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 0 < int(text) <= MOST):
        raise Refusal(f"{text!r} is no number from 1 to {MOST}")
    return int(text)


def _guarded(vlog_set: Callable[..., None]) -> Callable[..., None]:
    """vlog/set, but for patterns of the log at which python-ovs fails each time that it logs: it takes what is in the
    braces of %D{…} for a regular expression.
    """

    def callback(connection: Any, arguments: Sequence[str], aux: object) -> None:
        wrong = [spec for spec in arguments if spec.startswith("pattern") and not PATTERN.fullmatch(spec)]
        if wrong:
            connection.reply_error(f"{wrong[0]!r}: only letters, digits and %{{}}:#|,./- can be in a pattern\n")
            return
        vlog_set(connection, arguments, aux)

    return callback


def _set_options(connection: Any, arguments: Sequence[str], _aux: object) -> None:
    """`--format text|json` for this connection, as ovs-appctl sends it before its command."""
    option, _, value = arguments[0].partition("=") if len(arguments) == 1 else (arguments[0], "", arguments[1])
    if option != "--format" or value.lower() not in FORMATS:
        connection.reply_error(f"{' '.join(arguments)!r}: write --format {' or '.join(FORMATS)}\n")
        return
    connection._fmt = FORMATS[value.lower()]  # noqa: SLF001 - as in _reply
    connection.reply(None)


def pick(snapshot: Snapshot, name: str) -> Any:
    """The PMD of that name, of that beginning of a name ("pmd-c03"), or of that core. Raises Refusal."""
    for pmd in snapshot.pmds:
        if name in (pmd.name, pmd.name.partition("/")[0], str(pmd.core)):
            return pmd
    names = ", ".join(pmd.name for pmd in snapshot.pmds) or "none"
    raise Refusal(f"no PMD {name!r}: the PMDs are {names}")
