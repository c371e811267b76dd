# SPDX-License-Identifier: Apache-2.0
"""The decoders of what vswitchd tells of the datapath's flows and of offload."""

from __future__ import annotations

from ovs_keepalive.core.offload import Hardware
from ovs_keepalive.formats import offload_show
from ovs_keepalive.formats.dp_flows import Scanner
from tests.fuzz.target import Target, as_parts, as_text, golden_files, join_parts


def _dp_flows(data: bytes) -> None:
    """Two dumps, one after the other: what is remembered of the first changes nothing of the second."""
    names = {1: "p1", 2: "p2"}
    scanner = Scanner()
    for text in map(as_text, as_parts(data, 2)):
        scanned = scanner.scan(text, names)
        assert scanned == Scanner().scan(text, names)
        assert len(scanned.flows) + scanned.unread <= text.count("\n") + 1
        assert len({flow.ufid for flow in scanned.flows}) == len(scanned.flows)
        for flow in scanned.flows:
            assert flow.packets >= 0
            assert flow.used is None or flow.used >= 0
            assert isinstance(flow.hardware, Hardware)
            assert " -> " in flow.shape
            assert flow.netdev or flow.barred


def _offload_show(data: bytes) -> None:
    text = as_text(data)
    for told in offload_show.upcalls(text).values():
        assert min(told.flows, told.limit, told.dump or 0) >= 0
    for names in offload_show.netdevs(text).values():
        assert all(number >= 0 and name for number, name in names.items())


OFFLOAD_TARGETS = (
    Target(
        "dp-flows",
        _dp_flows,
        (),
        lambda: [
            *golden_files("[0-9]*/dump-flows*.txt")(),
            join_parts(*golden_files("3.1.0/dump-flows.txt", "4.0.0/dump-flows.txt")()),
        ],
        "`dpctl/dump-flows`",
    ),
    Target(
        "offload-show",
        _offload_show,
        (),
        golden_files(*(f"[0-9]*/{name}.txt" for name in ("upcall-show", "offload-dpif-show"))),
        "`upcall/show`, `dpif/show`",
    ),
)
