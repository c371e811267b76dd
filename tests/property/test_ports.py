# SPDX-License-Identifier: Apache-2.0
"""Whatever is seen of a port, in whatever order: nothing is said that was not seen, and nothing forgotten."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_keepalive.core.places import Entry, Kind, Place
from ovs_keepalive.core.ports import Counters, Peers, Port, PortFacts, PortState
from ovs_keepalive.formats import column, memory
from ovs_keepalive.formats import ports as form
from ovs_keepalive.formats import survey as wire
from tests.looks import remembered
from tests.port_looks import ABSENT, FIRST, POLLED, SECOND, THERE, Watched, at, client, server, survey

DIRECTORY = Place("/run/vm", (Entry("/", 0, 0, 0o755),), Kind.DIRECTORY, Entry("/run/vm", 9, 9, 0o700))
SOCKETS = st.sampled_from([THERE, ABSENT, DIRECTORY, "/run/vm: Permission denied", ""])
PEERS = st.builds(Peers, st.integers(0, 1), st.integers(0, 2), st.integers(0, 2)) | st.just("not seen")
COUNTERS = st.builds(Counters, st.floats(0, 1e6), *[st.integers(0, 9)] * 3) | st.just("")
FACTS: dict[str, st.SearchStrategy[Any]] = {
    "peer": st.sampled_from(["connected", "disconnected", ""]),
    "link": st.sampled_from(["up", "down", ""]),
    "error": st.sampled_from(["", "could not open network device"]),
    "ofport": st.sampled_from([None, -1, 1]),
    "socket": SOCKETS,
    "peers": PEERS,
    "counters": COUNTERS,
    "drops": st.integers(0, 5),
}


@st.composite
def facts(draw: st.DrawFn) -> PortFacts:
    """A vhost-user port of which anything may be so."""
    of = draw(st.sampled_from([client, server]))
    made: PortFacts = of(name="v", **{name: draw(strategy) for name, strategy in FACTS.items()})
    return made


ACTS = st.lists(
    st.tuples(facts(), st.sampled_from([0.5, 5.0, 400.0]), st.sampled_from(["", "", "", "vswitchd is HUNG"]),
              st.booleans(), st.sampled_from([None, {}, {"v": POLLED}])),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=150)
@given(ACTS)
def test_every_state_is_one_that_was_proven(acts: list[Any]) -> None:
    watched, connected = Watched(), set()
    for seen, after, blind, restarts, polled in acts:
        if restarts:
            watched.process = SECOND if watched.process == FIRST else FIRST
            watched.began = watched.now
            watched.memory = watched.memory._replace(
                ports=tuple(one for one in watched.memory.ports if one.type == seen.type)
            )
        watched.polled = polled
        before = {(one.type, one.process) for one in watched.memory.ports if one.process is not None}
        connected |= before
        port = watched.look(seen, after=after, blind=blind)
        _keeps_the_laws(port, watched, blind)
        if port.state is PortState.STRANDED:
            assert seen.mode == "server"
            assert any(process != watched.process for kind, process in connected if kind == seen.type)


def _keeps_the_laws(port: Port, watched: Watched, blind: str) -> None:
    assert port.since.mono <= watched.now
    assert not (blind and port.state is not None)
    if port.state is PortState.UP:
        assert (port.facts.peer, port.facts.link) == ("connected", "up") or watched.memory.ports[
            0
        ].raw is not port.state
    for finding in port.findings:
        assert finding.evidence
        assert finding.consequence
        assert finding.cure
    for key, value in form.pairs(watched.told.ports).items():
        assert column.clean(key) == key
        assert value.isprintable()


@settings(max_examples=60)
@given(ACTS, st.integers(1, 3))
def test_a_memory_that_was_written_down_says_what_the_one_says_that_was_not(acts: list[Any], every: int) -> None:
    one, twin = Watched(), Watched()
    for number, (seen, after, blind, _, polled) in enumerate(acts):
        one.polled = twin.polled = polled
        assert one.look(seen, after=after, blind=blind) == twin.look(seen, after=after, blind=blind)
        if number % every == 0:
            noted = remembered(at=at(twin.now), ports=twin.memory)
            twin.memory = memory.decode(memory.encode(noted, "boot", "f.pid"), "boot", "f.pid").ports


@settings(max_examples=100)
@given(st.lists(facts(), max_size=3), st.text(max_size=20))
def test_a_survey_comes_through_the_pipe_as_it_was(ports: list[PortFacts], text: str) -> None:
    seen = survey(*ports, blind=(text.encode(errors="replace").decode(),))
    assert wire.survey(wire.line(seen)) == seen
