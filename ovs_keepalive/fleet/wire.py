# SPDX-License-Identifier: Apache-2.0
"""What lies below a session with ZooKeeper: kazoo's threads, with connections and secrets of our own making.

kazoo's own TLS trusts every CA of the system, checks no name by default, and overlooks answers that came together in
one record; its threads end with a traceback.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.serialization import Connect

OTHERS_MAY = 0o077


class Tls(NamedTuple):
    """Who we are and whom we believe: paths of PEM files, read anew for each connection."""

    certificate: str
    private_key: str
    ca: str
    check_name: bool = True  # the server's certificate has to bear the name or address that was connected to


class Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo carries no types
    """kazoo's threads, with connections made here."""

    def __init__(self, tls: Tls | None, note: Callable[[str], None]) -> None:
        super().__init__()
        self._tls = tls
        self._note = note

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A thread, whose end by an answer that no server sends is told as trouble, not as a traceback."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - of kazoo, at anything that a server may send
                self._note(f"{type(error).__name__}: {error}")

        return super().spawn(run)

    def create_connection(
        self, address: tuple[str, int], hostname: str = "", timeout: float | None = None, **_: Any
    ) -> socket.socket:
        """A connection to a server. Raises OSError."""
        try:
            context = context_of(self._tls) if self._tls is not None else None
        except ValueError as error:
            raise OSError(errno.EACCES, str(error)) from error
        plain = socket.create_connection(address, timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(plain, server_hostname=hostname) if context is not None else plain
        except (OSError, ValueError) as error:  # ValueError: the peer left before its certificate was there
            plain.close()
            raise error if isinstance(error, OSError) else OSError(errno.EPROTO, str(error)) from error

    def select(
        self, readers: Sequence[Any], writers: Sequence[Any], others: Sequence[Any], timeout: float | None = None
    ) -> Any:
        """What TLS has unpacked already does not show on the socket."""
        if ready := [one for one in readers if isinstance(one, ssl.SSLSocket) and one.pending()]:
            return ready, [], []
        return super().select(readers, writers, others, timeout)


class Listening(logging.Logger):
    """kazoo's log: nobody reads it, but what it warns of is kept, and for how long a server grants the session.

    That time, which may be shorter than what was asked for, kazoo tells nobody but its log.
    """

    def __init__(self, note: Callable[[str], None], granted: Callable[[float], None]) -> None:
        """granted: takes seconds, before the session counts as connected. Both are called by kazoo's threads."""
        super().__init__("zookeeper", logging.WARNING)
        self._granted = granted
        self.addHandler(_Noting(note))

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """A line, of whatever level."""
        match args:
            case (Connect() as answer,) if answer.time_out > 0:  # the question, a Connect too, has its number before it
                self._granted(answer.time_out / 1000)
        super().log(level, msg, *args, **more)


class _Noting(logging.Handler):
    """Keeps what kazoo warns of."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._take = note

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if said != "Transition to CONNECTING":  # says nothing of why
            self._take(said.removeprefix("Connection dropped: ").removeprefix("socket connection error: "))


def secret_of(path: Path) -> str:
    """USER:PASSWORD of a file that only its owner can read. Raises ValueError."""
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', 'no text')}: put USER:PASSWORD there") from error
    if mode & OTHERS_MAY:
        raise ValueError(f"{path}: others may read or write it: chmod 600 {path}")
    if ":" not in secret:
        raise ValueError(f"{path}: no USER:PASSWORD in its first line")
    return secret


def context_of(tls: Tls) -> ssl.SSLContext:
    """Only our CA is believed. Raises ValueError, which names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.check_name
    what = tls.ca
    try:
        context.load_verify_locations(tls.ca)
        what = f"{tls.certificate} with {tls.private_key}"
        # An encrypted key: an error, no prompt.
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{what}: {error.strerror or error}") from error
    return context
