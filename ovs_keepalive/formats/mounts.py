# SPDX-License-Identifier: Apache-2.0
"""/proc/<pid>/mountinfo: where a process's paths lead (proc(5)). Whoever may see the process may read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
_LINE = re.compile(r"^\d+ \d+ (\d+:\d+) (\S+) (\S+) ", re.MULTILINE)
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount, of those that follow each other on one point the last counts."""

    point: str
    device: str
    root: str  # of what is mounted, within its file system


def parse(text: str) -> tuple[Mount, ...]:
    """All of them."""
    return tuple(
        Mount(_plain(point).rstrip("/"), device, _plain(root).rstrip("/"))
        for device, root, point in _LINE.findall(text)
    )


def place(path: str, mounts: Sequence[Mount]) -> tuple[str, str] | None:
    """The file system on which an absolute path lies, and its path there; None where no mount is known."""
    best: Mount | None = None
    for mount in mounts:
        under = path == mount.point or path.startswith(f"{mount.point}/")
        if under and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return None if best is None else (best.device, best.root + path[len(best.point) :])


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda code: chr(int(code[1], 8)), text)
