# SPDX-License-Identifier: Apache-2.0
"""A client of OVS's control sockets that never waits: one connection, one request in flight.

python-ovs has one too, but without a deadline: a stopped vswitchd would hold its caller for ever
(UnixctlClient.transact, python/ovs/unixctl/client.py).
"""

from __future__ import annotations

import errno
import os
import select
import socket
from pathlib import Path

import msgspec

LARGEST = 16 << 20  # bytes of one reply; 512 PMDs make 269 KB
USUAL = 1 << 16  # bytes that are there for a reply from the beginning
SUN_PATH = 107  # characters that a unix socket's address holds


class NoAnswer(Exception):
    """The request failed for good: one line why. The connection is closed."""


class Refused(Exception):
    """The server answered with an error: its text."""


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: object = None
    error: object = None


_DECODER = msgspec.json.Decoder(_Reply)


class AppctlClient:
    """Asks one control socket. Its methods return at once; none raises anything but NoAnswer and Refused."""

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        """largest: bytes of a reply, at most."""
        self._path = path
        self._largest = largest
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._to_send = b""
        self._received = bytearray(USUAL)  # one buffer for all replies; of it, so many bytes hold the present one:
        self._filled = 0
        self.waiting = False

    def fileno(self) -> int | None:
        """The descriptor to poll; None while there is no connection."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def sending(self) -> bool:
        """Whether a part of the request still has to be written: poll for POLLOUT too."""
        return bool(self._to_send)

    def ask(self, method: str, *arguments: str) -> None:
        """Send one request. Raises NoAnswer when the socket cannot be reached or takes no request."""
        if self.waiting:
            raise NoAnswer(f"{self._path}: a request is in flight")
        if self._socket is None:
            self._connect()
        self._sequence += 1
        try:
            self._to_send = msgspec.json.encode({"id": self._sequence, "method": method, "params": arguments})
        except UnicodeEncodeError as error:
            raise NoAnswer(f"{self._path}: {method}: an argument is not Unicode text") from error
        self._filled = 0
        self.waiting = True
        self._send()

    def receive(self) -> str | None:
        """The reply's text; None while it is not all there, or none is due. Raises NoAnswer or Refused."""
        if self._socket is None:
            return None
        if not self.waiting:
            self._watch()
            return None
        self._send()
        try:
            while True:
                part = self._socket.recv_into(memoryview(self._received)[self._filled :])
                if not part:
                    return self._last_words()
                self._filled += part
                if self._filled == len(self._received):
                    self._received += bytes(self._filled)
                elif self._received[self._filled - 1] in b"}\n":
                    break  # most likely the end of the reply
        except BlockingIOError:
            pass  # all that has come so far is here
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        return self._reply()

    def close(self) -> None:
        """Drop the connection and the request in flight."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self.waiting = False
        self._to_send = b""

    def wait(self, timeout: float) -> str:
        """The reply, waited for: never by the daemon itself. timeout: seconds without a byte; the reply stays due.

        Raises NoAnswer or Refused.
        """
        while (reply := self.receive()) is None:
            poll = select.poll()
            poll.register(self.fileno() or 0, select.POLLIN | (select.POLLOUT if self.sending else 0))
            if not poll.poll(timeout * 1000):
                raise NoAnswer(f"{self._path}: no answer within {timeout:g} s")
        return reply

    def _connect(self) -> None:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = connection = socket.socket(socket.AF_UNIX, kind)
            if len(os.fsencode(self._path)) <= SUN_PATH:
                connection.connect(str(self._path))
                return
            directory = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{directory}/{self._path.name}")
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failed(_words(error)) from error

    def _send(self) -> None:
        if self._socket is None or not self._to_send:
            return
        try:
            self._to_send = self._to_send[self._socket.send(self._to_send) :]
        except BlockingIOError:
            return  # the server does not read: poll tells when it does
        except OSError as error:
            raise self._failed(_words(error)) from error

    def _last_words(self) -> str:
        """The server hung up; a whole reply before that counts all the same."""
        reply = self._reply() if self._filled else None
        if reply is None:
            raise self._failed("closed the connection before it answered")
        self.close()
        return reply

    def _watch(self) -> None:
        """Between two requests only the end of the connection can come; anything else is no answer to anything."""
        try:
            if self._socket is not None:
                self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # reset by its peer: an end like any other
            self.close()
        self.close()

    def _reply(self) -> str | None:
        begin, end = (
            bytes(self._received[: min(40, self._filled)]),
            self._received[max(0, self._filled - 2) : self._filled],
        )
        if not end.rstrip().endswith(b"}"):
            if self._filled and not begin.lstrip().startswith(b"{"):
                raise self._failed(f"answered garbage: {begin!r}")
            if self._filled > self._largest:
                raise self._failed(f"answered more than {self._largest} bytes")
            return None
        try:
            reply = _DECODER.decode(memoryview(self._received)[: self._filled])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if "truncated" in str(error) and self._filled <= self._largest:
                return None
            raise self._failed(f"answered garbage: {begin!r}") from error
        if reply.id != self._sequence:
            raise self._failed(f"answered request {reply.id!r} instead of {self._sequence}")
        self.waiting = False
        if reply.error is not None:
            raise Refused(str(reply.error).strip())
        if not isinstance(reply.result, str):
            raise self._failed(f"answered a {type(reply.result).__name__} instead of text")
        return reply.result

    def _failed(self, why: str) -> NoAnswer:
        self.close()
        return NoAnswer(f"{self._path}: {why}")


def ask(path: Path, timeout: float, method: str, *arguments: str) -> str:
    """One command, waited for: for command lines, never for the daemon. timeout: seconds without a byte.

    Raises NoAnswer or Refused.
    """
    client = AppctlClient(path)
    try:
        client.ask(method, *arguments)
        return client.wait(timeout)
    finally:
        client.close()


def _words(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection refused: the process that made this socket has ended"
    if error.errno == errno.EACCES:
        return "permission denied: give this user write access to the socket and its directory"
    if error.errno == errno.EAGAIN:
        return "does not accept connections: its queue is full"
    return error.strerror or str(error)
