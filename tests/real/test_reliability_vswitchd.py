# SPDX-License-Identifier: Apache-2.0
"""vswitchd crashes again and again: reported as a loop, each PMD told GONE when it is and ALIVE when it is.

docs/reliability.md has a line for each test here.
"""

from __future__ import annotations

import re
import time
from functools import partial

import pytest

from ovs_keepalive import records
from ovs_keepalive.sandbox import Sandbox, wait
from tests.around import Watched

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("crashes", "pause"),
    [
        pytest.param(4, 0.0, id="4-crashes"),
        pytest.param(150, 2.0, id="every-2s-for-5min", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_a_crash_loop_is_reported_as_such(watched: Watched, crashes: int, pause: float) -> None:
    """Two crashes are two crashes; from the third on it is a loop, and stays one when vswitchd runs again."""
    watched.start()
    sandbox = watched.sandbox
    names = set(sandbox.pmds())
    with watched.stretch() as stretch:
        for crash in range(1, crashes + 1):
            began = time.monotonic()
            sandbox.kill_vswitchd()
            word = "CRASH-LOOP;since=" if crash >= 3 else "GONE;since="
            wait(partial(tells, sandbox, word), f"{word} after crash {crash}", 5)
            states = {value.partition(",")[0] for value in sandbox.column().values()}
            assert states <= {"GONE"}, watched.asks("keepalive/explain", "vswitchd")
            sandbox.start_vswitchd()
            word = "CRASH-LOOP;pid=" if crash >= 3 else "RUNNING;pid="
            wait(partial(tells, sandbox, word), f"{word} after crash {crash}", 20)
            if crash < 3 or crash == crashes:
                watched.wait_until_well(20)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))  # the loop's own pace
    watched.beat_on(stretch)
    assert {name.partition("/")[0] for name in sandbox.column()} == {name.partition("/")[0] for name in names}
    said = watched.asks("keepalive/explain", "vswitchd")
    assert re.search(rf"is CRASH-LOOP since .* UTC: {crashes} crashes within 10 min; now RUNNING: ", said), said
    told = [line for line in watched.history() if line["who"] == "vswitchd" and line["to"] == "CRASH-LOOP"]
    assert len(told) == crashes - 2 or len(told) > 40, "the history keeps the newest lines"
    assert len(records.numbers(sandbox.dir / "state")) <= 3, "one record a crash before the loop, one of the loop"
    assert stretch.grown <= 32 << 20
    watched.came_through(lines=160)


def tells(sandbox: Sandbox, word: str) -> bool:
    """Whether the column's pair of vswitchd begins like this."""
    return sandbox.detail()["vswitchd"].startswith(word)
