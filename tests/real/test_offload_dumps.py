# SPDX-License-Identifier: Apache-2.0
"""The scanner against python-ovs's own parser of flows, on every line of real dumps: of this host's Open vSwitch, and
of 4.0 in a chroot (tests/matrix/chroot). The flows are those of tests/golden/capture.py, and a thousand more.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ovs.flow.odp import ODPFlow

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import NotSeen, Seen
from ovs_keepalive.core.offload import Flow, Hardware
from ovs_keepalive.formats import offload_show
from ovs_keepalive.formats.dp_flows import Scanner
from ovs_keepalive.sandbox import missing
from ovs_keepalive.sensors.offload import FlowLook, FlowSensor
from tests import many_flows
from tests.conftest import cannot
from tests.golden.capture import DUMP, OFCTL, Switch, capture_offload, started

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CHROOT = Path(__file__).parents[1] / "matrix" / "chroot"
DATAPATH = "dummy@ovs-dummy"
FLOWS = 1000  # more, of one kind
UNREAD = "pop_mpls("  # of it python-ovs cannot read the number of a protocol in hexadecimal
HARDWARE = {None: Hardware.NONE, "partial": Hardware.PARTIAL, "yes": Hardware.FULL}


def here() -> Path:
    if reason := missing():
        cannot(reason)
    if os.geteuid() != 0:
        cannot("only root can enter a mount namespace")
    return Path("/")


def newer() -> Path:
    made = subprocess.run([CHROOT, "sid"], capture_output=True, text=True, check=False, timeout=170)
    if made.returncode:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    return Path(made.stdout.strip())


@pytest.fixture(scope="module", params=[here, newer], ids=["host", "sid"])
def switch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    """An Open vSwitch with flows of every kind."""
    with ExitStack() as stack:
        settings = ("hw-offload=true", "max-idle=600000")
        made = Switch(request.param(), tmp_path_factory.mktemp("replies"), dummies="")
        switch = stack.enter_context(started(made, *settings))
        capture_offload(switch)
        target = f"unix:{switch.dir}/br0.mgmt"
        switch.run("ovs-ofctl", *OFCTL, "add-flow", target, many_flows.RULE.format(3, 2))
        many_flows.make(switch.ask, "p3", FLOWS, seconds=60)
        yield switch


def ask(switch: Switch, *command: str) -> str:
    kind, text = switch.ask(command)[0]
    assert kind == "result", text
    return text


def expected(lines: list[str], names: dict[int, str]) -> dict[str, dict[str, Any]]:
    """What python-ovs reads in the lines, by ufid, its copies put together."""
    flows: dict[str, dict[str, Any]] = {}
    for line in lines:
        read = ODPFlow(line if UNREAD not in line else line.partition(", actions:")[0] + ", actions:drop")
        info, ufid = read.info, read.ufid["ufid"]
        told = flows.setdefault(ufid, {"packets": 0, "used": [], "hardware": set(), "netdev": "", "acts": set()})
        told["packets"] += info["packets"]
        told["used"] += [] if info["used"] == "never" else [float(info["used"])]
        told["hardware"].add(HARDWARE[info.get("offloaded")])
        told["netdev"] = names[read.match["in_port"]]
        told["recirc"] = read.match["recirc_id"]
        told["acts"] |= {name for act in read.actions or [] for name in act}
    return flows


def agrees(flow: Flow, told: dict[str, Any]) -> bool:
    order = list(Hardware)
    barring = {"ct", "recirc", "userspace", "tnl_pop", "sample"} & told["acts"]
    return (
        flow.packets == told["packets"]
        and flow.used == (pytest.approx(min(told["used"]), abs=1e-6) if told["used"] else None)
        and flow.hardware == max(told["hardware"], key=order.index)
        and flow.netdev == told["netdev"]
        and bool(flow.barred) == bool(barring or told["recirc"])
    )


def test_every_line_is_read_as_python_ovs_reads_it(switch: Switch) -> None:
    text, shown = ask(switch, *DUMP), ask(switch, "dpif/show")
    lines = [line for line in text.split("\n") if line.startswith("ufid:")]
    assert len(lines) > FLOWS
    names = offload_show.netdevs(shown)[DATAPATH]
    scanned = Scanner().scan(text, names)
    told = expected(lines, names)
    assert scanned.unread == 0
    assert {flow.ufid for flow in scanned.flows} == told.keys()
    assert [flow for flow in scanned.flows if not agrees(flow, told[flow.ufid])] == []


def look(sensor: FlowSensor) -> FlowLook:
    found = sensor.look(moment)
    assert isinstance(found, Seen), found
    return found.value


def test_a_look_tells_the_flows_and_what_they_cost(switch: Switch) -> None:
    sensor = FlowSensor(switch.outer / "v.ctl", switch.daemons[-1].pid)
    look(sensor)
    seen = look(sensor)
    sensor.close()
    assert seen.unread == 0
    assert len(seen.dump.flows) > FLOWS
    assert seen.datapaths[DATAPATH].flows >= len(seen.dump.flows)
    assert 0.001 < seen.dump.cost < 1.0
    assert sensor.pause(0.01) >= max(3.0, seen.dump.cost * 100)
    assert {"p1", "p2", "vx+1"} <= set(seen.netdevs[DATAPATH])
    offloads = "dpif/offload/show" in ask(switch, "list-commands")
    hardware = {flow.hardware for flow in seen.dump.flows}
    assert hardware == (set(Hardware) if offloads else {Hardware.NONE})  # Debian's 3.1 never says so of dummies


def test_more_flows_than_allowed_are_not_dumped(switch: Switch) -> None:
    sensor = FlowSensor(switch.outer / "v.ctl", switch.daemons[-1].pid, most=FLOWS)
    refused = sensor.look(moment)
    sensor.close()
    assert isinstance(refused, NotSeen)
    assert refused.why.endswith(f"flows, more than {FLOWS}: they are not dumped")
    assert sensor.cost < 0.05
