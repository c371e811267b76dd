# SPDX-License-Identifier: Apache-2.0
"""`show --watch` in a real terminal: a held PMD is seen, the keys are obeyed, and the terminal is given back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.lab import node, stopped
from tests.screens import WATCH, Screen, missing

pytestmark = pytest.mark.real

FAIR = ("WELL", "WARNING")  # on a busy machine PMDs are starved: ALIVE, and a warning
FAIR_SCREEN = (" WELL", " WARNING")
FAIR_LINE = r"[0-9T:.-]{23}Z  (WELL|WARNING)  PMDs: 4 \w+"


@pytest.fixture
def watched(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A sandbox with four PMD threads and its daemon."""
    if reason := missing():
        cannot(reason)
    sandbox = make_sandbox(pmds=4)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon()
    wait(lambda: len(sandbox.column()) == 4 and node(sandbox)["health"] in FAIR, "four PMDs, none bad", 20)
    return sandbox


def row(text: str, name: str) -> str:
    """The row of a PMD; empty if there is none."""
    return next((line for line in text.splitlines() if line[2:].startswith(f"{name} ")), "")


def open_screen(screen: Screen, command: str = WATCH) -> None:
    screen.run(f"{command}; echo status $?")
    screen.until(lambda text: text.startswith((*FAIR_SCREEN, " FAILURE")), "the first answer", 20)


def test_a_held_pmd_is_seen_and_the_keys_are_obeyed(watched: Sandbox) -> None:
    names = list(watched.pmds())
    held = names[2]
    with Screen(watched) as screen:
        open_screen(screen)
        assert screen.flag("alternate_on")
        assert not screen.flag("cursor_flag")
        with stopped(watched.pmds()[held]):
            screen.until(lambda text: "M MISSING" in row(text, held) or "D DEAD" in row(text, held), "MISSING", 5)
            screen.until(lambda text: "D DEAD" in row(text, held), "DEAD", 5)
            lines = screen.lines()
            assert lines[0].startswith(f" FAILURE  {held} DEAD (traced); PMDs: 3 ")
            assert lines[5].startswith(f"> {held}"), "worst first"
            assert re.search(r" p\d/0$", lines[5]), "its port and queue"
            assert f"{held}: traced: state t, held by" in screen.text()
            assert re.search(rf"{held}  (MISSING|ALIVE|SLEEP) -> DEAD  traced: ", screen.text())
            assert re.search(r"\x1b\[[0-9;]*41m", screen.colours()), "a red word"
            screen.until(lambda text: "█████████" in row(text, held), "a full bar at three intervals", 5)

            screen.press("e")
            screen.until(lambda text: "a debugger or tracer holds it" in text, "it is explained")
            screen.press("q")
            screen.until(lambda text: row(text, held), "the table")
            screen.press("v")
            screen.until(lambda text: "Its PMD threads: 3 " in text, "vswitchd is explained")
            screen.press("Escape", "s")
            screen.until(lambda text: "sort: core" in text, "another order")
            assert [line[2:9] for line in screen.lines()[5:9]] == [f"pmd-c0{core}" for core in range(4)]
            screen.press("/", "c", "0", "1", "Enter")
            screen.until(lambda text: "filter: c01" in text and not row(text, held), "the filter")
            assert row(screen.text(), names[1])
            screen.press("Escape")
            screen.until(lambda text: row(text, held), "all again")
            screen.press("?")
            screen.until(lambda text: "the exit status is that of what was seen last" in text, "help")
            screen.press("q")

            screen.resize(60, 14)
            screen.until(lambda text: len(text.rstrip("\n").split("\n")) == 14 and row(text, held), "a smaller screen")
            screen.until(lambda text: text.rstrip("\n").split("\n")[-1].startswith("q quit"), "drawn to its end")
            assert "BUSY" not in screen.text()
            screen.resize(100, 30)
            screen.until(lambda text: "BUSY" in text, "a larger screen")
            screen.press("q")
            screen.until(lambda text: "status 1" in text, "unhealthy when it was quit")
            assert given_back(screen)
            open_screen(screen)
        screen.until(lambda text: text.startswith(FAIR_SCREEN), "it recovers", 10)
        screen.until(lambda text: text.startswith(" WELL"), "all well, nobody starved", 40)
        screen.press("q")
        screen.until(lambda text: "status 0" in text, "well when it was quit")


def given_back(screen: Screen) -> bool:
    """Whether the terminal is as a shell needs it."""
    screen.run("clear; stty -a | tr ' ;' '\\n\\n' | grep -E '^-?(icanon|echo|isig)$' | xargs")

    def answer(text: str) -> str:  # not the command itself, which the shell shows as it is typed
        return next((line for line in text.splitlines() if "isig" in line and "stty" not in line), "")

    modes = screen.until(answer, "stty")
    return "-" not in modes and screen.flag("cursor_flag") and not screen.flag("alternate_on")


def test_the_terminal_is_given_back_on_every_way_out(watched: Sandbox) -> None:
    with Screen(watched) as screen:
        for way, status in (
            ("q", "[01]"),
            ("C-c", 130),
            (signal.SIGTERM, 143),
            (signal.SIGHUP, 129),
            (signal.SIGQUIT, 131),
        ):
            open_screen(screen, f"ulimit -c 0; {WATCH}")
            if isinstance(way, str):
                screen.press(way)
            else:
                os.kill(screen.pid, way)
            screen.until(lambda text, end=f"status {status}": re.search(end, text), f"the end by {way}")  # type: ignore[misc]
            assert given_back(screen), way
        open_screen(screen)
        screen.press("C-z")
        screen.until(lambda text: "Stopped" in text, "it is stopped")
        assert given_back(screen)
        screen.run("fg")
        screen.until(lambda text: text.startswith(FAIR_SCREEN), "it goes on")
        assert not screen.flag("cursor_flag")
        screen.press("q")
        screen.until(lambda text: "$" in text and not text.startswith(" "), "the end")
        assert given_back(screen)


@pytest.mark.slow
def test_what_is_old_is_never_shown_as_new_and_a_restarted_daemon_is_followed(watched: Sandbox) -> None:
    name = next(iter(watched.pmds()))
    with Screen(watched) as screen:
        open_screen(screen)
        watched.stop_daemon(signal.SIGSTOP)
        began = time.monotonic()
        try:
            screen.until(lambda text: text.startswith(" UNKNOWN  no answer from the daemon"), "silence", 5)
            assert time.monotonic() - began < 4
            assert re.search(r"\? \((ALIVE|SLEEP)\)", row(screen.text(), name))
            screen.press("s")
            screen.until(lambda text: "sort: core" in text, "keys are obeyed meanwhile", 2)
        finally:
            watched.stop_daemon(signal.SIGCONT)
        screen.until(lambda text: text.startswith(FAIR_SCREEN), "it answers again", 10)
        assert watched.stop_daemon() == 0
        screen.until(
            lambda text: "start ovs-keepalive run, or set OVS_RUNDIR" in " ".join(text.split()), "it has ended", 5
        )
        watched.start_daemon()
        screen.until(lambda text: text.startswith(FAIR_SCREEN) and row(text, name), "the new one", 20)
        watched.stop_daemon()
        screen.until(lambda text: text.startswith(" UNKNOWN"), "it has ended", 5)
        screen.press("q")
        screen.until(lambda text: "status 3" in text, "nobody answers")


def test_no_colour_and_a_terminal_that_can_do_nothing(watched: Sandbox) -> None:
    with Screen(watched) as screen:
        open_screen(screen, f"NO_COLOR=1 {WATCH}")
        screen.until(lambda text: "S SLEEP" in text or "A ALIVE" in text, "the states")
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7])m", screen.colours())
        screen.press("q")
        screen.until(lambda text: "status " in text, "the end")
        screen.run(f"clear; TERM=dumb {WATCH}")
        screen.until(lambda text: re.search(FAIR_LINE, text), "a plain line", 20)
        assert not screen.flag("alternate_on")
        screen.press("C-c")


@contextmanager
def printing(sandbox: Sandbox, *options: str) -> Iterator[Callable[[str], list[str]]]:
    """It prints into a file; yields what waits for a word, and gives the lines until then."""
    argv = [sys.executable, "-m", "ovs_keepalive", "show", "--watch", *options]
    path = sandbox.dir / "printed"
    with path.open("wb") as printed, subprocess.Popen(argv, env=sandbox.env, stdout=printed) as process:

        def lines(word: str) -> list[str]:
            wait(lambda: word in path.read_text(), f"{word} printed", 10)
            return path.read_text().splitlines()

        try:
            yield lines
        finally:
            process.terminate()


@pytest.mark.slow
def test_without_a_terminal_there_is_a_line_a_change(watched: Sandbox) -> None:
    name, tid = next(iter(watched.pmds().items()))
    with printing(watched) as lines:
        assert re.fullmatch(FAIR_LINE, lines("PMDs: 4 ")[0])
        with stopped(tid):
            told = lines(f"FAILURE  {name} DEAD (traced)")
        assert any(f"{name}  MISSING -> DEAD  traced: " in line for line in told)
        lines("-> ALIVE")
        wait(lambda: re.fullmatch(FAIR_LINE, lines("")[-1]), "well at the end", 10)
        watched.stop_daemon()
        assert "UNKNOWN  no answer from the daemon" in lines("UNKNOWN")[-1]
        assert all(line.isprintable() for line in lines(""))


def test_json_is_a_document_a_line_at_each_change(watched: Sandbox) -> None:
    name, tid = next(iter(watched.pmds().items()))
    with printing(watched, "--json") as lines:
        lines('"health":')
        with stopped(tid):
            lines('"state":"DEAD"')
        wait(lambda: json.loads(lines("")[-1])["health"] in FAIR, "well at the end", 10)
        documents: list[dict[str, Any]] = [json.loads(line) for line in lines("")]
    states = [pmd["state"] for document in documents for pmd in document["pmds"] if pmd["name"] == name]
    assert "DEAD" in states
    assert states[-1] in ("ALIVE", "SLEEP")
    assert [document["sequence"] for document in documents] == sorted({document["sequence"] for document in documents})


def test_whoever_stops_to_read_ends_it(watched: Sandbox) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{WATCH} | head -1; echo over"],
        env=watched.env,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    [line, over] = done.stdout.splitlines()
    assert re.fullmatch(FAIR_LINE, line)
    assert over == "over"
    assert done.stderr == ""
