# SPDX-License-Identifier: Apache-2.0
"""Where to listen, and whether that is this host only."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.formats.plain import one_line

OFF = "off"
IPV6 = 6
CURE = "give HOST:PORT with a numeric host or localhost, such as 127.0.0.1:9811 or [::1]:9811, or off"


class BadAddress(Exception):
    """It cannot be listened there: one line with the cure."""


class Address(NamedTuple):
    """A listener's address. Port 0 is whichever is free."""

    host: str  # numeric
    port: int
    version: int  # of IP: 4 or 6

    @property
    def is_loopback(self) -> bool:
        """Whether only this host reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address | None:
    """`127.0.0.1:9811`, `[::1]:9811`, `localhost:9811`; None for `off`. Raises BadAddress."""
    if text == OFF:
        return None
    host, _, port = text.rpartition(":")
    shown = short(one_line(text))
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise BadAddress(f"{shown}: {short(one_line(host)) or 'nothing'} is no numeric address: {CURE}") from None
    if ip.version == IPV6 and not text.startswith("["):
        raise BadAddress(f"{shown}: an IPv6 address without brackets: {CURE}")
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        raise BadAddress(f"{shown}: {short(one_line(port)) or 'nothing'} is no port: {CURE}")
    return Address(str(ip), int(port), ip.version)


def is_loopback(host: str) -> bool:
    """Whether a Host header names this host as only it can name itself: localhost, 127.x.y.z, [::1]; any port."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
