# SPDX-License-Identifier: Apache-2.0
"""What the soak test says of its samples: a leak fails, a step and noise do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.soak import Sample, verdict

MB = 10**6


def said(rss: Callable[[float], float], descriptors: Callable[[float], int] = lambda _: 20) -> list[str]:
    """The failures of an hour; rss: MB by hours."""
    samples = [
        Sample(
            second, round(MB * (rss(second / 3600) + second * 7919 % 100 / 2000)), descriptors(second / 3600), 5, 500, 0
        )
        for second in range(0, 3600, 2)
    ]
    return [line for line in verdict(samples) if line.startswith("!")]


@pytest.mark.parametrize(
    "rss",
    [
        lambda hours: 38 + 0.5 * hours,
        lambda hours: 38 + min(4.0, 20 * hours),  # it warms up
        lambda hours: 38 + 0.9 * (hours > 0.4) + 0.3 * hours,  # an arena
    ],
)
def test_memory_that_stays_is_well(rss: Callable[[float], float]) -> None:
    assert said(rss) == []


@pytest.mark.parametrize(
    ("rss", "words"),
    [
        (lambda hours: 38 + 1.2 * hours, "slope"),
        (lambda hours: 38 + 0.9 * (hours > 0.3) + 0.9 * (hours > 0.5) + 0.9 * (hours > 0.7), "last third"),
    ],
)
def test_memory_that_grows_is_told(rss: Callable[[float], float], words: str) -> None:
    assert any(words in line for line in said(rss))


def test_one_descriptor_more_is_told_and_one_less_for_a_moment_is_not() -> None:
    assert any("descriptors" in line for line in said(lambda _: 38, lambda hours: 20 + (hours > 0.7)))
    assert said(lambda _: 38, lambda hours: 17 if 0.3 < hours < 0.305 else 20) == []
