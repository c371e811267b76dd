# SPDX-License-Identifier: Apache-2.0
"""Who runs on a thread's CPU: of real processes, and of files that vanish or make no sense."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovs_keepalive.core.model import ProcessId, ThreadId
from ovs_keepalive.sandbox import wait
from ovs_keepalive.sensors.core_users import CoreUsers, User, core_users, words

STAT = "77 (a b) c) R " + " ".join(["0"] * 35)


@contextmanager
def running(code: str, cpu: int) -> Iterator[int]:
    """A Python process on one CPU; its pid."""
    argv = [sys.executable, "-I", "-S", "-c", f"import os, time\nos.sched_setaffinity(0, {{{cpu}}})\n{code}"]
    with subprocess.Popen(argv) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def id_of(pid: int) -> ThreadId:
    return ThreadId(ProcessId(pid, 1), pid, 1)


def test_the_busiest_thread_on_the_cpu_of_another_is_named() -> None:
    cpu = max(os.sched_getaffinity(0))
    with running("while True: time.sleep(0.01)", cpu) as victim, running("while True: pass", cpu) as hog:
        wait(lambda: os.sched_getaffinity(hog) == os.sched_getaffinity(victim) == {cpu}, "both on that CPU", 5)
        time.sleep(0.1)
        search = CoreUsers()
        search.ask([id_of(victim)])
        found: dict[ThreadId, str] = wait(search.take, "what the search finds", 10)
        assert f"on CPU {cpu} ran" in found[id_of(victim)]
        assert f"(pid {hog})" in found[id_of(victim)]
        assert search.take() == {}


def test_a_thread_that_is_gone_has_no_answer_and_the_next_question_has_one() -> None:
    search = CoreUsers()
    search.ask([id_of(2**22 + 1)])
    wait(lambda: search.take() == {} and search._search is None, "the search over", 10)
    search.ask([id_of(os.getpid())])
    assert wait(search.take, "what the search finds", 10).keys() == {id_of(os.getpid())}


def test_files_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    for pid, cpu in ((77, 3), (78, 3), (79, 1), (80, 3)):
        task = tmp_path / str(pid) / "task" / str(pid)
        task.mkdir(parents=True)
        (task / "stat").write_text(f"{STAT} {cpu} 0 0\n")
        (task / "schedstat").write_text("100 5 1\n")
    (tmp_path / "80" / "task" / "80" / "stat").write_bytes(b"\xff nonsense")
    (tmp_path / "self").mkdir()

    def pause() -> None:
        (tmp_path / "78" / "task" / "78" / "schedstat").write_text("900 5 1\n")

    for thread in core_users(frozenset({3}), pause, tmp_path):
        assert thread == User(thread.pid, thread.pid, "a b) c", "R", 3, 800 if thread.pid == 78 else 0)


def test_nobody_is_an_answer_too() -> None:
    assert words(3, [User(1, 1, "a", "R", 3, 0)]) == "nobody else was seen to run on CPU 3"
    users = [User(1, 1, "a", "R", 3, 9), User(2, 5, "b", "S", 3, 8), User(3, 3, "c", "R", 3, 7)]
    assert words(3, users) == "on CPU 3 ran a (pid 1), b (tid 5)"
