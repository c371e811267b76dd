# SPDX-License-Identifier: Apache-2.0
"""The configuration file: one frozen Config, its defaults in this one place, every error one line."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ovs_keepalive.formats.plain import one_line

DEFAULT_PATH = Path("/etc/ovs-keepalive/config.yaml")
LARGEST = 16384  # characters; PyYAML reads some 50,000 a second


# Of the keys that take one of a few words.
CHOICES = {"schema": ("manual", "auto"), "mirror": ("none", "external_ids"), "event-witness": ("auto", "off")}


_REPR = reprlib.Repr()  # a value in a line: its beginning and end are enough
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 120


class Invalid(Exception):
    """The configuration cannot be used: one line that names the key, the value and the cure."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What the file may say. Settings that operators change live stand in OVSDB instead (CONTRACT section 2)."""

    ovsdb: str = ""  # remote of the database; "" = unix:$OVS_RUNDIR/db.sock
    vswitchd_pidfile: str = ""  # "" = any ovs-vswitchd*.pid in $OVS_RUNDIR
    refresh: Annotated[int, msgspec.Meta(ge=1000, le=60000)] = 1000  # ms; last_seen is written at most once in it
    schema: Literal["manual", "auto"] = "manual"  # auto adds the columns to a running ovsdb-server by itself
    mirror: Literal["none", "external_ids"] = "none"  # changes of state also into Open_vSwitch.external_ids
    event_witness: Literal["auto", "off"] = "auto"  # the kernel tells when a PMD thread leaves its CPU
    max_main_share: Annotated[float, msgspec.Meta(ge=0.1, le=50.0)] = 1.0  # % of a core for looks through main
    restart_deadline: Annotated[float, msgspec.Meta(ge=1.0, le=3600.0)] = 60.0  # s; an orderly restart's time
    state_dir: str = "/var/lib/ovs-keepalive"  # the black-box records
    hung_after: Annotated[float, msgspec.Meta(ge=4.0, le=3600.0)] = 60.0  # s; silence alone is HUNG from here on


def load(path: Path | None) -> Config:
    """Read the file; None: the default one, which may be absent. Raises Invalid."""
    chosen = path or DEFAULT_PATH
    try:
        with chosen.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        raise Invalid(f"{chosen}: {error.strerror}: name an existing, readable file with --config") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{chosen}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return parse(text, str(chosen))


def parse(text: str, name: str) -> Config:
    """Decode YAML text strictly. name: what to call it in errors. Raises Invalid."""
    if len(text) > LARGEST:
        raise Invalid(one_line(f"{name}: more than {LARGEST} characters: no configuration: name the right file"))
    import yaml  # noqa: PLC0415 - only here: a daemon without a file does not carry the parser

    class Loader(yaml.SafeLoader):
        """Reads only true and false as booleans: off, on, yes and no are words here. Knows no aliases: nobody needs
        them here, and some lines of them mean more than any memory holds."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
            if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
                where = f"{name}: line {event.start_mark.line + 1}: *{event.anchor}"  # type: ignore[union-attr]
                raise Invalid(one_line(f"{where}: aliases are not read here: write the value itself"))
            return super().compose_node(parent, index)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 - Loader is a SafeLoader
    # The constructors of explicit tags (!!int "", !!timestamp x) raise whatever their conversion raises.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Invalid(one_line(f"{name}: {where}{why}: not valid YAML: correct it")) from error
    if raw is None:
        return Config()
    try:
        return msgspec.convert(raw, Config, strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(one_line(f"{name}: {_explain(str(error), raw)}")) from error
    except UnicodeEncodeError as error:
        raise Invalid(f"{name}: a key or value is no Unicode text: correct it") from error


def _explain(message: str, raw: Any) -> str:
    """msgspec's "Expected `int` >= 1000 - at `$.refresh`" as: the key, its value, the cure."""
    unknown = re.match(r"Object contains unknown field `(.+?)`", message)
    if unknown is not None:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(Config))
        return f"{unknown[1]}: unknown key: remove it, or use one of {known}"
    path = re.search(r" - at `\$\.?([^`]*)`$", message)
    expected = message if path is None else message[: path.start()]
    key = path[1] if path is not None else ""
    value = raw.get(key) if isinstance(raw, dict) and key else raw
    if expected.startswith("Invalid enum value"):
        expected = f"Expected {' or '.join(CHOICES[key])}"
    try:
        shown = _REPR.repr(value)
    except ValueError:  # Python writes no such number in decimals
        shown = "a number of more than 4300 digits"
    return f"{key or 'the document'}: {shown}: {expected[:1].lower()}{expected[1:]}"
