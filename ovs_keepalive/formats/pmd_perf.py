# SPDX-License-Identifier: Apache-2.0
"""The counters of each PMD in a reply of `dpif-netdev/pmd-perf-show -nh`.

Counts only: percentages and microseconds are nonsense wherever OVS does not know the TSC frequency.
"""

from __future__ import annotations

import re

from ovs_keepalive.core.model import PmdBlock

NO_NUMA = -1  # OVS does not know the NUMA node, or names it in no way that can be read

# pmd thread numa_id 0 core_id 1:
# main thread:                         (since 4.0; polls no rxq and counts no iterations)
HEADER = re.compile(r"(?: numa_id (?:([0-9]{1,9})|\S*))? core_id ([0-9]{1,9}):")
#   Iterations:               214652  (12017539025.96 us/it)
#   - idle iterations:        214552  (100.0 % of used cycles)
#   - busy iterations:           100  (  0.0 % of used cycles)
#   - sleep iterations:            0  (  0.0 % of iterations)
#   Rx packets:                  100  (0 Kpps, 4749 cycles/pkt)
#   Tx packets:                  200  (0 Kpps)
_COUNT = re.compile(
    r"\n  (Iterations|- busy iterations|- idle iterations|- sleep iterations|Rx packets|Tx packets): *([0-9]{1,20})\b"
)


_ITERATIONS = re.compile(r"([0-9]{1,9}):\s+Iterations: *([0-9]{1,20})\b")


def parse_iterations(text: str) -> dict[int, int] | None:
    """The Iterations by core: a tenth of the cost of parse, for the looks between two whole ones.

    None when that cannot be told of each core: parse tells what can be.
    """
    blocks = text.split(" core_id ")[1:]
    counts = [found.groups() for found in map(_ITERATIONS.match, blocks) if found is not None]
    by_core = {int(core): int(count) for core, count in counts}
    return by_core if len(by_core) == len(blocks) else None


_SENT = re.compile(r"\n  Tx packets: *([0-9]{1,20})\b")


def parse_sent(text: str) -> int | None:
    """The Tx packets of all threads together, a main thread's too; None where none are printed. Every look reads it."""
    counts = _SENT.findall(text)
    return sum(map(int, counts)) if counts else None


def parse(text: str, datapath: str = "") -> tuple[PmdBlock, ...]:
    """The PMDs in the order of the reply. OVS reads one count after the other: idle may exceed iterations.

    datapath: the name that was asked for. A block has no counts in the millisecond after pmd-stats-clear. Whatever
    cannot be read is left out: a count becomes None, a block without a core id vanishes. Never raises.
    Source: lib/dpif-netdev.c format_pmd_thread(), lib/dpif-netdev-perf.c pmd_perf_format_overall_stats(); seen on
    OVS 2.15 to 4.0 (tests/golden).
    """
    blocks = []
    # Block by block: one call over the whole reply would hold the interpreter for too long at 512 PMDs.
    for block in text.split(" thread")[1:]:
        header = HEADER.match(block)
        if header is None:
            continue
        counts = {name: int(count) for name, count in _COUNT.findall(block)}
        blocks.append(
            PmdBlock(
                datapath,
                int(header[1] or NO_NUMA),
                int(header[2]),
                counts.get("Iterations"),
                counts.get("- busy iterations"),
                counts.get("- idle iterations"),
                counts.get("- sleep iterations"),
                counts.get("Rx packets"),
                counts.get("Tx packets"),
            )
        )
    return tuple(blocks)
