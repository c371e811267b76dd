# SPDX-License-Identifier: Apache-2.0
"""One PMD thread is held by ptrace. Nothing of its process list looks wrong; its packets are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.lab import Injected, stopped, undisturbed
from tests.subscriber import Subscriber

pytestmark = pytest.mark.real


class Course(NamedTuple):
    """A fault as a subscriber saw it, all in intervals since the fault (recovery: since the release)."""

    states: list[str]
    missing: float
    dead: float
    gone: float
    recovered: float
    uncertainty: float  # how exactly the fault's moment is known
    causes: set[str]
    others: list[str]


@pytest.fixture
def watched(make_sandbox: Callable[..., Sandbox]) -> Iterator[tuple[Sandbox, Subscriber]]:
    """Two PMDs, watched, and a subscriber."""
    sandbox = make_sandbox(pmds=2)
    sandbox.settings(enable_keepalive=True, keepalive_interval=200)
    sandbox.start_daemon(config={"max-main-share": 50})
    wait(lambda: len(sandbox.column()) == 2, "2 PMDs in the column", 15)
    with Subscriber(sandbox.remote) as subscriber:
        yield sandbox, subscriber


@pytest.mark.timeout(180)
@pytest.mark.parametrize("interval_ms", [1000, 500, 100])
def test_held_pmd_is_missing_dead_gone_and_back_in_time(watched: tuple[Sandbox, Subscriber], interval_ms: int) -> None:
    sandbox, subscriber = watched
    sandbox.settings(keepalive_interval=interval_ms)
    wait(lambda: f"interval={interval_ms}" in sandbox.detail().get("daemon", ""), "the new interval", 10)
    course = undisturbed(sandbox, lambda: hold_one(sandbox, subscriber, interval_ms / 1000))
    print(course)
    assert course.states[-4:] == ["MISSING", "DEAD", "GONE", "ALIVE"]
    assert set(course.states[:-4]) <= {"ALIVE"}  # a refresh between the fault and its detection
    early = course.uncertainty
    assert 1.0 <= course.missing <= 1.25 + early
    assert 1.0 <= course.dead <= 1.5 + early
    assert course.missing < course.dead
    assert 3.0 <= course.gone <= 3.5 + early
    assert course.recovered <= 0.5 + early
    assert course.causes == {"traced"}
    assert set(course.others) == {"ALIVE"}


def hold_one(sandbox: Sandbox, subscriber: Subscriber, interval: float) -> Course:
    """Hold the first PMD until it is GONE, let it go, and see it ALIVE again."""
    names = list(sandbox.pmds())
    name, tid = names[0], sandbox.pmds()[names[0]]
    begin = time.monotonic()
    with stopped(tid) as injected:
        gone = wait(lambda: subscriber.first(name, "GONE", begin), f"{name} GONE", 20 * interval + 5)
        detail = [told.detail.get(name, "") for told in subscriber.updates if told.at >= begin]
    released = time.monotonic()
    back = wait(lambda: subscriber.first(name, "ALIVE", gone.at), f"{name} ALIVE", 20 * interval + 5)

    def since(state: str, fault: Injected = injected) -> float:
        told = subscriber.first(name, state, begin)
        assert told is not None, f"{state} was never published"
        return (told.at - fault.earliest) / interval

    return Course(
        states=subscriber.states(name, begin),
        missing=since("MISSING"),
        dead=since("DEAD"),
        gone=since("GONE"),
        recovered=(back.at - released) / interval,
        uncertainty=(injected.latest - injected.earliest) / interval,
        causes={part.partition("=")[2] for text in detail for part in text.split(";") if part.startswith("cause=")},
        others=subscriber.states(names[1], begin),
    )


def test_kill_9_of_vswitchd_is_gone_within_50_ms_whatever_the_interval(
    watched: tuple[Sandbox, Subscriber],
) -> None:
    sandbox, subscriber = watched
    sandbox.settings(keepalive_interval=5000)
    wait(lambda: "interval=5000" in sandbox.detail().get("daemon", ""), "the new interval", 10)

    def killed() -> tuple[float, list[str]]:
        names = list(sandbox.pmds())
        wait(lambda: set(sandbox.column()) == set(names), "the PMDs in the column", 15)
        begin = time.monotonic()
        sandbox.kill_vswitchd()
        ended = time.monotonic()
        told = [wait(partial(subscriber.first, name, "GONE", begin), f"{name} GONE", 5) for name in names]
        states = [state for name in names for state in subscriber.states(name, begin)]
        causes = [told[0].detail[name].partition(";")[0] for name in names]
        sandbox.start_vswitchd()
        sandbox.wait_for_pmds()
        wait(lambda: all(v.startswith(("ALIVE", "SLEEP")) for v in sandbox.column().values()), "ALIVE again", 15)
        assert set(states) == {"GONE"}
        assert causes == ["cause=process-gone"] * len(names)
        return max(one.at for one in told) - ended, states

    # The end of the process is what wait(2) reports to its parent: the kernel tells the daemon's pidfd then.
    late, _ = undisturbed(sandbox, killed)
    print(f"GONE {late * 1000:.1f} ms after the process ended")
    assert late <= 0.050
