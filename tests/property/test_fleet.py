# SPDX-License-Identifier: Apache-2.0
"""Any node that can be is read as it was written; nothing else raises anything but a line."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_keepalive.core.fleet import OWN_WORDS, Headroom, Member, PmdBrief, Tunnel
from ovs_keepalive.formats import fleet
from ovs_keepalive.formats.plain import LAST_MS
from tests.fleets import HOST, member

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
WORDS = st.text(PRINTABLE, max_size=20)
NAMES = st.text(PRINTABLE, min_size=1, max_size=20)
TIMES = st.integers(0, LAST_MS)
SMALL = st.integers(0, 65535)
COUNTS = st.integers(0, 2**63 - 1)
PERCENTS = st.integers(0, 100)
PMDS = st.builds(PmdBrief, SMALL, st.none() | SMALL, WORDS, st.none() | PERCENTS, SMALL, st.none() | COUNTS, COUNTS)
TUNNELS = st.builds(
    Tunnel, NAMES, WORDS, WORDS, WORDS, st.none() | WORDS, st.none() | WORDS, st.none() | st.booleans(), TIMES
)
MEMBERS = st.builds(
    Member,
    host=st.just(HOST),
    seq=COUNTS,
    t=TIMES,
    boot=WORDS,
    state=st.sampled_from(OWN_WORDS),
    since=TIMES,
    why=WORDS,
    pmds=st.lists(PMDS, max_size=5).map(tuple),
    headroom=st.builds(Headroom, st.dictionaries(SMALL, SMALL), st.dictionaries(SMALL, PERCENTS)),
    tunnels=st.lists(TUNNELS, max_size=5).map(tuple),
    services=st.dictionaries(WORDS, st.integers(0, 2**24 - 1)),
    address=WORDS,
    ver=WORDS,
    v=st.just(1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(MEMBERS)
def test_any_node_is_read_as_it_was_written(node: Member) -> None:
    assert fleet.member(fleet.member_bytes(node), HOST) == node


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(msgspec.json.decode(fleet.member_bytes(member())))), JSON, max_size=3))
def test_a_document_with_anything_in_it_is_read_or_refused_in_one_line(fields: dict[str, object]) -> None:
    document = msgspec.json.encode({**msgspec.json.decode(fleet.member_bytes(member())), **fields})
    said = HOST
    try:
        read = fleet.member(document, HOST)
    except ValueError as error:
        said = str(error)
    else:
        assert fleet.member(fleet.member_bytes(read), HOST) == read
    assert said.isprintable()
    assert said.startswith(HOST)
