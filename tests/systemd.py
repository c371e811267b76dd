# SPDX-License-Identifier: Apache-2.0
"""A real systemd, as a user's service manager in namespaces of its own: what our unit does can be seen on any host."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ovs_keepalive.sandbox import wait

PROGRAM = Path("/lib/systemd/systemd")

# systemd asks for its own /run/systemd/system before it starts, and for a cgroup hierarchy that it may write to.
START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/ovs-keepalive-test.$$"
echo $$ > "/sys/fs/cgroup/ovs-keepalive-test.$$/cgroup.procs"
exec "$@"
"""

# What a user's manager cannot do, or what would hide a sandbox in a temporary directory from the daemon.
SYSTEM_ONLY = (
    "User", "Group", "Ambient", "Capability", "Protect", "Private", "ReadWrite", "Device", "StateDirectory",
    "ExecStartPre", "ExecStart", "Environment", "OOMScore", "Restrict", "RemoveIPC", "SystemCall", "Memory", "Lock",
    "NoNewPrivileges", "LimitNOFILE",
)  # fmt: skip


class UserManager:
    """Started with a unit's text; `ctl()` is systemctl."""

    def __init__(self, directory: Path) -> None:
        self._home, self._runtime = directory / "home", directory / "xdg"
        self._units = self._home / ".config/systemd/user"
        for made in (self._units, self._runtime):
            made.mkdir(parents=True)
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(self._runtime),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> UserManager:
        argv = ["unshare", "--mount", "--cgroup", "sh", "-c", START, "sh", str(PROGRAM), "--user"]
        with (self._home / "systemd.log").open("wb") as log:
            self._process = subprocess.Popen(argv, env=self._env, stdout=log, stderr=log)
        try:
            wait((self._runtime / "systemd/private").is_socket, "systemd --user answers", 15)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)  # it stops its units first
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def install(self, name: str, text: str) -> None:
        """Make a unit known."""
        (self._units / name).write_text(text)
        self.ctl("daemon-reload")

    def ctl(self, *arguments: str) -> str:
        """What systemctl says. Raises CalledProcessError."""
        argv = ["systemctl", "--user", *arguments]
        done = subprocess.run(argv, env=self._env, check=True, capture_output=True, text=True, timeout=30)
        return done.stdout

    def show(self, unit: str) -> Mapping[str, str]:
        """The properties of a unit."""
        lines = self.ctl("show", unit).splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}


def missing() -> str:
    """One line on what is not here; empty if all is there."""
    if os.geteuid():
        return "systemd in namespaces: needs root"
    absent = [program for program in (str(PROGRAM), "systemctl", "unshare") if shutil.which(program) is None]
    return f"{absent[0]}: not installed: apt-get install systemd" if absent else ""


def for_a_user(unit: str, command: str, environment: Mapping[str, str], **settings: str) -> str:
    """A system's unit less what a user's manager cannot do, with another command. settings: changed keys."""
    kept = []
    for line in unit.splitlines():
        key = line.partition("=")[0]
        if not line.startswith("#") and not key.startswith(SYSTEM_ONLY) and key not in settings:
            kept.append(line)
        if line == "[Service]":
            kept.append(f"ExecStart={command}")
            kept += [f'Environment="{name}={value}"' for name, value in environment.items()]
            kept += [f"{name}={value}" for name, value in settings.items()]
    return "\n".join(kept) + "\n"
