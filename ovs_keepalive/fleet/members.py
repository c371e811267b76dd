# SPDX-License-Identifier: Apache-2.0
"""A node's own place in the store: `live`, `known` and `alert`, written together.

A restart is often faster than the end of the old session: then the old `live` is still there, and would vanish under
the new process minutes later. So another session's is replaced, in one transaction. Two agents by one name would do
that to each other without end: the later one wins, the earlier one is told so.
"""

from __future__ import annotations

from ovs_keepalive.core.fleet import QUIET, Known, Member
from ovs_keepalive.core.telling import settled
from ovs_keepalive.fleet.store import Create, Delete, Node, Part, Put, Refused, Store, Unreachable, Why
from ovs_keepalive.fleet.tree import Tree, make
from ovs_keepalive.formats import fleet

TRIES = 3  # at a transaction that somebody came in between


class Rivalled(Exception):
    """Another agent goes by this host's name: one line."""


class Membership:
    """The place of one host."""

    def __init__(self, store: Store, tree: Tree, host: str) -> None:
        self.host = host
        self._store = store
        self._tree = tree
        self._session = 0  # whose `live` we made
        self._last: Member | None = None  # that stands there for certain
        self._first_ms = 0

    def tell(self, member: Member) -> None:
        """Write it: all three where the state changed, else the numbers. Raises Refused, Rivalled, Unreachable.

        What was not answered may have been done: the next telling reads what stands there before it writes.
        """
        last, self._last = self._last, None
        if last is not None and _gist(last) == _gist(member) and self._renew(member):
            self._last = member
            return
        for left in reversed(range(TRIES)):
            try:
                self._write_all(member)
            except Refused as refused:
                emptied = refused.why is Why.ABSENT and not left  # no race: there is nothing that it could stand in
                if emptied or refused.why not in (Why.ABSENT, Why.EXISTS, Why.VERSION):
                    raise
            else:
                self._last = member
                return
        raise Unreachable(f"{self._tree.live(self.host)}: changed by others in between, {TRIES} times")

    def leave(self) -> None:
        """Take `live` and `alert` away, if they are ours: an orderly end. Raises Refused, Unreachable."""
        paths = [self._tree.live(self.host), self._tree.alert(self.host)]
        self._last = None
        mine = [path for path, node in self._read(paths).items() if node.owner == self._store.id]
        if mine:
            self._store.write(*(Delete(path) for path in mine))

    def _renew(self, member: Member) -> bool:
        """Numbers only, where `live` is ours; whether it is."""
        path = self._tree.live(self.host)
        live = self._read([path]).get(path)
        if live is None or live.owner != self._store.id:
            return False
        try:
            self._store.write(Put(path, fleet.member_bytes(member), live.version))
        except Refused as refused:
            if refused.why not in (Why.ABSENT, Why.VERSION):
                raise
            return False
        return True

    def _write_all(self, member: Member) -> None:
        tree, id = self._tree, self._store.id
        live, known, alert = tree.live(self.host), tree.known(self.host), tree.alert(self.host)
        there = self._read([live, known, alert, tree.host(self.host)])
        if tree.host(self.host) not in there:
            make(self._store, Create(tree.host(self.host), b"", tree.rights()))
        self._refuse_a_rival(there.get(live), id)
        document = fleet.member_bytes(member)
        first_ms = self._first(there.get(known), member)
        record = fleet.known_bytes(Known(first_ms, member.t, member))
        parts: list[Part] = [*_ephemeral(live, there.get(live), document, id, tree)]
        parts += [Put(known, record) if known in there else Create(known, record, tree.rights())]
        if member.state not in QUIET:
            parts += _ephemeral(alert, there.get(alert), member.state.encode(), id, tree)
        elif alert in there:
            parts += [Delete(alert, there[alert].version)]
        self._store.write(*parts)
        self._session, self._first_ms = id, first_ms

    def _read(self, paths: list[str]) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for path, node in zip(paths, self._store.read(paths), strict=True):
            if isinstance(node, Node):
                found[path] = node
            elif node is not Why.ABSENT:
                raise Refused(node, path)
        return found

    def _refuse_a_rival(self, live: Node | None, id: int) -> None:
        if live is not None and live.owner != id and self._session == id:
            raise Rivalled(
                f"another agent calls itself {self.host} and has taken its place: give each host a name of its own"
            )

    def _first(self, known: Node | None, member: Member) -> int:
        """When the host first joined, in epoch ms."""
        if self._first_ms or known is None:
            return self._first_ms or member.t
        try:
            return fleet.known(known.value, self.host).first_ms
        except ValueError:  # of a later version, or no document of ours: what is right now replaces it
            return member.t


def forget(store: Store, tree: Tree, host: str) -> None:
    """Let a host that has no session be forgotten. Raises Refused, Unreachable, ValueError."""
    [live] = store.read([tree.live(host)])
    if _is_there(live):
        raise ValueError(f"{host} is a member now: stop its fleet agent first")
    found = store.read([tree.known(host), tree.host(host)])
    there = [path for path, node in zip((tree.known(host), tree.host(host)), found, strict=True) if _is_there(node)]
    if not there:
        raise ValueError(f"{host}: no such host is known in cell {tree.cell}")
    store.write(*(Delete(path) for path in there))


def _is_there(node: Node | Why) -> bool:
    return isinstance(node, Node)


def _gist(member: Member) -> tuple[object, ...]:
    """What stands in `known` and `alert` as well."""
    return (member.state, member.since, member.boot, tuple((pmd.core, settled(pmd.state)) for pmd in member.pmds))


def _ephemeral(path: str, there: Node | None, value: bytes, id: int, tree: Tree) -> list[Part]:
    """The node with this value, of this session whatever was there."""
    if there is not None and there.owner == id:
        return [Put(path, value, there.version)]
    gone: list[Part] = [Delete(path, there.version)] if there is not None else []
    return [*gone, Create(path, value, tree.rights(), ephemeral=True)]
