# SPDX-License-Identifier: Apache-2.0
"""Where the servers of the fleet's store are: `zk1:2181,zk2:2181,[2001:db8::3]:2181`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.formats.plain import one_line

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
MOST = 32
CURE = "give HOST:PORT, several separated by commas, an IPv6 address in brackets"


class Server(NamedTuple):
    """One of them."""

    host: str  # name or numeric address
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nothing that is sent there leaves this host; a name but localhost may be anybody's."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> tuple[Server, ...]:
    """Raises ValueError: one line with the cure."""
    parts = text.split(",")
    if len(parts) > MOST:
        raise ValueError(f"{len(parts)} servers: {MOST} are the most")
    return tuple(_server(part.strip()) for part in parts)


def _server(text: str) -> Server:
    host, _, port = text.rpartition(":")
    shown = short(one_line(text)) or "nothing"
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise ValueError(f"{shown} names no port of a server: {CURE}")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Server(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError(f"{shown} is no IPv6 address: {CURE}") from None
    if not _NAME.fullmatch(host):
        raise ValueError(f"{shown} names no server: {CURE}")
    return Server(host, int(port))
