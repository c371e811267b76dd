# SPDX-License-Identifier: Apache-2.0
"""Which CPUs this host has, on which NUMA node each is, and which the kernel was told to leave alone."""

from __future__ import annotations

import re
from pathlib import Path

from ovs_keepalive.formats import procfs

SYSTEM = Path("/sys/devices/system")
_NODE = re.compile(r"node([0-9]{1,5})")


def numa(system: Path = SYSTEM) -> dict[int, int]:
    """NUMA node of each CPU that is online; 0 of all where the kernel knows no nodes. Raises OSError, ValueError."""
    online = _listed(system / "cpu" / "online")
    nodes = dict.fromkeys(online, 0)
    for path in (system / "node").glob("node*"):
        node = _NODE.fullmatch(path.name)
        if node is not None:
            nodes |= {cpu: int(node[1]) for cpu in _listed(path / "cpulist") & online}
    return nodes


def isolated(system: Path = SYSTEM) -> frozenset[int]:
    """Those of isolcpus=. Raises OSError, ValueError."""
    return _listed(system / "cpu" / "isolated")


def _listed(path: Path) -> frozenset[int]:
    return procfs.parse_cpu_list(path.read_text(encoding="ascii"))
