# SPDX-License-Identifier: Apache-2.0
"""The metrics of offload (CONTRACT section 10): nothing of a device of which nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovs_keepalive.core.offload import Netdev, OffloadState
from ovs_keepalive.formats.metric import Family, Kind, Page, Row, label
from ovs_keepalive.formats.plain import one_line

SILENT = (OffloadState.DISABLED, OffloadState.SKIPPED)  # states in which nothing is counted


def _numbers(number: Callable[[Netdev], float | None]) -> Callable[[Page], Iterable[Row]]:
    def rows(page: Page) -> Iterable[Row]:
        told = {one_line(one.name): one for one in page.facts.offload.netdevs if one.state not in SILENT}
        for name, one in told.items():
            value = number(one)
            if value is not None:
                yield Row(label("netdev", name), value)

    return rows


def _states(page: Page) -> Iterable[Row]:
    for name, state in {one_line(one.name): one.state for one in page.facts.offload.netdevs}.items():
        labels = label("netdev", name)
        for one in OffloadState:
            yield Row(f'{labels},state="{one}"', int(state is one))


def _moves(page: Page) -> Iterable[Row]:
    for (kind, result), number in sorted(page.facts.offload.moves.items()):
        yield Row(f"{label('kind', kind)},{label('result', result)}", number)


NETDEV = ("netdev",)
FAMILIES = (
    Family("offload_state", Kind.GAUGE, ("netdev", "state"),
           "1 for the state of the device's offload, 0 for the others.", rows=_states),
    Family("offload_flows", Kind.GAUGE, NETDEV,
           "Flows of the device that are in hardware.", rows=_numbers(lambda one: one.flows)),
    Family("offload_pending", Kind.GAUGE, NETDEV,
           "Flows of the device in software that might be in hardware.", rows=_numbers(lambda one: one.pending)),
    Family("offload_pps", Kind.GAUGE, NETDEV,
           "Packets per second of all flows of the device.", rows=_numbers(lambda one: one.pps)),
    Family("offload_share", Kind.GAUGE, NETDEV,
           "Part of these packets that hardware forwards, 0 to 1.", rows=_numbers(lambda one: one.share)),
    Family("offload_efficiency", Kind.GAUGE, NETDEV,
           "That part, of the best that its table could have, 0 to 1.", rows=_numbers(lambda one: one.efficiency)),
    Family("offload_armed", Kind.GAUGE, (),
           "1 while a person lets flows be moved.", rows=lambda page: [Row("", int(page.facts.offload.armed))]),
    Family("offload_moves_total", Kind.COUNTER, ("kind", "result"),
           "Flows that were moved into hardware, into a free slot (fill) or for another (swap), and what came of it.",
           rows=_moves),
)  # fmt: skip
