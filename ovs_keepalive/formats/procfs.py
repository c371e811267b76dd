# SPDX-License-Identifier: Apache-2.0
"""Files of /proc/<pid> and /proc/<pid>/task/<tid>, as proc(5) describes them.

Each parser raises ValueError, one line, for text that is not such a file.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ovs_keepalive.core.access import Credentials

MAX_CPU = 65535  # more than any kernel is built for; a range beyond it is no CPU list

# pmd-c127/id:139, cut at 15 characters: pmd-c511/id:123
_PMD = re.compile(r"pmd-c([0-9]{1,9})/id:")


class Stat(NamedTuple):
    """What is used of `stat`."""

    name: str  # comm, at most 15 characters
    state: str  # one letter: R S D T t Z X
    start: int  # clock ticks since boot
    flags: int  # the kernel's PF_ bits


class Status(NamedTuple):
    """What is used of `status`; None where the kernel does not print it."""

    tracer_pid: int  # 0: nobody traces it
    voluntary: int | None  # context switches
    involuntary: int | None
    cpus_allowed: frozenset[int] | None
    core_dumping: bool | None  # its process is being dumped; not printed for a zombie


def parse_stat(text: str) -> Stat:
    """Fields 2, 3, 22 and 9 of `stat`. The name is unescaped and may hold spaces and parentheses."""
    # 16759 (pmd-c00/id:9) R 16744 16636 3298 0 -1 4194624 2237 0 0 0 11 38 0 0 20 0 10 0 363060 …
    head, closing, tail = text.rpartition(")")
    fields = tail.split(maxsplit=20)
    try:
        name = head[head.index("(") + 1 :]
        start, flags = int(fields[19]), int(fields[6])
    except (ValueError, IndexError):
        raise _unreadable("stat", text) from None
    if not closing or len(fields[0]) != 1:
        raise _unreadable("stat", text)
    return Stat(name, fields[0], start, flags)


def last_cpu(text: str) -> int:
    """Field 39 of `stat`: the CPU on which the thread runs, or ran last."""
    try:
        return int(text.rpartition(")")[2].split()[36])
    except (ValueError, IndexError):
        raise _unreadable("stat", text) from None


def parse_schedstat(text: str) -> tuple[int, int]:
    """Nanoseconds on a CPU, and nanoseconds runnable without one."""
    # 501485774 578871461 215180
    try:
        run, wait, *_ = text.split()
        return int(run), int(wait)
    except ValueError:
        raise _unreadable("schedstat", text) from None


def parse_status(text: str) -> Status:
    """The tracer, context switches, CPUs and core dump in `status`."""
    # TracerPid:	16744 … CoreDumping:	0 … Cpus_allowed_list:	0-1
    # Not splitlines: the kernel escapes "\n" in a name, and no other line end.
    lines = (line.partition(":") for line in text.split("\n"))
    fields = {name: value.strip() for name, _, value in lines}
    cpus = fields.get("Cpus_allowed_list")
    dumping = _number(fields, "CoreDumping")
    tracer = _number(fields, "TracerPid")
    if tracer is None:
        raise _unreadable("status", text)
    return Status(
        tracer,
        _number(fields, "voluntary_ctxt_switches"),
        _number(fields, "nonvoluntary_ctxt_switches"),
        None if cpus is None else parse_cpu_list(cpus),
        None if dumping is None else dumping != 0,
    )


def parse_credentials(text: str) -> Credentials:
    """As whom the process of this `status` runs."""
    # Uid:	0	0	0	0 … Groups:	4 27  … CapEff:	000001ffffffffff
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in text.split("\n"))}
    try:
        groups = {int(fields["Gid"][1]), *map(int, fields["Groups"])}
        return Credentials(int(fields["Uid"][1]), frozenset(groups), int(fields["CapEff"][0], 16))
    except (LookupError, ValueError):
        raise _unreadable("status", text) from None


def parse_cpu_list(text: str) -> frozenset[int]:
    """The CPUs of `0-3,8`; none in an empty text, as the kernel prints an empty list."""
    cpus: set[int] = set()
    named = 0
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise _unreadable("CPU list", text) from None
        named += high - low + 1
        if not 0 <= low <= high <= MAX_CPU or named > MAX_CPU + 1:  # the kernel names each once
            raise _unreadable("CPU list", text)
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def pmd_core(comm: str) -> int | None:
    """OVS's core id in the name of a PMD thread; None for any other name."""
    match = _PMD.match(comm)
    return None if match is None else int(match[1])


def syscall_number(text: str) -> str:
    """First word of `syscall`: a number, "running", or "-1" for a thread that is blocked outside a system call."""
    # 7 0x7f7cac005700 0x2 0x7fffffff 0xb07575bcb5a61973 0x0 0x7f7cac000bb0 0x7f7cbae6c8e0 0x7f7cda13326f
    words = text.split(maxsplit=1)
    if not words:
        raise _unreadable("syscall", text)
    return words[0]


def _number(fields: dict[str, str], name: str) -> int | None:
    value = fields.get(name)
    try:
        return None if value is None else int(value)
    except ValueError:
        raise _unreadable(f"number of {name}", value or "") from None


def _unreadable(what: str, text: str) -> ValueError:
    return ValueError(f"{text[:60]!r} is no {what}")
