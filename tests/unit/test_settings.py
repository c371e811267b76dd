# SPDX-License-Identifier: Apache-2.0
"""The live settings in other_config: the last good value stays, what is refused is told verbatim."""

from __future__ import annotations

import pytest

from ovs_keepalive.core import settings
from ovs_keepalive.core.settings import Asked, Offload

LAST = Asked(enabled=True, interval_ms=250)


def test_without_settings_it_is_disabled_and_the_interval_is_one_second() -> None:
    assert settings.read({}, Asked()) == Asked(enabled=False, interval_ms=1000, rejected=())


def test_keys_of_others_are_none_of_its_business() -> None:
    assert settings.read({"pmd-cpu-mask": "nonsense", "": ""}, Asked()) == Asked()


@pytest.mark.parametrize("text", ["true", "TRUE", "True"])
def test_true_enables_in_any_case_as_in_ovs_itself(text: str) -> None:
    assert settings.read({"enable-keepalive": text}, Asked()).enabled


@pytest.mark.parametrize("text", ["false", "FALSE"])
def test_false_disables(text: str) -> None:
    assert settings.read({"enable-keepalive": text}, LAST) == Asked()


@pytest.mark.parametrize("text", ["", "yes", "1", "on", " true", "true ", "wahr"])
def test_anything_else_counts_as_false_and_is_told(text: str) -> None:
    asked = settings.read({"enable-keepalive": text}, LAST)
    assert not asked.enabled
    assert asked.rejected == (f"other_config:enable-keepalive={text}: counts as false: set true or false",)


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("1000", 1000), ("3600000", 3_600_000), ("0500", 500)])
def test_an_interval_from_10_ms_to_an_hour_is_taken(text: str, value: int) -> None:
    assert settings.read({"keepalive-interval": text}, LAST) == Asked(enabled=False, interval_ms=value)


@pytest.mark.parametrize(
    "text",
    [
        "9",
        "0",
        "3600001",
        "-100",
        "+100",
        "",
        " 100",
        "100 ",
        "1e3",
        "100.0",
        "0x64",
        "1_000",
        "soon",
        "\u0661\u0660\u0660",
        "\u00b2\u00b2",
        "9" * 5000,
    ],
)
def test_a_bad_interval_leaves_the_last_good_one_in_force(text: str) -> None:
    asked = settings.read({"enable-keepalive": "true", "keepalive-interval": text}, LAST)
    assert asked.interval_ms == LAST.interval_ms
    assert asked.enabled
    (line,) = asked.rejected
    assert f"keepalive-interval={text}: " in line
    assert "250 ms stays in force" in line
    assert "10 to 3600000" in line


def test_an_interval_that_is_taken_away_is_the_default_again() -> None:
    assert settings.read({}, LAST).interval_ms == 1000


def test_a_good_interval_after_a_bad_one_is_no_longer_complained_of() -> None:
    bad = settings.read({"keepalive-interval": "soon"}, LAST)
    assert settings.read({"keepalive-interval": "500"}, bad) == Asked(enabled=False, interval_ms=500)


def test_two_bad_values_are_two_lines() -> None:
    assert len(settings.read({"keepalive-interval": "x", "enable-keepalive": "y"}, LAST).rejected) == 2


@pytest.mark.parametrize(
    ("other_config", "seconds"),
    [
        ({}, 0.0),
        ({"pmd-maxsleep": "500"}, 0.0005),
        ({"pmd-sleep-max": "50,8:0,9:100"}, 0.0001),
        ({"pmd-sleep-max": "10:200, 11:100"}, 0.0002),
        ({"pmd-sleep-max": "0", "pmd-maxsleep": "500"}, 0.0),  # the older name counts for nothing beside the newer one
        ({"pmd-maxsleep": "9" * 5000}, 0.01),
        ({"pmd-maxsleep": "soon"}, 0.0),
        ({"pmd-maxsleep": "-1"}, 0.0),
        ({"pmd-sleep-max": ",:,x:²,"}, 0.0),
    ],
)
def test_the_longest_nap_that_ovs_lets_a_pmd_take(other_config: dict[str, str], seconds: float) -> None:
    assert settings.longest_nap(other_config) == seconds


# --- offload -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "watch", "plan", "act"])
def test_a_mode_of_offload_is_taken(mode: str) -> None:
    assert settings.read({"keepalive-offload": mode}, LAST).offload == mode


def test_without_one_it_is_off() -> None:
    assert settings.read({}, LAST._replace(offload=Offload.ACT)).offload is Offload.OFF


@pytest.mark.parametrize("mode", ["", "ACT", "on", "act ", "true"])
def test_another_mode_leaves_the_last_one_in_force_and_is_told(mode: str) -> None:
    asked = settings.read({"keepalive-offload": mode}, LAST._replace(offload=Offload.PLAN))
    assert asked.offload is Offload.PLAN
    assert asked.rejected == (f"other_config:keepalive-offload={mode}: plan stays in force: set off, watch, plan, act",)
