# SPDX-License-Identifier: Apache-2.0
"""What collectd's exec plugin makes of a line, by its rules: the buffer of exec.c, quoted strings and options as
collectd-unixsock(5) has them, identifiers parted by `/`. AssertionError for what it would refuse.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BUFFER = 1200  # bytes, of which the last is collectd's
MESSAGE, NAME = 256, 128  # bytes that collectd keeps of a message, and of a part of an identifier, with their end

_WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]\S*))\s*', re.DOTALL)
_OPTION = re.compile(r"\s*([A-Za-z0-9_:]+)=(?=\S)")


class Value(NamedTuple):
    """A PUTVAL that is taken."""

    host: str
    instance: str
    type: str  # with the type instance: "gauge-state"
    interval: float
    value: str


class Told(NamedTuple):
    """A PUTNOTIF that is taken."""

    severity: str
    instance: str
    type: str
    message: str
    meta: dict[str, str]
    time: float
    host: str


def read(line: str) -> Value | Told:
    """What the line says to collectd."""
    assert len(line.encode()) + 1 < BUFFER, f"too long for collectd's buffer: {line}"
    assert "\n" not in line
    assert "\0" not in line
    command, rest = _word(line)
    return _value(rest) if command == "PUTVAL" else _notification(command, rest)


def _value(rest: str) -> Value:
    identifier, rest = _word(rest)
    host, plugin, kind = identifier.split("/")
    name, _, instance = plugin.partition("-")
    assert (name, bool(instance)) == ("ovs_keepalive", True)
    assert all(len(part.encode()) < NAME for part in (host, plugin, kind))
    options = re.fullmatch(r"interval=([0-9.e+-]+) N:(U|-?[0-9.]+)", rest)
    assert options is not None, rest
    return Value(host, instance, kind, float(options[1]), options[2])


def _notification(command: str, rest: str) -> Told:
    assert command == "PUTNOTIF"
    options: dict[str, str] = {}
    while rest:
        option = _OPTION.match(rest)
        assert option is not None, f"malformed option: {rest}"
        assert option[1] not in options
        options[option[1]], rest = _word(rest[option.end() :])
    meta = {key[2:]: options.pop(key) for key in list(options) if key[1:2] == ":" and key[0] == "s"}
    known = {"time", "severity", "host", "plugin", "plugin_instance", "type", "type_instance", "message"}
    assert set(options) == known
    assert options["severity"] in ("okay", "warning", "failure")
    assert options["plugin"] == "ovs_keepalive"
    assert 0 < len(options["message"].encode()) < MESSAGE
    assert "/" not in options["plugin_instance"]
    return Told(
        options["severity"],
        options["plugin_instance"],
        f"{options['type']}-{options['type_instance']}",
        options["message"],
        meta,
        float(options["time"]),
        options["host"],
    )


def _word(text: str) -> tuple[str, str]:
    """The first word, its quotes and escapes taken away, and what follows."""
    found = _WORD.match(text)
    assert found is not None, f"no word: {text}"
    word = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found[1] is not None else found[2]
    return word, text[found.end() :]
