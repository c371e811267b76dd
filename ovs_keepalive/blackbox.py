# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the black box: it remembers the last minute, sees an incident begin, and starts the collector.

Belongs to the main loop; nothing here waits. Without a usable state directory it says so, and nothing else suffers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import ovs.vlog

from ovs_keepalive import records
from ovs_keepalive.core import incident
from ovs_keepalive.core.model import BAD, ProcessId, Snapshot, Transition
from ovs_keepalive.formats import document
from ovs_keepalive.formats.plain import json_bytes
from ovs_keepalive.formats.recent import FIELDS, Recent
from ovs_keepalive.process import stand_back
from ovs_keepalive.sensors.vswitchd_log import log_path

log = ovs.vlog.Vlog("blackbox")

DEADLINE = 30.0  # seconds; the collector ends itself after 20, unless the kernel holds it
HISTORY = 100  # transitions put into a record


class BlackBox:
    """Gets every snapshot of the main loop."""

    def __init__(self, directory: Path, remote: str, pidfile: Path | None) -> None:
        self._directory = directory
        self._remote = remote
        self._pidfile = pidfile
        self._recent = Recent()
        self.watch = incident.Watch()  # what is known of incidents, also over the daemon's end
        self._process: ProcessId | None = None  # the last one known: a crash takes it out of the snapshot
        self._log: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._said: BinaryIO | None = None
        self._killed_at = 0.0  # monotonic: when the child is killed
        self._waiting: bytes | None = None  # the request of an incident that began while the child was busy
        self.refusal = ""
        self._failure = ""  # of the last record
        self._is_usable()

    def clean(self) -> None:
        """Remove what a killed run has left. Only while no other daemon may be writing there."""
        try:
            if not self.refusal:
                records.clean(self._directory)
        except OSError as error:
            log.warn(f"{self._directory}: {error.strerror}: what a killed run left there stays")

    def run(self, snapshot: Snapshot | None, now: float) -> None:
        """One turn of the main loop. now: monotonic seconds. snapshot: a new one, if there is."""
        if snapshot is not None:
            self._take(snapshot)
        if self._child is not None:
            self._attend(self._child, now)
        if self._child is None and self._waiting is not None:
            request, self._waiting = self._waiting, None
            self._start(request, now)

    def close(self) -> None:
        """A collector under way writes what it has by now."""
        if self._child is not None:
            self._child.terminate()

    @property
    def is_idle(self) -> bool:
        """Whether no record is being written."""
        return self._child is None and self._waiting is None

    @property
    def directory(self) -> Path:
        """Where the records are."""
        return self._directory

    @property
    def fact(self) -> str:
        """For `keepalive/status`."""
        now = ", a record is being written" if self._child else self._failure
        return self.refusal or f"{self._directory}{now}"

    def _take(self, snapshot: Snapshot) -> None:
        self._recent.add(snapshot)
        process = snapshot.vswitchd.process
        if process is not None and process != self._process:
            self._process = process
            self._log = log_path(process.pid)
        self.watch, began = incident.follow(self.watch, snapshot)
        if began is not None and self._is_usable():
            self._waiting = self._request(snapshot, began)

    def _is_usable(self) -> bool:
        try:
            records.prepare(self._directory)
        except records.Unusable as error:
            if str(error) != self.refusal:
                log.warn(str(error))
            self.refusal = str(error)
            return False
        self.refusal = ""
        return True

    def _request(self, snapshot: Snapshot, began: Transition) -> bytes:
        stalled = [pmd for pmd in snapshot.pmds if pmd.state in BAD]
        return json_bytes(
            {
                "directory": str(self._directory),
                "transition": document.transition_document(began),
                "node": document.node(snapshot, snapshot.at, {}),
                "history": [document.transition_document(t) for t in snapshot.history[-HISTORY:]],
                "looks": self._recent.rows(),
                "fields": FIELDS,
                "process": self._process,
                "cpus": sorted(frozenset[int]().union(*(pmd.look.cpus or () for pmd in stalled))),
                "pidfile": self._pidfile and str(self._pidfile),
                "log": self._log and str(self._log),
                "remote": self._remote,
            }
        )

    def _start(self, request: bytes, now: float) -> None:
        """A file in memory hands the request over: a pipe would have to be fed."""
        self._killed_at = now + DEADLINE
        try:
            with os.fdopen(os.memfd_create("request", os.MFD_CLOEXEC), "w+b", buffering=0) as handed:
                handed.write(request)
                handed.seek(0)
                self._said = os.fdopen(os.memfd_create("said", os.MFD_CLOEXEC), "w+b", buffering=0)
                # -P: what lies in the directory in which the daemon was started is no code of ours.
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "ovs_keepalive.collector"], stdin=handed, stdout=self._said,
                    stderr=self._said, process_group=0,
                )  # fmt: skip
            stand_back(self._child.pid)
        except OSError as error:
            log.warn(f"no incident recorded: the collector did not start: {error.strerror}")

    def _attend(self, child: subprocess.Popen[bytes], now: float) -> None:
        status = child.poll()
        if status is None:
            if now >= self._killed_at:
                child.kill()
            return
        words = ""
        if self._said is not None:
            self._said.seek(0)
            words = (self._said.read(4096).decode(errors="replace").strip().splitlines() or [""])[-1]
            self._said.close()
        self._child = self._said = None
        self._failure = f", the last record is not complete: {words or 'cut short'}" if status else ""
        if status == 0:
            log.info(f"incident {words} recorded in {self._directory}: ovs-keepalive incident show {words}")
        else:
            log.warn(f"the record of this incident is not complete: collector status {status}: {words or 'cut short'}")
