# SPDX-License-Identifier: Apache-2.0
"""The rxqs of each PMD in a reply of `dpif-netdev/pmd-rxq-show`."""

from __future__ import annotations

import re

from ovs_keepalive.core.model import PmdRxqs, Rxq
from ovs_keepalive.formats.pmd_perf import HEADER, NO_NUMA

NO_QUEUE = -1  # the line names an rxq, but not in a way that can be read

# pmd thread numa_id 0 core_id 1:
#   port: vhu-1.é/x        queue-id:  1 (enabled)   pmd usage: NOT AVAIL
# The name of a port may hold any words, those of a header too: only a whole line is one.
# A disabled rxq counts: with only such ones a PMD iterates all the same (dpif-netdev.c, pmd_thread_main).
_BLOCK = "\npmd thread"
_PORT = "  port: "
_QUEUE = re.compile(r" *([0-9]{1,9})\b")


def parse(text: str, datapath: str = "") -> tuple[PmdRxqs, ...]:
    """The PMDs in the order of the reply, each with all its rxqs, enabled or not.

    datapath: the name that was asked for. A block without a core id is left out; a line of an rxq never is, since an
    empty list says that the PMD polls nothing: two blocks of one PMD are one. Never raises.
    Source: lib/dpif-netdev.c pmd_info_show_rxq(); seen on OVS 2.15 to 4.0 (tests/golden).
    """
    pmds: dict[tuple[int, int], tuple[Rxq, ...]] = {}
    for block in f"\n{text}".split(_BLOCK)[1:]:
        head, *lines = block.split("\n")
        header = HEADER.fullmatch(head)
        if header is not None:
            pmd = int(header[1] or NO_NUMA), int(header[2])
            pmds[pmd] = pmds.get(pmd, ()) + tuple(_rxq(line) for line in lines if line.startswith(_PORT))
    return tuple(PmdRxqs(datapath, numa, core, rxqs) for (numa, core), rxqs in pmds.items())


def _rxq(line: str) -> Rxq:
    port, found, rest = line.removeprefix(_PORT).rpartition(" queue-id:")
    queue = _QUEUE.match(rest)
    if not found or queue is None:
        return Rxq((port or rest).rstrip(), NO_QUEUE)
    return Rxq(port.rstrip(), int(queue[1]))
