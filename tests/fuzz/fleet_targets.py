# SPDX-License-Identifier: Apache-2.0
"""The decoders of what comes out of the fleet's store, which any host may have written."""

from __future__ import annotations

from ovs_keepalive.core.fleet import parts_of
from ovs_keepalive.formats import fleet, servers
from tests.fleets import CLAIM, DONE, HOST, KNOWN, help_of, member
from tests.fuzz.target import Target, as_text, seeds


def _member(data: bytes) -> None:
    read = fleet.member(data, HOST)
    assert read.host == HOST
    assert fleet.member(fleet.member_bytes(read), HOST) == read


def _known(data: bytes) -> None:
    read = fleet.known(data, HOST)
    assert fleet.known(fleet.known_bytes(read), HOST) == read


def _request(data: bytes) -> None:
    read = fleet.request(data, HOST, "pmd-dead")
    assert (read.host, read.kind) == (HOST, "pmd-dead")
    assert fleet.request(fleet.request_bytes(read), HOST, "pmd-dead") == read


def _claim(data: bytes) -> None:
    read = fleet.claim(data, "a")
    assert fleet.claim(fleet.claim_bytes(read), "a") == read


def _done(data: bytes) -> None:
    read = fleet.done(data, "a")
    assert fleet.done(fleet.done_bytes(read), "a") == read


def _names(data: bytes) -> None:
    """Of a host, and of a request."""
    name = as_text(data)
    host, kind = parts_of(name)
    assert f"{host}--{kind}" == name
    assert "/" not in fleet.host_name(host)
    assert fleet.kind_name(kind).isascii()


def _servers(data: bytes) -> None:
    read = servers.parse(as_text(data))
    assert servers.parse(",".join(map(str, read))) == read
    assert all(isinstance(server.is_loopback, bool) for server in read)


FLEET_TARGETS = (
    Target(
        "fleet-member",
        _member,
        (ValueError,),
        lambda: [fleet.member_bytes(member())],
        "a host's document in the fleet's store",
    ),
    Target("fleet-known", _known, (ValueError,), lambda: [fleet.known_bytes(KNOWN)], "what stays of a host there"),
    Target("fleet-request", _request, (ValueError,), lambda: [fleet.request_bytes(help_of())], "a request for help"),
    Target("fleet-claim", _claim, (ValueError,), lambda: [fleet.claim_bytes(CLAIM)], "a claim of one"),
    Target("fleet-done", _done, (ValueError,), lambda: [fleet.done_bytes(DONE)], "the record of one that is done"),
    Target("fleet-names", _names, (ValueError,), seeds("node-07--pmd-dead", "a--b--c"), "names of hosts and requests"),
    Target("fleet-servers", _servers, (ValueError,), seeds("zk1:2181,[::1]:2181", "10.0.0.1:1"), "where the store is"),
)
