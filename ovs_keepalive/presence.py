# SPDX-License-Identifier: Apache-2.0
"""By what others find the daemon: its pidfile and its control socket, in Open vSwitch's runtime directory.

systemd may take that directory away with all that is in it when Open vSwitch stops: RuntimeDirectory= of its units
without RuntimeDirectoryPreserve= (RHEL). So it is looked at once in a while, and both are put there again.
"""

from __future__ import annotations

import errno
from pathlib import Path

import ovs.vlog

from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.pidfile import Pidfile, Taken
from ovs_keepalive.publishers.appctl_server import AppctlServer

log = ovs.vlog.Vlog("presence")

LOOK = 1.0  # seconds between two looks
UNNAMED = "this daemon beats on, and is not found by ovs-appctl -t ovs-keepalive"


class Presence:
    """Belongs to the main loop."""

    def __init__(self, path: Path) -> None:
        """path: of the pidfile."""
        self._path = path
        self._pidfile: Pidfile | None = None
        self._looked = float("-inf")  # monotonic
        self._repeats = Repeats()

    def claim(self, *, inherits: bool = False) -> None:
        """Write the pidfile. inherits: whoever holds it gives it away. Raises Taken, OSError."""
        before, self._pidfile = self._pidfile, Pidfile(self._path, inherits=inherits)
        if before is not None:
            before.close()

    def look(self, appctl: AppctlServer, now: float) -> bool:
        """Put back what was taken away; False when only a new start can. now: monotonic seconds."""
        if self._pidfile is None or now - self._looked < LOOK:
            return True
        self._looked = now
        try:
            if not self._pidfile.is_there:
                self.claim()
                self._say(f"{self._path}: was taken away: written anew", now)
            if not appctl.is_there:
                appctl.listen_anew()
        except FileNotFoundError:  # the directory is not there, until Open vSwitch starts
            self._say(f"{self._path}: was taken away with its directory: waiting for one", now)
        except (Taken, OSError) as error:
            # Under systemd: what is there now was made outside of what the unit may write to.
            if isinstance(error, OSError) and error.errno == errno.EROFS:
                log.err(f"{self._path}: was taken away, and what is there now is read-only: the daemon starts anew")
                return False
            self._say(f"{error}: {UNNAMED}", now)
        return True

    def reclaim(self) -> None:
        """Put the pidfile in its place again, from which a successor that came to nothing has taken it."""
        try:
            if self._pidfile is None or not self._pidfile.is_there:
                self.claim()
        except (Taken, OSError) as error:
            log.warn(f"{error}: {UNNAMED}")

    def close(self) -> None:
        """Take the pidfile away, if it is still this process's."""
        try:
            if self._pidfile is not None:
                self._pidfile.remove()
        except OSError as error:  # the runtime directory is no longer this user's to write
            log.warn(f"{error.filename}: {error.strerror}: it stays behind")

    def _say(self, text: str, now: float) -> None:
        if line := self._repeats.line(text, text, now):
            log.warn(line)
