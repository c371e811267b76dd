# SPDX-License-Identifier: Apache-2.0
"""Tells systemd what sd_notify(3) knows: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without systemd it tells nobody.

The watchdog is fed by a fresh snapshot and by nothing else: a main loop that turns while the beat stands still is a
daemon that has to be restarted.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping

import ovs.vlog

from ovs_keepalive.core.model import Moment, Snapshot
from ovs_keepalive.formats import summary

log = ovs.vlog.Vlog("systemd")

PART = 4  # of the watchdog's time passes at most between two signs of life
FIRST_FD = 3  # where descriptors begin that systemd hands over (sd_listen_fds(3))
STORED = "memory"  # what the names of descriptors in its store begin with
PAUSE = 0.1  # seconds between two lines of STATUS, whatever flaps


class Notifier:
    """The messages to systemd, or to nobody. publish() belongs to the main loop and never waits."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """environment: as the service manager made it; pid: of this process."""
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # "@" stands for the abstract namespace
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)
        usec = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._feed = int(usec) / 1e6 / PART if usec.isdecimal() and meant else None  # seconds; None: no watchdog
        self._fed = self._told_at = float("-inf")
        self._told = ""
        self._ready = self._failed = False
        self._stored, self.handed = _handed_over(environment, pid)  # names in the store; those descriptors, once

    def publish(self, snapshot: Snapshot) -> None:
        """Tell of a snapshot that has just been taken from the beat."""
        if self._socket is None:
            return
        now, words = snapshot.at.mono, []
        if not self._ready:
            self._ready = True
            words.append("READY=1")
        if self._feed is not None and now - self._fed >= self._feed:
            self._fed = now
            words.append("WATCHDOG=1")
        if now - self._told_at >= PAUSE and (said := summary.line(snapshot)) != self._told:
            self._told, self._told_at = said, now
            words.append(f"STATUS={said}")
        self._send(words)

    def reloading(self, now: Moment) -> None:
        """The configuration is being read anew."""
        self._send(["RELOADING=1", f"MONOTONIC_USEC={now.mono * 1e6:.0f}"])

    def reloaded(self) -> None:
        """It has been."""
        self._send(["READY=1"])

    def main_is(self, pid: int) -> None:
        """The service's main process is another one from now on."""
        self._send([f"MAINPID={pid}"])

    def stopping(self) -> None:
        """The daemon ends."""
        self._send(["STOPPING=1"])

    def keep(self, descriptor: int) -> None:
        """Have a descriptor kept over a crash (FileDescriptorStoreMax=), and no other. May be called in any thread."""
        if self._socket is None:
            return
        before = self._stored
        name = next(name for number in range(len(before) + 1) if (name := f"{STORED}{number}") not in before)
        if self._send(["FDSTORE=1", f"FDNAME={name}"], descriptor):
            self._stored = [name]
            self._remove(before)

    def drop(self) -> None:
        """Have none kept."""
        before, self._stored = self._stored, []
        self._remove(before)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._send(["FDSTOREREMOVE=1", f"FDNAME={name}"])

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, words: list[str], descriptor: int | None = None) -> bool:
        if self._socket is None or not words:
            return False
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
        try:
            self._socket.sendmsg(["\n".join(words).encode(errors="replace")], rights, 0, self._address)
        except OSError as error:  # a manager that does not listen is no reason to end
            if not self._failed:
                log.warn(f"NOTIFY_SOCKET: {error.strerror}: systemd is not told")
            self._failed = True
            return False
        self._failed = False
        return True


def _handed_over(environment: Mapping[str, str], pid: int) -> tuple[list[str], list[int]]:
    """What of our own systemd has kept, names and descriptors; anything else is closed."""
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal() or environment.get("LISTEN_PID") != str(pid):
        return [], []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    ours: dict[int, str] = {}
    for descriptor in range(FIRST_FD, FIRST_FD + int(count)):
        name = names[descriptor - FIRST_FD] if descriptor - FIRST_FD < len(names) else ""
        if name.startswith(STORED):
            fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            ours[descriptor] = name
        else:
            os.close(descriptor)
    return list(ours.values()), list(ours)
