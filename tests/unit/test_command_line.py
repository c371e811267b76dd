# SPDX-License-Identifier: Apache-2.0
"""The words of the command line and what is behind them."""

from __future__ import annotations

import argparse

from ovs_keepalive import cli
from ovs_keepalive.command_line import command_line


def test_each_verb_that_is_offered_is_there_and_no_other() -> None:
    [verbs] = [one for one in command_line()._actions if isinstance(one, argparse._SubParsersAction)]
    assert set(verbs.choices) == set(cli.VERBS)
