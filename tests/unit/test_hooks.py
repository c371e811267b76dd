# SPDX-License-Identifier: Apache-2.0
"""Hooks: which changes they are told, which programs are trusted, and that none holds the main loop up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import ovs.poller
import pytest

from ovs_keepalive import __version__
from ovs_keepalive.core.model import Moment, Rxq, Snapshot, State, Transition, VswitchdState
from ovs_keepalive.programs.trust import of_directory, of_hook
from ovs_keepalive.publishers import hooks
from ovs_keepalive.publishers.hooks import LONGEST, LONGEST_FACT, LOOK, PRINTED, QUEUE, Hooks, facts, severity
from tests import looks
from tests.looks import pmd, running

P = "pmd-c03/id:8"
HOSTILE = "x\n\x1b[2J\x00y\u202e\ud800"


def at(second: float) -> Moment:
    return Moment(second, 1_700_000_000_000 + round(second * 1000))


def change(second: float, new: str = "DEAD", old: str = "ALIVE", who: str = P, evidence: str = "seen") -> Transition:
    return Transition(at(second), who, old, new, "traced", evidence)


def snapshot(*history: Transition, state: State = State.DEAD, name: str = P) -> Snapshot:
    ill = pmd(state=state, name=name, rxqs=(Rxq("p0", 0), Rxq("p1", 2)))
    return looks.snapshot([ill], history=history, vswitchd=running())


class Loop:
    """The main loop, whose clock goes as the test says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hooks = Hooks(str(directory))
        self.now = 1000.0

    def add(self, name: str, script: str, mode: int = 0o755) -> Path:
        path = self.directory / name
        path.write_text(script)
        path.chmod(mode)
        return path

    def publish(self, *history: Transition) -> None:
        self.hooks.publish(snapshot(*history))

    def turn(self) -> None:
        began = time.monotonic()
        self.hooks.run(self.now)
        assert time.monotonic() - began < 1.0, "the main loop was held up"

    def until_idle(self, seconds: float = 10.0) -> None:
        """Turn as the poller wakes, until no hook runs and none waits; its clock does not move."""
        deadline = time.monotonic() + seconds
        while self.is_busy():
            assert time.monotonic() < deadline, self.hooks.fact
            poller = ovs.poller.Poller()
            self.hooks.wait(poller)
            poller.block()
            self.turn()

    def is_busy(self) -> bool:
        return bool(self.hooks._running or self.hooks._queue or self.hooks._next)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    directory = tmp_path / "hooks"
    directory.mkdir(mode=0o755)
    loop = Loop(directory)
    yield loop
    if loop.hooks._running is not None:
        loop.hooks._running.kill()
    loop.hooks.close()


class Log:
    """What would be logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warn = self.info = self.lines.append

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(hooks, "log", log)
    return log


# --- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "bad"),
    [
        *((state, "okay") for state in (State.UNUSED, State.ALIVE, State.SLEEP, VswitchdState.RUNNING)),
        *((state, "warning") for state in (State.MISSING, VswitchdState.STARTING, VswitchdState.RESTARTING)),
        *((state, "failure") for state in (State.DEAD, State.GONE, VswitchdState.HUNG, VswitchdState.CRASH_LOOP)),
        ("a state of a later version", "failure"),
    ],
)
def test_how_bad_a_state_is(state: str, bad: str) -> None:
    assert severity(state) == bad


def test_the_facts_are_all_there() -> None:
    [told] = facts([change(1001.5)], snapshot())
    short = {name.removeprefix("OVS_KEEPALIVE_"): value for name, value in told.items()}
    assert short == {
        "WHO": P,
        "FROM": "ALIVE",
        "TO": "DEAD",
        "CAUSE": "traced",
        "EVIDENCE": "seen",
        "AT": "1700001001500",
        "SEVERITY": "failure",
        "HEALTH": "FAILURE",
        "SUMMARY": f"{P} DEAD; PMDs: 1 DEAD",
        "CORE": "3",
        "RXQS": "p0/0, p1/2",
        "VERSION": __version__,
    }


def test_vswitchd_has_neither_core_nor_rxqs() -> None:
    [told] = facts([change(1001.5, "HUNG", "RUNNING", "vswitchd")], snapshot())
    assert (told["OVS_KEEPALIVE_CORE"], told["OVS_KEEPALIVE_RXQS"]) == ("", "")


def test_no_name_is_more_than_a_line_and_a_bounded_one() -> None:
    [told] = facts([change(1.0, who=HOSTILE, evidence=HOSTILE + "z" * 10_000)], snapshot(name=HOSTILE))
    assert all(value.isprintable() and len(value) <= LONGEST_FACT for value in told.values())
    assert told["OVS_KEEPALIVE_WHO"].startswith("x [2J y")
    for value in told.values():
        value.encode()


def test_only_what_is_or_was_bad_is_told_and_each_change_once(loop: Loop) -> None:
    loop.add("note", f'#!/bin/sh\necho "$OVS_KEEPALIVE_FROM-$OVS_KEEPALIVE_TO" >>{loop.directory}/../told\n')
    history = [change(1.0, "ALIVE", "UNUSED"), change(2.0, "MISSING"), change(3.0, "DEAD", "MISSING")]
    loop.publish(*history)
    loop.until_idle()
    loop.publish(*history)
    history += [change(4.0, "ALIVE", "DEAD"), change(5.0, "UNUSED", "ALIVE")]
    loop.publish(*history)
    loop.until_idle()
    assert (loop.directory / "../told").read_text().split() == ["ALIVE-MISSING", "MISSING-DEAD", "DEAD-ALIVE"]


def test_a_directory_that_a_reload_names_is_told_only_what_comes_after(loop: Loop) -> None:
    loop.hooks.directory = ""
    loop.publish(change(1.0))
    loop.hooks.directory = str(loop.directory)
    loop.publish(change(1.0))
    assert not loop.is_busy()
    loop.publish(change(1.0), change(2.0, "GONE", "DEAD"))
    assert loop.is_busy()
    loop.hooks.directory = ""
    loop.until_idle()
    assert loop.hooks.fact == "none"


# --- what is run ---------------------------------------------------------------------------------


def test_hooks_run_one_after_the_other_in_the_order_of_their_names(loop: Loop) -> None:
    for name in ("20-b", "10-a"):
        loop.add(name, f"#!/bin/sh\necho {name} begins >>../t\nsleep 0.05\necho {name} ends >>../t\n".replace(
            "../t", f"{loop.directory}/../t"))  # fmt: skip
    loop.publish(change(1.0))
    loop.until_idle()
    assert (loop.directory / "../t").read_text().splitlines() == [
        "10-a begins", "10-a ends", "20-b begins", "20-b ends",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mode", "cure"),
    [
        ("mail.sh", 0o755, "rename it"),
        ("mail~", 0o755, "rename it"),
        (".hidden", 0o755, "rename it"),
        ("mail", 0o644, "chmod +x"),
        ("mail", 0o777, "chmod go-w"),
        ("mail", 0o775, "chmod go-w"),
    ],
)
def test_what_is_not_run_says_why(loop: Loop, name: str, mode: int, cure: str) -> None:
    path = loop.add(name, "#!/bin/sh\n", mode)
    good = loop.add("good", "#!/bin/sh\n")
    found, refused = of_directory(loop.directory)
    assert found == [good]
    assert list(refused) == [path]
    assert refused[path].endswith(cure)


def test_a_link_a_directory_and_what_belongs_to_somebody_else_are_not_run(loop: Loop) -> None:
    good = loop.add("good", "#!/bin/sh\n")
    (loop.directory / "link").symlink_to(good)
    (loop.directory / "folder").mkdir()
    theirs = loop.add("theirs", "#!/bin/sh\n")
    if os.geteuid() == 0:
        os.chown(theirs, 12345, -1)
    found, refused = of_directory(loop.directory)
    assert good in found
    assert {path.name for path in refused} >= {"link", "folder"}
    if os.geteuid() == 0:
        assert refused[theirs] == "belongs to user 12345, who is neither root nor the daemon's: chown root"


def test_a_directory_that_others_may_write_to_is_refused_and_so_is_what_lies_in_one(loop: Loop) -> None:
    loop.add("good", "#!/bin/sh\n")
    loop.directory.chmod(0o777)
    assert of_directory(loop.directory) == ([], {loop.directory: "others may write to it (mode 0777): chmod go-w"})
    loop.directory.chmod(0o755)
    loop.directory.parent.chmod(0o777)
    assert of_directory(loop.directory)[0] == []
    loop.directory.parent.chmod(0o1777)  # as /tmp: nobody else can take away what is in it
    assert len(of_directory(loop.directory)[0]) == 1
    assert list(of_directory(loop.directory / "absent")[1].values()) == [
        "No such file or directory: make it, or let hooks: name another directory"
    ]


def test_a_refusal_is_told_once_and_stands_in_the_status(loop: Loop, log: Log) -> None:
    path = loop.add("mail.sh", "#!/bin/sh\n")
    for second in (1.0, 2.0, 3.0):
        loop.publish(change(second))
        loop.until_idle()
    assert log.text.count(str(path)) == 1
    assert f"{path}: only letters" in loop.hooks.fact


def test_a_hook_speaks_to_nobody_in_our_name(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    loop.add(
        "env",
        f"#!/bin/sh\nenv >{loop.directory}/../env\ncat >{loop.directory}/../stdin\necho $# >>{loop.directory}/../env\n",
    )
    loop.publish(change(1.0))
    loop.until_idle()
    seen = (loop.directory / "../env").read_text()
    assert "NOTIFY_SOCKET" not in seen
    assert "WATCHDOG" not in seen
    assert f"OVS_KEEPALIVE_WHO={P}\n" in seen
    assert seen.endswith("\n0\n")
    assert (loop.directory / "../stdin").read_text() == ""


# --- hooks that do not behave --------------------------------------------------------------------


def test_one_that_hangs_is_killed_with_its_group_and_the_next_one_runs(loop: Loop, log: Log) -> None:
    pids = loop.directory / "../pids"
    loop.add("10-hangs", f"#!/bin/sh\nsleep 1000 &\necho $$ $! >{pids}.new; mv {pids}.new {pids}\nwait\n")
    loop.add("20-next", f"#!/bin/sh\ntouch {loop.directory}/../next\n")
    loop.publish(change(1.0))
    loop.turn()
    deadline = time.monotonic() + 5
    while not pids.exists():
        assert time.monotonic() < deadline
        loop.turn()
    loop.now += LONGEST - 0.1
    loop.turn()
    assert all(_lives(pid) for pid in map(int, pids.read_text().split()))
    loop.now += 0.2
    loop.until_idle()
    assert (loop.directory / "../next").exists()
    assert f"hook 10-hangs: took more than 10 s: killed, for {P} ALIVE -> DEAD" in log.text
    deadline = time.monotonic() + 5
    while any(_lives(pid) for pid in map(int, pids.read_text().split())):
        assert time.monotonic() < deadline


def test_what_a_hook_leaves_behind_ends_with_it(loop: Loop) -> None:
    loop.add("leaves", f"#!/bin/sh\nsleep 1000 &\necho $! >{loop.directory}/../pid\n")
    loop.publish(change(1.0))
    loop.until_idle()
    pid = int((loop.directory / "../pid").read_text())
    deadline = time.monotonic() + 5
    while _lives(pid):
        assert time.monotonic() < deadline


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\nexit 3\n", "hook bad: ended with status 3"),
        ("#!/bin/sh\nkill -TERM $$\n", f"hook bad: killed by signal {signal.SIGTERM.value}"),
        ("#!/no/such/interpreter\n", "hook bad: could not be started: No such file or directory"),
        ("no program at all\n", "hook bad: could not be started: Exec format error: its first line has to name"),
    ],
)
def test_one_that_fails_is_told(loop: Loop, log: Log, script: str, said: str) -> None:
    loop.add("bad", script)
    loop.publish(change(1.0))
    loop.until_idle()
    assert said in log.text
    assert "1 runs, 1 failed" in loop.hooks.fact


def test_one_that_is_taken_away_after_the_directory_was_read_is_told(loop: Loop, log: Log) -> None:
    loop.add("10-takes", f"#!/bin/sh\nrm {loop.directory}/20-taken\n")
    loop.add("20-taken", "#!/bin/sh\n")
    loop.publish(change(1.0))
    loop.until_idle()
    assert "hook 20-taken: could not be started: No such file or directory" in log.text


def test_what_is_printed_is_in_the_log_in_lines_that_forge_nothing(loop: Loop, log: Log) -> None:
    loop.add("speaks", "#!/bin/sh\nprintf 'one\\033[2J\\ntwo\\n'; echo three >&2\n")
    loop.publish(change(1.0))
    loop.until_idle()
    assert log.lines == ["hook speaks: one [2J | two | three", f"hook speaks: ran for {P} ALIVE -> DEAD"]


def test_one_that_prints_without_end_is_slowed_down_and_what_is_kept_is_bounded(loop: Loop) -> None:
    loop.add("floods", "#!/bin/sh\nexec yes\n")
    loop.publish(change(1.0))
    loop.turn()
    run = loop.hooks._running
    assert run is not None
    deadline = time.monotonic() + 1.5
    while len(run.printed) < PRINTED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        loop.now += LOOK
        loop.turn()
    began, turns = time.monotonic(), 1000
    for _ in range(turns):  # its clock stands still: nothing is read
        loop.turn()
    assert time.monotonic() - began < 1.0
    loop.now += LONGEST
    loop.until_idle()
    assert hooks._printed(run).startswith(f"printed more than {PRINTED} bytes, at first: y | y | y")
    assert len(run.printed) == PRINTED


def test_of_too_many_changes_the_oldest_are_dropped_counted_and_told(loop: Loop, log: Log) -> None:
    loop.publish(*(change(float(second)) for second in range(QUEUE + 30)))
    assert f"more than {QUEUE} changes wait for their hooks: the 30 oldest are dropped" in log.text
    assert "30 changes dropped" in loop.hooks.fact
    assert [told["OVS_KEEPALIVE_AT"] for told in loop.hooks._queue] == [
        str(at(float(second)).wall_ms) for second in range(30, QUEUE + 30)
    ]


def test_a_stop_waits_a_moment_then_kills_and_drops_what_waits(
    loop: Loop, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "FAREWELL", 0.3)
    loop.add("hangs", "#!/bin/sh\nexec sleep 1000\n")
    loop.publish(change(1.0), change(2.0, "GONE", "DEAD"))
    loop.turn()
    run = loop.hooks._running
    assert run is not None
    began = time.monotonic()
    loop.hooks.close()
    assert 0.3 <= time.monotonic() - began < 3.0
    assert not _lives(run.pid)
    assert "1 changes are told to no hook any more" in log.text
    assert "hook hangs: killed, since the daemon ends" in log.text


def test_a_stop_lets_a_hook_end_that_is_about_to(loop: Loop, log: Log) -> None:
    loop.add("ends", f"#!/bin/sh\nsleep 0.2\ntouch {loop.directory}/../ended\n")
    loop.publish(change(1.0))
    loop.turn()
    loop.hooks.close()
    assert (loop.directory / "../ended").exists()
    assert "killed" not in log.text


def test_a_kernel_without_pidfd_sees_its_end_too(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    loop.add("ends", "#!/bin/sh\n")
    loop.publish(change(1.0))
    loop.until_idle()
    assert "1 runs, 0 failed" in loop.hooks.fact


# --- one that is named by itself -----------------------------------------------------------------


def test_a_program_that_is_named_by_itself_is_judged_as_those_of_a_directory_are(loop: Loop) -> None:
    path = loop.add("help.sh", "#!/bin/sh\n")  # of its name nothing depends: it was named
    assert of_hook(path) == ""
    assert "not executable" in of_hook(loop.add("plain", "", 0o644))
    assert "others may write to it" in of_hook(loop.add("open", "", 0o777))
    assert "No such file" in of_hook(loop.directory / "none")
    assert "No such file" in of_hook(loop.directory / "none" / "none")
    loop.directory.chmod(0o777)
    assert of_hook(path).startswith(f"{loop.directory}: others may write to it")
