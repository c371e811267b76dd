# SPDX-License-Identifier: Apache-2.0
"""The fleet as the store has it, followed live: pictures of all its cells, for whoever draws them.

A thread of its own makes every call to the store. While there is no connection the last picture stays, and says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ovs_keepalive.beat import moment
from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.fleet import Cell
from ovs_keepalive.core.fleet_view import Fleet, Store
from ovs_keepalive.core.model import NEVER, Moment
from ovs_keepalive.fleet import watch
from ovs_keepalive.fleet.session import News, Options, Session
from ovs_keepalive.fleet.store import Link, Unreachable
from ovs_keepalive.fleet.store import Store as StoreCalls
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet.watch import CellWatch

TURN = 0.1  # seconds between two turns without news
NUMBERS = 0.5  # seconds between two pictures that nothing rang for
CELLS_AGAIN = 10.0  # seconds after which cells are looked for again
END = 2.0  # seconds that the end waits for the store


class Pictures:
    """What the store has, turn by turn. A cell that cannot be read stays as it was seen, and hides no other."""

    def __init__(self, store: StoreCalls, cells: Sequence[str] = ()) -> None:
        """cells: those to follow; none: all that there are."""
        self._store = store
        self._wanted = tuple(cells)
        self._watches: dict[str, CellWatch] = {}
        self._listed_at: float | None = None  # monotonic; when the cells were
        self._cells: list[Cell] = []  # that the newest picture is of
        self._failed = ""  # of the newest turn
        self._fleet = Fleet(Store(Link.LOST, "not connected yet"))

    def turn(self, news: News, now: float) -> None:
        """Read what has its turn. now: monotonic seconds."""
        self._failed = ""
        try:
            self._list(now)
        except Unreachable as error:
            self._failed = str(error)
        for one in self._watches.values():
            try:
                one.turn(news, now)
            except Unreachable as error:
                self._failed = str(error)

    def picture(self, link: Link, problem: str, now: Moment) -> Fleet:
        """All the cells as they were last read. link, problem: how the session stands."""
        store = Store(link, self._failed or ("" if link is Link.CONNECTED else problem))
        self._fleet = self._picture(store, now)
        return self._fleet

    def _list(self, now: float) -> None:
        """Which cells there are. Raises Unreachable."""
        if self._listed_at is None or now - self._listed_at >= CELLS_AGAIN:
            names = self._wanted or watch.cells(self._store)
            self._listed_at = now
            self._watches = {name: self._watches.get(name) or CellWatch(self._store, Tree(name)) for name in names}

    def _picture(self, store: Store, now: Moment) -> Fleet:
        """read: when that one was which was read longest ago, of those that ever were."""
        heard = [one.heard_at for one in self._watches.values() if one.heard_at is not None]
        oldest = min(heard, default=None if self._watches else self._listed_at)
        read = NEVER
        if oldest is not None:
            read = Moment(oldest, now.wall_ms - round((now.mono - oldest) * 1000))
        was, self._cells = self._cells, [one.cell for one in self._watches.values()]
        if len(was) == len(self._cells) and all(one is other for one, other in zip(was, self._cells, strict=True)):
            return self._fleet._replace(store=store, read=read)
        return fleet_view.picture(self._cells, store, read, self._fleet, now.wall_ms)


class Following:
    """From start() to close() it tells each newer picture."""

    def __init__(self, options: Options, cells: Sequence[str] = ()) -> None:
        """cells: as of Pictures. Raises ValueError where the options cannot be used."""
        self._rung = threading.Event()
        self._over = threading.Event()
        self._session = Session(options, lambda: moment().mono, self._rung.set)
        self._pictures = Pictures(self._session, cells)
        self._thread = threading.Thread(target=self._follow, name="fleet", daemon=True)
        self._tell: Callable[[Fleet], None] = lambda _: None

    def start(self, tell: Callable[[Fleet], None]) -> None:
        """Begin; tell: is called in this object's own thread."""
        self._tell = tell
        self._thread.start()

    def close(self) -> None:
        """End it, and the session."""
        self._over.set()
        self._rung.set()
        if self._thread.is_alive():
            self._thread.join(END)
        self._session.stop(END)

    def _follow(self) -> None:
        session, told = self._session, float("-inf")
        session.start()
        while not self._over.is_set():
            self._rung.wait(TURN)
            self._rung.clear()
            news, now = session.news(), moment()
            self._pictures.turn(news, now.mono)
            # Of 10,000 hosts some number changes in every turn: only what rang is worth a picture at once.
            if not self._over.is_set() and (news.changed or news.links or now.mono - told >= NUMBERS):
                told = now.mono
                self._tell(self._pictures.picture(session.link, session.problem, moment()))
