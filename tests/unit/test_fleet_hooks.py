# SPDX-License-Identifier: Apache-2.0
"""The operator's program for a claimed request: what it is told, how it ends, and that none runs for ever."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ovs_keepalive.core.fleet import Held, Help
from ovs_keepalive.fleet.hooks import LONGEST, PRINTED, Ending, Hooks, Result, facts

HOSTILE = "x\n\x1b[2J\x00y\u202e\ud800$(reboot)`reboot`;reboot"
PATIENCE = 10.0  # seconds


def held(fence: int = 3, host: str = "b", why: str = "PMD on core 2 DEAD") -> Held:
    return Held(Help(host, "dead", why, 1_700_000_000_000), "tok", fence)


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks()
    yield hooks
    hooks.kill("the test ends")


def program(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def until_it_ends(hooks: Hooks, now: float = 0.0) -> Ending:
    """Sleep as a main loop does, on the descriptors that it is told."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for ending in hooks.look(now).values():
            return ending
        poll = select.poll()
        for descriptor in hooks.filenos():
            poll.register(descriptor, select.POLLIN)
        poll.poll(PATIENCE * 1000)
    raise AssertionError("it does not end")


def test_what_it_is_told_is_in_its_environment_and_nothing_else_of_ours(
    hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("SECRET", "x")
    out = tmp_path / "env"
    assert hooks.start(program(tmp_path, f"env > {out}"), held(why=HOSTILE), 1, 0.0) is None
    assert until_it_ends(hooks).result is Result.DONE
    told = dict(line.partition("=")[::2] for line in out.read_text().splitlines())
    assert told["OVSKA_REQUEST_ID"] == "b--dead"
    assert (told["OVSKA_POSTED"], told["OVSKA_FENCE"]) == ("1700000000000", "3")
    assert (told["OVSKA_HOST"], told["OVSKA_KIND"], told["OVSKA_NUMA"]) == ("b", "dead", "1")
    assert told["OVSKA_WHY"] == "x [2J y $(reboot)`reboot`;reboot"
    assert not {"NOTIFY_SOCKET", "SECRET"} & told.keys()


def test_every_fact_is_one_line_and_bounded() -> None:
    told = facts(held(why=HOSTILE * 100), 0)
    assert all(value.isprintable() and len(value) <= 400 for value in told.values())


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("echo moved vm7; echo and vm8", Ending(Result.DONE, "hook hook: moved vm7 | and vm8")),
        ("exit 0", Ending(Result.DONE, "hook hook: printed nothing")),
        ("echo no room; exit 75", Ending(Result.GIVEN_BACK, "hook hook: no room (gives it back)")),
        ("echo oops >&2; exit 1", Ending(Result.GIVEN_BACK, "hook hook: oops (status 1)")),
        ("kill -9 $$", Ending(Result.GIVEN_BACK, "hook hook: printed nothing (signal 9)")),
    ],
)
def test_its_exit_status_says_what_becomes_of_the_request(
    hooks: Hooks, tmp_path: Path, script: str, ending: Ending
) -> None:
    assert hooks.start(program(tmp_path, script), held(), 0, 0.0) is None
    assert hooks.next_look() == LONGEST
    assert until_it_ends(hooks) == ending
    assert (hooks.filenos(), hooks.next_look()) == ((), None)


def test_one_that_hangs_is_killed_after_a_minute_with_what_it_started(hooks: Hooks, tmp_path: Path) -> None:
    child = tmp_path / "child"
    hooks.start(program(tmp_path, f"trap '' TERM; sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait"),
                held(), 0, 100.0)  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not child.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert hooks.look(100.0 + LONGEST - 0.1) == {}
    assert hooks.next_look() == 100.0 + LONGEST
    [(id, ending)] = hooks.look(100.0 + LONGEST).items()
    assert (id, ending) == ("b--dead", Ending(Result.GIVEN_BACK, "hook hook: took more than 60 s: killed"))
    _wait_until_gone(int(child.read_text()))


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z":
                time.sleep(0.01)
                continue
        return
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} still runs")


def test_what_it_prints_without_end_is_bounded_and_does_not_keep_it_from_ending(hooks: Hooks, tmp_path: Path) -> None:
    hooks.start(program(tmp_path, "yes é | head -c 1000000"), held(), 0, 0.0)
    ending = until_it_ends(hooks)
    assert ending.result is Result.DONE
    assert len(ending.words) <= PRINTED + 20
    assert ending.words.isprintable()


def test_one_that_closes_its_output_does_not_keep_the_loop_busy(hooks: Hooks, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    hooks.start(program(tmp_path, f"exec >/dev/null 2>&1; read line < {go}"), held(), 0, 0.0)
    deadline = time.monotonic() + PATIENCE
    while len(hooks.filenos()) > 1:
        assert hooks.look(0.0) == {}
        assert time.monotonic() < deadline
        time.sleep(0.01)
    poll = select.poll()
    poll.register(hooks.filenos()[0], select.POLLIN)
    assert poll.poll(0) == []
    go.write_text("\n")
    assert until_it_ends(hooks).result is Result.DONE


@pytest.mark.parametrize(("content", "mode", "words"), [("", 0o755, "first line"), ("#!/bin/sh\n", 0o644, "denied")])
def test_one_that_cannot_be_started_gives_the_request_back(
    hooks: Hooks, tmp_path: Path, content: str, mode: int, words: str
) -> None:
    path = tmp_path / "hook"
    path.write_text(content)
    path.chmod(mode)
    ending = hooks.start(path, held(), 0, 0.0)
    assert ending is not None
    assert ending.result is Result.GIVEN_BACK
    assert words in ending.words
    assert hooks.next_look() is None


def test_all_are_killed_at_once_when_the_claim_may_be_lost(hooks: Hooks, tmp_path: Path) -> None:
    path = program(tmp_path, "sleep 600")
    hooks.start(path, held(host="b"), 0, 0.0)
    hooks.start(path, held(host="c"), 0, 0.0)
    endings = hooks.kill("no word from ZooKeeper for 7 s")
    assert {id: ending.result for id, ending in endings.items()} == dict.fromkeys(
        ("b--dead", "c--dead"), Result.GIVEN_BACK
    )
    assert "no word from ZooKeeper for 7 s: killed" in endings["b--dead"].words
    assert hooks.next_look() is None
