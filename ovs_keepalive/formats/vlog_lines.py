# SPDX-License-Identifier: Apache-2.0
"""The lines of vswitchd's log that tell of its threads; the same in OVS 2.13 to 4.0.

A line counts only as a whole and in vlog's own pattern: the name of a port, which others choose, may hold any words.
"""

from __future__ import annotations

import re

from ovs_keepalive.core.log_events import MAIN, Blocked, LogEvent, LongPoll, PmdChanged

# 2026-11-21T06:17:14.221Z|00064|        before each line; the number counts the lines of its thread
_HEAD = r"(?:[^|]{0,64}\|[0-9]{1,10}\|)?"
# ovs_rcu(urcu3)|WARN|                   the main thread is not named
_BY = r"(?:\(([!-~]{1,40})\))?"
# ovs_rcu|WARN|blocked 4001 ms waiting for pmd-c01/id:8 to quiesce             lib/ovs-rcu.c ovsrcu_synchronize()
# ovs_rcu(urcu3)|WARN|blocked 1000 ms waiting for main to quiesce
_BLOCKED = re.compile(
    _HEAD + "ovs_rcu" + _BY + r"\|WARN\|blocked ([0-9]{1,10}) ms waiting for ([!-~]{1,15}) to quiesce"
)
# timeval|WARN|Unreasonably long 21423ms poll interval (43ms user, 0ms system)    lib/timeval.c log_poll_interval()
_LONG_POLL = re.compile(
    _HEAD + "timeval" + _BY + r"\|WARN\|Unreasonably long ([0-9]{1,19})ms poll interval(?: \([^|]{1,80}\))?"
)
# dpif_netdev|INFO|PMD thread on numa_id: 0, core id:  1 destroyed.     lib/dpif-netdev.c reconfigure_pmd_threads()
# dpif_netdev|INFO|PMD thread on numa_id: 0, core id:  1 created.
_PMD = re.compile(
    _HEAD
    + r"dpif_netdev(?:\([!-~]{1,40}\))?\|INFO\|PMD thread on numa_id: -?[0-9]{1,10}, core id: +([0-9]{1,10})"
    + r" (created|destroyed)\."
)


def parse(line: str) -> LogEvent | None:
    """What a line, without its end, tells; None: nothing of this. Never raises."""
    if line.endswith(" to quiesce"):
        blocked = _BLOCKED.fullmatch(line)
        return blocked and Blocked(int(blocked[2]), blocked[3], blocked[1] or MAIN)
    if "ms poll interval" in line:
        long_poll = _LONG_POLL.fullmatch(line)
        return long_poll and LongPoll(int(long_poll[2]), long_poll[1] or MAIN)
    if line.endswith("ed."):
        pmd = _PMD.fullmatch(line)
        return pmd and PmdChanged(int(pmd[1]), pmd[2] == "created")
    return None
