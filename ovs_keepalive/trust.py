# SPDX-License-Identifier: Apache-2.0
"""Which programs the daemon may be told to run: only what nobody could change but root and the daemon's own user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LINKS = 40  # as many as the kernel follows


def objection(program: str, uid: int, below: Path = Path("/")) -> str:
    """Why it is not run, naming the thing and the cure; "" if it may be.

    uid: the daemon's user. below: a directory above which nothing is looked at (for tests: in /tmp nothing is trusted).
    """
    path = Path(program)
    if not path.is_absolute() or ".." in path.parts:
        return f"{program!r} is no absolute path: give the whole one, without .."
    try:
        return _walk(path, uid, below)
    except OSError as error:
        return f"{error.filename}: {error.strerror}: name an interpreter that is there"


def _walk(path: Path, uid: int, below: Path) -> str:
    """Every directory on the way and every link is looked at, then what it leads to. Raises OSError."""
    for _ in range(LINKS):
        for above in (each for each in reversed(path.parents) if each.is_relative_to(below)):
            found = above.lstat()
            if stat.S_ISLNK(found.st_mode):
                path = _target(above) / path.relative_to(above)
                break
            if why := _owned(above, found, uid):
                return why
        else:
            last = path.lstat()
            if not stat.S_ISLNK(last.st_mode):
                if why := _owned(path, last, uid):
                    return why
                runs = stat.S_ISREG(last.st_mode) and os.access(path, os.X_OK)
                return "" if runs else f"{path}: no program: name a Python interpreter"
            path = _target(path)
    return f"{path}: too many links: name the interpreter itself"


def _target(link: Path) -> Path:
    """Where it leads, one step; who owns a link does not matter, for its directory was looked at."""
    return Path(os.path.normpath(link.parent / link.readlink()))


def _owned(path: Path, found: os.stat_result, uid: int) -> str:
    if found.st_uid not in (0, uid):
        return f"{path}: owned by uid {found.st_uid}, which is neither root nor the daemon's user: chown it"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path}: others may write to it: chmod go-w it, or name another interpreter"
    return ""
