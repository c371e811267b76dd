# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of offload: what it asks of the process that looks, whom it lets move flows, and what it tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from ovs_keepalive import helper
from ovs_keepalive.beat import moment
from ovs_keepalive.children import wait
from ovs_keepalive.config import Config
from ovs_keepalive.config_sections import Offload as Section
from ovs_keepalive.core.model import ProcessId, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.core.offload import Limits, Move, Netdev, OffloadState, Plan
from ovs_keepalive.core.offload_act import Anomaly, Kind, Outcome, Result
from ovs_keepalive.core.settings import Asked, Offload
from ovs_keepalive.formats import metric, metrics
from ovs_keepalive.formats import offload as form
from ovs_keepalive.formats import offload_wire as wire
from ovs_keepalive.formats.offload_wire import Ask, Report
from ovs_keepalive.helper import Helper
from ovs_keepalive.offload import OffloadChild, OffloadWatch, Refused
from tests.looks import FIRST, SECOND, SETTINGS, pmd, running, snapshot
from tests.offload_rounds import at

ALLOWED = Config(offload=Section(allow_act=True, capacity=10, table_groups=(("p0", "p1"),)))
ACT = Asked(enabled=True, offload=Offload.ACT)
HARDWARE = {"hw-offload": "true"}
MOVE = Move("f-hot", 40.0, "f-cold", 4.0, 36.0, "worth it", "p0")


class Child(Helper[Report]):
    """Answers when it is told to, and knows what it was asked."""

    def __init__(self) -> None:
        super().__init__("none", "the look at flows", b"", wire.report, wire.LARGEST)
        self.asked: list[Ask] = []
        self.answer: Report | None = None
        self.dismissed = 0
        self._runs = False

    def turn(self, now: float, ask: Callable[[float], bytes], period: float) -> Report | None:
        """As its parent: the answer, and then the next question."""
        answer, self.answer = self.answer, None
        if not self._runs or answer is not None:
            self.asked.append(wire.ask(ask(period if self._runs else 0.0)))
        self._runs = True
        return answer

    def amend(self, now: float, ask: Callable[[float], bytes], period: float) -> None:
        """As its parent."""
        self.asked.append(wire.ask(ask(period)))

    def dismiss(self, now: float) -> None:
        """As its parent."""
        self.dismissed += self._runs
        self._runs = False

    @property
    def pid(self) -> int | None:
        """As its parent."""
        return 7 if self._runs else None


class Daemon:
    """Turns as the main loop does, on a clock of its own."""

    def __init__(
        self, asked: Asked = ACT, config: Config = ALLOWED, *, enabled: bool = True, **other_config: str
    ) -> None:
        self.child = Child()
        self.noted: list[Transition] = []
        self.watch = OffloadWatch(self.child, self.noted.append)
        self.shot = snapshot([], vswitchd=running(FIRST), settings=replace(SETTINGS, enabled=enabled))
        self.now = at(1000.0)
        self.take(asked, config, **other_config)
        self.turn()
        self.turn(seconds=5.0)  # the start is the beat's

    def take(self, asked: Asked = ACT, config: Config = ALLOWED, **other_config: str) -> None:
        """The settings from now on."""
        said = HARDWARE | {key.replace("_", "-"): value for key, value in other_config.items()}
        self.watch.take(said, asked, config)

    def turn(self, report: Report | None = None, seconds: float = 0.1) -> OffloadWatch:
        """A turn of the main loop, that much later."""
        self.now = at(self.now.mono + seconds)
        self.child.answer = report._replace(at=self.now) if report is not None else None
        self.watch.run(self.now, self.shot)
        return self.watch

    def arm(self) -> Daemon:
        """Look once, and let flows be moved."""
        self.turn(told())
        self.watch.arm_for(60, self.now)
        self.turn()
        return self

    @property
    def document(self) -> dict[str, Any]:
        """`offload/show --json`, as a script reads it."""
        document: dict[str, Any] = json.loads(json.dumps(form.document(self.watch.told, self.now)))
        return document


def told(*netdevs: Netdev, process: ProcessId | None = FIRST, **fields: Any) -> Report:
    """A report."""
    now = at(1000.0)
    whole = Report(now, process, netdevs, Plan(now, (), (), 0.0), "", (), (), (), 0, "", 0.002, 3.0)
    return whole._replace(**fields)


def netdev(state: OffloadState = OffloadState.OK, name: str = "p0", **fields: Any) -> Netdev:
    """A device of which that is told."""
    return Netdev(name, state, at(1000.0), "why it is", "why it was", **fields)


# --- what is asked -----------------------------------------------------------------------------


def test_the_process_is_asked_for_what_is_wanted() -> None:
    [ask] = Daemon().child.asked
    assert (ask.wait, ask.enabled, ask.rebalanced) == (0.0, True, False)
    assert (ask.planning, ask.ready, ask.acting) == (True, True, False)
    assert (ask.limits.capacity, ask.limits.groups) == (10, (("p0", "p1"),))
    assert ask.share == 0.005  # half of max-main-share: the other is the beat's


@pytest.mark.parametrize(
    ("mode", "planning", "ready"), [("watch", False, False), ("plan", True, False), ("act", True, True)]
)
def test_a_mode_goes_no_further_than_it_says(mode: str, planning: bool, ready: bool) -> None:
    [ask] = Daemon(ACT._replace(offload=Offload(mode))).child.asked
    assert (ask.planning, ask.ready, ask.acting) == (planning, ready, False)


@pytest.mark.parametrize("off", [Asked(enabled=True), ACT._replace(enabled=False)])
def test_while_it_is_off_nobody_is_asked_and_nothing_is_told(off: Asked) -> None:
    daemon = Daemon(off, enabled=off.enabled)
    daemon.turn(seconds=5.0)
    assert (daemon.child.asked, daemon.watch.netdevs) == ([], ())


def test_switched_off_it_ends_the_process_and_the_arm_and_forgets() -> None:
    daemon = Daemon().arm()
    daemon.turn(told(netdev(OffloadState.OOR)))
    daemon.take(Asked(enabled=True))
    watch = daemon.turn()
    assert daemon.child.dismissed == 1
    assert (watch.arm, watch.netdevs, watch.pairs, watch.fact) == (None, (), {}, "off")
    with pytest.raises(Refused, match="flows are not looked at: ovs-vsctl set"):
        _ = watch.told


def test_what_changes_while_a_question_is_asked_takes_its_place_at_once() -> None:
    daemon = Daemon().arm()
    assert daemon.child.asked[-1].acting
    daemon.take(offload_rebalance="true")
    daemon.turn()
    assert (daemon.child.asked[-1].acting, daemon.child.asked[-1].rebalanced) == (False, True)
    asked = len(daemon.child.asked)
    daemon.turn()
    assert len(daemon.child.asked) == asked


@pytest.mark.parametrize("state", [State.MISSING, State.DEAD, State.GONE])
def test_no_flow_is_moved_while_a_pmd_is_not_well(state: State) -> None:
    daemon = Daemon().arm()
    well, daemon.shot = daemon.shot, snapshot([pmd(state=state)], vswitchd=running(FIRST))
    daemon.turn()
    assert not daemon.child.asked[-1].acting
    assert f"is {state}" in daemon.document["objection"]
    daemon.shot = well
    daemon.turn()
    assert daemon.child.asked[-1].acting, "the arm holds"


def test_no_flow_is_moved_while_vswitchd_is_not_running() -> None:
    daemon = Daemon().arm()
    daemon.shot = snapshot([], vswitchd=running(FIRST)._replace(state=VswitchdState.HUNG))
    daemon.turn()
    assert not daemon.child.asked[-1].acting


# --- the arm -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("daemon", "why"),
    [
        (lambda: Daemon(ACT._replace(offload=Offload.PLAN)), "keepalive-offload is plan: ovs-vsctl set"),
        (lambda: Daemon(config=Config()), "set offload.allow-act: true"),
        (lambda: Daemon(hw_offload="false"), "hw-offload is not true"),
        (lambda: Daemon(offload_rebalance="true"), "one of the two has to go"),
    ],
)
def test_it_is_not_armed_where_it_is_not_wanted(daemon: Callable[[], Daemon], why: str) -> None:
    one = daemon()
    one.turn(told())
    with pytest.raises(Refused, match=why):
        one.watch.arm_for(60, one.now)


def test_it_is_not_armed_before_a_look_nor_for_another_vswitchd_nor_against_the_gate() -> None:
    daemon = Daemon()
    with pytest.raises(Refused, match="flows have not been looked at yet: try again in a moment"):
        daemon.watch.arm_for(60, daemon.now)
    daemon.turn(told(process=SECOND))
    with pytest.raises(Refused, match="vswitchd has just been restarted"):
        daemon.watch.arm_for(60, daemon.now)
    daemon.turn(told(gate="vswitchd 3.1.0 never forgets a flow"))
    with pytest.raises(Refused, match="never forgets a flow"):
        daemon.watch.arm_for(60, daemon.now)


def test_it_ends_with_its_time_to_the_minute() -> None:
    daemon = Daemon().arm()
    for _ in range(59):
        daemon.turn(told(), seconds=60.0)
    assert daemon.watch.arm is not None
    watch = daemon.turn(seconds=60.0)
    assert watch.arm is None
    assert daemon.document["disarmed"] == "its time is over"
    assert not daemon.child.asked[-1].acting


def test_it_ends_with_vswitchd() -> None:
    daemon = Daemon().arm()
    daemon.shot = snapshot([], vswitchd=running(SECOND))
    watch = daemon.turn()
    assert watch.arm is None
    assert not daemon.child.asked[-1].acting
    assert daemon.document["disarmed"] == f"vswitchd was restarted: pid {FIRST.pid} -> {SECOND.pid}"


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (told(anomalies=(Anomaly(Kind.UPCALLS, "", "grew by 900"),)), "duplicate upcalls: grew by 900"),
        (
            told(
                outcomes=(
                    Outcome(MOVE, at(1.0), Result.FAILED, "x", anomalies=(Anomaly(Kind.LOST, "f-cold", "gone"),)),
                )
            ),
            "flow lost (flow f-cold): gone",
        ),
        (told(futile="5 rounds of moves did not help"), "5 rounds of moves did not help"),
        (told(gate="locked by another process"), "locked by another process"),
    ],
)
def test_it_ends_with_what_is_amiss_until_a_person_arms_it_again(report: Report, why: str) -> None:
    daemon = Daemon().arm()
    daemon.turn(report)
    daemon.turn(told())
    assert daemon.watch.arm is None
    assert daemon.document["disarmed"] == why
    assert f"act, disarmed: {why}" in daemon.watch.fact
    assert not daemon.child.asked[-1].acting
    daemon.arm()
    assert daemon.document["disarmed"] is None
    assert daemon.child.asked[-1].acting


def test_a_person_ends_it_and_it_is_said_who_did() -> None:
    daemon = Daemon().arm()
    assert daemon.watch.disarm(daemon.now)
    daemon.turn()
    assert not daemon.child.asked[-1].acting
    assert not daemon.watch.disarm(daemon.now)
    assert [(act.what, act.text) for act in daemon.watch.history] == [
        ("armed", f"for 60 min, vswitchd pid {FIRST.pid}"),
        ("disarmed", "asked for"),
    ]


# --- what is told ------------------------------------------------------------------------------


def test_what_was_done_is_history_bounded_and_counted() -> None:
    daemon = Daemon().arm()
    outcome = Outcome(MOVE, daemon.now, Result.PROMOTED, "", ("", "yes"), ("yes", ""))
    daemon.turn(told(outcomes=(outcome,), mended=("flow f: gone",)))
    acts = [form.act_document(act) for act in daemon.watch.history]
    assert [act["what"] for act in acts] == ["armed", "mended", "promoted"]
    assert acts[2]["move"]["after"] == {"promoted": "yes", "victim": ""}
    assert "f-hot of p0 (40.0 packets/s) for f-cold (4.0 packets/s): gains 36.0" in form.history(daemon.watch.history)
    for _ in range(600):
        daemon.turn(told(outcomes=(outcome,)))
    assert len(daemon.watch.history) == 500
    assert daemon.watch.moves == {("swap", "promoted"): 601}


def test_a_change_of_state_is_a_transition_and_a_good_beginning_is_none() -> None:
    daemon = Daemon()
    daemon.turn(told(netdev()))
    daemon.turn(told(netdev(OffloadState.OOR)))
    daemon.turn(told(netdev(OffloadState.OOR)))
    assert [(one.who, one.old, one.new) for one in daemon.noted] == [("offload:p0", "ok", "oor")]
    daemon.turn(told(*(netdev(OffloadState.SKIPPED, f"p{n}") for n in range(100))))
    assert len(daemon.noted) == 1 + 8 + 1
    assert "92 more devices changed at once" in daemon.noted[-1].evidence


def test_a_look_of_long_ago_is_not_believed() -> None:
    daemon = Daemon()
    daemon.turn(told(netdev(OffloadState.OOR, flows=10)))
    daemon.turn(seconds=22.0)
    assert daemon.watch.netdevs[0].state is OffloadState.OOR
    daemon.child.problem = "it ended"
    [one] = daemon.turn(seconds=2.0).netdevs
    assert (one.state, one.flows, one.why) == (OffloadState.SKIPPED, 0, "nobody looks: it ended")
    assert daemon.watch.pairs["offload:p0"].startswith("skipped;since=")


def test_show_tells_the_table_the_evidence_and_the_cure() -> None:
    daemon = Daemon()
    full: dict[str, Any] = {"flows": 10, "pending": 5, "pps": 100.0, "capacity": 10, "share": 0.5, "best": 0.9}
    daemon.turn(told(netdev(OffloadState.OOR, efficiency=0.55, **full), netdev(name="\x1b[31m\np1")))
    text = form.show(daemon.document)
    assert "p0: oor: why it is: keepalive-offload=act gives the slots to the fastest flows" in text
    assert "50.0%        90.0%  55.0%" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "not armed: offload/arm" in text
    assert not form.is_well(daemon.document)
    daemon.turn(told(netdev(OffloadState.OOR, efficiency=0.97, **full)))
    assert "only a larger table helps" in form.show(daemon.document)


def test_a_plan_is_told_with_each_flow_its_rate_and_its_gain() -> None:
    daemon = Daemon()
    fill = Move("f-new", 7.0, "", 0.0, 7.0, "9 of 10 slots are taken", "p1")
    daemon.turn(told(plan=Plan(daemon.now, (fill,), (MOVE,), 43.0)))
    document = form.plan_document(daemon.watch.plan, daemon.now)
    text = form.plan(document)
    assert "fill: f-new of p1 (7.0 packets/s): 9 of 10 slots are taken" in text
    assert "swap: f-hot of p0 (40.0 packets/s) for f-cold (4.0 packets/s): gains 36.0: worth it" in text
    assert "in all 1 fills, 1 swaps: 43.0 packets/s more in hardware" in text
    assert document["swaps"][0]["victim_pps"] == 4.0
    daemon.take(ACT._replace(offload=Offload.WATCH))
    with pytest.raises(Refused, match="set plan or act"):
        _ = daemon.watch.plan


def test_metrics_tell_nothing_of_what_is_not_known() -> None:
    daemon = Daemon().arm()
    known = netdev(OffloadState.OK, flows=3, pending=1, pps=9.5, share=0.25, efficiency=0.5)
    daemon.turn(told(known, netdev(OffloadState.SKIPPED, 'a"b\n')))
    own = metric.Own(0.0, 0, 0.0)
    page = "".join(metrics.text(metric.Facts("1", own, 0, 0, shot(), {}, (), daemon.watch.numbers), openmetrics=False))
    assert 'ovs_keepalive_offload_flows{netdev="p0"} 3\n' in page
    assert 'ovs_keepalive_offload_share{netdev="p0"} 0.25\n' in page
    assert 'ovs_keepalive_offload_efficiency{netdev="p0"} 0.5\n' in page
    assert 'ovs_keepalive_offload_state{netdev="a\\"b ",state="skipped"} 1\n' in page
    assert "ovs_keepalive_offload_armed 1\n" in page
    assert page.count("ovs_keepalive_offload_pps{") == 1


def shot() -> Snapshot:
    """Any snapshot."""
    return snapshot([], vswitchd=running(FIRST))


# --- the process itself ------------------------------------------------------------------------


def test_one_without_a_vswitchd_says_so_and_ends_with_its_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    child = OffloadChild(str(tmp_path), None)
    ask = Ask(0.0, 0.01, 1000, Limits(), enabled=True, rebalanced=False, planning=True, ready=True, acting=True)
    report = wait(lambda: child.turn(moment().mono, lambda _: wire.line(ask), 1.0), "it answers")
    assert (report.process, report.netdevs, report.outcomes) == (None, (), ())
    process = psutil.Process(child.pid)
    assert child.pid == process.pid
    os.kill(process.pid, signal.SIGTERM)  # as systemd ends a service: it may be amid a move
    child.dismiss(moment().mono)
    wait(lambda: process.status() == psutil.STATUS_ZOMBIE, "it has ended by itself")
    child.see_off(moment().mono)
    assert not process.is_running()


def test_the_newest_question_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    child = OffloadChild(str(tmp_path), None)
    ask = Ask(60.0, 0.01, 1000, Limits(), enabled=True, rebalanced=False, planning=True, ready=False, acting=False)
    child.turn(moment().mono, lambda _: wire.line(ask), 1.0)
    asked = moment().mono
    child.amend(asked, lambda _: wire.line(msgspec.structs.replace(ask, wait=0.0)), 1.0)
    assert wait(lambda: child.turn(moment().mono, lambda _: wire.line(ask), 1.0), "it answers")
    child.close()


def test_who_is_asked_something_else_late_in_a_pause_answers_when_the_pause_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after half of all `offload/arm`s where a look takes long: whoever is late is taken for dead, and killed."""
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    pause, late = 3.0, 1.5
    monkeypatch.setattr(helper, "SILENCE", late)
    child = OffloadChild(str(tmp_path), None)
    usual = Ask(0.0, 0.01, 1000, Limits(), enabled=True, rebalanced=False, planning=True, ready=False, acting=False)

    def ask(seconds: float) -> bytes:
        return wire.line(msgspec.structs.replace(usual, wait=seconds))

    wait(lambda: child.turn(moment().mono, ask, pause), "the first answer")
    began, process = moment().mono, child.pid
    wait(lambda: moment().mono > began + 0.9 * pause, "the end of the pause is near")
    child.amend(moment().mono, ask, pause)
    wait(lambda: child.turn(moment().mono, ask, pause), "the next answer", pause)
    assert moment().mono - began < pause + late
    assert (child.pid, child.problem) == (process, "")
    child.close()


def test_who_is_asked_something_else_amid_a_look_has_a_pause_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    script = "import time; time.sleep(60)"
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **how: popen([sys.executable, "-S", "-c", script], **how))
    child, asked = OffloadChild("none", None), list[float]()

    def ask(seconds: float) -> bytes:
        asked.append(seconds)
        return b"\n"

    child.turn(100.0, ask, 30.0)  # due at 130
    child.amend(120.0, ask, 30.0)
    child.amend(133.0, ask, 30.0)  # due at 163
    assert asked == [0.0, 10.0, 30.0]
    child.turn(163.0 + helper.SILENCE, ask, 30.0)
    assert child.problem == ""
    child.turn(163.1 + helper.SILENCE, ask, 30.0)
    assert child.problem.startswith("it said nothing for")


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    script = "import time; time.sleep(60)"
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **how: popen([sys.executable, "-S", "-c", script], **how))
    child = OffloadChild("none", None)
    child.turn(0.0, lambda _: b"\n", 1.0)
    process = psutil.Process(child.pid)
    assert child.pid == process.pid
    child.dismiss(0.0)
    child.see_off(helper.GRACE - 1)
    assert process.status() != psutil.STATUS_ZOMBIE
    child.see_off(helper.GRACE)
    wait(lambda: process.status() == psutil.STATUS_ZOMBIE, "it is killed")
    child.see_off(helper.GRACE)
    assert not process.is_running()
