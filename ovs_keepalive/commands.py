# SPDX-License-Identifier: Apache-2.0
"""The appctl commands of CONTRACT section 5: each takes arguments and gives one Answer from the newest snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from ovs_keepalive import records
from ovs_keepalive.asked import count, newest, number, pick, while_enabled
from ovs_keepalive.beat import moment
from ovs_keepalive.blackbox import BlackBox
from ovs_keepalive.core.breaks import LONGEST
from ovs_keepalive.core.model import Snapshot, Transition
from ovs_keepalive.formats import breaks, document, incident, tables
from ovs_keepalive.formats import ports as of_ports
from ovs_keepalive.offload import OffloadWatch
from ovs_keepalive.offload_commands import OffloadCommands
from ovs_keepalive.port_commands import PortCommands
from ovs_keepalive.ports import PortWatch
from ovs_keepalive.publishers.appctl_server import Answer, AppctlServer, Command, Refusal
from ovs_keepalive.restarts import Restarts
from ovs_keepalive.upgrade import Refused


class Source(Protocol):
    """What the commands need of the daemon."""

    snapshot: Snapshot | None
    blackbox: BlackBox
    restarts: Restarts
    ports: PortWatch
    offload: OffloadWatch

    @property
    def events(self) -> list[Transition]:
        """The transitions that the snapshot does not know: those of the database, newest last."""

    def facts(self) -> list[tuple[str, str]]:
        """What the main loop knows besides the snapshot."""

    def upgrade(self, python: str | None) -> int:
        """Begin to hand over to a successor; its pid. Raises upgrade.Refused."""

    def stop(self) -> None:
        """End the daemon."""


class Commands:
    """Registers the commands and answers them."""

    def __init__(self, server: AppctlServer, source: Source) -> None:
        self._server = server
        self._source = source

    def register(self) -> None:
        """Make the commands known to the control socket."""
        for name, usage, least, most, command in (
            ("keepalive/status", "[--json]", 0, 0, self._status),
            ("keepalive/pmd-health-show", "[--json]", 0, 0, self._health),
            ("keepalive/pmd-xstats-show", "[PMD] [--json]", 0, 1, self._enabled(self._xstats)),
            ("keepalive/explain", "PMD|vswitchd [--json]", 1, 1, self._enabled(self._explain)),
            ("keepalive/history", "[N] [--json]", 0, 1, self._enabled(self._history)),
            ("keepalive/incidents", "[--json]", 0, 0, self._incidents),
            ("keepalive/breaks", "[N] [--json]", 0, 1, self._enabled(self._breaks)),
            ("keepalive/plan-restart", "SECONDS [--json]", 1, 1, self._enabled(self._plan_restart)),
            ("keepalive/plan-cancel", "[--json]", 0, 0, self._enabled(self._plan_cancel)),
            ("keepalive/upgrade", "[PYTHON] [--json]", 0, 1, self._upgrade),
            ("exit", "", 0, 0, self._exit),
        ):
            self._server.register(name, usage, least, most, command)
        PortCommands(self._server, self._source)
        OffloadCommands(self._server, self._source)

    def _enabled(self, command: Callable[[Snapshot, list[str]], Answer]) -> Command:
        return while_enabled(self._source, command)

    def _status(self, _arguments: list[str]) -> Answer:
        snapshot, facts = newest(self._source), self._source.facts()
        ports, offload = self._source.ports, self._source.offload
        # Who has just announced a restart asks before the next look, which is the first to know of it.
        snapshot = replace(snapshot, settings=replace(snapshot.settings, plan=self._source.restarts.plan))
        if planned := breaks.announced(snapshot):
            facts.insert(0, ("announced restart", planned))
        return Answer(
            lambda: tables.status(snapshot, facts),
            lambda: document.node(snapshot, moment(), dict(facts), self._source.events, ports.told, offload.netdevs),
        )

    def _health(self, _arguments: list[str]) -> Answer:
        snapshot = newest(self._source)
        return Answer(
            lambda: tables.health(snapshot),
            lambda: {
                "enabled": snapshot.settings.enabled,
                "interval_ms": round(snapshot.settings.interval * 1000),
                "since": snapshot.enabled_at.wall_ms,
                "pmds": [
                    {"name": pmd.name, "core": pmd.core, "state": pmd.state, "last_seen": pmd.progress.wall_ms}
                    for pmd in snapshot.registered
                ],
            },
        )

    def _xstats(self, snapshot: Snapshot, arguments: list[str]) -> Answer:
        pmds = [pick(snapshot, arguments[0])] if arguments else list(snapshot.pmds)
        return Answer(
            lambda: tables.xstats(pmds),
            lambda: [document.pmd_document(pmd, moment()) for pmd in pmds],
        )

    def _explain(self, snapshot: Snapshot, arguments: list[str]) -> Answer:
        if arguments[0] == "vswitchd":
            return Answer(
                lambda: tables.explain_vswitchd(snapshot),
                lambda: document.node(snapshot, moment(), {})["vswitchd"],
            )
        pmd = pick(snapshot, arguments[0])
        said = of_ports.explained(snapshot, self._source.ports.told, pmd.name)
        return Answer(lambda: tables.explain_pmd(snapshot, pmd) + said, lambda: document.pmd_document(pmd, moment()))

    def _history(self, snapshot: Snapshot, arguments: list[str]) -> Answer:
        transitions = document.merged(snapshot.history, self._source.events)[-count(arguments, 100) :]
        return Answer(
            lambda: tables.history(transitions),
            lambda: [document.transition_document(transition) for transition in transitions],
        )

    def _incidents(self, _arguments: list[str]) -> Answer:
        box = self._source.blackbox
        if box.refusal:
            raise Refusal(box.refusal)
        try:
            heads = records.heads(box.directory)
        except records.Unusable as error:
            raise Refusal(str(error)) from error
        state = tables.ENABLED if newest(self._source).settings.enabled else tables.DISABLED
        return Answer(
            lambda: "".join(f"{line}\n" for line in (state, *incident.listing(heads))),
            lambda: msgspec.to_builtins(heads),
        )

    def _breaks(self, snapshot: Snapshot, arguments: list[str]) -> Answer:
        log = snapshot.breaks[-count(arguments, len(snapshot.breaks) or 1) :]
        ports = self._source.ports.told
        return Answer(
            lambda: breaks.listing(log, [of_ports.back(of_ports.returned(ports, one)) for one in log]),
            lambda: [document.with_vms(one, ports) for one in log],
        )

    def _plan_restart(self, _snapshot: Snapshot, arguments: list[str]) -> Answer:
        plan = self._source.restarts.announce(number(arguments[0], LONGEST, "number of seconds"), moment())
        return Answer(
            lambda: f"{tables.ENABLED}\nrestart of vswitchd announced: {breaks.promise(plan)}\n",
            lambda: {"enabled": True, "announced": breaks.plan_document(plan)},
        )

    def _plan_cancel(self, _snapshot: Snapshot, _arguments: list[str]) -> Answer:
        plan = self._source.restarts.cancel(moment())
        said = (
            "no restart of vswitchd was announced" if plan is None else "no restart of vswitchd is announced any more"
        )
        return Answer(
            lambda: f"{tables.ENABLED}\n{said}\n",
            lambda: {"enabled": True, "cancelled": breaks.plan_document(plan)},
        )

    def _upgrade(self, arguments: list[str]) -> Answer:
        state = tables.ENABLED if newest(self._source).settings.enabled else tables.DISABLED
        try:
            pid = self._source.upgrade(arguments[0] if arguments else None)
        except Refused as error:
            raise Refusal(str(error)) from error
        how = "keepalive/status says how it goes"
        return Answer(lambda: f"{state}\nsuccessor pid {pid} prepares: {how}\n", lambda: {"successor": pid})

    def _exit(self, _arguments: list[str]) -> Answer:
        self._source.stop()
        return Answer(str, dict)
