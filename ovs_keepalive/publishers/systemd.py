# SPDX-License-Identifier: Apache-2.0
"""Tells systemd what sd_notify(3) knows: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without systemd it tells nobody.

The watchdog is fed by a fresh snapshot and by nothing else: a main loop that turns while the beat stands still is a
daemon that has to be restarted.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

import ovs.vlog

from ovs_keepalive.core.model import Moment, Snapshot
from ovs_keepalive.formats import summary

log = ovs.vlog.Vlog("systemd")

PART = 4  # of the watchdog's time passes at most between two signs of life
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

    def stopping(self) -> None:
        """The daemon ends."""
        self._send(["STOPPING=1"])

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, words: list[str]) -> None:
        if self._socket is None or not words:
            return
        try:
            self._socket.sendto("\n".join(words).encode(errors="replace"), self._address)
        except OSError as error:  # a manager that does not listen is no reason to end
            if not self._failed:
                log.warn(f"NOTIFY_SOCKET: {error.strerror}: systemd is not told")
            self._failed = True
        else:
            self._failed = False
