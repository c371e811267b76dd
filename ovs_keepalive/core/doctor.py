# SPDX-License-Identifier: Apache-2.0
"""What `ovs-keepalive doctor` makes of what was looked at: one finding a check, with its cure.

FAIL: the daemon cannot see or cannot tell something that it should, or does not obey a setting.
WARN: it works, but sees or tells less, or rests because nobody asked it to watch; or nobody could check.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core import observe, settings
from ovs_keepalive.core.model import Moment, NotSeen, PmdBlock, PmdRxqs, ThreadLook

FIRST_YEAR = 2024  # no host that runs this is set to an earlier one on purpose
COARSE = 0.001  # seconds; an interval of 10 ms is looked at every 2
STEP = 0.5  # seconds between both clocks, over one examination
OLDEST_OVS = (3, 5)  # of python-ovs
START_DATABASE = "systemctl start ovsdb-server"
START_VSWITCHD = "systemctl start ovs-vswitchd"  # never restart: that would interrupt one that forwards
ADD_PORT = "add a port that PMDs poll (dpdk, dpdkvhostuserclient, afxdp) to a bridge with datapath_type=netdev"

# What the parts of the daemon say, as far as it tells a cause (matched from the start, told as matched), and its cure.
# First match wins; the last one fits everything.
Cures = Mapping[str, str]
DATABASE: Cures = {
    r".*permission denied": "run as root",
    r".*no such socket": f"{START_DATABASE}, or set OVS_RUNDIR, or name the database with --ovsdb",
    r".*nothing listens there": START_DATABASE,
    r".*(no answer within .*|queue of connections is full)": "look at `ps -o pid,stat,wchan -C ovsdb-server`: T needs "
    "kill -CONT; else restart it",
    r".*": "name the database Open_vSwitch of this host with --ovsdb, and look at ovsdb-server.log",
}
VSWITCHD: Cures = {
    r"no ovs-vswitchd\*\.pid in .*(?=: is Open)": f"{START_VSWITCHD}, or set OVS_RUNDIR, or name it with "
    "--vswitchd-pidfile",
    r".*is stale: no process holds its lock": START_VSWITCHD,
    r"process .*is not in .*": "share the host's PID namespace (--pid=host), or mount -o remount,hidepid=0 /proc",
    r".*of another PID namespace(?=: share)": "share the host's: --pid=host, hostPID: true",
    r".*its lock is held by process .*": "name the pidfile of ovs-vswitchd with --vswitchd-pidfile",
    r".*Permission denied": "run as root",
    r".*dumps core": "wait until it is restarted, and keep the core",
    r".*": "name the pidfile of ovs-vswitchd with --vswitchd-pidfile",
}
CONTROL: Cures = {
    r".*permission denied": "run as root",
    r".*No such file or directory": "set OVS_RUNDIR to the runtime directory of this vswitchd",
    r".*": "ask again, then look at ovs-vswitchd.log",
}


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    what: str
    found: str
    cure: str = ""  # a command where there is one; "" for OK only

    def __str__(self) -> str:
        return f"{self.level:4} {self.what}: {self.found}" + (f": {self.cure}" if self.cure else "")


def cured(what: str, said: str, cures: Cures) -> Finding:
    """FAIL with the cure of the first pattern that fits what was said."""
    matches = ((re.match(pattern, said, re.DOTALL), cure) for pattern, cure in cures.items())
    return next(Finding(Level.FAIL, what, match[0], cure) for match, cure in matches if match)


def not_checked(what: str, other: str) -> Finding:
    """The check needs what another one did not find."""
    return Finding(Level.WARN, what, f"not checked without {other}", f"cure {other} first")


# --- the ways in and out -----------------------------------------------------------------------


def runtime_directory(path: str, there: bool, lacking: Sequence[str], user: str) -> Finding:
    """lacking: what this user may not do there."""
    what = "runtime directory"
    if not there:
        found = f"{path} is not there, as far as {user} may see"
        return Finding(Level.FAIL, what, found, "start Open vSwitch, or set OVS_RUNDIR")
    if lacking:
        return Finding(Level.FAIL, what, f"{path}: {user} may not {' or '.join(lacking)} it", "run as root")
    return Finding(Level.OK, what, f"{path}, {user} may enter and write it")


def schema(version: str, absent: Sequence[str], foreign: Sequence[str]) -> Finding:
    """absent, foreign: those of our columns that are not there, or of another type."""
    if foreign:
        found = f"{' and '.join(foreign)} of another type, which nobody touches"
        return Finding(Level.FAIL, "schema", found, "have it renamed by its owner, then ovs-keepalive schema apply")
    if absent:
        found = f"{' and '.join(absent)} absent, nothing is told there"
        return Finding(Level.WARN, "schema", found, "read docs/schema.md, then ovs-keepalive schema apply")
    return Finding(Level.OK, "schema", f"{version or 'without a version'}, both columns are there")


def clients(pythons: Sequence[str], unseen: int) -> Finding:
    """pythons: clients of the database that are Python programs; unseen: connections of which nobody may say whose."""
    if pythons:
        found = f"{', '.join(pythons)} may go deaf when the schema is converted, as Python programs do (docs/schema.md)"
        cure = "restart them after schema apply and revert, and after each start of Open vSwitch"
        return Finding(Level.WARN, "clients", found, cure)
    if unseen:
        found = f"cannot tell whose {unseen} connections to the database are"
        return Finding(Level.WARN, "clients", found, "run as root in the host's PID namespace before schema apply")
    return Finding(Level.OK, "clients", "no Python program is connected that a conversion of the schema could hurt")


def clients_elsewhere(remote: str) -> Finding:
    """The database is reached over the network."""
    cure = "look on its host for Python programs before schema apply (docs/schema.md)"
    return Finding(Level.WARN, "clients", f"those of {remote} cannot be seen from here", cure)


def live_settings(other_config: Mapping[str, str] | None) -> Finding:
    """other_config: of the one row, None if there is no row."""
    what = "settings"
    if other_config is None:
        return Finding(Level.FAIL, what, "the table Open_vSwitch has no row", "ovs-vsctl --no-wait init")
    asked = settings.read(other_config, settings.Asked())
    if asked.rejected:
        # other_config:KEY=VALUE: what holds instead (which only the daemon knows): what to do
        refused = [line.rsplit(": ", 2) for line in asked.rejected]
        found = ", ".join(f"{setting} is refused" for setting, _, _ in refused)
        cures = ", ".join(f"{setting.partition('=')[0]}: {cure}" for setting, _, cure in refused)
        return Finding(Level.FAIL, what, found, f"ovs-vsctl set Open_vSwitch . KEY=VALUE ({cures})")
    if not asked.enabled:
        cure = "ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true"
        return Finding(Level.WARN, what, "enable-keepalive is not true, nothing is watched", cure)
    return Finding(Level.OK, what, f"enabled, interval {asked.interval_ms} ms")


# --- vswitchd ----------------------------------------------------------------------------------


def silent_main(pid: int, state: str, tracer: int, seconds: float) -> Finding:
    """vswitchd owes an answer. state: its main thread's letter in /proc; tracer: who traces it, 0 for nobody."""
    stack = f"cat /proc/{pid}/task/{pid}/stack"
    level, words, cure = {
        "T": (Level.FAIL, "stopped by a signal", f"kill -CONT {pid}"),
        "t": (Level.FAIL, f"held by process {tracer}", f"detach process {tracer}"),
        "D": (Level.FAIL, "in an uninterruptible wait", stack),
        "R": (Level.WARN, "it runs", f"wait for the reconfiguration to end and ask again; {stack}"),
    }.get(state, (Level.WARN, "it waits", f"look for `blocked` in ovs-vswitchd.log, ask again; {stack}"))
    return Finding(level, "main thread", f"no answer within {seconds:g} s, state {state} ({words})", cure)


def datapaths(kinds: Sequence[str], userspace: Collection[str]) -> Finding:
    """kinds: as dpctl/dump-dps names them, netdev@ovs-netdev; userspace: types with PMD threads."""
    names = ", ".join(kinds)
    if any(kind.partition("@")[0] in userspace for kind in kinds):
        return Finding(Level.OK, "datapath", names)
    found = f"only {names}, in the kernel: it has no PMD threads" if kinds else "none"
    return Finding(Level.WARN, "datapath", found, "ovs-vsctl set bridge BRIDGE datapath_type=netdev")


def pmd_threads(threads: Sequence[ThreadLook]) -> Finding:
    """threads: the PMD threads that /proc shows."""
    if not threads:
        return Finding(Level.WARN, "PMD threads", "none", ADD_PORT)
    return Finding(Level.OK, "PMD threads", _names(threads))


def iterations(threads: Sequence[ThreadLook], look: Sequence[PmdBlock] | NotSeen) -> Finding:
    """look: the counters that vswitchd told."""
    what = "iterations"
    if isinstance(look, NotSeen):
        return cured(what, look.why, CONTROL)
    if shared := observe.shared_cores(tuple(look)):
        found = f"PMDs of several datapaths share the cores {', '.join(map(str, shared))}, none of these can be judged"
        return Finding(Level.FAIL, what, found, "keep all bridges with PMDs on one datapath: ovs-appctl dpctl/dump-dps")
    counted = {block.core for block in look if block.iterations is not None}
    if without := [thread for thread in threads if thread.core not in counted]:
        cure = "ask again; if it stays, report the answer of ovs-appctl dpif-netdev/pmd-perf-show"
        return Finding(Level.FAIL, what, f"not told for {_names(without)}", cure)
    return Finding(Level.OK, what, f"counted for {len(threads)} PMD threads")


def rxqs(threads: Sequence[ThreadLook], look: Sequence[PmdRxqs] | NotSeen) -> Finding:
    """look: the rxqs that vswitchd told."""
    if isinstance(look, NotSeen):
        return cured("rxqs", look.why, CONTROL)
    polled = {pmd.core: len(pmd.rxqs) for pmd in look}
    if without := [thread for thread in threads if thread.core not in polled]:
        cure = "ask again; if it stays, report the answer of ovs-appctl dpif-netdev/pmd-rxq-show"
        return Finding(Level.FAIL, "rxqs", f"not told for {_names(without)}", cure)
    idle = [thread for thread in threads if not polled[thread.core]]
    unused = f", UNUSED {_names(idle)}" if idle else ""
    if len(idle) == len(threads):
        return Finding(Level.WARN, "rxqs", f"no PMD polls any{unused}", ADD_PORT)
    return Finding(Level.OK, "rxqs", f"{sum(polled.values())} are polled{unused}")


def _names(threads: Sequence[ThreadLook]) -> str:
    return ", ".join(thread.name for thread in sorted(threads, key=lambda thread: thread.core))


# --- the host ----------------------------------------------------------------------------------


def schedstat(run_ns: int | None) -> Finding:
    """run_ns: of a thread that has run."""
    if run_ns:
        return Finding(Level.OK, "schedstat", "run and wait time of threads are told")
    found = (
        "not told by this kernel: no cause spinning or starved, and nothing is proven while the main thread is silent"
    )
    return Finding(Level.WARN, "schedstat", found, "boot a kernel with CONFIG_SCHED_INFO")


def rights(thread: str, readable: Mapping[str, bool]) -> Finding:
    """readable: what was tried on a thread of vswitchd, and whether this user may have it."""
    refused = [name for name, may in readable.items() if not may]
    if not refused:
        return Finding(Level.OK, "privileges", f"{', '.join(readable)} of {thread} can be read")
    lost = {
        "syscall": "a blocked or frozen PMD keeps its state, unverified, while the main thread is silent",
        "wchan": "a frozen PMD is told as blocked",
    }
    found = f"{', '.join(refused)} of {thread} cannot be read"
    losses = [loss for name, loss in lost.items() if name in refused]
    if not losses:
        late = ", only a stall is told up to a fifth of an interval later" if "perf events" in refused else ""
        return Finding(Level.OK, "privileges", f"{found}, which no verdict needs{late}")
    cure = "run as root, or with AmbientCapabilities=CAP_SYS_PTRACE CAP_PERFMON"
    return Finding(Level.WARN, "privileges", f"{found}, so {', and '.join(losses)}", cure)


def clock(begun: Moment, now: Moment, resolution: float) -> Finding:
    """begun, now: two moments of this examination; resolution: of the monotonic clock, in seconds."""
    date = datetime.fromtimestamp(now.wall_ms / 1000, UTC)
    if date.year < FIRST_YEAR:
        found = f"it is {date:%d %b %Y}, and so last_seen and beat would say"
        return Finding(Level.FAIL, "clock", found, "timedatectl set-ntp true")
    step = (now.wall_ms - begun.wall_ms) / 1000 - (now.mono - begun.mono)
    if abs(step) > STEP:
        found = f"the wall clock was just stepped by {step:+.1f} s: no state depends on it, last_seen and beat do"
        return Finding(Level.WARN, "clock", found, "chronyc tracking")
    if resolution > COARSE:
        found = f"the monotonic clock ticks only every {resolution * 1000:g} ms"
        return Finding(Level.WARN, "clock", found, "boot without highres=off, and use intervals of 1000 ms and more")
    return Finding(Level.OK, "clock", f"{date:%d %b %Y %H:%M:%S} UTC, monotonic in steps of {resolution * 1e9:g} ns")


def python_ovs(version: str) -> Finding:
    """version: of the package ovs."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_OVS:
        oldest = ".".join(map(str, OLDEST_OVS))
        return Finding(Level.FAIL, "python-ovs", f"{version}, older than {oldest}", f"pip install 'ovs>={oldest}'")
    return Finding(Level.OK, "python-ovs", version)


# --- the daemon --------------------------------------------------------------------------------


def no_daemon(why: str) -> Finding:
    """No process holds the daemon's pidfile. why: as it was found."""
    found = f"not running ({why}), who holds the lock ovs_keepalive is not known"
    return Finding(Level.WARN, "daemon", found, "systemctl start ovs-keepalive, or ovs-keepalive run")


def daemon(pid: int, facts: Mapping[str, str]) -> Finding:
    """facts: what the running daemon says of itself."""
    lock = facts.get("lock", "not known")
    found = f"{facts.get('version', f'pid {pid}')}, lock {lock}"
    if lock == "held":
        return Finding(Level.OK, "daemon", found)
    cure = "stop one of the two" if "another" in lock else "ovs-appctl -t ovs-keepalive keepalive/status, line database"
    return Finding(Level.WARN, "daemon", found, cure)


def silent_daemon(pid: int, why: str) -> Finding:
    """why: the daemon does not tell how it is."""
    if "permission denied" in why:
        return Finding(Level.WARN, "daemon", f"runs as pid {pid}, this user may not ask it", "run as root")
    return Finding(Level.FAIL, "daemon", f"pid {pid}: {why}", "look at its log, then systemctl restart ovs-keepalive")
