# SPDX-License-Identifier: Apache-2.0
"""A process that makes one move and is killed on the way: `python -m tests.offload_killed '<JSON>'`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload_act import Examined, Reinstall
from ovs_keepalive.sensors.appctl_client import AppctlClient
from ovs_keepalive.sensors.offload_journal import Journal
from ovs_keepalive.sensors.offload_writer import Writer
from tests.offload_lab import moment, move

FINISHED = 7  # status of one that made the move before it came to the step at which it was to be killed


class Watched(AppctlClient):
    """Tells of each request, when it has been sent and before its answer is read."""

    def __init__(self, path: Path, told: Callable[[str], None]) -> None:
        super().__init__(path)
        self.told = told

    def ask(self, method: str, *arguments: str) -> None:
        """As its parent."""
        super().ask(method, *arguments)
        self.told(method)


class Case(NamedTuple):
    """What the process is to do."""

    control: str
    pid: int
    start: int
    directory: str
    reinstall: str
    promoted: str
    victim: str
    method: str  # of the requests of the move that are counted; "": all
    step: int  # of these, the one at which it is killed


def main(case: Case) -> int:
    """Examine, act; killed at the step."""
    left = [-1]  # requests until the end; below 0: not yet

    def told(method: str) -> None:
        left[0] -= case.method in ("", method)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    client = Watched(Path(case.control), told)
    journal = Journal(Path(case.directory))
    writer = Writer(client, ProcessId(case.pid, case.start), journal, Reinstall(case.reinstall))
    assert writer.gate() == ""
    [examined] = writer.examine([move(case.promoted, case.victim)], moment(100.0))
    assert isinstance(examined, Examined), examined
    left[0] = case.step
    print(writer.act(examined, moment(101.5)), flush=True)
    return FINISHED


if __name__ == "__main__":
    sys.exit(main(Case(*json.loads(sys.argv[1]))))
