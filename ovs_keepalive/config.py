# SPDX-License-Identifier: Apache-2.0
"""What the configuration file may say: one frozen Config, its defaults and their meaning in this one place."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import msgspec

from ovs_keepalive.formats.listen import Address


def _key(text: str, *, unit: str = "", live: bool = False, kind: str = "", **limits: Any) -> msgspec.Meta:
    """What a key means, in sentences. live: SIGHUP applies a change; kind: its values in words; limits: msgspec's."""
    return msgspec.Meta(description=text, extra={"unit": unit, "live": live, "kind": kind}, **limits)


SECTIONS = ("offload",)  # of the file: `offload: {capacity: 10}` says the same as `offload.capacity: 10`
CPUS = r"^(auto|inherit|\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*)$"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What the file may say. Settings that operators change live stand in OVSDB instead (CONTRACT section 2)."""

    ovsdb: Annotated[
        str,
        _key(
            "Remote of the database: unix:FILE, tcp:ADDRESS:PORT or ssl:ADDRESS:PORT, addresses numeric. "
            "Empty: db.sock in Open vSwitch's run directory. The option --ovsdb goes before it."
        ),
    ] = ""
    ssl_private_key: Annotated[str, _key("For ssl: remotes: file with this host's private key, PEM.")] = ""
    ssl_certificate: Annotated[str, _key("For ssl: remotes: file with this host's certificate, PEM.")] = ""
    ssl_ca_cert: Annotated[
        str, _key("For ssl: remotes: file with the CA certificates that the server's may be of.")
    ] = ""
    ssl_hostname: Annotated[
        str,
        _key(
            "For ssl: remotes: DNS name or address that the server's certificate has to bear. "
            "Empty: any certificate of the CA will do, as for Open vSwitch's own tools."
        ),
    ] = ""
    vswitchd_pidfile: Annotated[
        str, _key("Pidfile of ovs-vswitchd. Empty: any ovs-vswitchd*.pid in Open vSwitch's run directory.")
    ] = ""
    schema: Annotated[
        Literal["manual", "auto"],
        _key(
            "Who adds the columns to a running ovsdb-server: manual: you, by `ovs-keepalive schema apply`; auto: the "
            "daemon, after each start of Open vSwitch. Read docs/schema.md before you choose auto: other clients of "
            "the database may go deaf.",
            live=True,
        ),
    ] = "manual"
    refresh: Annotated[
        int,
        _key(
            "Time stamps in the columns are written at most once in this time.", unit="ms", live=True, ge=1000, le=60000
        ),
    ] = 1000
    mirror: Annotated[
        Literal["none", "external_ids"],
        _key("Write changes of state also into Open_vSwitch.external_ids. Not for OVN chassis."),
    ] = "none"
    max_main_share: Annotated[
        float,
        _key(
            "How much of a core looks may take from vswitchd's main thread. Where the interval needs more, looks are "
            "made less often.",
            unit="%",
            live=True,
            ge=0.1,
            le=50.0,
        ),
    ] = 1.0
    restart_deadline: Annotated[
        float,
        _key(
            "An orderly restart of vswitchd has to be over by then, or its PMDs are GONE.",
            unit="s",
            live=True,
            ge=1,
            le=3600,
        ),
    ] = 60.0
    hung_after: Annotated[
        float,
        _key(
            "A main thread of vswitchd that is silent for so long is HUNG; with further evidence it is after 4 s.",
            unit="s",
            live=True,
            ge=4,
            le=3600,
        ),
    ] = 60.0
    event_witness: Annotated[
        Literal["auto", "off"],
        _key("Let the kernel tell when a PMD thread leaves its CPU: stalls are told sooner. Needs CAP_PERFMON."),
    ] = "auto"
    affinity: Annotated[
        str,
        _key(
            "CPUs that the daemon runs on. auto: those it was started with, less the ones that PMD threads are pinned "
            "to, followed live; inherit: those it was started with; or a list of CPUs.",
            live=True,
            kind='auto, inherit, or CPUs such as "0,2-3"',
            pattern=CPUS,
        ),
    ] = "auto"
    web_listen: Annotated[
        str,
        _key(
            "Where the page, the metrics and the JSON are served: HOST:PORT with a numeric HOST or localhost, or off. "
            "Whoever reaches it can read the state of this node, and change nothing. "
            "The option --web-listen goes before it.",
            kind="HOST:PORT or off",
        ),
    ] = "127.0.0.1:9811"
    ports_period: Annotated[
        float,
        _key(
            "Time between two looks at the ports, by a process of its own; what changes in the database is looked at "
            "at once. 0: ports are not looked at.",
            unit="s",
            live=True,
            ge=0,
            le=3600,
        ),
    ] = 5.0
    state_dir: Annotated[str, _key("Directory of the black-box records, and of what a new start has to know.")] = (
        "/var/lib/ovs-keepalive"
    )
    hooks: Annotated[
        str,
        _key(
            "Directory of programs that are run when a state changes, with the facts in their environment "
            "(docs/monitoring.md). Empty: none.",
            live=True,
            kind='an absolute path, or ""',
            pattern=r"^(/.*)?$",
        ),
    ] = ""
    offload_allow_act: Annotated[
        bool,
        _key(
            "Whether flows may be moved between hardware and software at all. It also takes "
            "other_config:keepalive-offload=act, and a person's `offload/arm` (docs/offload.md).",
            live=True,
            kind="true or false",
        ),
    ] = msgspec.field(default=False, name="offload.allow-act")
    offload_capacity: Annotated[
        int,
        _key(
            "Flows that a table of the hardware holds, as its maker says. 0: not known, it is learned.",
            unit="flows",
            live=True,
            ge=0,
            le=100_000_000,
        ),
    ] = msgspec.field(default=0, name="offload.capacity")
    offload_table_groups: Annotated[
        tuple[tuple[str, ...], ...],
        _key(
            "Network devices that share one table of the hardware, such as the representors of one NIC: a list of "
            "lists of names. Any other device counts as having a table of its own.",
            live=True,
            kind="a list of lists of names: [[p0, p1], [p2, p3]]",
        ),
    ] = msgspec.field(default=(), name="offload.table-groups")
    offload_most_flows: Annotated[
        int,
        _key(
            "With more flows in the datapath none is looked at: a dump takes 10 us of vswitchd's main thread for each, "
            "at a stretch.",
            unit="flows",
            live=True,
            ge=100,
            le=1_000_000,
        ),
    ] = msgspec.field(default=50_000, name="offload.most-flows")


@dataclass(frozen=True)
class Options:
    """What the command line and the configuration file ask of this run."""

    config: Config
    config_file: Path | None  # None: the default one, which may be absent
    remote: str
    listen: Address | None  # None: nowhere
    vswitchd_pidfile: Path | None
    pidfile: Path


class Key(NamedTuple):
    """What is to be known of one key of the file."""

    name: str
    kind: str  # its values, in words: "integer, 1000 to 60000 ms"
    default: str  # as it is written in the file
    text: str  # what it means, in sentences
    live: bool  # SIGHUP applies a change
    field: str  # of Config


def documented_keys() -> tuple[Key, ...]:
    """Every key, in the order of the default file: it, the man page and the reload are made of this."""
    info = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(Config))
    return tuple(_documented(field) for field in info.fields)


def _documented(field: msgspec.inspect.Field) -> Key:
    meta = cast(msgspec.inspect.Metadata, field.type)
    extra = meta.extra or {}
    text = (meta.extra_json_schema or {})["description"]
    plain = type(field.default) in (int, float)
    default = f"{field.default:.12g}" if plain else json.dumps(field.default)
    kind = extra["kind"] or _kind(meta.type, extra["unit"])
    return Key(field.encode_name, kind, default, text, extra["live"], field.name)


def _kind(type_: msgspec.inspect.Type, unit: str) -> str:
    match type_:
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"integer, {least} to {most} {unit}"
        case msgspec.inspect.FloatType(ge=least, le=most):
            return f"number, {least:g} to {most:g} {unit}"
    return "text"


def default_file() -> str:
    """The commented default file: every key with its meaning, its values and its default, all commented out."""
    lines = [
        "# Configuration of ovs-keepalive. Every key may be absent; each is shown with its default.",
        "# Check a change with `ovs-keepalive check-config --config FILE`; SIGHUP applies what says so.",
        "# Whether PMD threads are watched, and how often, stands in OVSDB: Open_vSwitch other_config:enable-keepalive",
        "# and keepalive-interval.",
    ]
    for key in documented_keys():
        how = "applied by SIGHUP" if key.live else "read at the start"
        lines += [
            "",
            *(f"# {line}" for line in textwrap.wrap(key.text, 110, break_on_hyphens=False)),
            f"# ({key.kind}; {how})",
        ]
        lines.append(f"#{key.name}: {key.default}")
    return "\n".join(lines) + "\n"


def merged(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """What a reload makes of them: the live keys of the new one, all others of the old; and a line a changed key."""
    live: dict[str, Any] = {}
    lines = []
    for key in documented_keys():
        was, wanted = getattr(old, key.field), getattr(new, key.field)
        if wanted == was:
            continue
        if key.live:
            live[key.field] = wanted
        lines.append(f"{key.name}: {was!r} -> {wanted!r}" + ("" if key.live else ": at the next start"))
    return msgspec.structs.replace(old, **live), tuple(lines)
