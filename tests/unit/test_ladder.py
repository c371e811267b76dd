# SPDX-License-Identifier: Apache-2.0
"""The ladder that the bench compares the daemon with takes one step a missed interval, and all steps back at once."""

from __future__ import annotations

from tests.bench.ladder import Ladder


def perf_show(iterations: int) -> str:
    """Of one PMD on core 3."""
    return f"\npmd thread numa_id 0 core_id 3:\n\n  Iterations: {iterations:20}  (1.00 us/it)\n"


def climbed(*answers: int | None) -> list[str]:
    """The PMD's state after each answer; None: nobody answered."""
    told = iter(answers)

    def ask(_seconds: float) -> str:
        if (iterations := next(told)) is None:
            raise TimeoutError
        return perf_show(iterations)

    ladder, states = Ladder(ask, 1.0), []
    for _ in answers:
        ladder._look()
        states.append(ladder.state(3))
    return states


def test_a_missed_interval_is_one_step_and_an_iteration_takes_all_back() -> None:
    assert climbed(5, 9, 9, 9, 9, 9, 10) == ["ALIVE", "ALIVE", "MISSING", "DEAD", "GONE", "GONE", "ALIVE"]


def test_cleared_counters_are_progress() -> None:
    assert climbed(5, 2) == ["ALIVE", "ALIVE"]


def test_no_answer_counts_as_no_iteration() -> None:
    assert climbed(5, None, None, 5, 6) == ["ALIVE", "MISSING", "DEAD", "GONE", "ALIVE"]
    assert climbed(None, 5) == ["", "ALIVE"]
