# SPDX-License-Identifier: Apache-2.0
"""What only `ovs-keepalive doctor` asks of the kernel: whose connections a unix socket has, and what this user may read
of a thread.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.sensors.switches import (
    PERF_COUNT_SW_CONTEXT_SWITCHES,
    PERF_EVENT_OPEN,
    PERF_TYPE_SOFTWARE,
    perf_event,
)

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
SHOW_VFS_AND_PEER = 0x2 | 0x4
UNIX_DIAG_VFS, UNIX_DIAG_PEER = 1, 2
ANY = 0xFFFFFFFF
HEADER, ATTRIBUTE = 16, 4  # bytes, at least, of a message and of one of its attributes (netlink(7))
DEADLINE = 2.0  # seconds for the kernel's list of sockets

OURSELVES = ("ovs-keepalive", "ovs_keepalive")  # survives conversions (python-ovs 3.5 and later)


class Clients(NamedTuple):
    """Who is connected to a unix socket."""

    pythons: tuple[str, ...]  # programs that run in a Python interpreter: "neutron-openvswitch-agent (pid 12)"
    unseen: int  # connections whose owner this user may not see


def clients(path: Path, proc: Path = Path("/proc")) -> Clients:
    """The clients of the socket `path`. Raises OSError where the kernel does not list sockets."""
    ends = set(_peers(path))
    pythons: list[str] = []
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        try:
            owned = ends & set(_sockets(proc / str(pid)))
            ends -= owned
            if owned and _is_python(proc / str(pid)):
                name = _program(proc / str(pid))
                pythons += [f"{name} (pid {pid})"] if name not in OURSELVES else []
        except OSError:  # it ended, or this user may not look: its connections stay unseen
            continue
    return Clients(tuple(pythons), len(ends))


def rights(pid: int, tid: int, proc: Path = Path("/proc")) -> dict[str, bool]:
    """Whether this user may have the files and events by which a thread's silence is explained."""
    process = proc / str(pid)
    thread = process / "task" / str(tid)
    readable = {
        "syscall": _may((thread / "syscall").read_bytes),
        # The kernel prints wchan as 0 to whom it refuses it; it asks for the same right before it shows `exe`.
        "wchan": _may((thread / "wchan").read_bytes) and _may((process / "exe").readlink),
        "stack": _may((thread / "stack").read_bytes),
    }
    if platform.machine() not in PERF_EVENT_OPEN:
        return readable
    return {**readable, "perf events": _may(lambda: _count_switches(tid))}


def _count_switches(tid: int) -> None:
    os.close(perf_event(tid, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES))


def _may(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _peers(path: Path) -> Iterator[int]:
    """Inodes of the far ends of all connections to the socket `path` (sock_diag(7))."""
    there = path.stat()
    file = (there.st_ino & ANY, os.major(there.st_dev) << 20 | os.minor(there.st_dev))
    for attributes in _unix_sockets():
        peer = attributes.get(UNIX_DIAG_PEER)
        vfs = attributes.get(UNIX_DIAG_VFS)
        # A connection that was accepted bears the file of the socket that it came in by.
        if peer is not None and vfs is not None and struct.unpack("=II", vfs) == file:
            inode: int = struct.unpack("=I", peer)[0]
            if inode:  # else the client has just gone
                yield inode


def _unix_sockets() -> Iterator[dict[int, bytes]]:
    """The attributes of each unix socket of this network namespace."""
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, ANY, 0, SHOW_VFS_AND_PEER, ANY, ANY)
    head = struct.pack("=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as link:
        link.settimeout(DEADLINE)
        link.send(head + body)
        while True:
            data = link.recv(1 << 18)
            while len(data) >= HEADER:
                length, kind = struct.unpack_from("=IH", data)
                if length < HEADER:
                    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(number, os.strerror(number))
                yield _attributes(data[32:length])
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= ATTRIBUTE:
        length, kind = struct.unpack_from("=HH", data)
        if length < ATTRIBUTE:
            break
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _sockets(process: Path) -> Iterator[int]:
    for descriptor in (process / "fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:  # closed while we looked
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _is_python(process: Path) -> bool:
    name = (process / "exe").readlink().name
    if name.startswith(("ovs", "ovn")):
        return False  # in C; and not even this is asked of a vswitchd at work
    return name.startswith("python") or b"libpython" in (process / "maps").read_bytes()  # collectd


def _program(process: Path) -> str:
    """What a person calls it: the script or module that the interpreter runs."""
    # /usr/bin/python3 -u /usr/bin/neutron-openvswitch-agent --config-file … · neutron-openvswitch-agent: worker
    words = [word.decode(errors="replace") for word in (process / "cmdline").read_bytes().split(b"\0") if word]
    scripts = [word for word in words if not word.startswith("-") and not Path(word).name.startswith("python")]
    return Path(scripts[0]).name if scripts else (process / "comm").read_text(errors="replace").strip()
