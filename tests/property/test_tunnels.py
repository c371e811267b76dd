# SPDX-License-Identifier: Apache-2.0
"""Whatever the hosts of a fleet say of their tunnels: a pair is what its ends say, and nothing is made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.fleet import Tunnel
from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.tunnels import End, Host, Reach, View, matrix, own, says

NAMES = "abcd"
ADDRESS = {name: f"192.0.2.{number}" for number, name in enumerate(NAMES, 1)}
REMOTES = st.sampled_from([*ADDRESS.values(), "203.0.113.9", "flow"])
BFD = st.sampled_from([None, "", "up", "down", "init", "admin_down", "?"])
TUNNELS = st.builds(
    Tunnel,
    st.sampled_from(["t0", "t1", "t2"]),
    st.sampled_from(["vxlan", "geneve"]),
    st.just(""),
    REMOTES,
    BFD,
    BFD,
    st.sampled_from([None, None, True, False]),
    st.integers(0, 9),
)
FLEETS = st.fixed_dictionaries(
    {
        name: st.builds(Host, st.booleans(), st.just(ADDRESS[name]), st.lists(TUNNELS, max_size=5).map(tuple))
        for name in NAMES
    }
)


@given(FLEETS)
def test_a_pair_is_cut_if_and_only_if_a_host_that_is_seen_says_so(fleet: dict[str, Host]) -> None:
    owner = {address: name for name, address in ADDRESS.items()}
    found = {(link.a, link.b, link.kind): link for link in matrix(fleet).links}
    told: dict[tuple[str, str, str], set[End]] = {}
    for name, host in fleet.items():
        for one in host.tunnels if host.seen else ():
            other = owner.get(one.remote)
            if other is not None and other != name:
                a, b = sorted((name, other))
                told.setdefault((a, b, one.kind), set()).add(says(one))
    assert found.keys() == told.keys()
    for pair, ends in told.items():
        wanted = Reach.DOWN if End.DOWN in ends else Reach.UP if End.UP in ends else Reach.UNKNOWN
        assert found[pair].reach is wanted
        assert (found[pair].view is View.NOBODY) == (wanted is Reach.UNKNOWN)


@given(FLEETS, st.permutations(NAMES))
def test_it_is_the_same_whoever_is_called_what(fleet: dict[str, Host], names: list[str]) -> None:
    renamed = dict(zip(NAMES, names, strict=True))
    plain = matrix(fleet).links
    again = matrix({renamed[name]: fleet[name] for name in NAMES}).links
    assert {(frozenset((renamed[one.a], renamed[one.b])), one.kind, one.reach, one.view) for one in plain} == {
        (frozenset((one.a, one.b)), one.kind, one.reach, one.view) for one in again
    }


@given(FLEETS, st.sampled_from(NAMES))
def test_what_a_gone_host_said_makes_no_difference(fleet: dict[str, Host], name: str) -> None:
    gone = {**fleet, name: fleet[name]._replace(seen=False)}
    silent = {**gone, name: gone[name]._replace(tunnels=())}
    assert matrix(gone) == matrix(silent)


ROWS = st.lists(
    st.builds(
        Interface,
        st.text(max_size=300),
        st.sampled_from(["vxlan", "geneve", "internal"]),
        st.sampled_from(["br0", ""]),
        options=st.dictionaries(st.sampled_from(["remote_ip", "local_ip"]), st.text(max_size=80)),
        ofport=st.sampled_from([None, -1, 3]),
        error=st.sampled_from(["", "no"]),
        bfd=st.sampled_from([{}, {"enable": "true"}]),
        bfd_status=st.dictionaries(st.sampled_from(["state", "remote_state"]), st.text(max_size=80)),
    ),
    max_size=4,
    unique_by=lambda one: one.name,
)


@given(ROWS, ROWS)
def test_whatever_stands_in_the_rows_is_told_within_bounds(first: list[Interface], second: list[Interface]) -> None:
    for one in own(second, own(first, (), 1), 2):
        assert len(one.name) <= 253
        assert max(len(one.remote), len(one.local), len(one.bfd or ""), len(one.bfd_remote or "")) <= 64
        assert one.since_ms in (1, 2)
        assert says(one) in (End.UP, End.DOWN, End.SILENT)
