# SPDX-License-Identifier: Apache-2.0
"""Innocent events, one after the other, on a real OVS with the real daemon and light traffic: none may raise an alarm.

    python -m tests.faults.innocent --seconds 120 [--events N] [--interval MS] [--cores N] [--seed N]

Every kind in random order, again and again. An alarm is a PMD that was told MISSING, DEAD or GONE, or a vswitchd that
was told STOPPED, HUNG or GONE, to a subscriber of the columns or in the daemon's own history; or that all was not well
again in time. It is void, and told as such, if both this process and the daemon lost more than 10 ms of CPU meanwhile.
Exit status: 0 no alarm, 1 alarms, 3 it cannot be done here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ovs_keepalive.core.model import BAD
from ovs_keepalive.formats.schema import Found
from ovs_keepalive.ptrace import PTRACE_DETACH, WAIT_ALL, HoldError, ptrace, seize
from ovs_keepalive.publishers import schema
from ovs_keepalive.sandbox import Sandbox, SandboxError, missing, wait
from tests.lab import LOST, Background, Ticker, own_blind, stopped
from tests.subscriber import COLUMNS, Subscriber, Told
from tests.switch import RAN, TestedSandbox

BAD_VSWITCHD = {"STOPPED", "HUNG", "GONE"}
PORTS = ("p0", "p1")
MASK = 0x3  # the first two cores poll, each its own port
SLEEP_MAX = 10000  # microseconds, the most that OVS lets a PMD sleep
PORTS_AT_ONCE = 16
WELL_AGAIN = 30.0  # seconds after an event
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
PTRACE_SYSCALL = 24
FUTEX = "202 "  # futex(2) on x86_64: where a thread waits for a lock
POLL = "7"  # poll(2) on x86_64: where OVS parks a PMD
# A UDP packet to nobody, as long as Ethernet wants it.
PACKET = "ffffffffffff" + "020000000001" + "0800" + "4500002e000000004011000a" + "0a000001" + "0a000002"
PACKET += "04d204d2001a0000" + "00" * 18

# Read by every Python that starts with it on its path: steps the wall clock of that process, and no other.
CLOCK = """
import mmap, struct, time
with open({path!r}, "rb") as file:
    step = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
real = time.time_ns
time.time_ns = lambda: real() + struct.unpack("q", step)[0]
time.time = lambda: time.time_ns() / 1e9
"""


class Traffic(Background):
    """A few packets at a time for each port, whatever becomes of vswitchd."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self.heavy = False
        self._sandbox = sandbox

    def run(self) -> None:
        """Let packets come in."""
        while not self.over.wait(0.01 if self.heavy else 0.1):
            for port in PORTS:
                # vswitchd may be silent, restarting, or without that port.
                with suppress(OSError, SandboxError, ValueError):
                    self._sandbox.appctl("netdev-dummy/receive", port, *[PACKET] * (90 if self.heavy else 3))


class Field:
    """A real OVS of which two cores poll, watched, a subscriber, and traffic."""

    def __init__(self, rng: random.Random, interval_ms: int = 500, cores: int = 16) -> None:
        self.rng = rng
        self.cores = cores
        self.interval = interval_ms / 1000  # seconds
        self._told: list[Told] = []  # to subscribers that are closed
        self._seen: set[str] = set()  # lines of history
        self._stack = ExitStack()
        self.sandbox: Sandbox
        self.traffic: Traffic
        self._subscriber: Subscriber | None = None
        self._clock: Path

    def __enter__(self) -> Field:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start all of it, and wait until all is well."""
        with ExitStack() as stack:
            self.sandbox = sandbox = stack.enter_context(TestedSandbox(numa=[0] * self.cores, max_sleep=SLEEP_MAX))
            words = f"set Open_vSwitch . other_config:pmd-cpu-mask={MASK:#x} -- set bridge br0 fail_mode=standalone"
            for number in range(len(PORTS), self.cores):
                words += f" -- --if-exists del-port br0 p{number}"
            for port in PORTS:
                words += f" -- --may-exist add-port br0 {port} -- set interface {port} type=dummy-pmd options:n_rxq=1"
            sandbox.vsctl(*words.split())
            sandbox.settings(enable_keepalive=True, keepalive_interval=round(self.interval * 1000))
            self._start_daemon()
            stack.callback(self._unsubscribe)
            wait(lambda: len(sandbox.column()) == len(PORTS), "2 PMDs in the column", 15)
            self._subscriber = Subscriber(sandbox.remote)
            self.traffic = stack.enter_context(Traffic(sandbox))
            self._seen.clear()
            self.wait_until_well()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def start_afresh(self) -> None:
        """After an event that left it broken."""
        self.close()
        self.start()

    def at_any_phase(self, low: float = 0.0, high: float = 0.0) -> None:
        """Let that many seconds pass, or as many as keep any phase of the daemon's looks."""
        time.sleep(self.rng.uniform(low, max(high, low + self.interval)))

    def while_no_pmd_waits_for_main(self, seconds: float) -> None:
        """Let that many seconds pass, fewer when a PMD waits for a lock of a main thread that is held: it forwards
        nothing, and to tell that is no false alarm.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            for tid in self.sandbox.pmds().values():
                with suppress(OSError):  # it ended while we looked
                    if Path(f"/proc/{tid}/syscall").read_text().startswith(FUTEX):
                        return

    def obey(self, **other_config: object) -> None:
        """Set keys of other_config, and wait until vswitchd has configured everything that was asked so far."""
        self.sandbox.settings(**other_config)
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.sandbox.transact(asked)
        wait(self._has_obeyed, "vswitchd configured", 60)

    def port(self, name: str) -> list[str]:
        """The words that add one more port."""
        return f"-- add-port br0 {name} -- set interface {name} type=dummy-pmd".split()

    @contextmanager
    def unsubscribed(self) -> Iterator[None]:
        """The connection of the subscriber would end; it has another one as soon as the columns are there."""
        self._unsubscribe()
        yield
        wait(lambda: set(COLUMNS) <= self._columns(), "the columns", 30)
        self._subscriber = Subscriber(self.sandbox.remote)

    def step_clock(self, seconds: float) -> None:
        """Step the daemon's wall clock; against the machine's, which stays as it is."""
        with self._clock.open("r+b") as file:  # never shorter: it is mapped
            file.write(struct.pack("q", round(seconds * 1e9)))

    # --- what was told -------------------------------------------------------------------------

    def since(self, begin: float) -> list[Told]:
        """All that subscribers were told since then."""
        told = self._told + (list(self._subscriber.updates) if self._subscriber else [])
        return [one for one in told if one.at >= begin]

    def wait_until_well(self) -> None:
        """Until an update newer than this moment says that every PMD is well, and vswitchd has no more to do."""
        now, ailing = time.monotonic(), "nothing told yet"

        def is_well() -> bool:
            nonlocal ailing
            ailing = self._ailing(now)
            return not ailing

        try:
            wait(is_well, "all well", WELL_AGAIN)
        except SandboxError as error:
            raise SandboxError(f"{error}: {ailing}") from error

    def alarms(self, begin: float) -> list[str]:
        """What was told that must not be, once each."""
        alarms: dict[str, None] = {}
        for one in self.since(begin):
            for name in one.keepalive:
                if one.state(name) in BAD:
                    alarms[f"column: {name} {one.state(name)} {one.detail.get(name, '')}"] = None
            if (word := one.detail.get("vswitchd", "").partition(";")[0]) in BAD_VSWITCHD:
                alarms[f"column: vswitchd {word}"] = None
        for line in self.history():
            text = f"history: {line['who']} {line['from']} -> {line['to']} {line['cause']}: {line['evidence']}"
            if (key := f"{line['at']} {text}") not in self._seen:
                self._seen.add(key)
                if line["to"] in (BAD_VSWITCHD if line["who"] == "vswitchd" else BAD):
                    alarms[text] = None
        return list(alarms)

    def history(self) -> list[dict[str, str]]:
        """The daemon's own story."""
        text = self.sandbox.appctl("keepalive/history", "500", "--json", target="ovs-keepalive")
        lines: list[dict[str, str]] = json.loads(text)
        return lines

    def last_words(self) -> str:
        """What the daemon says of itself, for the story of an event after which all was not well."""
        try:
            status = self.sandbox.appctl("keepalive/status", target="ovs-keepalive")
        except (OSError, SandboxError) as error:
            status = f"the daemon does not answer: {error}"
        return "\n".join([status, *(self.sandbox.dir / "ovs-keepalive.log").read_text().splitlines()[-20:]])

    # --- below the surface ---------------------------------------------------------------------

    def _start_daemon(self) -> None:
        self._clock = self.sandbox.dir / "clock"
        self._clock.write_bytes(bytes(8))
        (self.sandbox.dir / "sitecustomize.py").write_text(CLOCK.format(path=str(self._clock)))
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(self.sandbox.dir), *([before] if before else [])])
        try:
            self.sandbox.start_daemon(config={"max-main-share": 50, "web-listen": "127.0.0.1:0"})
        finally:
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before

    def _unsubscribe(self) -> None:
        if self._subscriber is not None:
            self._subscriber.__exit__(None, None, None)
            self._told = self._subscriber.updates[-50:]
            self._subscriber = None

    def _columns(self) -> set[str]:
        status = schema.status(self.sandbox.remote)
        return set(COLUMNS) - set(status.names(Found.ABSENT))

    def _has_obeyed(self) -> bool:
        row = self.sandbox._row("cur_cfg", "next_cfg")
        return bool(row) and row["cur_cfg"] == row["next_cfg"]

    def _ailing(self, since: float) -> str:
        """What is not as it should be; "" if all is well."""
        told = self.since(since)
        if not told or not self._has_obeyed():
            return "nothing told yet" if not told else "vswitchd configures"
        last, threads = told[-1], self.sandbox.pmds()
        polling = polling_cores(self.sandbox.appctl("dpif-netdev/pmd-rxq-show"))
        names = {name for name in threads if core(name) in polling}
        states = {name: last.state(name) for name in last.keepalive}
        if states.keys() != names:
            return f"{sorted(states)} in the column, {sorted(names)} poll"
        # A PMD that waits for a CPU is told as starved, and rightly: the CPUs here are everybody's.
        causes = {last.detail[name].partition(";")[0] for name in names & last.detail.keys()}
        if not set(states.values()) <= {"ALIVE", "SLEEP"} or not causes <= {"cause=starved"}:
            return f"{states}, {last.detail}"
        vswitchd = last.detail["vswitchd"]
        return "" if vswitchd.startswith("RUNNING;") and "silent=" not in vswitchd else vswitchd


def core(name: str) -> int:
    """The core of a PMD by its name."""
    return int(name.removeprefix("pmd-c").partition("/")[0])


def polling_cores(rxq_show: str) -> set[int]:
    """Cores whose PMD polls a queue, of dpif-netdev/pmd-rxq-show."""
    blocks = re.split(r"(?m)^pmd thread numa_id \d+ core_id ", rxq_show)[1:]
    return {int(block.partition(":")[0]) for block in blocks if "queue-id:" in block}


# --- the events ------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of event. allowed: states of vswitchd that are true of it."""

    name: str
    happen: Callable[[Field], None]
    allowed: frozenset[str]


KINDS: list[Kind] = []


def kind(name: str, allowed: frozenset[str] = frozenset()) -> Callable[[Callable[[Field], None]], None]:
    """Make an event known."""

    def register(happen: Callable[[Field], None]) -> None:
        KINDS.append(Kind(name, happen, allowed))

    return register


@kind("port added, deleted")
def _(field: Field) -> None:
    field.sandbox.vsctl(*field.port("extra"))
    field.at_any_phase()
    field.sandbox.vsctl("del-port", "br0", "extra")


@kind("only port of a PMD: MTU")
def _(field: Field) -> None:
    port = field.rng.choice(PORTS)
    for mtu in (9000, 1500):
        field.sandbox.vsctl("set", "interface", port, f"mtu_request={mtu}")
        field.at_any_phase()


@kind("only port of a PMD: n_rxq")
def _(field: Field) -> None:
    port = field.rng.choice(PORTS)
    for queues in (field.rng.choice((2, 3)), 1):
        field.sandbox.vsctl("set", "interface", port, f"options:n_rxq={queues}")
        field.at_any_phase()


@kind("pmd-cpu-mask changed, back")
def _(field: Field) -> None:
    for mask in (field.rng.choice((0x1, 0x2, 0x4, 0x7, 0xC)), MASK):
        field.obey(pmd_cpu_mask=hex(mask))
        field.at_any_phase()


@kind("last port deleted, re-added")
def _(field: Field) -> None:
    for port in PORTS:
        field.sandbox.vsctl("del-port", "br0", port)
    field.at_any_phase()
    field.sandbox.vsctl(*[word for port in PORTS for word in field.port(port)])


@kind("PMD without rxq")
def _(field: Field) -> None:
    port = field.rng.choice(PORTS)
    field.sandbox.vsctl("del-port", "br0", port)
    field.at_any_phase(field.interval, 4 * field.interval)
    field.sandbox.vsctl(*field.port(port))


@kind("more PMDs than rxqs")
def _(field: Field) -> None:
    field.obey(pmd_cpu_mask="0xf")
    field.at_any_phase(field.interval, 4 * field.interval)
    field.obey(pmd_cpu_mask=hex(MASK))


@kind("pmd-stats-clear")
def _(field: Field) -> None:
    for _ in range(field.rng.randint(1, 5)):
        field.sandbox.appctl("dpif-netdev/pmd-stats-clear")
        field.at_any_phase()


@kind("pmd-rxq-rebalance")
def _(field: Field) -> None:
    for _ in range(field.rng.randint(1, 3)):
        field.sandbox.appctl("dpif-netdev/pmd-rxq-rebalance")
        field.at_any_phase()


@kind("load-based sleep off, on")
def _(field: Field) -> None:
    for longest in (0, field.rng.choice((1, 100, 5000)), SLEEP_MAX):
        field.obey(pmd_maxsleep=longest, pmd_sleep_max=longest)
        field.at_any_phase()


@kind("100 % busy PMDs")
def _(field: Field) -> None:
    field.obey(pmd_maxsleep=0, pmd_sleep_max=0)
    field.traffic.heavy = True
    try:
        field.at_any_phase(1.0, 3.0)
    finally:
        field.traffic.heavy = False
    field.obey(pmd_maxsleep=SLEEP_MAX, pmd_sleep_max=SLEEP_MAX)


@kind("main held for 2 … 3 s")
def _(field: Field) -> None:
    with stopped(field.sandbox.vswitchd_pid):
        field.while_no_pmd_waits_for_main(field.rng.uniform(2.0, 3.0))


@kind("main held, then a port added")
def _(field: Field) -> None:
    with stopped(field.sandbox.vswitchd_pid):
        field.sandbox.vsctl("--no-wait", *field.port("extra"))
        field.while_no_pmd_waits_for_main(field.rng.uniform(1.0, 3.0))
    field.obey()
    field.sandbox.vsctl("del-port", "br0", "extra")


@kind("main held, PMD parked: n_rxq")
def _(field: Field) -> None:
    port = field.rng.choice(PORTS)
    for queues in (2, 1):
        with main_stopped_when(field.sandbox, lambda: bool(parked(field.sandbox))) as go:
            field.sandbox.vsctl("--no-wait", "set", "interface", port, f"options:n_rxq={queues}")
            if not go():
                raise SandboxError(f"{port}: n_rxq={queues}: no PMD was parked")
            field.at_any_phase(1.0, 3.0)
        field.obey()


@kind("main held amid a change")
def _(field: Field) -> None:
    extra = field.port("extra")
    p0 = "set interface p0 options:n_rxq={} mtu_request={}"
    mask = "set Open_vSwitch . other_config:pmd-cpu-mask={}"
    for change, back in (
        (extra, ["del-port", "br0", "extra"]),
        (p0.format(2, 9000).split(), p0.format(1, 1500).split()),
        (mask.format("0x6").split(), mask.format(hex(MASK)).split()),
    ):
        for words in (change, back):
            calls = field.rng.randint(1, 300)
            with main_stopped_when(field.sandbox, countdown(calls)) as go:
                field.sandbox.vsctl("--no-wait", *words)
                go()
                field.while_no_pmd_waits_for_main(field.rng.uniform(1.0, 2.0))
            field.obey()


@kind("many ports at once")
def _(field: Field) -> None:
    names = [f"many{number}" for number in range(PORTS_AT_ONCE)]
    field.sandbox.vsctl(*[word for name in names for word in field.port(name)])
    field.at_any_phase()
    field.sandbox.vsctl(*[word for name in names for word in f"-- del-port br0 {name}".split()])


@kind("many PMDs at once")
def _(field: Field) -> None:
    port = field.rng.choice(PORTS)
    field.sandbox.vsctl("set", "interface", port, f"options:n_rxq={field.cores}")
    field.obey(pmd_cpu_mask="0x1")
    field.obey(pmd_cpu_mask=hex((1 << field.cores) - 1))
    field.at_any_phase(0, 2.0)
    field.obey(pmd_cpu_mask="0x1")
    field.sandbox.vsctl("set", "interface", port, "options:n_rxq=1")
    field.obey(pmd_cpu_mask=hex(MASK))


@kind("tid used again")
def _(field: Field) -> None:
    if not os.access(LAST_PID, os.W_OK):
        print(f"tid used again: {LAST_PID} cannot be written: nothing happens")
        return
    for _ in range(3):
        name, tid = list(field.sandbox.pmds().items())[-1]
        field.sandbox.settings(pmd_cpu_mask="0x1")
        wait(lambda: len(field.sandbox.pmds()) == 1, f"{name} removed")
        field.at_any_phase()
        LAST_PID.write_text(str(tid - 1))
        field.sandbox.settings(pmd_cpu_mask=hex(MASK))  # no process starts in between
        wait(lambda: len(field.sandbox.pmds()) == len(PORTS), "a new PMD")
        if tid in field.sandbox.pmds().values():
            return
    print("tid used again: another process was faster each time")


@kind("restart by SIGTERM")
def _(field: Field) -> None:
    field.sandbox.kill_vswitchd(signal.SIGTERM)
    field.at_any_phase(0, 4 * field.interval)
    field.sandbox.start_vswitchd()


@kind("restart by appctl exit")
def _(field: Field) -> None:
    process = Path(f"/proc/{field.sandbox.vswitchd_pid}")
    field.sandbox.appctl("exit")
    wait(lambda: (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z", "the end of vswitchd")
    field.sandbox.kill_vswitchd()  # only its exit status is left
    field.at_any_phase(0, 4 * field.interval)
    field.sandbox.start_vswitchd()


@kind("exit held 5 s, then SIGKILL", allowed=frozenset({"HUNG"}))
def _(field: Field) -> None:
    with main_stopped_when(field.sandbox, lambda: not field.sandbox.pmds()) as go:
        tell_to_exit(field.sandbox)
        if not go():
            raise SandboxError("appctl exit: its PMDs were there to the end")
        time.sleep(5.0)
        os.kill(field.sandbox.vswitchd_pid, signal.SIGKILL)
    field.sandbox.kill_vswitchd()
    field.at_any_phase(0, 4 * field.interval)
    field.sandbox.start_vswitchd()


@kind("ovsdb-server restarted")
def _(field: Field) -> None:
    with field.unsubscribed():
        field.sandbox.kill_ovsdb(field.rng.choice((signal.SIGTERM, signal.SIGKILL)))
        field.at_any_phase()
        field.sandbox.start_ovsdb()


@kind("schema converted")
def _(field: Field) -> None:
    with field.unsubscribed():
        schema.revert(field.sandbox.remote)
        with suppress(SandboxError):  # the daemon pauses from its third attempt on
            wait(lambda: set(COLUMNS) <= field._columns(), "the columns", 4)
        schema.apply(field.sandbox.remote)


@kind("daemon stopped for 2 … 3 s")
def _(field: Field) -> None:
    field.sandbox.stop_daemon(signal.SIGSTOP)
    try:
        field.at_any_phase(2.0, 3.0)
    finally:
        field.sandbox.stop_daemon(signal.SIGCONT)


@kind("interval changed in flight")
def _(field: Field) -> None:
    for interval_ms in (*field.rng.sample((50, 100, 200, 1000, 2000), 3), round(field.interval * 1000)):
        field.sandbox.settings(keepalive_interval=interval_ms)
        field.at_any_phase()


@kind("wall clock stepped")
def _(field: Field) -> None:
    for seconds in (3600.0, -86400.0, field.rng.uniform(-5.0, 5.0), 0.0):
        field.step_clock(seconds)
        field.at_any_phase(field.interval)


# --- main, held at a chosen moment -----------------------------------------------------------------


@contextmanager
def main_stopped_when(
    sandbox: Sandbox, condition: Callable[[], bool], seconds: float = 5.0
) -> Iterator[Callable[[], bool]]:
    """Main is held; what is called goes on from system call to system call until the condition holds: whether it did.

    Main, which is to end, may do so before; then it is reaped.
    """
    tid = sandbox.vswitchd_pid
    try:
        seize(tid)
    except HoldError as error:
        raise SandboxError(str(error)) from error

    def go() -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            ptrace(PTRACE_SYSCALL, tid)
            if not os.WIFSTOPPED(os.waitpid(tid, WAIT_ALL)[1]):
                return False
        return False

    try:
        yield go
    finally:
        with suppress(ProcessLookupError):
            ptrace(PTRACE_DETACH, tid)


def countdown(calls: int) -> Callable[[], bool]:
    """Holds when it was asked so often."""
    numbers = iter(range(calls))
    return lambda: next(numbers, None) is None


def parked(sandbox: Sandbox) -> list[int]:
    """PMDs with rxqs that OVS has sent to sleep in poll(2)."""
    return [tid for tid in sandbox.pmds().values() if Path(f"/proc/{tid}/syscall").read_text().startswith(f"{POLL} ")]


def tell_to_exit(sandbox: Sandbox) -> None:
    """Say exit on the control socket and do not wait for the answer: main is held."""
    control = sandbox.dir / f"ovs-vswitchd.{sandbox.vswitchd_pid}.ctl"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        connection.sendall(json.dumps({"id": 0, "method": "exit", "params": []}).encode())
        connection.shutdown(socket.SHUT_WR)


# --- one after the other ---------------------------------------------------------------------------


class Tally:
    """How often each kind of event happened, and what it raised."""

    def __init__(self) -> None:
        self.counts = {one.name: [0, 0, 0] for one in KINDS}  # events, alarms, void
        self.seconds = dict.fromkeys(self.counts, 0.0)
        self.stories: list[str] = []  # of alarms that count

    @property
    def events(self) -> int:
        """That counted."""
        return sum(events - void for events, _, void in self.counts.values())

    def __str__(self) -> str:
        lines = [f"{'innocent event':32} {'count':>6} {'alarms':>6} {'void':>5} {'s each':>7}"]
        for name, (events, alarms, void) in self.counts.items():
            each = self.seconds[name] / events if events else 0.0
            lines.append(f"{name:32} {events:>6} {alarms:>6} {void:>5} {each:>7.1f}")
        events, alarms, void = (sum(column) for column in zip(*self.counts.values(), strict=True))
        return "\n".join([*lines, f"{'all':32} {events:>6} {alarms:>6} {void:>5} {sum(self.seconds.values()):>7.0f}"])


def happen(field: Field, one: Kind, tally: Tally) -> None:
    """Let one event happen, and note what was told of it."""
    count = tally.counts[one.name]
    field.at_any_phase()
    blind, begin, broken = own_blind(field.sandbox), time.monotonic(), ""
    with Ticker() as ticker:
        try:
            one.happen(field)
            field.wait_until_well()
        except (SandboxError, OSError, subprocess.TimeoutExpired) as error:
            broken = f"{error}\n{field.last_words()}"
    alarms = [broken] if broken else []
    with suppress(OSError, SandboxError):  # the daemon has ended: that is told already
        told = field.alarms(begin)
        alarms += [line for line in told if not set(line.split()) & one.allowed]
        blind = own_blind(field.sandbox) - blind
    count[0] += 1
    tally.seconds[one.name] += time.monotonic() - begin
    if alarms:
        story = "\n  ".join([f"{one.name}, interval {field.interval * 1000:.0f} ms", *alarms])
        if not broken and ticker.worst > LOST and blind > LOST:
            count[2] += 1
            print(f"void: {ticker.worst * 1000:.0f} and {blind * 1000:.0f} ms of CPU lost: {story}", flush=True)
        else:
            count[1] += 1
            tally.stories.append(story)
            print(f"ALARM: {story}", flush=True)
    if broken:
        field.start_afresh()


def repeat(field: Field, tally: Tally, events: int, seconds: float = math.inf) -> None:
    """Every kind once, in random order, and again, until so many events counted or the time is over."""
    end = time.monotonic() + seconds
    while True:
        for one in field.rng.sample(KINDS, len(KINDS)):
            if tally.events >= events or time.monotonic() >= end:
                return
            happen(field, one, tally)


def main(arguments: Sequence[str] | None = None) -> int:
    """Events until the time is over, or so many of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.innocent")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--interval", type=int, default=500, metavar="MS")
    parser.add_argument("--cores", type=int, default=16, metavar="N", help="of many PMDs at once")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    options = parser.parse_args(arguments)
    if reason := missing():
        print(reason, file=sys.stderr)
        return 3
    KINDS[:] = [one for one in KINDS if options.only in one.name]
    print(f"seed {options.seed}, interval {options.interval} ms", flush=True)
    rng, tally = random.Random(options.seed), Tally()  # noqa: S311
    with Field(rng, options.interval, options.cores) as field:
        repeat(field, tally, options.events, options.seconds)
    print(tally)
    print(f"Open vSwitch that ran: {'; '.join(sorted(RAN))}")
    return 1 if tally.stories else 0


if __name__ == "__main__":
    sys.exit(main())
