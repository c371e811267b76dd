# SPDX-License-Identifier: Apache-2.0
"""What goes through the pipes between the daemon and the process that looks at flows: a JSON document a line."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.offload import Limits, Netdev, Plan
from ovs_keepalive.core.offload_act import Anomaly, Outcome
from ovs_keepalive.formats.plain import LAST_MS, json_bytes

LARGEST = 4 << 20  # bytes of one report; of 1,000 netdevs and 100 moves some 500,000


class Order(msgspec.Struct, frozen=True):
    """The first line that it gets: where to look, and where to keep its journal."""

    pidfile: str | None  # of vswitchd
    state_dir: str


class Ask(msgspec.Struct, frozen=True):
    """Every other line: a report is wanted in so many seconds. The newest one counts, and ends what another began."""

    wait: float  # seconds, at least
    share: float  # of the main thread's time that looks may take
    most: int  # flows that are dumped
    limits: Limits
    enabled: bool  # other_config:hw-offload is true
    rebalanced: bool  # other_config:offload-rebalance is true
    planning: bool  # a plan is made
    ready: bool  # it is found out whether flows of this vswitchd may be moved
    acting: bool  # the plan is carried out: armed, and nothing speaks against it


class Report(NamedTuple):
    """What came of a round."""

    at: Moment
    process: ProcessId | None  # the vswitchd that was looked at
    netdevs: tuple[Netdev, ...]
    plan: Plan
    gate: str  # why no flow of this vswitchd may be moved; "" if flows may be
    outcomes: tuple[Outcome, ...]  # of the moves of this round
    anomalies: tuple[Anomaly, ...]  # that belong to no single move
    mended: tuple[str, ...]  # what was done for flows that the journal had open, a line each
    unfinished: int  # of those
    futile: str  # why nothing more should be tried; "" while it may help
    cost: float  # seconds of vswitchd's main thread that the look took
    pause: float  # seconds until the next one, at least


_ORDER = msgspec.json.Decoder(Order)
_ASK = msgspec.json.Decoder(Ask)
_REPORT = msgspec.json.Decoder(Report)


def line(said: Order | Ask | Report) -> bytes:
    """As it goes through the pipe."""
    return json_bytes(said) + b"\n"


def order(text: bytes) -> Order:
    """Raises ValueError."""
    return _ORDER.decode(text)


def ask(text: bytes) -> Ask:
    """Raises ValueError."""
    return _ASK.decode(text)


def report(text: bytes) -> Report:
    """Raises ValueError."""
    told = _REPORT.decode(text)
    moments = (told.at, told.plan.at, *(one.since for one in told.netdevs), *(one.at for one in told.outcomes))
    if not all(0 <= moment.wall_ms <= LAST_MS for moment in moments):
        raise ValueError("it tells of a time that cannot be")
    return told
