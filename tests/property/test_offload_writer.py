# SPDX-License-Identifier: Apache-2.0
"""Whenever the tables change and whenever the writer is killed: no flow is lost, and none does what no table says."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovs_keepalive.core.model import ProcessId
from ovs_keepalive.core.offload_act import Examined, Outcome, Reinstall, Result
from ovs_keepalive.sensors.offload_journal import Journal
from ovs_keepalive.sensors.offload_writer import Writer
from tests.offload_lab import moment, move
from tests.pretended_vswitchd import UFID, Killed, Line, Says, Vswitchd

PROCESS = ProcessId(700, 7)
PENDING, VICTIM = 1, 2
REQUESTS = 18  # as many as a move makes

says = st.builds(Says, st.sampled_from(["32", "32+dst"]), st.sampled_from(["2", "drop"]))
changes = st.lists(
    st.tuples(st.integers(1, REQUESTS), st.sampled_from([PENDING, VICTIM]), says, st.booleans(), st.booleans()),
    min_size=1,
    max_size=2,
)


def vswitchd() -> Vswitchd:
    found = Vswitchd(capacity=1)
    for host in (VICTIM, PENDING):
        found.rule(host, "2")
        found.packet(host)
    return found


def writer(line: Line, directory: str, how: Reinstall) -> Writer:
    made = Writer(line, PROCESS, Journal(Path(directory)), how)
    assert made.gate() == ""
    return made


# The tables say drop before anything is written, that is written, and they say again what they said: the revalidators,
# which have not looked, see no change.
@example(
    how=Reinstall.OURS,
    changes=[(1, PENDING, Says("32", "drop"), False, False), (17, PENDING, Says("32", "2"), False, False)],
    killed=None,
    age=0.5,
)
@settings(max_examples=1500)  # what goes wrong does so at one step of many
@given(
    how=st.sampled_from(Reinstall),
    changes=changes,
    killed=st.integers(1, REQUESTS) | st.none(),
    age=st.sampled_from([0.5, 20.0]),
)
def test_no_flow_is_lost_and_none_is_stale(
    how: Reinstall, changes: list[tuple[int, int, Says, bool, bool]], killed: int | None, age: float
) -> None:
    """age: seconds until another writer comes."""
    ovs, start = vswitchd(), [10**6]

    def before(number: int) -> None:
        for at, host, says, revalidated, packet in changes:
            if at == number - start[0]:
                ovs.rule(host, says.actions, says.mask)
                ovs.revalidate() if revalidated else None
                ovs.packet(host) if packet else None

    def after(number: int) -> None:
        if number - start[0] == killed:
            raise Killed

    with tempfile.TemporaryDirectory() as directory:
        line = Line(ovs, before, after)
        first = writer(line, directory, how)
        try:
            [look] = first.examine([move(UFID.format(PENDING), UFID.format(VICTIM))], moment(100.0))
            assert isinstance(look, Examined)
            start[0] = line.requests
            with suppress(Killed):
                first.act(look, moment(101.5))
        finally:
            first._journal.close()
        ovs.revalidate()  # a second passes until somebody looks again
        second = writer(Line(ovs), directory, how)
        try:
            second.replay(moment(101.5 + age))
            ovs.revalidate()
            for later in (103.0, 105.0, 107.0):  # a round each
                second.replay(moment(later + age))
                ovs.revalidate()
            assert second.unfinished == 0
        finally:
            second._journal.close()
    for _ in range(2):
        ovs.revalidate()
        for host in (PENDING, VICTIM):
            ovs.packet(host)
    for host in (PENDING, VICTIM):
        flow = ovs.flows[host]
        assert Says(flow.mask, flow.actions) == ovs.tables[host]


@given(how=st.sampled_from(Reinstall))
def test_what_nothing_disturbs_is_promoted_and_leaves_nothing_in_the_journal(how: Reinstall) -> None:
    ovs = vswitchd()
    with tempfile.TemporaryDirectory() as directory:
        one = writer(Line(ovs), directory, how)
        try:
            [look] = one.examine([move(UFID.format(PENDING), UFID.format(VICTIM))], moment(100.0))
            assert isinstance(look, Examined)
            outcome: Outcome = one.act(look, moment(101.0))
            assert outcome.result is Result.PROMOTED
            assert one._journal.path.read_bytes() == b""
        finally:
            one._journal.close()
    assert ovs.flows[PENDING].hardware
    assert (VICTIM in ovs.flows) is (how is Reinstall.OURS)
