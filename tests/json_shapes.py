# SPDX-License-Identifier: Apache-2.0
"""The shapes that docs/json.md gives of every JSON document, and what a real document has more, less or otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "json.md"

SIMPLE: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "facts": lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
}


def documented() -> dict[str, dict[str, str]]:
    """Of each document, by its name in small letters, the keys with their types."""
    shapes = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        shapes[title.lower()] = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", body, re.MULTILINE))
    return shapes


def wrong(value: Any, kind: str, shapes: Mapping[str, Mapping[str, str]], path: str = "") -> Iterator[str]:
    """What is not as documented, a line each. kind: "node", "list of PMD", "string or null"."""
    *others, last = kind.lower().split(" or ")
    if others and SIMPLE[last](value):
        return
    kind = others[0] if others else last
    if kind.startswith("list of "):
        if not isinstance(value, list):
            yield f"{path}: no list: {value!r}"
            return
        for number, item in enumerate(value):
            yield from wrong(item, kind.removeprefix("list of "), shapes, f"{path}[{number}]")
    elif kind in SIMPLE:
        if not SIMPLE[kind](value):
            yield f"{path}: no {kind}: {value!r}"
    elif shape := shapes[kind]:
        if not isinstance(value, dict):
            yield f"{path}: no {kind}: {value!r}"
            return
        yield from (f"{path}.{key}: not documented" for key in value.keys() - shape.keys())
        yield from (f"{path}.{key}: documented, and not there" for key in shape.keys() - value.keys())
        for key in value.keys() & shape.keys():
            yield from wrong(value[key], shape[key], shapes, f"{path}.{key}")
