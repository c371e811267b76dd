# SPDX-License-Identifier: Apache-2.0
"""Requests for help, of which each is claimed by one node at a time and completed once in the record.

    claim    = the request's version grows, which is the fence, and two ephemeral nodes come: one by the request's
               name, that shuts others out, and one below the claimer, by the claim's token
    complete = both go, the request of that version goes, a record comes
    giveback = both go, the request of that version says why

All of it happens or none. A claimer whose session ended has lost its token: what it completes late is refused, also if
the request was withdrawn and posted anew and its versions begin again. The record is made once; what a claimer does
outside the store (a hook) may happen twice.
"""

from __future__ import annotations

from collections.abc import Collection

from ovs_keepalive.core.fleet import Claim, Done, Held, Help, parts_of
from ovs_keepalive.fleet.store import Create, Delete, Node, Part, Put, Refused, Store, Why
from ovs_keepalive.fleet.tree import MARK, Tree, make
from ovs_keepalive.fleet.watch import asked
from ovs_keepalive.formats import fleet

KEPT = 1000  # records, the newest
SLACK = 100  # more before the oldest are pruned


class Claims:
    """The requests of a cell, as one host posts and claims them."""

    def __init__(self, store: Store, tree: Tree, host: str) -> None:
        self.host = host
        self._store = store
        self._tree = tree
        self._planted = False  # our own place in the tree is there

    def post(self, request: Help) -> bool:
        """Ask for help; False: there is such a request already. Raises Refused (ABSENT: no such cell), Unreachable."""
        fleet.kind_name(request.kind)
        node = Create(self._tree.help(request.id), fleet.request_bytes(request), self._tree.rights("rw"))
        try:
            self._store.write(node)
        except Refused as refused:
            if refused.why is Why.EXISTS:
                return False
            raise
        return True

    def requests(self) -> dict[str, tuple[Help, int]]:
        """Each request and its version. Those that cannot be read are left out. Raises Unreachable."""
        found, _ = asked(self._store, self._tree)
        return {id: (one.help, one.version) for id, one in found.items()}

    def withdraw(self, id: str, version: int) -> bool:
        """Take a request back, as it was read; False: it was claimed, changed or done meanwhile."""
        return self._wins(Delete(self._tree.help(id), version))

    def claim(self, request: Help, version: int, token: str, t: int) -> Held | None:
        """Claim it, as it was read; None: another one was first. t: epoch ms. Raises Refused, Unreachable, and
        Unsure: then `resolve` with the same token tells, and `strays` later, should it be done late.
        """
        if request.is_stuck:
            return None
        self._plant()
        claimed = request._replace(n=request.n + 1, by=self.host)
        claim = fleet.claim_bytes(Claim(self.host, token, t))
        mark, rights = request.id.encode(), self._tree.rights()
        won = self._wins(
            Put(self._tree.help(request.id), fleet.request_bytes(claimed), version),
            Create(self._tree.claim(request.id), claim, rights, ephemeral=True),
            Create(self._tree.hold(self.host, token), mark, rights, ephemeral=True),
        )
        self._planted = won  # one that was forgotten has no place any more
        return Held(claimed, token, version + 1) if won else None

    def resolve(self, id: str, token: str) -> Held | None:
        """Whether a claim of which nobody answered is ours, and of this session. Raises Unreachable."""
        claim, request = self._store.read([self._tree.claim(id), self._tree.help(id)])
        if not self._is_ours(claim, id, token) or not isinstance(request, Node):
            return None
        try:
            return Held(fleet.request(request.value, *parts_of(id)), token, request.version)
        except ValueError:  # somebody wrote over it
            return None

    def complete(self, held: Held, result: str, at: int) -> bool:
        """Record it as done; False: it is not ours any more. at: epoch ms. Raises Refused, Unreachable, Unsure."""
        host, kind, why, t, n, *_ = held.help
        done = Done(host, kind, why, t, n, self.host, held.tok, held.fence, at, result)
        record = Create(self._tree.done(held), fleet.done_bytes(done), self._tree.rights())
        return self._ends(held, Delete(self._tree.help(held.help.id), held.fence), record)

    def is_done(self, held: Held) -> bool:
        """Whether a completion of which nobody answered was done. Raises Unreachable."""
        [record] = self._store.read([self._tree.done(held)])
        return isinstance(record, Node)

    def give_back(self, held: Held, why: str) -> bool:
        """Let others try; False: it is not ours any more. Raises Refused, Unreachable, Unsure."""
        said = fleet.request_bytes(held.help._replace(last=why))
        return self._ends(held, Put(self._tree.help(held.help.id), said, held.fence))

    def release(self, id: str, token: str) -> None:
        """Take the marks of a claim away, if they are ours: its request was withdrawn, or nobody works on it.
        Raises Refused, Unreachable.
        """
        [claim, mark] = self._store.read([self._tree.claim(id), self._tree.hold(self.host, token)])
        parts: list[Part] = [Delete(self._tree.claim(id), 0)] if self._is_ours(claim, id, token) else []
        if isinstance(mark, Node):
            parts.append(Delete(self._tree.hold(self.host, token)))
        if parts:
            self._wins(*parts)

    def strays(self, known: Collection[str]) -> list[tuple[str, str]]:
        """Id and token of each claim of this session that nobody knows of: its transaction was done after we had
        given it up. known: the tokens of those that somebody works on. Raises Unreachable.
        """
        [names] = self._store.children([self._tree.host(self.host)])
        tokens = (
            [name.removeprefix(MARK) for name in names if name.startswith(MARK)] if isinstance(names, tuple) else []
        )
        strange = [token for token in tokens if token not in known]
        nodes = self._store.read([self._tree.hold(self.host, token) for token in strange])
        return [
            (node.value.decode(errors="replace"), token)
            for token, node in zip(strange, nodes, strict=True)
            if isinstance(node, Node) and node.owner == self._store.id
        ]

    def clear(self, request: Help, version: int, why: str) -> bool:
        """An operator's: let a stuck request go on; False: it was changed meanwhile."""
        again = fleet.request_bytes(request._replace(n=0, last=why))
        return self._wins(Put(self._tree.help(request.id), again, version))

    def records(self) -> list[Done]:
        """What was done, oldest first. Raises Unreachable."""
        read: list[tuple[int, Done]] = []
        for name, node in self._done():
            try:
                read.append((node.created, fleet.done(node.value, name)))
            except ValueError:  # hostile or of a later version
                continue
        return [done for _, done in sorted(read, key=lambda one: one[0])]

    def prune(self) -> None:
        """Let the oldest records go. Raises Unreachable."""
        directory = self._tree.directory("done")
        [node] = self._store.read([directory])
        if not isinstance(node, Node) or node.children <= KEPT + SLACK:
            return
        by_age = sorted(self._done(), key=lambda one: one[1].created)
        for name, _ in by_age[:-KEPT]:
            self._wins(Delete(f"{directory}/{name}"))

    def _done(self) -> list[tuple[str, Node]]:
        directory = self._tree.directory("done")
        [names] = self._store.children([directory])
        listed = names if isinstance(names, tuple) else ()
        nodes = self._store.read([f"{directory}/{name}" for name in listed])
        return [(name, node) for name, node in zip(listed, nodes, strict=True) if isinstance(node, Node)]

    def _ends(self, held: Held, *parts: Part) -> bool:
        """With both marks of the claim gone. They go also where it is not ours any more: else they shut others out."""
        mark = Delete(self._tree.hold(self.host, held.tok))
        if self._wins(mark, Delete(self._tree.claim(held.help.id), 0), *parts):
            return True
        self.release(held.help.id, held.tok)
        return False

    def _is_ours(self, claim: Node | Why, id: str, token: str) -> bool:
        if not isinstance(claim, Node) or claim.owner != self._store.id:
            return False
        try:
            return fleet.claim(claim.value, id).tok == token
        except ValueError:  # somebody wrote over it
            return False

    def _plant(self) -> None:
        if not self._planted:
            make(self._store, Create(self._tree.host(self.host), b"", self._tree.rights()))
            self._planted = True

    def _wins(self, *parts: Part) -> bool:
        """Whether it was done; another one may have been first."""
        try:
            self._store.write(*parts)
        except Refused as refused:
            if refused.why in (Why.ABSENT, Why.EXISTS, Why.VERSION):
                return False
            raise
        return True
