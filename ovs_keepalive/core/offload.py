# SPDX-License-Identifier: Apache-2.0
"""The nouns of offload: what was looked at, what is remembered, what is said and what is planned (CONTRACT section 9).

The laws are in `core/offload_rates.py` (packets per second), `core/offload_tables.py` (whether there is room),
`core/offload_states.py` (the states) and `core/offload_plan.py` (which flow is to take whose place);
`core/offload_watch.py` goes from one round to the next. Rates are packets per second, times monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from ovs_keepalive.core.model import NEVER, Moment, ProcessId


class Hardware(StrEnum):
    """What `offloaded:` says of a flow. Either of the two words: it takes a slot of the hardware's table."""

    NONE = ""
    PARTIAL = "partial"  # the hardware matches, the actions are vswitchd's
    FULL = "yes"


class OffloadState(StrEnum):
    """State of a netdev (CONTRACT section 9)."""

    DISABLED = "disabled"
    UNKNOWN = "unknown"
    OK = "ok"
    PRESSURE = "pressure"
    OOR = "oor"
    STARVED = "starved"
    SKIPPED = "skipped"


# --- what the sensors bring --------------------------------------------------------------------


class Flow(NamedTuple):
    """A flow of the datapath, merged over the PMD threads that have it."""

    ufid: str
    netdev: str  # where its packets come in: the device of the datapath's port; of a tunnel that of the tunnel
    packets: int  # sum over the PMDs; begins anew when the flow does
    used: float | None  # seconds since its last packet; None: never
    hardware: Hardware
    shape: str  # netdev, fields of the key with their mask bits, kinds of actions: what is alike is supported alike
    barred: str  # why it is never touched: "recirculated", "ct", "userspace", "no ufid" …; "" for a flow that may be


class Dump(NamedTuple):
    """All flows, looked at once."""

    at: Moment
    flows: tuple[Flow, ...]
    cost: float  # seconds of vswitchd's main thread that it took


class Facts(NamedTuple):
    """What a round knows besides the flows."""

    at: Moment
    process: ProcessId | None  # of vswitchd: what was learned of another one does not hold
    enabled: bool  # other_config:hw-offload is true
    userspace: bool  # the datapath is vswitchd's own, which never tries again what was once refused
    rebalanced: bool = False  # other_config:offload-rebalance is true, and OVS obeys it: it moves flows by itself
    acting: bool = False  # what is planned is done: whether there is room is found out by trying
    netdevs: tuple[str, ...] = ()  # of the datapath, those without a flow too
    undumped: str = ""  # why there is no dump; "" while there is one


# --- what a person may set ---------------------------------------------------------------------


class Limits(NamedTuple):
    """How far a plan may go."""

    capacity: int | None = None  # flows that one table holds; None: nobody said, it is learned
    groups: tuple[tuple[str, ...], ...] = ()  # netdevs that share a table; any other has one of its own
    ratio: float = 1.5  # the flow that goes in has to be so many times as fast as the one that goes out …
    margin: float = 10.0  # … and by so many packets per second more
    dwell: float = 30.0  # seconds for which a flow that has moved stays where it is, at least
    swaps: int = 16  # a round; as many fills
    share: float = 0.05  # part of a table that is swapped in a round
    a_minute: int = 100  # fills and swaps


# --- what is said ------------------------------------------------------------------------------


class Netdev(NamedTuple):
    """What is said of one netdev; of a skipped one nothing is counted. Parts are 0 … 1, None of nothing."""

    name: str
    state: OffloadState
    since: Moment
    why: str  # in words, as of now
    noted: str  # the same as of when the state was told: its numbers stand still
    flows: int = 0  # in hardware
    pending: int = 0  # in software, though they might be in hardware
    pps: float = 0.0  # of all its flows
    hardware_pps: float = 0.0
    capacity: int | None = None  # of its table, as set or learned; None: nothing is known of a limit
    share: float | None = None  # of its packets in hardware
    best: float | None = None  # the same, if its table held the fastest flows of all that share it
    efficiency: float | None = None  # share of best, at most 1: it may have what others ought to


class Move(NamedTuple):
    """A flow that is to go into hardware, and the one that is to leave it for that."""

    promoted: str  # ufid
    promoted_pps: float
    victim: str  # ufid; "" where a slot is free: a fill
    victim_pps: float
    gain: float  # packets per second more in hardware
    why: str
    netdev: str = ""  # of the promoted flow


class Plan(NamedTuple):
    """What would be better, at most as much as may be done in one round."""

    at: Moment
    fills: tuple[Move, ...]  # first, hottest first
    swaps: tuple[Move, ...]  # most gain first
    gain: float  # of both


class Tried(NamedTuple):
    """A move that was made."""

    move: Move
    took: bool  # the promoted flow was in hardware afterwards


# --- what is remembered ------------------------------------------------------------------------


class Rate(NamedTuple):
    """What is remembered of a flow from one round to the next."""

    packets: int  # at the last look
    hardware: Hardware
    shape: str
    netdev: str
    smooth: float = 0.0  # pps, smoothed
    newest: float = 0.0  # pps, between the last two looks
    low_before: float = 0.0  # the lower of the two, a round ago …
    high_before: float = 0.0  # … and the higher
    samples: int = 0  # pairs of looks that told a rate


class Damping(NamedTuple):
    """What is remembered of a flow that has moved between hardware and software."""

    at: float  # when it last did
    dwell: float  # seconds for which it stays


class Refusal(NamedTuple):
    """What the hardware did not take is tried again after a while, each time a longer one."""

    until: float
    backoff: float  # seconds


class Table(NamedTuple):
    """What is remembered of one table of the hardware."""

    flows: int = 0  # in it at the last look
    peak: int = 0  # most that were in it at once
    learned: int | None = None  # so many held it when others of a kind that it takes had to wait
    full: int | None = None  # so many held it when it refused one more of such a kind …
    refusal: Refusal | None = None  # … which is believed for a while


class Round(NamedTuple):
    """What is remembered of a netdev."""

    state: OffloadState
    since: Moment
    noted: str
    waiting: int = 0  # rounds running in which a flow waited for hardware
    free: int = 0  # rounds running in which none did


class Watch(NamedTuple):
    """All that outlives a round, of one vswitchd process."""

    process: ProcessId | None = None
    dumped: Moment = NEVER  # the last dump that was taken in
    rates: Mapping[str, Rate] = MappingProxyType({})  # by ufid
    rounds: Mapping[str, Round] = MappingProxyType({})  # by netdev
    tables: Mapping[tuple[str, ...], Table] = MappingProxyType({})  # by the netdevs that share it
    damping: Mapping[str, Damping] = MappingProxyType({})  # by ufid
    refused: Mapping[str, Refusal] = MappingProxyType({})  # by shape; by ufid, where others of the shape are taken
    taken: frozenset[str] = frozenset()  # shapes that were in hardware
    offloads: bool = False  # a flow was in hardware, once
    acts: tuple[float, ...] = ()  # when a move was made, in the last minute
    efficiency: float | None = None  # of all netdevs together
    efforts: tuple[float, ...] = ()  # that number in the last rounds running in which something was tried


class Told(NamedTuple):
    """What comes of a round."""

    watch: Watch
    netdevs: tuple[Netdev, ...]
    plan: Plan
