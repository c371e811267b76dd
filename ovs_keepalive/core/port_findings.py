# SPDX-License-Identifier: Apache-2.0
"""What is found of a port beside its state: each is proven by what was seen, or not said."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.model import NEVER, State
from ovs_keepalive.core.places import SEARCH, WRITE, Kind, Place, allows, whose
from ovs_keepalive.core.port_states import Case, is_connected
from ovs_keepalive.core.ports import LONGEST_PATH, Beside, Counters, Finding, Peers, PortState, Reach, too_long

STILL = 30.0  # seconds in which packets for a VM are dropped and none is taken
POLLED = ("dpdk", "dpdkvhostuser", "dpdkvhostuserclient", "dummy-pmd", "afxdp")  # types that only PMD threads serve
USERSPACE = ("netdev", "dummy")  # types of datapaths that have such threads

Polled = tuple[tuple[str, str, int], ...]  # PMD, its state, queue


def beside(case: Case, state: PortState | None, polled: Polled | None) -> Iterator[Finding]:
    """All of them. polled: None where it is not known who polls the port."""
    yield from _server_mode(case)
    yield from _path(case)
    if not is_connected(case) and case.memory.connected == NEVER:  # else whoever had to was let in
        yield from _permission(case)
    if case.blind:
        return
    if polled is not None and state is not PortState.ERROR:
        yield from _not_polled(case, polled)
    if state is PortState.UP:
        yield from _not_moving(case)
    yield from _no_flow(case)


def _server_mode(case: Case) -> Iterator[Finding]:
    if case.facts.mode == "server":
        yield Finding(
            Beside.SERVER_MODE,
            f"type {case.facts.type}: vswitchd is the server of {case.facts.path}",
            "when vswitchd ends, its VM is stranded; the type is deprecated",
            f"ovs-keepalive ports migrate {case.name}",
        )


def _path(case: Case) -> Iterator[Finding]:
    if length := too_long(case.facts.path):
        if case.facts.mode == "server":
            cure = (
                "ovs-vsctl set Open_vSwitch . other_config:vhost-sock-dir=DIRECTORY with a shorter one, or a new name"
            )
        else:
            cure = (
                f"ovs-vsctl set Interface {case.name} options:vhost-server-path=PATH with a shorter one, and in its VM"
            )
        yield Finding(
            Beside.PATH_TOO_LONG,
            f"{case.facts.path}: {length} bytes, a Unix socket's path has at most {LONGEST_PATH}",
            "nobody can bind it or connect to it",
            cure,
        )


# --- permission --------------------------------------------------------------------------------


def barrier(who: Credentials, socket: Place, making: bool) -> str:
    """What keeps it from connecting to the socket, or from making it; "" when nothing is seen to."""
    for directory in socket.directories:
        if not allows(directory, who, SEARCH):
            return f"{whose(directory)}: it cannot be entered"
    if making and socket.directories:
        last = socket.directories[-1]
        return "" if allows(last, who, WRITE) else f"{whose(last)}: no socket can be made there"
    if socket.kind is Kind.SOCKET and socket.itself is not None and not allows(socket.itself, who, WRITE):
        return f"{whose(socket.itself)}: it cannot be written to"
    return ""


def _permission(case: Case) -> Iterator[Finding]:
    facts, survey = case.facts, case.survey
    if not facts.is_vhost or not isinstance(facts.socket, Place):
        return
    there = facts.socket.kind is not Kind.ABSENT
    if there and isinstance(facts.peers, Peers) and not facts.peers.listening:
        return  # nobody made this file who could be connected to: its mode says nothing
    if facts.mode == "client" and isinstance(survey.vswitchd, Credentials):
        why = barrier(survey.vswitchd, facts.socket, making=False)
        if why:
            yield _refused(case, f"vswitchd (uid {survey.vswitchd.uid})", why, f"chmod g+w -- {case.path}")
    if survey.vm is not None:
        making = facts.mode == "client" and not there
        why = barrier(survey.vm, facts.socket, making)
        if (facts.mode == "server" or making) and why:
            at = case.path if facts.mode == "server" else _directory(case)
            give = f"setfacl -m u:{shlex.quote(survey.vm_user)}:rwx -- {at}"
            yield _refused(case, f"a VM of {survey.vm_user} (uid {survey.vm.uid})", why, give)
    elif facts.mode == "server" and (why := _only_its_own(facts.socket)):
        yield _refused(
            case, "a VM of any other user", why, f"setfacl -m u:USER:rw -- {case.path} for the user of the VM"
        )


def _only_its_own(socket: Place) -> str:
    itself = socket.itself
    if socket.kind is not Kind.SOCKET or itself is None or itself.has_list or itself.mode & 0o022:
        return ""
    return f"{whose(itself)}: only uid {itself.uid} and root can write to it"


def _refused(case: Case, who: str, why: str, cure: str) -> Finding:
    verb = "connect to" if case.facts.mode == "server" or "VM" not in who else "make"
    return Finding(
        Beside.PERMISSION,
        f"{case.facts.path}: {who} may not {verb} it: {why}",
        "it is refused, and tries for ever",
        cure,
    )


def _directory(case: Case) -> str:
    return shlex.quote(case.facts.path.rpartition("/")[0] or "/")


# --- the data plane ----------------------------------------------------------------------------


def _not_polled(case: Case, polled: Polled) -> Iterator[Finding]:
    facts = case.facts
    if facts.type not in POLLED or facts.datapath not in USERSPACE or facts.ofport is None or facts.ofport < 1:
        return
    if not polled:
        yield Finding(
            Beside.NOT_POLLED,
            "no PMD thread has one of its queues",
            "nothing that comes from it is forwarded",
            "ovs-vsctl get Open_vSwitch . other_config:pmd-cpu-mask: a core of its NUMA node has to be in it; "
            "ovs-appctl dpif-netdev/pmd-rxq-show tells who polls what",
        )
    for pmd, state, queue in polled:
        if state in (State.DEAD, State.GONE):
            yield Finding(
                Beside.NOT_POLLED,
                f"{pmd}, which polls queue {queue}, is {state}",
                "nothing that comes from that queue is forwarded",
                f"ovs-appctl -t ovs-keepalive keepalive/explain {shlex.quote(pmd)}",
            )


def _not_moving(case: Case) -> Iterator[Finding]:
    now, mark = case.facts.counters, case.memory.moved
    if not isinstance(now, Counters) or mark is None or now.at - mark.at < STILL:
        return
    if case.facts.is_vhost and now.tx == mark.tx and now.tx_dropped > mark.tx_dropped:
        yield Finding(
            Beside.NOT_MOVING,
            f"packets for its VM are dropped, and it has taken none for at least {STILL:g} s",
            "the VM is connected, and its driver takes nothing: a guest that hangs, or has no driver for the device",
            "look into the guest (virsh console): is it alive, is the interface up?",
        )


def _no_flow(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if not isinstance(facts.reach, Reach) or facts.ofport is None or facts.ofport < 1:
        return
    bridge, reach = facts.bridge, facts.reach
    if not reach.flows:
        seen = f"bridge {bridge} has no flow"
    elif not reach.to and not reach.of:
        seen = f"no flow of bridge {bridge} sends to it, and none takes what comes from it"
    elif not reach.to:
        seen = f"no flow of bridge {bridge} sends to it"
    elif not reach.of:
        seen = f"no flow of bridge {bridge} takes what comes from it"
    else:
        return
    yield Finding(
        Beside.NO_FLOW,
        f"{seen} (port {facts.ofport})",
        "its packets are dropped",
        f"ovs-ofctl add-flow {shlex.quote(bridge)} actions=NORMAL; where a controller rules the bridge, ask that one",
    )
