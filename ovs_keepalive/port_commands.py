# SPDX-License-Identifier: Apache-2.0
"""The appctl commands of ports: `ports/show` and `ports/audit` (CONTRACT section 5). They change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from ovs_keepalive.asked import while_enabled
from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Snapshot
from ovs_keepalive.formats import ports as form
from ovs_keepalive.ports import PortWatch
from ovs_keepalive.publishers.appctl_server import Answer, AppctlServer, Refusal


class Source(Protocol):
    """What they need of the daemon."""

    snapshot: Snapshot | None
    ports: PortWatch


class PortCommands:
    """Registers the commands and answers them."""

    def __init__(self, server: AppctlServer, source: Source) -> None:
        self._source = source
        for name, text in (("ports/show", form.show), ("ports/audit", form.audit)):
            server.register(name, "[--json]", 0, 0, while_enabled(source, partial(self._answer, text)))

    def _answer(self, text: Callable[[Mapping[str, Any]], str], _snapshot: Snapshot, _arguments: list[str]) -> Answer:
        watch = self._source.ports
        if not watch.period:
            raise Refusal("ports are not surveyed: set ports-period in the configuration file")
        document = form.document(watch.told, moment())
        return Answer(lambda: text(document), lambda: document)
