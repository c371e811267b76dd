# SPDX-License-Identifier: Apache-2.0
"""A subscriber of the two columns, as any OVSDB client can be one: what it was told, and when."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

COLUMNS = ("keepalive", "keepalive_detail")


class Told(NamedTuple):
    """One update: its arrival (monotonic seconds) and the columns from then on."""

    at: float
    keepalive: dict[str, str]
    detail: dict[str, str]

    def state(self, name: str) -> str:
        """State of a PMD in this update; "" while it is not in the column."""
        return self.keepalive.get(name, "").partition(",")[0]


class Subscriber:
    """Monitors both columns over a connection of its own until it is closed."""

    def __init__(self, remote: str) -> None:
        self.updates: list[Told] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(10)
        self._socket.connect(str(Path(remote.removeprefix("unix:"))))
        request = {"Open_vSwitch": [{"columns": list(COLUMNS)}]}
        self._send({"id": 1, "method": "monitor", "params": ["Open_vSwitch", None, request]})
        self._decoder, self._text = json.JSONDecoder(), ""
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="subscriber")
        self._thread.start()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_write.send(b"x")
        self._thread.join(10)
        for end in (self._socket, self._stop_read, self._stop_write):
            end.close()

    def states(self, name: str, since: float = 0.0) -> list[str]:
        """The states that a PMD went through, each once, ALIVE and SLEEP being the same."""
        states: list[str] = []
        for told in list(self.updates):
            state = told.state(name).replace("SLEEP", "ALIVE")
            if told.at >= since and state and (not states or states[-1] != state):
                states.append(state)
        return states

    def first(self, name: str, state: str, since: float) -> Told | None:
        """The first update since then in which a PMD has this state."""
        found = (told for told in list(self.updates) if told.at >= since and told.state(name) == state)
        return next(found, None)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            data = self._socket.recv(1 << 20)
            now = time.monotonic()
            if not data:
                return
            self._text += data.decode()
            self._take(now)

    def _take(self, now: float) -> None:
        while self._text:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except ValueError:
                return  # the rest of it is still to come
            self._text = self._text[end:].lstrip()
            if message.get("method") == "echo":
                self._send({"id": message["id"], "result": message["params"], "error": None})
            else:
                table = message["result"] if message.get("id") == 1 else message["params"][1]
                self._note(now, table)

    def _note(self, now: float, table: dict[str, Any]) -> None:
        for row in table.get("Open_vSwitch", {}).values():
            new = row.get("new")
            if new is not None:
                self.updates.append(Told(now, *(dict(new[column][1]) for column in COLUMNS)))

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode())
