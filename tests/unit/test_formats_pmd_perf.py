# SPDX-License-Identifier: Apache-2.0
"""pmd-perf-show as real vswitchds printed it (tests/golden), and what has been seen or may be seen in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_keepalive.core.model import PmdBlock
from ovs_keepalive.formats import pmd_perf

GOLDEN = Path(__file__).parents[1] / "golden"
REPLIES = sorted(GOLDEN.glob("[0-9]*/perf-*.txt"))
VERSIONS = sorted({path.parent.name for path in REPLIES})
LABELS = {
    "iterations": "  Iterations:",
    "busy": "  - busy iterations:",
    "idle": "  - idle iterations:",
    "sleep": "  - sleep iterations:",
    "rx_packets": "  Rx packets:",
    "tx_packets": "  Tx packets:",
}


def golden(version: str, case: str) -> str:
    return (GOLDEN / version / f"perf-{case}.txt").read_text()


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_at_least_these_versions_were_captured() -> None:
    assert {"2.15.0", "3.1.0", "3.5.0", "4.0.0"} <= set(VERSIONS)


def test_four_pmds_that_poll(version: str) -> None:
    blocks = pmd_perf.parse(golden(version, "four-polling"))
    assert [(block.numa, block.core) for block in blocks] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert all(block.iterations for block in blocks)
    # 100 packets were injected one by one, and sent out of the two other ports.
    assert sum(block.busy or 0 for block in blocks) == 100
    assert sum(block.rx_packets or 0 for block in blocks) == 100
    assert sum(block.tx_packets or 0 for block in blocks) == 200


@pytest.mark.parametrize("path", REPLIES, ids=name)
@pytest.mark.parametrize("field", LABELS)
def test_every_printed_count_is_read(path: Path, field: str) -> None:
    text = path.read_text().partition("\nmain thread:")[0]
    printed = [int(line.split(":")[1].split()[0]) for line in text.splitlines() if line.startswith(LABELS[field])]
    read = [count for block in pmd_perf.parse(text) if (count := getattr(block, field)) is not None]
    assert read == printed


@pytest.mark.parametrize("path", REPLIES, ids=name)
def test_every_printed_pmd_is_read(path: Path) -> None:
    text = path.read_text()
    printed = [line for line in text.splitlines() if line.startswith("pmd thread")]
    assert [f"pmd thread numa_id {b.numa} core_id {b.core}:" for b in pmd_perf.parse(text)] == printed


def test_sleep_is_told_since_3_1(version: str) -> None:
    sleeps = [block.sleep for block in pmd_perf.parse(golden(version, "four-sleeping"))]
    assert len(sleeps) == 4
    assert sleeps == [None] * 4 if version == "2.15.0" else all(sleeps)


def test_right_after_a_clear_a_pmd_has_no_counts(version: str) -> None:
    blocks = pmd_perf.parse(golden(version, "cleared"))
    assert [block.core for block in blocks] == [0, 1, 2, 3]
    assert PmdBlock("", 0, 0, None, None, None, None, None, None) in [b._replace(numa=0, core=0) for b in blocks]


def test_a_pmd_without_rxqs_is_listed(version: str) -> None:
    assert [block.core for block in pmd_perf.parse(golden(version, "no-rxq"))] == [0, 1]


@pytest.mark.parametrize("case", ["no-pmd", "several-without-pmd"])
def test_no_pmd_at_all(version: str, case: str) -> None:
    assert pmd_perf.parse(golden(version, case)) == ()


@pytest.mark.parametrize("case", ["no-datapath", "several", "several-typed"])
def test_an_error_reply_holds_no_pmds(version: str, case: str) -> None:
    error = (GOLDEN / version / f"perf-{case}.error").read_text()
    assert error.strip() == "please specify an existing datapath"
    assert pmd_perf.parse(error) == ()


def test_the_datapath_that_was_asked_for_is_named(version: str) -> None:
    blocks = pmd_perf.parse(golden(version, "several-named"), "ovs-dummy")
    assert [block.datapath for block in blocks] == ["ovs-dummy"] * 2


def test_the_main_thread_is_no_pmd_wherever_it_stands() -> None:
    head, time, main = golden("4.0.0", "four-polling").rpartition("\nTime:")
    assert "main thread:" in main
    assert pmd_perf.parse(time + main + head) == pmd_perf.parse(head + time + main) == pmd_perf.parse(head)


def test_the_main_thread_lends_no_counts_to_a_pmd_without() -> None:
    cleared = "\nTime: 05:05:45.932\nMeasurement duration: 0.000 s\n\npmd thread numa_id 0 core_id 1:\n\n"
    main = golden("4.0.0", "no-pmd")
    assert "Rx packets:" in main
    assert pmd_perf.parse(cleared + main) == (PmdBlock("", 0, 1, None, None, None, None, None, None),)


def test_one_header_for_all_blocks(version: str) -> None:
    text = golden(version, "four-polling")
    first, *rest = text.splitlines(keepends=True)
    once = "".join([first, *rest[:2], *(line for line in rest[2:] if not line.startswith(("Time:", "Measurement")))])
    assert pmd_perf.parse(once) == pmd_perf.parse(text)


@pytest.mark.parametrize(
    ("header", "numa"),
    [
        ("pmd thread core_id 1:", pmd_perf.NO_NUMA),
        ("pmd thread numa_id - core_id 1:", pmd_perf.NO_NUMA),
        ("pmd thread numa_id 2147483647 core_id 1:", pmd_perf.NO_NUMA),
        ("pmd thread numa_id 7 core_id 1:", 7),
    ],
)
def test_a_numa_node_that_ovs_does_not_know(header: str, numa: int) -> None:
    text = golden("3.1.0", "no-rxq")
    changed = pmd_perf.parse(text.replace("pmd thread numa_id 0 core_id 1:", header))
    assert changed == tuple(b._replace(numa=numa) if b.core == 1 else b for b in pmd_perf.parse(text))


@pytest.mark.parametrize("header", ["pmd thread numa_id 0:", "pmd thread", "pmd thread numa_id 0 core_id x:"])
def test_a_block_without_a_core_is_left_out(header: str) -> None:
    text = golden("3.1.0", "no-rxq")
    assert pmd_perf.parse(text.replace("pmd thread numa_id 0 core_id 1:", header)) == pmd_perf.parse(text)[:1]


@pytest.mark.parametrize(
    ("printed", "read"),
    [("18446743505759395409  (nan us/it)", 18446743505759395409), ("1" * 5000, None), ("-5", None), ("", None)],
)
def test_counts_of_any_size(printed: str, read: int | None) -> None:
    text = f"\npmd thread numa_id 0 core_id 1:\n\n  Iterations: {printed}\n  Rx packets:   7  (-inf Kpps)\n"
    assert pmd_perf.parse(text) == (PmdBlock("", 0, 1, read, None, None, None, 7, None),)


@pytest.mark.parametrize("path", REPLIES, ids=name)
def test_the_iterations_alone_are_those_of_the_whole_reply(path: Path) -> None:
    text = path.read_text()
    told = {block.core: block.iterations for block in pmd_perf.parse(text)}
    assert pmd_perf.parse_iterations(text) == (None if None in told.values() else told)


@pytest.mark.parametrize("path", REPLIES, ids=name)
def test_the_packets_sent_are_the_sum_of_what_is_printed(path: Path) -> None:
    text = path.read_text()
    printed = [int(line.split(":")[1].split()[0]) for line in text.splitlines() if line.startswith("  Tx packets:")]
    assert pmd_perf.parse_sent(text) == (sum(printed) if printed else None)


def test_the_iterations_of_two_datapaths_on_one_core_are_left_to_the_whole_reply(version: str) -> None:
    text = golden(version, "four-polling")
    assert pmd_perf.parse_iterations(text + text) is None
