# SPDX-License-Identifier: Apache-2.0
"""Whatever a cell goes through: the mesh comes to what is wanted in one step, and touches nobody else's rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovs_keepalive.core.interfaces import Rows
from ovs_keepalive.core.mesh import Cell, host_of, ours, plan
from tests.meshes import ASKED, STANDING, done

ADDRESSES = st.sampled_from(["", "192.0.2.2", "192.0.2.3", "2001:db8::3", "127.0.0.1", "192.0.2.1", "x"])
CELLS = st.builds(
    lambda live, more: Cell({"a": "192.0.2.1", **live}, frozenset(("a", *live, *more))),
    st.dictionaries(st.sampled_from("bcdef"), ADDRESSES),
    st.sets(st.sampled_from("bcdef")),
) | st.builds(Cell, st.dictionaries(st.sampled_from("abc"), ADDRESSES), st.frozensets(st.sampled_from("abc")))


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_one_step_leads_to_what_is_wanted_and_the_next_does_nothing(cells: list[Cell]) -> None:
    rows = STANDING
    for cell in cells:
        before = {host_of(one) for one in ours(ASKED, rows)}
        made = plan(ASKED, cell, rows)
        rows = done(made, rows)
        assert not plan(ASKED, cell, rows).acts
        after = {host_of(one) for one in ours(ASKED, rows)}
        if "a" in cell.known:
            assert before - after == before - cell.known
            assert after - before <= cell.live.keys() - {"a"}
        else:
            assert after == before
        _others_are_as_they_were(rows)


def _others_are_as_they_were(rows: Rows) -> None:
    assert STANDING.bridges[0] in rows.bridges
    assert STANDING.interfaces[0] in rows.interfaces
