# SPDX-License-Identifier: Apache-2.0
"""This host as its fleet agent sees it: what the daemon says, how busy PMDs are, and what it does itself.

It asks the daemon by its control socket, as `show` does, and listens to the columns to ask at once when they change.
What the daemon does not say is not known: nothing is concluded from its silence.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import ovs.poller
import ovs.vlog

from ovs_keepalive.core import headroom
from ovs_keepalive.core import help as rules
from ovs_keepalive.core.fleet import Headroom, HostState
from ovs_keepalive.core.headroom import Load, Strain
from ovs_keepalive.core.help import AddCore, Allowed, Kind, Mode, Rebalance
from ovs_keepalive.core.model import BAD, Moment, VswitchdState
from ovs_keepalive.fleet_load import Cores, LoadSensor
from ovs_keepalive.formats import node_brief
from ovs_keepalive.formats.procfs import parse_cpu_list
from ovs_keepalive.question import LOOKED, Question, daemon_socket
from ovs_keepalive.subscription import Subscription

log = ovs.vlog.Vlog("fleet_node")

EVERY = 1.0  # seconds between two questions to the daemon
SILENT = 5.0  # seconds without an answer after which nothing is known of the node
ENABLE = "ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"


class Place(NamedTuple):
    """Where it is asked."""

    rundir: Path  # Open vSwitch's
    remote: str  # of the database
    pidfile: Path | None  # of vswitchd


class Policy(NamedTuple):
    """What the configuration says of cores and of helping."""

    mode: Mode
    cores: Cores
    allowed: Allowed


class OwnNode:
    """run() and wait() belong to the agent's loop."""

    def __init__(self, place: Place, policy: Policy, now: Moment) -> None:
        """Raises OSError, ValueError where this host's CPUs cannot be told."""
        self._policy = policy
        self._load = LoadSensor(place.rundir, place.pidfile, place.remote, policy.cores)
        self._question = Question(partial(daemon_socket, place.rundir), EVERY, "keepalive/status", "--json")
        self._subscription = Subscription(place.remote, now)
        self._heard = now.mono
        self.brief = node_brief.silent("", now.wall_ms)
        self.is_known = False  # the daemon has answered, or been silent for too long
        self._strain = Strain()
        self._acted: float | None = None  # monotonic: the last local act

    def run(self, now: Moment) -> None:
        """Take in all that this host says of itself."""
        for content in self._subscription.run(now):
            self._load.take(dict(content.other_config))
            self._question.hurry()
        if self._question.step(now.mono):
            self._heard = now.mono
            self._take(self._question.answer or "", now)
        elif now.mono - self._heard > SILENT:
            self._lose(f"the daemon does not answer: {self._question.failure or 'for 5 s'}", now)
        if self._policy.mode is not Mode.OFF and self._load.run(now):
            self._strain = headroom.after(self._strain, self.loads, now.mono)

    def _take(self, answer: str, now: Moment) -> None:
        try:
            brief = node_brief.read(answer)
        except ValueError as error:
            self._lose(f"what the daemon answers is no node document: {error}", now)
            return
        if brief.age > LOOKED:  # told without its age: each other word goes to the whole fleet
            self._lose(f"the daemon answers, but has not looked for {LOOKED:g} s", now)
            return
        since = self.brief.since if self.is_known and brief.state is self.brief.state else brief.since
        self.brief, self.is_known = brief._replace(since=since), True

    def _lose(self, why: str, now: Moment) -> None:
        since = self.brief.since if self.brief.state is HostState.UNKNOWN else now.wall_ms
        self.brief, self.is_known = node_brief.silent(why, since), True

    @property
    def vouched(self) -> bool:
        """Whether somebody says that vswitchd runs and answers: of one that does not OVSDB keeps what it wrote."""
        return self.brief.vswitchd == VswitchdState.RUNNING

    @property
    def objection(self) -> str:
        """Why nothing of this Open vSwitch is to be changed now; "" if it may be.

        A change waits in vswitchd's main thread for every PMD: while one stalls it would hold up all others.
        """
        stalled = [f"core {one.brief.core} {one.brief.state}" for one in self.brief.pmds if one.brief.state in BAD]
        if self.brief.state is HostState.UNKNOWN:
            return f"nobody says how the PMDs are: {self.brief.why or 'the daemon was not asked yet'}"
        if self.brief.state is HostState.DISABLED:
            return f"nobody says how the PMDs are: keepalive is disabled: {ENABLE}"
        if not self.vouched:
            return f"vswitchd is {self.brief.vswitchd}"
        return f"PMD on {', '.join(stalled)}" if stalled else ""

    @property
    def loads(self) -> tuple[Load, ...]:
        """Its PMD threads."""
        return self._load.loads(self.brief.pmds)

    @property
    def shares(self) -> dict[int, float]:
        """How busy PMDs are: percent, by core."""
        return self._load.shares

    def spare(self, given_away: dict[int, int], *, asks: bool) -> Headroom:
        """What it could take over. given_away: cores promised, by NUMA node; asks: it asks for help itself."""
        fit = self.brief.state is HostState.WELL and not asks and not self._strain.overloaded
        fit = fit and self._policy.mode is not Mode.OFF
        return headroom.headroom(self._load.site, self.loads, given_away, fit=fit)

    def troubles(self, now: Moment) -> dict[str, str] | None:
        """What it needs help about, once it has done what it may itself; None: not known."""
        if self.brief.state in (HostState.UNKNOWN, HostState.RESTARTING):
            return None
        found = rules.troubles(self.loads, self._strain.overloaded)
        if Kind.OVERLOAD in found and self._policy.mode is Mode.ACT_LOCAL and self._acts(now.mono):
            del found[Kind.OVERLOAD]
        return found

    def _acts(self, now: float) -> bool:
        """Do what may be done here about an overload; whether something was, so lately that it may yet help."""
        overloaded, site = self._strain.overloaded, self._load.site
        act = None
        if not self.objection:
            act = rules.local_act(self._policy.allowed, self.loads, overloaded, site, self._acted, now)
        what = f"overloaded: the PMD on core {', '.join(map(str, overloaded))}"
        match act:
            case Rebalance():
                log.warn(f"{what}: rxqs are spread anew")
                self._load.rebalance()
            case AddCore(core, _, before):
                log.warn(f"{what}: core {core} is added to pmd-cpu-mask, which was {sorted(before)}")
                self._load.add_core(act)
        if act is not None:
            self._acted = now
        return self._acted is not None and now - self._acted < rules.ACT_HELPS

    @property
    def due(self) -> float:
        """Monotonic seconds; when the next turn is due whatever happens."""
        return self._question.due

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Let the poller wake for answers."""
        self._question.wait(poller.fd_wait)
        self._subscription.wait(poller)
        self._load.wait(poller)

    def close(self) -> None:
        """End all connections."""
        for one in (self._question, self._subscription, self._load):
            one.close()


def policy(mode: str, cores: Cores, rebalance: bool, add_cores: str) -> Policy:
    """Of the configuration. Raises ValueError."""
    return Policy(Mode(mode), cores, Allowed(rebalance, parse_cpu_list(add_cores)))
