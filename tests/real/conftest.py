# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on real daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.register_assert_rewrite("tests.around")

from ovs_keepalive.sandbox import Sandbox  # noqa: E402
from tests.around import Watched  # noqa: E402 -- after its registration
from tests.zookeeper import Zookeeper  # noqa: E402


@pytest.fixture
def watched(make_sandbox: Callable[..., Sandbox]) -> Iterator[Watched]:
    """A sandbox with two PMD threads, enabled, its daemon still to be started."""
    with Watched(make_sandbox()) as watched:
        yield watched


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zookeeper]:
    """One server, that the tests of a file share which do it no harm."""
    with Zookeeper(tmp_path_factory.mktemp("zk")) as zookeeper:
        yield zookeeper
