# SPDX-License-Identifier: Apache-2.0
"""pmd-rxq-show as real vswitchds printed it (tests/golden), and what may be seen in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_keepalive.core.model import PmdRxqs, Rxq
from ovs_keepalive.formats import pmd_rxq
from ovs_keepalive.formats.pmd_perf import NO_NUMA

GOLDEN = Path(__file__).parents[1] / "golden"
REPLIES = sorted(GOLDEN.glob("[0-9]*/rxq-*.txt"))
VERSIONS = sorted({path.parent.name for path in REPLIES})


def golden(version: str, case: str) -> str:
    return (GOLDEN / version / f"rxq-{case}.txt").read_text()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("case", ["four-first", "four-polling", "four-sleeping"])
def test_four_pmds_with_one_rxq_each(version: str, case: str) -> None:
    pmds = pmd_rxq.parse(golden(version, case))
    assert [(pmd.numa, pmd.core) for pmd in pmds] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert {pmd.rxqs for pmd in pmds[:2]} == {(Rxq("p0", 0),), (Rxq("p0", 1),)}
    # The second queue of the other port is pinned to core 3, which isolates that PMD.
    assert [pmd.rxqs for pmd in pmds[2:]] == [(Rxq("vhu-1.é/x", 0),), (Rxq("vhu-1.é/x", 1),)]


def test_a_pmd_without_rxqs_has_an_empty_list(version: str) -> None:
    pmds = pmd_rxq.parse(golden(version, "no-rxq"))
    assert [pmd.core for pmd in pmds] == [0, 1]
    assert {pmd.rxqs for pmd in pmds} == {(), (Rxq("p0", 0),)}


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_everything_printed_is_read(path: Path) -> None:
    text = path.read_text()
    pmds = pmd_rxq.parse(text)
    assert len(pmds) == text.count("pmd thread")
    assert sum(len(pmd.rxqs) for pmd in pmds) == text.count("queue-id:")


@pytest.mark.parametrize("case", ["no-pmd", "several-without-pmd"])
def test_no_pmd_at_all(version: str, case: str) -> None:
    assert pmd_rxq.parse(golden(version, case)) == ()


def test_an_error_reply_holds_no_pmds(version: str) -> None:
    assert pmd_rxq.parse((GOLDEN / version / "rxq-several.error").read_text()) == ()


def test_the_datapath_that_was_asked_for_is_named(version: str) -> None:
    assert {pmd.datapath for pmd in pmd_rxq.parse(golden(version, "several-named"), "ovs-dummy")} == {"ovs-dummy"}


@pytest.mark.parametrize("printed", ["(disabled)  pmd usage:  0 %", "pmd usage: 12 %", ""])
def test_a_queue_counts_whatever_is_said_of_it(printed: str) -> None:
    text = golden("3.1.0", "four-first")
    assert pmd_rxq.parse(text.replace("(enabled)   pmd usage: NOT AVAIL", printed)) == pmd_rxq.parse(text)


@pytest.mark.parametrize("port", ["a-very-long-name-of-a-port.1234", "br-int/x", "p:0", "two words", "queue-id:"])
def test_port_names(port: str) -> None:
    text = golden("3.1.0", "no-rxq").replace("p0  ", f"{port}  ")
    assert pmd_rxq.parse(text)[0].rxqs == (Rxq(port, 0),)


def test_an_unknown_numa_node_is_printed_as_the_largest_int() -> None:
    text = golden("3.1.0", "no-rxq").replace("numa_id 0 core_id 1:", "numa_id 2147483647 core_id 1:")
    assert pmd_rxq.parse(text)[1] == PmdRxqs("", NO_NUMA, 1, ())


@pytest.mark.parametrize("printed", ["queue-id: many", "queue-id: " + "1" * 5000, "queue-id:", ""])
def test_a_pmd_with_an_unreadable_rxq_is_none_that_polls_nothing(printed: str) -> None:
    text = golden("3.1.0", "no-rxq").replace("queue-id:  0 (enabled)", printed)
    (rxq,) = pmd_rxq.parse(text)[0].rxqs
    assert rxq.port.startswith("p0")
    assert rxq.queue == pmd_rxq.NO_QUEUE
