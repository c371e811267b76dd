# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive offload show|plan|arm|disarm`: what the daemon's control socket answers, for people and scripts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from ovs_keepalive.formats import offload as form
from ovs_keepalive.formats.plain import json_text
from ovs_keepalive.formats.tables import DISABLED

Ask = Callable[..., Any]  # of a method and its arguments, decoded


class Foreign(Exception):
    """The daemon answers something else: one line."""


def run(options: argparse.Namespace, ask: Ask, out: TextIO) -> bool:
    """Ask, and print the answer; whether all is well. Raises Foreign, and what ask raises."""
    words = [options.minutes] if options.minutes is not None else []
    answer = ask(f"offload/{options.action}", *words, "--json")
    try:
        enabled, well = answer["enabled"], options.action != "show" or not answer["enabled"] or form.is_well(answer)
        text = json_text(answer) if options.json else _TEXT[options.action](answer) if enabled else f"{DISABLED}\n"
    except (KeyError, TypeError, AttributeError) as error:
        cure = "is it of another version? ovs-appctl -t ovs-keepalive version"
        raise Foreign(f"what the daemon answers cannot be shown: {cure}") from error
    out.write(text)
    return well


_TEXT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "show": form.show,
    "plan": form.plan,
    "arm": form.armed,
    "disarm": form.disarmed,
}
