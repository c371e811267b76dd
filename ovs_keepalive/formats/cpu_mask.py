# SPDX-License-Identifier: Apache-2.0
"""other_config:pmd-cpu-mask, in hexadecimal digits with or without 0x (vswitchd/vswitch.xml)."""

from __future__ import annotations

import re
from collections.abc import Collection

LONGEST = 4096 // 4 + 2  # characters: as many CPUs as the kernel can be built for
_MASK = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)")


def parse(text: str) -> frozenset[int]:
    """The cores of a mask. Raises ValueError."""
    found = _MASK.fullmatch(text.strip())
    if found is None or len(text) > LONGEST:
        raise ValueError(f"pmd-cpu-mask {text[:40]!r}: no mask in hexadecimal digits")
    mask = int(found[1], 16)
    return frozenset(core for core in range(mask.bit_length()) if mask >> core & 1)


def written(cores: Collection[int]) -> str:
    """The mask of these cores."""
    return hex(sum(1 << core for core in set(cores)))
