# SPDX-License-Identifier: Apache-2.0
"""The composition root: the sensors, the publishers, the main loop, the signals."""

from __future__ import annotations

import gc
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ovs.poller
import ovs.util
import ovs.vlog

from ovs_keepalive import __version__, dirs
from ovs_keepalive.affinity import Room
from ovs_keepalive.beat import moment
from ovs_keepalive.blackbox import BlackBox
from ovs_keepalive.chronicle import Chronicle
from ovs_keepalive.commands import Commands
from ovs_keepalive.config import Options, merged
from ovs_keepalive.config_file import Invalid, load
from ovs_keepalive.core import settings as live
from ovs_keepalive.core.memory import Memory
from ovs_keepalive.core.model import Moment, Settings, Snapshot, Transition
from ovs_keepalive.core.settings import Offload
from ovs_keepalive.lasting import LastingBeat, whose
from ovs_keepalive.offload import PART, OffloadChild, OffloadWatch
from ovs_keepalive.ports import PortWatch
from ovs_keepalive.presence import Presence
from ovs_keepalive.process import catch_signals, ignore_signals, raise_descriptor_limit
from ovs_keepalive.publishers.appctl_server import AppctlServer
from ovs_keepalive.publishers.board import Shown
from ovs_keepalive.publishers.columns import Columns
from ovs_keepalive.publishers.hooks import Hooks
from ovs_keepalive.publishers.http import WebServer
from ovs_keepalive.publishers.mirror import COLUMN as MIRRORED
from ovs_keepalive.publishers.mirror import Mirror
from ovs_keepalive.publishers.prometheus import Exposition
from ovs_keepalive.publishers.schema_auto import SchemaKeeper
from ovs_keepalive.publishers.session import Session
from ovs_keepalive.publishers.systemd import Notifier
from ovs_keepalive.publishers.weight import Weight
from ovs_keepalive.restarts import Restarts
from ovs_keepalive.sensors.switches import event_witness
from ovs_keepalive.sensors.vswitchd import VswitchdSensor
from ovs_keepalive.shelf import Shelf
from ovs_keepalive.slot import Slot
from ovs_keepalive.survey_child import SurveyChild, order_of
from ovs_keepalive.upgrade import Parts, Upgrade

log = ovs.vlog.Vlog("ovs_keepalive")

FAREWELL = 2.0  # seconds that a clean stop may take to empty the columns
WEIGH = 1.0  # seconds between two looks at oneself
AT_ONCE = 1.0  # seconds between two reloads; the turn that a snapshot makes follows within as much
SWITCH = 0.0005  # seconds; with Python's own 5 ms a busy main loop would delay the beat (measured: DESIGN section 2)


class Daemon:
    """One run of the daemon: `loop()` returns the exit status."""

    def __init__(self, options: Options) -> None:
        """Raises pidfile.Taken, or OSError when the pidfile or the control socket cannot be made."""
        ovs.util.PROGRAM_NAME = "ovs-keepalive"
        sys.setswitchinterval(SWITCH)
        # python-ovs polls with select(2), which fails on descriptors from 1024 on; poll(2) takes its place.
        ovs.poller.SelectPoll = select.poll
        raise_descriptor_limit()
        self._options = options
        self._stopping = self._reloading = self._is_lost = False
        self._reloaded = float("-inf")  # monotonic
        self._wakeup, self._wakeup_end = catch_signals(self.stop, self.reload)
        self._notifier = Notifier(os.environ, os.getpid())
        self._presence = Presence(options.pidfile)
        self._claim()
        control = options.pidfile.parent / f"ovs-keepalive.{os.getpid()}.ctl"
        self._appctl = AppctlServer(str(control), __version__)
        self._slot = Slot()
        self._asked = live.Asked()
        self._other_config: Mapping[str, str] | None = None  # from which they were read
        self._config = config = options.config
        mirrors = config.mirror == "external_ids"
        self._session = Session(options.remote, ["other_config", *([MIRRORED] if mirrors else [])])
        self.restarts = Restarts(self._session.note, lambda: self._beat.change(self._settings()))
        who, switches = VswitchdSensor(dirs.rundir(), options.vswitchd_pidfile), event_witness(config.event_witness)
        self._beat = LastingBeat(who, self._settings(), self._slot, switches=switches)
        self._columns = Columns(self._session, config.refresh / 1000, __version__, os.getpid())
        self._mirror = Mirror(self._session) if mirrors else None
        self._keeper = self._keep_schema()
        self.blackbox = BlackBox(Path(config.state_dir), options.remote, options.vswitchd_pidfile)
        self._hooks = Hooks(config.hooks)
        child = SurveyChild(order_of(config, options.remote, options.vswitchd_pidfile))
        self.ports = PortWatch(child, config.ports_period, self._session.note)
        self.offload = OffloadWatch(OffloadChild(config.state_dir, options.vswitchd_pidfile), self._session.note)
        self._own = Weight(moment())
        self._exposition = Exposition(__version__, self._own)
        self._web = WebServer(options.listen, moment, self._exposition.render) if options.listen is not None else None
        self._room = Room(os.sched_getaffinity(0))
        self._facts: dict[str, str] = {}  # as the web shows them …
        self._weighed = float("-inf")  # … and when they were asked for: monotonic
        self._chronicle = Chronicle()
        self.snapshot: Snapshot | None = None
        Commands(self._appctl, self).register()
        self._shelf = Shelf(Path(config.state_dir), options.pidfile, self._notifier)
        self._recall(who)
        self._upgrade = Upgrade(Parts(
            self._beat, self._shelf, self._session, self._appctl, self._web, self._notifier, Path(control), self.memory,
            lambda: self._is_idle() and self.blackbox.is_idle and self._hooks.is_idle,
            lambda: self._stopping, self._presence.reclaim,
        ))  # fmt: skip

    def loop(self) -> int:
        """Watch until told to stop. 0 after a clean stop, 1 when the heartbeat failed or only a new start can go on."""
        log.info(f"ovs-keepalive {__version__}, database {self._options.remote}")
        gc.freeze()  # what is imported by now lives as long as the daemon: no collection need walk it
        self._beat.start()
        try:
            while not self._stopping:
                self._turn()
                if self._beat.failure is not None:
                    log.emer(f"the beat thread failed: {self._beat.failure!r}: the daemon ends")
                    return 1
                if self._is_lost:
                    return 1
                self._block()
            return 0
        finally:
            self._end()

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = moment()
        if self._reloading and now.mono - self._reloaded >= AT_ONCE:
            self._reload(now)
        self._run_database(now)
        self._take_settings()
        snapshot = self._slot.take()
        if snapshot is not None:
            self._tell(snapshot, now)
        self._hooks.run(now.mono)
        self.blackbox.run(snapshot, now.mono)
        self.ports.run(now.mono, self.snapshot)
        self.offload.run(now, self.snapshot)
        if self._keeper is not None:
            self._keeper.run(now, self.snapshot, self._session.may_write)
        if self._web is not None:
            self._web.run(now.mono)
        self._appctl.run(now.mono)
        self._upgrade.run(now.mono)

    def _tell(self, snapshot: Snapshot, now: Moment) -> None:
        self.snapshot = snapshot
        self._is_lost = not self._presence.look(self._appctl, now.mono)
        self._publish(snapshot, now)
        self._chronicle.publish(snapshot)
        self.restarts.follow(snapshot)
        self._room.make(self._config.affinity, snapshot.pmds)
        self._notifier.publish(snapshot)
        self._hooks.publish(snapshot)
        self._show(snapshot)
        self._shelf.follow(snapshot, self._asked, self.memory)

    def _run_database(self, now: Moment) -> None:
        self._session.run(now)
        self._columns.run(now)
        if self._mirror is not None:
            self._mirror.run(now)

    def _publish(self, snapshot: Snapshot, now: Moment) -> None:
        self._columns.beside = (self.ports.pairs, self.offload.pairs)
        self._columns.publish(snapshot, now)
        if self._mirror is not None:
            self._mirror.publish(snapshot)
            self._mirror.run(now)

    def _show(self, snapshot: Snapshot) -> None:
        if self._web is None:
            return
        if snapshot.at.mono - self._weighed >= WEIGH:
            self._weighed, self._facts = snapshot.at.mono, dict(self.facts())
        self._exposition.ports, self._exposition.offload = self.ports.metric, self.offload.numbers
        self._exposition.take(snapshot, self._columns.committed, self._columns.failed)
        self._web.publish(Shown(snapshot, self._facts, tuple(self.events), self.ports.told, self.offload.netdevs))

    def _block(self) -> None:
        poller = ovs.poller.Poller()
        poller.fd_wait(self._slot.fileno(), ovs.poller.POLLIN)
        poller.fd_wait(self._wakeup.fileno(), ovs.poller.POLLIN)
        self._session.wait(poller)
        self._columns.wait(poller)
        self._appctl.wait(poller)
        self._upgrade.wait(poller)
        self._hooks.wait(poller)
        self.ports.wait(poller)
        self.offload.wait(poller)
        poller.block()
        try:
            self._wakeup.recv(64)
        except BlockingIOError:
            return

    def _take_settings(self) -> None:
        other_config = self._session.map("other_config")
        if other_config is None or other_config is self._other_config:
            return  # while the database is away the last settings hold
        self._other_config = other_config
        self.restarts.take(other_config, moment())
        asked = live.read(other_config, self._asked)
        for line in asked.rejected:
            if line not in self._asked.rejected:
                log.warn(line)
        if asked[:2] != self._asked[:2]:
            state = "enabled" if asked.enabled else "disabled"
            log.info(f"keepalive {state}, interval {asked.interval_ms} ms")
        self._asked = asked
        self.offload.take(other_config, asked, self._config)
        self._beat.change(self._settings())

    def _settings(self) -> Settings:
        config = self._config
        return Settings(
            enabled=self._asked.enabled,
            interval=self._asked.interval_ms / 1000,
            max_main_share=config.max_main_share / 100 * (1 if self._asked.offload is Offload.OFF else 1 - PART),
            restart_deadline=config.restart_deadline,
            hung_after=config.hung_after,
            # A successor beats before its main loop has turned once: it asks the session itself.
            nap=live.longest_nap(self._session.map("other_config") or self._other_config or {}),
            plan=self.restarts.plan,
            flow_restored=self.restarts.flow_restored,
        )

    def _reload(self, now: Moment) -> None:
        """Take what the file says now, as far as it can be taken live; a file in error changes nothing."""
        self._reloading, self._reloaded = False, now.mono
        self._notifier.reloading(now)
        try:
            self._config, lines = merged(self._config, load(self._options.config_file))
        except Invalid as error:
            self._chronicle.tell("configuration", f"{error}; the configuration in force stays", now.mono, log.warn)
        else:
            for said in lines or ("nothing has changed",):
                self._chronicle.tell(said, f"configuration read anew: {said}", now.mono, log.info)
            self._columns.refresh = self._config.refresh / 1000
            self._hooks.directory = self._config.hooks
            self.offload.take(self._other_config or {}, self._asked, self._config)
            self.ports.period = self._config.ports_period
            if (self._keeper is not None) != (self._config.schema == "auto"):  # else it goes on, with its memory
                self._keeper = self._keep_schema()
            self._beat.change(self._settings())
        self._notifier.reloaded()

    def _keep_schema(self) -> SchemaKeeper | None:
        return SchemaKeeper(self._columns.schema) if self._config.schema == "auto" else None

    # --- what is known over an end -------------------------------------------------------------

    def memory(self) -> Memory:
        """All that whoever comes next has to know."""
        ledger, counted_to, cpu = self._exposition.counted
        return Memory(
            beating=self._beat.noted(),  # before the time is taken: its thread goes on, and no time in it may be later
            at=moment(),
            daemon=whose(),
            asked=self._asked,
            events=tuple(self._session.events),
            watch=self.blackbox.watch,
            committed=self._columns.committed,
            failed=self._columns.failed,
            ledger=ledger,
            counted_to=counted_to,
            cpu=cpu,
            told=self._chronicle.told,
            affinity=tuple(sorted(self._room.inherited)),
            plan=self.restarts.plan,
            flow_restored=self.restarts.flow_restored,
            ports=self.ports.memory,
        )

    def _claim(self) -> None:
        self._presence.claim()

    def _recall(self, who: VswitchdSensor) -> None:
        """Go on from what an earlier daemon has left, if anything."""
        self.blackbox.clean()
        now = moment()
        memory = self._shelf.recall(self._notifier.handed, now, who.glance(now))
        if memory is not None:
            why = f"{memory.daemon}, last noted {now.mono - memory.at.mono:.1f} s before"
            self._go_on_from(memory, Transition(now, "daemon", "away", "back", "none", why))
        self.ports.memory = self._shelf.ports  # it tells of which vswitchd it is, and holds for the next one too

    def _go_on_from(self, memory: Memory, gap: Transition | None) -> None:
        self._asked = memory.asked
        self.restarts.plan, self.restarts.flow_restored = memory.plan, memory.flow_restored
        self._beat.go_on_from(memory.beating, self._settings(), moment(), gap)
        self._session.events = list(memory.events)
        self.blackbox.watch = memory.watch
        self._columns.go_on_from(memory.beating.pmds, memory.committed, memory.failed)
        self._exposition.go_on_from(memory.ledger, memory.counted_to, memory.cpu)
        self._chronicle.told = memory.told
        self._hooks.go_on_from(memory.told)
        self.ports.memory = memory.ports

    # --- what the commands ask -----------------------------------------------------------------

    @property
    def events(self) -> list[Transition]:
        """The database's transitions; the beat's own are in its snapshots."""
        return self._session.events

    def facts(self) -> list[tuple[str, str]]:
        """What the main loop knows besides the snapshot, by name."""
        now = moment()
        facts = [
            ("version", f"{__version__}, pid {os.getpid()}"),
            *self._columns.facts(self._config.schema, now),
            ("incidents", self.blackbox.fact),
            ("memory", self._shelf.fact),
            *([("upgrade", self._upgrade.fact)] if self._upgrade.fact else []),
            ("hooks", self._hooks.fact),
            ("ports", self.ports.fact),
            ("offload", self.offload.fact),
            ("own cost", f"{self._own.share(now):.2%} of a core, {self._own.rss >> 20} MiB"),
        ]  # fmt: skip
        if self._web is not None:
            facts.append(("web", self._web.fact))
        if self._mirror is not None:
            facts.append(("mirror", self._mirror.fact))
        return facts + [("refused setting", line) for line in self._asked.rejected]

    def stop(self) -> None:
        """End the loop after this turn."""
        self._stopping = True

    def upgrade(self, python: str | None) -> int:
        """Begin to hand over to a successor, of this interpreter or another; its pid. Raises upgrade.Refused."""
        return self._upgrade.begin(python)

    def reload(self) -> None:
        """Read the configuration anew in the next turn."""
        self._reloading = True

    # --- the end -------------------------------------------------------------------------------

    def _end(self) -> None:
        self._notifier.stopping()
        self._upgrade.cancel()
        self._beat.stop()
        if self._beat.failure is None:
            self._shelf.put(self.memory())
        else:
            self._shelf.forget()
        self.blackbox.close()
        self.ports.close()
        self.offload.close(moment().mono)
        self._empty_columns()
        self._hooks.close()
        self._session.close()
        self._appctl.close()
        if self._web is not None:
            self._web.close()
        self._presence.close()
        self._shelf.close()
        self._notifier.close()
        log.info("ovs-keepalive ended")
        ignore_signals()

    def _empty_columns(self) -> None:
        """Leave nothing behind that says ALIVE."""
        if self.snapshot is None or not (self._session.may_write or self._columns.committed):
            return
        disabled = replace(self.snapshot, settings=replace(self.snapshot.settings, enabled=False))
        deadline = moment().mono + FAREWELL
        while moment().mono < deadline and not self._session.lock_is_anothers:  # who writes now
            self._publish(disabled, moment())  # a transaction that failed is not repeated by itself
            if self._columns.are_empty and (self._mirror is None or self._mirror.idle):
                return
            poller = ovs.poller.Poller()
            self._session.wait(poller)
            poller.timer_wait(50)
            poller.block()
            self._run_database(moment())
        if self._session.lock_is_anothers:
            return
        why = self._columns.last_error or f"no answer from {self._session.remote} for {FAREWELL:g} s"
        log.warn(f"the columns could not be emptied: {why}")

    def _is_idle(self) -> bool:
        return self._columns.idle and (self._mirror is None or self._mirror.idle)
