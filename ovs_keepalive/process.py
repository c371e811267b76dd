# SPDX-License-Identifier: Apache-2.0
"""What the daemon asks of the kernel for itself and its children: descriptors, signals as wake-ups, CPU."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable

ENDING = (signal.SIGTERM, signal.SIGINT)
MEANINGLESS = (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)  # by default they kill
NICE = 19  # of a child that nothing waits for


def raise_descriptor_limit() -> None:
    """Two files of each PMD thread stay open: 512 PMDs need more than the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def catch_signals(stop: Callable[[], None], reload: Callable[[], None]) -> tuple[socket.socket, socket.socket]:
    """SIGTERM and SIGINT stop, SIGHUP reloads; returns the socket that they make readable, and its other end.

    Before python-ovs installs its own: those would unlink files and kill the process with the columns still full.
    """
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    for number in ENDING:
        signal.signal(number, lambda _number, _frame: stop())
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload())
    for number in MEANINGLESS:
        signal.signal(number, lambda _number, _frame: None)
    return read, write


def ignore_signals() -> None:
    """On its way out Python would let one more of them kill it."""
    for number in (*ENDING, *MEANINGLESS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def stand_back(child: int) -> None:
    """Let a child have the CPU that nobody else wants: SCHED_RR of the unit is for the beat alone. Raises OSError."""
    if os.sched_getscheduler(child) in (os.SCHED_RR, os.SCHED_FIFO):
        os.sched_setscheduler(child, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, child, NICE)
