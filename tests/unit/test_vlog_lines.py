# SPDX-License-Identifier: Apache-2.0
"""Lines of real vswitchds' logs (tests/golden/*/log.txt), their variants, and lines that only look like them.

Each log tells of the same: two PMDs, that on core 1 taken away and given back; it is held while a port is added, let go
after 1.5 s; held again while a flow is deleted and one added, until main had waited for it for 8 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_keepalive.core.log_events import Blocked
from ovs_keepalive.formats import vlog_lines

GOLDEN = Path(__file__).parents[1] / "golden"
LOGS = sorted(GOLDEN.glob("[0-9]*/log.txt"))
MARK = "to quiesce"  # of a line that ought to be read, in the words of the source


@pytest.fixture(params=LOGS, ids=lambda path: path.parent.name)
def log(request: pytest.FixtureRequest) -> list[str]:
    path: Path = request.param
    return path.read_text().splitlines()


def test_the_story_that_a_log_tells(log: list[str]) -> None:
    events = [event for line in log if (event := vlog_lines.parse(line)) is not None]
    blocked = [event for event in events if event.by == "main"]
    assert [round(event.ms, -3) for event in blocked] == [1000, 2000, 4000, 8000]
    [culprit] = {event.who for event in events}
    assert culprit.startswith("pmd-c01/id:")


def test_another_thread_may_wait_at_the_same_time() -> None:
    lines = (GOLDEN / "2.15.0" / "log.txt").read_text().splitlines()
    blocked = [event for line in lines if (event := vlog_lines.parse(line)) is not None]
    assert [event.by for event in blocked] == ["urcu3", "main", "urcu3", "main", "urcu3", "main", "main", "urcu3"]


def test_nothing_else_tells_anything(log: list[str]) -> None:
    told = [line for line in log if vlog_lines.parse(line) is not None]
    assert told == [line for line in log if MARK in line]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        # in the pattern for syslog
        ("ovs|00042|ovs_rcu|WARN|blocked 1000 ms waiting for main to quiesce", Blocked(1000, "main", "main")),
        # without any head; vlog numbers the lines of each thread
        (
            "ovs_rcu(urcu3)|WARN|blocked 1000 ms waiting for pmd-c01/id:10 to quiesce",
            Blocked(1000, "pmd-c01/id:10", "urcu3"),
        ),
        # a name of more than 15 characters: cut at its end up to 3.1, at its beginning from 3.2 on (lib/util.c)
        ("ovs_rcu|WARN|blocked 64000 ms waiting for pmd-c127/id:139 to quiesce", Blocked(64000, "pmd-c127/id:139")),
        ("ovs_rcu|WARN|blocked 64000 ms waiting for >d-c127/id:1390 to quiesce", Blocked(64000, ">d-c127/id:1390")),
        (
            "ovs_rcu|WARN|blocked 4294967295 ms waiting for revalidator12 to quiesce",
            Blocked(2**32 - 1, "revalidator12"),
        ),
    ],
)
def test_variants(line: str, event: object) -> None:
    assert vlog_lines.parse(line) == event


REAL = "2026-11-21T06:18:41.265Z|00093|ovs_rcu|WARN|blocked 4000 ms waiting for pmd-c01/id:8 to quiesce"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-11-21T06:18:46.667Z|00041|dpif_netdev|INFO|PMD thread on numa_id: 0, core id:  0, max sleep: 10000 us.",
        # the names of a port, a bridge, a user's message
        "2026-11-21T06:18:41Z|00093|bridge|INFO|bridge br0: added interface blocked 4000 ms waiting for x to quiesce",
        f"2026-11-21T06:18:41.265Z|00093|vlog|INFO|user-message: {REAL}",
        f"2026-11-21T06:18:41.265Z|00093|bridge|WARN|could not open network device x|00001|{REAL[31:]}",
        # cut short, run together
        REAL[:-1],
        REAL + "\n",
        REAL + REAL,
        REAL.replace("WARN", "DBG"),
        REAL.replace("4000", "-1"),
        REAL.replace("4000", "４０００"),  # noqa: RUF001 -- digits, but not OVS's
        REAL.replace("4000", "9" * 5000),
        REAL.replace("pmd-c01/id:8", "pmd-c01\0id:8"),
        REAL.replace("pmd-c01/id:8", "a name of no thread of OVS"),
    ],
)
def test_lines_that_only_look_like_them(line: str) -> None:
    assert vlog_lines.parse(REAL) == Blocked(4000, "pmd-c01/id:8", "main")
    assert vlog_lines.parse(line) is None
