# SPDX-License-Identifier: Apache-2.0
"""Where in the store what stands, and who may do what there.

A node's own rights do not protect it from being deleted: that is a right on its parent. So each host has a parent of
its own, in which only it may write, and nobody but the administrator may delete a host or what is known of it.

    /ovs-keepalive/v1/cells/CELL/hosts/HOST/live        ephemeral: the node's document, while its session lives
                                           /claim-TOK   ephemeral: it holds this claim
                                /known/HOST             what it said last: a host that is GONE is not forgotten
                                /alert/HOST             ephemeral: it is not well; to be seen at once by who watches
                                /help/HOST--KIND        requests
                                /claim/HOST--KIND       ephemeral: it is claimed
                                /done/HOST--KIND--FENCE--TOK   records, the newest 1,000 of them
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ovs_keepalive.core.fleet import Held
from ovs_keepalive.fleet.store import Create, Refused, Right, Store, Why

ROOT = "/ovs-keepalive/v1/cells"
ALL = "cdrwa"
SHORT_TOKEN = 8
MARK = "claim-"
DIRECTORIES = {  # below a cell -> what every member may do there
    "hosts": "cr",
    "known": "cr",
    "alert": "cdr",
    "help": "cdr",
    "claim": "cdr",
    "done": "cdr",
}


class Guard(Enum):
    """How a member shows who it is; what everybody else of the fleet is to the store."""

    OPEN = "world"  # nobody does: a store on this host, or one that others keep shut
    DIGEST = "auth"  # all by one name and password
    CERTIFICATE = "x509"  # each by its certificate; only certificates of the fleet's CA get in at all


class Tree(NamedTuple):
    """The paths and rights of one cell."""

    cell: str
    guard: Guard = Guard.OPEN
    admin: str = ""  # SCHEME:ID of the administrator, as x509:CN=fleet-admin; "" for ZooKeeper's own superuser only

    @property
    def top(self) -> str:
        """Of the cell."""
        return f"{ROOT}/{self.cell}"

    def directory(self, name: str) -> str:
        """One of DIRECTORIES."""
        return f"{self.top}/{name}"

    def host(self, host: str) -> str:
        """The parent of what a host's session holds."""
        return f"{self.top}/hosts/{host}"

    def live(self, host: str) -> str:
        """What a host tells of itself."""
        return f"{self.host(host)}/live"

    def hold(self, host: str, token: str) -> str:
        """A host's own mark that it holds a claim."""
        return f"{self.host(host)}/{MARK}{token}"

    def known(self, host: str) -> str:
        """What stays of a host."""
        return f"{self.top}/known/{host}"

    def alert(self, host: str) -> str:
        """That a host is not well."""
        return f"{self.top}/alert/{host}"

    def help(self, id: str) -> str:
        """A request."""
        return f"{self.top}/help/{id}"

    def claim(self, id: str) -> str:
        """A claim of it."""
        return f"{self.top}/claim/{id}"

    def done(self, held: Held) -> str:
        """The record of a request completed under that claim."""
        return f"{self.top}/done/{held.help.id}--{held.fence}--{held.tok[:SHORT_TOKEN]}"

    def rights(self, everybody: str = "r", own: str = ALL) -> tuple[Right, ...]:
        """What all members may do with a node, and what whoever makes it."""
        if self.guard is Guard.OPEN:
            return (Right("world", "anyone", ALL),)
        given = {("auth", ""): own} if own else {}
        others = ("world", "anyone") if self.guard is Guard.CERTIFICATE else ("auth", "")
        given[others] = "".join(sorted({*given.get(others, ""), *everybody}))
        if self.admin:
            scheme, _, id = self.admin.partition(":")
            given[scheme, id] = ALL
        return tuple(Right(*who, may) for who, may in given.items())

    def plant(self, store: Store) -> None:
        """Make what is missing of the cell's directories. Raises Refused, Unreachable."""
        above = ROOT.strip("/").split("/")
        paths = ["/" + "/".join(above[: depth + 1]) for depth in range(len(above))]
        wanted = [*((path, "cr") for path in (*paths, self.top))]
        wanted += [(self.directory(name), may) for name, may in DIRECTORIES.items()]
        for (path, may), found in zip(wanted, store.read([path for path, _ in wanted]), strict=True):
            if found is Why.ABSENT:
                make(store, Create(path, b"", self.rights(may, own="")))


def make(store: Store, node: Create) -> None:
    """Create a node, unless it is there. Raises Refused, Unreachable."""
    try:
        store.write(node)
    except Refused as refused:
        if refused.why is not Why.EXISTS:
            raise
