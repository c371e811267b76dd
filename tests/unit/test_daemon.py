# SPDX-License-Identifier: Apache-2.0
"""What the daemon notes of itself while its beat goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from ovs_keepalive.beat import moment
from ovs_keepalive.core.memory import Beating
from ovs_keepalive.core.model import NEVER
from ovs_keepalive.daemon import Daemon
from ovs_keepalive.formats import memory as form
from tests.looks import remembered


def test_a_beat_that_judges_at_that_very_moment_puts_no_time_of_the_future_into_the_memory() -> None:
    known = remembered(at=NEVER)

    def noted() -> Beating:
        return known.beating._replace(enabled_at=moment())

    parts = SimpleNamespace(
        _beat=SimpleNamespace(noted=noted),
        _exposition=SimpleNamespace(counted=(known.ledger, known.counted_to, known.cpu)),
        _asked=known.asked,
        _session=SimpleNamespace(events=[]),
        blackbox=SimpleNamespace(watch=known.watch),
        _columns=SimpleNamespace(committed=known.committed, failed=known.failed),
        _chronicle=SimpleNamespace(told=known.told),
        _room=SimpleNamespace(inherited=frozenset(known.affinity)),
        restarts=SimpleNamespace(plan=known.plan, flow_restored=known.flow_restored),
        ports=SimpleNamespace(memory=known.ports),
    )
    memory = Daemon.memory(cast("Daemon", parts))
    assert form.decode(form.encode(memory, "boot", "x.pid"), "boot", "x.pid") == memory
