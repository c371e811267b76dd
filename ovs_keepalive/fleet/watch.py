# SPDX-License-Identifier: Apache-2.0
"""A cell of the fleet as a reader follows it: changes in milliseconds, at no cost while all is well.

A watch on every host's document would cost a question for each number that any of them refreshes. So: one watch on the
list of hosts, one on the list of those that are not well, and one on the children of each host, which rings only when
its session begins or ends. The documents of those that are not well are watched as well; all others are read again one
after the other, each once in a round. Where every member of a cell is a reader of it, as with the mesh, rounds take
the longer the more of them there are: what they read together stays within a budget.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import Asked, Cell, Sighting, parts_of
from ovs_keepalive.fleet.session import News
from ovs_keepalive.fleet.store import Node, Store, Unreachable, Why
from ovs_keepalive.fleet.tree import ROOT, Tree
from ovs_keepalive.formats import fleet
from ovs_keepalive.formats.plain import one_line

ROUND = 5.0  # seconds in which each host's numbers are read again …
RATE = 250.0  # … of at most so many hosts a second
MEMBERS = 2000.0  # hosts a second that all members of a cell read together while nothing happens
AGAIN, LONGEST = 1.0, 8.0  # seconds until a cell that could not be loaded is again; each failure doubles them, so far
SOME_TIME = 1  # epoch ms; when a document was written that may not be read
WATCHED = 500  # hosts that are not well, at most, whose documents are watched; of more all are read in rounds


class CellWatch:
    """One cell. Whoever owns the session hands over its news."""

    def __init__(self, store: Store, tree: Tree, budget: float = math.inf) -> None:
        """budget: hosts a second that are read in rounds by as many readers as there are hosts."""
        self.tree = tree
        self.heard_at: float | None = None  # monotonic; when the store last answered
        self._store = store
        self._budget = budget
        self._loaded = False
        self._is_whole = False  # all that is watched is there
        self._load_at, self._pause = 0.0, AGAIN  # monotonic; when to load again; seconds to wait after the next failure
        self._failed = ""  # why it was not loaded
        self._changed: set[str] = set()
        self._hosts: dict[str, Sighting] = {}
        self._alerted: frozenset[str] = frozenset()
        self._requests: dict[str, Asked] = {}
        self._problems: tuple[str, ...] = ()
        self._round: deque[str] = deque()
        self._read_to = 0.0  # monotonic; up to when the round has come
        self._asked_at = 0.0  # monotonic; when the requests were read
        self._cell: Cell | None = None

    @property
    def cell(self) -> Cell:
        """As it was last seen: the same object while nothing changed."""
        if self._cell is None:
            self._cell = Cell(self.tree.cell, dict(self._hosts), dict(self._requests), self._problems)
        return self._cell

    def take(self, news: News) -> None:
        """Note what happened, for the next turn. Whoever leaves a turn out hands the news over here: they come once."""
        if news.links:
            self._loaded = False  # every watch went with the connection
            self._load_at, self._pause = 0.0, AGAIN
        self._changed |= news.changed

    def turn(self, news: News, now: float) -> None:
        """Take in what happened. now: monotonic seconds. Raises Unreachable: what was seen stays."""
        self.take(news)
        changed, self._changed = self._changed, set()
        loaded, self._loaded = self._loaded, False
        if loaded:
            self._is_whole = True
            heard = self._follow(changed, now)
            self._loaded = self._is_whole
        else:
            heard = self._load(now)
        self.heard_at = now if heard else self.heard_at

    def _load(self, now: float) -> bool:
        """All of it, unless that failed a moment ago: a cell whose readers ask too much of a store gives it time."""
        if now < self._load_at:
            if self._failed:
                raise Unreachable(self._failed)
            return False
        self._load_at, self._pause = now + self._pause, min(2 * self._pause, LONGEST)
        try:
            self._read_all(now)
        except Unreachable as error:
            self._failed = str(error)
            raise
        self._failed = ""
        self._loaded = self._is_whole
        if self._loaded:
            self._load_at, self._pause = 0.0, AGAIN
        return True

    def _read_all(self, now: float) -> None:
        # The last one that a member plants: if it is there, so are all others.
        self._is_whole = isinstance(self._store.read([self.tree.directory("done")])[0], Node)
        names = self._hosts_listed()
        self._alerted = frozenset(self._listed("alert"))
        for host in set(self._hosts) - set(names):
            self._drop(host)
        self._look(names, anew=names)
        self._ask(now)
        self._round, self._read_to = deque(names), now

    def _listed(self, name: str) -> tuple[str, ...]:
        """What is below a directory. One that is not there cannot be watched: then all is loaded again, until it is."""
        names = _below(self._store, self.tree.directory(name), watch=True)
        self._is_whole = self._is_whole and names is not None
        return names or ()

    def _hosts_listed(self) -> tuple[str, ...]:
        return tuple(filter(_is_name, self._listed("hosts")))

    def _follow(self, changed: Collection[str], now: float) -> bool:
        """Whether there was anything to ask."""
        hosts = self.tree.directory("hosts") + "/"
        rung = {path.removeprefix(hosts).partition("/")[0] for path in changed if path.startswith(hosts)}
        listed: set[str] = set()
        if self.tree.directory("hosts") in changed:
            names = self._hosts_listed()
            for host in set(self._hosts) - set(names):
                self._drop(host)
            listed = set(names) - set(self._hosts)
            self._round.extend(listed)
        if self.tree.directory("alert") in changed:
            alerted = frozenset(self._listed("alert"))
            rung |= (alerted ^ self._alerted) & set(self._hosts)
            self._alerted = alerted
        rung &= set(self._hosts)  # without those that were forgotten
        due = self._due(now) - rung - listed
        self._look((*rung, *listed), anew=[*listed, *(host for host in rung if self.tree.host(host) in changed)])
        self._look(tuple(due))
        requests = {self.tree.directory("help"), self.tree.directory("claim")} & set(changed)
        if requests or now - self._asked_at >= ROUND:
            self._ask(now)
        return bool(changed or due) or self._asked_at == now

    def _due(self, now: float) -> set[str]:
        """The hosts whose turn it is in the round."""
        rate = min(len(self._round) / ROUND, RATE, self._budget / max(1, len(self._round)))
        due = (now - self._read_to) * rate
        count = min(math.floor(due), len(self._round))
        if count:
            self._read_to = now - due % 1 / rate  # a part of a host is due in the next turn
        self._round.rotate(-count)
        return {self._round[-1 - place] for place in range(count)}

    def _look(self, hosts: Sequence[str], anew: Iterable[str] = ()) -> None:
        """Read what these hosts tell. anew: those whose session's begin or end shall ring again."""
        self._store.children([self.tree.host(host) for host in anew], watch=True)
        watched = [host for host in hosts if host in self._alerted] if len(self._alerted) <= WATCHED else []
        others = sorted(set(hosts) - set(watched))
        seen = sights(self._store, self.tree, watched, watch=True) | sights(self._store, self.tree, others)
        if any(self._hosts.get(host) != sighting for host, sighting in seen.items()):
            self._hosts |= seen
            self._cell = None

    def _ask(self, now: float) -> None:
        self._asked_at = now
        found = asked(self._store, self.tree, watch=True)
        if found != (self._requests, self._problems):
            self._requests, self._problems = found
            self._cell = None

    def _drop(self, host: str) -> None:
        del self._hosts[host]
        self._round = deque(other for other in self._round if other != host)
        self._cell = None


def read_cell(store: Store, tree: Tree) -> Cell:
    """A cell as it is now, read once. Raises Unreachable."""
    names = tuple(filter(_is_name, _names(store, tree.directory("hosts"))))
    requests, problems = asked(store, tree)
    return Cell(tree.cell, sights(store, tree, names), requests, problems)


def cells(store: Store) -> tuple[str, ...]:
    """The names of all cells. Raises Unreachable."""
    return _names(store, ROOT)


def sights(store: Store, tree: Tree, hosts: Sequence[str], watch: bool = False) -> dict[str, Sighting]:
    """What the store has of these hosts. Raises Unreachable."""
    lives = dict(zip(hosts, store.read([tree.live(host) for host in hosts], watch), strict=True))
    absent = [host for host, live in lives.items() if live is Why.ABSENT]
    left = dict(zip(absent, store.read([tree.known(host) for host in absent]), strict=True))
    return {host: _gone(host, left[host]) if host in left else _sight(host, live) for host, live in lives.items()}


def asked(store: Store, tree: Tree, watch: bool = False) -> tuple[dict[str, Asked], tuple[str, ...]]:
    """The requests, and a line for each that cannot be read. Raises Unreachable."""
    ids = _names(store, tree.directory("help"), watch)
    if watch:
        _names(store, tree.directory("claim"), watch)
    found: dict[str, Asked] = {}
    problems: list[str] = []
    helps, claims = (store.read([path(id) for id in ids]) for path in (tree.help, tree.claim))
    for id, request, claim in zip(ids, helps, claims, strict=True):
        try:
            if isinstance(request, Node):
                taken = fleet.claim(claim.value, id) if isinstance(claim, Node) else None
                found[id] = Asked(fleet.request(request.value, *parts_of(id)), request.version, taken)
        except ValueError as error:
            problems.append(one_line(str(error)))
    return found, tuple(problems)


def _names(store: Store, path: str, watch: bool = False) -> tuple[str, ...]:
    """What is below a directory; nothing, where there is none. Raises Unreachable."""
    return _below(store, path, watch) or ()


def _below(store: Store, path: str, watch: bool = False) -> tuple[str, ...] | None:
    """What is below a directory; None: there is none. Raises Unreachable."""
    [names] = store.children([path], watch)
    if isinstance(names, tuple):
        return tuple(sorted(names))
    if names is not Why.ABSENT:
        raise Unreachable(f"{path}: {names}")
    return None


def _is_name(host: str) -> bool:
    """Whether a host may be called so. A name that no host may have is nobody's."""
    try:
        fleet.host_name(host)
    except ValueError:
        return False
    return True


def _sight(host: str, live: Node | Why) -> Sighting:
    if not isinstance(live, Node):
        return Sighting(host, None, SOME_TIME, None, f"{short(host)}: {live}")
    try:
        return Sighting(host, fleet.member(live.value, host), live.written_ms, None)
    except ValueError as error:
        return Sighting(host, None, live.written_ms, None, str(error))


def _gone(host: str, known: Node | Why) -> Sighting:
    if not isinstance(known, Node):
        return Sighting(host, None, 0, None, "" if known is Why.ABSENT else f"{short(host)}: {known}")
    try:
        return Sighting(host, None, 0, fleet.known(known.value, host))
    except ValueError as error:
        return Sighting(host, None, 0, None, str(error))
