# SPDX-License-Identifier: Apache-2.0
"""Whether a PMD thread stalls: looked at before a command line changes ports.

Whoever changes a port waits in vswitchd's main thread until every PMD has taken that in. One PMD that stalls makes a
vswitchd that has answered so far answer nobody, for as long as it stalls.
"""

from __future__ import annotations

import json
import select
from collections.abc import Mapping
from pathlib import Path

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import BAD, Cause, NotSeen, Seen, VswitchdState
from ovs_keepalive.formats import node
from ovs_keepalive.question import daemon_socket, standing
from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask
from ovs_keepalive.sensors.questions import Answers, Kind, Questions
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

PATIENCE = 5.0  # seconds for an answer
PAUSE = 0.25  # seconds between two looks
LONGEST = 1.0  # seconds without an iteration that say of a PMD that it stalls: its longest nap is 10 ms
# In a crash loop the present process runs like any other, and taking a port away may be what ends the loop.
RUNS = (VswitchdState.RUNNING, VswitchdState.CRASH_LOOP)
EXPLAIN = "see ovs-appctl -t ovs-keepalive keepalive/explain"
HANGS = "vswitchd would wait for it and answer nobody meanwhile"


class _Silent(Exception):
    """vswitchd does not answer."""


def objection(rundir: Path, pidfile: Path | None) -> str:
    """Why no port is to be changed now, in one line with the cure; "" if nothing is known to speak against it.

    The daemon tells at once, and by name. That it tells nothing proves nothing: its interval may be an hour. So
    vswitchd's own counters are looked at besides. pidfile: vswitchd's; None: any in rundir.
    """
    sensor = VswitchdSensor(rundir, pidfile)
    found, _ = sensor.look(moment())
    sensor.close()
    if isinstance(found, NotSeen):  # there is nobody to hold up
        return ""
    return _told(rundir) or _seen(found.value.control_socket)


def _told(rundir: Path) -> str:
    """What the daemon knows against it."""
    try:
        known = node.read(json.loads(ask(daemon_socket(rundir), PATIENCE, "keepalive/status", "--json")))
    except (NoAnswer, Refused, ValueError, RecursionError):  # there is none, or one of another version
        return ""
    if not known.enabled or standing(known.age_ms / 1000):  # it does not look
        return ""
    if known.vswitchd.state not in RUNS:
        return f"vswitchd is {known.vswitchd.state}: wait until it is RUNNING: {EXPLAIN} vswitchd"
    for pmd in known.pmds:
        # Those of a process that has ended are told for a while yet, and hold up nobody.
        if pmd.state in BAD and pmd.cause != Cause.PROCESS_GONE:
            return f"{pmd.name} is {pmd.state} ({pmd.cause}): {HANGS}: {EXPLAIN} {pmd.name}"
    return ""


def _seen(control: Path) -> str:
    """What vswitchd's counters say against it; "" where it has none, or none that can be read."""
    questions = Questions(control)
    try:
        first, began = _iterations(questions), moment().mono
        stalled, lasted = first, 0.0
        while stalled and lasted < LONGEST:
            select.select([], [], [], PAUSE)
            now, lasted = _iterations(questions), moment().mono - began
            stalled = {pmd: count for pmd, count in stalled.items() if now.get(pmd) == count}
    except _Silent:
        silent = f"vswitchd has not answered for {PATIENCE:g} s, and a PMD may be what it waits for"
        return f"{silent}: try again, or restart it"
    finally:
        questions.close()
    if not stalled:
        return ""
    cores = ", ".join(str(core) for _, core in sorted(stalled))
    cure = "ovs-keepalive show tells why, while its daemon runs and other_config:enable-keepalive is true"
    return f"the PMD on core {cores} has finished no iteration for {lasted:.1f} s: {HANGS}: {cure}"


def _iterations(questions: Questions) -> Mapping[tuple[str, int], int]:
    """Of the PMDs that poll something, by datapath and core: the others sleep until they are given an rxq.

    Raises _Silent.
    """
    rxqs, counters = _answer(questions, Kind.RXQS).rxqs, _answer(questions, Kind.COUNTERS).counters
    if not isinstance(rxqs, Seen) or not isinstance(counters, Seen):
        return {}
    polling = {(pmd.datapath, pmd.core) for pmd in rxqs.value if pmd.rxqs}
    known = {(block.datapath, block.core): block.iterations for block in counters.value}
    return {pmd: count for pmd, count in known.items() if count is not None and pmd in polling}


def _answer(questions: Questions, kind: Kind) -> Answers:
    """What vswitchd answers, waited for. Raises _Silent."""
    until = moment().mono + PATIENCE
    answers = questions.ask(kind, moment())
    while answers.is_empty:
        if (left := until - moment().mono) <= 0:
            raise _Silent
        descriptor, events = questions.awaited
        assert descriptor is not None  # noqa: S101 -- it owes an answer
        poll = select.poll()
        poll.register(descriptor, events)
        poll.poll(left * 1000)
        answers = questions.receive(moment())
    return answers
