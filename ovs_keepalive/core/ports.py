# SPDX-License-Identifier: Apache-2.0
"""The nouns of ports: what was looked at, what is remembered of them, what is said of them (CONTRACT section 8).

The laws are in `core/port_states.py` (the state), `core/port_findings.py` (what stands beside it) and
`core/port_watch.py` (what is remembered). What could not be looked at is a text that says why: it proves nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.model import NEVER, Moment, ProcessId
from ovs_keepalive.core.places import Place

VHOST = ("dpdkvhostuser", "dpdkvhostuserclient")  # types of an Interface
LONGEST_PATH = 107  # bytes of a Unix socket's path (unix(7): sun_path has 108, with its end)


class PortState(StrEnum):
    """State of a port. Where nothing is proven there is none: None, in words "unknown"."""

    UP = "UP"
    NEVER_CONNECTED = "NEVER-CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    NOT_NEGOTIATED = "NOT-NEGOTIATED"
    NO_LINK = "NO-LINK"
    ABSENT_SOCKET = "ABSENT-SOCKET"
    STALE_SOCKET = "STALE-SOCKET"
    STALE_BIND = "STALE-BIND"
    STRANDED = "STRANDED"
    FLAPPING = "FLAPPING"
    ERROR = "ERROR"


UNKNOWN = "unknown"


def too_long(path: str, most: int = LONGEST_PATH) -> int:
    """The bytes of a path that does not fit into a socket's address, or into so many; 0 for one that does."""
    length = len(path.encode(errors="surrogateescape"))
    return length if length > most else 0


class Beside(StrEnum):
    """What may be found whatever the state."""

    SERVER_MODE = "server-mode"
    PERMISSION = "permission"
    PATH_TOO_LONG = "path-too-long"
    NOT_POLLED = "not-polled"
    NOT_MOVING = "not-moving"
    NO_FLOW = "no-flow"


# --- what the sensors bring --------------------------------------------------------------------


class Peers(NamedTuple):
    """Who uses that path, as /proc/<pid>/net/unix tells."""

    bound: int  # sockets of vswitchd's own network namespace that listen on it
    listening: int  # of all namespaces
    connected: int  # connections to it, accepted or waiting to be


class Reach(NamedTuple):
    """What the bridge's flows do with a port."""

    flows: int  # of the whole bridge
    to: bool  # one may send to it
    of: bool  # one of the first table takes what comes from it


class Counters(NamedTuple):
    """Packets, as Interface:statistics counts them."""

    at: float  # monotonic seconds; when they were read
    rx: int
    tx: int
    tx_dropped: int


class PortFacts(NamedTuple):
    """One Interface. A text in the place of a fact says why that could not be looked at."""

    name: str
    id: str  # UUID of its row: a port made anew has another one
    bridge: str
    datapath: str  # datapath_type of the bridge: "netdev", "system", "dummy"
    type: str  # "dpdkvhostuserclient", "dpdk", "internal", ""
    ofport: int | None  # -1: none was to be had; None: vswitchd has not said
    admin: str  # "up", "down"; "": vswitchd has not said
    link: str
    error: str
    mode: str  # of a vhost-user port: "client" or "server"; else ""
    peer: str  # status of a vhost-user port: "connected", "disconnected"; "": vswitchd has not said
    path: str  # of its socket; "" for any other port
    queues: int | None  # rxqs that are asked for (options:n_rxq), of the device when it is connected
    drops: int  # times its peer left since the survey began
    counters: Counters | str
    socket: Place | str = ""  # as vswitchd would find it
    peers: Peers | str = ""
    reach: Reach | str = ""

    @property
    def is_vhost(self) -> bool:
        """Whether a VM hangs on it."""
        return self.type in VHOST


class Survey(NamedTuple):
    """One look at all ports."""

    at: Moment
    run: int  # pid of the process that looked: its counts begin with it
    process: ProcessId | None  # the vswitchd of that moment
    began: float  # monotonic; when that one began
    vswitchd: Credentials | str  # as whom it runs
    vm_user: str  # the user that VMs run as, where libvirt's or QEMU's configuration tells; else ""
    vm: Credentials | None  # the same as numbers
    ports: tuple[PortFacts, ...]
    blind: tuple[str, ...] = ()  # what could not be looked at, and why
    told: bool = True  # the database has told which ports there are


# --- what is remembered ------------------------------------------------------------------------


class PortMemory(NamedTuple):
    """What is known of a port's past."""

    name: str
    id: str
    type: str
    first: Moment  # when this daemon, or the one before it, first saw it
    state: PortState | None = None  # the last one that was proven …
    since: Moment = NEVER  # … and since when it was
    lost: Moment = NEVER  # since when none is proven; NEVER: one is
    raw: PortState | None = None  # as the newest look alone would say …
    raw_since: Moment = NEVER  # … and since which look it does
    here: bool = False  # its peer was connected, as far as the newest look could tell
    connected: Moment = NEVER  # when its peer was last seen connected …
    process: ProcessId | None = None  # … and to which vswitchd
    run: int = 0  # of the survey …
    drops: int = 0  # … and what of its count is counted already
    flaps: tuple[Moment, ...] = ()  # newest last
    moved: Counters | None = None  # when packets were last taken, or there was none to take
    unpolled: float = 0.0  # monotonic; since when no PMD was seen to poll it; 0.0: one was


class Return(NamedTuple):
    """How a vhost-user port came back after a restart of vswitchd: the looks that first saw it. None: none has."""

    name: str
    connected: Moment | None = None
    link: Moment | None = None  # up
    packets: Moment | None = None  # more of them than at the look before …
    counted: int | None = None  # … which counted so many of this vswitchd


class Returned(NamedTuple):
    """What a restart of vswitchd did to the vhost-user ports that were connected."""

    pid_old: int
    pid_new: int
    ports: tuple[Return, ...]


class PortsMemory(NamedTuple):
    """All that outlives the daemon."""

    since: Moment = NEVER  # when a daemon began to watch ports
    process: ProcessId | None = None  # the vswitchd of the newest survey
    ports: tuple[PortMemory, ...] = ()
    returns: tuple[Returned, ...] = ()  # newest last


# --- what is said ------------------------------------------------------------------------------


class Finding(NamedTuple):
    """Something that is not as it should be. No number in it changes while the finding does not."""

    kind: PortState | Beside
    evidence: str  # what was seen
    consequence: str
    cure: str  # a command, or what to do where there is none


class Port(NamedTuple):
    """What is said of a port."""

    facts: PortFacts
    state: PortState | None  # None: unknown
    since: Moment  # of the state
    why: str  # what was seen for it
    polled: tuple[tuple[str, str, int], ...]  # PMD, its state, queue; none also where it is not known
    findings: tuple[Finding, ...]  # the state's own first, unless it is UP
    unseen: tuple[str, ...]  # what could not be looked at, and why
    flaps: int = 0  # of late

    @property
    def word(self) -> str:
        """The state in a word."""
        return UNKNOWN if self.state is None else str(self.state)

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self.state is PortState.UP and not self.findings


class Ports(NamedTuple):
    """What is said of all ports, by name."""

    at: Moment = NEVER  # of the look; NEVER: there was none
    process: ProcessId | None = None
    ports: tuple[Port, ...] = ()
    blind: tuple[str, ...] = ()
    since: Moment = NEVER  # since when they are watched; NEVER: nothing is known of their past
    returns: tuple[Returned, ...] = ()
    pending: bool = False  # a look of a little later will tell more
