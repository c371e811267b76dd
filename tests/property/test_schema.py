# SPDX-License-Identifier: Apache-2.0
"""Any schema, with our columns in it or not: what is not ours stays. Any bytes from a server: one error at most."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.formats import schema
from ovs_keepalive.formats.schema import Found
from ovs_keepalive.publishers.schema import _messages

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)
ours = st.sampled_from([None, *schema.WANTED.values(), {"type": "integer"}, {"type": {"key": "string"}}]) | values


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A schema with any columns beside ours, each of ours absent (None), there, or anything else."""
    columns = draw(objects)
    for name in schema.WANTED:
        if (column := draw(ours)) is not None:
            columns[name] = column
    return {**draw(objects), "tables": {**draw(objects), "Open_vSwitch": {**draw(objects), "columns": columns}}}


@given(schemas())
def test_adding_and_removing(live: dict[str, Any]) -> None:
    before = copy.deepcopy(live)
    status = schema.compare(live)
    added, removed = schema.with_columns(live), schema.without_columns(live)
    assert live == before
    assert schema.compare(removed).names(Found.PRESENT) == ()
    assert schema.compare(added).names(Found.ABSENT) == ()
    assert schema.compare(added).names(Found.OTHER) == schema.compare(removed).names(Found.OTHER)
    assert schema.with_columns(added) == added
    assert schema.without_columns(removed) == removed
    assert schema.without_columns(added) == removed
    assert (added == live) == (not status.names(Found.ABSENT))
    assert (removed == live) == (not status.names(Found.PRESENT))


@given(values)
def test_what_is_no_schema_is_one_error(anything: object) -> None:
    with pytest.raises(schema.SchemaError):
        schema.compare(anything)


@given(st.lists(objects, max_size=4), st.data())
def test_messages_arrive_whole_wherever_the_stream_is_cut(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    wire = "".join(json.dumps(message, ensure_ascii=False) for message in sent).encode()
    received, rest = [], b""
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        messages, rest = _messages(rest + wire[:cut])
        received += messages
        wire = wire[cut:]
    assert received == sent
    assert not rest


@given(st.binary() | st.binary().map(lambda data: b"{" + data + b"}"))
def test_garbage_is_one_error_or_waits_for_more(garbage: bytes) -> None:
    try:
        messages, rest = _messages(garbage)
    except ValueError:
        return
    assert len(rest) <= len(garbage)
    assert all(isinstance(message, dict) for message in messages)
