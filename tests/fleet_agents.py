# SPDX-License-Identifier: Apache-2.0
"""A host of a fleet: a sandbox with its daemon and the fleet's agent on it; and what the command line says of all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ovs_keepalive.ptrace import leash
from ovs_keepalive.sandbox import Sandbox, wait
from tests import realtime
from tests.zookeeper import Zookeeper

NAME = "fleet-agent"
TIMEOUT = 4  # seconds of a session
INTERVAL = 500  # ms of the heartbeat
FAIR = ("WELL", "WARNING")  # on a busy machine PMDs are starved: ALIVE, and a warning


class FleetHost:
    """One of them. The sandbox belongs to whoever made it; the agent ends with this block."""

    def __init__(self, sandbox: Sandbox, zookeeper: Zookeeper, name: str, **fleet: object) -> None:
        """fleet: more keys of the section of the configuration, with _ for -."""
        self.sandbox, self.name = sandbox, name
        wanted = {"zookeeper": zookeeper.hosts, "node": name, "session-timeout": TIMEOUT, "refresh": 5, **fleet}
        self.config = sandbox.dir / "fleet.yaml"
        self.config.write_text(json.dumps({"fleet": {key.replace("_", "-"): value for key, value in wanted.items()}}))

    def __enter__(self) -> FleetHost:
        self.sandbox.settings(enable_keepalive=True, keepalive_interval=INTERVAL)
        if "ovs-keepalive" not in self.sandbox.children:
            self.sandbox.start_daemon()
        realtime.prefer_sandbox(self.sandbox)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if NAME in self.sandbox.children:
            self.end(signal.SIGKILL)

    def start(self) -> None:
        """Start the agent."""
        argv = [sys.executable, "-m", "ovs_keepalive", "fleet", "agent", "--config", str(self.config)]
        self.sandbox.children.start(NAME, argv, self.sandbox.env)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; its exit status."""
        return self.sandbox.children.kill(NAME, number)

    def said(self) -> str:
        """All that it logged."""
        return (self.sandbox.dir / f"{NAME}.log").read_text(errors="replace")

    def runs(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`ovs-keepalive fleet …` with its configuration."""
        argv = [sys.executable, "-m", "ovs_keepalive", "fleet", *words, "--config", str(self.config)]
        return subprocess.run(argv, env=self.sandbox.env, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def watches(self) -> Iterator[Callable[[], str]]:
        """`fleet watch`, beside this block: what it has printed."""
        path = self.sandbox.dir / "watch.txt"
        argv = [*leash(), sys.executable, "-m", "ovs_keepalive", "fleet", "watch", "--config", str(self.config)]
        with path.open("w") as out, subprocess.Popen(argv, env=self.sandbox.env, stdout=out, stderr=out) as watch:
            try:
                yield lambda: path.read_text(errors="replace")
            finally:
                watch.kill()

    def status(self) -> tuple[int, dict[str, Any]]:
        """Exit status of `fleet status`, and what it says of each host, by name."""
        done = self.runs("status", "--json")
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, {host["host"]: host for host in json.loads(done.stdout)["hosts"]}

    def until(self, condition: Callable[[dict[str, Any]], object], what: str, seconds: float = 20.0) -> float:
        """Wait until `fleet status` says that of the hosts; how long that took, seconds."""
        begin = time.monotonic()
        last: dict[str, Any] = {}

        def holds() -> bool:
            last.clear()
            last.update(self.status()[1])
            return bool(condition(last))

        wait(holds, f"{what}; last: {last}", seconds)
        return time.monotonic() - begin

    def until_it_is(self, *states: str, seconds: float = 20.0) -> float:
        """Wait until `fleet status` calls this host so."""
        return self.until(
            lambda hosts: hosts.get(self.name, {}).get("state") in states, f"{self.name} {states}", seconds
        )

    def asked(self) -> dict[str, Any]:
        """`fleet help list --json`."""
        done = self.runs("help", "list", "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document
