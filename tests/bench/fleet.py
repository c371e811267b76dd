# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.fleet [HOSTS …]`: a fleet of that many hosts on three servers without fsync; a line for each.

The servers, the hosts and the reader share the machine's CPUs: what is measured here is at most that good elsewhere.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fleet_scale import measure
from tests.zookeeper import Zookeeper, planted

SERVERS = 3
RATE = 5.0  # changes a second
SECONDS = 60.0


def main(counts: list[int]) -> None:
    for count in counts:
        with (
            tempfile.TemporaryDirectory(prefix="ovs-keepalive-bench.") as directory,
            Zookeeper(Path(directory), SERVERS, fsync=False) as zookeeper,
            planted(zookeeper, timeout=20.0) as connect,
        ):
            print(f"{count} hosts: {measure(zookeeper, connect(), count, RATE, SECONDS)}", flush=True)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1000])
