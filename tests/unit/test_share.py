# SPDX-License-Identifier: Apache-2.0
"""The man pages and the shell completion: what the code says, fit for troff, and what bash really offers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovs_keepalive.config import documented_keys
from tests.conftest import cannot

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "ovs_keepalive" / "share"
PAGES = (SHARE / "man" / "ovs-keepalive.8", SHARE / "man" / "ovs-keepalive.conf.5")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which the code has just written them."""
    directory = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, "-m", "docs.generate_share", str(directory)], check=True, cwd=ROOT)
    return directory


@pytest.mark.parametrize("folder", ["man", "completion"])
def test_the_shipped_files_are_what_the_code_says(generated: Path, folder: str) -> None:
    fresh = {path.name: path.read_text() for path in (generated / folder).iterdir()}
    assert {path.name: path.read_text() for path in (SHARE / folder).iterdir()} == fresh, "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_troff_has_nothing_to_warn_of(page: Path) -> None:
    groff = shutil.which("groff") or cannot("there is no groff: install groff-base")
    done = subprocess.run([groff, "-man", "-ww", "-Tutf8", "-z", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_option_is_explained() -> None:
    lines = PAGES[0].read_text().splitlines()
    tagged = [(tag, text) for head, tag, text in zip(lines, lines[1:], lines[2:], strict=False) if head == ".TP"]
    assert [tag for tag, text in tagged if not text.strip(".")] == []
    assert len(tagged) > 40


def test_the_configuration_page_has_every_key() -> None:
    page = PAGES[1].read_text().replace("\\-", "-")
    assert [key.name for key in documented_keys() if f'.BI "{key.name}:"' not in page] == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ovs-keepalive", "sch"], {"schema"}),
        (["ovs-keepalive", "un"], {"uninstall"}),
        (["ovs-keepalive", "schema", ""], {"status", "apply", "revert", "--help", "--config", "--ovsdb"}),
        (["ovs-keepalive", "install", "--u"], {"--umask", "--user"}),
        (["ovs-keepalive", "run", "--config", "pyproj"], {"pyproject.toml"}),
        (["ovs-keepalive", "run", "--ovsdb", "s"], set()),
        (["ovs-keepalive", "no-such-verb", ""], set()),
    ],
)
def test_bash_offers(words: list[str], offered: set[str]) -> None:
    bash = shutil.which("bash") or cannot("there is no bash")
    script = (
        'completion=$1; shift; . "$completion"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))'
        '; _ovs_keepalive; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    argv = [bash, "-uc", script, "bash", str(SHARE / "completion" / "ovs-keepalive"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) == offered, done.stderr
