# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive web`: the fleet's page, a process of its own. What it shows it has from the store alone.

One thread belongs to the event loop; the source's own threads hand over pictures, of which the newest wins.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import uvicorn

from ovs_keepalive import __version__
from ovs_keepalive.beat import moment
from ovs_keepalive.core.fleet_view import Fleet
from ovs_keepalive.formats.listen import IPV6, Address
from ovs_keepalive.web.app import application
from ovs_keepalive.web.board import Board
from ovs_keepalive.web.patience import PatientProtocol

CONNECTIONS = 256  # at once; one more is answered 503
LEAVE = 1  # seconds that the end waits for answers under way


class Source(Protocol):
    """Where pictures of the fleet come from."""

    def start(self, tell: Callable[[Fleet], None]) -> None:
        """Call `tell` with each newer picture, from any thread, until closed. Returns at once."""

    def close(self) -> None:
        """Tell nothing any more."""


def listener(address: Address) -> socket.socket:
    """Listen there. Raises OSError."""
    family = socket.AF_INET6 if address.version == IPV6 else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=CONNECTIONS)


class Page:
    """The page from its beginning to its end."""

    def __init__(self, source: Source, listens: socket.socket, *, loopback_only: bool) -> None:
        """listens: from now on this page's own."""
        self._source = source
        self._listens = listens
        self._board = Board(moment, secrets.token_hex(4))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._newest: Fleet | None = None  # handed over, and not yet taken
        app = application(self._board, __version__, loopback_only=loopback_only)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=LEAVE,
            )
        )

    def run(self) -> None:
        """Until a signal, or stop()."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """End it; from any thread."""
        self._server.should_exit = True

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self._server.serve([self._listens]))
        self._source.start(self._take)
        try:
            while not serving.done() and not self._server.should_exit:
                await asyncio.wait([serving], timeout=0.1)
            self._board.close()
            await serving
        finally:
            self._loop = None
            self._source.close()

    def _take(self, fleet: Fleet) -> None:
        """A newer picture, from a thread of the source. One that nobody has looked at gives way to it."""
        with self._lock:
            waits, self._newest = self._newest is not None, fleet
        loop = self._loop
        if not waits and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._put)

    def _put(self) -> None:
        with self._lock:
            newest, self._newest = self._newest, None
        if newest is not None:
            self._board.put(newest)


class _Server(uvicorn.Server):
    """Ends by a signal with status 0: uvicorn's own way is to raise it a second time, for whoever else handles it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """End it."""
        self.should_exit = True


def run(source: Source, address: Address, tell: Callable[[str], None]) -> int:
    """Serve until a signal; the exit status. tell: takes the line that says where. Raises OSError."""
    listens = listener(address)
    port = listens.getsockname()[1]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to read again
    tell(f"listening on http://{address._replace(port=port)}/")
    if not address.is_loopback:
        tell(f"{address}: whoever reaches it can read the state of the fleet")
    Page(source, listens, loopback_only=address.is_loopback).run()
    return 0
