# SPDX-License-Identifier: Apache-2.0
"""vswitchd's other threads: what is told of them, and what is a warning."""

from __future__ import annotations

from ovs_keepalive.core import others
from ovs_keepalive.core.model import Moment, Others, OtherThread, Seen, ThreadId
from ovs_keepalive.formats import document, tables
from tests.looks import FIRST, snapshot

WELL = {"handler1": "S", "revalidator2": "S", "urcu3": "S", "ct_clean4": "S"}


def seen(at: float, threads: dict[str, str]) -> Seen[tuple[OtherThread, ...]]:
    """Threads by name, with their state."""
    return Seen(
        Moment(at, int(at * 1000)),
        tuple(OtherThread(ThreadId(FIRST, 500 + int(name[-1]), 7), name, state) for name, state in threads.items()),
    )


def story(*looks: dict[str, str], has_pmds: bool = True) -> list[str]:
    """The warnings after looks 10 s apart."""
    known, at = Others(), 0.0
    for threads in looks:
        at += 10.0
        known = others.judge(known, seen(at, threads), has_pmds)
    return list(others.warnings(known, Moment(at, 0)))


def test_threads_that_wait_for_work_are_no_warning() -> None:
    assert story(WELL, WELL, WELL) == []


def test_a_thread_held_by_a_debugger_is_told_at_once() -> None:
    assert story(WELL | {"urcu3": "t"}) == ["urcu3 (tid 503) is held by a debugger or tracer"]


def test_state_d_is_told_when_it_lasts() -> None:
    stuck = WELL | {"revalidator2": "D"}
    assert story(WELL, stuck) == []
    assert story(stuck, WELL, stuck) == []
    assert story(WELL, stuck, stuck, stuck) == [
        "revalidator2 (tid 502) waits in the kernel, where no signal reaches it, for 20 s"
    ]


def test_a_kind_that_has_to_be_there_and_is_gone_is_told_until_it_is_back() -> None:
    gone = {name: state for name, state in WELL.items() if name != "handler1"}
    assert story(WELL, gone) == ["no handler thread is left for 0 s"]
    assert story(WELL, gone, gone, gone) == ["no handler thread is left for 20 s"]
    assert story(WELL, gone, gone | {"handler9": "S"}) == []


def test_threads_that_come_and_go_with_ports_or_with_the_datapath_are_no_warning() -> None:
    assert story(WELL, {name: state for name, state in WELL.items() if name != "ct_clean4"}) == []
    assert story(WELL, {"urcu3": "S"}, has_pmds=False) == []


def test_explain_lists_them_and_warns() -> None:
    known = others.judge(Others(), seen(990.0, WELL | {"handler5": "t"}), has_pmds=True)
    told = snapshot(others=known)
    text = tables.explain_vswitchd(told)
    assert "Its other threads: 1 ct_clean, 2 handler, 1 revalidator, 1 urcu." in text
    assert "Warning: handler5 (tid 505) is held by a debugger or tracer." in text
    vswitchd = document.node(told, told.at, {})["vswitchd"]
    assert vswitchd["threads"][1] == {"name": "handler1", "tid": 501, "state": "S", "since": 990_000}
    assert vswitchd["warnings"] == ["handler5 (tid 505) is held by a debugger or tracer"]
