# SPDX-License-Identifier: Apache-2.0
"""How busy each PMD was, from `dpif-netdev/pmd-stats-show`, and which take no rxq of others, from `pmd-rxq-show`.

Only for headroom and overload, never for the verdict on a PMD. Cycles, not iterations: a busy iteration takes longer
than an idle one, so that their shares say little of the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ovs_keepalive.formats.pmd_perf import HEADER


class Cycles(NamedTuple):
    """Of a PMD's TSC, since vswitchd began or the counters were cleared."""

    idle: int
    busy: int


# pmd thread numa_id 0 core_id 1:
#   idle cycles: 19345716512 (95.81%)
#   processing cycles: 846139160 (4.19%)
# and of pmd-rxq-show, in a line of its own: "  isolated : true"
_CYCLES = re.compile(r"\n  (idle|processing) cycles: *([0-9]{1,20})\b")
_ISOLATED = re.compile(r"\n  isolated : true\n")
_BLOCK = "\npmd thread"


def cycles(text: str) -> dict[int, Cycles]:
    """By core; a PMD without counts, as in its first moments, is left out. Never raises.

    Source: lib/dpif-netdev.c pmd_info_show_stats(); seen on OVS 3.1 (tests/golden).
    """
    found = {}
    for core, block in _blocks(text):
        counts = {name: int(count) for name, count in _CYCLES.findall(block)}
        if len(counts) == len(Cycles._fields):
            found[core] = Cycles(counts["idle"], counts["processing"])
    return found


def isolated(text: str) -> frozenset[int]:
    """The cores whose PMDs poll only what is pinned to them. Never raises."""
    return frozenset(core for core, block in _blocks(text) if _ISOLATED.search(block))


def busy(before: Mapping[int, Cycles], now: Mapping[int, Cycles]) -> dict[int, float]:
    """Percent of its cycles that each PMD was busy between two looks; not of one that is new or was cleared."""
    shares = {}
    for core, counts in now.items():
        was = before.get(core)
        if was is None or counts.idle < was.idle or counts.busy < was.busy:
            continue
        spent = counts.idle - was.idle + counts.busy - was.busy
        if spent:
            shares[core] = 100.0 * (counts.busy - was.busy) / spent
    return shares


def _blocks(text: str) -> list[tuple[int, str]]:
    """Core and lines of each PMD; those of a thread without a core, as the main thread's, belong to none."""
    blocks = []
    for block in f"\n{text}".split(_BLOCK)[1:]:
        head, _, rest = block.partition("\n")
        header = HEADER.fullmatch(head)
        if header is not None:
            blocks.append((int(header[2]), "\n" + rest.partition("\nmain thread:")[0]))
    return blocks
