# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control_socket import ControlSocket


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlSocket]:
    """A control socket that answers what the test tells it to."""
    with ControlSocket(tmp_path / "ovs-vswitchd.1.ctl") as listening:
        yield listening
