# SPDX-License-Identifier: Apache-2.0
"""A daemon under watch while something around it fails: whether it beats on, what it writes, what its column says."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil

from ovs_keepalive.core.model import BAD
from ovs_keepalive.formats import column
from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from tests.lab import Ticker, node
from tests.neutron import NeutronLike
from tests.subscriber import Subscriber, Told

REFRESH = 1.0  # seconds between two writes of the column in which nothing is news


class Stretch:
    """A stretch of time: how the daemon came through it. Seconds."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0
        self.beats = 0  # snapshots
        self.blind = 0.0  # for which the beat was late
        self.machine = 0.0  # that a thread of this process was late at worst …
        self.lost = 0.0  # … and in sum
        self.grown = 0  # bytes of memory

    @property
    def length(self) -> float:
        return self.end - self.begin

    def __str__(self) -> str:
        return (
            f"{self.beats} beats in {self.length:.1f} s, blind for {self.blind * 1000:.0f} ms, the machine late by up"
            f" to {self.machine * 1000:.0f} ms, {self.lost * 1000:.0f} ms in sum, memory {self.grown >> 10:+} KiB"
        )


class Watched:
    """A sandbox whose daemon and column are watched until the end; what was told stays, whoever restarts."""

    def __init__(self, sandbox: Sandbox, interval_ms: int = 500) -> None:
        self.sandbox = sandbox
        self.interval = interval_ms / 1000
        self.pid = 0
        self.neighbour = NeutronLike(sandbox, "neighbour")
        self._subscribers: list[Subscriber] = []
        self._stack = ExitStack()
        sandbox.settings(enable_keepalive=True, keepalive_interval=interval_ms)

    def __enter__(self) -> Watched:
        self._stack.enter_context(self.neighbour)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *args: str, **config: object) -> Watched:
        """Start the daemon, and wait until the column shows every PMD well."""
        self.pid = self.sandbox.start_daemon(*args, config={name.replace("_", "-"): v for name, v in config.items()})
        wait(self.is_well, "all PMDs well in the column", 20)
        self.subscribe()
        return self

    def subscribe(self) -> None:
        """Subscribe, once more if the server ended the last subscription."""
        self._subscribers.append(self._stack.enter_context(Subscriber(self.sandbox.remote)))
        wait(lambda: self._subscribers[-1].updates, "the first update", 5)

    @property
    def updates(self) -> list[Told]:
        """All that subscribers were told."""
        return [told for subscriber in self._subscribers for told in subscriber.updates]

    def states(self, name: str) -> list[str]:
        """The states that a PMD went through since the first subscription; ALIVE and SLEEP are the same."""
        states = [state for subscriber in self._subscribers for state in subscriber.states(name)]
        return [state for state, _ in itertools.groupby(states)]

    def first(self, name: str, state: str, since: float) -> Told | None:
        """The first update since then in which a PMD has this state."""
        return next((told for told in self.updates if told.at >= since and told.state(name) == state), None)

    @property
    def lies(self) -> list[str]:
        """What was told of PMDs that were well all the while."""
        return [
            f"{name} {value}"
            for told in self.updates
            for name, value in told.keepalive.items()
            if told.state(name) in BAD
        ]

    def is_well(self) -> bool:
        """Whether the column shows exactly the PMDs that there are, each well."""
        pairs = self.sandbox.column()
        states = {column.parse(value).state for value in pairs.values()}
        return bool(pairs) and set(pairs) == set(self.sandbox.pmds()) and states <= {"ALIVE", "SLEEP"}

    def wait_until_well(self, seconds: float = 15.0) -> None:
        """Wait until the column shows every PMD well."""
        wait(self.is_well, "all PMDs well in the column", seconds)

    def asks(self, *command: str) -> str:
        """What the daemon answers."""
        return self.sandbox.appctl(*command, target="ovs-keepalive")

    def status(self) -> str:
        """keepalive/status."""
        return self.asks("keepalive/status")

    def history(self) -> list[dict[str, Any]]:
        """keepalive/history, as a document."""
        lines: list[dict[str, Any]] = json.loads(self.asks("keepalive/history", "500", "--json"))
        return lines

    @property
    def is_up(self) -> bool:
        """Whether the daemon that was started still runs."""
        return self.sandbox.children.process("ovs-keepalive").poll() is None and psutil.pid_exists(self.pid)

    def said(self) -> list[str]:
        """All that the daemon wrote to stderr, its log, by lines."""
        return (self.sandbox.dir / "ovs-keepalive.log").read_text(errors="replace").splitlines()

    def count(self, words: str) -> int:
        """How many lines of the log have these words."""
        return sum(words in line for line in self.said())

    def came_through(self, lines: int) -> None:
        """Hold it to what it owes at every fault: it is up, and its log has at most so many lines, no traceback."""
        assert self.is_up, self.said()[-3:]
        self.wrote_little(lines)
        self.spared_its_neighbour()

    def spared_its_neighbour(self) -> None:
        """The client like neutron's agent is up, and still hears of changes."""
        self.sandbox.settings(told="in the end")
        wait(lambda: self.neighbour.hears('"in the end"'), "its neighbour hears", 15)

    def wrote_little(self, lines: int) -> None:
        """Hold its log to so many lines, none of a traceback."""
        said = self.said()
        assert not [line for line in said if "Traceback" in line or "Logging error" in line], said[-30:]
        assert len(said) <= lines, said[-30:]

    @contextmanager
    def stretch(self) -> Iterator[Stretch]:
        """Measure how the daemon comes through what happens meanwhile."""
        process, stretch = psutil.Process(self.pid), Stretch()
        before, memory = node(self.sandbox), process.memory_info().rss
        stretch.begin = time.monotonic()
        with Ticker() as meter:
            yield stretch
        stretch.end = time.monotonic()
        after = self._node()
        stretch.beats = after["sequence"] - before["sequence"]
        stretch.blind = (after["cost"]["own_blind_ms"] - before["cost"]["own_blind_ms"]) / 1000
        stretch.machine, stretch.lost = meter.worst, meter.lost
        stretch.grown = process.memory_info().rss - memory
        print(stretch)

    def beat_on(self, stretch: Stretch, blind: float = 0.05) -> None:
        """Hold its beat to its pace: a snapshot an interval, late for no more than this part of the time, or what the
        machine took: twice, for when it takes the CPU from the main loop the beat waits for that one, too."""
        late = blind * stretch.length + 2 * stretch.lost
        assert stretch.blind <= late, stretch
        assert stretch.beats >= (stretch.length - late) / min(self.interval, 1.0) * 0.8 - 1, stretch

    def longest_pause(self, stretch: Stretch) -> float:
        """Seconds between two updates of the column that lay furthest apart."""
        times = [told.at for told in self.updates if stretch.begin <= told.at <= stretch.end]
        points = [stretch.begin, *times, stretch.end]
        return max(after - before for before, after in itertools.pairwise(points))

    def _node(self) -> dict[str, Any]:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with suppress(OSError, SandboxError):  # a flood that ends this moment
                return node(self.sandbox)
        return node(self.sandbox)


Watch = Callable[..., Watched]
