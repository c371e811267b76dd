# SPDX-License-Identifier: Apache-2.0
"""The files of the fleet's page: all are served, and they know what the program knows."""

from __future__ import annotations

import re
from importlib import resources

from ovs_keepalive.core.fleet import QUIET, RANK, HostState
from ovs_keepalive.formats import fleet_page
from ovs_keepalive.web import board
from ovs_keepalive.web.app import FILES, STALE

SHARE = resources.files("ovs_keepalive") / "share"
TEXTS = {file.name: file.read_text() for file in (SHARE / "fleet").iterdir()}
SCRIPTS = "\n".join(text for name, text in TEXTS.items() if name.endswith(".js"))


def test_each_file_of_its_own_is_served_and_no_other_that_there_is_not() -> None:
    served = {path for path in FILES.values() if path.startswith("fleet/")}
    assert served == {f"fleet/{name}" for name in TEXTS}
    assert [path for path in FILES.values() if not SHARE.joinpath(*path.split("/")).is_file()] == []


def test_each_file_that_is_named_is_served() -> None:
    named = re.findall(
        r'(?:href|src)="([\w-]+\.\w+)"|from "\./([\w.]+)"|"(icon[\w-]*\.svg)"', "\n".join(TEXTS.values())
    )
    assert {f"/{next(filter(None, groups))}" for groups in named} <= set(FILES)


def test_the_page_knows_all_states_in_their_order() -> None:
    worst = re.findall(r'"(\w+)"', SCRIPTS.partition("export const WORST = [")[2].partition("]")[0])
    assert worst == sorted(HostState, key=RANK.__getitem__, reverse=True)
    told = re.findall(r'"?([\w?!]+)"?: "(\w+)"', SCRIPTS.partition("const STATES = {")[2].partition("}")[0])
    assert {state: letter for letter, state in told} == fleet_page.LETTERS
    quiet = re.findall(r'state !== "(\w+)"', SCRIPTS.partition("export const isBad")[2].partition("\n")[0])
    assert sorted(quiet) == sorted(QUIET)
    banner = re.findall(r"(\w+): \"", SCRIPTS.partition("const BANNER = {")[2].partition("}")[0])
    assert set(banner) == set(HostState) - set(QUIET)


def test_each_state_has_a_letter_of_its_own_and_looks_like_no_other_kind() -> None:
    assert len(set(fleet_page.LETTERS.values())) == len(HostState)
    classes = re.findall(r'(\w+): "(\w)"', SCRIPTS.partition("export const CLASSES = {")[2].partition("}")[0])
    assert {state for state, _ in classes} == set(HostState)
    styled = set(re.findall(r"\.letter\.(\w)", TEXTS["fleet.css"]))
    assert {name for _, name in classes} - styled == {"D"}, "DISABLED looks plain"


def test_the_page_counts_as_the_program_does() -> None:
    assert _number("VERSION") == fleet_page.VERSION
    assert _number("EVENTS") == board.LOG
    assert _number("LOST_MS") >= 2 * board.REFRESH * 1000  # one beat that is lost is no alarm
    assert _number("HALF_OPEN_MS") >= 2 * board.REFRESH * 1000
    assert _number("OLD_MS") <= STALE * 1000


def _number(name: str) -> int:
    [value] = re.findall(rf"^const {name} = (\d+);", SCRIPTS, re.MULTILINE)
    return int(value)
