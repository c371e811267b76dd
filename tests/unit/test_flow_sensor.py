# SPDX-License-Identifier: Apache-2.0
"""The look at the datapath's flows: what is asked, in which order, and what no answer means."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ovs_keepalive.core.model import Moment, NotSeen, Seen
from ovs_keepalive.core.pace import DUMP_PAUSE, pause_after
from ovs_keepalive.sensors import offload
from ovs_keepalive.sensors.offload import FLOW_COST, FlowLook, FlowSensor
from tests.control_socket import ControlSocket

NOW = Moment(5.0, 6)
GOLDEN = Path(__file__).parents[1] / "golden" / "4.0.0"
PID = 77
DUMP = "dpctl/dump-flows -m --no-names"
ANSWERS = {
    "upcall/show": (GOLDEN / "upcall-show.txt").read_text(),
    "dpif/show": (GOLDEN / "offload-dpif-show.txt").read_text(),
    f"{DUMP} dummy@ovs-dummy": (GOLDEN / "dump-flows.txt").read_text(),
}

Look = Seen[FlowLook] | NotSeen


class Talk:
    """A sensor that looks in a thread, and a vswitchd whose main thread runs 4 ms for each answer."""

    def __init__(self, server: ControlSocket, proc: Path, pool: ThreadPoolExecutor) -> None:
        self.server, self._pool = server, pool
        self.schedstat = proc / str(PID) / "task" / str(PID) / "schedstat"
        self.schedstat.parent.mkdir(parents=True)
        self.ran = 10**9
        self._run()
        self.sensor = FlowSensor(server.path, PID, most=100, proc=proc)
        self.asked: list[str] = []
        self.before_clock: list[str] = []

    def look(self, answers: Mapping[str, str] = ANSWERS) -> Look:
        """What comes of a look that is answered so; a text that begins with "!" is an error."""
        look = self._pool.submit(self.sensor.look, self._clock)
        while not look.done():
            for request in self.server.read():
                words = " ".join([request["method"], *request["params"]])
                self.asked.append(words)
                self._run()
                text = answers[words]
                failed = text.startswith("!")
                reply = {"id": request["id"], "result": None if failed else text, "error": text[1:] if failed else None}
                self.server.send(json.dumps(reply).encode())
            time.sleep(0.001)
        return look.result()

    def unanswered(self) -> Future[Look]:
        """A look that nobody answers."""
        return self._pool.submit(self.sensor.look, self._clock)

    def _clock(self) -> Moment:
        self.before_clock = list(self.asked)
        return NOW

    def _run(self) -> None:
        self.ran += 4_000_000
        if self.schedstat.parent.exists():
            self.schedstat.write_text(f"{self.ran} 0 0\n")


@pytest.fixture
def talk(server: ControlSocket, tmp_path: Path) -> Iterator[Talk]:
    with ThreadPoolExecutor(1) as pool:
        talking = Talk(server, tmp_path / "proc", pool)
        yield talking
        talking.sensor.close()


def seen(look: Look) -> FlowLook:
    assert isinstance(look, Seen), look
    assert look.at == NOW
    return look.value


def why(look: Look) -> str:
    assert isinstance(look, NotSeen), look
    assert look.why.isprintable()
    return look.why


def test_the_size_is_asked_first_and_each_question_once(talk: Talk) -> None:
    for _ in range(2):
        look = seen(talk.look())
        assert talk.asked == ["upcall/show", "dpif/show", f"{DUMP} dummy@ovs-dummy"]
        assert talk.before_clock == talk.asked[:2]  # the counters are of the moment that is told
        talk.asked.clear()
    assert look.unread == 0
    assert len(look.dump.flows) == 25
    assert look.dump.at == NOW
    assert look.datapaths["dummy@ovs-dummy"].flows == 27
    assert look.netdevs == {"dummy@ovs-dummy": ("br0", "br1", "p1", "p2", "p3", "q1", "vx+1")}


def test_the_cost_is_the_run_time_of_the_main_thread_and_the_pause_follows_it(talk: Talk) -> None:
    look = seen(talk.look())
    assert look.dump.cost == talk.sensor.cost == pytest.approx(0.012)
    assert talk.sensor.pause(0.01) == DUMP_PAUSE
    assert talk.sensor.pause(0.001) == pytest.approx(12.0)


def test_the_cost_is_estimated_where_the_kernel_tells_no_run_time(talk: Talk) -> None:
    talk.schedstat.unlink()
    talk.schedstat.parent.rmdir()
    assert seen(talk.look()).dump.cost == pytest.approx(27 * FLOW_COST)


@pytest.mark.parametrize(("cost", "pause"), [(0.0, 3.0), (0.03, 3.0), (0.1, 10.0), (0.6, 60.0)])
def test_flows_are_looked_at_for_one_percent_of_the_time(cost: float, pause: float) -> None:
    assert pause_after(cost) == pytest.approx(pause)
    assert cost / pause_after(cost) <= 0.01 + 1e-9


def test_too_many_flows_are_not_dumped(talk: Talk) -> None:
    many = ANSWERS["upcall/show"].replace("current 27", "current 101")
    assert why(talk.look({"upcall/show": many})) == "101 flows, more than 100: they are not dumped"
    assert talk.asked == ["upcall/show"]
    assert talk.sensor.cost == pytest.approx(0.004)
    assert seen(talk.look())


def test_each_datapath_is_dumped_by_its_name(talk: Talk) -> None:
    other = ANSWERS["upcall/show"].replace("dummy@ovs-dummy", "system@ovs-system")
    line = ANSWERS[f"{DUMP} dummy@ovs-dummy"].split("\n")[1].replace("ufid:", "ufid:ffffffff")
    line = line[:5] + line[5:13] + line[21:]
    answers = ANSWERS | {
        "upcall/show": f"{ANSWERS['upcall/show']}\n{other}",
        f"{DUMP} system@ovs-system": f"{line}\n",
    }
    look = seen(talk.look(answers))
    assert len(look.dump.flows) == 26
    assert look.dump.flows[-1].netdev == "port 1"  # a number of the other datapath is no name here
    assert look.datapaths.keys() == look.netdevs.keys() == {"dummy@ovs-dummy", "system@ovs-system"}


def test_no_datapath_has_no_flows(talk: Talk) -> None:
    assert seen(talk.look({"upcall/show": "", "dpif/show": ""})).dump.flows == ()


def test_lines_that_cannot_be_read_are_counted(talk: Talk) -> None:
    name = f"{DUMP} dummy@ovs-dummy"
    assert seen(talk.look(ANSWERS | {name: ANSWERS[name][:-30]})).unread == 1


def test_what_is_refused_is_told(talk: Talk) -> None:
    name = f"{DUMP} dummy@ovs-dummy"
    assert why(talk.look(ANSWERS | {name: "!opening datapath (No such device)"})) == "opening datapath (No such device)"
    assert seen(talk.look())


def test_nothing_more_is_asked_while_an_answer_is_owed(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "DEADLINE", 0.05)
    assert "no answer within 0.05 s" in why(talk.unanswered().result())
    assert "has not answered yet what it was asked at the last look" in why(talk.unanswered().result())
    (request,) = talk.server.read()
    assert request["method"] == "upcall/show"
    talk.server.send(json.dumps({"id": request["id"], "result": "late", "error": None}).encode())
    monkeypatch.undo()
    assert len(seen(talk.look()).dump.flows) == 25


def test_a_vswitchd_that_ends_is_told_and_found_again(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    look = talk.unanswered()
    wait_for(talk.server.read)
    talk.server.hang_up()
    assert "closed the connection before it answered" in why(look.result())
    assert seen(talk.look())


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)
