# SPDX-License-Identifier: Apache-2.0
"""The session with ZooKeeper, through kazoo, which only this file and `wire.py` know.

kazoo's own calls wait without limit while there is no quorum, and its threads call back: here every call has a
deadline, and callbacks only note what happened and ring.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState
from kazoo.security import make_acl

from ovs_keepalive.fleet.store import Create, Delete, Link, Node, Part, Refused, Right, Unreachable, Unsure, Why
from ovs_keepalive.fleet.wire import Handler, Listening, Tls, context_of, secret_of
from ovs_keepalive.formats import servers
from ovs_keepalive.formats.plain import one_line

DEADLINE = 5.0  # seconds of a call
WINDOW = 64  # questions under way at a time: of 280 that kazoo has not taken the next one would block
REVIVE = 5.0  # seconds after which a client that gave up is made anew
_REASONS = {
    NoNodeError: Why.ABSENT,
    NodeExistsError: Why.EXISTS,
    BadVersionError: Why.VERSION,
    NotEmptyError: Why.NOT_EMPTY,
    NoAuthError: Why.FORBIDDEN,
}
_UNANSWERED = (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooTimeoutError,
    OperationTimeoutError,
    SessionExpiredError,
)
_GAVE_UP = (KeeperState.CLOSED, KeeperState.AUTH_FAILED)


class Options(NamedTuple):
    """How the store is reached."""

    servers: str  # HOST:PORT,…
    timeout: float = 10.0  # seconds after which a session that is not heard of is over; a server may grant less
    tls: Tls | None = None
    digest: str = ""  # file with USER:PASSWORD, readable by nobody else
    insecure: bool = False  # a plain connection to anything but this host is allowed


class News(NamedTuple):
    """What happened since the last asking."""

    links: tuple[Link, ...]  # oldest first
    changed: frozenset[str]  # paths whose watch was called; one that was lost with a connection counts as called


class Session:
    """One session after the other. One thread makes the calls."""

    def __init__(self, options: Options, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        """clock: monotonic seconds. ring: is called, from any thread, when there is news. Raises ValueError."""
        self.options = options
        self.link = Link.LOST
        self.link_since = clock()
        self.problem = ""  # the newest trouble with the connection, in words
        self._clock = clock
        self._ring = ring
        self._hosts = _hosts(options)
        self._auth = [("digest", secret_of(Path(options.digest)))] if options.digest else []
        if options.tls is not None:
            context_of(options.tls)
        self._guard = threading.Lock()
        self._links: list[Link] = []
        self._changed: set[str] = set()
        self._logger = Listening(self._note, self._grant)
        self._timeout = options.timeout  # that was asked for, or granted if that is less
        self._client: Any = None
        self._gave_up_at: float | None = None

    @property
    def id(self) -> int:
        """Of the session; 0: there is none now."""
        client_id = self._client.client_id if self._client is not None else None
        return int(client_id[0]) if client_id else 0

    def start(self) -> None:
        """Begin to connect, and go on trying."""
        self._client = KazooClient(
            self._hosts,
            timeout=self.options.timeout,
            handler=Handler(self.options.tls, self._note),
            auth_data=self._auth,
            # Fail early and retry often: a server that hangs costs a third of the session's timeout with three of them.
            connection_retry={"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 2.0, "max_jitter": 0.4},
            logger=self._logger,
        )
        self._client.add_listener(self._told)
        self._client.start_async()

    def stop(self, seconds: float = DEADLINE) -> None:
        """End the session: its ephemeral nodes go at once, if the server can be told. Waits so long at most."""
        client, self._client = self._client, None
        if client is not None:
            _stop(client, seconds)

    def news(self) -> News:
        """Take what happened; to be asked at each turn of the main loop."""
        self._revive()
        with self._guard:
            news = News(tuple(self._links), frozenset(self._changed))
            self._links.clear()
            self._changed.clear()
        return news

    def is_doubtful(self, now: float) -> bool:
        """Whether the session may be over without our knowing, so that what it holds may be another's.

        A connection that hangs is given up after two thirds of the timeout that the server granted: a third is left.
        """
        return self.link is not Link.CONNECTED and now - self.link_since >= self._timeout / 3

    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | Why]:
        """The nodes, or why not. watch: the next change or end of each is told, once. Raises Unreachable."""
        found = self._ask(paths, lambda client, path: client.get_async(path, self._rang if watch else None))
        return [one if isinstance(one, Why) else _node(*one) for one in found]

    def children(self, paths: Sequence[str], watch: bool = False) -> list[tuple[str, ...] | Why]:
        """The names below them. watch: the next coming or going of one is told, once. Raises Unreachable."""
        found = self._ask(paths, lambda client, path: client.get_children_async(path, self._rang if watch else None))
        return [one if isinstance(one, Why) else tuple(one) for one in found]

    def write(self, *parts: Part) -> None:
        """All of it or nothing. Raises Refused for the part that could not be, Unreachable or Unsure."""
        transaction = self._connected().transaction()
        for part in parts:
            match part:
                case Create(path, value, rights, ephemeral):
                    transaction.create(path, value, acl=[_acl(right) for right in rights], ephemeral=ephemeral)
                case Delete(path, version):
                    transaction.delete(path, version)
                case _:
                    transaction.set_data(part.path, part.value, part.version)
        try:
            results = transaction.commit_async().get(timeout=DEADLINE)
        except _UNANSWERED as error:
            raise Unsure(self._words(error)) from error
        except KazooException as error:
            raise _refused(error, parts[0].path) from error
        rolled_back = (RolledBackError, RuntimeInconsistency)
        failed = [(result, part) for result, part in zip(results, parts, strict=False) if isinstance(result, Exception)]
        for result, part in failed:
            if not isinstance(result, rolled_back):
                raise _refused(result, part.path)
        if failed or len(results) != len(parts):
            raise Refused(Why.OTHER, parts[0].path)

    def _ask(self, paths: Sequence[str], question: Callable[[Any, str], Any]) -> list[Any]:
        """The answers in the order of the questions, of which some are under way at a time."""
        client = self._connected()
        until = self._clock() + DEADLINE + len(paths) * DEADLINE / 1000
        under_way: deque[Any] = deque()
        answers: list[Any] = []
        for path in paths:
            if len(under_way) >= WINDOW:
                answers.append(self._answer(under_way.popleft(), until))
            under_way.append(question(client, path))
        answers += [self._answer(one, until) for one in under_way]
        return answers

    def _answer(self, result: Any, until: float) -> Any:
        left = min(DEADLINE, until - self._clock())
        if left <= 0.0:
            raise Unreachable(f"{self._hosts} answers too slowly")
        try:
            return result.get(timeout=left)
        except _UNANSWERED as error:
            raise Unreachable(self._words(error)) from error
        except KazooException as error:
            return _REASONS.get(type(error), Why.OTHER)

    def _connected(self) -> Any:
        if self._client is None or not self._client.connected:
            raise Unreachable(f"no connection to {self._hosts}{self.problem and ': '}{self.problem}")
        return self._client

    def _words(self, error: Exception) -> str:
        if isinstance(error, KazooTimeoutError):
            return f"{self._hosts} did not answer within {DEADLINE:.0f} s"
        return f"the connection to {self._hosts} was lost{self.problem and ': '}{self.problem}"

    def _told(self, state: str) -> None:
        """Of kazoo's threads: how the connection stands now."""
        with self._guard:
            self.link, self.link_since = Link(state), self._clock()
            if self.link is Link.CONNECTED:
                self.problem = ""
            self._links.append(self.link)
            del self._links[:-100]  # whoever does not ask needs no more than that
        self._ring()

    def _rang(self, event: Any) -> None:
        """Of kazoo's threads: a watch. One without a path went with the connection; the link tells of it."""
        if event.path is not None:
            with self._guard:
                self._changed.add(event.path)
            self._ring()

    def _note(self, text: str) -> None:
        self.problem = one_line(text)

    def _grant(self, seconds: float) -> None:
        self._timeout = min(self.options.timeout, seconds)

    def _revive(self) -> None:
        """A refused login, or an answer that no server sends, ends kazoo's thread for good."""
        if self._client is None or self._client.client_state not in _GAVE_UP:
            self._gave_up_at = None
        elif self._gave_up_at is None:
            self._gave_up_at = self._clock()
        elif self._clock() - self._gave_up_at >= REVIVE:
            self._gave_up_at = None
            _stop(self._client, DEADLINE)
            self.start()


def _stop(client: Any, seconds: float) -> None:
    """kazoo waits for a server that hangs; we do not. Its threads are daemons."""

    def stop() -> None:
        with suppress(KazooException):  # it waited for its thread in vain: a daemon, as this one is
            client.stop()
            client.close()

    ending = threading.Thread(target=stop, name="zookeeper-stop", daemon=True)
    ending.start()
    ending.join(seconds)


def _hosts(options: Options) -> str:
    """The servers as kazoo takes them. Raises ValueError."""
    listed = servers.parse(options.servers)
    if options.tls is None and not options.insecure:
        for server in listed:
            if not server.is_loopback:
                raise ValueError(
                    f"{server}: a plain connection would leave this host: set certificate, key and CA, or allow it"
                )
    return ",".join(map(str, listed))


def _node(value: bytes | None, stat: Any) -> Node:
    return Node(value or b"", stat.version, stat.ephemeralOwner, stat.mtime, stat.czxid, stat.numChildren)


def _acl(right: Right) -> Any:
    letters = {"c": "create", "d": "delete", "r": "read", "w": "write", "a": "admin"}
    return make_acl(right.scheme, right.id, **{letters[letter]: True for letter in right.may})


def _refused(error: Exception, path: str) -> Refused:
    return Refused(_REASONS.get(type(error), Why.OTHER), path, "" if type(error) in _REASONS else type(error).__name__)
