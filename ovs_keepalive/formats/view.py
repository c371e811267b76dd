# SPDX-License-Identifier: Apache-2.0
"""What a person has chosen to see of a node, and what each key changes in that. No terminal is needed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ovs_keepalive.core.model import State
from ovs_keepalive.formats.node import Node, Pmd

LONGEST_FILTER = 60  # characters
PAGE = 10  # rows
WORST = (State.GONE, State.DEAD, State.MISSING)
VSWITCHD = "vswitchd"

# \x1b[A, \x1bOA, \x1b[5~, \x1b[1;5C: what a terminal sends for one key
SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.)")
BEGUN = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|O)?")  # that may go on
NAMED = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x15": "clear",  # Ctrl-U
}
MOVES = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE, "home": -(1 << 20), "end": 1 << 20}


class Sort(StrEnum):
    """The order of the rows."""

    WORST = "worst first"
    CORE = "core"
    BUSY = "busy"


class Open(StrEnum):
    """What is on the screen."""

    TABLE = "table"
    EXPLAIN = "explain"
    HELP = "help"


class View(NamedTuple):
    """What was chosen."""

    sort: Sort = Sort.WORST
    filter: str = ""
    typing: bool = False  # the filter
    selected: str = ""  # name of a PMD; one that is not shown: the first row
    open: Open = Open.TABLE
    about: str = ""  # what is explained
    scroll: int = 0  # lines, of the explanation
    over: bool = False


def keys(typed: str, ended: bool) -> tuple[list[str], str]:
    """The keys in what a terminal sent, and what is not all there yet. ended: nothing more belongs to it."""
    found: list[str] = []
    while typed:
        sequence = SEQUENCE.match(typed)
        if sequence is None and not ended and BEGUN.fullmatch(typed):
            return found, typed
        taken = sequence[0] if sequence is not None else typed[0]
        typed = typed[len(taken) :]
        if taken in NAMED or taken.isprintable():
            found.append(NAMED.get(taken, taken))
    return found, ""


def rows(node: Node, view: View) -> list[Pmd]:
    """The PMDs that are shown, in their order."""
    wanted = view.filter.lower()
    found = [pmd for pmd in node.pmds if wanted in _words(pmd).lower()]
    match view.sort:
        case Sort.WORST:
            found.sort(key=lambda pmd: (_rank(pmd), pmd.core))
        case Sort.BUSY:
            found.sort(key=lambda pmd: (-((pmd.shares and pmd.shares.busy) or 0.0), pmd.core))
        case Sort.CORE:
            found.sort(key=lambda pmd: pmd.core)
    return found


def place(view: View, names: Sequence[str]) -> int:
    """Which row is selected."""
    return names.index(view.selected) if view.selected in names else 0


def press(view: View, key: str, names: Sequence[str]) -> View:
    """The view after a key. names: of the rows as they are shown."""
    if view.typing:
        return _typed(view, key)
    if view.open is not Open.TABLE:
        return _in_page(view, key)
    if key in MOVES and names:
        to = min(max(place(view, names) + MOVES[key], 0), len(names) - 1)
        return view._replace(selected=names[to])
    return view._replace(**_chosen(view, key, names))


def _chosen(view: View, key: str, names: Sequence[str]) -> dict[str, Any]:
    """What a key changes while the table is on the screen."""
    orders = list(Sort)
    changes: dict[str, dict[str, Any]] = {
        "q": {"over": True},
        "s": {"sort": orders[(orders.index(view.sort) + 1) % len(orders)]},
        "f": {"typing": True},
        "/": {"typing": True},
        "escape": {"filter": ""},
        "v": {"open": Open.EXPLAIN, "about": VSWITCHD, "scroll": 0},
        "?": {"open": Open.HELP},
    }
    if names:
        changes["e"] = {"open": Open.EXPLAIN, "about": names[place(view, names)], "scroll": 0}
        changes["enter"] = changes["e"]
    return changes.get(key, {})


def _typed(view: View, key: str) -> View:
    match key:
        case "enter":
            return view._replace(typing=False)
        case "escape":
            return view._replace(typing=False, filter="")
        case "backspace":
            return view._replace(filter=view.filter[:-1])
        case "clear":
            return view._replace(filter="")
    if len(key) == 1 and len(view.filter) < LONGEST_FILTER:
        return view._replace(filter=view.filter + key)
    return view


def _in_page(view: View, key: str) -> View:
    if key in MOVES:
        return view._replace(scroll=max(0, view.scroll + MOVES[key]))
    if key in ("q", "escape", "e", "enter", "?", "v"):
        return view._replace(open=Open.TABLE)
    return view


def _rank(pmd: Pmd) -> int:
    if pmd.state in WORST:
        return WORST.index(State(pmd.state))
    if pmd.state == State.UNUSED:
        return len(WORST) + 2
    return len(WORST) + (0 if pmd.is_ill else 1)


def _words(pmd: Pmd) -> str:
    return " ".join([pmd.name, pmd.state, pmd.cause, *(pmd.rxqs or ())])
