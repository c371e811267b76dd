# SPDX-License-Identifier: Apache-2.0
"""The sections of the configuration file. `fleet` is read by `ovs-keepalive fleet` and `web`, never by the daemon."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

CPUS = r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*"
NAME = r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?"  # a host, a cell: fit for a path in the store
SERVICE = r"[^\x00-\x1f\x7f]{1,64}"  # no longer than a word of the fleet's documents
SERVER = r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255}):\d{1,5}"


def key(text: str, *, unit: str = "", live: bool = False, kind: str = "", **limits: Any) -> msgspec.Meta:
    """What a key means, in sentences. live: SIGHUP applies a change; kind: its values in words; limits: msgspec's."""
    return msgspec.Meta(description=text, extra={"unit": unit, "live": live, "kind": kind}, **limits)


_PATH = {"kind": 'an absolute path, or ""', "pattern": r"^(/.*)?$"}
_CPUS = {"kind": 'CPUs such as "0,2-3", or ""', "pattern": rf"^({CPUS})?$"}


class Offload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """Flows in hardware."""

    allow_act: Annotated[
        bool,
        key(
            "Whether flows may be moved between hardware and software at all. It also takes "
            "other_config:keepalive-offload=act, and a person's `offload/arm`.",
            live=True,
        ),
    ] = False
    capacity: Annotated[
        int,
        key(
            "Flows that a table of the hardware holds, as its maker says. 0: not known, it is learned.",
            unit="flows",
            live=True,
            ge=0,
            le=100_000_000,
        ),
    ] = 0
    table_groups: Annotated[
        tuple[tuple[str, ...], ...],
        key(
            "Network devices that share one table of the hardware, such as the representors of one NIC: a list of "
            "lists of names. Any other device counts as having a table of its own.",
            live=True,
            kind="a list of lists of names: [[p0, p1], [p2, p3]]",
        ),
    ] = ()
    most_flows: Annotated[
        int,
        key(
            "With more flows in the datapath none is looked at: a dump takes 10 us of vswitchd's main thread for each, "
            "at a stretch.",
            unit="flows",
            live=True,
            ge=100,
            le=1_000_000,
        ),
    ] = 50_000


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """How this host takes part in a fleet. Without servers it does not."""

    zookeeper: Annotated[
        str,
        key(
            "Servers of the ZooKeeper ensemble. Empty: this host takes part in no fleet.",
            kind='HOST:PORT,HOST:PORT,..., or ""',
            pattern=rf"^({SERVER}(,{SERVER})*)?$",
        ),
    ] = ""
    private_key: Annotated[str, key("For TLS: file with this host's private key, PEM.", **_PATH)] = ""
    certificate: Annotated[str, key("For TLS: file with this host's certificate, PEM.", **_PATH)] = ""
    ca_cert: Annotated[
        str, key("For TLS: file with the CA certificates that the servers' may be of. Empty: no TLS.", **_PATH)
    ] = ""
    check_name: Annotated[
        bool, key("For TLS: whether a server's certificate has to bear the name or address that was connected to.")
    ] = True
    insecure: Annotated[
        bool, key("Whether a connection without TLS may leave this host. One to the loopback always may.")
    ] = False
    digest_file: Annotated[
        str,
        key(
            "File with USER:PASSWORD for ZooKeeper's digest scheme, readable for its owner alone. Empty: none; "
            "certificates are the better way.",
            **_PATH,
        ),
    ] = ""
    admin: Annotated[
        str,
        key(
            "Who else may change and delete every node of the fleet, as ZooKeeper names clients: x509:CN=fleet-admin. "
            "Empty: ZooKeeper's superuser alone.",
            kind='SCHEME:ID, or ""',
            pattern=r"^([a-z0-9]{1,32}:[^\x00-\x1f\x7f]{1,255})?$",
        ),
    ] = ""
    cell: Annotated[
        str,
        key(
            "The part of the fleet in which this host helps others, and is helped: 2000 hosts at most.",
            kind="letters, digits, dots, hyphens",
            pattern=rf"^{NAME}$",
        ),
    ] = "default"
    node: Annotated[
        str,
        key(
            "This host's name in the fleet. Empty: its host name.",
            kind='letters, digits, dots, hyphens, or ""',
            pattern=rf"^({NAME})?$",
        ),
    ] = ""
    address: Annotated[
        str,
        key(
            "Address at which other hosts send this one tunnelled packets. Empty: none.",
            kind='an IP address, or ""',
            pattern=r"^[0-9a-fA-F:.]{0,45}$",
        ),
    ] = ""
    session_timeout: Annotated[
        float,
        key(
            "A host of which ZooKeeper has heard nothing for so long is GONE. 30 in cells of more than 1000 hosts.",
            unit="s",
            ge=1,
            le=60,
        ),
    ] = 10.0
    refresh: Annotated[
        float,
        key(
            "Numbers are told anew in this time; changes of state at once. 60 above 5000 hosts.",
            unit="s",
            ge=5,
            le=600,
        ),
    ] = 30.0
    help: Annotated[
        Literal["off", "advise", "hook", "act-local"],
        key(
            "What to do about help: off: ask nobody, help nobody; advise: ask, and offer room that others could be "
            "given, for a person to read; hook: ask, and run the program `hook` for others; act-local: as advise, and "
            "an overloaded host first helps itself, as far as `rebalance` and `add-cores` allow."
        ),
    ] = "advise"
    hook: Annotated[
        str,
        key("Program that is run for each claimed request while help is hook (docs/help.md). Empty: none.", **_PATH),
    ] = ""
    headroom_cpus: Annotated[
        str, key("CPUs that could be given to further PMD threads. Empty: those that the kernel isolates.", **_CPUS)
    ] = ""
    headroom_reserve: Annotated[
        int, key("Of these, so many of each NUMA node are kept, whoever asks.", unit="CPUs", ge=0, le=1024)
    ] = 0
    rebalance: Annotated[bool, key("Whether rxqs may be spread anew over the PMD threads while help is act-local.")] = (
        False
    )
    add_cores: Annotated[
        str,
        key("CPUs that other_config:pmd-cpu-mask may be given while help is act-local. Empty: none.", **_CPUS),
    ] = ""
    mesh: Annotated[
        bool, key("Whether to keep a VXLAN tunnel with BFD to every other host of the cell that has an address.")
    ] = False
    services: Annotated[
        dict[Annotated[str, msgspec.Meta(pattern=rf"^{SERVICE}$")], str],
        key(
            "Services of this host, and the port of each: hosts without one send its packets here. Needs mesh.",
            kind="a map of names, of 1 to 64 characters each, to names of ports",
        ),
    ] = {}
