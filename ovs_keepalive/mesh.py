# SPDX-License-Identifier: Apache-2.0
"""Keeps the mesh (`fleet.mesh`): brings OVSDB to what `core.mesh` plans, one transaction at a time and not too often.

Each is told in the log and, as its comment, in the database's own journal (`ovsdb-tool show-log`). It is undone by
`remove`, which takes away every row that bears our mark. The agent's end leaves the mesh as it is: packets need no
agent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import ovs.poller
import ovs.timeval
import ovs.vlog

from ovs_keepalive.core import mesh
from ovs_keepalive.core.interfaces import Rows
from ovs_keepalive.core.mesh import Asked, Cell, Plan
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.formats import mesh as form
from ovs_keepalive.formats import service_flows as flows
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.mesh_rows import MeshRows
from ovs_keepalive.publishers.session import Outcome, Write
from ovs_keepalive.sensors.openflow import NoFlows, Ofctl

log = ovs.vlog.Vlog("mesh")

PAUSE = 1.0  # seconds between two transactions: whoever comes meanwhile goes into the next one
LONGEST_PAUSE = 60.0  # after failures, each of which doubles it …
DOUBLED = 6  # … so many times
PATIENCE = 10.0  # seconds for ovsdb-server, of whoever waits for it
POLL = 100  # ms between two looks at what nobody announces


class Mesh:
    """run() belongs to the agent's loop."""

    def __init__(self, rows: MeshRows, asked: Asked) -> None:
        self.told: tuple[str, ...] = ()  # what is not done, and why
        self._rows = rows
        self._asked = asked
        self._change: Write | None = None
        self._plan = Plan()  # of that change
        self._failed = 0  # in a row
        self._next = 0.0  # monotonic; not before then
        self._waits = False  # for that moment
        self._missed: Mapping[str, float] = {}  # by the store's list: host -> since when, monotonic
        self._seen: tuple[Cell, Rows] | None = None  # of the last plan: the same make the same one
        self._repeats = Repeats()

    def run(self, cell: Cell | None, now: Moment) -> None:
        """One turn. cell: None while the store cannot be asked; then nothing is changed."""
        if self._change is not None and not self._settled(self._change, now):
            return
        self._waits = now.mono < self._next
        if cell is None or not self._rows.listens or self._waits:
            return
        rows = self._rows.rows()
        self._missed = mesh.missed(self._asked, cell, rows, self._missed, now.mono)
        cell = mesh.with_missed(cell, self._missed, now.mono)
        if self._seen is not None and self._seen[1] is rows and self._seen[0] == cell:
            return
        plan, before = mesh.plan(self._asked, cell, rows), self.told
        self._seen, self.told = (cell, rows), tuple(map(one_line, plan.told))
        for line in self.told:
            if line not in before:
                self._say(line, now)
        if plan.acts:
            self._plan = plan
            self._change = self._rows.transact(form.operations(self._asked, plan), f"mesh {plan.words()}")

    @property
    def due(self) -> float:
        """Monotonic seconds; when a change that has to wait may be made. Never, if there is none."""
        if self._waits or self._change is not None or self._seen is None:
            return self._next if self._waits else math.inf
        kept = self._seen[0].known
        return min((since + mesh.GRACE for host, since in self._missed.items() if host in kept), default=math.inf)

    def _settled(self, change: Write, now: Moment) -> bool:
        outcome = change.outcome()
        if outcome is Outcome.UNDER_WAY:
            return False
        if outcome is Outcome.DONE:
            self._failed, self._next = 0, now.mono + PAUSE
            log.info(one_line(f"{self._asked.bridge}: {self._plan.words()}"))
        else:
            self._failed, self._seen = self._failed + 1, None
            self._next = now.mono + min(PAUSE * 2 ** min(self._failed, DOUBLED), LONGEST_PAUSE)
            self._say(f"{self._asked.bridge}: not done ({self._plan.words()}): {change.error()}: trying again", now)
        self._change = None
        return True

    def _say(self, line: str, now: Moment) -> None:
        if said := self._repeats.line(line, one_line(line), now.mono):
            log.warn(said)


class NotRemoved(Exception):
    """The mesh is still there, or a part of it: one line why."""


def remove(remote: str, rundir: Path, asked: Asked, seconds: float = PATIENCE) -> str:
    """Take the whole mesh away, for a command line: it waits. What was done, in words. Raises NotRemoved."""
    rows = MeshRows(remote)
    deadline = ovs.timeval.msec() + seconds * 1000
    try:
        while not rows.listens:
            _turn(rows, deadline, f"{remote}: has not told what it holds")
        ports, bridge = mesh.removal(asked, rows.rows())
        if not ports and not bridge:
            return f"{asked.bridge}: no mesh of the cell {asked.cell} is there"
        words = f"removes {len(ports)} ports and the bridge"
        if not bridge:
            words = f"removes {len(ports)} ports; the bridge stays: others have ports on it"
            _without_flows(rundir, asked)
        id = rows.bridge_id(asked.bridge) if bridge else ""
        change = rows.transact(form.withdrawal(asked, ports, bridge=id), f"mesh {words}")
        while change.outcome() is Outcome.UNDER_WAY:
            _turn(rows, deadline, f"{remote}: no answer to the change: whether it is done, ovs-vsctl show tells")
        if change.outcome() is Outcome.FAILED:
            raise NotRemoved(f"{remote}: {change.error()}: try again")
        return f"{asked.bridge}: {words}"
    finally:
        rows.close()


def _turn(rows: MeshRows, deadline: float, otherwise: str) -> None:
    if ovs.timeval.msec() >= deadline:
        raise NotRemoved(otherwise)
    poller = ovs.poller.Poller()
    rows.wait(poller)
    poller.timer_wait(POLL)
    poller.block()
    rows.run()


def _without_flows(rundir: Path, asked: Asked) -> None:
    """On a bridge that stays, ours go as well."""
    ofctl = Ofctl(rundir, asked.bridge)
    try:
        if changes := flows.bundle({}, flows.there(ofctl.with_cookie(flows.OURS, flows.MASK))):
            ofctl.bundle(changes)
    except NoFlows as error:
        raise NotRemoved(f"{asked.bridge}: its flows: {error}") from error
