# SPDX-License-Identifier: Apache-2.0
"""What the fleet's agent sees of this host besides the node document: how busy PMDs are, what they drop, free cores.

It asks vswitchd two short questions, ten seconds and half a minute apart, and never waits for the answer. Drops are
followed only while a PMD has no idle cycles left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ovs.poller
import ovs.vlog

from ovs_keepalive.core.headroom import OVERLOADED, Load, Site
from ovs_keepalive.core.help import AddCore
from ovs_keepalive.core.model import Moment, Seen
from ovs_keepalive.formats import cpu_mask, pmd_load
from ovs_keepalive.formats.node_brief import Polled
from ovs_keepalive.formats.pmd_load import Cycles
from ovs_keepalive.formats.procfs import parse_cpu_list
from ovs_keepalive.publishers.session import MAP, TABLE, AwareIdl, Outcome, Write, monitored, on_switch
from ovs_keepalive.question import Question
from ovs_keepalive.sensors import cpus
from ovs_keepalive.sensors.appctl_client import NoAnswer
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

log = ovs.vlog.Vlog("fleet_load")

BUSY_EVERY, ISOLATED_EVERY = 10.0, 30.0  # seconds between two questions
OLD = 3 * BUSY_EVERY  # seconds after which shares are not known any more
DROPS = ("rx_dropped", "rx_missed_errors")  # of Interface.statistics
MASK = "pmd-cpu-mask"
KEPT = "ovs-keepalive-pmd-cpu-mask"  # in Open_vSwitch.external_ids: the mask as it was before the first core was added
_TABLES: dict[str, dict[str, Any]] = {
    TABLE: {"other_config": MAP, "external_ids": MAP},
    "Interface": {
        "name": {"type": "string"},
        "statistics": {"type": {"key": "string", "value": "integer", "min": 0, "max": "unlimited"}},
    },
}


class Cores(NamedTuple):
    """What the configuration says of cores."""

    offered: str  # CPU list; "" for those that the kernel isolates
    reserve: int


class LoadSensor:
    """run() and wait() belong to the agent's loop."""

    def __init__(self, rundir: Path, pidfile: Path | None, remote: str, cores: Cores) -> None:
        """remote: of the database. Raises OSError, ValueError where this host's CPUs cannot be told."""
        self._who = VswitchdSensor(rundir, pidfile)
        self._now = Moment(0.0, 0)
        self._stats = Question(self._socket, BUSY_EVERY, "dpif-netdev/pmd-stats-show")
        self._rxqs = Question(self._socket, ISOLATED_EVERY, "dpif-netdev/pmd-rxq-show")
        self._rebalance: Question | None = None
        self._numa = cpus.numa()
        self._offered = parse_cpu_list(cores.offered) if cores.offered else cpus.isolated()
        self._reserve = cores.reserve
        self._cycles: dict[int, Cycles] = {}
        self._isolated: frozenset[int] = frozenset()
        self._drops = Drops(remote)
        self.shares: dict[int, float] = {}  # percent busy, by core
        self.mask: frozenset[int] | None = None  # pmd-cpu-mask

    def run(self, now: Moment) -> bool:
        """Take in what has been answered; whether there are new shares."""
        self._now = now
        self._drops.run(wanted=any(share >= OVERLOADED for share in self.shares.values()))
        if self._rxqs.step(now.mono):
            self._isolated = pmd_load.isolated(self._rxqs.answer or "")
        if self._rebalance is not None and (self._rebalance.step(now.mono) or self._rebalance.failure):
            log.info(f"rebalance: vswitchd says {self._rebalance.failure or self._rebalance.answer or 'done'}")
            self._rebalance.close()
            self._rebalance = None
        if self._stats.step(now.mono):
            cycles = pmd_load.cycles(self._stats.answer or "")
            self.shares, self._cycles = pmd_load.busy(self._cycles, cycles), cycles
            return True
        if self._cycles and now.mono - self._stats.at > OLD:
            self.shares, self._cycles = {}, {}
        return False

    def take(self, other_config: dict[str, str]) -> None:
        """What the database says now."""
        try:
            self.mask = cpu_mask.parse(other_config[MASK]) if MASK in other_config else None
        except ValueError as error:
            self.mask = None
            log.warn(f"{error}: no core is added to it")

    def loads(self, pmds: Sequence[Polled]) -> tuple[Load, ...]:
        """The PMDs of the node document, with what is known besides."""
        return tuple(self._load(pmd) for pmd in pmds)

    def _load(self, pmd: Polled) -> Load:
        core = pmd.brief.core
        numa = self._numa.get(core, -1) if pmd.brief.numa is None else pmd.brief.numa
        drops = self._drops.of(pmd.ports)
        return Load(core, numa, pmd.brief.state, self.shares.get(core), core in self._isolated, drops)

    @property
    def site(self) -> Site:
        """The cores of this host."""
        return Site(self._numa, self._offered, self.mask, self._reserve)

    def rebalance(self) -> None:
        """Have vswitchd spread the rxqs that are not pinned."""
        self._rebalance = Question(self._socket, float("inf"), "dpif-netdev/pmd-rxq-rebalance")

    def add_core(self, act: AddCore) -> None:
        """Give one more core to PMDs, unless somebody has changed the mask meanwhile."""
        self._drops.add_core(act)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for answers."""
        for one in (self._stats, self._rxqs, self._rebalance):
            if one is not None:
                one.wait(poller.fd_wait)
        self._drops.wait(poller)

    def close(self) -> None:
        """End all connections."""
        for one in (self._stats, self._rxqs, self._rebalance, self._drops):
            if one is not None:
                one.close()
        self._who.close()

    def _socket(self) -> Path:
        look, _ = self._who.look(self._now)
        if not isinstance(look, Seen):
            raise NoAnswer(f"vswitchd: {look.why}")
        return look.value.control_socket


class Drops:
    """What ports have dropped on receive, from OVSDB, while it is wanted; and the one thing that the agent writes."""

    def __init__(self, remote: str) -> None:
        self._remote = remote
        self._idl: AwareIdl | None = None
        self._act: AddCore | None = None  # that is to be written …
        self._write: Write | None = None  # … and is under way

    def run(self, *, wanted: bool) -> None:
        """Take in what the server sent."""
        if not wanted and self._act is None and self._write is None:
            self.close()
            return
        if self._idl is None:
            self._idl = AwareIdl(self._remote, monitored(_TABLES))
        self._idl.take()
        self._step()

    def of(self, ports: Collection[str]) -> int | None:
        """Packets that these ports have dropped so far; None: nobody counts."""
        if self._idl is None or not self._idl.monitors:
            return None
        rows = [row.statistics for row in self._idl.tables["Interface"].rows.values() if row.name in ports]
        counts = [int(row[kind]) for row in rows for kind in DROPS if kind in row]
        return sum(counts) if counts else None

    def add_core(self, act: AddCore) -> None:
        """Write that mask, once the server can be asked."""
        self._act = act

    def _step(self) -> None:
        if self._idl is None:
            return
        if self._write is not None:
            outcome = self._write.outcome()
            if outcome is Outcome.FAILED:
                log.warn(f"add-core: pmd-cpu-mask was not written: {self._write.error()}")
            if outcome is not Outcome.UNDER_WAY:
                self._write = None
        elif self._act is not None and self._idl.monitors:
            self._write, self._act = Write(self._idl, on_switch(mask_operation(self._texts(), self._act))), None

    def _texts(self) -> dict[str, str]:
        return next((dict(row.other_config) for row in self._idl.tables[TABLE].rows.values()), {}) if self._idl else {}

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what the server sends."""
        if self._idl is not None:
            self._idl.wait(poller)

    def close(self) -> None:
        """End the connection."""
        if self._idl is not None:
            self._idl.close()
            self._idl = None


def mask_operation(other_config: dict[str, str], act: AddCore) -> dict[str, Any]:
    """What writes a mask in the place of the one that was looked at, and only of that one; and keeps the first.

    A pair of a map is deleted only if its value is that, and inserted only if there is none of its key (RFC 7047).
    """
    old = other_config.get(MASK, "")
    if _parsed(old) != act.before:  # somebody has changed it meanwhile: nothing is to be changed
        return {"op": "mutate", "mutations": []}
    return {
        "op": "mutate",
        "mutations": [
            ["other_config", "delete", ["map", [[MASK, old]]]],
            ["other_config", "insert", ["map", [[MASK, cpu_mask.written(act.mask)]]]],
            ["external_ids", "insert", ["map", [[KEPT, old]]]],
        ],
    }


def _parsed(text: str) -> frozenset[int] | None:
    try:
        return cpu_mask.parse(text)
    except ValueError:
        return None
