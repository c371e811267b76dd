# SPDX-License-Identifier: Apache-2.0
"""Adds our two columns to the schema of a running ovsdb-server, and removes them: `get_schema` and `convert`, the two
operations of ovsdb-server(7), each a JSON-RPC call on a connection of its own that ends at its deadline.

Nothing here runs by itself. A conversion makes ovsdb-server cancel all monitors: see DANGER.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import ovs.poller
import ovs.stream
import ovs.timeval

from ovs_keepalive.formats import schema as columns
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.remote import TLS, BadRemote, check
from ovs_keepalive.formats.schema import Found, Status
from ovs_keepalive.publishers.tls import TlsStream

LOOK_TIMEOUT = 5.0  # seconds, for one get_schema
CONVERT_TIMEOUT = 60.0  # seconds: a conversion copies the whole database (some ms for that of one host)
LONGEST_ANSWER = 4 << 20  # bytes; the schema of OVS 4.0 has 28,000

_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()

DANGER = (
    "warning: Python IDL clients older than OVS 3.3 go deaf at this conversion, and clients that register all columns"
    " (neutron-openvswitch-agent) when an added column is taken away again, by revert or by OVS's own scripts at its"
    " next start: restart them then"
)

COLUMNS = tuple(columns.WANTED)

Schema = dict[str, Any]


class Failed(OSError):
    """The server cannot be reached, answers too late, refuses, or is no OVSDB server. One line that names it."""


class RemoteError(Failed):
    """The remote cannot be used as it is written. One line that names it and the cure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `apply` or `revert` found, and what it left."""

    before: Status
    after: Status

    @property
    def changed(self) -> bool:
        """Was there anything to convert?"""
        return self.before != self.after


# --- the columns -------------------------------------------------------------------------------


def status(remote: str, timeout: float = LOOK_TIMEOUT) -> Status:
    """The columns in the live schema of the server at `remote`, within `timeout` seconds. Raises Failed."""
    return _compare(remote, _live(remote, timeout))


def apply(remote: str, timeout: float = CONVERT_TIMEOUT) -> Outcome:
    """Adds the columns that are absent, and returns when the server shows them, at most `timeout` seconds later.
    Converts nothing where nothing is absent. Raises Failed."""
    return _convert(remote, timeout, columns.with_columns)


def revert(remote: str, timeout: float = CONVERT_TIMEOUT) -> Outcome:
    """Removes the columns that are exactly ours, like `apply`; the schema is then what it was before `apply`."""
    return _convert(remote, timeout, columns.without_columns)


def _convert(remote: str, timeout: float, change: Callable[[Mapping[str, Any]], Schema]) -> Outcome:
    deadline = ovs.timeval.msec() + timeout * 1000
    live = _live(remote, timeout)
    before = _compare(remote, live)
    wanted = change(live)
    if wanted == live:
        return Outcome(before, before)
    goal = columns.compare(wanted)
    call(remote, "convert", [columns.DATABASE, wanted], _left(deadline))
    while (after := status(remote, max(_left(deadline), 1.0))).columns != goal.columns:
        if not _left(deadline):
            raise Failed(f"{remote}: the server took the conversion, but does not show it after {timeout:g} s")
        poller = ovs.poller.Poller()
        poller.timer_wait(50)  # a clustered server may show it a moment later
        poller.block()
    return Outcome(before, after)


def _live(remote: str, timeout: float) -> Schema:
    live: Schema = call(remote, "get_schema", [columns.DATABASE], timeout)
    return live


def _compare(remote: str, live: Schema) -> Status:
    try:
        return columns.compare(live)
    except columns.SchemaError as error:
        raise Failed(f"{remote}: what answers there is no ovsdb-server of Open vSwitch: {error}") from error


# --- the command line ----------------------------------------------------------------------------


def verb(action: str, remote: str, out: TextIO) -> int:
    """`ovs-keepalive schema status|apply|revert`: plain lines to `out`, an error as one line to stderr.

    Returns the exit status: 0 done (of `status`: both columns are there), 1 a column is missing or of another type,
    2 usage, 3 the server cannot be reached or refuses."""
    verbs = {"status": _status, "apply": _apply, "revert": _revert}
    if action not in verbs:
        sys.stderr.write(f'ovs-keepalive: schema: unknown action "{_line(action)}": use {", ".join(verbs)}\n')
        return 2
    try:
        return verbs[action](remote, out)
    except Failed as error:
        sys.stderr.write(f"ovs-keepalive: {one_line(str(error))}\n")
        return 2 if isinstance(error, RemoteError) else 3


def _status(remote: str, out: TextIO) -> int:
    return _tell(status(remote), out)


def _apply(remote: str, out: TextIO) -> int:
    if status(remote).names(Found.ABSENT):
        print(DANGER, file=out, flush=True)
    outcome = apply(remote)
    _tell_change("added", outcome.before.names(Found.ABSENT), outcome, out)
    return _tell(outcome.after, out)


def _revert(remote: str, out: TextIO) -> int:
    if status(remote).names(Found.PRESENT):
        print(DANGER, file=out, flush=True)
    outcome = revert(remote)
    _tell_change("removed", outcome.before.names(Found.PRESENT), outcome, out)
    _tell(outcome.after, out)
    return 0


def _tell_change(done: str, names: tuple[str, ...], outcome: Outcome, out: TextIO) -> None:
    if outcome.changed:
        print(
            f"{done} {' and '.join(names)}; schema version {_line(outcome.after.version) or 'none'} as before", file=out
        )
    else:
        print("nothing to do", file=out)


def _tell(found: Status, out: TextIO) -> int:
    for column in found.columns:
        foreign = f", left alone: {_line(column.what)}" if column.found is Found.OTHER else ""
        print(f"{column.name}: {column.found}{foreign}", file=out)
    return 0 if found.complete else 1


# --- one call -------------------------------------------------------------------------------------


def check_remote(remote: str) -> None:
    """Raises RemoteError unless `remote` is one unix:FILE, tcp:ADDRESS:PORT or ssl:ADDRESS:PORT that can be used."""
    try:
        kind = check(remote)
    except BadRemote as error:
        raise RemoteError(str(error)) from None
    if kind == TLS and TlsStream.files is None:
        wanted = "ssl-private-key, ssl-certificate and ssl-ca-cert"
        raise RemoteError(f"{remote}: no files for TLS are set: set {wanted} in the configuration file")


def call(remote: str, method: str, params: list[Any], timeout: float) -> Any:
    """The result of one JSON-RPC call, on a connection of its own, within `timeout` seconds all in all.

    (python-ovs's own transact_block has no deadline, and its recv does not return while a server goes on sending.)
    Raises RemoteError for a remote that cannot be used, another Failed for everything else."""
    check_remote(remote)
    deadline = ovs.timeval.msec() + timeout * 1000
    requests = [{"method": method, "params": params, "id": method}]
    if method == "convert":  # as ovsdb-client does: else the server ends this connection as soon as it has converted
        requests.insert(0, {"method": "set_db_change_aware", "params": [True], "id": "aware"})
    late = f"{remote}: {method}: no answer within {timeout:g} s"
    try:
        stream = _connect(remote, deadline)
    except TimeoutError:
        raise Failed(late) from None
    try:
        _send(stream, "".join(json.dumps(request) for request in requests).encode(), deadline)
        reply = _receive(stream, method, deadline)
    except TimeoutError:
        again = "; it may still be under way: ask `ovs-keepalive schema status`" if method == "convert" else ""
        raise Failed(late + again) from None
    except (OSError, ValueError) as error:
        raise Failed(f"{remote}: {method}: {error}") from None
    finally:
        stream.close()
    if reply.get("error") is not None:
        raise Failed(f"{remote}: the server refuses {method}: {_line(_words(reply['error']))}")
    return reply.get("result")


def _connect(remote: str, deadline: float) -> Any:
    """A connected ovs.stream.Stream. Raises Failed, TimeoutError."""
    try:
        error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote), timeout=_left(deadline) * 1000)
    except (OSError, ValueError) as failed:
        raise Failed(f"{remote}: cannot connect: {_line(str(failed))}") from None
    if error == errno.ETIMEDOUT:
        raise TimeoutError
    if error:
        raise Failed(f"{remote}: cannot connect: {_why(remote, error)}")
    return stream


def _why(remote: str, error: object) -> str:
    if remote.startswith("ssl:") and TlsStream.problem:
        return TlsStream.problem
    cures = {
        errno.ENOENT: "no such socket: is ovsdb-server running, and is this its runtime directory?",
        errno.ECONNREFUSED: "nothing listens there: is ovsdb-server running?",
        errno.EACCES: "permission denied: run as root, or as a user who may write to the socket",
        errno.EAGAIN: "its queue of connections is full: the server does not answer",
    }
    return next((cure for number, cure in cures.items() if number == error), _strerror(error))


def _send(stream: Any, data: bytes, deadline: float) -> None:
    """Raises TimeoutError, OSError."""
    while data:
        sent = stream.send(data)
        if sent >= 0:
            data = data[sent:]
        elif sent == -errno.EAGAIN:
            _block(stream, ovs.stream.Stream.W_SEND, deadline)
        else:
            raise OSError(_strerror(-sent))


def _receive(stream: Any, method: str, deadline: float) -> Mapping[str, Any]:
    """The reply with the id `method`. Answers echo, passes over every other message.
    Raises TimeoutError, OSError, ValueError."""
    data = b""
    while True:
        error, more = stream.recv(65536)
        if error == errno.EAGAIN:
            _block(stream, ovs.stream.Stream.W_RECV, deadline)
            continue
        if error or not more:
            raise OSError(_strerror(error) if error else "the server closed the connection without a whole answer")
        if not _left(deadline):
            raise TimeoutError
        messages, data = _messages(data + more)
        for message in messages:
            if message.get("method") == "echo":
                echo = {"result": message.get("params"), "error": None, "id": message.get("id")}
                _send(stream, json.dumps(echo).encode(), deadline)
            elif "method" not in message and message.get("id") == method:
                return message


def _messages(data: bytes) -> tuple[list[Mapping[str, Any]], bytes]:
    """The whole JSON objects at the start of `data`, and the rest. Raises ValueError if it can never be JSON-RPC."""
    foreign = ValueError("what answers there does not speak JSON-RPC: is this the socket of ovsdb-server?")
    if len(data) > LONGEST_ANSWER or data.lstrip()[:1] not in (b"", b"{"):
        raise foreign
    messages: list[Mapping[str, Any]] = []
    if not data.rstrip().endswith(b"}"):  # not worth a try
        return messages, data
    at = 0
    try:
        text = data.decode()
        while text.startswith("{", at := _BLANK.match(text, at).end()):  # type: ignore[union-attr]  # it always matches
            message, at = _DECODER.raw_decode(text, at)
            messages.append(message)
    except json.JSONDecodeError:  # its end has not come yet
        return messages, text[at:].encode()
    except (UnicodeDecodeError, RecursionError):
        raise foreign from None
    return messages, text[at:].encode()


def _block(stream: Any, what: int, deadline: float) -> None:
    """Waits until `stream` may be read or written. Raises TimeoutError."""
    if not _left(deadline):
        raise TimeoutError
    poller = ovs.poller.Poller()
    stream.run_wait(poller)
    stream.wait(poller, what)
    poller.timer_wait_until(deadline)
    poller.block()


def _left(deadline: float) -> float:
    """Seconds, never negative, until `deadline` (ms of ovs.timeval.msec, which is monotonic)."""
    return float(max(deadline - ovs.timeval.msec(), 0.0)) / 1000


def _strerror(error: object) -> str:
    return os.strerror(error) if isinstance(error, int) else str(error)


def _words(error: object) -> str:
    """An error of RFC 7047, a string or {"error": ..., "details": ...}, in words."""
    if isinstance(error, Mapping) and "error" in error:
        return ": ".join(str(error[key]) for key in ("error", "details") if key in error)
    return str(error)


def _line(text: str) -> str:
    """One line of printable characters, at most 300."""
    return one_line(text)[:300]
