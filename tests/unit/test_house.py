# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that no linter knows. Each test says a rule, and fails with the list of what breaks it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = sorted((ROOT / "ovs_keepalive").rglob("*.py"))

MAX_LINES = 400
SAYS_NOTHING = {"base", "common", "handlers", "helpers", "lib", "manager", "managers", "misc", "util", "utils"}
# The only modules that may ask for the time; everywhere else it is an argument.
CLOCK_OWNERS = {"beat", "children", "cli", "daemon", "demo", "port_verbs", "sandbox", "survey"}
CLOCK_OWNERS |= {"upgrade", "upgrade_verb", "upgrade_watch", "watch"}
CLOCK = re.compile(r"time\.(time|monotonic|perf_counter|process_time|thread_time|clock_gettime)(_ns)?|time\.sleep")
WALL_CLOCK = re.compile(r"datetime\.(datetime\.)?(now|utcnow|today)|datetime\.date\.today")
# A path of one machine. After a word or a bracket it is another path's tail, as in /proc/1/root/.
MACHINE_PATH = re.compile(r"(?<![\w.)}>\]])/(?:work|root)/")


def test_no_product_file_is_longer_than_it_can_be_read() -> None:
    too_long = {_name(path): lines for path in PRODUCT if (lines := path.read_text().count("\n")) > MAX_LINES}
    assert not too_long, f"over {MAX_LINES} lines: would two rooms be clearer?"


def test_every_module_and_folder_is_called_for_what_it_does() -> None:
    assert [_name(path) for path in PRODUCT if SAYS_NOTHING & {path.stem, path.parent.name}] == []


def test_every_product_file_names_its_license() -> None:
    spdx = "# SPDX-License-Identifier: Apache-2.0"
    assert [_name(path) for path in PRODUCT if spdx not in path.read_text().splitlines()[:2]] == []


def test_every_module_says_what_it_is_for() -> None:
    trees = {_name(path): ast.parse(path.read_text()) for path in PRODUCT}
    assert [name for name, tree in trees.items() if tree.body and ast.get_docstring(tree) is None] == []


def test_only_the_root_floor_reads_clocks() -> None:
    assert [
        f"{_name(path)}:{line} {call}"
        for path in PRODUCT
        if path.parent.name != "ovs_keepalive" or path.stem not in CLOCK_OWNERS
        for line, call in _clocks(path.read_text())
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\nx = time.monotonic()",
        "import time as t\ndef f(clock=t.time_ns): ...",
        "from time import monotonic as now\nnow()",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "import datetime\ndatetime.datetime.now()",
    ],
)
def test_a_clock_is_found_under_any_name(text: str) -> None:
    assert [line for line, _ in _clocks(text)] == [2]


def test_a_namesake_is_no_clock() -> None:
    assert list(_clocks("import time\ntime.strftime('%T', at)\nlook.time.monotonic()\nnow = stamp.now()")) == []


def test_no_committed_text_holds_a_path_of_one_machine() -> None:
    found = [
        f"{_name(path)}:{number} {line.strip()[:100]}"
        for path in _committed_files()
        for number, line in enumerate(_text(path).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_the_schema_that_people_read_is_the_one_that_is_installed() -> None:
    installed = resources.files("ovs_keepalive") / "share" / "keepalive.json"
    assert installed.read_text() == (ROOT / "schema" / "keepalive.json").read_text()


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _clocks(text: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each use of a clock, called at once or handed on."""
    tree = ast.parse(text)
    names: dict[str, str] = {}  # as the file says it -> where it comes from
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, tail = ast.unparse(node).partition(".")
            full = names.get(head, "") + dot + tail
            if CLOCK.fullmatch(full) or WALL_CLOCK.fullmatch(full):
                yield node.lineno, full


def _committed_files() -> list[Path]:
    """What git tracks, and what it would take in with `git add`."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, or no git: nobody can say which files are committed")
    listed = subprocess.run(
        # safe.directory: root may test a checkout that belongs to somebody else
        [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _text(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode(errors="replace")
