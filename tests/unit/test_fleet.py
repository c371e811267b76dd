# SPDX-License-Identifier: Apache-2.0
"""The documents of the fleet's store: what is written is read again; what cannot be is refused in one line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ovs_keepalive.core.fleet import TRIES, HostState, Member, PmdBrief, parts_of, request_id
from ovs_keepalive.core.health import Health
from ovs_keepalive.formats import fleet
from tests.fleets import CLAIM, DONE, HOST, KNOWN, T, help_of, member


def test_a_host_is_what_its_node_says_or_gone() -> None:
    assert {state.value for state in HostState} == {*(word.value for word in Health), "GONE"}


def test_the_document_of_a_node_is_compact_and_holds_what_the_note_names() -> None:
    document = msgspec.json.decode(fleet.member_bytes(member()))
    assert list(document)[:6] == ["v", "host", "seq", "t", "boot", "state"]
    assert document["pmds"] == [[1, 0, "ALIVE", 41, 2, 812345, 0], [2, None, "DEAD", None, 1, None, 1]]
    assert document["headroom"] == {"cores": {"0": 2, "1": 0}, "busy": {"0": 41, "1": 7}}


def test_sixty_four_pmds_fit_in_4_kib() -> None:
    pmds = tuple(PmdBrief(core, core // 32, "ALIVE", 41, 4, 10**12, 0) for core in range(64))
    assert len(fleet.member_bytes(member(pmds=pmds))) < 4096


def test_every_document_is_read_as_it_was_written() -> None:
    assert fleet.member(fleet.member_bytes(member()), HOST) == member()
    assert fleet.known(fleet.known_bytes(KNOWN), HOST) == KNOWN
    assert fleet.request(fleet.request_bytes(help_of()), HOST, "pmd-dead") == help_of()
    assert fleet.claim(fleet.claim_bytes(CLAIM), help_of().id) == CLAIM
    assert fleet.done(fleet.done_bytes(DONE), help_of().id) == DONE


def test_a_node_without_anything_is_read_as_it_was_written() -> None:
    bare = Member(HOST, 0, T, "b", HostState.DISABLED, T)
    assert fleet.member(fleet.member_bytes(bare), HOST) == bare


def test_a_text_that_would_steer_a_terminal_leaves_as_one_that_does_not() -> None:
    assert fleet.member(fleet.member_bytes(member(why="a\x1b[2Jb\u202ec")), HOST).why == "a [2Jb c"
    assert fleet.request(fleet.request_bytes(help_of(why="a\nb")), HOST, "pmd-dead").why == "a b"


def test_a_sentence_is_cut_and_a_document_that_is_too_long_refused() -> None:
    assert fleet.member(fleet.member_bytes(member(why="x" * 1000)), HOST).why == "x" * fleet.TEXT
    many = {f"service-{number}": number for number in range(9000)}
    with pytest.raises(ValueError, match=r"the document of node-07 has \d+ bytes, 65536 is the most"):
        fleet.member_bytes(member(services=many))


def changed(**fields: Any) -> bytes:
    """The document of a node with these fields otherwise; None: without."""
    document = {**msgspec.json.decode(fleet.member_bytes(member())), **fields}
    return msgspec.json.encode({key: value for key, value in document.items() if value is not None})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "depth|65536|malformed|Expected|truncated"),
        (changed(v=None), "missing required field `v`"),
        (changed(v=2), "it is of version 2, this program reads 1"),
        (changed(v=True), "Expected `int`"),
        (changed(host="node-08"), "it names itself 'node-08'"),
        (changed(host=""), "length"),
        (changed(seq=-1), ">= 0"),
        (changed(seq="7"), "Expected `int`, got `str`"),
        (changed(t=10**15), "<= 253402300799999"),
        (changed(state="GONE"), "no host says of itself that it is GONE"),
        (changed(state="DEAD"), "Invalid enum value 'DEAD'"),
        (changed(why="a\nb"), "'a b' is not printable"),
        (changed(why="x" * 401), "length <= 400"),
        (changed(pmds=[[1, 0, "ALIVE", 41, 2, 3]]), "length"),
        (changed(pmds=[[1, 0, "ALIVE", 101, 2, 3, 0]]), "<= 100"),
        (changed(pmds=[[1, 0, "AL\tIVE", 41, 2, 3, 0]]), "not printable"),
        (changed(pmds=[[1, 0, "ALIVE", 4.5, 2, 3, 0]]), "Expected `int | null`, got `float`"),
        (changed(headroom={"cores": {"a": 1}}), "Expected `int`"),
        (changed(headroom={"cores": {"0": -1}}), ">= 0"),
        (changed(services={"d\x1bs": 1}), "not printable"),
        (changed(services={"dns": 2**24}), "<= 16777215"),
        (changed(tunnels=[["a", "vxlan", "", "", None, None, 1, 0]]), "Expected `bool | null`"),
        (changed(x="y" * 70_000), "65536 is the most that is read"),
    ],
)
def test_what_no_node_writes_is_refused_in_a_line_that_names_the_host(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        fleet.member(document, HOST)
    assert str(refused.value).startswith(HOST)
    assert str(refused.value).isprintable()


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert fleet.member(changed(more=[{"a": [1]}]), HOST) == member()


def test_a_request_stands_under_its_own_name() -> None:
    document = fleet.request_bytes(help_of())
    with pytest.raises(ValueError, match="names itself 'node-07'"):
        fleet.request(document, "node-08", "pmd-dead")
    with pytest.raises(ValueError, match="of kind 'pmd-dead' and stands under 'overloaded'"):
        fleet.request(document, HOST, "overloaded")


def test_a_record_of_another_host_is_refused() -> None:
    with pytest.raises(ValueError, match="node-08: it names itself 'node-07'"):
        fleet.known(fleet.known_bytes(KNOWN), "node-08")


def test_a_record_holds_a_node_of_the_same_version() -> None:
    record = fleet.known_bytes(KNOWN).replace(b'"member":{"v":1', b'"member":{"v":2')
    with pytest.raises(ValueError, match="it is of version 2, this program reads 1"):
        fleet.known(record, HOST)


def test_the_name_of_a_request_tells_its_host_and_kind() -> None:
    assert parts_of(request_id("a--b", "pmd-dead")) == ("a--b", "pmd-dead")
    for id in ("", "--", "a--", "--b", "a-b"):
        with pytest.raises(ValueError, match="HOST--KIND is asked for"):
            parts_of(id)


def test_a_request_that_was_tried_three_times_is_stuck() -> None:
    assert not help_of(n=TRIES - 1).is_stuck
    assert help_of(n=TRIES).is_stuck


@pytest.mark.parametrize("name", ["node-07", "a.b.example", "<img src=x>", "nœud 1"])
def test_a_host_may_be_called_anything_that_can_be_shown(name: str) -> None:
    assert fleet.host_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a\nb", "\u202ea", "x" * 254])
def test_a_host_is_called_nothing_that_a_path_or_a_terminal_would_obey(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a host's name"):
        fleet.host_name(name)


@pytest.mark.parametrize("kind", ["", "A", "a--b", "-a", "a_b", "a\n", "x" * 65])
def test_a_kind_of_request_is_a_plain_word(kind: str) -> None:
    with pytest.raises(ValueError, match="no kind of request"):
        fleet.kind_name(kind)
    assert fleet.kind_name("pmd-dead") == "pmd-dead"
