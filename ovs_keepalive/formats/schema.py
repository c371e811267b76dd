# SPDX-License-Identifier: Apache-2.0
"""The two columns, and a database schema with and without them (CONTRACT section 3).

A schema is the JSON object of RFC 7047 section 3.2, as `get_schema` gives it. Everything in it but our two columns
stays as found, also `version` and `cksum`: ovsdb-server checks neither and hands both back as they were written, so
taking the columns out again leaves exactly what was (measured on 2.15, 3.1, 3.5 and 4.0).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, NamedTuple

DATABASE = "Open_vSwitch"
TABLE = "Open_vSwitch"

# A constant that happens to stand in a file of its own, for operators and other programs to read.
DOCUMENT: Mapping[str, Any] = json.loads((files("ovs_keepalive") / "share" / "keepalive.json").read_text("utf-8"))
WANTED: Mapping[str, Any] = DOCUMENT["tables"][TABLE]["columns"]


class SchemaError(ValueError):
    """What was given is no schema of the database Open_vSwitch."""


class Found(StrEnum):
    """What a live schema has under the name of one of our columns."""

    PRESENT = "present"
    ABSENT = "absent"
    OTHER = "of another type"  # somebody else's: never touched, counts as missing


class Column(NamedTuple):
    """One of our columns in a live schema."""

    name: str
    found: Found
    what: str  # the foreign definition as JSON in one line; "" unless OTHER


@dataclass(frozen=True, slots=True)
class Status:
    """Both columns in one live schema."""

    version: str  # of the live schema; "" where it has none
    columns: tuple[Column, ...]

    def names(self, found: Found) -> tuple[str, ...]:
        """The columns that are `found`, in the document's order."""
        return tuple(column.name for column in self.columns if column.found is found)

    @property
    def complete(self) -> bool:
        """Are both columns there, with exactly our type?"""
        return len(self.names(Found.PRESENT)) == len(self.columns)


def compare(live: object, wanted: Mapping[str, Any] = WANTED) -> Status:
    """Compares the columns of `live`, a schema, with `wanted`, column definitions by name. Raises SchemaError."""
    columns = _columns(live)
    version = live.get("version") if isinstance(live, Mapping) else None
    return Status(version if isinstance(version, str) else "", tuple(_look(columns, name, wanted) for name in wanted))


def with_columns(live: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `live` in which the absent ones of our columns are added; equal to `live` where nothing is to do.
    Raises SchemaError."""
    absent = compare(live).names(Found.ABSENT)
    return _with(live, {**_columns(live), **{name: WANTED[name] for name in absent}})


def without_columns(live: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `live` without those columns that are exactly ours; equal to `live` where nothing is to do.
    Raises SchemaError."""
    ours = compare(live).names(Found.PRESENT)
    return _with(live, {name: column for name, column in _columns(live).items() if name not in ours})


def _with(live: Mapping[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """A schema with these columns; all else it shares with `live`, however deep that may be."""
    tables = live["tables"]
    return {**live, "tables": {**tables, TABLE: {**tables[TABLE], "columns": columns}}}


def _columns(live: object) -> dict[str, Any]:
    found = live
    for key in ("tables", TABLE, "columns"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, dict):
        raise SchemaError(f"no schema with a table {TABLE}")
    return found


def _look(columns: Mapping[str, Any], name: str, wanted: Mapping[str, Any]) -> Column:
    if name not in columns:
        return Column(name, Found.ABSENT, "")
    if _normal(columns[name]) == _normal(wanted[name]):
        return Column(name, Found.PRESENT, "")
    return Column(name, Found.OTHER, json.dumps(columns[name], sort_keys=True))


def _normal(column: object) -> object:
    """A column with RFC 7047's short forms and defaults written out: "string" is {"key": "string"}, and so on.
    What is no column stays as it is."""
    if not isinstance(column, Mapping) or "type" not in column:
        return column
    kind = column["type"]
    full = {"min": 1, "max": 1, **(kind if isinstance(kind, Mapping) else {"key": kind})}
    for part in ("key", "value"):
        if isinstance(full.get(part), Mapping) and full[part].keys() == {"type"}:
            full[part] = full[part]["type"]
    return {"ephemeral": False, "mutable": True, **column, "type": full}
