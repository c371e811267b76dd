# SPDX-License-Identifier: Apache-2.0
"""Keeps the flows of the services on the mesh's bridge: what is wanted against what is there, in one OpenFlow bundle.

They are looked at again from time to time and whenever a port changed: OpenFlow is not stored, and a new vswitchd has
none. The agent's end leaves them: whoever is served goes on being served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import ovs.vlog

from ovs_keepalive.core import mesh, services
from ovs_keepalive.core.interfaces import Rows
from ovs_keepalive.core.mesh import Asked
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.core.services import Offer, Routes
from ovs_keepalive.formats import service_flows as form
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.sensors.openflow import NoFlows, Ofctl

log = ovs.vlog.Vlog("services")

DEADLINE = 2.0  # seconds for one answer of vswitchd
LOOK = 15.0  # seconds between two looks at what is there
AGAIN = 2.0  # seconds after a look at which it was not as wanted, or nobody answered


class ServiceFlows:
    """run() belongs to the agent's loop; it waits for vswitchd, as long as DEADLINE says."""

    def __init__(self, rundir: Path, asked: Asked, registered: Mapping[str, str] | None) -> None:
        """registered: service -> name of its port on the mesh's bridge; None: no services, and flows of ours go."""
        self.routes = Routes()
        self._asked = asked
        self._registered = registered
        self._ofctl = Ofctl(rundir, asked.bridge, DEADLINE)
        self._rows: Rows | None = None  # of the last look
        self._wanted: Mapping[int, str] = {}
        self._ours = True  # whether flows of ours may be there: of another agent, for all that is known now
        self._looked = 0.0  # monotonic; the last look …
        self._due = 0.0  # … and the next
        self._repeats = Repeats()

    def run(self, rows: Rows, offers: Mapping[str, tuple[Offer, ...]], now: Moment) -> None:
        """One turn. rows: of OVSDB; offers: of the live members, by service, this host not among them."""
        if not any(one.name == self._asked.bridge and one.external_ids.get(mesh.MARK) for one in rows.bridges):
            return  # the mesh makes it
        before = self.routes
        if self._registered is not None:
            on_bridge = [one for one in rows.interfaces if one.bridge == self._asked.bridge]
            tunnels = mesh.ours(self._asked, rows)
            self.routes = services.routes(self._registered, on_bridge, tunnels, offers, before.chosen)
        wanted = form.wanted(self.routes)
        if rows is not self._rows:  # a new vswitchd, perhaps
            self._due = min(self._due, self._looked + AGAIN)
            self._rows = rows
        if (wanted == self._wanted and now.mono < self._due) or not (wanted or self._ours):
            return
        self._wanted, self._looked = wanted, now.mono
        self._tell(before, now)
        matches = self._matches(now)
        self._ours = bool(wanted) or not matches
        self._due = now.mono + (LOOK if matches else AGAIN)

    @property
    def due(self) -> float:
        """Monotonic seconds; when to look again. Never, if there is nothing to look at."""
        return self._due if self._wanted or self._ours else math.inf

    def _matches(self, now: Moment) -> bool:
        """Whether all is there that is wanted, and nothing else of ours; if not, it is sent."""
        try:
            are = form.there(self._ofctl.with_cookie(form.OURS, form.MASK))
            changes = form.bundle(self._wanted, are)
            if changes:
                self._ofctl.bundle(changes)
                log.info(f"{self._asked.bridge}: {len(self._wanted)} flows, {len(are)} were there")
        except NoFlows as error:
            self._warn(f"{self._asked.bridge}: {error}: trying again", now)
            return False
        return not changes

    def _tell(self, before: Routes, now: Moment) -> None:
        """A line for each service that goes another way now."""
        was = {route.service: _way(route.home is not None, route.host) for route in before.routes}
        for route in self.routes.routes:
            way = _way(route.home is not None, route.host)
            if was.get(route.service) != way:
                log.info(one_line(f"service {route.service}: {was.get(route.service, 'not known')} -> {way}"))
        for line in self.routes.told:
            if line not in before.told:
                self._warn(line, now)

    def _warn(self, line: str, now: Moment) -> None:
        if said := self._repeats.line(line, one_line(line), now.mono):
            log.warn(said)


def _way(home: bool, host: str) -> str:
    return "at home" if home else f"to {host}" if host else "nowhere"
