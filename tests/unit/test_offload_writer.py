# SPDX-License-Identifier: Apache-2.0
"""What the writer of flows reads, refuses and notes. Moves as a whole: tests/property, and on a real OVS tests/real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.core import offload_act
from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload import Hardware
from ovs_keepalive.core.offload_act import Counters, Entry, Examined, Kind, Outcome, Reading, Reinstall, Result
from ovs_keepalive.formats import offload_journal, one_flow
from ovs_keepalive.sensors.offload_journal import NAME, Journal, Unwritten
from ovs_keepalive.sensors.offload_writer import Writer
from tests.offload_lab import moment, move
from tests.pretended_vswitchd import DATAPATH, UFID, Line, Vswitchd

PROCESS = ProcessId(700, 7)
PENDING, VICTIM = 1, 2
GOOD = Reading("u", "recirc_id(0),in_port(1)", "2", 5, Hardware.FULL, "ip", "2")
# As Open vSwitch 4.0.0 and 3.1.0 print it: tests/real/test_offload_writer.py reads them live.
KEY = "recirc_id(0),dp_hash(0/0),in_port({}),eth(src=50:54:00:00:00:01/00:00:00:00:00:00),ipv4(src=10.0.0.1,frag=no)"
WHOLE = (
    f"ufid:{UFID.format(7)}, {KEY.format('p0')}, packets:4, bytes:424, used:0.019s, flags:SP., "
    "offloaded:partial, dp:ovs, actions:p1, dp-extra-info:miniflow_bits(2,4)\n"
)
BARE = (
    "recirc_id(0),in_port(1),ipv4(src=10.0.0.1,frag=no), packets:4, bytes:424, used:0.019s, "
    "actions:push_vlan(vid=1,pcp=0),2\n"
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def vswitchd() -> Vswitchd:
    """Hardware with room for one flow, which the victim has."""
    found = Vswitchd(capacity=1)
    for host in (VICTIM, PENDING):
        found.rule(host, "2")
        found.packet(host)
    return found


def writer(line: Line, journal: Journal, how: Reinstall = Reinstall.OURS) -> Writer:
    made = Writer(line, PROCESS, journal, how)
    assert made.gate() == ""
    return made


def look(writer: Writer) -> Examined:
    [found] = writer.examine([move(UFID.format(PENDING), UFID.format(VICTIM))], moment(100.0))
    assert isinstance(found, Examined)
    return found


def entry(**changes: object) -> Entry:
    known = Entry(0, offload_act.REMOVED, PROCESS, 100.0, DATAPATH, UFID.format(VICTIM), "recirc_id(0)", "2", "ip,32")
    return known._replace(**changes)  # type: ignore[arg-type]


# --- the gate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "least"),
    [
        ((2, 17, 11), "2.17.12"), ((3, 0, 7), "3.0.8"), ((3, 1, 0), "3.1.7"), ((3, 1, 6), "3.1.7"),
        ((3, 2, 4), "3.2.5"), ((3, 3, 3), "3.3.4"), ((3, 4, 1), "3.4.2"), ((3, 4, 90), "3.4.2"), ((2, 16, 9), "3.5.0"),
    ],
)  # fmt: skip
def test_a_version_that_never_forgets_a_flow_is_refused(version: tuple[int, int, int], least: str) -> None:
    said = offload_act.gate(version, (DATAPATH,))
    assert "stale ukeys" in said
    assert f"{least} or newer is needed" in said


@pytest.mark.parametrize(
    "version", [(2, 17, 12), (3, 0, 8), (3, 1, 7), (3, 2, 6), (3, 3, 4), (3, 4, 2), (3, 5, 0), (3, 5, 90), (4, 0, 0)]
)
def test_a_version_that_forgets_is_taken(version: tuple[int, int, int]) -> None:
    assert offload_act.gate(version, (DATAPATH,)) == ""


@pytest.mark.parametrize(
    ("datapaths", "why"),
    [
        (("system@ovs-system",), "datapath system@ovs-system: flows are moved in vswitchd's own (netdev) only"),
        (("system@ovs-system", DATAPATH), "2 datapaths (system@ovs-system, netdev@ovs-netdev): flows are moved"),
        ((), "0 datapaths"),
    ],
)
def test_only_one_datapath_of_vswitchds_own_is_written(datapaths: tuple[str, ...], why: str) -> None:
    assert offload_act.gate((4, 0, 0), datapaths).startswith(why)


def test_a_vswitchd_without_a_version_is_refused() -> None:
    assert offload_act.gate(one_flow.version("gibberish"), (DATAPATH,)) == "vswitchd does not tell its version"
    assert one_flow.version("ovs-vswitchd (Open vSwitch) 3.1.0\n") == (3, 1, 0)


# --- what is read ------------------------------------------------------------------------------


def test_a_flow_is_read_with_its_names_and_without() -> None:
    whole, bare = one_flow.shown(WHOLE), one_flow.shown(BARE)
    assert whole == one_flow.Shown(KEY.format("p0"), 4, Hardware.PARTIAL, "p1")
    assert bare is not None
    assert (bare.actions, bare.hardware) == ("push_vlan(vid=1,pcp=0),2", Hardware.NONE)
    assert one_flow.numbered(whole.key, bare.key, {"p0": 1, "p1": 2}) == KEY.format("1")


@pytest.mark.parametrize(
    "text", ["", "\n", BARE + BARE, BARE.replace("actions:", ""), BARE[:60], "packets:4, actions:2"]
)
def test_what_is_no_flow_is_none(text: str) -> None:
    assert one_flow.shown(text) is None


@pytest.mark.parametrize("name", ["1", "2", "a),recirc_id(9", "in_port(3)", "é"])
def test_a_port_of_any_name_gets_its_number(name: str) -> None:
    assert one_flow.numbered(KEY.format(name), "in_port(7)", {name: 7, "x": 1}) == KEY.format("7")


def test_a_key_of_another_port_is_not_numbered() -> None:
    assert one_flow.numbered(KEY.format("p0"), "in_port(2)", {"p0": 1, "p1": 2}) is None
    assert one_flow.numbered(KEY.format("p0"), "nothing", {"p0": 1}) is None


def test_a_trace_that_goes_round_says_nothing() -> None:
    once = "Megaflow: recirc_id=0,ip\nDatapath actions: drop\n"
    assert one_flow.verdict(once) == one_flow.Verdict("recirc_id=0,ip", "drop")
    assert one_flow.verdict(once + once) is None
    assert one_flow.verdict("no OpenFlow port for datapath port 77") is None


def test_a_counter_that_cannot_be_read_is_0() -> None:
    assert [one_flow.counter(text) for text in ("750\n", "x", "", "9" * 30)] == [750, 0, 0, 0]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        (GOOD._replace(key="recirc_id(0x1),in_port(1)"), "recirculated"),
        (GOOD._replace(key="in_port(1)"), "recirculated"),
        (GOOD._replace(actions="userspace(pid=1),2"), "its actions hold userspace"),
        (GOOD._replace(actions="ct(zone=1),recirc(0x1)"), "its actions hold ct"),
        (GOOD._replace(says="tnl_pop(4)"), "its actions hold tnl_pop"),
        (GOOD._replace(megaflow="", says=""), "ofproto/trace says nothing of it"),
        (GOOD._replace(says="drop"), "its actions are 2, by the OpenFlow tables drop"),
        (GOOD, ""),
    ],
)
def test_some_flows_are_never_touched(reading: Reading, why: str) -> None:
    assert offload_act.objection(reading) == why


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (None, "gone"),
        (GOOD._replace(key="recirc_id(0),in_port(2)"), "another flow"),
        (GOOD._replace(actions="3"), "its actions were 2, now 3"),
        (GOOD._replace(packets=4), "installed anew"),
        (GOOD._replace(hardware=Hardware.NONE), "no more in hardware"),
        (GOOD._replace(packets=9, megaflow=""), ""),
    ],
)
def test_a_flow_that_changed_since_the_look_is_not_touched(now: Reading | None, why: str) -> None:
    assert offload_act.changed(GOOD, now) == why


def test_an_old_or_a_fresh_look_writes_nothing(vswitchd: Vswitchd, journal: Journal) -> None:
    one = writer(Line(vswitchd), journal)
    seen = look(one)
    for late in (0.9, 6.1):
        outcome = one.act(seen, moment(100.0 + late))
        assert outcome.result is Result.SKIPPED
    assert not [said for said in vswitchd.said if said.endswith("flow") and "get" not in said]


def test_actions_that_vswitchd_does_not_read_remove_nothing(vswitchd: Vswitchd, journal: Journal) -> None:
    vswitchd.rule(VICTIM, "hash(l4)")
    vswitchd.revalidate()
    outcome = (one := writer(Line(vswitchd), journal)).act(look(one), moment(101.5))
    assert outcome.result is Result.SKIPPED
    assert "could not be put back: ovs-vswitchd: parsing actions" in outcome.why
    assert "dpctl/del-flow" not in vswitchd.said
    assert one.unfinished == 0


def test_without_the_gate_nothing_is_asked(vswitchd: Vswitchd, journal: Journal) -> None:
    one = Writer(Line(vswitchd), PROCESS, journal)
    [outcome] = one.examine([move(UFID.format(PENDING))], moment(100.0))
    assert isinstance(outcome, Outcome)
    assert outcome.result is Result.SKIPPED
    assert one.replay(moment(1.0)) == []
    assert vswitchd.said == []


# --- what goes wrong ---------------------------------------------------------------------------


def test_full_hardware_refuses_and_the_victim_keeps_its_slot(vswitchd: Vswitchd, journal: Journal) -> None:
    one = writer(Line(vswitchd), journal)
    [fill] = one.examine([move(UFID.format(PENDING))], moment(100.0))
    assert isinstance(fill, Examined)
    outcome = one.act(fill, moment(101.5))
    assert (outcome.result, outcome.why) == (Result.REFUSED, "hardware did not take it")
    assert vswitchd.flows[VICTIM].hardware
    vswitchd.capacity = 2
    one.act(fill, moment(101.6))
    assert one.look_again(outcome).result is Result.PROMOTED


def test_a_silent_vswitchd_leaves_the_removal_in_the_journal(vswitchd: Vswitchd, journal: Journal) -> None:
    def silence(_: int) -> None:
        line.silent = vswitchd.said[-1] == "dpctl/del-flow"

    line = Line(vswitchd, after=silence)
    one = writer(line, journal)
    outcome = one.act(look(one), moment(101.5))
    assert outcome.result is Result.FAILED
    assert [anomaly.kind for anomaly in outcome.anomalies] == [Kind.SILENT]
    assert VICTIM not in vswitchd.flows
    again = writer(Line(vswitchd), journal)
    assert f"flow {UFID.format(VICTIM)}: put back" in again.replay(moment(103.0))
    assert vswitchd.flows[VICTIM].actions == "2"


def test_what_is_put_back_and_gone_again_is_lost(vswitchd: Vswitchd, journal: Journal) -> None:
    one = writer(Line(vswitchd), journal)
    outcome = one.act(look(one), moment(101.5))
    assert outcome.result is Result.PROMOTED
    del vswitchd.flows[VICTIM]
    again = one.look_again(outcome)
    assert (again.result, again.after) == (Result.FAILED, ("yes", "gone"))
    assert [anomaly.kind for anomaly in again.anomalies] == [Kind.LOST]


def test_a_round_is_left_out_while_the_tables_change_all_the_time() -> None:
    assert offload_act.busy(Counters(0, 7), Counters(0, 10)) == ""
    assert offload_act.busy(Counters(0, 7), Counters(0, 11)) == (
        "the OpenFlow tables changed 4 times while it was looked at"
    )


def test_no_flow_is_moved_while_vswitchd_takes_longer_to_see_flows_than_is_waited_for() -> None:
    assert offload_act.slow([]) == offload_act.slow([None, 0.001, 0.5]) == ""
    assert "take 0.6 s for a round" in offload_act.slow([0.001, 0.6])


def test_more_duplicate_upcalls_than_expected_are_an_anomaly() -> None:
    before, after = Counters(10, 3), Counters(60, 3)
    assert offload_act.duplicates(before, after, 50.0) is None
    found = offload_act.duplicates(before, after, 49.0)
    assert found is not None
    assert found.why == "handler_duplicate_upcall grew by 50, by 49 at most was expected"


# --- the journal -------------------------------------------------------------------------------


def test_what_is_open_is_found_by_the_next(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    numbers = first.begin(entry(), entry(kind=offload_act.WRITTEN))
    first.end(numbers[1])
    first.close()
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'[3,"removed",[700')  # cut off
    second = Journal(tmp_path)
    assert second.open == {1: entry(number=1)}
    assert second.begin(entry()) == [2]
    second.end(1, 2)
    second.close()
    assert (tmp_path / NAME).read_bytes() == b""


def test_one_daemon_at_a_time_acts(tmp_path: Path, journal: Journal) -> None:
    with pytest.raises(Unwritten, match="locked by another process: no flow is moved: let one daemon"):
        Journal(tmp_path)


@pytest.mark.parametrize(
    "text", ["rubbish\n", '{"done":"x"}\n', '[1,"removed"]\n', "[" * 10000 + "\n", "x" * (1 << 21)]
)
def test_a_damaged_journal_is_said_and_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(Unwritten, match=r"no flow is moved: remove it once every flow is as it should be") as caught:
        Journal(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / NAME).read_text() == text


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unwritten, match=r"No such file or directory: no flow is moved: set state-dir"):
        Journal(tmp_path / "absent")


def test_a_full_disk_removes_nothing(vswitchd: Vswitchd, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer(Line(vswitchd), journal)
    seen = look(one)
    monkeypatch.setattr("ovs_keepalive.sensors.offload_journal.os.write", lambda *_: 3)
    outcome = one.act(seen, moment(101.5))
    assert [anomaly.kind for anomaly in outcome.anomalies] == [Kind.JOURNAL]
    assert "its disk is full: no flow is moved: make room" in outcome.why
    assert "dpctl/del-flow" not in vswitchd.said


def test_flows_of_another_vswitchd_are_not_put_back(vswitchd: Vswitchd, journal: Journal) -> None:
    journal.begin(entry(process=ProcessId(701, 8)))
    one = writer(Line(vswitchd), journal)
    [line] = one.replay(moment(101.0))
    assert line == f"flow {UFID.format(VICTIM)}: of another vswitchd, or another datapath: nothing to do"
    assert one.unfinished == 0


@pytest.mark.parametrize(
    ("age", "actions", "said", "back"),
    [
        (9.0, "2", "put back", True),
        (11.0, "2", "removed 11 s ago: vswitchd puts it back when a packet comes", False),
        (9.0, "drop", "the tables say something else by now: vswitchd puts it back when a packet comes", False),
    ],
)
def test_what_was_removed_is_put_back_if_that_is_still_right(
    vswitchd: Vswitchd, journal: Journal, age: float, actions: str, said: str, back: bool
) -> None:
    seen = look(writer(Line(vswitchd), journal)).victim
    assert seen is not None
    journal.begin(entry(key=seen.key, megaflow=seen.megaflow))
    del vswitchd.flows[VICTIM]
    vswitchd.rule(VICTIM, actions)
    assert writer(Line(vswitchd), journal).replay(moment(100.0 + age)) == [f"flow {UFID.format(VICTIM)}: {said}"]
    assert (VICTIM in vswitchd.flows) is back


def test_a_journal_is_read_strictly() -> None:
    text = offload_journal.begun(entry(number=4))
    assert offload_journal.open_entries(text + b"[5") == (entry(number=4),)
    for bad in (entry(actions=""), entry(key="a\nb"), entry(ufid="\x1b[1m")):
        with pytest.raises(offload_journal.Damaged, match=r"line 1: no flow of ours"):
            offload_journal.open_entries(offload_journal.begun(bad))
