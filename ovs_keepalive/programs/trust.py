# SPDX-License-Identifier: Apache-2.0
"""Which programs the daemon may be told to run: only what nobody could change but root and the daemon's own user.

Each answer names the cure; "" is nothing to object to.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

LINKS = 40  # as many as the kernel follows
NAME = re.compile(r"[A-Za-z0-9_-]+")  # 10-mail


def of_directory(directory: Path) -> tuple[list[Path], dict[Path, str]]:
    """What is to be run of a directory, in the order of the names; and what is not, with the reason."""
    try:
        for place in (directory, *directory.parents):
            if why := _whose(place.stat(), os.geteuid(), sticky=place != directory):
                return [], {place: why}
        entries = sorted(directory.iterdir())
    except OSError as error:
        return [], {directory: f"{error.strerror}: make it, or let hooks: name another directory"}
    refused = {path: why for path in entries if (why := _hook(path, named=True))}
    return [path for path in entries if path not in refused], refused


def of_hook(program: Path) -> str:
    """Why a program that was named by itself is not run."""
    try:
        for place in program.parents:
            if why := _whose(place.stat(), os.geteuid(), sticky=True):
                return f"{place}: {why}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}: name a program that is there"
    why = _hook(program, named=False)
    return f"{program}: {why}" if why else ""


def of_interpreter(program: str, uid: int, below: Path = Path("/")) -> str:
    """Why a Python interpreter is not run; other than a hook it may be a link, as those of every system are.

    uid: the daemon's user. below: a directory above which nothing is looked at (for tests: in /tmp nothing is trusted).
    """
    path = Path(program)
    if not path.is_absolute() or ".." in path.parts:
        return f"{program!r} is no absolute path: give the whole one, without .."
    try:
        return _walk(path, uid, below)
    except OSError as error:
        return f"{error.filename}: {error.strerror}: name an interpreter that is there"


def _hook(path: Path, *, named: bool) -> str:
    """named: by its directory, as run-parts(8) does: a package manager's leftovers have a dot in their names."""
    if named and not NAME.fullmatch(path.name):
        return "only letters, digits, - and _ may be in the name of a hook: rename it"
    try:
        found = path.lstat()
    except OSError as error:  # taken away this moment
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "no regular file: put the program itself there"
    if why := _whose(found, os.geteuid()):
        return why
    return "" if os.access(path, os.X_OK) else "not executable for this user: chmod +x"


def _walk(path: Path, uid: int, below: Path) -> str:
    """Every directory on the way and every link is looked at, then what it leads to. Raises OSError."""
    for _ in range(LINKS):
        for above in (each for each in reversed(path.parents) if each.is_relative_to(below)):
            found = above.lstat()
            if stat.S_ISLNK(found.st_mode):
                path = _target(above) / path.relative_to(above)
                break
            if why := _whose(found, uid):
                return f"{above}: {why}"
        else:
            last = path.lstat()
            if not stat.S_ISLNK(last.st_mode):
                if why := _whose(last, uid):
                    return f"{path}: {why}"
                runs = stat.S_ISREG(last.st_mode) and os.access(path, os.X_OK)
                return "" if runs else f"{path}: no program: name a Python interpreter"
            path = _target(path)
    return f"{path}: too many links: name the interpreter itself"


def _target(link: Path) -> Path:
    """Where it leads, one step; who owns a link does not matter, for its directory was looked at."""
    return Path(os.path.normpath(link.parent / link.readlink()))


def _whose(found: os.stat_result, uid: int, *, sticky: bool = False) -> str:
    """Whether somebody else could have put it there. sticky: others may write there, but not take away."""
    if found.st_uid not in (0, uid):
        return f"belongs to user {found.st_uid}, who is neither root nor the daemon's: chown root"
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not (sticky and found.st_mode & stat.S_ISVTX):
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o}): chmod go-w"
    return ""
