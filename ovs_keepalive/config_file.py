# SPDX-License-Identifier: Apache-2.0
"""The configuration file as it is read: strictly, and every error one line."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ovs_keepalive.config import CHOSEN_BY_ITSELF, SECTIONS, Config, documented_keys
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.formats import listen, remote
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.procfs import parse_cpu_list

DEFAULT_PATH = Path("/etc/ovs-keepalive/config.yaml")
LARGEST = 16384  # characters; PyYAML reads some 50,000 a second

# What PyYAML raises besides its own: the constructors of explicit tags (!!int "", !!timestamp x) raise whatever their
# conversion does, and a number of many parts of 60 (1:1:1.0) may be beyond all floats.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError, ArithmeticError)

_REPR = reprlib.Repr()  # a value in a line: its beginning and end are enough
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 120


class Invalid(Exception):
    """The configuration cannot be used: one line that names the key, the value and the cure."""


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
    raw = _read(text, name)
    if raw is None:
        return Config()
    raw = _folded(raw, name)
    try:
        config = msgspec.convert(raw, Config, strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(one_line(f"{name}: {_explain(str(error), raw)}")) from error
    except UnicodeEncodeError as error:
        raise Invalid(f"{name}: a key or value is no Unicode text: correct it") from error
    if why := _objection(config):
        raise Invalid(one_line(f"{name}: {why}"))
    return config


def _read(text: str, name: str) -> Any:
    """The YAML document, whatever it is. Raises Invalid."""
    if len(text) > LARGEST:
        raise Invalid(one_line(f"{name}: more than {LARGEST} characters: no configuration: name the right file"))
    try:
        import yaml  # noqa: PLC0415 - only here: a daemon without a file does not carry the parser
    except OSError as error:  # no descriptor is left
        raise Invalid(f"{name}: {error.strerror}: the parser cannot be loaded: try again later") from error

    class Loader(yaml.SafeLoader):
        """Reads only true and false as booleans: off, on, yes and no are words here. Knows no aliases: nobody needs
        them here, and some lines of them mean more than any memory holds."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
            if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
                where = f"{name}: line {event.start_mark.line + 1}: *{event.anchor}"  # type: ignore[union-attr]
                raise Invalid(one_line(f"{where}: aliases are not read here: write the value itself"))
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """YAML itself would take the last one of several keys that are the same."""
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := [key for key, times in keys.items() if times > 1]:
                raise Invalid(one_line(f"{name}: {short(twice[0])}: given twice: remove one"))
            return super().construct_mapping(node, deep=deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
    try:
        return yaml.load(text, Loader)  # noqa: S506 - Loader is a SafeLoader
    except (yaml.YAMLError, *UNREADABLE) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Invalid(one_line(f"{name}: {where}{why}: not valid YAML: correct it")) from error


def _objection(config: Config) -> str:
    """What no type can tell of a value: the key, the value, the cure; "" if there is nothing."""
    checks: tuple[tuple[str, Callable[[Config], object]], ...] = (
        ("web-listen", lambda config: listen.parse(config.web_listen)),
        ("ovsdb", lambda config: config.ovsdb and _check_remote(config)),
        ("ssl-hostname", lambda config: remote.check_hostname(config.ssl_hostname)),
        ("affinity", lambda config: config.affinity in CHOSEN_BY_ITSELF or parse_cpu_list(config.affinity)),
    )
    for key, check in checks:
        try:
            check(config)
        except (listen.BadAddress, remote.BadRemote) as error:
            return f"{key}: {error}"
        except ValueError as error:
            return f"{key}: {error}: correct it"
    twice = [one for one, times in Counter(chain.from_iterable(config.offload.table_groups)).items() if times > 1]
    return f"offload.table-groups: {short(twice[0])}: in two groups, or twice in one: name it once" if twice else ""


def _check_remote(config: Config) -> str:
    """Its kind. Raises BadRemote."""
    files = {
        "ssl-private-key": config.ssl_private_key,
        "ssl-certificate": config.ssl_certificate,
        "ssl-ca-cert": config.ssl_ca_cert,
    }
    absent = " and ".join(key for key, file in files.items() if not file)
    kind = remote.check(config.ovsdb)
    if kind == remote.TLS and absent:
        raise remote.BadRemote(f"{config.ovsdb}: no files for TLS are set: set {absent} too")
    return kind


def _folded(raw: Any, name: str) -> Any:
    """The document with keys that have a dot in their sections. Raises Invalid."""
    if not isinstance(raw, dict):
        return raw
    folded = {key: {} if key in SECTIONS and value is None else value for key, value in raw.items()}
    for key in raw:
        section, dot, inner = key.partition(".") if isinstance(key, str) else ("", "", "")
        if not dot or section not in SECTIONS or not isinstance(folded.get(section, {}), dict):
            continue
        if inner in folded.get(section, {}):
            raise Invalid(one_line(f"{name}: {key}: given twice: remove one"))
        folded[section] = {**folded.get(section, {}), inner: folded.pop(key)}
    return folded


def _explain(message: str, raw: Any) -> str:
    """msgspec's "Expected `int` >= 1000 - at `$.refresh`" as: the key, its value, the cure."""
    unknown = re.match(r"Object contains unknown field `(.+?)`", message)
    path = re.search(r" - at (?:`key` in )?`\$\.?([^`]*)`$", message)
    if unknown is not None:
        section = f"{path[1]}." if path is not None and path[1] else ""
        known = (key.name for key in documented_keys() if key.name.rpartition(".")[0] == section.rstrip("."))
        return f"{section}{unknown[1]}: unknown key: remove it, or use one of {', '.join(known)}"
    expected = message if path is None else message[: path.start()]
    key, _, inside = path[1].partition("[") if path is not None else ("", "", "")  # of a list: the whole of it
    value = raw
    for part in key.split(".") if key else ():
        value = value.get(part) if isinstance(value, dict) else value
    kind = next((one.kind for one in documented_keys() if one.name == key), "")
    hidden = expected.startswith(("Invalid enum value", "Expected `bool`")) or "matching regex" in expected
    if kind and (hidden or inside):
        expected = f"Expected {kind}"
    try:
        shown = _REPR.repr(value)
    except ValueError:  # Python writes no such number in decimals
        shown = "a number of more than 4300 digits"
    return f"{key or 'the document'}: {shown}: {expected[:1].lower()}{expected[1:]}"
