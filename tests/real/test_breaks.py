# SPDX-License-Identifier: Apache-2.0
"""What a restart of a real vswitchd broke, as the daemon tells it, beside what numbered packets tell of it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ovs_keepalive.sandbox import Sandbox, wait
from tests.around import Watched
from tests.conftest import cannot
from tests.dpdk import WiredSandbox, hugepages
from tests.faults.laboratory import HARMLESS, cause_of
from tests.lab import node
from tests.numbered import HEAD, Judged, Traffic, judged, newest
from tests.wire import Wire, wire

pytestmark = pytest.mark.real

Restart = Callable[[Sandbox], None]

MAX_SLEEP = 1000  # microseconds that an idle PMD rests
AFTERWARDS = 50  # packets after a break, of which the first ends it
PAUSE = 10.0  # seconds between two restarts by a monitor
EVEN = 1.0  # seconds before a restart in which packets are counted
CALM = 3.0  # seconds of traffic before each restart: the rate is counted over 1 s
TRIES = 3  # times as many restarts as are asked for
RUNS = int(os.environ.get("BREAK_RUNS", "7"))  # of each kind, in the long form


class Monitored(Sandbox):
    """Its vswitchd has a monitor that starts it again when it crashes, at most once in 10 s."""

    def start_vswitchd(self) -> None:
        """As of any sandbox, with --monitor."""
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(asked)
        options = ["--enable-dummy=override", "--disable-system", f"--dummy-numa={','.join(map(str, self.numa))}"]
        self._spawn("ovs-vswitchd", f"unix:{self._inner}/db.sock", "--monitor", *options)
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers")

    @property
    def vswitchd_pid(self) -> int:
        """Of the process that is monitored."""
        return int((self.dir / "ovs-vswitchd.pid").read_text())

    def stop(self) -> None:
        """The monitor first, or it would begin anew; what it started does not die with it."""
        if "ovs-vswitchd" in self.children:
            self.children.kill("ovs-vswitchd", signal.SIGKILL)
            with suppress(OSError, ValueError):  # it did not get so far
                os.kill(self.vswitchd_pid, signal.SIGKILL)
        super().stop()


def by_sigterm(sandbox: Sandbox) -> None:
    """As systemd does it."""
    sandbox.kill_vswitchd(signal.SIGTERM)
    sandbox.start_vswitchd()


def by_exit(sandbox: Sandbox) -> None:
    """As ovs-ctl does it: the PMD threads go first."""
    stat = Path(f"/proc/{sandbox.vswitchd_pid}/stat")
    sandbox.appctl("exit")
    wait(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "the end of vswitchd")
    sandbox.kill_vswitchd()  # only its exit status is left
    sandbox.start_vswitchd()


def by_kill(sandbox: Sandbox) -> None:
    """As the kernel does it when memory is short."""
    sandbox.kill_vswitchd()
    sandbox.start_vswitchd()


def by_crash(sandbox: Sandbox) -> None:
    """Its monitor starts it again."""
    old = sandbox.vswitchd_pid
    os.kill(old, signal.SIGSEGV)
    wait(lambda: sandbox.vswitchd_pid != old and sandbox.appctl("version"), "the monitor has started another", 30)


KINDS: dict[Restart, str] = {by_sigterm: "orderly", by_exit: "orderly", by_kill: "crash", by_crash: "crash"}


def under_watch(sandbox: Sandbox) -> Sandbox:
    """With a daemon that watches it once a second, as it does by default."""
    sandbox.settings(enable_keepalive=True, keepalive_interval=1000)
    sandbox.start_daemon()
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "its PMDs in the column", 20)
    return sandbox


def restarted(sandbox: Sandbox, traffic: Traffic | Wire, how: Restart) -> Judged:
    """One restart: what was told of it, and what was."""
    wait(lambda: node(sandbox)["vswitchd"]["state"] in ("RUNNING", "CRASH-LOOP"), "vswitchd is well", 30)
    time.sleep(CALM)
    old, begin = sandbox.vswitchd_pid, time.time() - 0.5
    how(sandbox)
    told = wait(lambda: newest(sandbox, old), "the break is over", 60)
    wait(lambda: len(traffic.packets(told["to_high"] / 1000)) >= AFTERWARDS, "packets after it", 20)
    before = len([at for at, _ in traffic.packets(begin - 0.5) if at < begin + 0.5]) / (traffic.rate * EVEN)
    one = judged(how.__name__.removeprefix("by_"), told, traffic.gap(begin), before)
    print(one)
    assert one.kind == KINDS[how]
    assert one.is_inside, f"{one}\n{told}"
    return one


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [by_sigterm, by_exit, by_kill])
def test_the_true_break_lies_inside_the_bounds(make_sandbox: Callable[..., Sandbox], how: Restart) -> None:
    sandbox = under_watch(make_sandbox(max_sleep=MAX_SLEEP))
    with Traffic(sandbox) as traffic:
        restarted(sandbox, traffic, how)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_bounds_hold_over_many_restarts_and_the_estimate_is_near(make_sandbox: Callable[..., Sandbox]) -> None:
    table: list[Judged] = []
    sandbox = under_watch(make_sandbox(max_sleep=MAX_SLEEP))
    with Traffic(sandbox) as traffic:
        table += rounds(sandbox, traffic, by_sigterm, by_exit, by_kill)
    with Monitored(pmds=2, max_sleep=MAX_SLEEP) as monitored, Traffic(under_watch(monitored)) as traffic:
        table += rounds(monitored, traffic, by_crash)
    assert_near(table)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rate", [500, 2000])
def test_the_bounds_hold_through_pmds_of_dpdk(tmp_path: Path, rate: float) -> None:
    """Packets of a veth pair, polled by a PMD; they leave by another one, and the kernel stamps them there."""
    table: list[Judged] = []
    with hugepages(), wire(tmp_path, rate) as ends:
        with WiredSandbox(ends.into, ends.out) as sandbox:
            under_watch(sandbox)
            table += rounds(sandbox, ends, by_sigterm, by_exit, by_kill)
        with WiredSandbox(ends.into, ends.out, monitor=True) as sandbox:
            table += rounds(under_watch(sandbox), ends, by_crash)
    assert_near(table)


def rounds(sandbox: Sandbox, traffic: Traffic | Wire, *hows: Restart) -> list[Judged]:
    """So many restarts of each kind. One before which packets did not come evenly is void: the machine was too busy."""
    table: list[Judged] = []
    for _ in range(TRIES * RUNS):
        for how in hows:
            one = restarted(sandbox, traffic, how)
            if one.is_fair and len([known for known in table if known.how == one.how]) < RUNS:
                table.append(one)
            if how is by_crash:
                time.sleep(PAUSE)
        if len(table) == RUNS * len(hows):
            break
    else:
        cannot(f"{len(table)} of {TRIES * RUNS * len(hows)} restarts had even traffic before: the machine is too busy")
    return table


def assert_near(table: list[Judged]) -> None:
    """The estimates of all, and the table for docs/upgrades.md."""
    print(HEAD, *table, sep="\n")
    errors = sorted(abs(one.error) for one in table)
    print(f"{len(table)} restarts, |error| median {statistics.median(errors):.0f} ms, worst {errors[-1]:.0f} ms")
    assert statistics.median(errors) <= 100


# --- announced ------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [by_exit, by_kill])
def test_an_announced_restart_raises_no_alarm_however_it_ends(watched_well: Watched, how: Restart) -> None:
    sandbox = watched_well.sandbox
    old, begin, pid = set(sandbox.pmds()), time.monotonic(), sandbox.vswitchd_pid
    announced = watched_well.asks("keepalive/plan-restart", "30")
    assert "may take 30 s" in announced
    assert "announced restart" in watched_well.asks("keepalive/status")
    how(sandbox)
    sandbox.wait_for_pmds()
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "the new PMDs", 20)
    told = [one for one in watched_well.updates if one.at >= begin]
    assert {one.state(name) for one in told for name in one.keepalive} <= {"ALIVE", "SLEEP"}
    assert any(one.detail["vswitchd"].startswith("RESTARTING;") for one in told)
    assert {cause_of(one.detail[name]) for one in told for name in old & set(one.detail)} <= HARMLESS
    wait(lambda: "announced restart" not in watched_well.asks("keepalive/status"), "the end of the announcement", 10)
    [one] = [one for one in node(sandbox)["breaks"] if one["pid_old"] == pid]
    assert (one["kind"], one["pid_new"], one["unknown"]) == ("planned", sandbox.vswitchd_pid, "no traffic")
    assert one["control_plane_ms"] > 0
    assert one["ports_missing"] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_announced_restart_that_never_comes_back_is_told_at_its_deadline(watched_well: Watched) -> None:
    sandbox = watched_well.sandbox
    names = set(sandbox.pmds())
    watched_well.asks("keepalive/plan-restart", "4")
    sandbox.kill_vswitchd(signal.SIGKILL)
    ended = time.monotonic()
    gone = wait(
        lambda: next((one for one in watched_well.updates if {one.state(name) for name in names} == {"GONE"}), None),
        "GONE",
        15,
    )
    assert 3.8 <= gone.at - ended <= 4.8
    [one] = node(sandbox)["breaks"]
    assert (one["kind"], one["pid_new"], sorted(one["ports_missing"])) == ("planned", None, ["p0", "p1"])


@pytest.fixture
def watched_well(watched: Watched) -> Watched:
    """Its daemon runs."""
    return watched.start()


@pytest.mark.timeout(180)
def test_an_upgrade_that_is_watched_to_its_end(make_sandbox: Callable[..., Sandbox]) -> None:
    """The operator's command waits until the restart has been made: here by the sandbox, whose child vswitchd is."""
    sandbox = under_watch(make_sandbox(max_sleep=MAX_SLEEP))
    begun, done = sandbox.dir / "begun", sandbox.dir / "done"
    command = ["sh", "-c", f"touch {begun}; while ! [ -e {done} ]; do sleep 0.1; done"]
    argv = [sys.executable, "-m", "ovs_keepalive", "upgrade-watch", "--json", "--deadline", "60", "--", *command]
    with Traffic(sandbox), subprocess.Popen(argv, env=sandbox.env, stdout=subprocess.PIPE, text=True) as verb:
        wait(begun.exists, "the command", 20)
        by_exit(sandbox)
        done.touch()
        said, _ = verb.communicate(timeout=90)
    report = json.loads(said)
    assert verb.returncode == 0, said
    assert report["well"] is True
    assert report["break"]["kind"] == "planned"
    assert report["break"]["data_plane_ms"]["estimate"] > 0
    assert report["stragglers"] == []
    assert report["pmds"] == {"before": [0, 1], "after": [0, 1]}
    assert set(report["flows"]["before"]) == {"br0"}
