# SPDX-License-Identifier: Apache-2.0
"""What is read of vswitchd when something has happened to it. Slow, and for a process of its own: never for a beat.

It attaches to nothing. What cannot be read is told with its reason.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ovs_keepalive.formats.incident import Section, clipped
from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask

FILES = ("stat", "status", "schedstat", "wchan", "syscall", "stack")
THREADS = 1024  # looked at, at most
LOG_LINES = 500
LOG_BYTES = 256 << 10  # from the end of the log
ANSWER = 2.0  # seconds for each answer
QUESTIONS = ("dpif-netdev/pmd-perf-show", "coverage/show", "memory/show")


def threads(pid: int, proc: Path = Path("/proc")) -> Section:
    """Every thread's files, PMDs first."""
    root = proc / str(pid) / "task"
    try:
        tids = sorted(map(int, os.listdir(root)))
    except OSError as error:
        return Section("threads", note=f"{root}: {error.strerror}")
    found = {tid: {name: _read(root / str(tid) / name) for name in ("comm", *FILES)} for tid in tids[:THREADS]}
    ordered = sorted(found.items(), key=lambda item: not item[1]["comm"].startswith("pmd-"))
    note = f"{THREADS} of {len(tids)}" if len(tids) > THREADS else ""
    return Section("threads", {f"{files.pop('comm').strip()} ({tid})": files for tid, files in ordered}, note)


def _read(path: Path) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(16384).rstrip("\n")
    except OSError as error:
        return f"not readable: {error.strerror}"


def log_tail(path: Path | None) -> Section:
    """The last lines of vswitchd's log."""
    if path is None:
        return Section("log", note="vswitchd logs to no file that is known (--log-file)")
    try:
        # Not waited for: it may be a FIFO.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Section("log", note=f"{path}: not a regular file")
            file.seek(max(0, status.st_size - LOG_BYTES))
            lines = file.read(LOG_BYTES).decode(errors="replace").splitlines()
    except OSError as error:
        return Section("log", note=f"{path}: {error.strerror}")
    return Section("log", "\n".join(lines[-LOG_LINES:]), str(path))


def answers(control_socket: Path) -> list[Section]:
    """What vswitchd's main thread says of itself; nothing more is asked as soon as it owes an answer."""
    sections, silent = [], ""
    for method in ("version", *QUESTIONS):
        if silent:
            sections.append(Section(method, note=f"not asked: {silent}"))
            continue
        try:
            said, note = clipped(ask(control_socket, ANSWER, method))
            sections.append(Section(method, said, note))
        except NoAnswer as error:
            silent = str(error)
            sections.append(Section(method, note=silent))
        except Refused as error:
            sections.append(Section(method, note=str(error)))
    return sections
