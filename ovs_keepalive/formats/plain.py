# SPDX-License-Identifier: Apache-2.0
"""The one place where other people's text is made fit to leave: names of ports, threads and processes, paths, log text.

Every way out goes through here: lines for a terminal and for the log (one_line, lines), JSON (json_text, json_bytes),
a sentence that names somebody (short). `formats.column.clean` adds what is special to a column's values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

# Looked at one by one, since only of these Python has to be asked: a loop over 250 KB would hold the beat up.
_SUSPECT = re.compile(r"[^ -~]+")
_UNFIT = re.compile("\0+")
DEEPEST = 50  # levels of a document
LAST_MS = 253_402_300_799_999  # epoch ms of the last moment that has a date of four digits


def one_line(text: str) -> str:
    """The text without anything that could end a line, steer a terminal, or turn or hide what stands beside it.

    What goes is what Unicode calls not printable (Python's str.isprintable): control characters and escapes, the ends
    of lines and paragraphs, the marks that reverse the direction of writing, invisible ones, half surrogates.
    """
    if text.isprintable():
        return text
    return _UNFIT.sub(" ", _changed(text, lambda _: "\0"))


def lines(text: str) -> str:
    """The same for a text of several lines: its line ends stay, and the tabs of a table."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def _changed(text: str, change: Callable[[str], str]) -> str:
    """The text with each character changed that is not printable."""
    return _SUSPECT.sub(lambda found: "".join(c if c.isprintable() else change(c) for c in found[0]), text)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def json_bytes(document: Any) -> bytes:
    """A JSON document in UTF-8. Half surrogates, as paths that are no Unicode bring them, become question marks."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(sound(document))


def json_text(document: Any) -> str:
    """A JSON document for people and programs: what would be unfit for a terminal is written as \\uXXXX."""
    return msgspec.json.format(json_line(document), indent=2) + "\n"


def json_line(document: Any) -> str:
    """The same in one line, without its end."""
    text = json_bytes(document).decode()
    if not text.isprintable():
        # Such characters can only stand inside strings: there is no layout yet.
        text = _changed(text, lambda char: json.dumps(char)[1:-1])
    return text


def sound(document: Any, change: Callable[[str], str] = _encodable, depth: int = 0) -> Any:
    """The document with every text in it changed: by default into one that can be encoded as UTF-8.

    What is nested deeper than any document of ours becomes null.
    """
    if depth > DEEPEST:
        return None
    match document:
        case str():
            return change(document)
        case dict():
            return {sound(key, change): sound(value, change, depth + 1) for key, value in document.items()}
        case list() | tuple():
            return [sound(item, change, depth + 1) for item in document]
        case msgspec.Struct():
            return sound(msgspec.structs.asdict(document), change, depth + 1)
        case _:
            return document
