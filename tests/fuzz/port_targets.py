# SPDX-License-Identifier: Apache-2.0
"""The decoders of what tells of ports: Open vSwitch's flows and traces, the kernel's tables, the survey's own lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ovs_keepalive.core import port_states, port_watch
from ovs_keepalive.core.ports import Peers, PortsMemory
from ovs_keepalive.formats import flows, mounts, net_unix, plain, ports, service_flows, survey, trace
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.sensors import places
from tests import port_looks
from tests.fuzz.target import NOW, Target, as_parts, as_text, golden_files, join_parts, new_directory, seeds
from tests.looks import running

_NET_UNIX = (
    "Num       RefCount Protocol Flags    Type St Inode Path\n"
    "0000000000000000: 00000002 00000000 00010000 0001 01 22083 /run/a\n"
    "0000000000000000: 00000003 00000000 00000000 0001 03 22084 /run/a\n"
)


def _flows(data: bytes) -> None:
    text = as_text(data)
    found = flows.parse(text)
    assert found.total > 0 or found == Flows(0)
    assert all(port >= 0 for port in found.outputs | found.inputs)
    assert (flows.count(text) or 0) >= 0
    assert all(cookie & service_flows.MASK == service_flows.OURS for cookie in service_flows.there(text))


def _trace(data: bytes) -> None:
    """A trace, the ports, and the flows, as `ports path` lays them beside each other."""
    way, shown, dumped = (as_text(part) for part in as_parts(data, 3))
    read = trace.parse_trace(way)
    assert (read.decided is None) == (not read.rules)
    assert all(number >= 0 for number in read.outputs)
    assert all(number >= 0 for number in trace.datapath_numbers(shown).values())
    for rule in read.rules:
        assert plain.one_line(str(rule)).isprintable()
        assert (trace.packets(dumped, rule) or 0) >= 0
    assert (trace.flow_count(dumped) or 0) >= 0


def _net_unix(data: bytes) -> None:
    names = {"a", "vhu0", "é"}
    for path, use in net_unix.parse(as_text(data), names).items():
        assert path.rpartition("/")[2] in names
        assert use.listening + use.connected > 0


def _mounts(data: bytes) -> None:
    path, text = (as_text(part) for part in as_parts(data, 2))
    known = mounts.parse(text)
    for asked in (path, f"/{path}", "/run/vm/a.sock"):
        place = mounts.place(asked, known)
        assert place is None or known


def _survey(data: bytes) -> None:
    """A survey that came through the pipe: judged, remembered, and shown on a terminal."""
    seen = survey.survey(data)
    assert survey.survey(survey.line(seen)) == seen
    blind = port_states.why_blind(running(seen.process or port_looks.FIRST), seen)
    memory = PortsMemory()
    for _ in range(2):
        told = port_watch.follow(memory, seen, blind, None)
        memory = told.memory
        document = ports.document(told.ports, NOW)
        for text in (ports.show(document), ports.audit(document), ports.glance(document["ports"])):
            assert all(line.isprintable() for line in text.split("\n"))
        assert all(plain.one_line(transition.evidence).isprintable() for transition in told.news)
        assert all(value.isprintable() for pair in ports.pairs(told.ports).items() for value in pair)
        plain.json_bytes(document)


def _asked(data: bytes) -> None:
    assert survey.ask(data).wait == survey.ask(survey.line(survey.ask(data))).wait


_conf: list[Path] = []


def _libvirt(data: bytes) -> None:
    if not _conf:
        _conf.append(new_directory() / "qemu.conf")
    _conf[0].write_bytes(data)
    found = places.libvirt_user(_conf[0])
    assert found is None or found.credentials.uid >= 0


def _surveys() -> Iterable[bytes]:
    yield survey.line(port_looks.survey())
    yield survey.line(port_looks.survey(port_looks.client(), port_looks.server()))
    away = port_looks.client(**port_looks.NOBODY)
    stale = port_looks.server(error="could not open", ofport=-1, peers=Peers(0, 0, 0), counters="no answer")
    yield survey.line(port_looks.survey(away, stale, process=None, blind=("no database",), told=False))


PORT_TARGETS = (
    Target("flows", _flows, (), golden_files("[0-9]*/ofctl-*"), "`ovs-ofctl dump-flows`, `dump-tables`"),
    Target(
        "trace",
        _trace,
        (),
        lambda: [
            join_parts(way, *golden_files("3.1.0/dpif-show*", "3.1.0/ofctl-dump-flows*")())
            for way in golden_files("[0-9]*/trace-*")()
        ],
        "`ofproto/trace`, `dpif/show`, and the flows that they name",
    ),
    Target("net-unix", _net_unix, (), seeds(_NET_UNIX), "`/proc/…/net/unix`"),
    Target(
        "mounts",
        _mounts,
        (),
        lambda: [join_parts("/c/d", "1 0 8:1 / / rw - ext4 x rw\n3 1 8:1 /a\\040b /c rw - ext4 x rw\n")],
        "`/proc/…/mountinfo`",
    ),
    Target(
        "libvirt", _libvirt, (places.NoUser,), seeds('user = "root"\n', 'user = "+0"', 'group = "x"'), "`qemu.conf`"
    ),
    Target("survey", _survey, (ValueError,), _surveys, "what the survey of ports tells the daemon"),
    Target("survey-asked", _asked, (ValueError,), seeds({"wait": 1.5}), "what the daemon asks it"),
)
