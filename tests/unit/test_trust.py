# SPDX-License-Identifier: Apache-2.0
"""Which interpreters an upgrade may be told to start: the control socket is no way to run code."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from ovs_keepalive.programs.trust import of_interpreter

UID = os.geteuid()


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter two directories down, and nothing to object to."""
    path = tmp_path / "lib" / "bin" / "python"
    path.parent.mkdir(parents=True)
    for directory in (tmp_path, *path.relative_to(tmp_path).parents):
        (tmp_path / directory).chmod(0o755)
    path.write_text("")
    path.chmod(0o755)
    assert of_interpreter(str(path), UID, tmp_path) == ""
    return path


def test_the_systems_own_may_be_run_though_it_is_a_link() -> None:
    found = shutil.which("python3", path="/usr/bin") or sys.executable
    why = of_interpreter(found, UID)
    assert why == "" or Path(found).resolve().parts[1] not in ("usr", "bin"), why


@pytest.mark.parametrize("program", ["python3", "./python3", "", "bin/../python", "/usr/bin/../bin/python3"])
def test_a_path_that_is_not_absolute_is_refused(program: str) -> None:
    assert "absolute path" in of_interpreter(program, UID)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_what_others_may_write_to_is_refused_on_every_step(python: Path, tmp_path: Path, steps: int, mode: int) -> None:
    (python, *python.parents)[steps].chmod(mode)
    why = of_interpreter(str(python), UID, tmp_path)
    assert why.startswith(f"{(python, *python.parents)[steps]}: others may write to it")


def test_what_another_user_owns_is_refused(python: Path, tmp_path: Path) -> None:
    why = of_interpreter(str(python), UID + 1, tmp_path) if UID else _given_away(python, tmp_path)
    assert "neither root nor the daemon's" in why


def _given_away(python: Path, tmp_path: Path) -> str:
    os.chown(python.parent, 12345, -1)
    return of_interpreter(str(python), UID, tmp_path)


def test_a_link_is_as_good_as_where_it_is_and_what_it_leads_to(python: Path, tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to("lib/bin/python")
    assert of_interpreter(str(link), UID, tmp_path) == ""
    directory = tmp_path / "short"
    directory.symlink_to("lib/bin")
    assert of_interpreter(str(directory / "python"), UID, tmp_path) == ""
    python.parent.parent.chmod(0o777)
    for path in (link, directory / "python"):
        assert of_interpreter(str(path), UID, tmp_path).startswith(f"{python.parent.parent}: others may")


def test_links_in_a_circle_and_what_is_no_program_are_refused(python: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "too many links" in of_interpreter(str(tmp_path / "a"), UID, tmp_path)
    python.chmod(0o644)
    assert "no program" in of_interpreter(str(python), UID, tmp_path)
    assert "no program" in of_interpreter(str(python.parent), UID, tmp_path)
    assert "No such file" in of_interpreter(str(python.with_name("absent")), UID, tmp_path)
