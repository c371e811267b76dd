# SPDX-License-Identifier: Apache-2.0
"""`fleet watch` beside a fleet that a test makes up: it ends when what it prints goes nowhere any more."""

from __future__ import annotations

import argparse
import errno
import os
import threading
from contextlib import suppress

import pytest

from ovs_keepalive import fleet_cli
from ovs_keepalive.command_line import WELL
from ovs_keepalive.config_sections import Fleet
from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.fleet.session import Options
from tests.pages import Source, host

WORDS = argparse.Namespace(action="watch", cell=None)


class Restless(Source):
    """A fleet whose host changes with every word."""

    def tell(self) -> None:
        """Hand it over, changed."""
        is_well = not self.sights or next(iter(self.sights.values())).state is not HostState.WELL
        self.sights = {("c1", "a"): host("a", HostState.WELL if is_well else HostState.FAILURE)}
        super().tell()


def watch(out: int) -> int:
    """The verb, in this thread."""
    with suppress(BrokenPipeError), os.fdopen(out, "w") as file:  # what is left in its buffer nobody takes
        return fleet_cli.run(WORDS, Fleet(), Options("127.0.0.1:1"), file)
    return WELL


@pytest.mark.parametrize("source", [Source(), Restless()], ids=["quiet", "restless"])
@pytest.mark.timeout(20)
def test_it_ends_when_its_reader_does(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    source.sights = {("c1", "a"): host("a")}
    monkeypatch.setattr(fleet_cli, "Following", lambda *_: source)
    reads, writes = os.pipe()
    lines: list[str] = []

    def head() -> None:
        """As `head -1`."""
        with os.fdopen(reads) as file:
            lines.append(file.readline())

    reader = threading.Thread(target=head)
    reader.start()
    assert watch(writes) == WELL
    reader.join()
    assert lines[0].startswith("1 host: 1 ")


@pytest.mark.timeout(20)
def test_a_full_disk_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_cli, "Following", lambda *_: Source())
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        watch(os.open("/dev/full", os.O_WRONLY))
