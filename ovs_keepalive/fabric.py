# SPDX-License-Identifier: Apache-2.0
"""What the fleet's agent knows and does of tunnels: their state always, the mesh and the services where asked for.

The agent calls run() in each turn of its loop and puts `tunnels` and `services` into what it tells the fleet.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import ovs.poller
import ovs.vlog

from ovs_keepalive.core import tunnels
from ovs_keepalive.core.fleet import Member, Tunnel
from ovs_keepalive.core.mesh import Asked, Cell
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.core.services import Offer
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.mesh import Mesh
from ovs_keepalive.mesh_rows import MeshRows
from ovs_keepalive.service_flows import ServiceFlows

log = ovs.vlog.Vlog("fabric")


class Fabric:
    """run() and wait() belong to the agent's loop."""

    def __init__(
        self, remote: str, rundir: Path, asked: Asked | None = None, registered: Mapping[str, str] | None = None
    ) -> None:
        """remote: of the database; rundir: Open vSwitch's; asked: None without a mesh; registered: `fleet.services`."""
        self.tunnels: tuple[Tunnel, ...] = ()  # as many as a node may tell of
        self._all: tuple[Tunnel, ...] = ()
        self._rows = MeshRows(remote)
        self._asked = asked
        self._mesh = Mesh(self._rows, asked) if asked is not None else None
        self._flows = ServiceFlows(rundir, asked, registered) if asked is not None else None
        self._offers: dict[str, tuple[Offer, ...]] = {}  # as the store said last
        self._listed = False  # the store said in this turn who is there
        self._held = ""  # why nothing may be changed
        self._repeats = Repeats()

    def run(
        self,
        live: Mapping[str, Member] | None,
        known: Collection[str],
        now: Moment,
        *,
        vouched: bool = True,
        held: str = "",
    ) -> None:
        """One turn.

        live: the members that have a session, None while the store cannot be asked: then nobody is added or removed,
        and services go on by what was told last, as long as BFD says UP. known: every member that was not forgotten.
        vouched: vswitchd runs and answers; of one that does not the database keeps what it wrote last.
        held: why nothing of this Open vSwitch is to be changed now; "" if it may be.
        """
        self._hold(held, now)
        self._listed = live is not None
        self._rows.run()
        if live is not None:
            self._offers = _offers(live, "" if self._asked is None else self._asked.host)
        if self._mesh is not None:
            addresses = {host: one.address for host, one in (live or {}).items()}
            self._mesh.run(None if live is None or held else Cell(addresses, frozenset(known)), now)
        if self._rows.listens:
            rows = self._rows.rows()
            self._all = tunnels.own(rows.interfaces, self._all, now.wall_ms, vouched=vouched)
            self.tunnels = tunnels.fitting(self._all)
            if self._flows is not None and not held:
                self._flows.run(rows, self._offers, now)

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for what the database sends."""
        self._rows.wait(poller)

    def due(self) -> float:
        """Monotonic seconds; when the next turn is due whatever happens."""
        parts = (self._mesh if self._listed else None, self._flows)
        return min((part.due for part in parts if part is not None and not self._held), default=math.inf)

    def close(self) -> None:
        """End the connection; ports and flows stay as they are."""
        self._rows.close()

    @property
    def services(self) -> Mapping[str, int]:
        """The services that are here, with their numbers."""
        return {} if self._flows is None else self._flows.routes.offered

    def _hold(self, why: str, now: Moment) -> None:
        """A PMD that stalls would hold up whoever changes a port or a flow, and all other PMDs with it."""
        held = why and one_line(f"ports and flows of the mesh stay as they are: {why}")
        if held != self._held and self._mesh is not None:
            text = held or "ports and flows of the mesh may be changed again"
            if line := self._repeats.line("held" if held else "free", text, now.mono):
                (log.warn if held else log.info)(line)
        self._held = held


def _offers(live: Mapping[str, Member], own: str) -> dict[str, tuple[Offer, ...]]:
    """Who has which service."""
    found: dict[str, tuple[Offer, ...]] = {}
    for host, member in live.items():
        for service, number in member.services.items() if host != own else ():
            found[service] = (*found.get(service, ()), Offer(host, number, member.headroom))
    return found
