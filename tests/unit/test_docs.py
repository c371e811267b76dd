# SPDX-License-Identifier: Apache-2.0
"""What is written in docs/ about the code is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ovs_keepalive.config import Config
from ovs_keepalive.config_file import parse

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("states", "docs/states.md"),
        ("metrics", "docs/metrics.md"),
        ("dashboard", "ovs_keepalive/share/grafana/ovs-keepalive.json"),
    ],
)
def test_what_is_generated_is_what_the_code_says(script: str, page: str) -> None:
    path = ROOT / "docs" / f"generate_{script}.py"
    printed = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (ROOT / page).read_text() == printed.stdout, "run make docs"


def test_every_relative_link_in_the_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_configuration_shown_in_the_readme_shows_the_defaults() -> None:
    text = (ROOT / "README.md").read_text()
    yaml = text.partition("```yaml\n")[2].partition("```")[0]
    assert parse(yaml, "README.md") == Config()
    shown = set(re.findall(r"^([a-z-]+):", yaml, re.MULTILINE))
    assert len(shown) >= 4
    assert shown <= {field.replace("_", "-") for field in Config.__struct_fields__}
