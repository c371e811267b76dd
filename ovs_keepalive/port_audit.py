# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive ports audit`: asks the daemon, which knows the ports' past; without one it looks, and says so."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ovs_keepalive.beat import moment
from ovs_keepalive.core import port_watch
from ovs_keepalive.core.model import NEVER
from ovs_keepalive.core.port_findings import Polled
from ovs_keepalive.core.port_watch import Polling
from ovs_keepalive.core.ports import Ports, PortsMemory
from ovs_keepalive.formats import pmd_rxq
from ovs_keepalive.formats import ports as form
from ovs_keepalive.formats.plain import json_text
from ovs_keepalive.formats.survey import Order
from ovs_keepalive.formats.tables import ENABLED
from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask
from ovs_keepalive.survey import Surveyor

LONGEST = 8.0  # seconds in which what may be passing has to be over
STEP = 1000  # ms between two looks at it
ANSWER = 2.0  # seconds for vswitchd's rxq list


class Unreachable(Exception):
    """There is nobody to ask: one line."""


class _Audited(msgspec.Struct):
    """What is relied on of a daemon's answer; more is in it."""

    well: bool
    at: int | None
    ports: list[dict[str, Any]]


def run(ask_daemon: Callable[[], Any], order: Order, as_json: bool, out: TextIO) -> bool:
    """Print the audit; whether it found nothing. ask_daemon: None where there is none. Raises Unreachable."""
    audited, head = ask_daemon(), ENABLED
    try:
        msgspec.convert(audited, _Audited)
        looked = audited["at"] is not None
    except ValueError:  # none answers, it is disabled, or of another version
        looked = False
    if not looked:
        audited, head = _alone(order), "no daemon that watches answers: looked at once, without a past"
    out.write(json_text(audited) if as_json else form.audit(audited, head))
    return bool(audited["well"])


def _alone(order: Order) -> dict[str, Any]:
    surveyor = Surveyor(order)
    try:
        surveyor.connect()
        if not surveyor.rows.listens:
            raise Unreachable(f"{order.remote}: no database answers: start ovsdb-server, or name it with --ovsdb")
        return form.document(_looked(surveyor), moment())
    finally:
        surveyor.rows.close()


def _looked(surveyor: Surveyor) -> Ports:
    """Once, or as long as the newest look may only have caught something in passing."""
    memory, until = PortsMemory(), moment().mono + LONGEST
    while True:
        now = moment()
        surveyor.follow(now)
        survey = surveyor.look(now)
        blind = "vswitchd does not run" if survey.process is None else ""
        told = port_watch.follow(memory, survey, blind, _polling(surveyor.control, now.mono))
        if blind or not told.ports.pending or now.mono >= until:
            return told.ports._replace(since=NEVER)
        memory = told.memory
        select.select([], [], [], STEP / 1000)


def _polling(control: Path | None, now: float) -> Polling | None:
    """Who polls what, as vswitchd says at once; None where it does not. now: monotonic seconds."""
    if control is None:
        return None
    try:
        pmds = pmd_rxq.parse(ask(control, ANSWER, "dpif-netdev/pmd-rxq-show"), "")
    except (NoAnswer, Refused):  # it is silent; or has several datapaths, or none
        return None
    ports: dict[str, Polled] = {}
    for pmd in pmds:
        for rxq in pmd.rxqs:
            ports[rxq.port] = (*ports.get(rxq.port, ()), (f"pmd-c{pmd.core:02d}", "", rxq.queue))
    return Polling(now, ports) if pmds else None
