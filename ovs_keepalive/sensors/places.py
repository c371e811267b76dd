# SPDX-License-Identifier: Apache-2.0
"""What lies at a path and on the way to it, and as whom VMs run: asked of the file system and of libvirt's settings."""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from pathlib import Path, PurePosixPath

from ovs_keepalive.core.access import CAP_DAC_OVERRIDE, ROOT, Credentials
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.places import Account, Entry, Kind, Place
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.procfs import parse_credentials

QEMU_CONF = Path("/etc/libvirt/qemu.conf")
USUAL = ("libvirt-qemu", "qemu")  # as whom Debian's and Red Hat's libvirt run VMs if nothing is set
ACCESS_LIST = "system.posix_acl_access"
KINDS = {
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.LINK,
    stat.S_IFIFO: Kind.PIPE,
    stat.S_IFCHR: Kind.DEVICE,
    stat.S_IFBLK: Kind.DEVICE,
}

# user = "libvirt-qemu"    (a number, or +number, is a uid)
_SETTING = re.compile(r'^\s*(user|group)\s*=\s*"([^"]+)"', re.MULTILINE)


class NoUser(Exception):
    """There is no such user: one line."""


class Places:
    """Looks at paths as a process sees them; at directories that several have in common once."""

    def __init__(self, root: str = "") -> None:
        """root: before each path; where the root directory of that process is, if not where ours is."""
        self._root = root
        self._known: dict[str, Entry | OSError] = {}

    def look(self, path: str, *, follow: bool = True) -> Place:
        """What lies at an absolute path, and the directories that lead there.

        follow: what a symbolic link leads to, else the link. Raises PermissionError where we may not look.
        """
        directories: list[Entry] = []
        for parent in reversed(PurePosixPath(path).parents):
            directory = self._directory(str(parent))
            if isinstance(directory, PermissionError):
                raise directory
            if isinstance(directory, OSError):
                return Place(path, tuple(directories), Kind.ABSENT, problem=f"{parent}: {directory.strerror}")
            directories.append(directory)
        way, inside, read_only = tuple(directories), self._root + path, False
        try:
            read_only = bool(os.statvfs(self._root + way[-1].path).f_flag & os.ST_RDONLY)
            found = os.stat(inside, follow_symlinks=follow)
        except FileNotFoundError:
            return Place(path, way, Kind.ABSENT, read_only=read_only)
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, path) from None
        except (OSError, ValueError) as error:  # a loop of links; a NUL in it
            why = getattr(error, "strerror", None) or str(error)
            return Place(path, way, Kind.ABSENT, read_only=read_only, problem=why)
        return Place(
            path, way, KINDS.get(stat.S_IFMT(found.st_mode), Kind.FILE), _entry(path, inside, found), read_only
        )

    def _directory(self, path: str) -> Entry | OSError:
        if path not in self._known:
            try:
                found = os.stat(self._root + path)
                if not stat.S_ISDIR(found.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
                self._known[path] = _entry(path, self._root + path, found)
            except OSError as error:
                self._known[path] = OSError(error.errno, error.strerror, path)  # of that errno's class
            except ValueError as error:  # a NUL in it
                self._known[path] = OSError(errno.EINVAL, str(error), path)
        return self._known[path]


def look(path: str) -> Place:
    """What lies at an absolute path itself, and the directories that lead there. Never raises."""
    try:
        return Places().look(path, follow=False)
    except PermissionError as error:
        return Place(path, (), Kind.ABSENT, problem=f"{error.filename}: {error.strerror}")


def vm_user(name: str | None, conf: Path = QEMU_CONF) -> Account:
    """As whom VMs run: the user of that name, else libvirt's, else root. Raises NoUser."""
    found = _account(name, "--vm-user") if name else libvirt_user(conf)
    return found or Account("root", ROOT, "nobody else was found: name one with --vm-user")


def libvirt_user(conf: Path = QEMU_CONF) -> Account | None:
    """As whom libvirt runs VMs: what it was told, else its usual user; None: neither is known. Raises NoUser."""
    try:
        told = dict(_SETTING.findall(conf.read_text(errors="replace")))
    except OSError:  # no libvirt, or not ours to read
        told = {}
    if "user" in told:
        return _account(told["user"], str(conf))
    for usual in USUAL:
        try:
            return _account(usual, "libvirt's user")
        except NoUser:
            continue
    return None


def process_user(pid: int, proc: Path = Path("/proc")) -> Account:
    """As whom a process runs. Raises OSError, ValueError."""
    found = credentials(pid, proc)
    return Account(_name(found.uid), found, f"pid {pid}")


def credentials(pid: int, proc: Path = Path("/proc")) -> Credentials:
    """The same as numbers. Raises OSError, ValueError."""
    return parse_credentials((proc / str(pid) / "status").read_text(errors="replace"))


def is_directory(path: str) -> bool:
    """Whether it is one, and there."""
    return Path(path).is_dir()


def socket_file(path: str) -> Entry | None:
    """The socket there, or None."""
    place = look(path)
    return place.itself if place.kind is Kind.SOCKET else None


def _account(name: str, source: str) -> Account:
    try:
        number = name.removeprefix("+")
        found = pwd.getpwuid(int(number)) if number.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise NoUser(
            f"{source} {short(one_line(name), 60)}: no such user on this host: name the one that VMs run as"
        ) from None
    groups = frozenset({found.pw_gid, *os.getgrouplist(found.pw_name, found.pw_gid)})
    passes = CAP_DAC_OVERRIDE if found.pw_uid == ROOT.uid else 0
    return Account(found.pw_name, Credentials(found.pw_uid, groups, passes), source)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _entry(path: str, inside: str, found: os.stat_result) -> Entry:
    return Entry(path, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), _has_list(inside))


def _has_list(path: str) -> bool:
    try:
        return bool(os.getxattr(path, ACCESS_LIST))
    except OSError:  # has none, or its file system knows none
        return False
