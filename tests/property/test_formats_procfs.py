# SPDX-License-Identifier: Apache-2.0
"""/proc texts: whatever is read, a parser answers or raises ValueError with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.formats import procfs
from ovs_keepalive.formats.procfs import Stat

KERNELS = sorted((Path(__file__).parents[1] / "golden").glob("linux-*"))
TEXTS = [path.read_text() for kernel in KERNELS for path in sorted(kernel.glob("*/*"))]
PARSERS = [
    procfs.parse_stat,
    procfs.last_cpu,
    procfs.parse_schedstat,
    procfs.parse_status,
    procfs.parse_cpu_list,
    procfs.syscall_number,
]

counts = st.integers(0, 2**64 - 1)
comms = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15)


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A golden text with a stretch replaced."""
    text = draw(st.sampled_from(TEXTS))
    start, end = sorted(draw(st.integers(0, len(text))) for _ in range(2))
    return text[:start] + draw(st.text(max_size=20)) + text[end:]


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | st.text("0123456789-,( )\n") | mangled())
def test_any_text_is_read_or_refused_in_one_line(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  most texts raise, some do not


@given(st.text())
def test_any_name_may_be_asked_for_its_core(comm: str) -> None:
    assert procfs.pmd_core(comm) is None or comm.startswith("pmd-c")


@given(comms, st.sampled_from("RSDTtZXI"), counts, counts)
def test_stat_comes_back_as_it_was_printed(name: str, state: str, start: int, flags: int) -> None:
    text = f"7 ({name}) {state} 1 7 7 0 -1 {flags} 0 0 0 0 11 38 0 0 20 0 10 0 {start} 742105088 14145\n"
    assert procfs.parse_stat(text) == Stat(name, state, start, flags)


@given(st.frozensets(st.integers(0, procfs.MAX_CPU), max_size=50))
def test_a_cpu_list_comes_back_as_it_was_printed(cpus: frozenset[int]) -> None:
    assert procfs.parse_cpu_list(",".join(map(str, sorted(cpus))) + "\n") == cpus
