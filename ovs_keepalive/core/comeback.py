# SPDX-License-Identifier: Apache-2.0
"""Whether all that was there before a restart of vswitchd is there again, and how long such a restart broke before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ovs_keepalive.core import breaks
from ovs_keepalive.core.model import BreakKind, VswitchdState


class Expected(NamedTuple):
    """What the earlier announced restarts of this host say of the next one; seconds, None: there are too few."""

    median: float | None
    worst: float | None
    n: int


class Host(NamedTuple):
    """What a restart has to bring back."""

    cores: frozenset[int]  # that have a PMD which polls and makes progress
    links: Mapping[str, str]  # of each interface the state that vswitchd wrote; "" where it wrote none
    flows: Mapping[str, int | None]  # of OpenFlow, by bridge; None: not known


class Report(NamedTuple):
    """A restart that was watched to its end."""

    command: Sequence[str]
    status: int  # with which it ended
    expected: Expected
    max_break: float | None  # seconds that were allowed
    broke: Mapping[str, Any] | None  # the document of the break; None: vswitchd did not end
    before: Host
    after: Host

    @property
    def stragglers(self) -> list[str]:
        """What did not come back, in words."""
        return missing(self.before, self.after, self.broke)

    @property
    def well(self) -> bool:
        """Whether the command did what it had to, and all came back."""
        return self.status == 0 and self.broke is not None and is_over(self.broke) and not self.stragglers


def expected(documents: Sequence[Mapping[str, Any]]) -> Expected:
    """What to expect of an announced restart. documents: of the breaks that are known."""
    known = (one["data_plane_ms"] for one in documents if one["kind"] == BreakKind.PLANNED)
    earlier = [one["estimate"] / 1000 for one in known if one is not None]
    median, worst = breaks.predicted(earlier) or (None, None)
    return Expected(median, worst, len(earlier))


def newest(node: Mapping[str, Any], pid: int) -> Mapping[str, Any] | None:
    """The break that ended this process, or one that its successors brought; None while there is none."""
    pids, found = {pid}, None
    for one in node["breaks"]:
        if one["pid_old"] in pids:
            found = one
            pids.add(one["pid_new"])
    return found


def is_over(broke: Mapping[str, Any]) -> bool:
    """Whether the new process answers, and forwards if there is anything to forward."""
    forwards = broke["unknown"] is not None or broke["data_plane_ms"] is not None
    return forwards and broke["control_to"] is not None


def is_back(node: Mapping[str, Any], broke: Mapping[str, Any], before: Host, after: Host) -> bool:
    """Whether there is nothing more to wait for."""
    running = node["vswitchd"]["state"] == VswitchdState.RUNNING
    return running and is_over(broke) and not missing(before, after, broke)


def missing(before: Host, after: Host, broke: Mapping[str, Any] | None) -> list[str]:
    """What was there and is not, in words. A link that was not up before is nobody's loss."""
    polled = [] if broke is None else broke["ports_missing"]
    down = [name for name, state in before.links.items() if state == "up" and after.links.get(name) != "up"]
    cores = sorted(before.cores - after.cores)
    return [f"port {name}" for name in sorted({*polled, *down})] + [f"the PMD of core {core}" for core in cores]
