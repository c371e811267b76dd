# SPDX-License-Identifier: Apache-2.0
"""The daemon's control socket without a socket: bytes in, bytes out, through python-ovs and all commands."""

from __future__ import annotations

import errno
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import ovs.unixctl
import ovs.vlog

from ovs_keepalive import __version__
from ovs_keepalive.commands import Commands
from ovs_keepalive.core.model import Snapshot, Transition
from ovs_keepalive.formats.survey import Order
from ovs_keepalive.offload import OffloadChild, OffloadWatch
from ovs_keepalive.ports import PortWatch
from ovs_keepalive.publishers.appctl_server import AppctlServer, Connection, log
from ovs_keepalive.restarts import Restarts
from ovs_keepalive.survey_child import SurveyChild
from ovs_keepalive.upgrade import Refused


class Stream:
    """A connection on which these bytes have come, and no more will."""

    name = "unix#1"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.sent = b""
        self.closed = False

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data)

    def recv(self, size: int) -> tuple[int, bytes]:
        """As ovs.stream.Stream has it."""
        part, self._data = self._data[:size], self._data[size:]
        return (0, part) if part else (errno.EAGAIN, b"")

    def send(self, data: str | bytes) -> int:
        """Takes all."""
        self.sent += data.encode() if isinstance(data, str) else data
        return len(data)

    def close(self) -> None:
        """The end of it."""
        self.closed = True


class Box:
    """What the commands need of a black box."""

    def __init__(self, directory: Path, refusal: str = "") -> None:
        self.directory = directory
        self.refusal = refusal


class Source:
    """A daemon that knows this snapshot."""

    def __init__(self, snapshot: Snapshot, directory: Path, facts: dict[str, str] | None = None) -> None:
        self.snapshot: Snapshot | None = snapshot
        self.blackbox: Any = Box(directory)
        self.told: list[Transition] = []  # of announced restarts
        self.restarts = Restarts(self.told.append, lambda: None)
        self.ports = PortWatch(SurveyChild(Order("unix:none", None, ("", "", "", ""))), 5.0, self.told.append)
        self.offload = OffloadWatch(OffloadChild("none", None), self.told.append)
        self.stopped = False
        self._facts = facts or {}

    @property
    def events(self) -> list[Transition]:
        """None of the database's."""
        return []

    def facts(self) -> list[tuple[str, str]]:
        """As given."""
        return list(self._facts.items())

    def upgrade(self, python: str | None) -> int:
        """Refused always."""
        raise Refused(f"no upgrade to {python}: this is no daemon")

    def stop(self) -> None:
        """Told to end."""
        self.stopped = True


class Requests:
    """Answers requests from one snapshot."""

    def __init__(self, source: Source, directory: Path) -> None:
        self._commands = dict(ovs.unixctl.commands)
        self._patterns = dict(ovs.vlog.PATTERNS)
        ovs.unixctl.commands.clear()
        ovs.unixctl.commands["help"] = self._commands["help"]
        ovs.unixctl.command_register("vlog/set", "spec", 1, sys.maxsize, ovs.vlog.Vlog._unixctl_vlog_set, None)
        self._server = AppctlServer(str(directory / "requests.ctl"), __version__)
        Commands(self._server, source).register()

    def close(self) -> None:
        """Leave python-ovs's commands as they were found."""
        self._server.close()
        ovs.unixctl.commands.clear()
        ovs.unixctl.commands.update(self._commands)
        ovs.vlog.PATTERNS.update(self._patterns)

    def logged(self, message: str) -> str:
        """A message as vlog would write it now, whatever vlog/set was asked to do."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # python-ovs's own
            # As Vlog.init() would set it: %r counts from it.
            ovs.vlog.Vlog._Vlog__start_time = datetime.min  # noqa: DTZ901 - python-ovs's own knows no zone either
            return str(log._build_message(message, "console", "info", 1))

    def answer(self, data: bytes) -> tuple[bool, str]:
        """What a connection on which this comes is answered, and whether it stays open."""
        stream = Stream(data)
        connection = Connection(stream)
        self._server._connections.append(connection)
        for _ in range(2 + 2 * len(data)):
            before = len(stream.sent), stream.left
            self._server.run(0.0)
            if connection not in self._server._connections:
                return False, stream.sent.decode()
            if before == (len(stream.sent), stream.left) and not (connection._request or connection._to_send):
                break
        self._server._drop(connection)
        return True, stream.sent.decode()
