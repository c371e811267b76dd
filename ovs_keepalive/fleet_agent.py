# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive fleet agent`: tells the fleet how this host is, and asks for help and gives it. A process of its own.

It is a consumer of the node like any other: it asks the daemon by its control socket, and the daemon knows nothing of
it. Without a store, or without an answer from it, it goes on and tries again.
"""

from __future__ import annotations

import os
import random
import select
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import ovs.poller
import ovs.vlog

from ovs_keepalive import __version__, process
from ovs_keepalive.beat import moment
from ovs_keepalive.command_line import USAGE, WELL, Problem
from ovs_keepalive.config_sections import Fleet
from ovs_keepalive.core import help as rules
from ovs_keepalive.core import telling
from ovs_keepalive.core.fleet import Headroom, Member
from ovs_keepalive.core.help import Mode
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.fabric import Fabric
from ovs_keepalive.fleet.desk import Desk, Now, Rules
from ovs_keepalive.fleet.members import Membership, Rivalled
from ovs_keepalive.fleet.session import News, Session
from ovs_keepalive.fleet.store import Link, Refused, Unreachable, Why
from ovs_keepalive.fleet.watch import MEMBERS, CellWatch
from ovs_keepalive.fleet_access import mesh, options, own_name, tree
from ovs_keepalive.fleet_load import Cores
from ovs_keepalive.fleet_node import OwnNode, Place, policy
from ovs_keepalive.formats import node_brief
from ovs_keepalive.programs import trust

log = ovs.vlog.Vlog("fleet_agent")

TURN = 1.0  # seconds between two turns, if nothing happens
SHORTEST = 0.05  # seconds between two turns, if nothing happens but time
PAUSE = 1.0  # seconds after a call that failed
RIVALLED = 60.0  # seconds for which the earlier of two agents of one name tells nothing
NO_NEWS = News((), frozenset())  # it has them already
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Agent:
    """One run: loop() returns when it is told to stop."""

    def __init__(self, fleet: Fleet, place: Place) -> None:
        """Raises Problem."""
        ovs.poller.SelectPoll = select.poll  # python-ovs's own fails on descriptors from 1024 on
        self.host, wanted = own_name(fleet), mesh(fleet)
        self._fleet, self._mode, self._tree = fleet, Mode(fleet.help), tree(fleet)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._session = Session(options(fleet), lambda: moment().mono, partial(os.eventfd_write, self._bell, 1))
            cores = Cores(fleet.headroom_cpus, fleet.headroom_reserve)
            self._node = OwnNode(place, policy(fleet.help, cores, fleet.rebalance, fleet.add_cores), moment())
        except (OSError, ValueError) as error:
            raise Problem(f"fleet: {error}", USAGE) from error
        self._stopping = False
        self._wakeup, self._wakeup_end = process.catch_signals(self.stop, lambda: None)
        self._member = Membership(self._session, self._tree, self.host)
        hook = Path(fleet.hook) if fleet.hook else None
        self._desk = Desk(self._session, self._tree, self.host, Rules(self._mode, hook))
        self._fabric = Fabric(place.remote, place.rundir, wanted, fleet.services if wanted is not None else None)
        self._watch = CellWatch(self._session, self._tree, MEMBERS) if wanted is not None else None
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._repeats = Repeats()
        self._seq = 0
        self._told: telling.Told | None = None  # None: nothing, or nobody answered
        self._rest = 0.0  # monotonic; until then the store is left alone
        self._changed: set[str] = set()  # of which the store told in turns in which it was left alone
        self._is_planted = False
        self._link = Link.LOST

    def loop(self) -> int:
        """Tell until told to stop. The exit status, which is 0."""
        self._session.start()
        log.info(f"{self.host}, in cell {self._fleet.cell} of the fleet at {self._fleet.zookeeper}")
        try:
            while not self._stopping:
                self._turn(moment())
                self._block()
            self._leave(moment())
        finally:
            self._close()
        return WELL

    def stop(self) -> None:
        """End the loop after this turn."""
        self._stopping = True

    def _turn(self, now: Moment) -> None:
        self._node.run(now)
        news = self._session.news()
        self._follow(news, now)
        self._changed |= news.changed
        if self._watch is not None:
            self._watch.take(news)
        self._desk.look_at_hooks(now.mono)
        if self._session.is_doubtful(now.mono):
            self._desk.lose("no word from ZooKeeper: what is claimed may be another's", now.mono)
        live, known = None, frozenset[str]()
        if self._link is Link.CONNECTED and now.mono >= self._rest and self._node.is_known:
            try:
                live, known = self._serve(now)
                self._changed.clear()
            except Rivalled as error:
                self._fail("rival", str(error), now, RIVALLED)
                self._give_way(now)
            except (Refused, Unreachable, ValueError) as error:
                self._fail("store", f"the store: {error}", now, PAUSE)
                if isinstance(error, Refused) and error.why is Why.ABSENT:
                    self._is_planted = False  # somebody emptied it
        self._fabric.run(live, known, now, vouched=self._node.vouched, held=self._node.objection)

    def _follow(self, news: News, now: Moment) -> None:
        """How the session stands."""
        for link in news.links:
            if link is Link.LOST:
                self._desk.lose("the session with ZooKeeper is over", now.mono)
            if link is Link.CONNECTED:
                chance = random.random() if self._seq else 0.0  # noqa: S311 - no secret
                self._rest = now.mono + telling.pause(chance, self._neighbours)
                self._told = None
            if link is not self._link:
                why = f": {self._session.problem}" if self._session.problem and link is not Link.CONNECTED else ""
                (log.info if link is Link.CONNECTED else log.warn)(f"ZooKeeper: {self._link} -> {link}{why}")
            self._link = link

    @property
    def _neighbours(self) -> int:
        """How many hosts the cell has, as far as this one knows."""
        return len(self._watch.cell.hosts) if self._watch is not None else 0

    def _serve(self, now: Moment) -> tuple[Mapping[str, Member] | None, frozenset[str]]:
        """All that needs the store; who is there, and who is known. Raises Refused, Rivalled, Unreachable."""
        if not self._is_planted:
            self._tree.plant(self._session)
            self._is_planted = True
        given_away = rules.promised(self._desk.helping, now.mono)
        spare = self._node.spare(given_away, asks=self._desk.has_open)
        self._tell(self._as_member(spare, now), now)
        self._desk.turn(now, self._now(spare, now), self._changed)
        if self._watch is None:
            return None, frozenset()
        self._watch.turn(NO_NEWS, now.mono)
        hosts = self._watch.cell.hosts
        if self.host not in hosts:  # somebody emptied the store: the mesh waits a minute for us, not for the refresh
            self._told = None
        return {host: one.live for host, one in hosts.items() if one.live is not None}, frozenset(hosts)

    def _give_way(self, now: Moment) -> None:
        """The name is another agent's now. Our session lives on, and would shut others out of what it claimed."""
        try:
            self._desk.close("another agent has this host's name", now)
        except (Refused, Unreachable) as error:
            self._fail("store", f"the store: {error}", now, PAUSE)

    def _now(self, spare: Headroom, now: Moment) -> Now:
        chance = random.random()  # noqa: S311 - no secret
        hook = self._fleet.hook
        distrust = trust.of_hook(Path(hook)) if self._mode is Mode.HOOK and hook else ""
        return Now(self._node.troubles(now), spare, chance, distrust)

    def _as_member(self, spare: Headroom, now: Moment) -> Member:
        brief, shares = self._node.brief, self._node.shares
        return Member(
            host=self.host,
            seq=self._seq,
            t=now.wall_ms,
            boot=self._boot,
            state=brief.state,
            since=brief.since,
            why=brief.why,
            pmds=tuple(node_brief.with_busy(pmd, shares) for pmd in brief.pmds),
            headroom=spare,
            tunnels=self._fabric.tunnels,
            services=self._fabric.services,
            address=self._fleet.address,
            ver=__version__,
        )

    def _tell(self, member: Member, now: Moment) -> None:
        """What is news at once, numbers by and by. Raises as Membership.tell."""
        session = self._session.id
        if not telling.is_due(self._told, member, session, now.mono):
            return
        self._seq += 1
        self._told = None  # until it is answered
        self._member.tell(member._replace(seq=self._seq))
        chance = random.random()  # noqa: S311 - no secret
        self._told = telling.told(member, session, now.mono, chance, self._fleet.refresh)

    def _fail(self, kind: str, text: str, now: Moment, pause: float) -> None:
        self._rest = now.mono + pause
        if line := self._repeats.line(kind, text, now.mono):
            log.warn(line)

    def _block(self) -> None:
        poller = ovs.poller.Poller()
        for descriptor in (self._wakeup.fileno(), self._bell, *self._desk.filenos()):
            poller.fd_wait(descriptor, ovs.poller.POLLIN)
        self._node.wait(poller)
        self._fabric.wait(poller)
        now = moment().mono
        due = min(self._node.due, self._fabric.due(), now + TURN)
        if self._link is Link.CONNECTED:
            due = min(due, max(self._desk.due(), self._rest))
        poller.timer_wait(round(1000 * max(SHORTEST, due - now)))
        poller.block()
        with suppress(BlockingIOError):
            self._wakeup.recv(64)
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _leave(self, now: Moment) -> None:
        """An orderly end: what is claimed is given back, and the host is GONE at once, not after its timeout."""
        try:
            self._desk.close("the agent ends", now)
            self._member.leave()
        except (Refused, Unreachable) as error:
            log.warn(f"the store: {error}: it learns by the end of the session that this agent has ended")

    def _close(self) -> None:
        self._desk.lose("the agent ends", moment().mono)
        self._session.stop()
        for part in (self._node, self._fabric, self._wakeup, self._wakeup_end):
            part.close()
        os.close(self._bell)


def run(fleet: Fleet, place: Place) -> int:
    """The process. Raises Problem."""
    return Agent(fleet, place).loop()
