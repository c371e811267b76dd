# SPDX-License-Identifier: Apache-2.0
"""What the configuration file may say: one frozen Config, its defaults and their meaning in this one place."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import msgspec

from ovs_keepalive.config_sections import CPUS, Fleet, Offload, key
from ovs_keepalive.formats.listen import Address

CHOSEN_BY_ITSELF = ("auto", "inherit")  # of affinity: not a list of CPUs
SECTIONS = {
    "offload": "Flows in hardware (docs/offload.md). Uncomment the name of the section too.",
    "fleet": "How this host takes part in a fleet (docs/help.md): for `ovs-keepalive fleet agent`, a process of its "
    "own. Uncomment the name of the section too.",
}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What the file may say. Settings that operators change live stand in OVSDB instead (CONTRACT section 2)."""

    ovsdb: Annotated[
        str,
        key(
            "Remote of the database: unix:FILE, tcp:ADDRESS:PORT or ssl:ADDRESS:PORT, addresses numeric. "
            "Empty: db.sock in Open vSwitch's run directory. The option --ovsdb goes before it."
        ),
    ] = ""
    ssl_private_key: Annotated[str, key("For ssl: remotes: file with this host's private key, PEM.")] = ""
    ssl_certificate: Annotated[str, key("For ssl: remotes: file with this host's certificate, PEM.")] = ""
    ssl_ca_cert: Annotated[str, key("For ssl: remotes: file with the CA certificates that the server's may be of.")] = (
        ""
    )
    ssl_hostname: Annotated[
        str,
        key(
            "For ssl: remotes: DNS name or address that the server's certificate has to bear. "
            "Empty: any certificate of the CA will do, as for Open vSwitch's own tools."
        ),
    ] = ""
    vswitchd_pidfile: Annotated[
        str, key("Pidfile of ovs-vswitchd. Empty: any ovs-vswitchd*.pid in Open vSwitch's run directory.")
    ] = ""
    schema: Annotated[
        Literal["manual", "auto"],
        key(
            "Who adds the columns to a running ovsdb-server: manual: you, by `ovs-keepalive schema apply`; auto: the "
            "daemon, after each start of Open vSwitch. Read docs/schema.md before you choose auto: other clients of "
            "the database may go deaf.",
            live=True,
        ),
    ] = "manual"
    refresh: Annotated[
        int,
        key(
            "Time stamps in the columns are written at most once in this time.", unit="ms", live=True, ge=1000, le=60000
        ),
    ] = 1000
    mirror: Annotated[
        Literal["none", "external_ids"],
        key("Write changes of state also into Open_vSwitch.external_ids. Not for OVN chassis."),
    ] = "none"
    max_main_share: Annotated[
        float,
        key(
            "How much of a core looks may take from vswitchd's main thread. Where the interval needs more, looks are "
            "made less often, but never less than once a second.",
            unit="%",
            live=True,
            ge=0.1,
            le=50.0,
        ),
    ] = 1.0
    restart_deadline: Annotated[
        float,
        key(
            "An orderly restart of vswitchd has to be over by then, or its PMDs are GONE.",
            unit="s",
            live=True,
            ge=1,
            le=3600,
        ),
    ] = 60.0
    hung_after: Annotated[
        float,
        key(
            "A main thread of vswitchd that is silent for so long is HUNG; with further evidence it is after 4 s.",
            unit="s",
            live=True,
            ge=4,
            le=3600,
        ),
    ] = 60.0
    event_witness: Annotated[
        Literal["auto", "off"],
        key("Let the kernel tell when a PMD thread leaves its CPU: stalls are told sooner. Needs CAP_PERFMON."),
    ] = "auto"
    affinity: Annotated[
        str,
        key(
            "CPUs that the daemon runs on. auto: those it was started with, less the ones that PMD threads are pinned "
            "to, followed live; inherit: those it was started with; or a list of CPUs.",
            live=True,
            kind='auto, inherit, or CPUs such as "0,2-3"',
            pattern=rf"^({'|'.join(CHOSEN_BY_ITSELF)}|{CPUS})$",
        ),
    ] = "auto"
    web_listen: Annotated[
        str,
        key(
            "Where the page, the metrics and the JSON are served: HOST:PORT with a numeric HOST or localhost, or off. "
            "Whoever reaches it can read the state of this node, and change nothing. "
            "The option --web-listen goes before it.",
            kind="HOST:PORT or off",
        ),
    ] = "127.0.0.1:9811"
    ports_period: Annotated[
        float,
        key(
            "Time between two looks at the ports, by a process of its own; what changes in the database is looked at "
            "at once. 0: ports are not looked at.",
            unit="s",
            live=True,
            ge=0,
            le=3600,
        ),
    ] = 5.0
    state_dir: Annotated[
        str,
        key(
            "Directory of the black-box records, and of what a new start has to know.",
            kind="an absolute path",
            pattern=r"^/.",
        ),
    ] = "/var/lib/ovs-keepalive"
    hooks: Annotated[
        str,
        key(
            "Directory of programs that are run when a state changes, with the facts in their environment "
            "(docs/monitoring.md). Empty: none.",
            live=True,
            kind='an absolute path, or ""',
            pattern=r"^(/.*)?$",
        ),
    ] = ""
    offload: Offload = Offload()
    fleet: Fleet = Fleet()


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

    name: str  # with its section before it: "fleet.cell"
    kind: str  # its values, in words: "integer, 1000 to 60000 ms"
    default: str  # as it is written in the file
    text: str  # what it means, in sentences
    live: bool  # SIGHUP applies a change

    def of(self, config: Config) -> Any:
        """The value that it has there."""
        value: Any = config
        for part in self._path:
            value = getattr(value, part)
        return value

    def put(self, config: Config, value: Any) -> Config:
        """The configuration with that value."""
        *section, name = self._path
        if section:
            name, value = section[0], msgspec.structs.replace(getattr(config, section[0]), **{name: value})
        return msgspec.structs.replace(config, **{name: value})

    @property
    def _path(self) -> list[str]:
        return self.name.replace("-", "_").split(".")


def documented_keys() -> tuple[Key, ...]:
    """Every key, in the order of the default file: it, the man page and the reload are made of this."""
    return tuple(_documented(cast(msgspec.inspect.StructType, msgspec.inspect.type_info(Config)), ""))


def _documented(struct: msgspec.inspect.StructType, section: str) -> Iterator[Key]:
    for field in struct.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            yield from _documented(field.type, f"{field.encode_name}.")
            continue
        meta = cast(msgspec.inspect.Metadata, field.type)
        extra = meta.extra or {}
        text = (meta.extra_json_schema or {})["description"]
        kind = extra["kind"] or _kind(meta.type, extra["unit"])
        yield Key(f"{section}{field.encode_name}", kind, _default(field), text, extra["live"])


def _default(field: msgspec.inspect.Field) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _kind(type_: msgspec.inspect.Type, unit: str) -> str:
    match type_:
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"integer, {least} to {most} {unit}"
        case msgspec.inspect.FloatType(ge=least, le=most):
            return f"number, {least:g} to {most:g} {unit}"
        case msgspec.inspect.BoolType():
            return "true or false"
    return "text"


def default_file() -> str:
    """The commented default file: every key with its meaning, its values and its default, all commented out."""
    lines = [
        "# Configuration of ovs-keepalive. Every key may be absent; each is shown with its default.",
        "# Check a change with `ovs-keepalive check-config --config FILE`; SIGHUP applies what says so.",
        "# Whether PMD threads are watched, and how often, stands in OVSDB: Open_vSwitch other_config:enable-keepalive",
        "# and keepalive-interval.",
    ]
    shown = ""
    for one in documented_keys():
        section, _, name = one.name.rpartition(".")
        if section != shown:
            lines += ["", *(f"# {line}" for line in _wrapped(SECTIONS[section])), f"#{section}:"]
            shown = section
        indent = "  " if section else ""
        how = "applied by SIGHUP" if one.live else "read at the start"
        lines += ["", *(f"# {line}" for line in _wrapped(one.text)), f"# ({one.kind}; {how})"]
        lines.append(f"#{indent}{name}: {one.default}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 110, break_on_hyphens=False)


def merged(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """What a reload of the daemon makes of them: the live keys of the new one, all others of the old; and a line a
    changed key."""
    live: Config = old
    lines = []
    for one in documented_keys():
        was, wanted = one.of(old), one.of(new)
        if wanted == was:
            continue
        if one.live:
            live = one.put(live, wanted)
        lines.append(f"{one.name}: {was!r} -> {wanted!r}" + ("" if one.live else ": at the next start"))
    return live, tuple(lines)
