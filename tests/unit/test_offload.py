# SPDX-License-Identifier: Apache-2.0
"""What is said of a netdev's offload, and by what evidence: rates, states, tables (CONTRACT section 9)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ovs_keepalive.core import offload_rates
from ovs_keepalive.core.offload import Dump, Flow, Hardware, Limits, OffloadState, Rate
from tests.offload_rounds import SECOND, Datapath, Stream, at, streams

TEN = Limits(capacity=10)


def _rates(*counts: tuple[float, int, float | None]) -> list[Rate]:
    """Rates of one flow after each look at (time, packets, seconds since the last one)."""
    rates: dict[str, Rate] = {}
    told, before = [], 0.0
    for when, packets, used in counts:
        dump = Dump(at(when), (Flow("u", "p1", packets, used, Hardware.NONE, "s", ""),), 0.0)
        rates, before = offload_rates.after(rates, dump, when - before), when
        told.append(rates["u"])
    return told


# --- rates -------------------------------------------------------------------------------------


def test_one_look_is_no_rate_and_two_pairs_are_one() -> None:
    told = _rates((100.0, 5000, 0.0), (102.5, 5250, 0.0), (105.0, 5500, 0.0))
    assert [offload_rates.known(rate) for rate in told] == [False, False, True]
    assert (told[0].smooth, told[1].smooth, told[2].smooth) == (0.0, 100.0, 100.0)


def test_a_rate_is_smoothed_over_six_seconds_and_judged_by_the_worse_of_two_rounds() -> None:
    told = _rates((0.0, 0, 0.0), (3.0, 300, 0.0), (6.0, 900, 0.0), (9.0, 1500, 0.0))
    weight = 1 - math.exp(-3 / 6)
    first = 100 + weight * 100
    assert told[2].smooth == pytest.approx(first)
    assert told[2].newest == 200.0
    assert (offload_rates.low(told[2]), offload_rates.high(told[2])) == (100.0, 200.0)
    assert told[3].smooth == pytest.approx(first + weight * (200 - first))
    assert offload_rates.low(told[3]) == pytest.approx(first)  # of the round before


def test_a_count_that_began_anew_counts_from_there() -> None:
    told = _rates((0.0, 0, 0.0), (3.0, 300, 0.0), (6.0, 90, 0.0))
    assert told[2].newest == 30.0


def test_a_count_from_which_one_pmds_copy_expired_is_no_burst() -> None:
    told = _rates((0.0, 100_000, 0.0), (3.0, 100_015, 0.0), (6.0, 100_012, 0.0))
    assert told[2].newest == 5.0


@pytest.mark.parametrize("used", [None, 5.1])
def test_a_flow_without_packets_of_late_has_no_rate(used: float | None) -> None:
    told = _rates((0.0, 0, 0.0), (3.0, 300, 0.0), (6.0, 330, used))
    assert (told[2].smooth, told[2].newest) == (0.0, 0.0)
    assert offload_rates.high(told[2]) == 100.0  # as of a round ago: it is no victim yet


def test_the_same_look_twice_tells_nothing_new() -> None:
    told = _rates((0.0, 0, 0.0), (3.0, 300, 0.0), (3.0, 330, 0.0))
    assert told[2] == told[1]._replace(packets=330)


def test_a_flow_that_vanished_begins_anew_and_one_without_a_name_is_not_followed() -> None:
    rates = {"gone": Rate(5, Hardware.NONE, "s", "p1", 7.0, 7.0, 7.0, 7.0, 9)}
    nameless = Flow("", "p1", 5, 0.0, Hardware.NONE, "s", "no ufid")
    assert offload_rates.after(rates, Dump(at(3.0), (nameless,), 0.0), 3.0) == {}


# --- states ------------------------------------------------------------------------------------


def _seen(datapath: Datapath, rounds: int, **facts: Any) -> list[OffloadState]:
    told = []
    for _ in range(rounds):
        datapath.look(**facts)
        told.append(datapath.netdev().state)
    return told


def test_while_offload_is_off_it_is_disabled() -> None:
    datapath = Datapath.of(*streams([100.0, 900.0], [0]), limits=TEN)
    assert _seen(datapath, 4, enabled=False) == [OffloadState.DISABLED] * 4
    assert datapath.look(enabled=False).fills == ()
    assert datapath.netdev().why == "other_config:hw-offload is not true"
    assert _seen(datapath, 1, enabled=False, dumped=False, netdevs=("p1",)) == [OffloadState.DISABLED]


def test_what_was_not_looked_at_is_skipped_with_the_reason_and_goes_on_afterwards() -> None:
    datapath = Datapath.of(*streams([100.0, 50.0], offloaded=[0]), limits=TEN)
    datapath.look()
    assert _seen(datapath, 1, dumped=False, undumped="60000 flows, more than 50000") == [OffloadState.SKIPPED]
    assert (datapath.netdev().why, datapath.netdev().share) == ("60000 flows, more than 50000", None)
    datapath.look()
    datapath.look()
    assert datapath.netdev().share == pytest.approx(100 / 150)


def test_where_ovs_moves_flows_by_itself_nothing_is_planned() -> None:
    datapath = Datapath.of(*streams([9.0, 500.0], offloaded=[0]), limits=Limits(capacity=1), acting=False)
    for _ in range(4):
        plan = datapath.look(rebalanced=True, userspace=False)
    assert (plan.fills, plan.swaps) == ((), ())
    assert datapath.netdev().state is OffloadState.SKIPPED
    assert datapath.netdev().flows == 1


def test_where_no_flow_was_ever_in_hardware_nothing_is_known_and_nothing_planned() -> None:
    datapath = Datapath.of(*streams([500.0, 100.0]), limits=TEN)
    assert _seen(datapath, 5) == [OffloadState.UNKNOWN] * 5
    assert datapath.moved == []
    assert datapath.go_on() == []


def test_with_everything_in_hardware_all_is_well() -> None:
    datapath = Datapath.of(*streams([500.0, 100.0], offloaded=[0, 1]))
    assert _seen(datapath, 5) == [OffloadState.OK] * 5
    netdev = datapath.netdev()
    assert netdev.why == "no flow waits; its table holds 2, and no limit is known"
    assert (netdev.flows, netdev.pending, netdev.pps) == (2, 0, 600.0)
    assert (netdev.share, netdev.best, netdev.efficiency) == (1.0, 1.0, 1.0)


def test_a_table_that_is_nearly_full_is_told_until_a_fifth_of_it_is_free() -> None:
    datapath = Datapath.of(*streams([50.0] * 9, offloaded=range(9)), limits=TEN)
    assert _seen(datapath, 2) == [OffloadState.PRESSURE] * 2
    assert datapath.netdev().why == "its table holds 9 of 10"
    del datapath.streams["p1-0"]
    assert _seen(datapath, 1) == [OffloadState.PRESSURE]
    del datapath.streams["p1-1"]
    assert _seen(datapath, 1) == [OffloadState.OK]
    datapath.streams |= {stream.ufid: stream for stream in streams([50.0], [0])}
    assert _seen(datapath, 1) == [OffloadState.OK]


@pytest.mark.parametrize("capacity", [2, None])
def test_flows_that_wait_for_two_rounds_are_out_of_resources(capacity: int | None) -> None:
    datapath = Datapath.of(*streams([500.0, 100.0, 70.0], [0, 1]), limits=Limits(capacity=capacity), acting=False)
    ok = OffloadState.PRESSURE if capacity else OffloadState.OK
    # Two pairs of looks before it has a rate, one more before it has lasted. A twin's limit is known from then on.
    assert _seen(datapath, 4) == [ok, ok, OffloadState.PRESSURE, OffloadState.OOR]
    netdev = datapath.netdev()
    assert netdev.why == "a flow of 70.0 pps waits for hardware; its table holds 2 of 2"
    assert netdev.since == at(datapath.now)
    assert netdev.pending == 1
    del datapath.streams["p1-2"]
    assert _seen(datapath, 2) == [OffloadState.OOR, OffloadState.PRESSURE]


def test_what_is_noted_of_a_state_stands_still_while_the_state_does() -> None:
    datapath = Datapath.of(*streams([500.0, 70.0], [0]), limits=Limits(capacity=1), acting=False)
    _seen(datapath, 4)
    noted, since = datapath.netdev().noted, datapath.netdev().since
    datapath.streams["p1-1"].pps = 300.0
    _seen(datapath, 3)
    netdev = datapath.netdev()
    assert (netdev.noted, netdev.since) == (noted, since)
    assert "70.0 pps" in noted
    assert "70.0 pps" not in netdev.why


def test_slots_that_became_free_while_flows_wait_are_starvation_that_ovs_does_not_cure() -> None:
    datapath = Datapath.of(*streams([50.0] * 30, range(10)), acting=False)
    _seen(datapath, 4)
    assert datapath.netdev().state is OffloadState.OOR
    for number in range(10):
        del datapath.streams[f"p1-{number}"]
    plan = datapath.look()
    assert datapath.netdev().state is OffloadState.STARVED
    assert datapath.netdev().why.endswith("its table holds 0 of 10: vswitchd does not try again")
    assert len(plan.fills) == 10
    assert plan.fills[0].why == "0 of 10 slots are taken"
    assert _seen(datapath, 1, userspace=False) == [OffloadState.OOR]  # only the userspace datapath is known not to


def test_where_a_set_limit_is_reached_an_unknown_kind_waits_too() -> None:
    datapath = Datapath.of(*streams([500.0], [0]), Stream("new", 70.0, shape="new"), limits=Limits(capacity=1))
    assert _seen(datapath, 4)[-1] is OffloadState.OOR


def test_what_was_learned_of_a_table_is_refuted_by_one_flow_more_in_it() -> None:
    datapath = Datapath.of(*streams([500.0, 70.0], [0]), acting=False)
    _seen(datapath, 4)
    assert datapath.netdev().capacity == 1
    datapath.streams["p1-1"].offloaded = True
    _seen(datapath, 1)
    assert datapath.netdev().capacity is None


@pytest.mark.parametrize(
    "stream",
    [
        Stream("u9", 0.0),
        Stream("u9", 500.0, barred="ct"),
        Stream("u9", 500.0, shape="never seen in hardware"),
        Stream("", 500.0, barred="no ufid"),
    ],
    ids=["idle", "barred", "unknown kind", "nameless"],
)
def test_what_proves_no_want_of_hardware_waits_for_none(stream: Stream) -> None:
    datapath = Datapath.of(*streams([500.0], [0]), stream, limits=TEN, acting=False)
    assert _seen(datapath, 6) == [OffloadState.OK] * 6


def test_flows_that_live_for_a_moment_prove_nothing() -> None:
    datapath = Datapath.of(*streams([500.0], [0]), limits=TEN)
    for number in range(8):
        datapath.streams["young"] = Stream(f"y{number}", 900.0)
        assert datapath.go_on() == []
        assert datapath.netdev().state is OffloadState.OK


def test_what_was_learned_of_one_vswitchd_does_not_hold_for_the_next() -> None:
    datapath = Datapath.of(*streams([500.0, 70.0], [0]), limits=Limits(capacity=1), acting=False)
    _seen(datapath, 4)
    assert datapath.netdev().state is OffloadState.OOR
    for stream in datapath.streams.values():
        stream.offloaded, stream.packets = False, 0.0
    assert _seen(datapath, 3, process=SECOND) == [OffloadState.UNKNOWN] * 3


def test_a_netdev_without_flows_is_told_too() -> None:
    datapath = Datapath.of(*streams([500.0], [0]), limits=TEN)
    datapath.look(netdevs=("p1", "p7"))
    assert datapath.netdev("p7").state is OffloadState.OK
    assert datapath.netdev("p7").share is None


# --- share, best, efficiency: computed by hand -------------------------------------------------


def test_the_best_share_is_that_of_the_fastest_flows_which_the_table_holds() -> None:
    datapath = Datapath.of(*streams([10.0, 20.0, 100.0, 70.0], [0, 1]), limits=Limits(capacity=2), acting=False)
    _seen(datapath, 2)
    netdev = datapath.netdev()
    assert netdev.share == pytest.approx(30 / 200)
    assert netdev.best == pytest.approx(170 / 200)
    assert netdev.efficiency == pytest.approx(30 / 170)


def test_what_may_not_be_moved_keeps_its_slot_in_the_best() -> None:
    fixed = Stream("ct", 40.0, offloaded=True, barred="ct")
    never = Stream("up", 50.0, barred="userspace")
    flows = streams([10.0, 100.0, 70.0], [0])
    datapath = Datapath.of(*flows, fixed, never, limits=Limits(capacity=2), acting=False)
    _seen(datapath, 2)
    netdev = datapath.netdev()
    assert netdev.share == pytest.approx(50 / 270)
    assert netdev.best == pytest.approx(140 / 270)
    assert (netdev.flows, netdev.pending) == (2, 2)


def test_two_netdevs_that_share_a_table_are_told_their_parts_of_its_best() -> None:
    flows = [*streams([100.0, 10.0], [0, 1]), *streams([50.0, 40.0], netdev="p2")]
    datapath = Datapath.of(*flows, holds=2, limits=Limits(capacity=2, groups=(("p1", "p2"),)))
    _seen(datapath, 2)
    one, two = datapath.netdev("p1"), datapath.netdev("p2")
    assert [one.share, one.best, one.efficiency] == pytest.approx([1.0, 100 / 110, 1.0])
    assert [two.share, two.best, two.efficiency] == pytest.approx([0.0, 50 / 90, 0.0])
    datapath.go_on(3)
    datapath.look()
    one, two = datapath.netdev("p1"), datapath.netdev("p2")
    assert [one.share, one.efficiency] == pytest.approx([100 / 110, 1.0])
    assert [two.share, two.efficiency] == pytest.approx([50 / 90, 1.0])
    assert one.why.endswith("the table of p1, p2 holds 2 of 2")


def test_of_flows_as_fast_as_each_other_the_best_keeps_those_that_are_there() -> None:
    flows = [*streams([50.0]), *streams([50.0], [0], netdev="p2")]
    datapath = Datapath.of(*flows, limits=Limits(capacity=1, groups=(("p1", "p2"),)))
    _seen(datapath, 2)
    assert (datapath.netdev("p2").best, datapath.netdev("p2").efficiency) == (1.0, 1.0)
    assert (datapath.netdev("p1").best, datapath.netdev("p1").efficiency) == (0.0, None)


def test_netdevs_that_share_no_table_have_one_each() -> None:
    flows = [*streams([100.0, 10.0], [0, 1]), *streams([50.0, 40.0], [0], netdev="p2")]
    datapath = Datapath.of(*flows, limits=Limits(capacity=2))
    moves = datapath.go_on(3)
    assert [(move.promoted, move.victim) for move in moves] == [("p2-1", "")]
