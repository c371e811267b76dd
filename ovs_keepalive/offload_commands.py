# SPDX-License-Identifier: Apache-2.0
"""The appctl commands of offload (CONTRACT section 5). Only `offload/arm` lets anything be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ovs_keepalive.asked import count, number, while_enabled
from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Snapshot
from ovs_keepalive.core.offload_arm import LONGEST, MINUTES
from ovs_keepalive.formats import offload as form
from ovs_keepalive.offload import OffloadWatch, Refused
from ovs_keepalive.publishers.appctl_server import Answer, AppctlServer, Command, Refusal


class Source(Protocol):
    """What they need of the daemon."""

    snapshot: Snapshot | None
    offload: OffloadWatch


class OffloadCommands:
    """Registers the commands and answers them."""

    def __init__(self, server: AppctlServer, source: Source) -> None:
        self._source = source
        for name, usage, most, command in (
            ("offload/show", "[--json]", 0, self._show),
            ("offload/plan", "[--json]", 0, self._plan),
            ("offload/arm", "[MINUTES] [--json]", 1, self._arm),
            ("offload/disarm", "[--json]", 0, self._disarm),
            ("offload/history", "[N] [--json]", 1, self._history),
        ):
            server.register(name, usage, 0, most, self._told(command))

    def _told(self, command: Callable[[OffloadWatch, list[str]], Answer]) -> Command:
        def answer(_snapshot: Snapshot, arguments: list[str]) -> Answer:
            try:
                return command(self._source.offload, arguments)
            except Refused as error:
                raise Refusal(str(error)) from error

        return while_enabled(self._source, answer)

    def _show(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = form.document(watch.told, moment())
        return Answer(lambda: form.show(document), lambda: document)

    def _plan(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = form.plan_document(watch.plan, moment())
        return Answer(lambda: form.plan(document), lambda: document)

    def _arm(self, watch: OffloadWatch, arguments: list[str]) -> Answer:
        minutes = number(arguments[0], LONGEST, "number of minutes") if arguments else MINUTES
        arm = watch.arm_for(minutes, moment())
        document = {"enabled": True, "armed": form.arm_document(arm)}
        return Answer(lambda: form.armed(document), lambda: document)

    def _disarm(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = {"enabled": True, "was_armed": watch.disarm(moment())}
        return Answer(lambda: form.disarmed(document), lambda: document)

    def _history(self, watch: OffloadWatch, arguments: list[str]) -> Answer:
        acts = list(watch.history)[-count(arguments, 100) :]
        return Answer(lambda: form.history(acts), lambda: [form.act_document(act) for act in acts])
