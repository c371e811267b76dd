# SPDX-License-Identifier: Apache-2.0
"""The node over HTTP, read-only: page, metrics, health, JSON, events.

A thread of its own accepts, one more answers each connection; all of them read what the main loop left last and never
ask it for anything. Connections, viewers, the size of a request and the time it may take are bounded.
"""

from __future__ import annotations

import errno
import http.server
import os
import select
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from typing import Any

import ovs.vlog

from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import listen
from ovs_keepalive.formats.answers import EVENTS, HEADERS, JSON, STRANGER, TEXT, kind
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.publishers.board import PAUSE, REFRESH, Board, Shown

log = ovs.vlog.Vlog("http")

CONNECTIONS = 64  # at once; one more is answered 503
VIEWERS = 32  # of them may follow the events
PATIENCE = 10.0  # seconds for a request to come in, and for an answer to be taken
AGAIN = 5.0  # seconds until a port that is taken is tried again
DEAF = 1.0  # seconds until somebody is accepted again, once there was no descriptor for it
FILES = {  # of share/web
    f"/{'' if name == 'index.html' else name}": name
    for name in (
        *("index.html", "page.css", "page.js", "table.js", "text.js", "verdict.js"),
        *("icon.svg", "icon-failure.svg", "icon-warning.svg", "icon-well.svg"),
    )
}

Metrics = Callable[[str], tuple[str, bytes]]  # of the Accept header: content type and body


class WebServer:
    """The listener, as far as the main loop has to do with it."""

    def __init__(self, address: listen.Address, clock: Callable[[], Moment], metrics: Metrics | None = None) -> None:
        """metrics: makes the exposition, in whatever thread."""
        self._address = address
        self._metrics = metrics
        self._board = Board(clock)
        self._server: _Server | None = None
        self._next_try = float("-inf")
        self._refusal = ""
        self._repeats = Repeats()

    def run(self, now: float) -> None:
        """Listen, if that is not done yet. now: monotonic seconds."""
        if self._server is not None or now < self._next_try:
            return
        self._next_try = now + AGAIN
        self._listen(None, now)

    def _listen(self, listener: socket.socket | None, now: float) -> None:
        try:
            self._server = _Server(self._address, self._board, self._metrics, listener)
        except OSError as error:
            self._refusal = f"{self._address}: {error.strerror}: trying again every {AGAIN:g} s"
            if line := self._repeats.line("taken", f"{self._refusal}; or set web-listen", now):
                log.warn(line)
            return
        self._refusal = ""
        log.info(f"listening on {self.url}")
        if not self._address.is_loopback:
            log.warn(f"web-listen: {self._address}: whoever reaches it can read the state of this node")

    @property
    def listener(self) -> tuple[str, socket.socket] | None:
        """Where it was asked to listen, and what listens there, for a successor."""
        return (str(self._address), self._server.socket) if self._server is not None else None

    def adopt(self, asked: str, listener: socket.socket, now: float) -> None:
        """Go on listening for the daemon before, unless this one is asked to listen somewhere else."""
        if asked == str(self._address):
            self._listen(listener, now)
        else:
            listener.close()

    def rest(self, *, rests: bool) -> None:
        """Accept nobody for the time being, or again; whoever was accepted is answered."""
        if self._server is not None:
            self._server.rest(rests=rests)

    def publish(self, shown: Shown) -> None:
        """Show this snapshot."""
        self._board.put(shown)

    @property
    def fact(self) -> str:
        """For keepalive/status."""
        if self._server is None:
            return self._refusal or "not listening yet"
        wide = "" if self._address.is_loopback else ", open to others than this host"
        return f"{self.url}, {self._server.viewers} viewers{wide}"

    @property
    def url(self) -> str:
        """Of the page; with the port that the kernel chose, if it was 0."""
        port = self._server.server_port if self._server is not None else self._address.port
        return f"http://{self._address._replace(port=port)}/"

    def close(self) -> None:
        """Hang up on everybody."""
        self._board.close()
        if self._server is not None:
            self._server.close()
            self._server = None


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Accepts in its own thread; without work it sleeps."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS
    timeout = 0  # of handle_request: it is called when there is one

    def __init__(
        self, address: listen.Address, board: Board, metrics: Metrics | None, listener: socket.socket | None
    ) -> None:
        """listener: one that listens there already."""
        self.address_family = socket.AF_INET6 if address.version == listen.IPV6 else socket.AF_INET
        self.board, self.metrics, self.loopback_only = board, metrics, address.is_loopback
        self.viewers = 0
        self._is_deaf = False  # nobody can be accepted now
        self._open: dict[socket.socket, float] = {}  # monotonic: when it came, infinite once it has asked
        self._lock = threading.Lock()
        self._thread = threading.Thread()  # until it begins
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            super().__init__((address.host, address.port), _Handler, bind_and_activate=listener is None)
        except OSError:
            os.close(self._wakeup)
            raise
        if listener is not None:
            self.socket.close()
            self.socket = listener
            self.server_name, self.server_port = listener.getsockname()[:2]
        self.rest(rests=False)

    def server_bind(self) -> None:
        """Not HTTPServer's own, which asks the resolver for a name and may wait for it."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def rest(self, *, rests: bool) -> None:
        """End the thread that accepts, or begin one."""
        self._rests = rests
        if rests:
            os.eventfd_write(self._wakeup, 1)
            self._thread.join()
            os.eventfd_read(self._wakeup)
        else:
            self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        alone = select.poll()
        alone.register(self._wakeup, select.POLLIN)
        while not self.board.over.is_set() and not self._rests:
            ready = dict(poll.poll(1000 if self._awaits_requests() else None))
            if self.socket.fileno() in ready:
                self.handle_request()
            self._end_slow()
            if self._is_deaf:
                alone.poll(DEAF * 1000)
                self._is_deaf = False

    def get_request(self) -> tuple[socket.socket, Any]:
        """As it is called by handle_request, which takes every failure for a client that has gone."""
        try:
            return super().get_request()
        except OSError as error:
            self._is_deaf = error.errno not in (errno.EAGAIN, errno.ECONNABORTED)
            raise

    def _awaits_requests(self) -> bool:
        with self._lock:
            return any(since < float("inf") for since in self._open.values())

    def _end_slow(self) -> None:
        """A request that comes a byte at a time has its time too."""
        before = self.board.clock().mono - PATIENCE
        with self._lock:
            for connection, since in self._open.items():
                if since < before:
                    _hang_up(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for it, if there is one left."""
        with self._lock:
            if len(self._open) < CONNECTIONS:
                self._open[request] = self.board.clock().mono
                super().process_request(request, client_address)
                return
        request.setblocking(False)
        with suppress(OSError):
            request.send(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
                         b"Connection: close\r\n\r\n")  # fmt: skip
        super().shutdown_request(request)

    def asked(self, request: socket.socket) -> None:
        """Its request is there: the time for the answer is the handler's."""
        with self._lock:
            self._open[request] = float("inf")

    def shutdown_request(self, request: Any) -> None:
        """It is over."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a fault of this program."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.err(one_line(f"a request failed: {type(error).__name__}: {error}"))

    def view(self, change: int) -> bool:
        """Count a viewer in or out; whether there was room."""
        with self._lock:
            if change > 0 and self.viewers >= VIEWERS:
                return False
            self.viewers += change
            return True

    def close(self) -> None:
        """Stop listening and end every connection."""
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        self.server_close()
        os.close(self._wakeup)
        with self._lock:
            for connection in self._open:
                _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has gone by itself
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request of one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "ovs-keepalive"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:  # the name that http.server calls
        self.close_connection = True
        self.server.asked(self.connection)
        path = self.path.partition("?")[0]
        board = self.server.board
        if not self._is_for_us():
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, TEXT, STRANGER.encode())
        elif path in FILES:
            name = FILES[path]
            self._answer(
                HTTPStatus.OK, kind(name), (resources.files("ovs_keepalive") / "share" / "web" / name).read_bytes()
            )
        elif path == "/healthz":
            status, line = board.health()
            self._answer(status, TEXT, f"{one_line(line)}\n".encode())
        elif path == "/metrics" and self.server.metrics is not None:
            of_metrics, body = self.server.metrics(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, of_metrics, body)
        elif path == "/api/strip.json":
            self._answer(HTTPStatus.OK, JSON, board.strip())
        elif path in ("/api/node.json", "/api/events") and not board.shown:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"no snapshot yet: try again\n")
        elif path == "/api/node.json":
            self._answer(HTTPStatus.OK, JSON, board.node())
        elif path == "/api/events":
            self._follow()
        else:
            self._answer(HTTPStatus.NOT_FOUND, TEXT, b"there is /, /metrics, /healthz, /api/node.json\n")

    do_HEAD = do_GET  # noqa: N815 - as above

    def _is_for_us(self) -> bool:
        """A page of another site, whose name is made to lead to 127.0.0.1, is none of ours (DNS rebinding)."""
        host = self.headers.get("Host", "")
        return not self.server.loopback_only or not host or listen.is_loopback(host)

    def _follow(self) -> None:
        if self.command == "HEAD":
            self._answer(HTTPStatus.OK, EVENTS, b"")
        elif not self.server.view(+1):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"too many viewers: ask /api/node.json\n")
        else:
            try:
                self._stream(self.server.board)
            finally:
                self.server.view(-1)

    def _stream(self, board: Board) -> None:
        self._head(HTTPStatus.OK, EVENTS, None)
        self.wfile.write(f"retry: {REFRESH * 1000:.0f}\n\n".encode())
        version = -1
        while not board.over.is_set():
            version = board.wait(version)
            shown = board.shown
            if shown is not None:
                self.wfile.write(b"event: node\nid: %d\ndata: %s\n\n" % (shown.snapshot.seq, board.node()))
            board.over.wait(PAUSE)

    def _answer(self, status: HTTPStatus, content: str, body: bytes) -> None:
        self._head(status, content, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, content: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "5")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, _message: str | None = None, _explain: str | None = None) -> None:
        """What http.server refuses by itself: no HTTP, too long, another method. In a line, not in its page."""
        self.close_connection = True
        status = HTTPStatus(code)
        self.command = getattr(self, "command", None) or "GET"
        self._answer(status, TEXT, f"{status.phrase}: this listener answers GET and HEAD\n".encode())

    def log_message(self, _format: str, *_args: Any) -> None:
        """Requests are no transitions."""
