# SPDX-License-Identifier: Apache-2.0
"""A black-box record: its sections, and its text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from ovs_keepalive.core.model import Moment
from ovs_keepalive.formats.plain import LAST_MS, json_bytes, one_line
from ovs_keepalive.formats.tables import stamp

CLIP = 1 << 20  # characters of one text
DEEPEST = 20  # levels of a section that are laid out; the database has 5


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a record: enough for a list. It grows by new keys only."""

    number: int
    at: Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]  # epoch ms of the transition
    who: str
    old: str
    new: str
    cause: str
    evidence: str
    complete: bool
    note: str = ""  # why it is not complete
    version: int = 1


class Section(msgspec.Struct, frozen=True):
    """One line of a record: what was found, or why nothing was."""

    name: str
    data: Any = None
    note: str = ""


def clipped(text: str, most: int = CLIP) -> tuple[str, str]:
    """The end of a text, which is its newest part, and a note if something had to go."""
    if len(text) <= most:
        return text, ""
    return text[-most:], f"clipped to the last {most} of {len(text)} characters"


def listing(heads: Sequence[Head]) -> list[str]:
    """One line a record, oldest first."""
    return [one_line(f"{head.number}  {_headline(head)}") for head in heads] or ["no incidents recorded"]


def text(head: Head, sections: Sequence[Section]) -> str:
    """`incident show`: what happened, then section by section."""
    lines = [f"Incident {head.number}: {_headline(head)}"]
    for section in sections:
        lines += ["", f"== {section.name} ==" + (f" ({section.note})" if section.note else ""), *_lines(section.data)]
    return "".join(f"{one_line(line)}\n" for line in lines)


def _headline(head: Head) -> str:
    cause = f"{head.cause}: " if head.cause != "none" else ""
    unfinished = "" if head.complete else f" (incomplete: {head.note})"
    at = stamp(Moment(0.0, head.at))
    return f"{at}  {head.who}  {head.old} -> {head.new}  {cause}{head.evidence}{unfinished}"


def _lines(data: Any, depth: int = 0) -> list[str]:
    """Any JSON as indented lines; a list of plain values, and what is nested beyond sense, stays on one."""
    match data:
        case None:
            return []
        case str():
            return [line.replace("\t", "  ") for line in data.rstrip("\n").split("\n")]
        case dict() if depth < DEEPEST:
            return [line for key, value in data.items() for line in _pair(str(key), value, depth)]
        case list() if any(isinstance(item, dict | list) for item in data):
            return [json_bytes(item).decode() for item in data]
        case _:
            return [json_bytes(data).decode()]


def _pair(key: str, value: Any, depth: int) -> list[str]:
    lines = _lines(value, depth + 1)
    if len(lines) <= 1:
        return [f"{key}: {lines[0] if lines else '-'}"]
    return [f"{key}:", *(f"  {line}" for line in lines)]
