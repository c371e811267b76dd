# SPDX-License-Identifier: Apache-2.0
"""What Open vSwitch 3.1 and 4.0 said of their flows and devices (tests/golden)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.formats import offload_show
from ovs_keepalive.formats.offload_show import Upcalls

GOLDEN = Path(__file__).parents[1] / "golden"
SEVERAL = """dummy@ovs-dummy:
  flows         : (current 7) (avg 9) (max 10) (limit 10000)
  dump duration : 1500ms
  ufid enabled : true

  4: (keys 10)

system@ovs-system:
  flows         : (current 3) (avg 0) (max 0) (limit 200000)
  offloaded flows : 0
"""


def golden(version: str, name: str) -> str:
    return (GOLDEN / version / f"{name}.txt").read_text()


@pytest.mark.parametrize("version", ["3.1.0", "4.0.0"])
def test_the_number_of_flows_is_that_of_the_dump(version: str) -> None:
    (told,) = offload_show.upcalls(golden(version, "upcall-show")).items()
    lines = golden(version, "dump-flows").count("ufid:")
    assert told == ("dummy@ovs-dummy", Upcalls(lines, 14000, told[1].dump))
    assert told[1].dump is not None
    assert offload_show.upcalls(golden(version, "upcall-show-none")) == {}


def test_each_datapath_has_its_own_flows_and_numbers() -> None:
    told = offload_show.upcalls(SEVERAL)
    assert told == {"dummy@ovs-dummy": Upcalls(7, 10000, 1.5), "system@ovs-system": Upcalls(3, 200000, None)}
    shown = (
        "netdev@ovs-netdev: hit:1 missed:2\n  br0:\n    p0 1/2: (dpdk: n_rxq=1)\n    int 3/none: (patch: peer=x)\n"
        "system@ovs-system: hit:1 missed:2\n  br1:\n    eth0 1/2: (system)\n    vx 2/3: (vxlan)\n    va 7/3: (vxlan)\n"
    )
    assert offload_show.netdevs(shown) == {
        "netdev@ovs-netdev": {2: "p0"},
        "system@ovs-system": {2: "eth0", 3: "va+1"},
    }


@given(st.text(alphabet=st.sampled_from("dummy@:\n (curent10)limt/-_fows"), max_size=200))
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    for odd in (text, f"dummy@d:\n  flows         : ({text})\n{text}"):
        assert all(told.flows >= 0 for told in offload_show.upcalls(odd).values())
        assert all(number >= 0 for names in offload_show.netdevs(odd).values() for number in names)
