# SPDX-License-Identifier: Apache-2.0
"""The survey of ports as the daemon has it: what it is told first, and what it is asked."""

from __future__ import annotations

from pathlib import Path

from ovs_keepalive.config import Config
from ovs_keepalive.core.ports import Survey
from ovs_keepalive.formats import survey as wire
from ovs_keepalive.formats.survey import Ask, Order
from ovs_keepalive.helper import Helper


def order_of(config: Config, remote: str, pidfile: Path | None) -> Order:
    """What the survey of ports has to know. pidfile: of vswitchd."""
    given = str(pidfile) if pidfile is not None else None
    return Order(
        remote, given, (config.ssl_private_key, config.ssl_certificate, config.ssl_ca_cert, config.ssl_hostname)
    )


class SurveyChild(Helper[Survey]):
    """A Helper."""

    def __init__(self, order: Order) -> None:
        super().__init__("ovs_keepalive.survey", "the survey of ports", wire.line(order), wire.survey, wire.LARGEST)

    def run(self, now: float, period: float) -> Survey | None:
        """The newest survey, if one has come. now: monotonic seconds; period: between two, where nothing changes."""
        return self.turn(now, lambda wait: wire.line(Ask(wait)), period)
