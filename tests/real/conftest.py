# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on real daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.register_assert_rewrite("tests.around")

from ovs_keepalive.sandbox import Sandbox  # noqa: E402
from tests.around import Watched  # noqa: E402 -- after its registration


@pytest.fixture
def watched(make_sandbox: Callable[..., Sandbox]) -> Iterator[Watched]:
    """A sandbox with two PMD threads, enabled, its daemon still to be started."""
    with Watched(make_sandbox()) as watched:
        yield watched
