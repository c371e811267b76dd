# SPDX-License-Identifier: Apache-2.0
"""The conversation with vswitchd's main thread: what it answers, what it owes, and which datapaths it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.core.model import Moment, NotSeen, PmdBlock, PmdRxqs, Seen
from ovs_keepalive.sensors.questions import Answers, Kind, Questions
from tests.control_socket import ControlSocket

GOLDEN = Path(__file__).parents[1] / "golden" / "3.1.0"
PERF = (GOLDEN / "perf-four-first.txt").read_text()
RXQS = (GOLDEN / "rxq-four-first.txt").read_text()
ONE_PERF = (GOLDEN / "perf-several-named.txt").read_text()
ONE_RXQS = (GOLDEN / "rxq-several-named.txt").read_text()
SEVERAL = "!" + (GOLDEN / "perf-several.error").read_text()
DUMP = (GOLDEN / "dump-dps-several.txt").read_text()  # dummy@other, dummy@ovs-dummy

COUNTERS_OF = "dpif-netdev/pmd-perf-show -nh"
RXQS_OF = "dpif-netdev/pmd-rxq-show"
DATAPATHS = "dpctl/dump-dps"


@pytest.fixture
def questions(server: ControlSocket) -> Iterator[Questions]:
    conversation = Questions(server.path)
    yield conversation
    conversation.close()


def _at(seconds: float) -> Moment:
    return Moment(seconds, round(seconds * 1000))


def _converse(
    questions: Questions, server: ControlSocket, kind: Kind, world: dict[str, str], now: float = 10.0
) -> tuple[Answers, list[str]]:
    """Ask once and let vswitchd answer until nothing is owed; what came in, and what it was asked."""
    said = []
    answers = questions.ask(kind, _at(now))
    while questions.busy:
        said.append(server.answer(world))
        answers = questions.receive(_at(now)).or_else(answers)
    return answers, said


def _counters(answers: Answers) -> tuple[PmdBlock, ...]:
    assert isinstance(answers.counters, Seen)
    return answers.counters.value


def _rxqs(answers: Answers) -> tuple[PmdRxqs, ...]:
    assert isinstance(answers.rxqs, Seen)
    return answers.rxqs.value


def _why(answers: Answers) -> str:
    look = answers.counters or answers.rxqs
    assert isinstance(look, NotSeen)
    return look.why


# --- one datapath --------------------------------------------------------------------------------


def test_the_counters_are_seen_at_the_time_of_the_reply(questions: Questions, server: ControlSocket) -> None:
    assert questions.ask(Kind.COUNTERS, _at(10.0)).is_empty
    assert questions.busy
    assert questions.receive(_at(10.1)).is_empty
    assert server.answer({COUNTERS_OF: PERF}) == COUNTERS_OF
    answers = questions.receive(_at(10.25))
    assert isinstance(answers.counters, Seen)
    assert answers.counters.at == _at(10.25)
    assert [(block.core, block.iterations) for block in answers.counters.value] != []
    assert [block.core for block in answers.counters.value] == [0, 1, 2, 3]
    assert {block.datapath for block in answers.counters.value} == {""}
    assert answers.rxqs is None


def test_the_rxqs_are_seen_too(questions: Questions, server: ControlSocket) -> None:
    answers, said = _converse(questions, server, Kind.RXQS, {RXQS_OF: RXQS})
    assert said == [RXQS_OF]
    assert [(pmd.core, len(pmd.rxqs)) for pmd in _rxqs(answers)] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert answers.counters is None


@pytest.mark.parametrize("text", ["", (GOLDEN / "perf-no-pmd.txt").read_text()])
def test_no_pmds_at_all_is_something_seen(questions: Questions, server: ControlSocket, text: str) -> None:
    answers, _ = _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: text})
    assert _counters(answers) == ()


# --- what is owed --------------------------------------------------------------------------------


def test_nothing_more_is_asked_while_an_answer_is_owed(questions: Questions, server: ControlSocket) -> None:
    questions.ask(Kind.COUNTERS, _at(10.0))
    for second in range(1, 60):
        assert questions.ask(Kind.RXQS, _at(10.0 + second)).is_empty
        assert questions.ask(Kind.COUNTERS, _at(10.0 + second)).is_empty
        assert questions.receive(_at(10.0 + second)).is_empty
        assert questions.silent(10.0 + second) == second
    assert len(server.read()) == 1
    assert not questions.answered


def test_a_late_answer_is_a_look_at_the_time_it_comes(questions: Questions, server: ControlSocket) -> None:
    questions.ask(Kind.COUNTERS, _at(10.0))
    server.answer({COUNTERS_OF: PERF})
    answers = questions.receive(_at(40.0))
    assert isinstance(answers.counters, Seen)
    assert answers.counters.at.mono == 40.0
    assert questions.silent(41.0) == 0.0
    assert questions.answered


def test_nothing_is_silent_where_nothing_was_asked(questions: Questions) -> None:
    assert questions.silent(1e9) == 0.0
    assert not questions.busy
    assert questions.cost == 0.0


def test_the_cost_of_a_look_is_its_shortest_round_trip(questions: Questions, server: ControlSocket) -> None:
    for seconds in (0.5, 0.003, 2.0):
        questions.ask(Kind.COUNTERS, _at(10.0))
        server.answer({COUNTERS_OF: PERF})
        questions.receive(_at(10.0 + seconds))
    assert questions.cost == pytest.approx(0.003)


def test_an_old_round_trip_is_forgotten(questions: Questions, server: ControlSocket) -> None:
    for seconds in (0.001, *[0.01] * 32):
        questions.ask(Kind.COUNTERS, _at(10.0))
        server.answer({COUNTERS_OF: PERF})
        questions.receive(_at(10.0 + seconds))
    assert questions.cost == pytest.approx(0.01)


# --- nobody answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "field"), [(Kind.COUNTERS, "counters"), (Kind.RXQS, "rxqs")])
def test_a_socket_that_cannot_be_reached_is_not_seen_at_once(
    questions: Questions, server: ControlSocket, kind: Kind, field: str
) -> None:
    server.stop_listening()
    answers = questions.ask(kind, _at(10.0))
    look = getattr(answers, field)
    assert isinstance(look, NotSeen)
    assert look.at == _at(10.0)
    assert "connection refused" in look.why
    assert not questions.busy
    assert not questions.answered


def test_one_that_has_answered_and_lets_nobody_in_any_more_is_told_from_one_that_answers(
    questions: Questions, server: ControlSocket
) -> None:
    _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: PERF})
    assert (questions.answered, questions.unreachable) == (True, False)
    server.hang_up()
    server.stop_listening()
    questions.receive(_at(11.0))
    questions.ask(Kind.COUNTERS, _at(12.0))
    assert (questions.answered, questions.unreachable, questions.silent(13.0)) == (True, True, 0.0)


@pytest.mark.parametrize("kind", [Kind.COUNTERS, Kind.RXQS])
def test_a_connection_that_ends_in_mid_answer_is_not_seen(
    questions: Questions, server: ControlSocket, kind: Kind
) -> None:
    questions.ask(kind, _at(10.0))
    server.read()
    server.send(b'{"id": 1, "result": "pmd thread numa')
    server.hang_up()
    answers = questions.receive(_at(10.5))
    assert "closed the connection" in _why(answers)
    assert (answers.rxqs is None) == (kind is Kind.COUNTERS)
    answers, _ = _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: PERF})
    assert len(_counters(answers)) == 4


def test_garbage_is_not_seen(questions: Questions, server: ControlSocket) -> None:
    questions.ask(Kind.COUNTERS, _at(10.0))
    server.read()
    server.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert "garbage" in _why(questions.receive(_at(10.5)))


def test_text_that_tells_of_no_pmd_is_no_error(questions: Questions, server: ControlSocket) -> None:
    answers, _ = _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: "Ceci n'est pas un PMD.\n" * 10})
    assert _counters(answers) == ()


def test_an_end_of_the_connection_between_two_questions_is_no_look(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: PERF})
    server.hang_up()
    assert questions.receive(_at(11.0)).is_empty
    assert questions.awaited[0] is None
    answers, _ = _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: PERF}, now=12.0)
    assert len(_counters(answers)) == 4
    assert server.connections == 2


@pytest.mark.parametrize("kind", [Kind.COUNTERS, Kind.RXQS])
def test_what_is_refused_is_not_seen_but_is_an_answer(questions: Questions, server: ControlSocket, kind: Kind) -> None:
    refusal = '!"dpif-netdev/x" is not a valid command'
    answers, _ = _converse(questions, server, kind, {COUNTERS_OF: refusal, RXQS_OF: refusal})
    assert _why(answers) == '"dpif-netdev/x" is not a valid command'
    assert (answers.rxqs is None) == (kind is Kind.COUNTERS)
    assert questions.answered


# --- several datapaths ---------------------------------------------------------------------------

TWO = {
    COUNTERS_OF: SEVERAL,
    RXQS_OF: SEVERAL,
    DATAPATHS: DUMP,
    f"{COUNTERS_OF} other": PERF,
    f"{COUNTERS_OF} ovs-dummy": ONE_PERF,
    f"{RXQS_OF} other": RXQS,
    f"{RXQS_OF} ovs-dummy": ONE_RXQS,
}


def test_each_of_several_datapaths_is_asked_for_by_its_name(questions: Questions, server: ControlSocket) -> None:
    answers, said = _converse(questions, server, Kind.COUNTERS, TWO)
    assert said == [COUNTERS_OF, DATAPATHS, f"{COUNTERS_OF} other", f"{COUNTERS_OF} ovs-dummy"]
    assert [(block.datapath, block.core) for block in _counters(answers)] == [
        *(("other", core) for core in range(4)),
        *(("ovs-dummy", core) for core in range(2)),
    ]


def test_counters_are_asked_for_by_known_names_without_listing_them_again(
    questions: Questions, server: ControlSocket
) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)
    for _ in range(3):
        answers, said = _converse(questions, server, Kind.COUNTERS, TWO)
        assert said == [f"{COUNTERS_OF} other", f"{COUNTERS_OF} ovs-dummy"]
        assert len(_counters(answers)) == 6


def test_rxqs_of_each_datapath_carry_its_name(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)
    answers, said = _converse(questions, server, Kind.RXQS, TWO)
    assert said[-2:] == [f"{RXQS_OF} other", f"{RXQS_OF} ovs-dummy"]
    assert [pmd.datapath for pmd in _rxqs(answers)] == ["other"] * 4 + ["ovs-dummy"] * 2


def test_the_rxqs_of_several_datapaths_can_be_the_first_question(questions: Questions, server: ControlSocket) -> None:
    answers, said = _converse(questions, server, Kind.RXQS, TWO)
    assert said == [RXQS_OF, DATAPATHS, f"{RXQS_OF} other", f"{RXQS_OF} ovs-dummy"]
    assert len(_rxqs(answers)) == 6
    assert answers.counters is None


def test_kernel_datapaths_have_no_pmds_and_are_not_asked(questions: Questions, server: ControlSocket) -> None:
    world = {**TWO, DATAPATHS: "system@ovs-system\nnetdev@ovs-netdev\n", f"{COUNTERS_OF} ovs-netdev": PERF}
    answers, said = _converse(questions, server, Kind.COUNTERS, world)
    assert said[2:] == [f"{COUNTERS_OF} ovs-netdev"]
    assert len(_counters(answers)) == 4


@pytest.mark.parametrize("dump", ["", "system@ovs-system\n", "\n"])
@pytest.mark.parametrize("kind", [Kind.COUNTERS, Kind.RXQS])
def test_without_a_userspace_datapath_there_is_no_pmd(
    questions: Questions, server: ControlSocket, dump: str, kind: Kind
) -> None:
    answers, said = _converse(questions, server, kind, {**TWO, DATAPATHS: dump})
    assert said[1:] == [DATAPATHS]
    assert (_counters(answers) if kind is Kind.COUNTERS else _rxqs(answers)) == ()


def test_the_first_userspace_datapath_is_found_when_it_comes(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, {**TWO, DATAPATHS: ""})
    answers, said = _converse(questions, server, Kind.COUNTERS, {COUNTERS_OF: PERF})
    assert said == [COUNTERS_OF]
    assert len(_counters(answers)) == 4


def test_a_datapath_that_goes_is_noticed(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)
    one = {f"{COUNTERS_OF} other": SEVERAL, DATAPATHS: "dummy@ovs-dummy\n", f"{COUNTERS_OF} ovs-dummy": ONE_PERF}
    answers, said = _converse(questions, server, Kind.COUNTERS, one)
    assert said == [f"{COUNTERS_OF} other", DATAPATHS, f"{COUNTERS_OF} ovs-dummy"]
    assert len(_counters(answers)) == 2


def test_a_datapath_that_comes_beside_named_ones_is_noticed(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)
    three = {**TWO, DATAPATHS: f"{DUMP}netdev@third\n", f"{COUNTERS_OF} third": ONE_PERF, f"{RXQS_OF} third": ONE_RXQS}
    found = set()
    for second in range(60):
        answers, _ = _converse(questions, server, Kind.COUNTERS, three, now=20.0 + second)
        found |= {block.datapath for block in _counters(answers)}
        _converse(questions, server, Kind.RXQS, three, now=20.5 + second)
    assert found == {"other", "ovs-dummy", "third"}


def test_a_datapath_that_is_listed_but_gone_is_no_answer_this_time(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)
    going = {**TWO, f"{COUNTERS_OF} ovs-dummy": SEVERAL}
    answers, _ = _converse(questions, server, Kind.COUNTERS, going)
    assert isinstance(answers.counters, NotSeen)
    answers, _ = _converse(questions, server, Kind.COUNTERS, TWO)
    assert len(_counters(answers)) == 6


@pytest.mark.parametrize("kind", [Kind.COUNTERS, Kind.RXQS])
def test_datapaths_that_cannot_be_listed_make_blind_to_what_was_asked(
    questions: Questions, server: ControlSocket, kind: Kind
) -> None:
    answers, said = _converse(questions, server, kind, {**TWO, DATAPATHS: "!opening datapath failed"})
    assert said[1:] == [DATAPATHS]
    assert _why(answers) == "opening datapath failed"
    assert (answers.rxqs is None) == (kind is Kind.COUNTERS)


def test_a_look_at_several_datapaths_costs_all_their_round_trips(questions: Questions, server: ControlSocket) -> None:
    _converse(questions, server, Kind.COUNTERS, TWO)  # learns the names
    for _ in range(40):  # until the first, longer conversation is forgotten
        questions.ask(Kind.COUNTERS, _at(20.0))
        server.answer(TWO)
        questions.receive(_at(20.010))
        server.answer(TWO)
        questions.receive(_at(20.030))
    assert questions.cost == pytest.approx(0.030)


def test_names_of_datapaths_are_taken_as_they_are(questions: Questions, server: ControlSocket) -> None:
    strange = "br@x {"
    world = {COUNTERS_OF: SEVERAL, DATAPATHS: f"netdev@{strange}\n", f"{COUNTERS_OF} {strange}": PERF}
    answers, _ = _converse(questions, server, Kind.COUNTERS, world)
    assert {block.datapath for block in _counters(answers)} == {strange}
