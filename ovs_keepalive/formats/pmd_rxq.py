# SPDX-License-Identifier: Apache-2.0
"""The rxqs of each PMD in a reply of `dpif-netdev/pmd-rxq-show`."""

from __future__ import annotations

import re

from ovs_keepalive.core.model import PmdRxqs, Rxq
from ovs_keepalive.formats.pmd_perf import HEADER, NO_NUMA

NO_QUEUE = -1  # the line names an rxq, but not in a way that can be read

#   port: vhu-1.é/x        queue-id:  1 (enabled)   pmd usage: NOT AVAIL
# A disabled rxq counts: with only such ones a PMD iterates all the same (dpif-netdev.c, pmd_thread_main).
_PORT = "  port: "
_QUEUE = re.compile(r" *([0-9]{1,9})\b")


def parse(text: str, datapath: str = "") -> tuple[PmdRxqs, ...]:
    """The PMDs in the order of the reply, each with all its rxqs, enabled or not.

    datapath: the name that was asked for. A block without a core id is left out; a line of an rxq never is, since an
    empty list says that the PMD polls nothing. Never raises.
    Source: lib/dpif-netdev.c pmd_info_show_rxq(); seen on OVS 2.15 to 4.0 (tests/golden).
    """
    pmds = []
    for block in text.split("pmd thread")[1:]:
        header = HEADER.match(block)
        if header is not None:
            rxqs = tuple(_rxq(line) for line in block.split("\n") if line.startswith(_PORT))
            pmds.append(PmdRxqs(datapath, int(header[1] or NO_NUMA), int(header[2]), rxqs))
    return tuple(pmds)


def _rxq(line: str) -> Rxq:
    port, _, rest = line.removeprefix(_PORT).partition(" queue-id:")
    queue = _QUEUE.match(rest)
    return Rxq(port.rstrip(), NO_QUEUE if queue is None else int(queue[1]))
