# SPDX-License-Identifier: Apache-2.0
"""The fuzzer: `python -m tests.fuzz` tries every target of targets.py, guided by coverage, until none finds more.

Each target runs in a child process of its own, since libFuzzer (which atheris brings) takes the whole process for
itself and ends it. This process imports what is fuzzed, instrumented, once, and forks.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

# What is instrumented: our own code, and the Python of others that stands between the bytes and us.
PACKAGES = ["ovs_keepalive", "ovs", "yaml"]
STUCK = 20  # seconds of an input, after which libFuzzer ends it from outside
MEMORY = 2048  # MB of a child
GRACE = STUCK + 10.0  # seconds for a child to end after it was told to
TURN = 0.25  # seconds between two looks at the children
INTERRUPTED = 130  # exit status, as a shell tells it
ROOT = Path(__file__).parents[2]

# #92055	REDUCE cov: 14 ft: 81 corp: 29/12653b lim: 3724 exec/s: 18411 rss: 56Mb L: 146/1748 MS: 1 EraseBytes-
_PULSE = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
# stat::number_of_executed_units: 99450
_UNITS = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)


class Slow(Exception):
    """An input took too long."""


class Figures(NamedTuple):
    """What a target has come to."""

    executions: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0


class Run:
    """One target's child process: libFuzzer's output goes to a file, and is followed there."""

    def __init__(self, target: Any, directory: Path, seconds: int) -> None:
        self.name: str = target.name
        self.figures = Figures()
        self.began = self.news = time.monotonic()
        self.ended: float | None = None
        self.crash = ""  # why, in a word
        self._corpus, self._crashes = directory / "corpus" / self.name, directory / "crashes" / self.name
        for path in (self._corpus, self._crashes):
            path.mkdir(parents=True, exist_ok=True)
        self._found = set(self._crashes.iterdir())
        self.log = directory / f"{self.name}.log"
        self.log.unlink(missing_ok=True)
        self.log.touch()
        self._said = self.log.open(errors="replace")
        self._text = ""
        self._told = False
        self._parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _become(target, self._corpus, self._crashes, self.log, seconds)
        self._deadline = self.began + seconds + GRACE

    def follow(self, quiet_for: float) -> bool:
        """Take in what was said; True once the child has ended."""
        now = time.monotonic()
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        self._text = (self._text + self._said.read())[-(1 << 20) :]
        for match in _PULSE.finditer(self._text):
            figures = Figures(*map(int, match.groups()))
            if figures.edges > self.figures.edges:
                self.news = now
            self.figures = figures._replace(edges=max(figures.edges, self.figures.edges))
        if pid:
            self.ended = now
            self._said.close()
            self._judge(os.waitstatus_to_exitcode(status))
            return True
        self._text = self._text.rpartition("\n")[2]
        if now - self.news > quiet_for and not self._told:
            self._told = True
            self._deadline = now + GRACE
            os.kill(self._pid, signal.SIGTERM)  # libFuzzer ends, with its statistics
        if now > self._deadline:
            os.kill(self._pid, signal.SIGKILL)
        return False

    def kill(self) -> None:
        """End it at once. Does nothing in a child, which comes by here when it ends with a crash."""
        if self.ended is None and os.getpid() == self._parent:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    @property
    def inputs(self) -> list[Path]:
        """The inputs that crashed it in this run."""
        return sorted(set(self._crashes.iterdir()) - self._found)

    def _judge(self, status: int) -> None:
        text = self.log.read_text(errors="replace")
        units = _UNITS.search(text)
        if units is not None:
            self.figures = self.figures._replace(executions=int(units[1]))
        if self.inputs or not (
            status == 0 or (self._told and (status == -signal.SIGTERM or "run interrupted" in text))
        ):
            causes = re.findall(r"^(\w+(?:\.\w+)*(?:Error|Exception|Slow|Invalid|Unusable)\b.*)$", text, re.MULTILINE)
            self.crash = causes[-1][:200] if causes else f"exit status {status}"

    def row(self) -> list[str]:
        """Its line in the table."""
        seconds = (self.ended or time.monotonic()) - self.began
        crashes = len(self.inputs) or int(bool(self.crash))
        return [self.name, *map(str, self.figures), f"{seconds:.0f}", str(crashes)]


def _become(target: Any, corpus: Path, crashes: Path, log: Path, seconds: int) -> NoReturn:
    """Be the child: fuzz until the time is over, or somebody ends it, or there is a crash."""
    import atheris

    from tests.fuzz import targets
    from tests.fuzz.target import LARGEST, SLOWEST

    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    words = log.with_suffix(".words")
    words.write_text(targets.dictionary())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells …
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # … by this one: libFuzzer takes it only where nobody else does
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        began = time.thread_time()
        target.run(data)
        took = time.thread_time() - began
        if took > SLOWEST:
            raise Slow(f"{len(data)} bytes took {took:.1f} s of CPU")

    limits = {
        "max_len": LARGEST,
        "len_control": 20,  # longer inputs sooner than by default
        "max_total_time": seconds,
        "timeout": STUCK,
        "rss_limit_mb": MEMORY,
        "print_final_stats": 1,
        "artifact_prefix": f"{crashes}/",
        "dict": words,
    }
    atheris.Setup([target.name, *(f"-{key}={value}" for key, value in limits.items()), str(corpus)], one)
    atheris.Fuzz()
    os._exit(0)


def _instrumented() -> Sequence[Any]:
    """The targets, imported so that their coverage is seen. Raises ImportError without atheris."""
    import atheris

    silent = os.dup(2)
    with Path(os.devnull).open("w") as null:  # it tells of each module
        os.dup2(null.fileno(), 2)
        try:
            with atheris.instrument_imports(include=PACKAGES):
                import yaml  # noqa: F401 - which the configuration loads only when it is read

                from tests.fuzz import targets
        finally:
            os.dup2(silent, 2)
            os.close(silent)
    atheris.enabled_hooks.add("RegEx")
    return targets.TARGETS


def fuzz(targets: Sequence[Any], directory: Path, seconds: int, quiet_for: float, jobs: int) -> int:
    """Run these targets, so many at a time; print the table. 1 if one crashed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also when a shell started it in the background
        signal.signal(number, signal.default_int_handler)
    waiting, running, done = list(targets), list[Run](), list[Run]()
    status = 0
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Run(waiting.pop(0), directory, seconds))
            time.sleep(TURN)
            for run in [run for run in running if run.follow(quiet_for)]:
                running.remove(run)
                done.append(run)
                print(f"{run.name}: {run.crash or 'no crash'}", flush=True)
    except KeyboardInterrupt:
        status = INTERRUPTED
        print("interrupted: what has run so far", flush=True)
    finally:
        for run in running:
            run.kill()
    print(f"\n{_table([run.row() for run in (*done, *running)])}")
    for run in done:
        if run.crash:
            status = 1
            print(f"\n{run.name}: {run.crash}\n  {run.log}")
            print(
                "".join(f"  python -m tests.fuzz --target {run.name} --replay {path}\n" for path in run.inputs), end=""
            )
    return status


def replay(name: str, paths: Sequence[Path]) -> int:
    """Run single inputs without the fuzzer, with a traceback for what crashes."""
    from tests.fuzz import targets

    for path in paths:
        targets.named(name).run(path.read_bytes())
        print(f"{path}: no crash")
    return 0


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = ["target", "executions", "edges", "features", "corpus", "seconds", "crashes"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    cells = (
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def main() -> int:
    """Read the command line. 1 if a target crashed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=int, default=86400, metavar="N", help="for each target, at most (86400)")
    parser.add_argument("--quiet-for", type=float, default=600.0, metavar="SECONDS",
                        help="a target ends when it had no new coverage for so long (600)")  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="targets at a time (all CPUs)"
    )
    parser.add_argument("--directory", type=Path, default=ROOT / ".fuzz", help="for corpus, crashes and logs (.fuzz)")
    parser.add_argument("--fresh", action="store_true", help="forget the corpus of earlier runs")
    parser.add_argument(
        "--replay", nargs="+", type=Path, metavar="FILE", help="run these inputs of one target, no others"
    )
    options = parser.parse_args()
    if options.replay:
        if len(options.target) != 1:
            parser.error("--replay needs one --target")
        return replay(options.target[0], options.replay)
    if options.fresh:
        shutil.rmtree(options.directory / "corpus", ignore_errors=True)
    try:
        targets = _instrumented()
    except ImportError as error:
        print(f"{error}: make deps, with a Python of 3.11 to 3.14 on x86-64 Linux", file=sys.stderr)
        return 2
    chosen = [target for target in targets if not options.target or target.name in options.target]
    return fuzz(chosen, options.directory.resolve(), options.seconds, options.quiet_for, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
