# SPDX-License-Identifier: Apache-2.0
"""Whether a VM's user can reach, make and keep a socket at a path: judged by modes and owners, as the kernel does it.

Access control lists and security modules are not judged: a directory with such a list is passed over, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.access import CAP_DAC_OVERRIDE, Credentials, may

SEARCH, WRITE = 0o1, 0o2  # of one class of a mode
STICKY = 0o1000
USUAL = "/var/lib/vhost_sockets"  # where Red Hat's and OpenStack's tools have VMs' sockets


class Kind(StrEnum):
    """What lies at a path."""

    ABSENT = "absent"
    SOCKET = "a socket"
    DIRECTORY = "a directory"
    LINK = "a symbolic link"
    FILE = "a file"
    PIPE = "a pipe"
    DEVICE = "a device"


class Account(NamedTuple):
    """As whom a process runs."""

    name: str
    credentials: Credentials
    source: str  # where the name comes from: "--vm-user"


class Entry(NamedTuple):
    """A directory or socket, as stat(2) has it."""

    path: str
    uid: int
    gid: int
    mode: int  # the permission bits
    has_list: bool = False  # an access control list, of which the mode does not tell


class Place(NamedTuple):
    """A path, and all directories that lead to it."""

    path: str
    directories: tuple[Entry, ...]  # from / down to the one that it lies in
    kind: Kind
    itself: Entry | None = None  # none while it is absent
    read_only: bool = False  # the file system
    problem: str = ""  # why the way ends, or nothing can lie there: "/a/b: No such file or directory"


def objection_to_client(place: Place, vm: Account, vswitchd: Account) -> str:
    """Why the VM could not make its socket there, or vswitchd not reach it; "" when nothing speaks against it."""
    if line := _way(place, vm) or _way(place, vswitchd):
        return line
    if place.kind not in (Kind.ABSENT, Kind.SOCKET):
        return f"--path {place.path}: is {place.kind}: name a path that is free, or a socket of the VM's"
    if place.read_only:
        return f"--path {place.path}: is on a read-only file system: the VM could not make its socket: choose another"
    parent = place.directories[-1]
    if not allows(parent, vm.credentials, WRITE):
        return (
            f"--path {place.path}: {whose(parent)}: {vm.name} ({vm.source}) could not make a socket in it:"
            f" choose a directory of its own, such as by install -d -o {vm.name} {USUAL}"
        )
    return _foreign(place, parent, vm)


def objection_to_server(place: Place, vm: Account) -> str:
    """Why the VM could not reach the socket that vswitchd makes there."""
    if line := _way(place, vm):
        return line
    if place.kind is not Kind.ABSENT:
        return f"{place.path}: is there already, and vswitchd could not make its socket: rm {place.path}"
    return ""


def socket_directory(other_config: Mapping[str, str], rundir: str) -> str:
    """Where vswitchd makes its sockets: other_config:vhost-sock-dir, below its run directory, without `..`."""
    below = other_config.get("vhost-sock-dir", "")
    return f"{rundir}/{below.strip('/')}" if below.strip("/") and ".." not in below else rundir


def shut_to(socket: Entry, vm: Account) -> bool:
    """Whether the VM may not connect to a socket: that needs the right to write to it."""
    return not allows(socket, vm.credentials, WRITE)


def unjudged(place: Place) -> tuple[str, ...]:
    """The directories whose access control lists were not judged."""
    return tuple(directory.path for directory in place.directories if directory.has_list)


def _way(place: Place, account: Account) -> str:
    """The first directory on the way through which this user cannot pass."""
    if place.problem:
        return f"--path {place.path}: {place.problem}: make the directory first, or choose another path"
    for directory in place.directories:
        if not allows(directory, account.credentials, SEARCH):
            who = f"{account.name} ({account.source})"
            return f"--path {place.path}: {whose(directory)}: {who} cannot pass: chmod o+x {directory.path}"
    return ""


def _foreign(place: Place, parent: Entry, vm: Account) -> str:
    """A socket of somebody else's: the VM could not put its own in its place, or should not."""
    socket = place.itself
    who = vm.credentials
    if socket is None or who.capabilities & CAP_DAC_OVERRIDE or who.uid == socket.uid:
        return ""
    if parent.uid == who.uid and not parent.mode & STICKY:
        return ""
    return (
        f"--path {place.path}: {whose(socket)}, not {vm.name}'s ({vm.source}):"
        f" choose another one, or rm {place.path} if nobody listens there"
    )


def allows(entry: Entry, who: Credentials, right: int) -> bool:
    """Whether its mode does. Of an access control list it does not tell: then nothing is held against anybody."""
    return entry.has_list or may(who, entry.uid, entry.gid, entry.mode, right)


def whose(entry: Entry) -> str:
    """In words."""
    return f"{entry.path} has mode {entry.mode:04o} and belongs to uid {entry.uid}, gid {entry.gid}"
