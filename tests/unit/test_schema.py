# SPDX-License-Identifier: Apache-2.0
"""The two columns in the stock schema of the installed OVS: compared, added, removed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.formats import schema
from ovs_keepalive.formats.schema import Column, Found

MAP = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
BOTH = ("keepalive", "keepalive_detail")
STOCK = Path("/usr/share/openvswitch/vswitch.ovsschema")


@pytest.fixture
def stock() -> dict[str, Any]:
    if not STOCK.exists():
        pytest.skip(f"{STOCK} is not there: install openvswitch-switch")
    live: dict[str, Any] = json.loads(STOCK.read_text())
    return live


def columns(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["tables"]["Open_vSwitch"]["columns"]
    return found


def test_the_document_says_what_the_contract_says() -> None:
    assert {name: {"type": MAP, "ephemeral": True} for name in BOTH} == schema.WANTED
    assert schema.DOCUMENT["name"] == schema.DATABASE


def test_stock_has_none(stock: dict[str, Any]) -> None:
    status = schema.compare(stock)
    assert status.names(Found.ABSENT) == BOTH
    assert not status.complete
    assert status.version == stock["version"]


def test_added_and_nothing_else_touched(stock: dict[str, Any]) -> None:
    before = copy.deepcopy(stock)
    after = schema.with_columns(stock)
    assert stock == before  # the argument is left alone
    assert schema.compare(after).complete
    for name in BOTH:
        columns(before)[name] = schema.WANTED[name]
    assert after == before  # also version and cksum
    assert schema.with_columns(after) == after


def test_removed_leaves_what_was(stock: dict[str, Any]) -> None:
    assert schema.without_columns(schema.with_columns(stock)) == stock
    assert schema.without_columns(stock) == stock


@pytest.mark.parametrize(
    "spelling",
    [
        {
            "type": {"max": "unlimited", "min": 0, "key": {"type": "string"}, "value": {"type": "string"}},
            "ephemeral": True,
        },
        {
            "type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"},
            "ephemeral": True,
            "mutable": True,
        },
    ],
)
def test_the_same_type_in_another_spelling_is_ours(stock: dict[str, Any], spelling: dict[str, Any]) -> None:
    columns(stock)["keepalive"] = spelling
    assert schema.compare(stock).names(Found.PRESENT) == ("keepalive",)


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "string"},
        {"type": MAP},  # would be written to the disk
        {
            "type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"},
            "ephemeral": True,
            "mutable": False,
        },
        {"type": {"key": "string", "value": "string", "min": 0, "max": 8}, "ephemeral": True},
        {"type": {"key": "string", "value": "integer", "min": 0, "max": "unlimited"}, "ephemeral": True},
        {"type": {"key": "string", "min": 0, "max": "unlimited"}, "ephemeral": True},
        {
            "type": {"key": {"type": "string", "maxLength": 9}, "value": "string", "min": 0, "max": "unlimited"},
            "ephemeral": True,
        },
    ],
)
def test_another_type_is_told_and_never_touched(stock: dict[str, Any], foreign: dict[str, Any]) -> None:
    columns(stock)["keepalive"] = foreign
    assert schema.compare(stock).columns[0] == Column("keepalive", Found.OTHER, json.dumps(foreign, sort_keys=True))
    added = schema.with_columns(stock)
    assert columns(added)["keepalive"] == foreign
    assert schema.compare(added).names(Found.PRESENT) == ("keepalive_detail",)
    assert not schema.compare(added).complete
    assert schema.without_columns(added) == stock


@pytest.mark.parametrize(
    "mangled", [None, 7, "", [], {}, {"tables": {}}, {"tables": {"Open_vSwitch": []}}, "[" * 100_000]
)
def test_no_schema(mangled: object) -> None:
    with pytest.raises(schema.SchemaError, match="no schema with a table Open_vSwitch"):
        schema.compare(mangled)
