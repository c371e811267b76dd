# SPDX-License-Identifier: Apache-2.0
"""Makes one thread of a real process misbehave, and puts it right again. For throw-away processes only.

held() leaves a tracer attached. frozen(), throttled() and starved() take the thread's CPU with what the kernel has for
that, as root. The others stop the thread for a moment, keep its registers, and send it into a few bytes of code of
their own, which lie in the zero padding behind the executable's code and stay there; no tracer is left and every other
thread runs on. Linux on x86_64, as root or owner of the process. What this machine cannot do is skipped, with the
reason.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from ovs_keepalive.ptrace import PTRACE_DETACH, Hold, HoldError, leash, ptrace, seize, seize_at_rest
from ovs_keepalive.sandbox import wait
from tests.conftest import cannot

PTRACE_GETREGS = 12
PTRACE_SETREGS = 13

SYS_PAUSE = 34
SYS_NANOSLEEP = 35
SYS_VFORK = 58
SYS_EXIT = 60

NOT_IN_SYSCALL = (1 << 64) - 1  # orig_rax of a thread that has no system call to restart
EINTR = 4
# rax of a thread stopped in a system call: EINTR, or one of the kernel's four ERESTART codes.
INTERRUPTED = {-4, -512, -513, -514, -516}

SPIN = b"\xeb\xfe"  # jmp .
CALL = b"\x0f\x05\xeb\xfe"  # syscall; jmp .
VFORK = (
    b"\x0f\x05"  # syscall            vfork: the thread waits, in state D, until the child is gone
    b"\x85\xc0"  # test eax, eax
    b"\x75\xfe"  # jnz .              the thread
    b"\xbf\x01\x00\x00\x00"  # mov edi, PR_SET_PDEATHSIG    the child: it does not outlive the thread
    b"\xbe\x09\x00\x00\x00"  # mov esi, SIGKILL
    b"\xb8\x9d\x00\x00\x00"  # mov eax, prctl
    b"\x0f\x05"
    b"\xb8\x22\x00\x00\x00"  # mov eax, pause
    b"\x0f\x05"
    b"\xeb\xf7"  # jmp back to mov eax, pause
)
STUB_SIZE = 64
SPIN_AT, CALL_AT, VFORK_AT = 0, 8, 16
STUB = (SPIN.ljust(CALL_AT, b"\0") + CALL.ljust(VFORK_AT - CALL_AT, b"\0") + VFORK).ljust(STUB_SIZE, b"\0")


HOG = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
print("runs", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:  # nothing else on this CPU could end it
    pass
"""


class Registers(ctypes.Structure):
    """struct user_regs_struct of x86_64, in the kernel's order."""

    _names = (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax"
        " rip cs eflags rsp ss fs_base gs_base ds es fs gs"
    )
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in _names.split())

    rax: int
    rdi: int
    rsi: int
    orig_rax: int
    rip: int
    rsp: int


@contextmanager
def held(tid: int) -> Iterator[None]:
    """State t: a tracer holds it."""
    try:
        hold = Hold(tid)
    except HoldError as error:
        _refused(error)
    with hold:
        yield


@contextmanager
def spinning(tid: int) -> Iterator[None]:
    """State R: it runs for ever and gets nowhere."""
    with _astray(tid, SPIN_AT):
        yield


@contextmanager
def paused(tid: int) -> Iterator[None]:
    """State S: in pause(2)."""
    with _astray(tid, CALL_AT, SYS_PAUSE):
        yield


@contextmanager
def asleep(tid: int, seconds: int = 3600) -> Iterator[None]:
    """State S: in one long nanosleep(2). (What OVS itself sleeps in is clock_nanosleep.)"""
    with _astray(tid, CALL_AT, SYS_NANOSLEEP, seconds):
        yield


@contextmanager
def uninterruptible(tid: int) -> Iterator[None]:
    """State D: in vfork(2), until its child is gone."""
    children = Path(f"/proc/{tid}/task/{tid}/children")
    before = set(children.read_text().split())  # those of earlier faults: their parent does not reap them
    with _astray(tid, VFORK_AT, SYS_VFORK):
        child = int(wait(lambda: set(children.read_text().split()) - before, f"child of thread {tid}").pop())
        call = Path(f"/proc/{child}/syscall")
        try:
            wait(lambda: call.read_text().startswith(f"{SYS_PAUSE} "), f"pause of child {child}")  # on its leash by now
            yield
        finally:
            with suppress(ProcessLookupError):  # the whole process has ended
                os.kill(child, signal.SIGKILL)  # no signal reaches the thread before that


def end_thread(tid: int) -> None:
    """The thread is gone, its process lives on and does not know. Nothing can put this right."""
    with _stopped(tid, seize_at_rest):
        _send(tid, _registers(tid), _stub(tid) + CALL_AT, SYS_EXIT)


@contextmanager
def frozen(tid: int) -> Iterator[None]:
    """State S: the freezer of cgroup v2 has it, and nothing else of its process."""
    with _alone_in_cgroup(tid, "") as group:
        _frozen_by(group / "cgroup.freeze", "1", group / "cgroup.events", "frozen 1")
        try:
            yield
        finally:
            _write(group / "cgroup.freeze", "0")


@contextmanager
def frozen_v1(tid: int) -> Iterator[None]:
    """State D: the freezer of cgroup v1 has it."""
    with _alone_in_cgroup(tid, "freezer") as group:
        _frozen_by(group / "freezer.state", "FROZEN", group / "freezer.state", "FROZEN")
        try:
            yield
        finally:
            _write(group / "freezer.state", "THAWED")


@contextmanager
def stopped_process(tid: int) -> Iterator[None]:
    """State T: SIGSTOP for all threads of its process."""
    os.kill(tid, signal.SIGSTOP)  # a thread's id will do: it goes to the process
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(tid, signal.SIGCONT)


@contextmanager
def throttled(tid: int) -> Iterator[None]:
    """State R, mostly: its cgroup may use 1 ms of CPU in each second."""
    if _cgroup(tid, "cpu") is not None:
        with _alone_in_cgroup(tid, "cpu") as group:
            _write(group / "cpu.cfs_period_us", "1000000")
            _write(group / "cpu.cfs_quota_us", "1000")
            yield
    else:
        with _alone_in_cgroup(tid, "") as group:
            _write(group.parent / "cgroup.subtree_control", "+cpu")
            _write(group / "cpu.max", "1000 1000000")
            yield


@contextmanager
def starved(tid: int, cpu: int) -> Iterator[None]:
    """State R: it is pinned to a CPU on which a SCHED_FIFO thread runs for ever. The kernel leaves it 5 %."""
    allowed = os.sched_getaffinity(tid)
    os.sched_setaffinity(tid, {cpu})
    argv = [*leash(), sys.executable, "-I", "-S", "-c", HOG, str(cpu)]
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as hog:
            try:
                if not (hog.stdout and hog.stdout.readline()):
                    cannot(f"no SCHED_FIFO: {hog.communicate()[1].strip().splitlines()[-1]}")
                yield
            finally:
                hog.kill()
    finally:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(tid, allowed)


@contextmanager
def _alone_in_cgroup(tid: int, controller: str) -> Iterator[Path]:
    """A cgroup below its own for one thread; controller: one of cgroup v1, or "" for cgroup v2."""
    home = _cgroup(tid, controller)
    if home is None:
        pytest.skip(f"this machine mounts no cgroup {f'v1 with {controller}' if controller else 'v2'}")
    group, members = home / f"ovs-keepalive-fault-{tid}", "tasks" if controller else "cgroup.threads"
    try:
        group.mkdir()
    except OSError as error:
        cannot(f"{group}: {error.strerror}")
    try:
        if not controller:
            _write(group / "cgroup.type", "threaded")
        _write(group / members, str(tid))
        yield group
    finally:
        with suppress(ProcessLookupError):  # the whole process has ended
            (home / members).write_text(str(tid))
        wait(lambda: not (group / members).read_text(), f"{group} empty")
        group.rmdir()


def _cgroup(tid: int, controller: str) -> Path | None:
    """Where a thread's own cgroup is; None if that hierarchy is not mounted."""
    kind, option = ("cgroup", controller) if controller else ("cgroup2", "rw")
    # cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    mount = next((words[1] for words in mounts if words[2] == kind and option in words[3].split(",")), "")
    # 6:freezer:/    0::/user.slice
    lines = (line.split(":", 2) for line in Path(f"/proc/{tid}/cgroup").read_text().splitlines())
    path = next((path for _, controllers, path in lines if controller in controllers.split(",")), "")
    return Path(mount, path.lstrip("/")) if mount and path else None


def _frozen_by(switch: Path, on: str, told_in: Path, told: str) -> None:
    _write(switch, on)
    wait(lambda: told in told_in.read_text(), f"{told_in} says {told}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except ProcessLookupError:
        raise
    except OSError as error:
        cannot(f"{file}: {error.strerror}")


@contextmanager
def _astray(tid: int, entry: int, number: int = 0, seconds: int = 0) -> Iterator[None]:
    with _stopped(tid, seize_at_rest):
        healthy = _registers(tid)
        _send(tid, healthy, _stub(tid) + entry, number, seconds)
    try:
        yield
    finally:
        if Path(f"/proc/{tid}").exists():  # else the whole process has ended, and all is well
            in_syscall = ctypes.c_longlong(healthy.orig_rax).value >= 0
            if in_syscall and ctypes.c_longlong(healthy.rax).value in INTERRUPTED:
                healthy.rax = ctypes.c_ulonglong(-EINTR).value
            healthy.orig_rax = NOT_IN_SYSCALL
            with _stopped(tid, seize):
                ptrace(PTRACE_SETREGS, tid, ctypes.byref(healthy))


@contextmanager
def _stopped(tid: int, stop: Callable[[int], None]) -> Iterator[None]:
    if platform.machine() != "x86_64":
        cannot(f"faults are machine code of x86_64, this is {platform.machine()}")
    try:
        stop(tid)
    except HoldError as error:
        _refused(error)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, tid)


def _refused(error: HoldError) -> NoReturn:
    if "not permitted" in str(error):
        cannot(str(error))
    raise error


def _registers(tid: int) -> Registers:
    registers = Registers()
    ptrace(PTRACE_GETREGS, tid, ctypes.byref(registers))
    return registers


def _send(tid: int, healthy: Registers, where: int, number: int, seconds: int = 0) -> None:
    """Let a stopped thread go on elsewhere, if need be with a system call in its registers."""
    registers = Registers.from_buffer_copy(healthy)
    registers.rip, registers.rax, registers.orig_rax = where, number, NOT_IN_SYSCALL
    registers.rdi = registers.rsi = 0
    registers.rsp = (healthy.rsp - 8192) & ~15  # far below the red zone: what is on its stack stays
    if number == SYS_NANOSLEEP:
        registers.rdi = registers.rsp
        with Path(f"/proc/{tid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(registers.rsp)
            memory.write(struct.pack("qq", seconds, 0))
    ptrace(PTRACE_SETREGS, tid, ctypes.byref(registers))


def _stub(tid: int) -> int:
    """Address of our code: the last bytes of the executable's code mapping, where a linker leaves zeros."""
    exe = str(Path(f"/proc/{tid}/exe").readlink())
    for line in Path(f"/proc/{tid}/maps").read_text().splitlines():
        # 55d0c8a00000-55d0c8c00000 r-xp 00042000 fe:00 1234      /usr/lib/openvswitch-switch/ovs-vswitchd
        if (match := re.match(r"[0-9a-f]+-([0-9a-f]+) r-xp .*? (/.*)$", line)) and match[2] == exe:
            address = int(match[1], 16) - STUB_SIZE
            with Path(f"/proc/{tid}/mem").open("r+b", buffering=0) as memory:
                memory.seek(address)
                if (found := memory.read(STUB_SIZE)) == bytes(STUB_SIZE):
                    memory.seek(address)
                    memory.write(STUB)
                elif found != STUB:
                    cannot(f"{exe}: no room for a fault behind its code: {found.hex()}")
            return address
    raise AssertionError(f"{exe}: not mapped in thread {tid}")
