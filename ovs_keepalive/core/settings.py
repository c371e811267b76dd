# SPDX-License-Identifier: Apache-2.0
"""The live settings in Open_vSwitch.other_config: what is asked for, and what of it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

SHORTEST_MS, LONGEST_MS = 10, 3_600_000
DEFAULT_MS = 1000
NAP_KEYS = ("pmd-sleep-max", "pmd-maxsleep")  # OVS 3.2 and later, and before
LONGEST_NAP_US = 10_000  # OVS takes no more


class Offload(StrEnum):
    """other_config:keepalive-offload: how far the daemon goes with flows in hardware (CONTRACT section 9)."""

    OFF = "off"
    WATCH = "watch"
    PLAN = "plan"
    ACT = "act"


class Asked(NamedTuple):
    """The settings in force and the texts that were refused."""

    enabled: bool = False
    interval_ms: int = DEFAULT_MS
    rejected: tuple[str, ...] = ()  # one line each, the offending text verbatim
    offload: Offload = Offload.OFF


def read(other_config: Mapping[str, str], last: Asked) -> Asked:
    """The settings now. A value that cannot be used leaves the last good one in force.

    As in OVS itself (smap_get_bool, lib/smap.c) anything but "true" is false.
    """
    rejected = []
    enable = other_config.get("enable-keepalive", "false")
    if enable.lower() not in ("true", "false"):
        rejected.append(f"other_config:enable-keepalive={enable}: counts as false: set true or false")
    interval_ms = DEFAULT_MS
    text = other_config.get("keepalive-interval")
    if text is not None:
        usable = text.isascii() and text.isdigit() and len(text) <= len(str(LONGEST_MS))
        if usable and SHORTEST_MS <= int(text) <= LONGEST_MS:
            interval_ms = int(text)
        else:
            interval_ms = last.interval_ms
            rejected.append(
                f"other_config:keepalive-interval={text}: {interval_ms} ms stays in force: "
                f"set milliseconds from {SHORTEST_MS} to {LONGEST_MS}"
            )
    offload = Offload.OFF
    mode = other_config.get("keepalive-offload")
    if mode is not None:
        if mode in tuple(Offload):
            offload = Offload(mode)
        else:
            offload = last.offload
            rejected.append(
                f"other_config:keepalive-offload={mode}: {offload} stays in force: set {', '.join(Offload)}"
            )
    return Asked(is_true(other_config, "enable-keepalive"), interval_ms, tuple(rejected), offload)


def is_true(other_config: Mapping[str, str], key: str) -> bool:
    """One of Open vSwitch's own switches, as it reads it itself (smap_get_bool, lib/smap.c)."""
    return other_config.get(key, "false").lower() == "true"


def longest_nap(other_config: Mapping[str, str]) -> float:
    """Seconds for which OVS may let a PMD that has little to do sleep in each iteration; 0.0: it never does.

    pmd-sleep-max may name cores of their own: "50,8:0,9:100" (vswitchd/vswitch.xml).
    """
    text = next((other_config[key] for key in NAP_KEYS if key in other_config), "")
    naps = [part.rpartition(":")[2].strip()[:6] for part in text.split(",")]
    us = max((int(nap) for nap in naps if nap.isascii() and nap.isdigit()), default=0)
    return min(us, LONGEST_NAP_US) / 1e6
