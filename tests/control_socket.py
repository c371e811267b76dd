# SPDX-License-Identifier: Apache-2.0
"""A control socket that answers what a test tells it to: a real unix socket, with no thread behind it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class ControlSocket:
    """Listens like vswitchd. What a client has sent is there at once, and so is what is sent to it."""

    def __init__(self, path: Path, backlog: int = 8) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        directory = os.open(path.parent, os.O_PATH)  # a path may be longer than an address
        try:
            self._listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        self._listener.listen(backlog)
        self._connection: socket.socket | None = None
        self._received = ""
        self.requests: list[dict[str, Any]] = []
        self.connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        self._listener.close()

    def stop_listening(self) -> None:
        """Leave the socket behind, as a process does that is killed."""
        self.hang_up()
        self._listener.close()

    def hang_up(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._received = None, ""

    def read(self) -> list[dict[str, Any]]:
        """The requests that have come since the last reading."""
        self._accept()
        if self._connection is None:
            return []
        try:
            while part := self._connection.recv(1 << 20):
                self._received += part.decode()
        except BlockingIOError:
            pass
        news = []
        while self._received:
            request, end = json.JSONDecoder().raw_decode(self._received)
            self._received = self._received[end:]
            news.append(request)
        self.requests += news
        return news

    def reply(self, text: str | None, *, error: str | None = None) -> None:
        """Answer the one request that has come."""
        (request,) = self.read()
        self.send(json.dumps({"id": request["id"], "result": text, "error": error}, ensure_ascii=False).encode())

    def answer(self, texts: dict[str, str]) -> str:
        """Answer the one request that has come by its words: a text that starts with `!` is an error."""
        (request,) = self.read()
        words = " ".join([request["method"], *request["params"]])
        text = texts[words]
        failed = text.startswith("!")
        reply = {"id": request["id"], "result": None if failed else text, "error": text[1:] if failed else None}
        self.send(json.dumps(reply).encode())
        return words

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._accept()
        assert self._connection is not None
        self._connection.setblocking(True)
        self._connection.sendall(data)
        self._connection.setblocking(False)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, or it listens no more
                return
            self.hang_up()
            self._connection = connection
            self._connection.setblocking(False)
            self.connections += 1
