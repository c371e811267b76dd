# SPDX-License-Identifier: Apache-2.0
"""How a remote of an OVSDB server is written: ovsdb(7), as far as a client that connects by numbers can use it."""

from __future__ import annotations

import ipaddress

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.ports import LONGEST_PATH, too_long
from ovs_keepalive.formats.plain import one_line

LONGEST_NAME = 80  # bytes: behind a longer path python-ovs connects to /proc/self/fd/N/NAME
HIGHEST_PORT = 65535
TLS = "ssl"


class BadRemote(Exception):
    """It cannot be used as it is written: one line that names it and the cure."""


def check(remote: str) -> str:
    """Its kind: unix (FILE), tcp or ssl (ADDRESS:PORT). Raises BadRemote."""
    kind, colon, rest = remote.partition(":")
    shown = short(one_line(remote))
    if not colon or kind not in ("unix", "tcp", TLS) or not remote.isprintable():
        raise BadRemote(f"{shown}: no OVSDB remote: write unix:FILE, tcp:ADDRESS:PORT or ssl:ADDRESS:PORT")
    if kind == "unix":
        if not rest:
            raise BadRemote(f"{shown}: the socket's path is missing: write unix:FILE")
        if too_long(rest) and too_long(rest.rpartition("/")[2], LONGEST_NAME):
            raise BadRemote(f"{shown}: a socket's path has at most {LONGEST_PATH} bytes: use a shorter one")
        return kind
    host, _, port = rest.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:  # python-ovs resolves no names unless the library unbound is there
        raise BadRemote(f"{shown}: write {kind}:ADDRESS:PORT with a numeric address, [] around IPv6") from None
    if not 0 < number <= HIGHEST_PORT:
        raise BadRemote(f"{shown}: write {kind}:ADDRESS:PORT with a port of 1 to {HIGHEST_PORT}")
    return kind


def check_hostname(name: str) -> None:
    """That a certificate can bear it: a DNS name or an address. Raises BadRemote."""
    try:
        name.encode("idna")
    except UnicodeError as error:
        raise BadRemote(f"{short(name)!r}: no name of a host: {error}: correct it") from error
