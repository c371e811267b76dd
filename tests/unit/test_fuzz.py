# SPDX-License-Identifier: Apache-2.0
"""Every decoder of outside bytes, without the fuzzer: what once crashed one, what is real, and what is nearly so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, named

ROOT = Path(__file__).parents[2]
CRASHES = sorted((ROOT / "tests" / "fuzz" / "crashes").glob("*/*"))


@pytest.mark.parametrize("path", CRASHES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_crashed_a_decoder_is_read_or_refused(path: Path) -> None:
    named(path.parent.name).run(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_real_is_read_or_refused(target: Target) -> None:
    seeds = list(target.seeds())
    assert seeds
    for seed in seeds:
        target.run(seed)


@st.composite
def mangled(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with stretches replaced by those of another, or by anything."""
    data, other = draw(st.sampled_from(seeds)), draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        first, last = sorted(draw(st.integers(0, len(other))) for _ in range(2))
        filling = draw(st.sampled_from([b"", other[first:last]]) | st.binary(max_size=20))
        data = data[:start] + filling + data[end:]
    return data


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_nearly_real_is_read_or_refused(target: Target) -> None:
    seeds = sorted(target.seeds(), key=len)[:40]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(mangled(seeds) | st.binary(max_size=200))
    def nearly(data: bytes) -> None:
        target.run(data)

    nearly()


def test_a_decoder_that_breaks_its_promise_is_found() -> None:
    """Of the harness itself: what the fuzzer counts as a crash."""

    def fails(error: Exception) -> Target:
        def function(_data: bytes) -> None:
            raise error

        return Target("x", function, (ValueError,), list, "")

    fails(ValueError("one line")).run(b"")
    for crash in (KeyError("not promised"), ValueError("of\ntwo lines"), ValueError("\x1b"), AssertionError("broken")):
        with pytest.raises((AssertionError, KeyError)):
            fails(crash).run(b"")


def test_every_target_is_in_the_docs() -> None:
    table = (ROOT / "docs" / "fuzzing.md").read_text().partition("## The targets")[2].partition("## ")[0]
    told = re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)
    assert told == [target.name for target in TARGETS]
