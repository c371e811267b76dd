# SPDX-License-Identifier: Apache-2.0
"""The decoders of whoever moves flows: what vswitchd says of one flow, and the journal of an earlier process."""

from __future__ import annotations

from collections.abc import Iterable

from ovs_keepalive.core import offload_act
from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload import Hardware
from ovs_keepalive.core.offload_act import Entry, Reading
from ovs_keepalive.formats import offload_journal, one_flow
from ovs_keepalive.formats.trace import datapath_numbers
from tests.fuzz.target import Target, as_parts, as_text, golden_files, join_parts

_KEY = "recirc_id(0),in_port({}),ipv4(src=10.0.0.1,frag=no)"
_FLOW = "{}, packets:4, bytes:424, used:0.019s, offloaded:yes, dp:dummy, actions:{}, dp-extra-info:miniflow_bits(2,4)\n"
_TRACE = "Flow: udp\n\nFinal flow: unchanged\nMegaflow: recirc_id=0,ip\nDatapath actions: 2\n"
_ENTRY = Entry(1, offload_act.REMOVED, ProcessId(7, 8), 9.5, "netdev@ovs-netdev", "u", "recirc_id(0)", "2", "ip")


def _one_flow(data: bytes) -> None:
    """A flow with names and without, the ports, a trace; as they are put together before a move."""
    whole, bare, ports, traced = (as_text(part) for part in as_parts(data, 4))
    verdict, shown, short = one_flow.verdict(traced), one_flow.shown(whole), one_flow.shown(bare)
    assert one_flow.counter(traced) >= 0
    version = one_flow.version(traced)
    assert offload_act.gate(version, ("netdev@ovs-netdev",)) or version
    if shown is None or short is None:
        return
    assert isinstance(shown.hardware, Hardware)
    assert min(shown.packets, short.packets) >= 0
    key = one_flow.numbered(shown.key, short.key, datapath_numbers(ports))
    if key is None or verdict is None:
        return
    assert "in_port(" in key
    reading = Reading("u", key, short.actions, 0, shown.hardware, verdict.megaflow, verdict.actions)
    assert offload_act.objection(reading) or verdict.actions == short.actions
    assert offload_act.changed(reading, reading) == ""


def _journal(data: bytes) -> None:
    for entry in offload_journal.open_entries(data):
        assert offload_journal.open_entries(offload_journal.begun(entry)) == (entry,)
        assert f"{entry.ufid}{entry.key}{entry.actions}{entry.datapath}".isprintable()


def _journals() -> Iterable[bytes]:
    begun = offload_journal.begun(_ENTRY)
    yield begun
    yield begun + offload_journal.begun(_ENTRY._replace(number=2)) + offload_journal.done(1)
    yield begun + begun[:40]


OFFLOAD_WRITE_TARGETS = (
    Target(
        "one-flow",
        _one_flow,
        (),
        lambda: [
            join_parts(_FLOW.format(_KEY.format("p0"), "p1"), _FLOW.format(_KEY.format("1"), "2"), ports, _TRACE)
            for ports in golden_files("[0-9]*/offload-dpif-show.txt")()
        ],
        "`dpctl/get-flow`, `ofproto/trace`, `version`, `coverage/read-counter`",
    ),
    Target(
        "offload-journal",
        _journal,
        (offload_journal.Damaged,),
        _journals,
        "the journal of flows that were removed",
    ),
)
