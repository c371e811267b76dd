# SPDX-License-Identifier: Apache-2.0
"""The nouns of the fleet: what a node tells the others of itself, the help it asks for, and who has claimed that.

A session that is lost is not a node that died: GONE says only that nobody has heard of the host since then. DEAD is
what a node says itself, of a PMD of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.health import Health

VERSION = 1  # of every document in the store; it grows by new keys, a changed meaning raises it
TRIES = 3  # claims that ended without a result, after which only an operator lets a request go on


class HostState(StrEnum):
    """A host in one word: what the node says of itself (core.health), and GONE, which others say of it."""

    WELL = Health.WELL.value
    DISABLED = Health.DISABLED.value
    UNKNOWN = Health.UNKNOWN.value
    WARNING = Health.WARNING.value
    RESTARTING = Health.RESTARTING.value
    FAILURE = Health.FAILURE.value
    GONE = "GONE"  # no session since ..


OWN_WORDS = tuple(state for state in HostState if state is not HostState.GONE)  # that a node may say of itself
RANK = {state: rank for rank, state in enumerate(HostState)}  # HostState is in that order: the higher, the worse
QUIET = (HostState.WELL, HostState.DISABLED)  # nobody has to be alarmed


class PmdBrief(NamedTuple):
    """A PMD thread as the fleet needs it."""

    core: int
    numa: int | None
    state: str  # core.model.State; a later version may know more words
    busy: int | None  # percent of its cycles or iterations; None: not known
    rxqs: int
    iterations: int | None
    misses: int  # times it left ALIVE for something worse


class Tunnel(NamedTuple):
    """A tunnel interface of a node, as its OVSDB tells."""

    name: str
    kind: str  # vxlan, geneve, gre, …
    local: str  # address, "" where the route decides
    remote: str  # address, or "flow"
    bfd: str | None = None  # bfd_status:state; None: no BFD there
    bfd_remote: str | None = None  # bfd_status:remote_state
    cfm_fault: bool | None = None  # None: no CFM there
    since_ms: int = 0  # epoch ms; since when it has been so


class Headroom(NamedTuple):
    """What a node could take over. Empty: nothing."""

    cores: Mapping[int, int] = {}  # NUMA node -> isolated cores that are free, less the reserve and what is promised
    busy: Mapping[int, int] = {}  # NUMA node -> mean busy percent of its PMDs


NO_HEADROOM = Headroom()


class Member(NamedTuple):
    """A node as it tells the fleet of itself."""

    host: str
    seq: int  # grows with each telling of one boot of the agent
    t: int  # epoch ms by the host's own clock; ages are told by the store's
    boot: str  # the kernel's boot id
    state: HostState
    since: int  # epoch ms; of the state
    why: str = ""  # the worst of it in words
    pmds: tuple[PmdBrief, ...] = ()
    headroom: Headroom = NO_HEADROOM
    tunnels: tuple[Tunnel, ...] = ()
    services: Mapping[str, int] = {}  # those with an instance here: name -> its number in tun_id
    address: str = ""  # at which other nodes send it tunnelled packets; "" for nowhere
    ver: str = ""  # of ovs-keepalive
    v: int = VERSION


class Known(NamedTuple):
    """What stays of a host when its session ends, until an operator forgets it."""

    first_ms: int  # epoch ms of its first joining
    last_ms: int  # of the newest change of state; not of the newest sign of life
    last: Member  # as it was then


class Help(NamedTuple):
    """A request for help: there is one at most of each kind a host."""

    host: str
    kind: str
    why: str
    t: int  # epoch ms; posted
    n: int = 0  # claims so far
    by: str = ""  # the host that claimed it last
    last: str = ""  # how the last claim ended, in words; "" while none did

    @property
    def id(self) -> str:
        """Its name in the store."""
        return request_id(self.host, self.kind)

    @property
    def is_stuck(self) -> bool:
        """Whether it was tried too often: nobody claims it until an operator clears it."""
        return self.n >= TRIES


class Claim(NamedTuple):
    """A request is taken, as long as the claimer's session lives."""

    by: str  # host
    tok: str  # that tells this claim from every other one
    t: int  # epoch ms


class Done(NamedTuple):
    """The record of a request that was completed."""

    host: str
    kind: str
    why: str
    t: int  # epoch ms; posted
    n: int
    by: str
    tok: str
    fence: int  # version of the request under which it was claimed
    at: int  # epoch ms; completed
    result: str  # what was offered or done, in words


class Held(NamedTuple):
    """A claim of one's own."""

    help: Help
    tok: str
    fence: int


class Sighting(NamedTuple):
    """What the store has of one host."""

    host: str
    live: Member | None  # None: it has no session, or its document cannot be read
    told_ms: int  # epoch ms by the store's clock; when live was written; 0: there is none
    known: Known | None  # what it said last before its session ended; read only while live is None
    problem: str = ""  # why a document cannot be read, in one line

    @property
    def state(self) -> HostState:
        """The host in one word."""
        if self.live is not None:
            return self.live.state
        return HostState.UNKNOWN if self.told_ms else HostState.GONE


class Asked(NamedTuple):
    """A request as it stands in the store."""

    help: Help
    version: int  # of its znode: what a claim is tried with
    claim: Claim | None  # None: it is open


class Cell(NamedTuple):
    """A cell of the fleet as the store has it. Its parts may be a few seconds apart."""

    name: str
    hosts: Mapping[str, Sighting]
    requests: Mapping[str, Asked]  # by id
    problems: tuple[str, ...] = ()  # of requests that cannot be read


def request_id(host: str, kind: str) -> str:
    """The name of a request in the store."""
    return f"{host}--{kind}"


def parts_of(id: str) -> tuple[str, str]:
    """Host and kind of the name of a request; a kind has no "--" in it. Raises ValueError."""
    host, separator, kind = id.rpartition("--")
    if not separator or not host or not kind:
        raise ValueError(f"{id!r} is no request: HOST--KIND is asked for")
    return host, kind
