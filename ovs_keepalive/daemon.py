# SPDX-License-Identifier: Apache-2.0
"""The composition root: the sensors, the publishers, the main loop, the signals."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ovs.poller
import ovs.util
import ovs.vlog
import psutil

from ovs_keepalive import __version__, affinity, dirs
from ovs_keepalive.beat import Beat, Slot, moment
from ovs_keepalive.commands import Commands
from ovs_keepalive.config import Config
from ovs_keepalive.core import settings as live
from ovs_keepalive.core.model import Moment, Settings, Snapshot, Transition
from ovs_keepalive.pidfile import Pidfile
from ovs_keepalive.publishers.appctl_server import AppctlServer
from ovs_keepalive.publishers.ovsdb import Ovsdb
from ovs_keepalive.publishers.schema_auto import SchemaKeeper
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

log = ovs.vlog.Vlog("ovs_keepalive")

FAREWELL = 2.0  # seconds that a clean stop may take to empty the columns
SWITCH = 0.0005  # seconds; with Python's own 5 ms a busy main loop would delay the beat (measured: DESIGN section 2)


@dataclass(frozen=True)
class Options:
    """What the command line and the configuration file ask of this run."""

    config: Config
    remote: str
    vswitchd_pidfile: Path | None
    pidfile: Path


class Daemon:
    """One run of the daemon: `loop()` returns the exit status."""

    def __init__(self, options: Options) -> None:
        """Raises pidfile.Taken, or OSError when the pidfile or the control socket cannot be made."""
        ovs.util.PROGRAM_NAME = "ovs-keepalive"
        sys.setswitchinterval(SWITCH)
        self._options = options
        self._stopping = False
        self._wakeup, self._wakeup_end = _catch_signals(self.stop)
        self._pidfile = Pidfile(options.pidfile)
        control = options.pidfile.parent / f"ovs-keepalive.{os.getpid()}.ctl"
        self._appctl = AppctlServer(str(control), __version__)
        self._slot = Slot()
        self._asked = live.Asked()
        self._other_config: Mapping[str, str] | None = None  # from which they were read
        self._beat = Beat(VswitchdSensor(dirs.rundir(), options.vswitchd_pidfile), self._settings(), self._slot)
        self._database = Ovsdb(options.remote, options.config.refresh / 1000, __version__, os.getpid())
        self._keeper = SchemaKeeper(self._database.schema) if options.config.schema == "auto" else None
        self._self = psutil.Process()
        self._pinned: frozenset[int] = frozenset()
        self._affinity = os.sched_getaffinity(0)
        self._logged: Moment | None = None
        self._rejected: tuple[str, ...] = ()
        self.snapshot: Snapshot | None = None
        Commands(self._appctl, self).register()

    def loop(self) -> int:
        """Watch until told to stop. 0 after a clean stop, 1 when the heartbeat failed."""
        log.info(f"ovs-keepalive {__version__}, database {self._options.remote}")
        gc.freeze()  # what is imported by now lives as long as the daemon: no collection need walk it
        self._beat.start()
        try:
            while not self._stopping:
                self._turn()
                if self._beat.failure is not None:
                    log.emer(f"the beat thread failed: {self._beat.failure!r}: the daemon ends")
                    return 1
                self._block()
            return 0
        finally:
            self._end()

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = moment()
        self._database.run(now)
        self._take_settings()
        snapshot = self._slot.take()
        if snapshot is not None:
            self.snapshot = snapshot
            self._database.publish(snapshot, now)
            self._log_transitions(snapshot)
            self._make_room(snapshot)
        if self._keeper is not None:
            self._keeper.run(now, self.snapshot, self._database.connected and self._database.has_lock)
        self._appctl.run()

    def _block(self) -> None:
        poller = ovs.poller.Poller()
        poller.fd_wait(self._slot.fileno(), ovs.poller.POLLIN)
        poller.fd_wait(self._wakeup.fileno(), ovs.poller.POLLIN)
        self._database.wait(poller)
        self._appctl.wait(poller)
        poller.block()
        try:
            self._wakeup.recv(64)
        except BlockingIOError:
            return

    def _take_settings(self) -> None:
        other_config = self._database.other_config()
        if other_config is None or other_config is self._other_config:
            return  # while the database is away the last settings hold
        self._other_config = other_config
        asked = live.read(other_config, self._asked)
        if asked == self._asked:
            return
        for line in asked.rejected:
            if line not in self._asked.rejected:
                log.warn(line)
        if asked[:2] != self._asked[:2]:
            state = "enabled" if asked.enabled else "disabled"
            log.info(f"keepalive {state}, interval {asked.interval_ms} ms")
        self._asked = asked
        self._beat.change(self._settings())

    def _settings(self) -> Settings:
        config = self._options.config
        return Settings(
            enabled=self._asked.enabled,
            interval=self._asked.interval_ms / 1000,
            max_main_share=config.max_main_share / 100,
            restart_deadline=config.restart_deadline,
            hung_after=config.hung_after,
        )

    def _log_transitions(self, snapshot: Snapshot) -> None:
        last = self._logged
        for transition in snapshot.history:
            if last is None or transition.at > last:
                why = f"{transition.cause}: " if transition.cause != "none" else ""
                log.info(f"{transition.who}: {transition.old} -> {transition.new}: {why}{transition.evidence}")
        if snapshot.history:
            self._logged = snapshot.history[-1].at

    def _make_room(self, snapshot: Snapshot) -> None:
        pinned = affinity.pinned_cpus(snapshot.pmds)
        if pinned != self._pinned:
            self._pinned = pinned
            log.info(affinity.stay_off(self._affinity, pinned))

    # --- what the commands ask -----------------------------------------------------------------

    @property
    def history(self) -> list[Transition]:
        """All that is remembered, newest last: the beat's transitions and the database's."""
        beaten = self.snapshot.history if self.snapshot is not None else ()
        return sorted([*beaten, *self._database.events[-100:]], key=lambda transition: transition.at.mono)

    def facts(self) -> list[tuple[str, str]]:
        """What the main loop knows besides the snapshot, by name."""
        database = self._database
        connected = "connected" if database.connected else "not connected, trying again"
        if database.schema.status is None:
            columns = "not known"
        else:
            columns = ", ".join(sorted(database.schema.columns)) or "none: see ovs-keepalive schema apply"
        lock = "held" if database.has_lock else "held by another daemon: waiting, nothing is written"
        cpu = self._self.cpu_times()
        lived = max(1e-3, moment().wall_ms / 1000 - self._self.create_time())
        facts = [
            ("version", f"{__version__}, pid {os.getpid()}"),
            ("database", f"{self._options.remote}, {connected}"),
            ("columns", f"{columns} (schema: {self._options.config.schema})" if database.connected else "not known"),
            ("lock", lock if database.connected else "not known"),
            ("transactions", f"{database.committed} done, {database.failed} failed" + (
                f", the last with {database.last_error}" if database.last_error else "")),
            ("own cost", f"{(cpu.user + cpu.system) / lived:.2%} of a core, {self._self.memory_info().rss >> 20} MiB"),
        ]  # fmt: skip
        return facts + [("refused setting", line) for line in self._asked.rejected]

    def stop(self) -> None:
        """End the loop after this turn."""
        self._stopping = True

    # --- the end -------------------------------------------------------------------------------

    def _end(self) -> None:
        self._beat.stop()
        self._empty_columns()
        self._database.close()
        self._appctl.close()
        self._pidfile.remove()
        log.info("ovs-keepalive ended")

    def _empty_columns(self) -> None:
        """Leave nothing behind that says ALIVE."""
        if self.snapshot is None or not self._database.connected:
            return
        self._database.publish(
            replace(self.snapshot, settings=replace(self.snapshot.settings, enabled=False)), moment()
        )
        deadline = moment().mono + FAREWELL
        while not self._database.idle and moment().mono < deadline:
            poller = ovs.poller.Poller()
            self._database.wait(poller)
            poller.timer_wait(50)
            poller.block()
            self._database.run(moment())


def _catch_signals(stop: Callable[[], None]) -> tuple[socket.socket, socket.socket]:
    """Let SIGTERM and SIGINT end the loop; returns the socket that they make readable, and its other end.

    Before python-ovs installs its own: those would unlink files and kill the process with the columns still full.
    """
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop())
    for number in (signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, lambda _number, _frame: None)
    return read, write
