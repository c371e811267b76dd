# SPDX-License-Identifier: Apache-2.0
"""What a metric is made of: its kind, its rows, and the facts that they tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from ovs_keepalive.core import ledger
from ovs_keepalive.core.model import Pmd, Snapshot
from ovs_keepalive.core.offload import Netdev
from ovs_keepalive.core.ports import PortState

PREFIX = "ovs_keepalive_"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ASKS_OPENMETRICS = re.compile(r"\s*application/openmetrics-text\s*(;|$)", re.IGNORECASE)
_NOT_AT_ALL = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)
_VERSION = re.compile(r";\s*version=\"?([^;\"\s]*)", re.IGNORECASE)


class Kind(StrEnum):
    """What a value is, in Prometheus's words."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


class Own(NamedTuple):
    """What the daemon itself takes."""

    cpu: float  # seconds since it began
    memory: int  # bytes in RAM
    began: float  # epoch seconds


class Offloaded(NamedTuple):
    """What is told of offload."""

    netdevs: Sequence[Netdev] = ()
    armed: bool = False
    moves: Mapping[tuple[str, str], int] = MappingProxyType({})  # by kind and result


class Facts(NamedTuple):
    """All that is told; of the time of its writing are the daemon's own costs only."""

    version: str
    own: Own
    committed: int  # transactions
    failed: int
    snapshot: Snapshot | None  # None: there is none yet
    counted: Mapping[str, ledger.Counted]  # by the names of PMDs, fit to leave
    ports: Sequence[tuple[str, PortState | None]] = ()  # by names that are fit to leave
    offload: Offloaded = Offloaded()


class Page(NamedTuple):
    """The facts, with the PMDs arranged for many families."""

    facts: Facts
    snapshot: Snapshot
    pmds: tuple[tuple[str, str, Pmd], ...]  # name and labels, fit to leave


class Row(NamedTuple):
    """One line: its labels as they stand between the braces."""

    labels: str
    value: float
    suffix: str = ""  # of the family's name


class Family(NamedTuple):
    """One metric."""

    name: str  # without PREFIX
    kind: Kind
    labels: tuple[str, ...]
    help: str
    of_facts: Callable[[Facts], Iterable[Row]] | None = None  # known before the first snapshot …
    rows: Callable[[Page], Iterable[Row]] = lambda _: ()  # … or only with one


def label(name: str, value: str) -> str:
    """One label as it stands between the braces. The value has to be fit to leave; quoted it is here."""
    quoted = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{quoted}"'


def written(name: str, kind: Kind, help_: str, rows: Iterable[Row], *, openmetrics: bool) -> str:
    """One metric as it stands in the exposition; nothing if it has no rows. name: without PREFIX."""
    name = PREFIX + name
    lines = "".join(
        [
            f"{name}{suffix}{{{labels}}} {value!r}\n" if labels else f"{name}{suffix} {value!r}\n"
            for labels, value, suffix in rows
        ]
    )
    if not lines:
        return ""
    told = str(Kind.GAUGE if kind is Kind.INFO and not openmetrics else kind)
    if openmetrics:
        name = name.removesuffix("_total").removesuffix("_info")
    return f"# HELP {name} {help_}\n# TYPE {name} {told}\n{lines}"


def wants_openmetrics(accept: str) -> bool:
    """Whether the header names OpenMetrics 1.0. Its other words are for choices that there are not here.

    prometheus_client.exposition.choose_encoder would do, but raises TypeError for `version=a`.
    """
    for wish in accept.split(","):
        if _ASKS_OPENMETRICS.match(wish) and not _NOT_AT_ALL.search(wish):
            version = _VERSION.search(wish)
            if version is None or version[1].startswith("1."):
                return True
    return False
