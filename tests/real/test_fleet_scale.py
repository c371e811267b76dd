# SPDX-License-Identifier: Apache-2.0
"""Many hosts on three servers: how long a change of state takes to a reader, and how long a whole look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet_scale import measure
from tests.zookeeper import Zookeeper, planted

pytestmark = pytest.mark.real


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_of_two_hundred_hosts_a_change_is_read_within_a_second(tmp_path: Path) -> None:
    with Zookeeper(tmp_path, 3) as zookeeper, planted(zookeeper, timeout=10.0) as connect:
        measured = measure(zookeeper, connect(), 200, rate=5.0, seconds=8.0)
    print(measured)
    assert len(measured.delays) > 15
    assert measured.part(0.5) < 0.5, measured
    assert measured.reading < 5.0


@pytest.mark.long
@pytest.mark.timeout(400)
def test_of_a_thousand_hosts_a_change_is_read_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    with Zookeeper(tmp_path, 3) as zookeeper, planted(zookeeper, timeout=10.0) as connect:
        measured = measure(zookeeper, connect(), 1000, rate=5.0, seconds=60.0)
    print(measured)
    assert measured.part(0.5) <= 0.1, measured
    assert measured.part(0.99) <= 1.0, measured
    assert measured.reading <= 5.0
