# SPDX-License-Identifier: Apache-2.0
"""The state of a port: two tables, of which the first line that matches counts. No state where none matches.

Every vhost-user port is judged by VHOST, any other one by PLAIN. What vswitchd wrote into OVSDB is believed only while
its main thread writes; after its start the rows are still those of the process before it, until it has settled.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

from ovs_keepalive.core.model import NEVER, Vswitchd, VswitchdState
from ovs_keepalive.core.places import Kind, Place
from ovs_keepalive.core.ports import Finding, Peers, PortFacts, PortMemory, PortState, Survey

SETTLE = 5.0  # seconds after vswitchd's start in which its rows are believed only with a second witness …
BELIEVE = 15.0  # … and in which a connection is
FLAPS = 3  # times that the peer left …
WINDOW = 300.0  # … within so many seconds


class Case(NamedTuple):
    """One port, and what it is judged by."""

    facts: PortFacts
    memory: PortMemory
    survey: Survey
    blind: str = ""  # why vswitchd's rows prove nothing

    @property
    def age(self) -> float:
        """Seconds for which this vswitchd has lived."""
        return self.survey.at.mono - self.survey.began

    @property
    def name(self) -> str:
        """As it stands in a command."""
        return shlex.quote(self.facts.name)

    @property
    def path(self) -> str:
        """As it stands in a command."""
        return shlex.quote(self.facts.path)


class Rule(NamedTuple):
    """One line of a table."""

    state: PortState
    seen: Callable[[Case], str]  # the evidence; "" when it does not match
    consequence: str
    cure: Callable[[Case], str]


def why_blind(vswitchd: Vswitchd, survey: Survey) -> str:
    """Why nothing that OVSDB says of ports is believed; "" when it is."""
    if survey.process is None:
        return "vswitchd does not run"
    if vswitchd.process is not None and vswitchd.process != survey.process:
        return "vswitchd is another process than the one that was looked at"
    if vswitchd.state is not VswitchdState.RUNNING and vswitchd.state is not VswitchdState.CRASH_LOOP:
        return f"vswitchd is {vswitchd.state}, what OVSDB says may be of before"
    return ""


def judge(case: Case) -> tuple[PortState | None, str]:
    """The state that this look alone proves, and what was seen for it; None, and why none is proven."""
    if why := _unproven(case):
        return None, why
    for rule in VHOST if case.facts.is_vhost else PLAIN:
        if seen := rule.seen(case):
            return rule.state, seen
    return None, f"admin_state={case.facts.admin or 'not told'}, link_state={case.facts.link or 'not told'}"


def finding(case: Case, state: PortState, seen: str) -> Finding | None:
    """What is to be told of that state; None of UP."""
    if state is PortState.UP:
        return None
    rule = next(rule for rule in (VHOST if case.facts.is_vhost else PLAIN) if rule.state is state)
    return Finding(state, seen, rule.consequence, rule.cure(case))


def is_connected(case: Case) -> bool:
    """Whether its peer is connected to the vswitchd of now: after a start its row may be of before, a socket is not."""
    if case.blind or case.facts.peer != "connected":
        return False
    return case.age >= BELIEVE or (isinstance(case.facts.peers, Peers) and case.facts.peers.connected > 0)


def _unproven(case: Case) -> str:
    facts = case.facts
    if case.blind:
        return case.blind
    if case.age < SETTLE and not is_connected(case):
        return "vswitchd has just started"
    if facts.peer == "connected" and not is_connected(case):
        return "vswitchd has just started: OVSDB says connected, no socket does"
    if facts.ofport is None and not facts.error:
        return "vswitchd has not configured it"
    if facts.is_vhost and not facts.peer and not _failed(case):
        return "vswitchd tells no status of it"
    return ""


# --- what is seen ------------------------------------------------------------------------------


def _failed(case: Case) -> str:
    facts = case.facts
    if facts.error:
        return f"error: {facts.error}"
    return "ofport is -1" if facts.ofport == -1 else ""


def _stale_bind(case: Case) -> str:
    facts = case.facts
    if facts.mode != "server" or not _failed(case) or not isinstance(facts.peers, Peers):
        return ""
    if _kind(case) is not Kind.SOCKET or facts.peers.bound or facts.peers.listening:
        return ""
    return f"{facts.path} is there, nobody listens on it, and vswitchd cannot bind it: {_failed(case)}"


def _flaps(case: Case) -> str:
    if len(recent(case.memory, case.survey.at.mono)) < FLAPS:
        return ""
    return f"its peer left at least {FLAPS} times within {WINDOW / 60:.0f} min"


def _up(case: Case) -> str:
    if case.facts.peer != "connected" or case.facts.link != "up":
        return ""
    return "connected, link up"


def _no_link(case: Case) -> str:
    if case.facts.peer != "connected":
        return ""
    return f"connected, and link_state={case.facts.link or 'not told'}: the datapath was not configured for it"


def _not_negotiated(case: Case) -> str:
    facts = case.facts
    if not isinstance(facts.peers, Peers) or not facts.peers.connected:
        return ""
    return f"a socket is connected to {facts.path}, and no vhost-user device came of it"


def _absent(case: Case) -> str:
    facts = case.facts
    if not isinstance(facts.socket, Place) or facts.socket.kind is not Kind.ABSENT:
        return ""
    return f"{facts.path}: {facts.socket.problem or 'No such file or directory'}"


def _stale_socket(case: Case) -> str:
    facts, kind = case.facts, _kind(case)
    if kind not in (None, Kind.ABSENT, Kind.SOCKET):
        return f"{facts.path} is no socket but {kind}"
    if kind is not Kind.SOCKET or not isinstance(facts.peers, Peers):
        return ""
    if facts.peers.bound if facts.mode == "server" else facts.peers.listening:
        return ""
    nobody = "vswitchd does not listen" if facts.mode == "server" else "nobody listens"
    return f"{facts.path} is there, and {nobody} on it"


def _stranded(case: Case) -> str:
    memory, survey = case.memory, case.survey
    if case.facts.mode != "server" or memory.process is None or memory.process == survey.process:
        return ""
    was, now = memory.process.pid, survey.process.pid if survey.process is not None else 0
    return f"its VM was connected to vswitchd {was}, and has not come to {now}: as the client it would have to"


def _disconnected(case: Case) -> str:
    return "" if case.memory.connected == NEVER else "its peer was connected, and is not"


def _never(case: Case) -> str:
    return "no peer has been connected since it is watched" if case.facts.peer == "disconnected" else ""


def _plain_no_link(case: Case) -> str:
    return "admin_state=up, link_state=down" if case.facts.admin == "up" and case.facts.link == "down" else ""


def _plain_up(case: Case) -> str:
    return "link_state=up" if case.facts.link == "up" else ""


def _kind(case: Case) -> Kind | None:
    return case.facts.socket.kind if isinstance(case.facts.socket, Place) else None


def recent(memory: PortMemory, now: float) -> tuple[float, ...]:
    """Monotonic times at which its peer left, of late."""
    return tuple(moment.mono for moment in memory.flaps if now - moment.mono < WINDOW)


# --- what cures it -----------------------------------------------------------------------------


def _rebind(case: Case) -> str:
    # Any change of the row would let vswitchd bind anew, too; 3.1 was seen to hang in accept(2) after that.
    restart = "ovs-keepalive upgrade-watch -- ovs-ctl restart"
    return f"rm -- {case.path} && {restart}; for good: {_migrate(case)}"


def _migrate(case: Case) -> str:
    return f"ovs-keepalive ports migrate {case.name}"


def _mend_error(case: Case) -> str:
    facts = case.facts
    if facts.is_vhost and facts.bridge and facts.datapath != "netdev":
        return f"ovs-vsctl set Bridge {shlex.quote(facts.bridge)} datapath_type=netdev"
    away = f"ovs-vsctl del-port {case.name} takes it away"
    return f"grep -F -- {case.name} in vswitchd's log says more; {away}"


def _create(case: Case) -> str:
    facts = case.facts
    if facts.mode == "server":
        bridge = shlex.quote(facts.bridge)
        made = f"ovs-vsctl add-port {bridge} {case.name} -- set Interface {case.name} type={facts.type}"
        return f"ovs-vsctl del-port {bridge} {case.name} && {made}"
    ends = isinstance(facts.socket, Place) and facts.socket.problem
    made = f"mkdir -p -- {shlex.quote(facts.path.rpartition('/')[0] or '/')}; " if ends else ""
    return f"{made}{_start(case)}"


def _clear(case: Case) -> str:
    if case.facts.mode == "server":
        return f"rm -- {case.path}; {_create(case)}"
    remove = "rmdir" if _kind(case) is Kind.DIRECTORY else "rm"
    return f"{remove} -- {case.path}, then start its VM"


def _start(case: Case) -> str:
    if case.facts.mode == "server":
        return f"start the VM with a vhost-user client on {case.path}"
    return f"start the VM whose vhost-user socket is {case.path}, with server=on (libvirt: mode='server')"


def _who(case: Case) -> str:
    return f"ss -xp | grep -F -- {case.path} names the process; restart that VM, with a virtio-net device on the socket"


GUEST = "the VM on it has no network"
VHOST = (
    Rule(PortState.STALE_BIND, _stale_bind, "the port does not exist until the file is gone: its VM has no network",
         _rebind),
    Rule(PortState.ERROR, _failed, "the port does not exist in the datapath: its VM has no network", _mend_error),
    Rule(PortState.FLAPPING, _flaps, "its packets are lost each time",
         lambda case: f"journalctl -t qemu -t libvirtd, and grep -F -- {case.path} in vswitchd's log: who closes it"),
    Rule(PortState.UP, _up, "", lambda _: ""),
    Rule(PortState.NO_LINK, _no_link, "the port does not forward, though its VM sees a device",
         lambda _: "ovs-appctl dpif-netdev/pmd-rxq-rebalance; what holds it up: "
                   "ovs-appctl -t ovs-keepalive keepalive/explain vswitchd"),
    Rule(PortState.NOT_NEGOTIATED, _not_negotiated, GUEST, _who),
    Rule(PortState.ABSENT_SOCKET, _absent, GUEST, _create),
    Rule(PortState.STALE_SOCKET, _stale_socket, GUEST, _clear),
    Rule(PortState.STRANDED, _stranded, "a VM that runs on has no network, and will not get it back by itself",
         lambda case: f"restart its VM; for good: {_migrate(case)}"),
    Rule(PortState.DISCONNECTED, _disconnected, GUEST, _start),
    Rule(PortState.NEVER_CONNECTED, _never, GUEST, _start),
)  # fmt: skip

PLAIN = (
    Rule(PortState.ERROR, _failed, "the port does not exist in the datapath", _mend_error),
    Rule(PortState.NO_LINK, _plain_no_link, "nothing goes in or out", lambda _: "the cable, or what the link is to"),
    Rule(PortState.UP, _plain_up, "", lambda _: ""),
)
