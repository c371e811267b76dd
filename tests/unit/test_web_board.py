# SPDX-License-Identifier: Apache-2.0
"""What viewers of the fleet are told, when, and what happens to one who missed something."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ovs_keepalive.beat import moment
from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Fleet, Request, Store
from ovs_keepalive.web import board as boards
from ovs_keepalive.web.board import BATCH, URGENT, Board
from tests.fleets import CLAIM, help_of
from tests.pages import host

WELL, GONE = HostState.WELL, HostState.GONE


def run(test: Callable[[Board], Coroutine[Any, Any, None]]) -> None:
    """In an event loop."""

    async def all_of_it() -> None:
        await asyncio.wait_for(test(Board(moment, "boot")), 20)

    asyncio.run(all_of_it())


def fleet(*hosts: Any, requests: tuple[Request, ...] = ()) -> Fleet:
    """Read just now."""
    return Fleet(Store("CONNECTED"), moment(), {one.key: one for one in hosts}, requests)


async def told(board: Board, seq: int) -> list[dict[str, Any]]:
    """The next deltas after that number, however many there are."""
    while not (deltas := await board.after("boot", seq)):
        assert deltas is not None, "they are not there any more"
    return [json.loads(delta.body) for delta in deltas]


def test_a_change_of_state_is_told_at_once_and_numbers_are_gathered() -> None:
    async def test(board: Board) -> None:
        loop = asyncio.get_running_loop()
        one, other = host("a"), host("b")
        board.put(fleet(one, other))
        [first] = await told(board, 0)
        assert len(first["hosts"]) == 2
        begin = loop.time()
        for number in range(5):  # numbers of both, again and again
            board.put(fleet(one._replace(written=number), other._replace(written=number)))
        [numbers] = await told(board, 1)
        assert loop.time() - begin >= BATCH / 2, "a viewer is not woken for each number"
        assert len(numbers["hosts"]) == 2
        begin = loop.time()
        board.put(fleet(one._replace(written=9), other._replace(written=4)))  # a number that waits …
        board.put(fleet(one._replace(written=9), other._replace(written=4, state=GONE)))  # … comes with what does not
        [urgent] = await told(board, 2)
        assert loop.time() - begin < BATCH / 2 + URGENT
        assert sorted(row[1] for row in urgent["hosts"]) == ["a", "b"]
        assert [event[2:5] for event in urgent["events"]] == [["b", "WELL", "GONE"]]

    run(test)


def test_what_changed_back_in_between_is_an_event_and_no_row() -> None:
    async def test(board: Board) -> None:
        one = host("a")
        board.put(fleet(one))
        await told(board, 0)
        board.put(fleet(one._replace(state=GONE)))
        board.put(fleet(one))
        [delta] = await told(board, 1)
        assert "hosts" not in delta
        assert [event[3:5] for event in delta["events"]] == [["WELL", "GONE"], ["GONE", "WELL"]]

    run(test)


def test_the_snapshot_and_the_deltas_after_it_are_the_whole() -> None:
    async def test(board: Board) -> None:
        board.put(fleet(host("a")))
        await told(board, 0)
        board.put(fleet(host("a"), host("b")))  # not told yet: it must not be in the snapshot of number 1
        document = json.loads(await board.snapshot())
        assert (document["seq"], document["cells"]["c1"]["names"]) == (1, [0, "a"])
        assert [row[1] for delta in await told(board, 1) for row in delta["hosts"]][-1] == "b"
        assert json.loads(await board.snapshot())["seq"] == 1, "one serves all who ask within a while"

    run(test)


def test_who_missed_more_than_is_kept_or_comes_from_another_process_takes_the_whole_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "KEPT", 2000)
    monkeypatch.setattr(boards, "URGENT", 0.0)

    async def test(board: Board) -> None:
        for number in range(20):
            board.put(fleet(host("a", GONE if number % 2 else WELL, why="x" * 100)))
            await told(board, number)
        assert await board.after("boot", 0) is None
        assert await board.after("boot", 19) is not None
        assert await board.after("other", 19) is None
        assert await board.after("boot", 21) is None, "no such number was told"

    run(test)


def test_nothing_that_changes_is_no_delta() -> None:
    async def test(board: Board) -> None:
        one = fleet(host("a"))
        board.put(one)
        await told(board, 0)
        board.put(one._replace(read=moment()))
        assert await board.after("boot", 1) == []
        beat = json.loads(board.beat())
        assert beat["seq"] == 1
        assert beat["age_ms"] < 10_000

    run(test)


def test_claims_are_counted_for_the_metrics() -> None:
    async def test(board: Board) -> None:
        asked = Request("c1", help_of(t=CLAIM.t - 400))
        board.put(fleet(host("a"), requests=(asked,)))
        for _ in range(2):
            board.put(fleet(host("a"), requests=(asked._replace(claim=CLAIM),)))
        text = board.metrics("0.1.0", openmetrics=False)
        assert "ovs_keepalive_fleet_claim_seconds_count 1\n" in text
        assert "ovs_keepalive_fleet_claim_seconds_sum 0.4\n" in text

    run(test)
