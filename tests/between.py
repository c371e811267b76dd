# SPDX-License-Identifier: Apache-2.0
"""Stands between an OVSDB client and its real server: refuses transactions in the server's name, or delays all."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class _Messages:
    """The whole JSON messages in what has been read of one socket."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self._text = b""

    def read(self) -> list[dict[str, Any]] | None:
        """Those that are complete now; None when the other side hung up."""
        try:
            part = self.source.recv(1 << 20)
        except OSError:
            part = b""
        if not part:
            return None
        self._text += part
        messages = []
        while self._text:
            try:
                message, end = json.JSONDecoder().raw_decode(self._text.decode())
            except ValueError:  # the rest of it is still to come
                break
            messages.append(message)
            self._text = self._text.decode()[end:].encode().lstrip()
        return messages


class Between:
    """Listens on a path, and serves each client with a connection of its own to the server, until it is closed."""

    def __init__(self, path: Path, server: Path) -> None:
        self.remote = f"unix:{path}"
        self.refusal: dict[str, str] | None = None  # the answer to every transaction, in the server's place
        self.refused = 0
        self.delay = 0.0  # seconds by which each message of a client comes later
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._stop_read, self._stop_write = socket.socketpair()
        self._threads = [threading.Thread(target=self._listen, name="between")]

    def __enter__(self) -> Between:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_write.close()
        for thread in self._threads:
            thread.join(10)
        for end in (self._listener, self._stop_read):
            end.close()

    def _listen(self) -> None:
        while self._stop_read not in select.select([self._listener, self._stop_read], [], [])[0]:
            client, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(client,), name="between")
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.connect(str(self._server))
            except OSError:
                return
            ends = {client: _Messages(client), server: _Messages(server)}
            while True:
                ready, _, _ = select.select([*ends, self._stop_read], [], [])
                if self._stop_read in ready:
                    return
                for end in ready:
                    messages = ends[end].read()
                    if messages is None:
                        return
                    for message in messages:
                        self._hand_on(message, client, server if end is client else client)

    def _hand_on(self, message: dict[str, Any], client: socket.socket, to: socket.socket) -> None:
        if to is not client:
            time.sleep(self.delay)
            if self.refusal is not None and message.get("method") == "transact":
                self.refused += 1
                results: list[dict[str, str]] = [{} for _ in message["params"][2:]] + [self.refusal]
                message, to = {"id": message["id"], "result": results, "error": None}, client
        try:
            to.sendall(json.dumps(message).encode())
        except OSError:  # it hung up: the next reading tells
            return
