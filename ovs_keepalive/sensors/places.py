# SPDX-License-Identifier: Apache-2.0
"""What lies at a path and on the way to it, and as whom VMs run: asked of the file system and of libvirt's settings."""

from __future__ import annotations

import os
import pwd
import re
import stat
from pathlib import Path

from ovs_keepalive.core.access import CAP_DAC_OVERRIDE, ROOT, Credentials
from ovs_keepalive.core.places import Account, Entry, Kind, Place
from ovs_keepalive.formats.plain import one_line, short
from ovs_keepalive.formats.procfs import parse_credentials

QEMU_CONF = Path("/etc/libvirt/qemu.conf")
USUAL = ("libvirt-qemu", "qemu")  # as whom Debian's and Red Hat's libvirt run VMs if nothing is set
ACCESS_LIST = "system.posix_acl_access"

# user = "libvirt-qemu"    (a number, or +number, is a uid)
_SETTING = re.compile(r'^\s*(user|group)\s*=\s*"([^"]+)"', re.MULTILINE)


class NoUser(Exception):
    """There is no such user: one line."""


def look(path: str) -> Place:
    """What lies at an absolute path, and the directories that lead there. Never raises."""
    directories: list[Entry] = []
    for directory in reversed(Path(path).parents):
        try:
            found = directory.stat()
        except OSError as error:
            return Place(path, tuple(directories), Kind.ABSENT, problem=f"{directory}: {error.strerror}")
        if not stat.S_ISDIR(found.st_mode):
            return Place(path, tuple(directories), Kind.ABSENT, problem=f"{directory}: is no directory")
        directories.append(_entry(directory, found))
    read_only = False
    try:
        read_only = bool(os.statvfs(directories[-1].path).f_flag & os.ST_RDONLY)
        itself = Path(path).lstat()
    except FileNotFoundError:
        return Place(path, tuple(directories), Kind.ABSENT, read_only=read_only)
    except OSError as error:
        return Place(path, tuple(directories), Kind.ABSENT, problem=f"{path}: {error.strerror}")
    return Place(path, tuple(directories), _kind(itself.st_mode), _entry(Path(path), itself), read_only)


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
    credentials = parse_credentials((proc / str(pid) / "status").read_text(errors="replace"))
    return Account(_name(credentials.uid), credentials, f"pid {pid}")


def is_directory(path: str) -> bool:
    """Whether it is one, and there."""
    return Path(path).is_dir()


def socket_file(path: str) -> Entry | None:
    """The socket there, or None."""
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return _entry(Path(path), found) if stat.S_ISSOCK(found.st_mode) else None


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


def _entry(path: Path, found: os.stat_result) -> Entry:
    return Entry(str(path), found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), _has_list(path))


def _has_list(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, ACCESS_LIST, follow_symlinks=True))
    except OSError:  # has none, or its file system knows none
        return False


def _kind(mode: int) -> Kind:
    kinds = {stat.S_IFSOCK: Kind.SOCKET, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.LINK}
    return kinds.get(stat.S_IFMT(mode), Kind.OTHER)
