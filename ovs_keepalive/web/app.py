# SPDX-License-Identifier: Apache-2.0
"""The fleet over HTTP, read-only: page, snapshot, deltas, a host, its cell's tunnels, metrics, health.

It answers GET and HEAD of names that lead to this host only, unless it is asked to listen to others too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ovs_keepalive.core.model import NEVER
from ovs_keepalive.formats import listen, metric
from ovs_keepalive.formats.answers import EVENTS, HEADERS, JSON, STRANGER, kind
from ovs_keepalive.web import patience
from ovs_keepalive.web.board import REFRESH, Board

VIEWERS = 64  # that may follow the events
COMPRESSED = 4096  # bytes from which an answer is
LONGEST = 16  # digits of a number
STALE = 30.0  # seconds; data older than that are no news (`/healthz`)
PARTS = ("fleet.css", "fleet.js", "host.js", "hosts.js", "model.js", "shown.js", "tunnels.js")
FILES = {  # of share: the page's own, and what it has in common with the node's
    **{f"/{name}": f"fleet/{name}" for name in PARTS},
    **{f"/{name}": f"web/{name}" for name in ("page.css", "text.js")},
    **{f"/{name}.svg": f"web/{name}.svg" for name in ("icon", "icon-failure", "icon-warning", "icon-well")},
    "/": "fleet/index.html",
}
THERE_IS = (
    "there is /, /metrics, /healthz, /api/fleet.json, /api/host.json?cell=C&host=H, /api/tunnels.json?cell=C, "
    "/api/events\n"
)
OTHER_METHOD = "this listener answers GET and HEAD\n"


def application(board: Board, version: str, *, loopback_only: bool) -> Starlette:
    """The whole of it. version: of this program."""

    async def file(request: Request) -> Response:
        path = FILES[request.url.path]
        body = resources.files("ovs_keepalive").joinpath("share", *path.split("/")).read_bytes()
        return Response(body, headers={"Content-Type": kind(path)})

    async def fleet(_: Request) -> Response:
        return Response(await board.snapshot(), media_type=JSON)

    async def host(request: Request) -> Response:
        asked = request.query_params
        body = board.host((asked.get("cell", ""), asked.get("host", "")))
        return Response(body, media_type=JSON) if body else _line(HTTPStatus.NOT_FOUND, "no such host is known\n")

    async def tunnels(request: Request) -> Response:
        body = await board.tunnels(request.query_params.get("cell", ""))
        return Response(body, media_type=JSON) if body else _line(HTTPStatus.NOT_FOUND, "no such cell is known\n")

    async def metrics(request: Request) -> Response:
        openmetrics = metric.wants_openmetrics(request.headers.get("Accept", ""))
        text = board.metrics(version, openmetrics=openmetrics)
        return Response(text, headers={"Content-Type": metric.OPENMETRICS if openmetrics else metric.TEXT})

    async def healthz(_: Request) -> Response:
        return _health(board)

    async def events(request: Request) -> Response:
        if board.viewers >= VIEWERS and request.method == "GET":
            return _line(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers: ask /api/fleet.json\n")
        boot, seq = _place(request)
        return StreamingResponse(_stream(board, boot, seq) if request.method == "GET" else (), media_type=EVENTS)

    return Starlette(
        routes=[
            *(Route(path, file) for path in FILES),
            Route("/api/fleet.json", fleet),
            Route("/api/host.json", host),
            Route("/api/tunnels.json", tunnels),
            Route("/api/events", events),
            Route("/metrics", metrics),
            Route("/healthz", healthz),
        ],
        middleware=[
            Middleware(_Guarded, loopback_only=loopback_only),
            # Not the events: they would wait for each other.
            Middleware(GZipMiddleware, minimum_size=COMPRESSED, compresslevel=5),
        ],
        exception_handlers={HTTPException: _refuse},
    )


async def _refuse(_: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    text = THERE_IS if status is HTTPStatus.NOT_FOUND else f"{status.phrase}: {OTHER_METHOD}"
    return _line(status, text)


def _line(status: HTTPStatus, text: str) -> Response:
    headers = {"Retry-After": "5"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return PlainTextResponse(text, status, headers)


def _health(board: Board) -> Response:
    """Whether the page knows the fleet, not whether what it sees is well."""
    fleet = board.fleet
    age = board.clock().mono - fleet.read.mono
    why = f": {fleet.store.why}" if fleet.store.why else ""
    store = f"store {fleet.store.state}{why}"
    if fleet.read == NEVER:
        return _line(HTTPStatus.SERVICE_UNAVAILABLE, f"nothing read yet; {store}\n")
    if age > STALE:
        return _line(HTTPStatus.SERVICE_UNAVAILABLE, f"the data are {age:.0f} s old; {store}\n")
    return _line(HTTPStatus.OK, f"{len(fleet.sights)} hosts; {store}\n")


def _place(request: Request) -> tuple[str, int]:
    """Of which process and after which number: as the browser says when it comes back, or as the page asks.

    -1: it says nothing that is any.
    """
    asked = request.headers.get("Last-Event-ID") or request.query_params.get("after", "")
    boot, _, number = asked.rpartition("-")
    return boot, int(number) if number.isascii() and number.isdigit() and len(number) < LONGEST else -1


async def _stream(board: Board, boot: str, seq: int) -> AsyncIterator[bytes]:
    board.viewers += 1
    try:
        yield b"retry: %d\n\n" % (REFRESH * 1000)
        yield b"event: beat\ndata: %s\n\n" % board.beat()
        while not board.over:
            deltas = await board.after(boot, seq)
            if deltas is None:  # the page takes the whole again, and asks for what comes after that
                yield b"event: gap\ndata: {}\n\n"
                return
            for delta in deltas:
                seq = delta.seq
                yield b"event: delta\nid: %s-%d\ndata: %s\n\n" % (boot.encode(), seq, delta.body)
            if not deltas:
                yield b"event: beat\ndata: %s\n\n" % board.beat()
    finally:
        board.viewers -= 1


class _Guarded:
    """What binds a browser stands on every answer; a page of another name that was made to lead here gets none.

    Each connection is for one request, and each piece of an answer has to be taken in time.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only
        headers = {**HEADERS, "Connection": "close"}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            async with asyncio.timeout(patience.PATIENCE):
                await send(message)

        if scope["type"] == "http" and self._loopback_only:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            if host and not listen.is_loopback(host):
                await _line(HTTPStatus.MISDIRECTED_REQUEST, STRANGER)(scope, receive, answer)
                return
        # Who takes no answer is hung up on.
        with suppress(TimeoutError, ClientDisconnect):
            await self._app(scope, receive, answer)
