# SPDX-License-Identifier: Apache-2.0
"""The files of the two pages, the node's and the fleet's: what no browser has to be asked for."""

from __future__ import annotations

import re
from importlib import resources

from ovs_keepalive.core import strip
from ovs_keepalive.core.health import Health
from ovs_keepalive.core.model import BAD, Cause, VswitchdState
from ovs_keepalive.formats import document
from ovs_keepalive.formats.answers import kind
from ovs_keepalive.formats.tables import SENTENCES
from ovs_keepalive.publishers.board import REFRESH
from ovs_keepalive.publishers.http import FILES

WEB = resources.files("ovs_keepalive") / "share" / "web"
TEXTS = {file.name: file.read_text() for file in WEB.iterdir()}
BOTH = {
    f"{folder}/{file.name}": file.read_text()
    for folder in ("web", "fleet")
    for file in (resources.files("ovs_keepalive") / "share" / folder).iterdir()
}
SCRIPTS = "\n".join(text for name, text in TEXTS.items() if name.endswith(".js"))

# What turns text into elements or code; and what the security policy refuses.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.style|srcdoc"
    r"|\son[a-z]+=|<style|<script>|style="
)
MAX_LINES = 400


def _table(name: str) -> dict[str, str]:
    """A table of words in the scripts: `const NAME = {`, a line each."""
    body = SCRIPTS.partition(f"const {name} = {{\n")[2].partition("\n};")[0]
    return dict(re.findall(r'^  "([^"]+)": "([^"]+)",$', body, re.MULTILINE))


def test_each_file_is_served_and_nothing_else() -> None:
    assert sorted(FILES.values()) == sorted(TEXTS)
    kinds = {name.rpartition(".")[2]: kind(name).partition(";")[0] for name in FILES.values()}
    assert kinds == {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def test_each_file_that_is_named_exists() -> None:
    named = re.findall(
        r'(?:href|src)="([\w-]+\.\w+)"|from "\./([\w.]+)"|"(icon[\w-]*\.svg)"', "\n".join(TEXTS.values())
    )
    assert {next(filter(None, groups)) for groups in named} == set(TEXTS) - {"index.html"}


def test_no_file_is_longer_than_it_can_be_read_and_each_names_its_license() -> None:
    assert [name for name, text in BOTH.items() if text.count("\n") > MAX_LINES] == []
    assert [name for name, text in BOTH.items() if "SPDX-License-Identifier: Apache-2.0" not in text[:120]] == []


def test_nothing_in_them_makes_code_or_elements_of_text() -> None:
    assert [(name, found[0]) for name, text in BOTH.items() if (found := SINKS.search(text))] == []


def test_nothing_in_them_leads_away_from_the_host() -> None:
    namespace = "http://www.w3.org/2000/svg"
    leading = re.compile(r"(?:https?:|wss?:)?//[a-z0-9]", re.IGNORECASE)
    texts = {
        name: re.sub(r"^\s*//.*$", "", text.replace(namespace, ""), flags=re.MULTILINE) for name, text in BOTH.items()
    }
    assert [(name, found[0]) for name, text in texts.items() if (found := leading.search(text))] == []


def test_the_page_says_of_a_cause_what_explain_says() -> None:
    assert _table("WHY") == {cause: sentence.format("") for cause, sentence in SENTENCES.items()}
    assert set(_table("WHY")) == set(Cause)


def test_the_page_knows_all_states_and_words() -> None:
    assert set(_table("VSWITCHD")) == set(VswitchdState) - {VswitchdState.RUNNING}
    signs = SCRIPTS.partition("const SIGNS = {")[2].partition("}")[0]
    assert set(re.findall(r"(\w+):", signs)) == set(Health) - {Health.UNKNOWN}  # its sign is that of no news
    bad = SCRIPTS.partition("const BAD = [")[2].partition("]")[0]
    assert re.findall(r'"(\w+)"', bad) == [*map(str, reversed(BAD))]
    assert re.findall(r"#glance\.(\w+)", TEXTS["page.css"]) == ["WELL", "WARNING", "FAILURE", "RESTARTING"]


def test_the_page_counts_as_the_daemon_does() -> None:
    assert _number("VERSION") == document.VERSION
    assert _number("CELLS") == strip.CELLS
    worst_first = sorted(strip.BADNESS, key=strip.BADNESS.__getitem__, reverse=True)
    assert f'const WORST = "{"".join(worst_first)}";' in SCRIPTS
    assert _number("STALE_MS") >= 2 * REFRESH * 1000  # one event that is lost is no alarm


def _number(name: str) -> int:
    [value] = re.findall(rf"^const {name} = (\d+);", SCRIPTS, re.MULTILINE)
    return int(value)
