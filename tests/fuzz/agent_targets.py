# SPDX-License-Identifier: Apache-2.0
"""The decoders of what the fleet's agent is told by this host: the daemon's document, cycles, the mask of cores."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from ovs_keepalive.core.model import Shares, State
from ovs_keepalive.formats import cpu_mask, document, node_brief, plain, pmd_load
from tests.fuzz.target import NOW, Target, as_parts, as_text, golden_files, join_parts, seeds
from tests.looks import pmd, snapshot


def _brief(data: bytes) -> None:
    brief = node_brief.read(as_text(data))
    for polled in brief.pmds:
        assert polled.brief.busy is None or 0 <= polled.brief.busy <= 100
        assert polled.brief.numa is None or polled.brief.numa >= 0


def _briefs() -> Iterable[bytes]:
    known = pmd(3, shares=Shares(1.0, 0.5, None, None, 1.0, 0.0))
    yield plain.json_bytes(document.node(snapshot([known, pmd(4, 4, state=State.DEAD)]), NOW, {}))


def _load(data: bytes) -> None:
    """Two answers one after the other, and the rxqs."""
    before, now, rxqs = (as_text(part) for part in as_parts(data, 3))
    for share in pmd_load.busy(pmd_load.cycles(before), pmd_load.cycles(now)).values():
        assert 0 <= share <= 100
    assert all(core >= 0 for core in pmd_load.isolated(rxqs))


def _loads() -> Iterable[bytes]:
    for before, now in pairwise(golden_files("[0-9]*/stats-*")()):
        yield join_parts(before, now, *golden_files("3.1.0/rxq-four-polling.txt")())


def _mask(data: bytes) -> None:
    cores = cpu_mask.parse(as_text(data))
    assert cpu_mask.parse(cpu_mask.written(cores)) == cores


AGENT_TARGETS = (
    Target("node-brief", _brief, (ValueError,), _briefs, "the node document that the fleet's agent reads"),
    Target("pmd-load", _load, (), _loads, "`dpif-netdev/pmd-stats-show`, twice, and `pmd-rxq-show`"),
    Target("cpu-mask", _mask, (ValueError,), seeds("0x6", "ff", "0"), "`other_config:pmd-cpu-mask`"),
)
