# SPDX-License-Identifier: Apache-2.0
"""Any text that an operator may write: into other_config, or into the configuration file."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from ovs_keepalive import config_file
from ovs_keepalive.core import settings
from ovs_keepalive.core.settings import LONGEST_MS, SHORTEST_MS, Asked

NUMBERS = st.integers(-10, 4_000_000).map(str)
TEXT = st.text() | NUMBERS | st.sampled_from(["true", "false"])
ASKED = st.builds(Asked, st.booleans(), st.integers(SHORTEST_MS, LONGEST_MS), st.just(()))
KEYS = st.sampled_from(["enable-keepalive", "keepalive-interval", "keepalive-offload", "keepalive"])


@given(st.dictionaries(KEYS | st.text(), TEXT), ASKED)
def test_no_text_in_other_config_raises_and_the_interval_is_always_usable(
    other_config: dict[str, str], last: Asked
) -> None:
    asked = settings.read(other_config, last)
    assert SHORTEST_MS <= asked.interval_ms <= LONGEST_MS
    assert asked.enabled == (other_config.get("enable-keepalive", "").lower() == "true")


@given(TEXT, ASKED)
def test_an_interval_is_either_taken_as_it_reads_or_refused_verbatim(text: str, last: Asked) -> None:
    asked = settings.read({"keepalive-interval": text}, last)
    if asked.rejected:
        assert asked.interval_ms == last.interval_ms
        assert text in asked.rejected[0]
    else:
        assert asked.interval_ms == int(text)


@given(st.lists(TEXT, max_size=5), ASKED)
def test_the_last_good_interval_stays_through_any_number_of_bad_ones(texts: list[str], last: Asked) -> None:
    asked = last
    good = last.interval_ms
    for text in texts:
        asked = settings.read({"keepalive-interval": text}, asked)
        good = int(text) if not asked.rejected else good
        assert asked.interval_ms == good


# Pieces of which YAML, right and wrong, is made.
PIECES = st.sampled_from(
    [
        *"abc019:-[]{}#&*!|>'\"%@`,? \n\t\\~._=<",
        *("refresh", "schema", "ovsdb", ": ", "- ", "&a", "*a", "<<", "---", "...", "\\e", "\\ud800"),
        *("!!", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!null "),
        *("off", "auto", "true", "null", ".nan", "1000", "2026-13-45", "1_0", "0b", "0o7", "190:20:30"),
    ]
)
YAML = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)
VALUES = st.tuples(
    st.sampled_from(["refresh", "ovsdb", "schema", "hung-after", "x", "offload", "offload.table-groups"]), YAML
).map(": ".join)


@effort(max_examples=300)
@given(YAML | VALUES)
@example("refresh: !!timestamp x")
@example("true")
@example("offload: {allow-act: [true]}")
def test_any_text_is_a_configuration_or_one_line_that_says_why_not(text: str) -> None:
    try:
        config_file.parse(text, "c.yaml")
    except config_file.Invalid as error:
        line = str(error)
        assert line.startswith("c.yaml: ")
        assert line.isprintable()
        line.encode()
