# SPDX-License-Identifier: Apache-2.0
"""What an expert looks at before a vhost-user port is added, moved or taken away: facts in, the first objection out.

Each check is a small function that answers with one line, or "" when it has nothing against it; the tuples at the end
say which are made for which verb, and in which order. What the file system has to say is in core/places.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.ports import LONGEST_PATH, VHOST, too_long

SERVER, CLIENT = VHOST
PATH_OPTION = "vhost-server-path"
LONGEST_NAME = 15  # bytes of a port's name that OpenFlow 1.0 to 1.5 carries: a longer one is cut
HIGHEST_OFPORT = 65279  # OpenFlow keeps 65280 and above for itself (OFPP_MAX)
MOST_QUEUES = 128  # pairs of queues that DPDK's vhost library serves (VHOST_MAX_QUEUE_PAIRS)
TENANT_KEYS = ("neutron", "ovn", "ct-zone-", "iface-id")  # how keys begin that Neutron and OVN set

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_PATH = re.compile(r"[A-Za-z0-9_.@:=/+-]*")


class Iface(NamedTuple):
    """A row of Interface, as far as it matters here."""

    name: str
    type: str
    options: Mapping[str, str] = {}
    ofport: int | None = None  # -1: vswitchd could not open it
    requested: int | None = None
    error: str = ""
    status: Mapping[str, str] = {}
    external_ids: Mapping[str, str] = {}

    @property
    def connected(self) -> bool:
        """Whether a VM uses it now, as vswitchd says."""
        return self.status.get("status") == "connected"


class Port(NamedTuple):
    """A row of Port: a bond has several interfaces."""

    name: str
    interfaces: tuple[Iface, ...]


class Bridge(NamedTuple):
    """A row of Bridge."""

    name: str
    datapath: str  # datapath_type; "" is the kernel's
    ports: tuple[Port, ...] = ()
    controllers: tuple[str, ...] = ()  # their targets
    fail_mode: str = ""
    external_ids: Mapping[str, str] = {}


class Switch(NamedTuple):
    """What the database says of all."""

    bridges: tuple[Bridge, ...]
    other_config: Mapping[str, str] = {}
    external_ids: Mapping[str, str] = {}
    types: frozenset[str] = frozenset()  # iface_types: what this vswitchd can make
    dpdk: bool = False  # dpdk_initialized

    def bridge(self, name: str) -> Bridge | None:
        """The one of that name."""
        return next((bridge for bridge in self.bridges if bridge.name == name), None)

    def find(self, name: str) -> tuple[Bridge, Port] | None:
        """The port of that name, and its bridge."""
        for bridge in self.bridges:
            for port in bridge.ports:
                if port.name == name:
                    return bridge, port
        return None

    def interfaces(self) -> Iterable[Iface]:
        """All of them."""
        return (iface for bridge in self.bridges for port in bridge.ports for iface in port.interfaces)


class Wish(NamedTuple):
    """What a person asks for: `bridge` is "" where the port's own is meant."""

    name: str
    bridge: str = ""
    path: str = ""  # of the socket
    server: bool = False  # the legacy kind
    ofport: int | None = None
    queues: int = 1
    normal_flow: bool = False
    force: bool = False


Check = Callable[[Wish, Switch], str]


def first_objection(checks: Iterable[Check], wish: Wish, switch: Switch) -> str:
    """What the first check that objects has to say; "" when none does."""
    return next(filter(None, (check(wish, switch) for check in checks)), "")


# --- the wish itself ------------------------------------------------------------------------------


def bad_name(wish: Wish, _: Switch) -> str:
    """A new port's name has to survive OpenFlow, a shell, a libvirt definition and a file name."""
    name = wish.name
    if not _NAME.fullmatch(name) or name in (".", ".."):
        return f"NAME {short(name)}: only letters, digits, _ . and - may be in it, and no - at its beginning"
    if len(name) > LONGEST_NAME:
        return (
            f"NAME {short(name)}: {len(name)} characters; OpenFlow cuts it after {LONGEST_NAME}: choose a shorter one"
        )
    return ""


def bad_numbers(wish: Wish, _: Switch) -> str:
    """Numbers outside of what OpenFlow and vhost know."""
    if wish.ofport is not None and not 1 <= wish.ofport <= HIGHEST_OFPORT:
        return f"--ofport {wish.ofport}: no number of a port: choose one from 1 to {HIGHEST_OFPORT}"
    if not 1 <= wish.queues <= MOST_QUEUES:
        return f"--queues {wish.queues}: a vhost-user port has 1 to {MOST_QUEUES} pairs of queues"
    return ""


def bad_path(wish: Wish, _: Switch) -> str:
    """A path has to fit into a socket's address, and to be written into a VM's definition as it is."""
    path = wish.path
    if not path.startswith("/"):
        return f"--path {short(path)}: not absolute: begin it with /"
    if length := too_long(path):
        return f"--path {short(path)}: {length} bytes, a socket's path has at most {LONGEST_PATH}: choose a shorter one"
    if not _PATH.fullmatch(path):
        return f"--path {short(path)}: only letters, digits and _ . - + @ : = / may be in it, as in a VM's definition"
    if path.endswith("/") or {".", ".."} & set(path.split("/")):
        return f"--path {short(path)}: name the socket itself, without . and .."
    return ""


# --- the bridge -----------------------------------------------------------------------------------


def no_bridge(wish: Wish, switch: Switch) -> str:
    """It has to be there."""
    if switch.bridge(wish.bridge):
        return ""
    there = ", ".join(short(bridge.name) for bridge in switch.bridges) or "none"
    return f"BRIDGE {short(wish.bridge)}: no such bridge; there are: {there}"


def not_netdev(wish: Wish, switch: Switch) -> str:
    """Only the userspace datapath serves vhost-user ports."""
    bridge = switch.bridge(wish.bridge)
    if bridge is None or bridge.datapath == "netdev":
        return ""
    kind = bridge.datapath or "system"
    return f"BRIDGE {bridge.name}: datapath_type {kind}: vhost-user ports need a bridge with datapath_type=netdev"


def no_dpdk(wish: Wish, switch: Switch) -> str:
    """DPDK has to be there, initialized, and know the type."""
    if not switch.dpdk:
        cure = "ovs-vsctl set Open_vSwitch . other_config:dpdk-init=true, on the vswitchd of openvswitch-switch-dpdk"
        return f"DPDK: vswitchd has not initialized it: {cure}"
    kind = SERVER if wish.server else CLIENT
    return "" if kind in switch.types else f"type {kind}: this vswitchd cannot make it: update Open vSwitch"


def others_bridge(wish: Wish, switch: Switch) -> str:
    """A bridge that is somebody else's to configure: refused without --force, and NORMAL flows in any case."""
    bridge = switch.bridge(wish.bridge)
    whose = owner(bridge, switch) if bridge else ""
    if bridge is None or not whose:
        return ""
    if wish.normal_flow:
        return f"--normal-flow: bridge {bridge.name} {whose}: it would open a tenant network; leave it out"
    return "" if wish.force else f"BRIDGE {bridge.name}: {whose}: add the port there, or insist with --force"


def owner(bridge: Bridge, switch: Switch) -> str:
    """Why the bridge is somebody else's to configure; "" when nothing says so."""
    if bridge.controllers:
        return f"has the controller {short(bridge.controllers[0])}"
    if bridge.fail_mode == "secure":
        return "has fail_mode=secure"
    has_ovn = "ovn-remote" in switch.external_ids or "ovn-bridge" in switch.external_ids
    if has_ovn and bridge.name == switch.external_ids.get("ovn-bridge", "br-int"):
        return "is OVN's (external_ids:ovn-bridge)"
    holders = [bridge.external_ids, *(iface.external_ids for port in bridge.ports for iface in port.interfaces)]
    marks = sorted({key for keys in holders for key in keys if key.startswith(TENANT_KEYS)})
    return f"carries external_ids:{short(marks[0])} of Neutron or OVN" if marks else ""


# --- what is taken already ------------------------------------------------------------------------


def name_taken(wish: Wish, switch: Switch) -> str:
    """Names of ports and interfaces are unique in all bridges together."""
    for bridge in switch.bridges:
        names = {name for port in bridge.ports for name in (port.name, *(iface.name for iface in port.interfaces))}
        if wish.name == bridge.name or wish.name in names:
            return f"NAME {wish.name}: is taken, on bridge {short(bridge.name)}: choose another one"
    return ""


def ofport_taken(wish: Wish, switch: Switch) -> str:
    """Two ports that want one number: the second gets another, and flows lead to the wrong VM."""
    bridge = switch.bridge(wish.bridge)
    if wish.ofport is None or bridge is None:
        return ""
    for iface in (iface for port in bridge.ports for iface in port.interfaces):
        if wish.ofport in (iface.ofport, iface.requested):
            return f"--ofport {wish.ofport}: is {short(iface.name)}'s on bridge {bridge.name}: choose another one"
    return ""


def path_taken(wish: Wish, switch: Switch) -> str:
    """Two ports on one socket: the VM answers one of them."""
    for iface in switch.interfaces():
        if iface.type == CLIENT and iface.options.get(PATH_OPTION) == wish.path and iface.name != wish.name:
            return f"--path {wish.path}: is the socket of {short(iface.name)} already: choose another one"
    return ""


def server_has_no_path(wish: Wish, _: Switch) -> str:
    """The legacy kind's socket lies where vswitchd was told at its start."""
    if wish.server and wish.path:
        return "--path: a --server port's socket is other_config:vhost-sock-dir and its name: leave --path out"
    return ""


# --- an existing port -----------------------------------------------------------------------------


def no_port(wish: Wish, switch: Switch) -> str:
    """It has to be there, one interface, and vhost-user."""
    found = switch.find(wish.name)
    if found is None:
        return f"NAME {short(wish.name)}: no such port: see ovs-vsctl show"
    _, port = found
    if len(port.interfaces) != 1:
        return f"NAME {short(wish.name)}: is a bond of {len(port.interfaces)} interfaces: take it apart first"
    if port.interfaces[0].type not in VHOST:
        kind = port.interfaces[0].type or "system"
        return f"NAME {short(wish.name)}: is of type {short(kind)}, no vhost-user port: use ovs-vsctl"
    return ""


def in_use(wish: Wish, switch: Switch) -> str:
    """A VM hangs on it: what follows cuts it off."""
    found = switch.find(wish.name)
    if found is None or wish.force or not found[1].interfaces[0].connected:
        return ""
    return (
        f"NAME {short(wish.name)}: a VM is connected and would be cut off: shut it down first, or insist with --force"
    )


def others_port(wish: Wish, switch: Switch) -> str:
    """A port on a bridge that is somebody else's to configure."""
    found = switch.find(wish.name)
    whose = owner(found[0], switch) if found else ""
    if found is None or wish.force or not whose:
        return ""
    return (
        f"NAME {short(wish.name)}: its bridge {short(found[0].name)} {whose}: change it there, or insist with --force"
    )


def is_client(wish: Wish, switch: Switch) -> str:
    """Nothing to migrate."""
    found = switch.find(wish.name)
    if found is None or found[1].interfaces[0].type == SERVER:
        return ""
    return f"NAME {short(wish.name)}: is a {CLIENT} port already: there is nothing to migrate"


BEFORE_ADD: tuple[Check, ...] = (
    bad_name,
    bad_numbers,
    server_has_no_path,
    no_bridge,
    not_netdev,
    no_dpdk,
    name_taken,
    ofport_taken,
    others_bridge,
)
OF_PATH: tuple[Check, ...] = (bad_path, path_taken)
BEFORE_DEL: tuple[Check, ...] = (no_port, others_port, in_use)
BEFORE_MIGRATE: tuple[Check, ...] = (no_port, is_client, no_dpdk, others_port, in_use)
