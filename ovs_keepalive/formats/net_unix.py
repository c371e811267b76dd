# SPDX-License-Identifier: Apache-2.0
"""/proc/<pid>/net/unix: the Unix sockets of a network namespace (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

# 0000000000000000: 00000002 00000000 00010000 0001 01 22083 /run/openvswitch/vhu0
_LINE = re.compile(r"^[0-9A-Fa-f]+: [0-9A-Fa-f]+ \d+ ([0-9A-Fa-f]{8}) 0001 ([0-9A-Fa-f]{2}) +\d+ (.+)$", re.MULTILINE)
ACCEPTS = 0x10000  # __SO_ACCEPTCON
LINKED = ("02", "03")  # SS_CONNECTING: nobody has accepted it yet; SS_CONNECTED


class Use(NamedTuple):
    """Stream sockets that bear one path. Of a connection that is the server's end: the client's has none."""

    listening: int = 0
    connected: int = 0


def parse(text: str, names: Collection[str]) -> dict[str, Use]:
    """By the path as it was bound, which may be relative. names: the last parts of the paths that are asked for."""
    found: dict[str, Use] = {}
    for flags, state, path in _LINE.findall(text):
        if path.rpartition("/")[2] not in names:
            continue
        use = found.get(path, Use())
        if int(flags, 16) & ACCEPTS:
            found[path] = use._replace(listening=use.listening + 1)
        elif state in LINKED:
            found[path] = use._replace(connected=use.connected + 1)
    return found
