# SPDX-License-Identifier: Apache-2.0
"""docs/json.md says of every document the keys that it has, and their types."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ovs_keepalive.core.model import Moment, Others, OtherThread, Plan, Shares, ThreadId, Transition
from ovs_keepalive.core.model import Other as Seen
from ovs_keepalive.formats import document
from ovs_keepalive.formats.incident import Head
from tests.json_shapes import documented, wrong
from tests.looks import FIRST, SETTINGS, broke, pmd, running, snapshot, unknown_pmd

NOW = Moment(1003.0, 1_700_000_003_000)
SHAPES = documented()


def _decoded(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def _node() -> Any:
    known = pmd(shares=Shares(1.0, 0.5, None, None, 1.0, 0.0))
    thread = Seen(OtherThread(ThreadId(FIRST, 12, 1), "handler3", "S"), NOW)
    change = Transition(NOW, "vswitchd", "STARTING", "RUNNING", "none", "answers")
    shown = snapshot(
        [known, unknown_pmd()],
        others=Others((thread,)),
        history=(change,),
        blind=("log: hidden",),
        breaks=(broke(), broke(unknown="no traffic", pid_new=None, control_to=None)),
        settings=replace(SETTINGS, plan=Plan(NOW, 60.0)),
    )
    return _decoded(document.node(shown, NOW, {"database": "connected"}))


def test_a_node_is_as_documented_to_its_last_key() -> None:
    assert list(wrong(_node(), "node", SHAPES)) == []
    nobody = snapshot([], vswitchd=running(None))
    assert list(wrong(_decoded(document.node(nobody, NOW, {})), "node", SHAPES)) == []


def test_an_incident_is_as_documented() -> None:
    head = Head(number=1, at=1, who="x", old="ALIVE", new="DEAD", cause="none", evidence="", complete=True)
    assert list(wrong(_decoded(head), "incident", SHAPES)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"new": 1}, ".new: not documented"),
        ({"health": 7}, ".health: no string: 7"),
        ({"sequence": True}, ".sequence: no integer: True"),
        ({"sequence": None}, ".sequence: no integer: None"),
        ({"blind": None}, ".blind: no list: None"),
        ({"cost": []}, ".cost: no cost: []"),
        ({"daemon": {"a": 1}}, ".daemon: no facts: {'a': 1}"),
    ],
)
def test_what_is_otherwise_is_found(change: dict[str, Any], said: str) -> None:
    assert list(wrong({**_node(), **change}, "node", SHAPES)) == [said]


def test_what_is_missing_is_found() -> None:
    node = _node()
    del node["pmds"][0]["core"]
    assert list(wrong(node, "node", SHAPES)) == [".pmds[0].core: documented, and not there"]


def test_every_type_on_the_page_is_one_that_is_checked() -> None:
    for name, shape in SHAPES.items():
        assert shape, name
        for key in shape:
            list(wrong({key: None}, name, SHAPES))  # an unknown type raises KeyError
