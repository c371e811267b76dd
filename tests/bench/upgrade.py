# SPDX-License-Identifier: Apache-2.0
"""What a hot upgrade of the daemon takes, whom it disturbs, and what it costs that two daemons live meanwhile."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.meters import table
from tests.relayed import Both, Relayed, Run, upgraded
from tests.switch import TestedSandbox

HEAD = [
    "interval",
    "upgrades, given up",
    "hand-over, median / max",
    "calls, failed",
    "scrapes, failed, gone back",
    "states told",
    "between two snapshots, at most",
    "the machine stood still for",
]


def show(intervals: Sequence[int], upgrades: int) -> None:
    """Measure, and print the tables. intervals: ms."""
    print(
        f"\n## 5. A hot upgrade\n\nTwo PMD threads, {upgrades} upgrades in a row; a client asks 50 times a second "
        "and is at times the real ovs-appctl,\na scraper reads /metrics ten times a second. Given up: this machine "
        "let the successor wait for 50 ms.\nTo reach: median 3 ms, at most 10 ms, nothing failed, every PMD well.\n"
    )
    runs = {interval: _run(interval, upgrades) for interval in intervals}
    print(table(HEAD, [_row(interval, run) for interval, (run, _) in runs.items()]))
    print("\nWhile the old daemon and the new one live, medians:\n")
    head = ["interval", "both live for", "CPU of the new one until it has taken over", "memory of its own, old / new"]
    print(table(head, [_cost(interval, both) for interval, (_, both) in runs.items()]))


def _run(interval: int, upgrades: int) -> tuple[Run, list[Both]]:
    with tempfile.TemporaryDirectory() as directory, TestedSandbox() as sandbox:
        sandbox.settings(enable_keepalive=True, keepalive_interval=interval)
        with Relayed(sandbox, Path(directory)) as relayed:
            return upgraded(relayed, upgrades), relayed.costs


def _row(interval: int, run: Run) -> list[str]:
    client, scraper = run.client, run.scraper
    return [
        f"{interval} ms",
        f"{len(run.took)}, {run.given_up}",
        f"{statistics.median(run.took):.1f} / {max(run.took):.1f} ms",
        f"{len(client.nodes)}, {len(client.failures)}",
        f"{scraper.scrapes}, {len(scraper.failures)}, {len(scraper.went_back)}",
        " ".join(sorted(client.states() | {one.state(name) for one in run.told.updates for name in one.keepalive})),
        f"{client.widest() * 1000:.0f} ms",
        f"{run.late * 1000:.0f} ms",
    ]


def _cost(interval: int, both: Sequence[Both]) -> list[str]:
    old, new = (statistics.median(one.memory[which] for one in both) / (1 << 20) for which in (0, 1))
    return [
        f"{interval} ms",
        f"{statistics.median(one.lived for one in both):.1f} s",
        f"{statistics.median(one.cpu for one in both):.2f} s",
        f"{old:.0f} / {new:.0f} MiB",
    ]
