# SPDX-License-Identifier: Apache-2.0
"""What the file system and /proc know of ports, laid beside what OVSDB says of them.

Paths are looked at as vswitchd sees them: from its root directory, and its sockets in its network namespace. A VM may
have bound its socket in another one. Nothing is connected to: a VM takes one connection, and it is vswitchd's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.places import Kind, Place
from ovs_keepalive.core.ports import Counters, Peers, PortFacts, Reach
from ovs_keepalive.formats import mounts, net_unix
from ovs_keepalive.formats.flows import Flows
from ovs_keepalive.formats.mounts import Mount
from ovs_keepalive.formats.net_unix import Use
from ovs_keepalive.sensors.places import Places, credentials

NAMESPACES = 256  # of the network, that are looked into at most
PROCESSES = 20_000  # that are asked for theirs at most
_QUEUES = re.compile(r"[0-9]{1,5}")

Mounts = tuple[Mount, ...]


class Row(NamedTuple):
    """What OVSDB says of one Interface, with the bridge that it is on."""

    name: str
    id: str
    bridge: str
    datapath: str
    type: str
    ofport: int | None
    admin: str
    link: str
    error: str
    status: Mapping[str, str]
    options: Mapping[str, str]
    drops: int


class Around(NamedTuple):
    """What holds for all ports of one look."""

    at: float  # monotonic
    pid: int | None  # of vswitchd
    directory: str  # in which it makes the sockets of its server ports
    statistics: Mapping[str, Mapping[str, int]] | str  # by the name of the Interface
    flows: Mapping[str, Flows | str]  # by bridge


class PortSensor:
    """One look at a time; what several ports share is looked at once."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._mounts: list[Mounts] = [(), ()]  # vswitchd's and ours, where its root is shut to us
        self._places = Places()

    def look(self, rows: Iterable[Row], around: Around) -> tuple[PortFacts, ...]:
        """The facts of every port."""
        root, *self._mounts = self._way(around.pid)
        self._places = Places(root)
        ports = [_facts(row, around) for row in rows]
        sockets = {port.path: self._socket(port.path) for port in ports if port.path}
        peers = self._peers(sockets, around.pid)
        return tuple(
            port._replace(socket=sockets[port.path], peers=peers[port.path]) if port.path else port for port in ports
        )

    def credentials(self, pid: int | None) -> Credentials | str:
        """As whom a process runs."""
        if pid is None:
            return "vswitchd does not run"
        try:
            return credentials(pid, self._proc)
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        except ValueError as error:
            return str(error)

    # --- files ---------------------------------------------------------------------------------

    def _way(self, pid: int | None) -> tuple[str, Mounts, Mounts]:
        """Where vswitchd's paths begin if not where ours do, as in a container; or, where its root is shut to us, its
        mounts and ours: under a unit with PrivateTmp=yes /tmp is another one.
        """
        if pid is None:
            return "", (), ()
        root = f"{self._proc}/{pid}/root"
        try:
            theirs, ours = (_read(f"{self._proc}/{who}/mountinfo") for who in (pid, "self"))
        except OSError:  # it has ended: the next look tells
            return "", (), ()
        try:
            there, here = (os.stat(one) for one in (f"{root}/", "/"))
        except OSError:  # we may not trace it
            return "", mounts.parse(theirs), mounts.parse(ours)
        same = theirs == ours and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        return ("" if same else root), (), ()

    def _socket(self, path: str) -> Place | str:
        if not path.startswith("/"):
            return f"{path}: a relative path"
        theirs, ours = self._mounts
        if mounts.place(path, theirs) != mounts.place(path, ours):
            return f"{path}: lies on another mount for vswitchd than for this process (PrivateTmp, ProtectHome)"
        try:
            place = self._places.look(path)
        except PermissionError as error:
            return f"{error.filename}: {error.strerror}"
        return place if place.directories else place.problem

    # --- sockets -------------------------------------------------------------------------------

    def _peers(self, sockets: Mapping[str, Place | str], pid: int | None) -> dict[str, Peers | str]:
        if pid is None:
            return dict.fromkeys(sockets, "vswitchd does not run")
        names = frozenset(path.rpartition("/")[2] for path in sockets)
        try:
            own = self._table(pid, names)
        except OSError as error:
            return dict.fromkeys(sockets, f"{error.filename}: {error.strerror}")
        uses = {path: _use(path, own) for path in sockets}
        # The server's end of a connection is of its client's namespace (unix_stream_connect() of Linux): the end of a
        # VM that came to a server port is not in vswitchd's table, its listener is.
        lonely = {
            path
            for path, use in uses.items()
            if not use.connected and getattr(sockets[path], "kind", Kind.SOCKET) is Kind.SOCKET
        }
        others, unseen = (
            self._elsewhere(pid, frozenset(path.rpartition("/")[2] for path in lonely)) if lonely else ([], "")
        )
        found: dict[str, Peers | str] = {}
        for path, use in uses.items():
            beyond = [_use(path, table) for table in others] if path in lonely else []
            listening = use.listening + sum(one.listening for one in beyond)
            connected = use.connected + sum(one.connected for one in beyond)
            nobody = path in lonely and not listening and not connected
            found[path] = unseen if nobody and unseen else Peers(use.listening, listening, connected)
        return found

    def _elsewhere(self, pid: int, names: frozenset[str]) -> tuple[list[dict[str, Use]], str]:
        """The sockets of all other network namespaces, and why not of all."""
        seen, tables, unseen = set[int](), list[dict[str, Use]](), ""
        try:
            seen.add(os.stat(f"{self._proc}/{pid}/net/unix").st_ino)
            processes = [name for name in os.listdir(self._proc) if name.isdecimal()]
        except OSError as error:
            return [], f"other network namespaces: {error.strerror}"
        if len(processes) > PROCESSES:
            processes, unseen = processes[:PROCESSES], f"more than {PROCESSES} processes"
        for process in processes:
            try:
                # Each namespace has a file of its own, and whoever may read it need not be allowed to trace (ns/net).
                namespace = os.stat(f"{self._proc}/{process}/net/unix").st_ino
                if namespace in seen:
                    continue
                seen.add(namespace)
                if len(tables) == NAMESPACES:
                    return tables, f"more than {NAMESPACES} network namespaces"
                tables.append(self._table(int(process), names))
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            except OSError as error:
                unseen = f"other network namespaces: {error.strerror}"
        return tables, unseen

    def _table(self, pid: int, names: frozenset[str]) -> dict[str, Use]:
        return net_unix.parse(_read(f"{self._proc}/{pid}/net/unix"), names)


def _facts(row: Row, around: Around) -> PortFacts:
    mode = {"dpdkvhostuser": "server", "dpdkvhostuserclient": "client"}.get(row.type, "")
    path = {"server": f"{around.directory}/{row.name}", "client": row.options.get("vhost-server-path", "")}.get(
        mode, ""
    )
    rings = _number(row.status.get("num_of_vrings", "")) if row.status.get("status") == "connected" else None
    queues = _number(row.options.get("n_rxq", "")) if rings is None else rings // 2
    reach: Reach | str = ""
    if mode and row.ofport is not None and row.ofport > 0:
        flows = around.flows.get(row.bridge, "")
        reach = flows if isinstance(flows, str) else _reach(flows, row.ofport)
    return PortFacts(
        name=row.name,
        id=row.id,
        bridge=row.bridge,
        datapath=row.datapath,
        type=row.type,
        ofport=row.ofport,
        admin=row.admin,
        link=row.link,
        error=row.error,
        mode=mode,
        peer=row.status.get("status", "") if mode else "",
        path=path,
        queues=queues,
        drops=row.drops,
        counters=_counters(row.name, around),
        reach=reach,
    )


def _reach(flows: Flows, ofport: int) -> Reach:
    to, of = flows.anywhere or ofport in flows.outputs, flows.any_input or ofport in flows.inputs
    return Reach(flows.total, to, of)


def _counters(name: str, around: Around) -> Counters | str:
    if isinstance(around.statistics, str):
        return around.statistics
    told = around.statistics.get(name, {})
    if "rx_packets" not in told and "tx_packets" not in told:
        return ""  # a vhost-user port that nobody is connected to has none: nothing is hidden
    return Counters(around.at, told.get("rx_packets", 0), told.get("tx_packets", 0), told.get("tx_dropped", 0))


def _number(text: str) -> int | None:
    return int(text) if _QUEUES.fullmatch(text) else None


def _use(path: str, table: Mapping[str, Use]) -> Use:
    """Who uses that path, however it was written when it was bound."""
    if path in table:
        return table[path]
    name = path.rpartition("/")[2]
    listening = connected = 0
    for bound, use in table.items():
        if bound.rpartition("/")[2] != name:
            continue
        # Where a relative path begins nobody tells: it may be this one.
        if not bound.startswith("/") or os.path.realpath(bound) == os.path.realpath(path):
            listening, connected = listening + use.listening, connected + use.connected
    return Use(listening, connected)


def _read(path: str) -> str:
    """Raises OSError."""
    with open(path, errors="surrogateescape") as file:
        return file.read()
