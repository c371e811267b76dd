# SPDX-License-Identifier: Apache-2.0
"""The decoders of whoever moves flows: what vswitchd says of one flow, and the journal of an earlier process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovs_keepalive.config import Config
from ovs_keepalive.config_sections import Offload as Section
from ovs_keepalive.core import offload_act
from ovs_keepalive.core.model import ProcessId, Transition
from ovs_keepalive.core.offload import Hardware, Limits, Move, Netdev, OffloadState, Plan
from ovs_keepalive.core.offload_act import Anomaly, Entry, Kind, Outcome, Reading, Result
from ovs_keepalive.core.settings import Asked, Offload
from ovs_keepalive.formats import offload as form
from ovs_keepalive.formats import offload_journal, offload_wire, one_flow, plain
from ovs_keepalive.formats.offload_wire import Ask, Report
from ovs_keepalive.formats.trace import datapath_numbers
from ovs_keepalive.helper import Helper
from ovs_keepalive.offload import OffloadWatch
from tests.fuzz.target import Target, as_parts, as_text, golden_files, join_parts
from tests.looks import FIRST, running, snapshot
from tests.offload_rounds import at

_KEY = "recirc_id(0),in_port({}),ipv4(src=10.0.0.1,frag=no)"
_FLOW = "{}, packets:4, bytes:424, used:0.019s, offloaded:yes, dp:dummy, actions:{}, dp-extra-info:miniflow_bits(2,4)\n"
_TRACE = "Flow: udp\n\nFinal flow: unchanged\nMegaflow: recirc_id=0,ip\nDatapath actions: 2\n"
_MOVE = Move("f-hot", 40.0, "f-cold", 4.0, 36.0, "worth it", "p0")
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


def _report(data: bytes) -> None:
    """A report that came through the pipe: taken in, remembered, and shown on a terminal."""
    report = offload_wire.report(data)
    assert offload_wire.report(offload_wire.line(report)) == report
    watch = OffloadWatch(_Pipe(report), list[Transition]().append)
    watch.take(
        {"hw-offload": "true"}, Asked(enabled=True, offload=Offload.ACT), Config(offload=Section(allow_act=True))
    )
    shot = snapshot([], vswitchd=running(FIRST))
    for seconds in (0.0, 5.0, 6.0):
        watch.run(at(1000.0 + seconds), shot)
    document, planned = form.document(watch.told, at(1007.0)), form.plan_document(watch.plan, at(1007.0))
    for text in (form.show(document), form.plan(planned), form.history(watch.history), f"{watch.fact}\n"):
        assert all(plain.one_line(line) == line for line in text.split("\n"))
    assert all(value.isprintable() for pair in watch.pairs.items() for value in pair)
    plain.json_bytes([document, planned, [form.act_document(act) for act in watch.history]])


class _Pipe(Helper[Report]):
    """Always has that answer."""

    def __init__(self, answer: Report) -> None:
        super().__init__("none", "the look at flows", b"", offload_wire.report, offload_wire.LARGEST)
        self._answer = answer

    def turn(self, now: float, ask: Callable[[float], bytes], period: float) -> Report | None:
        """As its parent."""
        offload_wire.ask(ask(period))
        return self._answer


def _reports() -> Iterable[bytes]:
    plan = Plan(at(1.0), (Move("a", 5.0, "", 0.0, 5.0, "room", "p0"),), (_MOVE,), 41.0)
    lost = Anomaly(Kind.LOST, "f-cold", "it was put back, and is gone")
    outcome = Outcome(_MOVE, at(1.0), Result.FAILED, "gone", ("", "yes"), ("yes", "gone"), 1, (lost,))
    state = Netdev("p0", OffloadState.OOR, at(1.0), "full", "full", 10, 2, 50.0, 40.0, 10, 0.8, 0.9, 0.89)
    report = Report(at(1.0), FIRST, (state,), plan, "", (outcome,), (lost,), ("flow a: gone",), 1, "", 0.001, 3.0)
    yield offload_wire.line(report)
    yield offload_wire.line(report._replace(process=None, netdevs=(), gate="no", plan=Plan(at(1.0), (), (), 0.0)))


def _asked(data: bytes) -> None:
    asked = offload_wire.ask(data)
    assert offload_wire.ask(offload_wire.line(asked)) == asked


def _asks() -> Iterable[bytes]:
    limits = Limits(10, (("p0", "p1"),))
    asked = Ask(1.5, 0.01, 50_000, limits, enabled=True, rebalanced=False, planning=True, ready=True, acting=True)
    yield offload_wire.line(asked)


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
    Target("offload-report", _report, (ValueError,), _reports, "what the look at flows tells the daemon"),
    Target("offload-asked", _asked, (ValueError,), _asks, "what the daemon asks it"),
)
