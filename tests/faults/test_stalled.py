# SPDX-License-Identifier: Apache-2.0
"""One PMD thread stops making progress, and nothing else of its process does: held, asleep, frozen, or running in
circles. Whatever holds it, the subscriber is told in time, with the cause, and of no other PMD.
"""

from __future__ import annotations

import time

import pytest

from tests.faults.inject import asleep, frozen, frozen_v1, paused, spinning, uninterruptible
from tests.faults.laboratory import Course, Fault, Laboratory, Rounds
from tests.lab import stopped

pytestmark = pytest.mark.real


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(stopped, "traced", id="held"),
        pytest.param(asleep, "blocked", id="asleep"),
        pytest.param(paused, "blocked", id="paused"),
        pytest.param(uninterruptible, "uninterruptible", id="uninterruptible"),
        pytest.param(frozen, "frozen", id="frozen"),
        pytest.param(frozen_v1, "frozen", id="frozen_v1"),
        pytest.param(spinning, "spinning", id="spinning"),
    ],
)
def test_a_stalled_pmd_is_missing_dead_gone_and_back_in_time(rounds: Rounds, fault: Fault, cause: str) -> None:
    def run(laboratory: Laboratory) -> Course:
        begin = time.time()
        course = laboratory.stall(fault)
        course.assert_told_in_time()
        assert course.causes == {cause}
        [last_seen] = course.last_seen  # it stands still, at the look that saw the last progress
        late = (course.uncertainty + 0.25) * laboratory.interval
        assert begin - laboratory.interval * 0.25 <= last_seen / 1000 <= begin + late
        return course

    rounds.repeat(fault.__name__, run)
