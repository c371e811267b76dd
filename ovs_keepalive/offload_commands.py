# SPDX-License-Identifier: Apache-2.0
"""The appctl commands of offload (CONTRACT section 5). Only `offload/arm` lets anything be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Snapshot
from ovs_keepalive.core.offload_arm import LONGEST, MINUTES
from ovs_keepalive.formats import offload as form
from ovs_keepalive.formats import tables
from ovs_keepalive.offload import OffloadWatch, Refused
from ovs_keepalive.publishers.appctl_server import Answer, AppctlServer, Refusal, count


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
            server.register(name, usage, 0, most, self._enabled(command))

    def _enabled(self, command: Callable[[OffloadWatch, list[str]], Answer]) -> Callable[[list[str]], Answer]:
        def answer(arguments: list[str]) -> Answer:
            snapshot = self._source.snapshot
            if snapshot is None:
                raise Refusal("the daemon has just started and has not looked yet: try again")
            if not snapshot.settings.enabled:
                return Answer(lambda: f"{tables.DISABLED}\n", lambda: {"enabled": False})
            try:
                return command(self._source.offload, arguments)
            except Refused as error:
                raise Refusal(str(error)) from error

        return answer

    def _show(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = form.document(watch.told, moment())
        return Answer(lambda: form.show(document), lambda: document)

    def _plan(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = form.plan_document(watch.plan, moment())
        return Answer(lambda: form.plan(document), lambda: document)

    def _arm(self, watch: OffloadWatch, arguments: list[str]) -> Answer:
        arm = watch.arm_for(_minutes(arguments), moment())
        document = {"enabled": True, "armed": form.arm_document(arm)}
        return Answer(lambda: form.armed(document), lambda: document)

    def _disarm(self, watch: OffloadWatch, _arguments: list[str]) -> Answer:
        document = {"enabled": True, "was_armed": watch.disarm(moment())}
        return Answer(lambda: form.disarmed(document), lambda: document)

    def _history(self, watch: OffloadWatch, arguments: list[str]) -> Answer:
        acts = list(watch.history)[-count(arguments, 100) :]
        return Answer(lambda: form.history(acts), lambda: [form.act_document(act) for act in acts])


def _minutes(arguments: list[str]) -> float:
    if not arguments:
        return MINUTES
    text = arguments[0]
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LONGEST)) and 0 < int(text) <= LONGEST):
        raise Refusal(f"{text!r} is no number of minutes from 1 to {LONGEST}")
    return float(text)
