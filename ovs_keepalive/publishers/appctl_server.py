# SPDX-License-Identifier: Apache-2.0
"""The control socket: what `ovs-appctl -t ovs-keepalive` is answered. Text, or JSON when asked for.

Whoever may connect may also flood it. Connections, the size of a request and the answers of one turn are bounded, so
that the main loop always comes back to the columns. (python-ovs's own server bounds none of them, and reads a request
without an end for ever.)
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import ovs.jsonrpc
import ovs.poller
import ovs.stream
import ovs.unixctl
import ovs.unixctl.server
import ovs.util
import ovs.vlog

from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats.plain import json_text, one_line, sound

log = ovs.vlog.Vlog("appctl")

CONNECTIONS = 256  # at once; one more, and the one that has been quiet for the longest time is closed
QUEUE = 1024  # that the kernel keeps until they are accepted; to one more a client that does not wait gets EAGAIN
LARGEST = 16384  # bytes of a request
ANSWERS = 8  # in one turn of the main loop
KNOWS_JSON = object()  # of a command that takes --json itself
AGAIN = 1.0  # seconds until a connection is accepted again that could not be
# Of the log, by vlog/set. A date with a width is not one: python-ovs takes it for a date, and then for none.
PATTERN = re.compile(r"(?!.*%[0-9]+[dD])[\w %{}:#|,./-]{0,200}", re.ASCII)


class Refusal(Exception):
    """The command cannot be answered: one line that says why and what to do."""


class Answer:
    """One answer in both forms. Only the one that is asked for is made."""

    def __init__(self, text: Callable[[], str], document: Callable[[], Any]) -> None:
        self.text = text
        self.document = document


Command = Callable[[list[str]], Answer]


class _Bad(Exception):
    """The peer speaks no JSON-RPC, or too much of it: why."""


class _Half(Exception):
    """The request is not all there yet."""


class _Request(msgspec.Struct):
    method: str
    params: list[object]
    id: object


_DECODER = msgspec.json.Decoder(_Request)


class Connection(ovs.unixctl.server.UnixctlConnection):  # type: ignore[misc]  # python-ovs carries no types
    """One client. Its requests are answered one after the other; while it does not read its answer none is read."""

    def __init__(self, stream: ovs.stream.Stream) -> None:  # not its parent's, which knows no bounds
        self._stream = stream
        self._received = self._to_send = b""
        self._request: _Request | None = None  # read, not answered yet
        self._request_id: object = None
        self._fmt = ovs.unixctl.UnixctlOutputFormat.TEXT
        self._as_json = False  # --json stood behind a command that only knows text

    @property
    def asks(self) -> bool:
        """Whether a request waits for its answer."""
        return self._request is not None and not self._to_send

    @property
    def wants_json(self) -> bool:
        """Whether it asked for JSON."""
        return bool(self._fmt == ovs.unixctl.UnixctlOutputFormat.JSON)

    def form(self, name: str) -> None:
        """Answer in this form from now on, as `ovs-appctl --format` of OVS 3.4 and later asks before its command."""
        self._fmt = ovs.unixctl.UnixctlOutputFormat[name]

    def go_on(self) -> bool:
        """Send or read what is possible now; True if anything was. Raises _Bad, or OSError for its end."""
        if self._to_send:
            return self._send()
        if self._request is not None:
            return False
        error, data = self._stream.recv(LARGEST)
        if error == errno.EAGAIN:
            return False
        if error or not data:
            raise OSError(error, "it hung up")
        self._received += data
        self.take_request()
        return True

    def _send(self) -> bool:
        sent = self._stream.send(self._to_send)
        if sent < 0 and sent != -errno.EAGAIN:
            raise OSError(-sent, os.strerror(-sent))
        self._to_send = self._to_send[max(sent, 0) :]
        return bool(sent > 0)

    def finish(self) -> None:
        """Send what is left of an answer, as far as it goes now: after `exit` there is no other turn."""
        if self._to_send:
            self._send()

    def answer(self) -> None:
        """Answer the request that waits. Raises whatever its command does."""
        request, self._request = self._request, None
        if request is not None:
            command, params = ovs.unixctl.commands.get(request.method), request.params
            knows = command is None or command.aux is KNOWS_JSON
            self._as_json = not knows and params[-1:] == ["--json"]
            words = request.method, params[:-1] if self._as_json else params, None, None, request.id
            self._request_id = request.id
            self._process_command(ovs.jsonrpc.Message(ovs.jsonrpc.Message.T_REQUEST, *words))

    def reply(self, body: str | None) -> None:
        """Answer with text, which in JSON is what `ovs-appctl --format json` makes of it for every daemon of OVS."""
        if self._as_json and not self.wants_json:
            body = json_text({"reply-format": "plain", "reply": body or ""})
        super().reply(body)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for it."""
        if self._to_send:
            self._stream.send_wait(poller)
        elif self._request is not None:
            poller.immediate_wake()
        else:
            self._stream.recv_wait(poller)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def take_request(self) -> None:
        """Look for the next request in what has come. Raises _Bad."""
        text = self._received = self._received.lstrip()
        if not text:
            return
        try:
            request, end = _first(text)
        except _Half:
            if len(text) > LARGEST:
                raise _Bad(f"a request of more than {LARGEST} bytes") from None
            return
        if request.id is None:
            raise _Bad("a request without an id")
        self._request, self._received = request, text[end:]

    def _reply_impl_json(self, success: bool, body: object) -> None:
        reply = {"id": self._request_id, "result": body if success else None, "error": None if success else body}
        self._to_send = json.dumps(reply).encode()


def _first(text: bytes) -> tuple[_Request, int]:
    """The first request, and where it ends. Raises _Half while there is no end, _Bad if it is none."""
    try:
        return _DECODER.decode(text), len(text)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise _Half from error
    except (ValueError, RecursionError) as error:  # no UTF-8, or nested a thousand times
        raise _Bad(f"no JSON-RPC request: {text[:40]!r}") from error
    try:  # it may be followed by another one; read as Latin-1 a character is a byte
        end = json.JSONDecoder().raw_decode(text.decode("latin-1"))[1]
        return _DECODER.decode(text[:end]), end
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _Bad(f"no JSON-RPC request: {text[:40]!r}") from error


def _listen(path: str) -> ovs.stream.PassiveStream:
    """Raises OSError."""
    error, listener = ovs.stream.PassiveStream.open(f"punix:{path}")
    if error:
        raise OSError(error, os.strerror(error), path)
    listener.socket.listen(QUEUE)
    return listener


class AppctlServer:
    """Serves commands on one control socket. run() and wait() belong to the main loop."""

    def __init__(self, path: str, version: str) -> None:
        """Listen at once. path: of the socket. Raises OSError when that is not possible."""
        self._connections: list[Connection] = []  # the one that has been quiet for the longest time first
        self._pause = 0.0  # seconds for which no connection can be accepted
        self._repeats = Repeats()
        for name, usage, least, most, callback, aux in (
            ("version", "", 0, 0, _version, version),
            # python-ovs's own ends the process when it does not understand its argument.
            ("set-options", "[--format text|json]", 1, 2, _set_options, None),
            ("list-commands", "", 0, 0, ovs.unixctl.commands["help"].callback, None),  # its name in every OVS daemon
        ):
            ovs.unixctl.command_register(name, usage, least, most, callback, aux)
        if (vlog_set := ovs.unixctl.commands.get("vlog/set")) is not None:  # once the log is open
            vlog_set.callback = _guarded(vlog_set.callback)
        self._path = path
        self._listener = _listen(path)
        self._inherited: ovs.stream.PassiveStream | None = None  # of the daemon before, for those who still seek it
        self._forsaken = 0.0  # monotonic: when that one goes
        self.rests = False  # accept nobody for the time being; whoever was accepted is answered

    def register(self, name: str, usage: str, least: int, most: int, command: Command) -> None:
        """Answer `name` with this command; `--json` as a further, last argument asks for JSON."""

        def callback(connection: Connection, arguments: Sequence[str], _aux: object) -> None:
            _reply(connection, command, list(arguments), most)

        ovs.unixctl.command_register(name, usage, least, most + 1, callback, KNOWS_JSON)

    @property
    def is_there(self) -> bool:
        """Whether its socket still lies where it was put."""
        return Path(self._path).is_socket()

    def listen_anew(self) -> None:
        """Put the socket there again. Raises OSError when that is not possible; nothing has changed then."""
        before, self._listener = self._listener, _listen(self._path)
        before.bind_path = None  # the path is the new one's
        before.close()

    @property
    def listener(self) -> socket.socket:
        """For a successor."""
        listening: socket.socket = self._listener.socket
        return listening

    def adopt(self, listener: socket.socket, path: str, until: float) -> None:
        """Answer at the socket of the daemon before as well, until then (monotonic)."""
        listener.setblocking(False)
        self._inherited, self._forsaken = ovs.stream.PassiveStream(listener, f"punix:{path}", path), until

    def run(self, now: float) -> None:
        """Answer what has come. now: monotonic seconds."""
        if self._inherited is not None:
            self._accept(self._inherited, now)
            if now >= self._forsaken:
                self._inherited.close()
                self._inherited = None
        self._accept(self._listener, now)
        answers = 0
        for connection in list(self._connections):
            try:
                active = connection.go_on()
                if connection.asks and answers < ANSWERS:
                    answers += 1
                    active = True
                    self._answer(connection, now)
                    connection.finish()
                if active:
                    self._connections.remove(connection)
                    self._connections.append(connection)
            except _Bad as bad:
                self._warn("bad", f"control socket: a client sent {bad}: closed", now)
                self._drop(connection)
            except OSError:  # it has seen enough
                self._drop(connection)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for requests."""
        if self._pause:
            poller.timer_wait(round(self._pause * 1000))
        elif not self.rests:
            self._listener.wait(poller)
            if self._inherited is not None:
                self._inherited.wait(poller)
        for connection in self._connections:
            connection.wait(poller)

    def close(self) -> None:
        """Stop to listen and remove the socket."""
        for connection in list(self._connections):
            self._drop(connection)
        self._listener.close()
        if self._inherited is not None:
            self._inherited.close()

    def _accept(self, listener: ovs.stream.PassiveStream, now: float) -> None:
        self._pause = 0.0
        for _ in range(0 if self.rests else CONNECTIONS):
            error, stream = listener.accept()
            if error in (errno.EAGAIN, errno.ECONNABORTED):
                return
            if error:
                self._pause = AGAIN
                self._warn("full", f"control socket: no connection can be accepted: {os.strerror(error)}", now)
                if self._connections:
                    self._drop(self._connections[0])
                return
            if len(self._connections) == CONNECTIONS:
                why = f"control socket: more than {CONNECTIONS} connections: the quietest one is closed"
                self._warn("many", why, now)
                self._drop(self._connections[0])
            self._connections.append(Connection(stream))

    def _answer(self, connection: Connection, now: float) -> None:
        try:
            connection.answer()
        except Refusal as refusal:
            connection.reply_error(f"{one_line(str(refusal))}\n")
        except Exception as error:
            # An exception here would end the main loop.
            if self._warn("failed", f"a command failed: {type(error).__name__}: {error}", now):
                log.exception("a command failed")
            connection.reply_error(f"{one_line(f'failed: {error}: see the log of ovs-keepalive')}\n")
        connection.take_request()  # the next one may have come with it

    def _warn(self, kind: str, text: str, now: float) -> bool:
        line = self._repeats.line(kind, text, now)
        if line is not None:
            log.warn(line)
        return line is not None

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._connections.remove(connection)


def _version(connection: Connection, _arguments: Sequence[str], version: str) -> None:
    connection.reply(f"{ovs.util.PROGRAM_NAME} (Open vSwitch) {version}")


def _guarded(vlog_set: Callable[..., None]) -> Callable[..., None]:
    """vlog/set, but for patterns of the log at which python-ovs fails each time that it logs: it takes what is in the
    braces of %D{…} for a regular expression, and knows the time of no %D that has a width.
    """

    def callback(connection: Connection, arguments: Sequence[str], aux: object) -> None:
        wrong = [spec for spec in arguments if spec.startswith("pattern") and not PATTERN.fullmatch(spec)]
        if wrong:
            allowed = "only letters, digits and %{}:#|,./- can be in a pattern, and no %D with a width"
            raise Refusal(f"{wrong[0]!r}: {allowed}")
        vlog_set(connection, arguments, aux)

    return callback


def _set_options(connection: Connection, arguments: Sequence[str], _aux: object) -> None:
    name, _, value = "=".join(arguments).partition("=")
    if name != "--format" or value.upper() not in ovs.unixctl.UnixctlOutputFormat.__members__:
        raise Refusal(f"{' '.join(arguments)[:60]!r} is no option: there are --format text and --format json")
    connection.form(value.upper())
    connection.reply(None)


def _reply(connection: Connection, command: Command, arguments: list[str], most: int) -> None:
    as_json = bool(arguments) and arguments[-1] == "--json"
    if as_json:
        arguments.pop()
    if len(arguments) > most:
        raise Refusal(f"takes at most {most} arguments, and --json as the last")
    answer = command(arguments)
    if connection.wants_json:
        connection.reply_json(sound(answer.document(), one_line))  # which ovs-appctl prints as it comes
    elif as_json:
        connection.reply(json_text(answer.document()))
    else:
        connection.reply(answer.text())
