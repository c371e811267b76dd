# SPDX-License-Identifier: Apache-2.0
"""Flows of a real Open vSwitch are moved between hardware and software, and nothing is forwarded that should not be.

The hardware is that of Open vSwitch 4.0's dummy devices; what it had to do with packets is told by `dpif/offload/show`.
Where a fault is injected or the process is killed, that is at a request to vswitchd: when it has been sent, and before
its answer is read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_keepalive.core.offload_act import Examined, Outcome, Reinstall, Result
from ovs_keepalive.sandbox import Sandbox, SandboxError
from ovs_keepalive.sensors.appctl_client import AppctlClient
from ovs_keepalive.sensors.offload_journal import Journal
from ovs_keepalive.sensors.offload_writer import Writer
from tests.offload_killed import FINISHED, Case, Watched
from tests.offload_lab import DATAPATH, Lab, a_lab, moment, move

pytestmark = pytest.mark.real

PENDING = range(1, 121)  # hosts whose flows are in software
HOT = 200  # a host whose flow is in hardware
STALE = 2.0  # seconds after which nothing may be forwarded that a table forbids
COUNTED = 1.5  # seconds by which vswitchd's counters are old, at most
BACK = 5.0  # seconds in which vswitchd puts a flow back that was removed
WRITES = [("dpctl/del-flow", 1), ("dpctl/mod-flow", 1), ("dpctl/mod-flow", 2), ("dpctl/add-flow", 1)]
MOST = 40  # requests of one move


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Flows in software, and what comes later in hardware."""
    with a_lab(PENDING) as lab:
        yield lab


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """The same for one test, whose rules make vswitchd install all flows anew."""
    with a_lab(range(1, 3)) as lab:
        yield lab


def a_pending(lab: Lab) -> int:
    """A host whose flow is in software."""
    flows = lab.flows()
    return next(
        host for host in PENDING if {(m["offloaded"], m["actions"]) for m in flows.get(host, [])} == {(None, "2")}
    )


def a_victim(lab: Lab, host: int = HOT) -> int:
    """A host whose flow is in hardware, and that vswitchd knows well."""
    lab.rule(host, "output:2")

    def there() -> bool:
        lab.packet(host)
        return lab.state(host) == {("yes", "2")}

    lab.sandbox.wait(there, "the victim's flow is in hardware")
    lab.settle()
    return host


@contextmanager
def a_writer(
    lab: Lab, directory: Path, how: Reinstall, told: Callable[[str], None] = lambda _: None
) -> Iterator[Writer]:
    client, journal = Watched(lab.control, told), Journal(directory)
    try:
        writer = Writer(client, lab.process, journal, how)
        assert writer.gate() == ""
        yield writer
    finally:
        client.close()
        journal.close()


def examined(writer: Writer, promoted: str, victim: str = "") -> Examined:
    [found] = writer.examine([move(promoted, victim)], moment(100.0))
    assert isinstance(found, Examined), found
    return found


def made(writer: Writer, promoted: str, victim: str = "") -> Outcome:
    return writer.act(examined(writer, promoted, victim), moment(101.5))


# --- what is done ------------------------------------------------------------------------------


def test_a_fill_puts_a_flow_into_hardware_and_loses_no_packet(lab: Lab, tmp_path: Path) -> None:
    host = a_pending(lab)
    with a_writer(lab, tmp_path, Reinstall.VSWITCHD) as writer:
        outcome = made(writer, lab.ufid(host))
    assert (outcome.result, outcome.before, outcome.after) == (Result.PROMOTED, ("", ""), ("yes", ""))
    _, full, _ = lab.hardware()
    for _ in range(5):
        assert lab.forwards(host)
    assert lab.hardware()[1] == full + 5
    rule = f"priority=100,in_port=1,ip,nw_src=10.0.0.{host}"
    lab.sandbox.wait(
        lambda: "n_packets=6," in lab.ofctl("dump-flows", "br0", rule.partition(",")[2]), "all are counted"
    )


@pytest.mark.parametrize("how", Reinstall)
def test_a_swap_takes_one_flow_out_and_the_other_in(lab: Lab, tmp_path: Path, how: Reinstall) -> None:
    host, victim = a_pending(lab), a_victim(lab)
    lab.sandbox.linger(COUNTED)
    duplicates = lab.count("handler_duplicate_upcall")
    with a_writer(lab, tmp_path, how) as writer:
        outcome = made(writer, lab.ufid(host), lab.ufid(victim))
        assert (outcome.result, outcome.before, outcome.anomalies) == (Result.PROMOTED, ("", "yes"), ())
        assert outcome.after == ("yes", "yes" if how is Reinstall.OURS else "gone")
        lab.sandbox.wait(lambda: lab.forwards(victim) and lab.state(victim) == {("yes", "2")}, "it is back", BACK)
        assert writer.look_again(outcome).after == ("yes", "yes")
        assert writer.replay(moment(110.0)) == []
    assert lab.state(host) == {("yes", "2")}
    if how is Reinstall.OURS:
        lab.sandbox.linger(COUNTED)
        assert lab.count("handler_duplicate_upcall") == duplicates
        assert len(lab.flows()[victim]) > 1, "add-flow puts it on every thread, and each copy shows all its packets"


def test_the_journal_is_on_the_disk_before_anything_is_written(lab: Lab, tmp_path: Path) -> None:
    host, victim = a_pending(lab), a_victim(lab)
    seen: list[tuple[str, bool]] = []
    known = lab.ufid(victim), lab.ufid(host)

    def told(method: str) -> None:
        if method.endswith(("del-flow", "mod-flow", "add-flow")):
            text = (tmp_path / "offload.journal").read_text()
            seen.append((method, all(ufid in text for ufid in known)))

    with a_writer(lab, tmp_path, Reinstall.OURS, told) as writer:
        assert made(writer, lab.ufid(host), lab.ufid(victim)).result is Result.PROMOTED
    order = ["dpctl/mod-flow", "dpctl/del-flow", "dpctl/mod-flow", "dpctl/add-flow"]
    assert seen == [(method, True) for method in order]
    assert (tmp_path / "offload.journal").read_bytes() == b""


# --- what is not done --------------------------------------------------------------------------


def test_an_open_vswitch_that_never_forgets_a_flow_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    lab, journal = Lab(sandbox), Journal(tmp_path)
    client = AppctlClient(lab.control)
    try:
        writer = Writer(client, lab.process, journal)
        said = writer.gate()
        if " 3.1.0" in sandbox.appctl("version"):  # Debian 12's; `make test-ovs-matrix` runs others
            assert said == (
                "vswitchd 3.1.0 never forgets a flow that is removed (stale ukeys): 3.1.7 or newer is needed"
            )
            [outcome] = writer.examine([move("0" * 36)], moment(100.0))
            assert isinstance(outcome, Outcome)
            assert outcome.result is Result.SKIPPED
        else:
            assert said == ""
    finally:
        client.close()
        journal.close()


def test_a_flow_that_vswitchd_keeps_something_for_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    lab.rule(201, "controller(max_len=10),output:2")
    lab.rule(202, "ct(table=1)")
    lab.ofctl("add-flow", "br0", "table=1,actions=output:2")
    with a_writer(lab, tmp_path, Reinstall.VSWITCHD) as writer:
        for host in (201, 202):
            lab.packet(host)
        lab.sandbox.wait(lambda: lab.flows().get(202), "a flow with ct")
        flows = [line for lines in lab.flows().values() for line in lines]
        barred = [line for line in flows if "ct(" in line["actions"] or "userspace(" in line["actions"]]
        assert barred
        for line in barred:
            [outcome] = writer.examine([move(line["ufid"])], moment(100.0))
            assert isinstance(outcome, Outcome), line["actions"]
            assert "its actions hold" in outcome.why


def test_what_changed_since_the_look_before_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    host = a_pending(lab)
    with a_writer(lab, tmp_path, Reinstall.VSWITCHD) as writer:
        look = examined(writer, lab.ufid(host))
        assert "1 s have to pass" in writer.act(look, moment(100.5)).why
        assert "at most" in writer.act(look, moment(110.0)).why
        lab.rule(host, "drop", "mod-flows")
        lab.sandbox.wait(lambda: lab.actions(host) == {"drop"}, "vswitchd has taken it over")
        outcome = writer.act(look, moment(101.5))
    assert outcome.result is Result.SKIPPED
    assert "its actions were 2, now drop" in outcome.why


# --- the traps, as they are --------------------------------------------------------------------


def test_trap_vswitchd_answers_an_error_to_what_it_has_done(lab: Lab) -> None:
    ufid = lab.ufid(a_victim(lab, 203))  # on one of two threads, and not on the other
    with pytest.raises(SandboxError, match="No such file or directory"):
        lab.sandbox.appctl("dpctl/del-flow", DATAPATH, f"ufid:{ufid}")
    assert 203 not in lab.flows()


def test_trap_names_of_ports_are_printed_and_not_read(lab: Lab, tmp_path: Path) -> None:
    ufid = lab.ufid(a_victim(lab))
    assert "actions:p1" in lab.sandbox.appctl("dpctl/get-flow", "-m", f"ufid:{ufid}")
    with a_writer(lab, tmp_path, Reinstall.OURS) as writer:
        host = a_pending(lab)
        look = examined(writer, lab.ufid(host), ufid).victim
    assert look is not None
    assert "in_port(1)" in look.key
    assert look.actions == look.says == "2"
    with pytest.raises(SandboxError, match="parsing actions"):
        lab.sandbox.appctl("dpctl/mod-flow", DATAPATH, f"ufid:{ufid},{look.key}", "p1")


def test_trap_stale_actions_stay_unless_they_are_looked_for(lab: Lab, tmp_path: Path) -> None:
    host = a_pending(lab)
    with a_writer(lab, tmp_path, Reinstall.VSWITCHD) as writer:
        look = examined(writer, lab.ufid(host)).promoted
    lab.rule(host, "drop", "mod-flows")
    lab.sandbox.wait(lambda: lab.actions(host) == {"drop"}, "vswitchd has taken it over")
    lab.settle()
    with pytest.raises(SandboxError, match="No such file or directory"):
        lab.sandbox.appctl("dpctl/mod-flow", DATAPATH, f"ufid:{look.ufid},{look.key}", look.actions)
    lab.sandbox.linger(STALE)
    assert lab.forwards(host), "vswitchd repairs by itself what it did not when this was written"


def test_trap_a_flow_removed_before_it_was_ever_seen_does_not_come_back(lab: Lab) -> None:
    for host in range(210, 215):  # the revalidators may see one before it is removed: then it does come back
        lab.rule(host, "output:2")
        lab.packet(host)
        ufid = lab.sandbox.wait(lambda host=host: lab.flows().get(host), "a flow")[0]["ufid"]  # type: ignore[misc]
        with pytest.raises(SandboxError, match="No such file or directory"):
            lab.sandbox.appctl("dpctl/del-flow", DATAPATH, f"ufid:{ufid}")
    for _ in range(10):  # longer than BACK
        for host in range(210, 215):
            assert lab.forwards(host), "the slow path forwards them all"
        lab.sandbox.linger(0.1)
    assert set(range(210, 215)) - lab.flows().keys()


# --- while the tables change -------------------------------------------------------------------


def change_at(lab: Lab, method: str, step: int, change: Callable[[], None]) -> tuple[list[bool], Callable[[str], None]]:
    """For a writer: calls it once, at that request of a move; whether it was, and whether requests count."""
    state = [False, False]
    left = [step]

    def told(said: str) -> None:
        if state[1] and method in ("", said):
            left[0] -= 1
            if left[0] == 0:
                change()
                state[0] = True

    return state, told


def changed_in_between(lab: Lab, directory: Path, how: Reinstall, method: str, step: int) -> bool:
    """Both rules change to drop at that request; whether it came to that. Nothing may be forwarded afterwards."""
    host, victim = a_pending(lab), a_victim(lab)

    def change() -> None:
        lab.rule(host, "drop", "mod-flows")
        lab.rule(victim, "drop", "mod-flows")
        lab.settle()

    state, told = change_at(lab, method, step, change)
    with a_writer(lab, directory, how, told) as writer:
        look = examined(writer, lab.ufid(host), lab.ufid(victim))
        state[1] = True
        writer.act(look, moment(101.5))
        state[1] = False
        if state[0]:
            for one in (host, victim):
                lab.sandbox.wait(lambda one=one: not lab.forwards(one), "nothing is forwarded", STALE)  # type: ignore[misc]
            writer.replay(moment(103.0))
            lab.settle()
            assert not lab.forwards(host)
            assert not lab.forwards(victim)
        writer.replay(moment(120.0))
        assert writer.unfinished == 0
    return state[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", Reinstall)
@pytest.mark.parametrize(("method", "nth"), WRITES)
def test_what_the_tables_forbid_meanwhile_is_not_forwarded(
    lab: Lab, tmp_path: Path, how: Reinstall, method: str, nth: int
) -> None:
    came_to_it = changed_in_between(lab, tmp_path, how, method, nth)
    assert came_to_it is (how is Reinstall.OURS or (method, nth) in WRITES[:2])


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", Reinstall)
def test_what_the_tables_forbid_at_any_step_is_not_forwarded(lab: Lab, tmp_path: Path, how: Reinstall) -> None:
    steps = next(step for step in range(1, MOST) if not changed_in_between(lab, tmp_path, how, "", step))
    assert steps > 10


@pytest.mark.parametrize(("method", "nth"), WRITES)
def test_a_flow_that_by_now_would_match_too_much_is_taken_away(
    own_lab: Lab, tmp_path: Path, method: str, nth: int
) -> None:
    lab = own_lab
    host, victim = a_pending(lab), a_victim(lab)
    narrower = f"in_port=1,ip,nw_src=10.0.0.{victim},nw_dst=10.0.0.99"

    def change() -> None:
        lab.ofctl("add-flow", "br0", f"priority=200,{narrower},actions=drop")
        lab.settle()
        lab.packet(victim)  # vswitchd installs a flow of its own, under the same ufid

    state, told = change_at(lab, method, nth, change)
    with a_writer(lab, tmp_path, Reinstall.OURS, told) as writer:
        look = examined(writer, lab.ufid(host), lab.ufid(victim))
        state[1] = True
        writer.act(look, moment(101.5))
        assert state[0]
        state[1] = False
        lab.settle()
        writer.replay(moment(103.0))
        lab.sandbox.wait(lambda: not lab.forwards(victim, 99), "the narrower rule holds", STALE)
        assert not lab.forwards(victim, 99)
        assert lab.forwards(victim, 10)
        writer.replay(moment(120.0))
        assert writer.unfinished == 0


# --- killed on the way -------------------------------------------------------------------------


def killed(lab: Lab, directory: Path, how: Reinstall, method: str, step: int, drop: bool) -> bool:
    """A process is killed at that request, and another one comes; whether it came to that. drop: the rules change."""
    host, victim = a_pending(lab), a_victim(lab)
    pid, start = lab.process
    case = Case(str(lab.control), pid, start, str(directory), how.value, lab.ufid(host), lab.ufid(victim), method, step)
    argv = [sys.executable, "-m", "tests.offload_killed", json.dumps(case)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (-9, FINISHED), done.stderr
    if drop:
        lab.rule(host, "drop", "mod-flows")
        lab.rule(victim, "drop", "mod-flows")
    with a_writer(lab, directory, how) as writer:
        told = writer.replay(moment(102.0))
        lab.settle()
        told += writer.replay(moment(104.0))
        assert writer.unfinished == 0, told
    for one in (host, victim):
        if drop:
            lab.sandbox.wait(lambda one=one: not lab.forwards(one), "nothing is forwarded", STALE)  # type: ignore[misc]
        else:
            assert lab.forwards(one)
            lab.sandbox.wait(
                lambda one=one: lab.forwards(one) and lab.actions(one) == {"2"},  # type: ignore[misc]
                "the flow is back", BACK,
            )  # fmt: skip
    return done.returncode != FINISHED


@pytest.mark.slow
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("how", Reinstall)
@pytest.mark.parametrize(("method", "nth"), WRITES)
def test_no_flow_is_lost_or_stale_when_the_writer_is_killed(
    lab: Lab, tmp_path: Path, how: Reinstall, method: str, nth: int, drop: bool
) -> None:
    came_to_it = killed(lab, tmp_path, how, method, nth, drop)
    assert came_to_it is (how is Reinstall.OURS or (method, nth) in WRITES[:2])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("how", Reinstall)
def test_no_flow_is_lost_or_stale_at_whichever_step_the_writer_is_killed(
    lab: Lab, tmp_path: Path, how: Reinstall, drop: bool
) -> None:
    steps = next(step for step in range(1, MOST) if not killed(lab, tmp_path, how, "", step, drop))
    assert steps > 10
