# SPDX-License-Identifier: Apache-2.0
"""The line of vswitchd's log that tells for whom a thread waits; the same in OVS 2.13 to 4.0.

It counts only as a whole and in vlog's own pattern: the name of a port, which others choose, may hold any words.
"""

from __future__ import annotations

import re

from ovs_keepalive.core.log_events import MAIN, Blocked

# 2026-11-21T06:17:14.221Z|00064|        before each line; the number counts the lines of its thread
_HEAD = r"(?:[^|]{0,64}\|[0-9]{1,10}\|)?"
# ovs_rcu(urcu3)|WARN|                   the main thread is not named
_BY = r"(?:\(([!-~]{1,40})\))?"
# ovs_rcu|WARN|blocked 4001 ms waiting for pmd-c01/id:8 to quiesce             lib/ovs-rcu.c ovsrcu_synchronize()
# ovs_rcu(urcu3)|WARN|blocked 1000 ms waiting for main to quiesce
_BLOCKED = re.compile(
    _HEAD + "ovs_rcu" + _BY + r"\|WARN\|blocked ([0-9]{1,10}) ms waiting for ([!-~]{1,15}) to quiesce"
)


def parse(line: str) -> Blocked | None:
    """What a line, without its end, tells; None: nothing of this. Never raises."""
    if not line.endswith(" to quiesce"):
        return None
    blocked = _BLOCKED.fullmatch(line)
    return blocked and Blocked(int(blocked[2]), blocked[3], blocked[1] or MAIN)
