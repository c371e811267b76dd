# SPDX-License-Identifier: Apache-2.0
"""One laboratory a file; each of its tests once in `make test`, twenty times at each interval in `make test-long`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.faults.laboratory")

from tests.faults.laboratory import HEAD, NAP, Laboratory, Rounds  # noqa: E402 -- after its registration

RUNS = int(os.environ.get("FAULT_RUNS", "20"))  # of each fault at each interval, in the long form
TABLE = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """The table begins empty."""
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured, in intervals since the fault."""
    if config.stash[TABLE]:
        terminalreporter.section("faults, as a subscriber was told of them")
        for line in (HEAD, *config.stash[TABLE]):
            terminalreporter.line(line)


@pytest.fixture(scope="module")
def laboratory(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The file's own; MAX_SLEEP in it says how long an idle PMD sleeps (0: it spins), USER as whom the daemon runs."""
    laboratory = Laboratory(getattr(request.module, "MAX_SLEEP", NAP), getattr(request.module, "USER", 0))
    yield laboratory
    laboratory.close()


ONCE = pytest.param((500, 1), id="once", marks=pytest.mark.timeout(120))
LONG = [
    pytest.param((ms, RUNS), id=f"{ms}ms", marks=[pytest.mark.long, pytest.mark.timeout(3600)])
    for ms in (1000, 500, 100)
]


@pytest.fixture(params=[ONCE, *LONG])
def rounds(request: pytest.FixtureRequest, laboratory: Laboratory) -> Rounds:
    """How often, and at which interval."""
    interval_ms, runs = request.param
    return Rounds(laboratory, interval_ms, runs, request.config.stash[TABLE])
