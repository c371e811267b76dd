# SPDX-License-Identifier: Apache-2.0
"""vswitchd's other threads: handlers, revalidators, urcu, vhost, offload. No verdict, but warnings."""

from __future__ import annotations

from collections.abc import Iterator

from ovs_keepalive.core.model import Moment, Other, Others, OtherThread, Seen

LONG = 10.0  # seconds in state D from which on it is told
# Kinds of which one at least lives as long as there are PMDs (lib/ovs-rcu.c, ofproto/ofproto-dpif-upcall.c): when their
# number is changed all of them end and others begin. Every other kind comes and goes with ports and settings.
LASTING = ("handler", "revalidator", "urcu")


def judge(was: Others, seen: Seen[tuple[OtherThread, ...]], has_pmds: bool) -> Others:
    """All of them after this look. has_pmds: whether there is a datapath to serve."""
    known = {other.thread: other for other in was.threads}  # in the same state as before
    threads = [known.get(thread, Other(thread, seen.at)) for thread in seen.value]
    there = {kind(thread.name) for thread in seen.value}
    gone = {kind(other.thread.name): seen.at for other in was.threads} | dict(was.gone)
    left = ((name, since) for name, since in gone.items() if name in LASTING and name not in there)
    by_name = sorted(threads, key=lambda other: (other.thread.name, other.thread.id.tid))
    return Others(tuple(by_name), tuple(sorted(left)) if has_pmds else ())


def kind(name: str) -> str:
    """handler, for handler12: OVS numbers its threads."""
    return name.rstrip("0123456789") or name


def warnings(others: Others, now: Moment) -> Iterator[str]:
    """What an operator should know of them, a clause each."""
    for thread, since in others.threads:
        who = f"{thread.name} (tid {thread.id.tid})"
        if thread.state == "t":
            yield f"{who} is held by a debugger or tracer"
        elif thread.state == "D" and now.mono - since.mono >= LONG:
            yield f"{who} waits in the kernel, where no signal reaches it, for {now.mono - since.mono:.0f} s"
    for name, since in others.gone:
        yield f"no {name} thread is left for {now.mono - since.mono:.0f} s"
