# SPDX-License-Identifier: Apache-2.0
"""What goes through the pipes between the daemon and its survey: a JSON document a line."""

from __future__ import annotations

import msgspec

from ovs_keepalive.core.ports import Survey
from ovs_keepalive.formats.plain import LAST_MS, json_bytes

LARGEST = 16 << 20  # bytes of one survey; 500 ports take some 200,000


class Order(msgspec.Struct, frozen=True):
    """The first line that the survey gets: where to look."""

    remote: str  # of the database
    pidfile: str | None  # of vswitchd
    tls: tuple[str, str, str, str]  # private key, certificate, CA certificate, name: for an ssl: remote


class Ask(msgspec.Struct, frozen=True):
    """Every other line: a survey is wanted in so many seconds, or sooner if something has changed."""

    wait: float


_ORDER = msgspec.json.Decoder(Order)
_ASK = msgspec.json.Decoder(Ask)
_SURVEY = msgspec.json.Decoder(Survey)


def line(said: Order | Ask | Survey) -> bytes:
    """As it goes through the pipe."""
    return json_bytes(said) + b"\n"


def order(text: bytes) -> Order:
    """Raises ValueError."""
    return _ORDER.decode(text)


def ask(text: bytes) -> Ask:
    """Raises ValueError."""
    return _ASK.decode(text)


def survey(text: bytes) -> Survey:
    """Raises ValueError."""
    seen = _SURVEY.decode(text)
    if seen.at.mono < 0.0 or not 0 <= seen.at.wall_ms <= LAST_MS:
        raise ValueError(f"it is of a time that cannot be: {seen.at.wall_ms}")
    return seen
