# SPDX-License-Identifier: Apache-2.0
"""Whatever a node has, lacks and is offered: no packet that came by a tunnel leaves by one, and each way is one that
BFD calls up."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.fleet import Headroom
from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.mesh import BRIDGE, Wanted, host_of, port_name
from ovs_keepalive.core.services import CLIENT, Offer, routes
from ovs_keepalive.formats import service_flows as form
from tests.meshes import mesh_port

NAMES = st.sampled_from(["dns", "fw", "nat"])
HOSTS = st.sampled_from("bcd")
OFPORTS = st.sampled_from([None, -1, 1, 2, 3, 4])
PORTS = st.lists(
    st.builds(
        Interface,
        st.sampled_from(["p0", "p1", "p2", "p3"]),
        st.just(""),
        st.just(BRIDGE),
        ofport=OFPORTS,
        link=st.sampled_from(["", "up", "down"]),
        external_ids=st.one_of(st.just({}), NAMES.map(lambda name: {CLIENT: name})),
    ),
    max_size=4,
    unique_by=(lambda one: one.name, lambda one: (one.ofport or -1) if (one.ofport or -1) > 0 else one.name),
)
TUNNELS = st.lists(
    st.builds(
        lambda host, ofport, state: mesh_port(
            Wanted(port_name("rack1", host), host, {}, {}), ofport=ofport, bfd_status={"state": state}
        ),
        HOSTS,
        st.sampled_from([None, -1, 11, 12, 13]),
        st.sampled_from(["up", "down"]),
    ),
    max_size=3,
    unique_by=(host_of, lambda one: (one.ofport or -1) if (one.ofport or -1) > 0 else one.name),
)
OFFERS = st.dictionaries(
    NAMES,
    st.lists(
        st.builds(Offer, HOSTS, st.integers(0, 2**24 - 1), st.builds(Headroom, st.just({}), st.just({0: 30}))),
        max_size=3,
        unique_by=lambda one: one.host,
    ).map(tuple),
)
IN_PORT = re.compile(r",in_port=(\d+)")
SENT = re.compile(r",output:(\d+)$")


@given(
    st.dictionaries(NAMES, st.sampled_from(["p0", "p1", "p9"])), PORTS, TUNNELS, OFFERS, st.dictionaries(NAMES, HOSTS)
)
def test_no_packet_goes_from_tunnel_to_tunnel(
    registered: dict[str, str],
    ports: list[Interface],
    tunnels: list[Interface],
    offers: dict[str, tuple[Offer, ...]],
    before: dict[str, str],
) -> None:
    found = routes(registered, [*ports, *tunnels], tunnels, offers, before)
    all_tunnels = {one.ofport for one in tunnels}
    up = {one.ofport for one in tunnels if one.bfd_status["state"] == "up" and (one.ofport or 0) > 0}
    flows = form.wanted(found)
    for line in flows.values():
        if sent := SENT.search(line):
            came = IN_PORT.search(line)
            assert came is not None
            assert not {int(came[1]), int(sent[1])} <= all_tunnels
            assert int(sent[1]) not in all_tunnels or int(sent[1]) in up
    for route in found.routes:
        assert route.home is None or not route.host
        assert not route.host or route.host in {offer.host for offer in offers.get(route.service, ())}
    again = routes(registered, [*ports, *tunnels], tunnels, offers, found.chosen)
    assert again.chosen == found.chosen
    assert form.bundle(form.wanted(again), flows) == ""
