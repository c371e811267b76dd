# SPDX-License-Identifier: Apache-2.0
"""By which right a process may write to Open vSwitch's sockets: one of two ways that docs/deployment.md describes."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ovs_keepalive.core.doctor import Finding, Level

CAP_DAC_OVERRIDE = 1 << 1  # linux/capability.h: passes the modes of files
OWNER, GROUP, OTHERS = 0o200, 0o020, 0o002


class Credentials(NamedTuple):
    """As whom a process runs."""

    uid: int  # the effective one
    groups: frozenset[int]  # with the effective one
    capabilities: int  # the effective ones, a bit each


ROOT = Credentials(0, frozenset({0}), CAP_DAC_OVERRIDE)


def may(who: Credentials, uid: int, gid: int, mode: int, wanted: int) -> bool:
    """Whether the modes let it, as the kernel decides: the first class that fits counts. wanted: bits of 0 to 7."""
    if who.capabilities & CAP_DAC_OVERRIDE:
        return True
    shift = 6 if who.uid == uid else 3 if gid in who.groups else 0
    return (mode >> shift) & wanted == wanted


class SocketFile(NamedTuple):
    """A socket in the file system."""

    name: str
    uid: int
    gid: int
    mode: int


def access(who: str, credentials: Credentials, sockets: Collection[SocketFile]) -> Finding:
    """Which way is in force. who: the process, in words."""
    if credentials.capabilities & CAP_DAC_OVERRIDE:
        way = "as root" if credentials.uid == 0 else "by CAP_DAC_OVERRIDE, way (a)"
        return Finding(Level.OK, "access", f"{who} may use Open vSwitch's sockets {way}")
    ways = {socket.name: _way(credentials, socket) for socket in sockets}
    shut = [name for name, way in ways.items() if not way]
    if shut:
        cure = "run as root, or as the user that `ovs-keepalive install --systemd` makes"
        return Finding(Level.FAIL, "access", f"{who} may not write to {', '.join(shut)}", cure)
    if any(socket.mode & OTHERS for socket in sockets):
        found = f"everybody may write to {', '.join(socket.name for socket in sockets if socket.mode & OTHERS)}"
        return Finding(Level.WARN, "access", f"{found}, which is to control the switch", "chmod o-w them")
    words = " and ".join(sorted(set(ways.values()))) or "of which none is there"
    return Finding(Level.OK, "access", f"{who} may use Open vSwitch's sockets {words}")


def _way(credentials: Credentials, socket: SocketFile) -> str:
    """As the kernel decides: the first class that fits counts, and no other."""
    if credentials.uid == socket.uid:
        return "as their owner" if socket.mode & OWNER else ""
    if socket.gid in credentials.groups:
        return "by their group, way (b)" if socket.mode & GROUP else ""
    return "as everybody" if socket.mode & OTHERS else ""
