# SPDX-License-Identifier: Apache-2.0
"""What the fleet asks of its store: nouns, and the few calls; `session.py` makes them to ZooKeeper.

A write either was done, or was refused and did nothing, or nobody knows: it may have been done, or may be done later
still. So every write of the fleet can be repeated or is tied to a version.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

ANY = -1  # version that is not looked at


class Link(StrEnum):
    """How the session stands."""

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"  # the connection is lost, the session may live on
    LOST = "LOST"  # the session is over, and all its ephemeral nodes with it; or there was none yet


class Why(StrEnum):
    """Why the store said no."""

    ABSENT = "there is no such node"
    EXISTS = "there is such a node already"
    VERSION = "it was changed meanwhile"
    NOT_EMPTY = "it has children"
    FORBIDDEN = "this client has no right to"
    OTHER = "the server refuses"


class Refused(Exception):
    """The store said no, and did nothing."""

    def __init__(self, why: Why, path: str, more: str = "") -> None:
        super().__init__(f"{path}: {more or why}")
        self.why = why
        self.path = path


class Unreachable(Exception):
    """The store was not asked, or did not answer a question: one line that says why."""


class Unsure(Unreachable):
    """The store was asked for a change and did not answer: it may have been done, or may be done later still."""


class Right(NamedTuple):
    """Who may do what with a node: of the letters c (create children), d (delete them), r, w, a (these rights)."""

    scheme: str
    id: str
    may: str


class Node(NamedTuple):
    """A node that was read."""

    value: bytes
    version: int
    owner: int  # session whose end is the node's too; 0: it stays
    written_ms: int  # epoch ms by the store's clock
    created: int  # grows with each node that is created anywhere
    children: int = 0


class Create(NamedTuple):
    """A part of a change: a new node."""

    path: str
    value: bytes
    rights: tuple[Right, ...]
    ephemeral: bool = False


class Put(NamedTuple):
    """A part of a change: another value."""

    path: str
    value: bytes
    version: int = ANY


class Delete(NamedTuple):
    """A part of a change: a node goes."""

    path: str
    version: int = ANY


Part = Create | Put | Delete


class Store(Protocol):
    """Every call ends within its deadline. Raises Unreachable where it cannot be made."""

    @property
    def id(self) -> int:
        """Of the session; 0: there is none now."""

    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | Why]:
        """The nodes, or why not. watch: the next change or end of each is told, once."""

    def children(self, paths: Sequence[str], watch: bool = False) -> list[tuple[str, ...] | Why]:
        """The names below them. watch: the next coming or going of one is told, once."""

    def write(self, *parts: Part) -> None:
        """All of it or nothing. Raises Refused for the part that could not be, or Unsure."""
