# SPDX-License-Identifier: Apache-2.0
"""Rounds of offload as tests need them: a datapath whose flows have known rates, and whose hardware holds so many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ovs_keepalive.core import offload_tables, offload_watch
from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.offload import (
    Dump,
    Facts,
    Flow,
    Hardware,
    Limits,
    Move,
    Netdev,
    Plan,
    Told,
    Tried,
    Watch,
)

FIRST, SECOND = ProcessId(700, 1000), ProcessId(800, 9000)


def at(seconds: float) -> Moment:
    """A moment of the simulated clock."""
    return Moment(seconds, 1_700_000_000_000 + round(seconds * 1000))


LIMITS, NOTHING = Limits(), Watch()


@dataclass
class Stream:
    """A flow of the datapath as it is."""

    ufid: str
    pps: float
    offloaded: bool = False
    netdev: str = "p1"
    shape: str = ""  # "": one for each netdev
    barred: str = ""
    packets: float = 0.0
    hardware: Hardware = Hardware.FULL  # what it is when it is offloaded

    def flow(self) -> Flow:
        """As a dump shows it."""
        there = self.hardware if self.offloaded else Hardware.NONE
        used = 0.0 if self.pps else None
        return Flow(self.ufid, self.netdev, int(self.packets), used, there, self.shape or self.netdev, self.barred)


@dataclass
class Datapath:
    """Streams, the tables of the hardware, and who follows, plans and acts."""

    streams: dict[str, Stream]
    limits: Limits = LIMITS
    holds: int | None = None  # flows that each table takes; None: as many as there are
    unsupported: frozenset[str] = frozenset()  # shapes
    period: float = 3.0  # seconds
    acting: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    now: float = 1000.0
    watch: Watch = NOTHING
    told: Told | None = None
    moved: list[tuple[float, Move]] = field(default_factory=list)  # all that was done

    @classmethod
    def of(cls, *streams: Stream, **fields: Any) -> Datapath:
        """With these flows."""
        return cls({stream.ufid: stream for stream in streams}, **fields)

    def look(self, *, dumped: bool = True, **facts: Any) -> Plan:
        """The time of a round passes, and it is looked at; nothing is done."""
        self.now += self.period
        for stream in self.streams.values():
            stream.packets += stream.pps * self.period
        said: dict[str, Any] = {"process": FIRST, "enabled": True, "userspace": True, "acting": self.acting}
        said |= self.facts | facts
        dump = Dump(at(self.now), tuple(stream.flow() for stream in self.streams.values()), 0.01) if dumped else None
        self.told = offload_watch.follow(
            self.watch, dump, self.limits, Facts(at(self.now), **{"process": FIRST} | said)
        )
        self.watch = self.told.watch
        return self.told.plan

    def go_on(self, rounds: int = 1) -> list[Move]:
        """Rounds in which all that was planned is done; what was done in them."""
        done: list[Move] = []
        for _ in range(rounds):
            plan = self.look()
            moves = (*plan.fills, *plan.swaps)
            tried = tuple(Tried(move, self._try(move)) for move in moves)
            self.watch = offload_watch.acted(self.watch, tried, self.limits, at(self.now + 0.5))
            self.moved += [(self.now, move) for move in moves]
            done += moves
        return done

    def _try(self, move: Move) -> bool:
        """Do as the writer does: what leaves comes back into its slot if the other does not take it."""
        hot = self.streams[move.promoted]
        if move.victim:
            self.streams[move.victim].offloaded = False
        name = offload_tables.name_of(hot.netdev, self.limits.groups)
        there = sum(stream.offloaded for stream in self.streams.values() if stream.netdev in name)
        hot.offloaded = (self.holds is None or there < self.holds) and hot.flow().shape not in self.unsupported
        if move.victim and not hot.offloaded:
            self.streams[move.victim].offloaded = True
        return hot.offloaded

    @property
    def hardware_pps(self) -> float:
        """What the hardware forwards, as it is."""
        return sum(stream.pps for stream in self.streams.values() if stream.offloaded)

    def netdev(self, name: str = "p1") -> Netdev:
        """What was said of it."""
        assert self.told is not None
        return next(one for one in self.told.netdevs if one.name == name)


def streams(rates: Iterable[float], offloaded: Iterable[int] = (), **fields: Any) -> list[Stream]:
    """Flows with these rates, named by their numbers; offloaded: the numbers of those in hardware."""
    there, prefix = set(offloaded), fields.get("netdev", "p1")
    return [Stream(f"{prefix}-{n}", pps, n in there, **fields) for n, pps in enumerate(rates)]
