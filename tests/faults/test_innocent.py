# SPDX-License-Identifier: Apache-2.0
"""Events that are nobody's fault raise no alarm: every kind once, and a thousand of them in random order.

(The other half, that a fault does raise one, is the rest of this directory.)
"""

from __future__ import annotations

import random
import time

import pytest

from ovs_keepalive.sandbox import missing
from tests.conftest import cannot
from tests.faults import innocent
from tests.faults.innocent import KINDS, Field, Tally
from tests.lab import stopped

pytestmark = pytest.mark.real

VOID_SHARE = 0.10  # of all events (issue 3)


@pytest.fixture(autouse=True)
def _open_vswitch() -> None:
    if reason := missing():
        cannot(reason)


@pytest.mark.long  # `make innocent` has every kind twice, and is a step of CI of its own
@pytest.mark.timeout(300)
def test_no_kind_of_innocent_event_raises_an_alarm() -> None:
    tally = let_happen(len(KINDS), interval_ms=500, cores=16, seed=random.randrange(1 << 32))  # noqa: S311
    assert tally.stories == []


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("interval_ms", [500, 100])
def test_innocent_events_in_random_order_raise_no_alarm(interval_ms: int, capsys: pytest.CaptureFixture[str]) -> None:
    """500 at each interval: a thousand."""
    tally = let_happen(500, interval_ms, cores=64, seed=random.randrange(1 << 32))  # noqa: S311
    with capsys.disabled():
        print(f"\ninnocent events at {interval_ms} ms\n{tally}")
    assert tally.stories == []
    void = sum(count[2] for count in tally.counts.values())
    if void > VOID_SHARE * (tally.events + void):
        pytest.skip(f"no alarm in {tally.events} events, but {void} were void: too busy a machine")


@pytest.mark.timeout(60)
def test_what_is_no_innocent_event_does_raise_an_alarm() -> None:
    """The oracle is awake: a PMD is held for two intervals, and the column and the history both tell."""
    with Field(random.Random(0), cores=2) as field:  # noqa: S311
        name, tid = next(iter(field.sandbox.pmds().items()))
        begin = time.monotonic()
        with stopped(tid):
            time.sleep(2 * field.interval)
        field.wait_until_well()
        alarms = field.alarms(begin)
    assert any(line.startswith(f"column: {name} MISSING") for line in alarms)
    assert any(line.startswith(f"history: {name} ") and " -> MISSING traced" in line for line in alarms)


def let_happen(events: int, interval_ms: int, cores: int, seed: int) -> Tally:
    """The table of so many events that count. The seed is printed: with it they happen again in the same order."""
    print(f"seed {seed}, interval {interval_ms} ms")
    rng, tally = random.Random(seed), Tally()  # noqa: S311
    with Field(rng, interval_ms, cores) as field:
        innocent.repeat(field, tally, events)
    print(tally)
    return tally
