# SPDX-License-Identifier: Apache-2.0
"""Which CPUs the daemon confines itself to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from ovs_keepalive import affinity


@pytest.fixture
def given() -> Iterator[frozenset[int]]:
    """The CPUs of this process, which it has again when the test ends."""
    before = frozenset(os.sched_getaffinity(0))
    yield before
    os.sched_setaffinity(0, before)


def test_it_stays_off_pinned_cpus_and_keeps_one_at_least(given: frozenset[int]) -> None:
    first = min(given)
    if len(given) > 1:
        assert "off the CPUs of PMD threads" in affinity.follow("auto", given, frozenset({first}))
        assert os.sched_getaffinity(0) == given - {first}
    assert "as given" in affinity.follow("auto", given, given)
    assert os.sched_getaffinity(0) == given


def test_it_can_be_told_to_stay_where_it_is(given: frozenset[int]) -> None:
    affinity.follow("inherit", given, frozenset({min(given)}))
    assert os.sched_getaffinity(0) == given


def test_a_list_goes_before_all_and_holds_for_every_thread(given: frozenset[int]) -> None:
    wanted = min(given)
    seen: list[set[int]] = []
    go = threading.Event()

    def look() -> None:
        go.wait(5)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=look)
    thread.start()
    assert affinity.follow(str(wanted), given, frozenset({wanted})) == f"CPU affinity {wanted}, as configured"
    go.set()
    thread.join()
    assert seen == [{wanted}] == [os.sched_getaffinity(0)]


@pytest.mark.parametrize("wanted", ["4000", "3-1", "99999"])
def test_cpus_that_it_cannot_have_leave_it_where_it_is(given: frozenset[int], wanted: str) -> None:
    said = affinity.follow(wanted, given, frozenset())
    assert said.startswith(f"CPU affinity unchanged: affinity: {wanted!r}: ")
    assert os.sched_getaffinity(0) == given


@pytest.mark.parametrize("wanted", ["auto", "inherit"])
def test_cpus_that_were_taken_from_it_since_it_began_leave_it_where_it_is(given: frozenset[int], wanted: str) -> None:
    """As when another cpuset, or CPUs that are offline, leave none of those that it was started with."""
    assert affinity.follow(wanted, {4000}, frozenset()).startswith("CPU affinity unchanged: 4000: ")
    assert os.sched_getaffinity(0) == given
