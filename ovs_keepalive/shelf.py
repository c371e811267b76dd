# SPDX-License-Identifier: Apache-2.0
"""Where the daemon's memory outlives it: a file in the state directory, and systemd's store of descriptors.

A thread of its own writes, the newest memory only: a disk that hangs holds up that thread and nothing else. The file is
written beside and renamed, so that it is whole or the one before. It is not synced: what a crash of the host would
lose is of another boot then, and would not be gone by.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import ovs.vlog

from ovs_keepalive import records
from ovs_keepalive.beat import moment
from ovs_keepalive.core.memory import Memory, refusal
from ovs_keepalive.core.model import Moment, ProcessId, Snapshot
from ovs_keepalive.core.ports import PortsMemory
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.core.settings import Asked
from ovs_keepalive.formats import memory as form

log = ovs.vlog.Vlog("shelf")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
REFRESH = 600.0  # seconds between two writes while nothing happens: well below memory.OLDEST
REST = 20.0  # times what a write took pass until the next one, whatever flaps …
SHORTEST, LONGEST = 0.02, 1.0  # … but no less and no more seconds than these
PATIENCE = 1.0  # seconds that reading at the start, or the last write, may take


class Store(Protocol):
    """systemd's store of descriptors, if there is one."""

    def keep(self, descriptor: int) -> None:
        """Keep this one, and no other."""

    def drop(self) -> None:
        """Keep none."""


class Shelf:
    """follow() and put() belong to the main loop and never wait."""

    def __init__(self, directory: Path, pidfile: Path, store: Store) -> None:
        """pidfile: of this daemon, by which it is told from others."""
        self.path = directory / f"{pidfile.stem}.memory"
        self.refusal = ""  # why nothing can be kept in the directory
        self._directory = directory
        self._pidfile = str(pidfile)
        self._store = store
        self._kept: object = None  # what it said …
        self._kept_at = 0.0  # … and when: monotonic
        self._boot = BOOT_ID.read_text().strip()
        self._news = threading.Condition()
        self._waiting: Memory | None = None
        self._busy = self._over = False
        self._thread: threading.Thread | None = None
        self._repeats = Repeats()
        self.ports = PortsMemory()  # of the newest document of this boot, also of one that is not gone by

    @property
    def fact(self) -> str:
        """For keepalive/status."""
        return self.refusal or str(self.path)

    def encoded(self, memory: Memory) -> bytes:
        """A memory as a document of this boot and daemon."""
        return form.encode(memory, self._boot, self._pidfile)

    def decoded(self, document: bytes) -> Memory:
        """A document of this boot and daemon. Raises form.Unusable."""
        return form.decode(document, self._boot, self._pidfile)

    def recall(self, stored: Iterable[int], now: Moment, present: ProcessId | None) -> Memory | None:
        """What an earlier daemon has left, if it can be gone by; one line of the log says which it is.

        stored: descriptors that systemd has kept, closed here. present: the vswitchd process of now.
        """
        found: list[Memory] = []
        read_at_all: list[Memory] = []
        why: list[str] = []
        documents = iter(self._documents(stored))

        def read() -> None:
            for name, document in documents:
                try:
                    memory = self.decoded(document)
                except form.Unusable as error:
                    why.append(f"{name}: {error}")
                    continue
                read_at_all.append(memory)
                if reason := refusal(memory, now, present):
                    why.append(f"{name}: {reason}")
                else:
                    found.append(memory)

        reader = threading.Thread(target=read, name="recall", daemon=True)
        reader.start()
        reader.join(PATIENCE)
        if reader.is_alive():
            why.append(f"{self.path}: not read within {PATIENCE:g} s")
        if past := [memory for memory in read_at_all if memory.at.mono <= now.mono]:
            self.ports = max(past, key=lambda memory: memory.at.mono).ports
        newest = max(found, key=lambda memory: memory.at.mono, default=None)
        if newest is not None:
            log.info(f"going on from what {newest.daemon} knew {now.mono - newest.at.mono:.1f} s ago")
        elif why:
            log.info(f"what an earlier daemon knew is not gone by: {why[-1]}")
        return newest

    def _documents(self, stored: Iterable[int]) -> Iterable[tuple[str, bytes]]:
        for descriptor in stored:
            with suppress(OSError), os.fdopen(descriptor, "rb") as kept:
                kept.seek(0)
                yield "systemd's store", kept.read(form.LARGEST)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                yield str(self.path), file.read(form.LARGEST)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warn(f"{self.path}: {error.strerror}: what was known before is not")

    def follow(self, snapshot: Snapshot, asked: Asked, note: Callable[[], Memory]) -> None:
        """Keep what is known when something has happened, and from time to time. note: notes it."""
        # What is known of a restart to come makes no transition of the beat's.
        news = (snapshot.history[-1:], asked, snapshot.settings.plan, snapshot.settings.flow_restored)
        if news != self._kept or snapshot.at.mono - self._kept_at >= REFRESH:
            self._kept, self._kept_at = news, snapshot.at.mono
            self.put(note())

    def forget(self) -> None:
        """Leave nothing: what is known led to a failure, and would again. Waits for a write, but not for long."""
        with self._news:
            self._waiting = None
            written = self._news.wait_for(lambda: not self._busy, PATIENCE)
        if not written:
            why = f"not written within {PATIENCE:g} s: remove it if the next start fails as this one did"
            log.warn(f"{self.path}: {why}")
        self._store.drop()
        with suppress(OSError):  # it never was there
            self.path.unlink()

    def put(self, memory: Memory) -> None:
        """Keep this one."""
        with self._news:
            self._waiting = memory
            self._news.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_on, name="shelf", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """See the last one written, but not for long."""
        with self._news:
            self._over = True
            self._news.notify_all()
            written = self._news.wait_for(lambda: self._waiting is None and not self._busy, PATIENCE)
        if not written:
            log.warn(f"{self.path}: not written within {PATIENCE:g} s: the next start knows what was written before")

    def _write_on(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting is not None or self._over)
                memory, self._waiting = self._waiting, None
                self._busy = memory is not None
            if memory is None:
                return
            began = moment().mono
            self._write(self.encoded(memory), memory.at.mono)
            rest = min(max(REST * (moment().mono - began), SHORTEST), LONGEST)
            with self._news:
                self._busy = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._over, rest)

    def _write(self, document: bytes, now: float) -> None:
        """systemd's store first: it has no disk."""
        try:
            descriptor = os.memfd_create("memory", os.MFD_CLOEXEC)
            with os.fdopen(descriptor, "wb") as kept:
                kept.write(document)
                kept.flush()
                self._store.keep(descriptor)
            records.prepare(self._directory)
            self._replace(document)
        except records.Unusable:  # which the black box has said
            self.refusal = f"nothing can be kept in {self._directory}"
        except OSError as error:
            self.refusal = f"{self.path}: {error.strerror}"
            if line := self._repeats.line("unwritten", f"{self.refusal}: a new start will not know what is now", now):
                log.warn(line)
        else:
            self.refusal = ""

    def _replace(self, document: bytes) -> None:
        half = self.path.with_suffix(".tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(half, flags, 0o640), "wb") as file:
            file.write(document)
        half.replace(self.path)
