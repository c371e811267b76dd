# SPDX-License-Identifier: Apache-2.0
"""Holds single threads of a process still by ptrace; its other threads run on. For the sandbox and the tests.

    python -m ovs_keepalive.ptrace TID...      prints "held TID" for each, holds until SIGTERM or SIGINT, lets them go

The kernel lets them go as well when this process dies in any other way. It ends by itself when the last thread ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WAIT_ALL = 0x40000000  # __WALL of waitpid(2): threads, too

TRIES = 100  # to meet a thread in a system call; one that makes none is held where it is
BETWEEN_TRIES = 0.002  # seconds for which it runs on

START_DEADLINE = 15.0  # seconds; a Python starts slowly beside PMD threads that spin
END_DEADLINE = 5.0

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class HoldError(Exception):
    """A thread cannot be held; one line says which, why, and what to do."""


class Hold:
    """One thread, held from here to release() by a process of its own, which does not outlive this one if leashed."""

    def __init__(self, tid: int, *, leashed: bool = True) -> None:
        # By path and isolated: it finds itself wherever the package lies, and nothing of the environment disturbs it.
        argv = [*(leash() if leashed else ()), sys.executable, "-I", "-S", __file__, str(tid)]
        self._holder = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        stdout = self._holder.stdout
        assert stdout is not None  # noqa: S101 -- asked for above
        with stdout:
            try:
                said = stdout.readline().decode().strip() if select.select([stdout], [], [], START_DEADLINE)[0] else ""
            except BaseException:
                self._end(signal.SIGKILL)
                raise
        if said != f"held {tid}":
            self._end(signal.SIGKILL)
            raise HoldError(said or f"thread {tid}: not held within {START_DEADLINE:g} s: is it in state D?")

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Let it go on. Nothing happens if it was let go before, or has ended."""
        self._end(signal.SIGTERM)

    def leave(self) -> None:
        """Hold on after this process has ended: whoever wants the thread back ends the thread's tracer."""
        self._holder.returncode = 0  # or the destructor warns of a child that nobody waited for

    def _end(self, number: signal.Signals) -> None:
        self._holder.send_signal(number)
        self._holder.wait(END_DEADLINE)


def leash() -> list[str]:
    """What to put before a command: it dies with us, however we end; to be exact, with the thread that starts it."""
    # The shell sees whether we died before the kernel was told.
    return ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]


def as_user(uid: int, group: int | None = None, capabilities: Sequence[str] = ()) -> list[str]:
    """What to put before a command that another user is to run; nothing for root. It dies with us too.

    group: its only one, of the user's own number if not said; capabilities: "dac_override" and the like, and no others.
    """
    if not uid:
        return []
    become = [f"--reuid={uid}", f"--regid={uid if group is None else group}", "--clear-groups"]
    if capabilities:
        some = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        become += [f"--inh-caps={some}", f"--ambient-caps={some}", f"--bounding-set={some}"]
    # The kernel forgets the leash when a process changes its user: this one is put on afterwards.
    return ["setpriv", *become, "--pdeathsig", "KILL", "--"]


def tracer(tid: int) -> int:
    """Pid of the process that traces a thread; 0 for none, or for a thread that is no more."""
    try:
        status = Path(f"/proc/{tid}/status").read_text(errors="replace")
    except OSError:
        return 0
    return int(status.partition("\nTracerPid:")[2].split()[0])


def is_holder(pid: int) -> bool:
    """Whether a process is a holder that this module started."""
    try:
        return os.fsencode(__file__) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def ptrace(request: int, tid: int, data: object = None) -> None:
    """Call ptrace(2) for one thread."""
    if libc.ptrace(request, tid, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def seize(tid: int) -> None:
    """Take hold of one thread and stop it."""
    try:
        ptrace(PTRACE_SEIZE, tid)
        ptrace(PTRACE_INTERRUPT, tid)
        stopped = os.WIFSTOPPED(os.waitpid(tid, WAIT_ALL)[1])
    except OSError as error:
        raise HoldError(f"thread {tid}: {_why(tid, error)}") from error
    if not stopped:
        raise HoldError(f"thread {tid}: it ended just now")


def seize_at_rest(tid: int) -> None:
    """As seize, but in a system call if it makes any: anywhere else it may hold a lock that all of vswitchd needs."""
    for _ in range(TRIES):
        seize(tid)
        if _in_system_call(tid):
            return
        ptrace(PTRACE_DETACH, tid)
        select.select([], [], [], BETWEEN_TRIES)
    seize(tid)


def _in_system_call(tid: int) -> bool:
    try:
        return not Path(f"/proc/{tid}/syscall").read_text().startswith("-1 ")
    except OSError:  # a kernel that does not tell
        return True


def _why(tid: int, error: OSError) -> str:
    if error.errno == errno.ESRCH:
        return "no such thread: /proc/<pid>/task lists those of a process"
    if holder := tracer(tid):
        return f"traced already by {_comm(holder)} (pid {holder}): end that first"
    if error.errno == errno.EPERM:
        return "not permitted: run as root, or as the owner of the process with kernel.yama.ptrace_scope=0"
    return f"cannot be traced: {error.strerror}"


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process that has ended"


def _ended(tid: int) -> bool:
    """Whether a held thread is no more. Only its tracer can reap it, and its process cannot end before that."""
    try:
        found, status = os.waitpid(tid, os.WNOHANG | WAIT_ALL)
    except ChildProcessError:
        return True
    return found == tid and not os.WIFSTOPPED(status)


def main(arguments: Sequence[str]) -> int:
    """Hold the threads until told to end."""
    bad = [word for word in arguments if not (word.isascii() and word.isdecimal())]
    if bad or not arguments:
        what = f"{bad[0]!r} is no thread id" if bad else "no thread id given"
        sys.stderr.write(f"ptrace: {what}: use python -m ovs_keepalive.ptrace TID...\n")
        return 2
    # Blocked and waited for, never handled: no signal can come at a bad moment. SIGCHLD tells that a thread ended.
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*ends, signal.SIGCHLD})
    held: list[int] = []
    try:
        for tid in map(int, arguments):
            seize_at_rest(tid)
            held.append(tid)
            sys.stdout.write(f"held {tid}\n")
            sys.stdout.flush()
        while held and signal.sigwait({*ends, signal.SIGCHLD}) == signal.SIGCHLD:
            held = [tid for tid in held if not _ended(tid)]
    except HoldError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        for tid in held:
            with contextlib.suppress(ProcessLookupError):  # it ended while it was held
                ptrace(PTRACE_DETACH, tid)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
