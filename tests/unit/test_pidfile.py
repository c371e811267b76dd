# SPDX-License-Identifier: Apache-2.0
"""Of daemons that start at once on one pidfile exactly one gets it, whatever lay there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovs_keepalive.pidfile import Pidfile, Taken

RACERS, ROUNDS = 6, 25


def race(path: Path) -> list[str]:
    """What each of several processes says that try at the same moment. All live until all have tried."""
    start_read, start_write = os.pipe()
    end_read, end_write = os.pipe()
    told_read, told_write = os.pipe()
    children = []
    for _ in range(RACERS):
        child = os.fork()
        if child == 0:
            os.close(start_write)
            os.close(end_write)
            os.read(start_read, 1)  # until its other end is closed
            try:
                kept = Pidfile(path)
                word = f"got {os.getpid()}\n"
            except Taken as error:
                kept, word = None, f"taken {str(error).partition(' as pid ')[2].partition(':')[0]}\n"
            except OSError as error:
                kept, word = None, f"{error!r}\n"
            os.write(told_write, word.encode())
            os.read(end_read, 1)
            os._exit(0 if kept else 1)
        children.append(child)
    for end in (start_read, end_read, told_write, start_write):
        os.close(end)
    told = b""
    while told.count(b"\n") < RACERS and (part := os.read(told_read, 4096)):
        told += part
    os.close(end_write)
    os.close(told_read)
    for child in children:
        os.waitpid(child, 0)
    return told.decode().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "a file that a killed daemon left"])
def test_of_several_that_start_at_once_exactly_one_gets_the_name(tmp_path: Path, before: str) -> None:
    path = tmp_path / "ovs-keepalive.pid"
    for _ in range(ROUNDS):
        path.unlink(missing_ok=True)
        if before != "nothing":
            path.write_text("4194303\n")
        told = race(path)
        [winner] = [line.split()[1] for line in told if line.startswith("got ")]
        assert path.read_text() == f"{winner}\n"
        assert sorted(line for line in told if not line.startswith("got ")) == [f"taken {winner}"] * (RACERS - 1)
        assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing else is left"


def test_its_end_takes_away_its_own_file_only(tmp_path: Path) -> None:
    path = tmp_path / "ovs-keepalive.pid"
    own = Pidfile(path)
    path.unlink()
    path.write_text("another's\n")
    own.remove()
    assert path.read_text() == "another's\n"
    os.close(own._file)
