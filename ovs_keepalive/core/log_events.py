# SPDX-License-Identifier: Apache-2.0
"""What vswitchd's log tells of its threads, as a noun."""

from __future__ import annotations

from typing import NamedTuple

MAIN = "main"  # what OVS calls its main thread


class Blocked(NamedTuple):
    """A thread waits for another one to quiesce. Told after 1 s, and whenever that time has doubled; not when it ends.

    Only `by` main is main held up. `who` main is no news: a main thread that is busy does not quiesce.
    """

    ms: int  # for which it has waited
    who: str  # is waited for: "pmd-c01/id:8" as its comm has it, "revalidator5", "main"
    by: str = MAIN  # waits: "main", "urcu3"
