# SPDX-License-Identifier: Apache-2.0
"""What a restart interrupted: its bounds hold the truth, its kind is how the process ended, and nothing is guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_keepalive.core import breaks
from ovs_keepalive.core.model import Break, BreakKind, Moment, Plan, ProcessId, State, VswitchdState
from ovs_keepalive.formats import breaks as said
from tests.looks import SECOND, SETTINGS, Scene, snapshot

RATE = 500.0  # packets a second
PACKET = 1 / RATE  # by which a packet comes later than it could


class Restart:
    """A vswitchd that forwards, ends, starts again, and forwards again; the truth is known to it alone."""

    def __init__(self, interval: float = 1.0, rate: float = RATE) -> None:
        self.scene = Scene(cores=2, interval=interval)
        self.scene.sends = rate
        self.scene.run(3.0)
        self.rate = rate
        self.stopped = self.resumed = 0.0

    def ends(self, orderly: bool = False) -> None:
        """Forward until the process ends."""
        self.stopped = self.scene.now
        self.scene.ends(orderly)

    def starts(self, process: ProcessId = SECOND, answers_after: float = 0.5, forwards_after: float = 0.9) -> None:
        """Start; its main thread answers and its PMDs forward so many seconds later."""
        scene = self.scene
        scene.starts(process)
        scene.answers = False
        for core in range(2):
            scene.add(core)
        first, then = sorted((answers_after, forwards_after))
        scene.run(first)
        self._becomes(first == answers_after, first == forwards_after)
        scene.run(then - first)
        self._becomes(then == answers_after, then == forwards_after)
        scene.run(5.0)

    def _becomes(self, answers: bool, forwards: bool) -> None:
        if answers:
            self.scene.answers = True
        if forwards:
            self.scene.sends, self.resumed = self.rate, self.scene.now

    @property
    def truth(self) -> float:
        """Seconds without a packet."""
        return self.resumed - self.stopped

    def is_pending(self) -> bool:
        """Whether something of the newest break is still to come."""
        return self.scene.watch.under_way

    @property
    def told(self) -> Break:
        """The newest break."""
        return self.scene.watch.log[-1]


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize(("answers_after", "forwards_after"), [(0.5, 0.9), (0.9, 0.5), (0.0, 0.0), (7.0, 0.3)])
@pytest.mark.parametrize("interval", [0.1, 1.0, 10.0])
def test_the_break_lies_between_its_bounds_and_near_its_estimate(
    orderly: bool, answers_after: float, forwards_after: float, interval: float
) -> None:
    restart = Restart(interval)
    restart.ends(orderly)
    restart.scene.run(0.4)
    restart.starts(answers_after=answers_after, forwards_after=forwards_after)
    lasted = breaks.data_plane(restart.told)
    assert lasted is not None
    low, about, high = lasted
    assert low - PACKET <= restart.truth <= high + PACKET
    assert about == pytest.approx(restart.truth, abs=0.05)
    assert restart.told.kind is (BreakKind.ORDERLY if orderly else BreakKind.CRASH)
    assert (restart.told.pid_old, restart.told.pid_new) == (100, 200)
    assert "less their time at 500 packets/s" in restart.told.method


def test_a_new_process_is_looked_at_more_often_than_the_interval_asks_for() -> None:
    restart = Restart(interval=10.0)
    restart.ends()
    restart.starts()
    to_low, to_high = restart.told.to_low, restart.told.to_high
    assert to_high is not None
    assert to_high.mono - to_low.mono <= 3 * breaks.FINE


def test_the_threads_of_an_exit_go_first_and_the_break_begins_with_them() -> None:
    restart = Restart(interval=0.5)
    restart.scene.run(0.05)
    restart.stopped = restart.scene.now
    restart.scene.answers, restart.scene.sends = False, 0.0
    for worker in restart.scene.workers:
        worker.exists = False
    restart.scene.run(2.0)
    restart.scene.ends(orderly=True)
    restart.starts()
    lasted = breaks.data_plane(restart.told)
    assert lasted is not None
    assert lasted[0] - PACKET <= restart.truth <= lasted[2] + PACKET
    assert lasted[1] == pytest.approx(restart.truth, abs=0.1)
    assert restart.told.began_high.mono < restart.told.ended.mono - 1.0


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_without_traffic_before_it_nothing_is_said_of_packets(rate: float) -> None:
    restart = Restart(rate=rate)
    restart.scene.run(5.0)
    restart.ends()
    restart.starts()
    assert restart.told.unknown == "no traffic"
    assert breaks.data_plane(restart.told) is None
    assert breaks.control_plane(restart.told) == pytest.approx(0.5, abs=0.25)
    document = said.document(restart.told)
    assert (document["from"], document["to"], document["data_plane_ms"]) == (None, None, None)
    assert "packets: unknown: no traffic; no answer for" in said.line(restart.told)


def test_traffic_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    restart = Restart()
    restart.ends()
    restart.rate = 0.0
    restart.starts()
    assert restart.is_pending()
    restart.scene.run(breaks.PATIENCE)
    assert restart.told.unknown == "no traffic after it"
    assert not restart.is_pending()


def test_what_forwards_in_the_kernel_is_named_as_such() -> None:
    flow = breaks.Flow(packets=None, answered=Moment(1.0, 1), kernel=True)
    restart = Restart()
    restart.scene.watch = restart.scene.watch._replace(flow=flow)
    restart.ends()
    assert restart.told.unknown.startswith("system datapath: forwarding survives")


def test_nothing_is_forwarded_before_flow_restore_wait_is_removed() -> None:
    restart = Restart()
    scene = restart.scene
    restart.ends(orderly=True)
    scene.settings = replace(SETTINGS, flow_restored=None)
    restart.rate = 1.0  # what trickles out does not count
    restart.starts()
    assert restart.told.to is None
    scene.settings, scene.sends, scene.sent, restart.resumed = (
        replace(SETTINGS, flow_restored=scene.moment), RATE, 0.0, scene.now
    )  # fmt: skip
    scene.run(1.0)
    lasted = breaks.data_plane(restart.told)
    assert lasted is not None
    assert restart.told.method == "the removal of flow-restore-wait"
    assert lasted[1] == pytest.approx(restart.truth, abs=0.01)


def test_a_process_that_ends_before_it_forwarded_prolongs_the_break() -> None:
    restart = Restart()
    restart.ends()
    stopped = restart.stopped
    restart.scene.starts(SECOND)
    restart.scene.run(1.0)
    restart.ends()
    restart.starts(ProcessId(300, 3000))
    first, second = restart.scene.watch.log
    assert (first.pid_new, first.to) == (200, None)
    assert (second.pid_old, second.pid_new) == (200, 300)
    lasted = breaks.data_plane(second)
    assert lasted is not None
    assert lasted[1] == pytest.approx(restart.resumed - stopped, abs=0.05)
    assert restart.scene.watch.counts[BreakKind.CRASH] == 2


def test_a_port_that_is_not_polled_again_is_missing_until_it_is() -> None:
    restart = Restart()
    restart.ends(orderly=True)
    assert breaks.missing(restart.told) == ("vhu0", "vhu1")
    scene = restart.scene
    scene.starts()
    scene.add(0)
    scene.sends = RATE
    scene.run(3.0)
    assert breaks.missing(restart.told) == ("vhu1",)
    assert restart.is_pending()
    assert said.line(restart.told).endswith("not polled: vhu1")
    scene.add(1)
    scene.run(8.0)
    assert breaks.missing(restart.told) == ()
    assert not restart.is_pending()
    assert said.document(restart.told)["ports_missing"] == []
    first = breaks.first_port(restart.told)
    assert first is not None
    assert said.document(restart.told)["first_port_up"] == first.wall_ms


def test_so_many_breaks_are_kept_and_all_are_counted() -> None:
    restart = Restart()
    for number in range(breaks.KEPT + 5):
        restart.ends(orderly=True)
        restart.scene.starts(ProcessId(1000 + number, 1000 + number))
        restart.scene.add(0)
        restart.scene.run(0.5)
    assert len(restart.scene.watch.log) == breaks.KEPT
    assert restart.scene.watch.counts[BreakKind.ORDERLY] == breaks.KEPT + 5


def test_a_prediction_needs_three() -> None:
    assert breaks.predicted([1.0, 2.0]) is None
    assert breaks.predicted([3.0, 1.0, 2.0]) == (2.0, 3.0)


# --- announced ------------------------------------------------------------------------------------


def plan(scene: Scene, seconds: float) -> None:
    """Announce a restart."""
    scene.settings = replace(scene.settings, plan=Plan(scene.moment, seconds))
    scene.run(0.1)


@pytest.mark.parametrize("orderly", [True, False])
def test_an_announced_restart_has_the_time_that_was_said_however_the_process_ends(orderly: bool) -> None:
    restart = Restart()
    scene = restart.scene
    old = [worker.id for worker in scene.workers]
    plan(scene, 120.0)
    restart.ends(orderly)
    ended = scene.now
    assert scene.vswitchd() is VswitchdState.RESTARTING
    assert restart.told.kind is BreakKind.PLANNED
    scene.run(119.0)
    assert {scene.register.pmds[id].state for id in old} == {State.ALIVE}
    scene.run(2.0)
    assert {scene.register.pmds[id].state for id in old} == {State.GONE}
    assert scene.vswitchd() is VswitchdState.GONE
    assert scene.register.vswitchd.since.mono - ended == pytest.approx(120.0, abs=0.5)
    assert scene.register.vswitchd.crashes == ()


def test_an_announcement_serves_for_one_restart() -> None:
    restart = Restart()
    plan(restart.scene, 120.0)
    restart.ends(orderly=False)
    restart.starts()
    assert restart.scene.vswitchd() is VswitchdState.RUNNING
    restart.ends(orderly=False)
    assert restart.scene.vswitchd() is VswitchdState.GONE
    assert restart.told.kind is BreakKind.CRASH


def test_an_announcement_ends_with_its_time() -> None:
    restart = Restart()
    plan(restart.scene, 10.0)
    shot = replace(restart.scene.snapshot, settings=restart.scene.settings)
    assert "may take 10 s" in said.announced(shot)
    restart.scene.run(10.0)
    assert said.announced(replace(restart.scene.snapshot, settings=restart.scene.settings)) == ""
    restart.ends(orderly=False)
    assert restart.told.kind is BreakKind.CRASH


def test_a_plan_that_is_cancelled_while_vswitchd_is_down_leaves_it_the_usual_time() -> None:
    restart = Restart()
    scene = restart.scene
    plan(scene, 3600.0)
    restart.ends(orderly=True)
    scene.run(10.0)
    scene.settings = replace(scene.settings, plan=None)
    scene.run(45.0)
    assert scene.vswitchd() is VswitchdState.RESTARTING
    scene.run(10.0)
    assert scene.vswitchd() is VswitchdState.GONE


def test_no_break_at_all_is_one_sentence() -> None:
    assert said.listing(snapshot().breaks).splitlines()[1:] == ["vswitchd has not ended since this daemon watches"]
