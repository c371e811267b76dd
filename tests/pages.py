# SPDX-License-Identifier: Apache-2.0
"""The fleet's page with a source that a test makes up: served for real, of a fleet that there is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ovs_keepalive.beat import moment
from ovs_keepalive.core.fleet import Headroom, HostState, PmdBrief
from ovs_keepalive.core.fleet_view import Fleet, Key, Request, Sight, Store
from ovs_keepalive.formats.listen import Address
from ovs_keepalive.web_app import Page, listener
from tests.fleets import member

CONNECTED = Store("CONNECTED")
LOOPBACK = Address("127.0.0.1", 0, 4)


def host(name: str, state: HostState = HostState.WELL, cell: str = "c1", **fields: Any) -> Sight:
    """A host with four PMD threads that has been in its state for 12 s; fields: of what it says."""
    now = moment().wall_ms
    told: dict[str, Any] = {
        "state": HostState.FAILURE if state is HostState.GONE else state,
        "since": now - 12_000,
        "why": "" if state is HostState.WELL else "pmd-c02/id:9 is DEAD: traced",
        "pmds": tuple(PmdBrief(core, 0, "ALIVE", 10 * core, 2, 812_345, 0) for core in range(4)),
        "headroom": Headroom({0: 2}, {0: 41}),
        "tunnels": (),
    }
    if state is HostState.FAILURE:
        told["pmds"] = (*told["pmds"][:2], PmdBrief(2, 0, "DEAD", None, 1, None, 1), told["pmds"][3])
    return Sight(cell, name, state, now - 12_000, now - 3000, member(name, **{**told, **fields}))


class Source:
    """A fleet that a test makes up."""

    def __init__(self) -> None:
        self.sights: dict[Key, Sight] = {}
        self.requests: tuple[Request, ...] = ()
        self.problems: tuple[str, ...] = ()
        self.store = CONNECTED
        self._frozen: Fleet | None = None
        self._tell: Callable[[Fleet], None] = lambda _: None
        self._over = threading.Event()
        self._again = threading.Thread(target=self._run, name="source")

    def start(self, tell: Callable[[Fleet], None]) -> None:
        """As the page calls it."""
        self._tell = tell
        self._again.start()

    def close(self) -> None:
        """As the page calls it."""
        self._over.set()
        self._again.join()

    def show(self, *hosts: Sight) -> None:
        """These, besides those that there are."""
        self.sights = {**self.sights, **{one.key: one for one in hosts}}
        self.tell()

    def tell(self) -> None:
        """Hand over what there is now."""
        self._tell(self._fleet())

    def freeze(self) -> None:
        """From now on nothing is read any more."""
        self._frozen = self._fleet()

    def _fleet(self) -> Fleet:
        return Fleet(self.store, moment(), self.sights, self.requests, self.problems)

    def _run(self) -> None:
        """A source reads again and again, also when nothing changes."""
        while not self._over.wait(0.2):
            if self._frozen is None:
                self.tell()
            else:
                self._tell(self._frozen._replace(store=self.store))


class Served:
    """A page on a free port."""

    def __init__(self, address: Address = LOOPBACK) -> None:
        self.source = Source()
        listens = listener(address)
        self.port = int(listens.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self.page = Page(self.source, listens, loopback_only=address.is_loopback)
        self._thread = threading.Thread(target=self.page.run, name="page")
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.page.stop()
        self._thread.join()


@contextmanager
def serving(address: Address = LOOPBACK) -> Iterator[Served]:
    """It ends whatever happens."""
    served = Served(address)
    try:
        yield served
    finally:
        served.close()
