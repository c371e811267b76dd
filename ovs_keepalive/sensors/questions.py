# SPDX-License-Identifier: Apache-2.0
"""What vswitchd's main thread is asked about its PMDs: counters and rxqs, one question at a time, none repeated
while it owes an answer.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import Moment, NotSeen, PmdBlock, PmdRxqs, Seen, Sent
from ovs_keepalive.core.tally import Tally
from ovs_keepalive.formats import pmd_perf, pmd_rxq
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused

USERSPACE = ("netdev", "dummy")  # datapath types that have PMD threads
COSTS = 32  # round trips of which the shortest is taken as the cost of one


class Kind(Enum):
    """A question, by the command that asks it."""

    COUNTERS = ("dpif-netdev/pmd-perf-show", "-nh")
    RXQS = ("dpif-netdev/pmd-rxq-show",)
    DATAPATHS = ("dpctl/dump-dps",)


class Answers(NamedTuple):
    """What came in; None where nothing did."""

    counters: Seen[tuple[PmdBlock, ...]] | NotSeen | None = None
    rxqs: Seen[tuple[PmdRxqs, ...]] | NotSeen | None = None
    iterations: Seen[Mapping[int, int]] | None = None  # by core, where nothing else of the counters was read
    sent: Sent | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing came in."""
        return self.counters is None and self.iterations is None and self.rxqs is None

    def or_else(self, other: Answers) -> Answers:
        """These, and the other's where these have none."""
        if other is NOTHING:
            return self
        iterations = self.iterations or other.iterations
        return Answers(self.counters or other.counters, self.rxqs or other.rxqs, iterations, self.sent or other.sent)


NOTHING = Answers()


class Before(NamedTuple):
    """What an earlier conversation with the same main thread has left: nothing, as a rule."""

    cost: float = 0.0  # seconds of one look; 0.0: not known
    owed: float = 0.0  # monotonic time of the request that it has not answered; 0.0: it owes nothing
    answered: bool = False


class Questions:
    """The conversation with the main thread of one vswitchd process, over one connection."""

    def __init__(self, control_socket: Path, tally: Tally | None = None) -> None:
        self._client = AppctlClient(control_socket)
        self._tally = tally or Tally()  # outlives the process that is asked
        self._kind = self._wanted = Kind.COUNTERS
        self._asked = self._began = 0.0  # monotonic time of the last request, and of the question's first one
        self._wholly = True
        self._listed = False  # whether the datapaths were listed for this very question
        self._datapaths: tuple[str, ...] = ("",)
        self._pending: tuple[str, ...] = ()  # datapaths of which this question still has to be asked
        self._texts: list[tuple[str, str]] = []
        self._costs: deque[float] = deque(maxlen=COSTS)
        self._owed = 0.0  # monotonic: since when, of an earlier conversation; 0.0: nothing
        self._kernel = False  # whether it has a datapath of the kernel, as far as was asked
        self.answered = False
        self.unreachable = False  # the control socket let nobody in when it was tried last

    def resume(self, before: Before) -> None:
        """Go on with a conversation that another daemon has begun: what was owed to it is asked anew, and owed."""
        self._costs.extend([before.cost] if before.cost else [])
        self._owed, self.answered = before.owed, before.answered

    def close(self) -> None:
        """End the conversation."""
        self._client.close()

    @property
    def awaited(self) -> tuple[int | None, int]:
        """The descriptor to poll, and for which events."""
        client = self._client
        return client.fileno(), select.POLLIN | select.POLLOUT if client.sending else select.POLLIN

    @property
    def busy(self) -> bool:
        """Whether an answer is owed."""
        return self._client.waiting

    @property
    def asked(self) -> float:
        """Monotonic time of the last request."""
        return self._asked

    def silent(self, now: float) -> float:
        """Seconds for which an answer has been owed."""
        return now - self._asked if self._client.waiting else 0.0

    @property
    def cost(self) -> float:
        """Seconds of the main thread that one look takes, at most: the shortest of the last round trips."""
        return min(self._costs, default=0.0)

    def ask(self, kind: Kind, now: Moment, wholly: bool = True) -> Answers:
        """Ask, unless an answer is owed. Returns what is known at once: that nobody can be asked.

        wholly: read every counter of the answer; else only the iterations.
        """
        if self._client.waiting:
            return NOTHING
        self._kind = self._wanted = kind
        self._began, self._listed, self._wholly = now.mono, False, wholly
        if kind is Kind.RXQS and self._datapaths != ("",):
            self._kind = Kind.DATAPATHS  # where there are several, another may have come
        return self._begin(now)

    def receive(self, now: Moment) -> Answers:
        """Take in what has come by now."""
        try:
            text = self._client.receive()
        except NoAnswer as error:
            self.unreachable = True
            return self._blind(now, str(error))
        except Refused as error:
            self.answered = True
            return self._refused(now, str(error))
        if text is None:
            return NOTHING
        self.answered = True
        if self._kind is Kind.DATAPATHS:
            return self._named(text, now)
        self._texts.append((self._pending[0], text))
        self._pending = self._pending[1:]
        if self._pending:
            return self._send(now)
        if self._kind is Kind.RXQS:
            return Answers(rxqs=Seen(now, tuple(p for name, reply in self._texts for p in pmd_rxq.parse(reply, name))))
        took = now.mono - self._began
        self._costs.append(took)
        self._tally.answered(took)
        counts = [count for _, reply in self._texts if (count := pmd_perf.parse_sent(reply)) is not None]
        sent = Sent(self._began, sum(counts) if counts else None, self._kernel)
        if not self._wholly and len(self._texts) == 1 and (iterations := pmd_perf.parse_iterations(text)) is not None:
            return Answers(iterations=Seen(now, iterations), sent=sent)
        blocks = tuple(block for name, reply in self._texts for block in pmd_perf.parse(reply, name))
        return Answers(counters=Seen(now, blocks), sent=sent)

    def _begin(self, now: Moment) -> Answers:
        self._texts, self._pending = [], self._datapaths
        return self._send(now)

    def _send(self, now: Moment) -> Answers:
        name = self._pending[0] if self._kind is not Kind.DATAPATHS else ""
        try:
            self._client.ask(*self._kind.value, *([name] if name else []))
        except NoAnswer as error:
            self.unreachable = True
            return self._blind(now, str(error))
        self._asked, self._owed, self.unreachable = self._owed or now.mono, 0.0, False
        return NOTHING

    def _refused(self, now: Moment, why: str) -> Answers:
        # "please specify an existing datapath": there is none, or there are several and it wants a name.
        if self._kind is not Kind.DATAPATHS and not self._listed and "datapath" in why:
            self._kind = Kind.DATAPATHS
            return self._send(now)
        self._datapaths = ("",)
        return self._blind(now, why)

    def _named(self, text: str, now: Moment) -> Answers:
        # One a line: netdev@ovs-netdev
        lines = [line.strip().partition("@") for line in text.splitlines()]
        self._kernel = any(kind == "system" for kind, _, _ in lines)
        names = tuple(name for kind, _, name in lines if kind in USERSPACE and name)
        self._kind, self._listed = self._wanted, True
        if not names:
            self._datapaths = ("",)
            return self._nothing(now)  # no datapath with PMDs is an answer too
        self._datapaths = names
        return self._begin(now)

    def _nothing(self, now: Moment) -> Answers:
        if self._wanted is Kind.RXQS:
            return Answers(rxqs=Seen(now, ()))
        self._tally.answered(now.mono - self._began)
        return Answers(counters=Seen(now, ()), sent=Sent(self._began, None, self._kernel))

    def _blind(self, now: Moment, why: str) -> Answers:
        look = NotSeen(now, why)
        return Answers(rxqs=look) if self._wanted is Kind.RXQS else Answers(counters=look)
