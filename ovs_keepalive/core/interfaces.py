# SPDX-License-Identifier: Apache-2.0
"""A row of OVSDB's Interface as the fleet's agent sees it: what tunnels, mesh and services judge by.

What came from others, as every text here, is shown by nobody without `formats.plain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# The types of which a packet leaves the host inside another one (lib/netdev-vport.c).
TUNNELS = frozenset(
    {"bareudp", "erspan", "geneve", "gre", "gtpu", "ip6erspan", "ip6gre", "lisp", "srv6", "stt", "vxlan"}
)


class Interface(NamedTuple):
    """One Interface, and the Port and Bridge it is on."""

    name: str
    type: str
    bridge: str = ""  # "": on none
    port: str = ""  # UUID of its Port's row; "": on none
    id: str = ""  # UUID of its row
    options: Mapping[str, str] = {}
    external_ids: Mapping[str, str] = {}
    port_ids: Mapping[str, str] = {}  # external_ids of its Port
    ofport: int | None = None  # -1: none was to be had; None: vswitchd has not said
    link: str = ""  # "up", "down"; "": vswitchd has not said
    error: str = ""
    bfd: Mapping[str, str] = {}  # what is asked for
    bfd_status: Mapping[str, str] = {}  # what vswitchd says of it; empty where no BFD is asked for
    cfm_fault: bool | None = None  # None: no CFM is asked for

    def marked(self, key: str) -> str:
        """What an operator, or we, wrote under this key; people write to either of the two rows."""
        return self.external_ids.get(key) or self.port_ids.get(key, "")

    @property
    def works(self) -> bool:
        """Whether a packet may be sent to it: vswitchd made it, and its link is not told to be down."""
        return self.ofport is not None and self.ofport > 0 and not self.error and self.link != "down"


class BridgeRow(NamedTuple):
    """One Bridge."""

    name: str
    datapath: str  # datapath_type: "netdev", "system", "" which is system
    external_ids: Mapping[str, str] = {}


class Rows(NamedTuple):
    """All that OVSDB says of them at one moment."""

    bridges: tuple[BridgeRow, ...] = ()
    interfaces: tuple[Interface, ...] = ()
