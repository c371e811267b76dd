# SPDX-License-Identifier: Apache-2.0
"""No name can break the exposition: whatever a thread is called, both formats are read back, each series once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Cause, Moment, State, Transition
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.publishers.prometheus import Exposition
from ovs_keepalive.publishers.weight import Weight
from tests.looks import pmd, snapshot

OWN = Weight(moment())
HOSTILE = st.text(st.sampled_from('"\\{}=,# \n\r\t\x00\x1b\u2028\u202e\ud800éa0'), max_size=12) | st.text(max_size=12)
NAMES = st.builds("pmd-c{:02d}/id:{}".format, st.integers(0, 3), HOSTILE)


@settings(max_examples=60)
@given(
    names=st.lists(NAMES, min_size=1, max_size=5),
    state=st.sampled_from(State),
    cause=st.sampled_from(Cause),
    version=st.text(max_size=8).map(one_line),
)
def test_whatever_a_thread_is_called_the_page_is_read_back(
    names: list[str], state: State, cause: Cause, version: str
) -> None:
    pmds = [pmd(name=name, state=state, cause=cause) for name in names]
    history = tuple(Transition(Moment(1.0, 0), name, "ALIVE", state, cause, "") for name in names)
    exposition = Exposition(version, OWN)
    exposition.take(snapshot(pmds, history=history))
    expected = {one_line(name) for name in names}
    for accept, parse in (("", plain), ("application/openmetrics-text; version=1.0.0", openmetrics)):
        _, page = exposition.render(accept)
        text = page.decode()
        assert all(line.isprintable() for line in text.split("\n"))
        samples = [sample for family in parse(text) for sample in family.samples]
        series = [(sample.name, frozenset(sample.labels.items())) for sample in samples]
        assert len(set(series)) == len(series)
        assert {sample.labels["pmd"] for sample in samples if "pmd" in sample.labels} == expected
        [build] = [sample for sample in samples if sample.name == "ovs_keepalive_build_info"]
        assert build.labels["version"] == version
