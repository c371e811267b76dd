# SPDX-License-Identifier: Apache-2.0
"""A store in memory with the laws of ZooKeeper's that the fleet goes by: for what is decided on top of it."""

from __future__ import annotations

from collections.abc import Sequence

from ovs_keepalive.fleet.session import News
from ovs_keepalive.fleet.store import ANY, Create, Delete, Link, Node, Part, Put, Refused, Unreachable, Unsure, Why


class Ensemble:
    """The nodes, which several sessions share."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.clock_ms = 1_795_238_339_792
        self.writes = 0
        self._zxid = 0
        self._sessions: list[MemoryStore] = []

    def empty(self) -> None:
        """Delete everything, as `deleteall /` does."""
        self.change(0, [Delete(path) for path in sorted(self.nodes, key=len, reverse=True)])

    def session(self) -> MemoryStore:
        """A new one."""
        self._sessions.append(MemoryStore(self, len(self._sessions) + 1))
        return self._sessions[-1]

    def expire(self, session: MemoryStore) -> None:
        """End a session: its nodes go."""
        for path, node in list(self.nodes.items()):
            if node.owner == session.id:
                del self.nodes[path]
                self._ring(path, deleted=True)
        session.is_over = True

    def change(self, owner: int, parts: Sequence[Part]) -> None:
        """All of it or nothing. Raises Refused."""
        before = dict(self.nodes)
        self._zxid += 1
        try:
            for part in parts:
                self._apply(owner, part)
        except Refused:
            self.nodes = before
            raise
        self.writes += 1
        for part in parts:
            self._ring(part.path, deleted=isinstance(part, Delete), data=isinstance(part, Put))

    def below(self, path: str) -> tuple[str, ...]:
        """The names of its children."""
        return tuple(name.rpartition("/")[2] for name in self.nodes if name.rpartition("/")[0] == path)

    def _apply(self, owner: int, part: Part) -> None:
        there = self.nodes.get(part.path)
        if isinstance(part, Create):
            parent = part.path.rpartition("/")[0]
            if parent and parent not in self.nodes:
                raise Refused(Why.ABSENT, part.path)
            if there is not None:
                raise Refused(Why.EXISTS, part.path)
            self.nodes[part.path] = Node(part.value, 0, owner if part.ephemeral else 0, self.clock_ms, self._zxid)
            return
        if there is None:
            raise Refused(Why.ABSENT, part.path)
        if part.version not in (ANY, there.version):
            raise Refused(Why.VERSION, part.path)
        if isinstance(part, Put):
            self.nodes[part.path] = there._replace(
                value=part.value, version=there.version + 1, written_ms=self.clock_ms
            )
        elif self.below(part.path):
            raise Refused(Why.NOT_EMPTY, part.path)
        else:
            del self.nodes[part.path]

    def _ring(self, path: str, deleted: bool = False, data: bool = False) -> None:
        rung = {(path, "data")}
        rung |= set() if data else {(path.rpartition("/")[0], "children")}
        rung |= {(path, "children")} if deleted else set()
        for session in self._sessions:
            session.changed |= {watched for watched, _ in session.watched & rung}
            session.watched -= rung


class MemoryStore:
    """A session."""

    problem = ""

    def __init__(self, ensemble: Ensemble, id: int) -> None:
        self.id = id
        self.ensemble = ensemble
        self.is_over = False
        self.lose = 0  # so many answers of changes get lost; what was asked is done
        self.watched: set[tuple[str, str]] = set()
        self.changed: set[str] = set()
        self.links: list[Link] = [Link.CONNECTED]

    def read(self, paths: Sequence[str], watch: bool = False) -> list[Node | Why]:
        """The nodes, or why not."""
        self._check()
        nodes = self.ensemble.nodes
        found = [path for path in paths if path in nodes]
        self.watched |= {(path, "data") for path in found if watch}
        return [
            nodes[path]._replace(children=len(self.ensemble.below(path))) if path in nodes else Why.ABSENT
            for path in paths
        ]

    def children(self, paths: Sequence[str], watch: bool = False) -> list[tuple[str, ...] | Why]:
        """The names below them."""
        self._check()
        self.watched |= {(path, "children") for path in paths if watch and path in self.ensemble.nodes}
        return [self.ensemble.below(path) if path in self.ensemble.nodes else Why.ABSENT for path in paths]

    def write(self, *parts: Part) -> None:
        """All of it or nothing."""
        self._check()
        self.ensemble.change(self.id, parts)
        if self.lose:
            self.lose -= 1
            raise Unsure("nobody answered")

    def news(self) -> News:
        """What happened since the last asking."""
        news = News(tuple(self.links), frozenset(self.changed))
        self.links.clear()
        self.changed.clear()
        return news

    def stop(self) -> None:
        """End the session."""
        self.ensemble.expire(self)

    def is_doubtful(self, now: float) -> bool:
        """Whether it may be over without anybody's knowing."""
        return False

    def _check(self) -> None:
        if self.is_over:
            raise Unreachable("the session is over")
