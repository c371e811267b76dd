# SPDX-License-Identifier: Apache-2.0
"""The replies about PMDs: no text makes a parser raise, and no count is lost or invented on the way."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.model import PmdBlock, PmdRxqs, Rxq
from ovs_keepalive.formats import pmd_perf, pmd_rxq

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [path.read_text() for path in sorted(GOLDEN.glob("[0-9]*/*")) if path.name.startswith(("perf-", "rxq-"))]
# A PMD with a line for each count, as 3.1.0 printed it.
BLOCK = "\nTime:" + (GOLDEN / "3.1.0" / "perf-four-polling.txt").read_text().split("\nTime:")[1]
LABELS = ("Iterations", "- busy iterations", "- idle iterations", "- sleep iterations", "Rx packets", "Tx packets")


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """Golden text with a stretch cut out or replaced: by nothing, by a stretch of another, or by anything."""
    text, other = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.integers(0, len(text))) for _ in range(2))
        first, last = sorted(draw(st.integers(0, len(other))) for _ in range(2))
        filling = draw(st.sampled_from(["", other[first:last]]) | st.text(max_size=20))
        text = text[:start] + filling + text[end:]
    return text


counts = st.none() | st.integers(0, 2**64 - 1)
cores = st.integers(0, 10**9 - 1)
blocks = st.builds(PmdBlock, st.just("dp"), st.integers(0, 1023) | st.just(pmd_perf.NO_NUMA), cores, *[counts] * 6)
ports = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)
rxqs = st.builds(Rxq, ports | ports.map(lambda name: f"{name} queue-id: 7"), st.integers(0, 10**6))
pmds = st.builds(PmdRxqs, st.just("dp"), st.integers(0, 1023), cores, st.lists(rxqs, max_size=5).map(tuple))


def render(block: PmdBlock) -> str:
    """BLOCK with the counts of this one; a count of None has no line."""
    numa = "" if block.numa == pmd_perf.NO_NUMA else f" numa_id {block.numa}"
    text = re.sub(r"pmd thread .*:", f"pmd thread{numa} core_id {block.core}:", BLOCK)
    for label, count in zip(LABELS, block[3:], strict=True):
        line = re.compile(rf"^  {label}: +\d+(.*\n)", re.MULTILINE)
        assert line.search(text)
        text = line.sub("" if count is None else rf"  {label}: {count:>20}\1", text)
    return text


def render_rxqs(pmd: PmdRxqs) -> str:
    """As dpif-netdev.c prints it, in each version the same but for the words behind the queue."""
    lines = "".join(
        f"  port: {port:<16}  queue-id: {queue:2} (enabled)   pmd usage:  0 %\n" for port, queue in pmd.rxqs
    )
    return f"pmd thread numa_id {pmd.numa} core_id {pmd.core}:\n  isolated : false\n{lines}  overhead: NOT AVAIL\n"


@given(st.text() | mangled())
def test_no_text_makes_pmd_perf_raise_or_invent_pmds(text: str) -> None:
    parsed = pmd_perf.parse(text, "dp")
    assert len(parsed) <= text.count(" thread")
    for block in parsed:
        assert f"core_id {block.core}:" in re.sub(r"core_id 0+(?=\d)", "core_id ", text)
        assert all(count is None or str(count) in text for count in block[3:])


@given(st.text() | mangled())
def test_no_text_makes_the_iterations_raise_or_come_from_nowhere(text: str) -> None:
    for core, count in (pmd_perf.parse_iterations(text) or {}).items():
        assert f" core_id {core}:" in re.sub(r"core_id 0+(?=\d)", "core_id ", text)
        assert str(count) in text


@given(st.text() | mangled())
def test_no_text_makes_the_packets_sent_raise_or_come_from_nowhere(text: str) -> None:
    sent = pmd_perf.parse_sent(text)
    assert sent is None or "\n  Tx packets:" in text
    assert sent is None or sent >= 0


@given(st.lists(blocks, max_size=6))
def test_the_packets_sent_are_those_of_the_whole_reply(printed: list[PmdBlock]) -> None:
    counts = [block.tx_packets for block in printed if block.tx_packets is not None]
    assert pmd_perf.parse_sent("\n" + "\n".join(map(render, printed))) == (sum(counts) if counts else None)


@given(st.lists(blocks, max_size=6, unique_by=lambda block: block.core))
def test_the_iterations_are_those_of_the_whole_reply_or_none(printed: list[PmdBlock]) -> None:
    iterations = pmd_perf.parse_iterations("\n".join(map(render, printed)))
    if any(block.iterations is None for block in printed):
        assert iterations is None
    else:
        assert iterations == {block.core: block.iterations for block in printed}


@given(st.text() | mangled())
def test_no_text_makes_pmd_rxq_raise_or_lose_an_rxq(text: str) -> None:
    parsed = pmd_rxq.parse(text, "dp")
    assert len(parsed) <= text.count("pmd thread")
    assert sum(len(pmd.rxqs) for pmd in parsed) <= text.count("\n  port: ")


@given(st.lists(blocks, max_size=6))
def test_counts_come_back_as_they_were_printed(expected: list[PmdBlock]) -> None:
    assert pmd_perf.parse("\n".join(map(render, expected)), "dp") == tuple(expected)


@given(st.lists(pmds, max_size=6, unique_by=lambda pmd: (pmd.numa, pmd.core)))
def test_rxqs_come_back_as_they_were_printed(expected: list[PmdRxqs]) -> None:
    text = "Displaying last 60 seconds pmd usage %\n" + "".join(map(render_rxqs, expected))
    assert pmd_rxq.parse(text, "dp") == tuple(expected)
