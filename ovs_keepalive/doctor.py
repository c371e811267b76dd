# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive doctor`: what would keep the daemon from seeing or telling, a line a check, with the cure.

It looks through the daemon's own eyes, as the user who runs it, changes nothing, and waits at most a few seconds.
The exit status is 1 if a line says FAIL, 3 if the database cannot be reached, else 0: WARN alone is none.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from ovs.version import VERSION

from ovs_keepalive import dirs
from ovs_keepalive.beat import moment
from ovs_keepalive.core import doctor as judge
from ovs_keepalive.core.access import SocketFile, access
from ovs_keepalive.core.doctor import Finding, Level
from ovs_keepalive.core.model import NotSeen, Seen, ThreadLook
from ovs_keepalive.formats import procfs
from ovs_keepalive.formats import schema as columns
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.publishers import schema
from ovs_keepalive.sensors import doctor as kernel
from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask
from ovs_keepalive.sensors.places import credentials
from ovs_keepalive.sensors.questions import USERSPACE, Answers, Kind, Questions
from ovs_keepalive.sensors.threads import ThreadSensor
from ovs_keepalive.sensors.vswitchd import Process, VswitchdSensor

T = TypeVar("T")

DEADLINE = 3.0  # seconds for each answer
WELL, UNHEALTHY, UNREACHABLE = 0, 1, 3  # exit statuses (CONTRACT section 6)

ROW: dict[str, object] = {"op": "select", "table": columns.TABLE, "where": [], "columns": ["other_config"]}


class Missing(Exception):
    """A check needs what an earlier one did not find: that check's name."""


class Case:
    """What is known so far. Each check adds to it, and the later ones build on that."""

    def __init__(self, remote: str, vswitchd_pidfile: Path | None) -> None:
        self.begun = moment()
        self.remote = remote
        self.rundir: Path | None = None  # once it is one that this user may look into
        self.vswitchd_pidfile = vswitchd_pidfile
        self.schema: Mapping[str, Any] | None = None
        self.process: Process | None = None
        self.questions: Questions | None = None  # once its main thread has answered
        self.counters: Answers | None = None
        self.threads: Sequence[ThreadLook] | None = None


def run(remote: str, vswitchd_pidfile: Path | None, out: TextIO) -> int:
    """Print a line a check, as each is made. The exit status."""
    case = Case(remote, vswitchd_pidfile)
    levels = []
    for what, check in CHECKS:
        finding = _make(what, check, case)
        levels.append(finding.level)
        tell(finding, out)
    if case.questions is not None:
        case.questions.close()
    if case.schema is None:
        return UNREACHABLE
    return UNHEALTHY if Level.FAIL in levels else WELL


def tell(finding: Finding, out: TextIO) -> None:
    """Print it as one line, whatever other people's text is in it."""
    encoding = out.encoding or "utf-8"
    print(one_line(str(finding)).encode(encoding, "replace").decode(encoding), file=out, flush=True)


def _make(what: str, check: Callable[[Case], Finding], case: Case) -> Finding:
    try:
        return check(case)
    except Missing as other:
        return judge.not_checked(what, str(other))
    except (NoAnswer, Refused) as error:
        return judge.cured(what, str(error), judge.CONTROL)
    except Exception as error:  # noqa: BLE001 - a check that fails is a line as well
        cure = "run ovs-keepalive doctor again; if it stays, report this line"
        return Finding(Level.FAIL, what, f"cannot be checked ({type(error).__name__}: {error})", cure)


# --- the checks --------------------------------------------------------------------------------


def _runtime_directory(case: Case) -> Finding:
    modes = {"list": os.R_OK, "enter": os.X_OK, "write": os.W_OK}
    rundir = dirs.rundir()
    lacking = [name for name, mode in modes.items() if not os.access(rundir, mode, effective_ids=True)]
    there = os.access(rundir, os.F_OK, effective_ids=True)
    if there and not {"list", "enter"} & set(lacking):
        case.rundir = rundir
    return judge.runtime_directory(str(rundir), there, lacking, _user())


def _database(case: Case) -> Finding:
    try:
        live = schema.call(case.remote, "get_schema", [columns.DATABASE], DEADLINE)
        columns.compare(live)
    except (schema.Failed, columns.SchemaError) as error:
        said = str(error) if isinstance(error, schema.Failed) else f"{case.remote}: {error}"
        return judge.cured("database", said, judge.DATABASE)
    case.schema = live
    return Finding(Level.OK, "database", f"{case.remote} answers {_user()}")


def _schema(case: Case) -> Finding:
    status = columns.compare(_known("database", case.schema))
    return judge.schema(status.version, status.names(columns.Found.ABSENT), status.names(columns.Found.OTHER))


def _clients(case: Case) -> Finding:
    _known("database", case.schema)
    if not case.remote.startswith("unix:"):
        return judge.clients_elsewhere(case.remote)
    return judge.clients(*kernel.clients(Path(case.remote.removeprefix("unix:"))))


def _settings(case: Case) -> Finding:
    _known("database", case.schema)
    [result] = schema.call(case.remote, "transact", [columns.DATABASE, ROW], DEADLINE)
    other_config = next((dict(row["other_config"][1]) for row in result["rows"]), None)
    return judge.live_settings(other_config)


def _vswitchd(case: Case) -> Finding:
    rundir = dirs.rundir() if case.vswitchd_pidfile else _known("runtime directory", case.rundir)
    sensor = VswitchdSensor(rundir, case.vswitchd_pidfile)
    found, _ = sensor.look(moment())
    sensor.close()
    if isinstance(found, NotSeen):
        return judge.cured("vswitchd", found.why, judge.VSWITCHD)
    case.process = found.value
    return Finding(Level.OK, "vswitchd", f"process {found.value.id.pid} of {found.value.pidfile}")


def _main_thread(case: Case) -> Finding:
    process = _known("vswitchd", case.process)
    questions = Questions(process.control_socket)
    answers = _ask(questions, Kind.COUNTERS)
    if answers is None:
        questions.close()
        main = Path("/proc") / str(process.id.pid)
        state = procfs.parse_stat((main / "stat").read_text(errors="replace")).state
        tracer = procfs.parse_status((main / "status").read_text(errors="replace")).tracer_pid
        return judge.silent_main(process.id.pid, state, tracer, DEADLINE)
    if not questions.answered and isinstance(answers.counters, NotSeen):
        questions.close()
        return judge.cured("main thread", answers.counters.why, judge.CONTROL)
    case.questions, case.counters = questions, answers
    return Finding(Level.OK, "main thread", f"answers {_user()} on {process.control_socket}")


def _datapath(case: Case) -> Finding:
    process = _known("vswitchd", case.process)
    _known("main thread", case.questions)
    return judge.datapaths(ask(process.control_socket, DEADLINE, *Kind.DATAPATHS.value).split(), USERSPACE)


def _proc(case: Case) -> Finding:
    process = _known("vswitchd", case.process).id
    sensor = ThreadSensor()
    sensor.attach(process)
    look = sensor.look(moment(), anew=True, suspects=frozenset())
    sensor.attach(None)
    if isinstance(look, NotSeen):
        cure = "mount -o remount,hidepid=0 /proc, and share the host's PID namespace"
        return Finding(Level.FAIL, "/proc", look.why, cure)
    case.threads = look.value
    return Finding(Level.OK, "/proc", f"shows the threads of process {process.pid}")


def _pmd_threads(case: Case) -> Finding:
    return judge.pmd_threads(_known("/proc", case.threads))


def _iterations(case: Case) -> Finding:
    threads = _known("/proc", case.threads)
    look = _known("main thread", case.counters).counters
    return judge.iterations(threads, look.value if isinstance(look, Seen) else _known("main thread", look))


def _rxqs(case: Case) -> Finding:
    threads = _known("/proc", case.threads)
    answers = _ask(_known("main thread", case.questions), Kind.RXQS)
    look = _known("main thread", answers).rxqs
    return judge.rxqs(threads, look.value if isinstance(look, Seen) else _known("main thread", look))


def _schedstat(_case: Case) -> Finding:
    try:
        run_ns, _ = procfs.parse_schedstat(Path("/proc/self/schedstat").read_text())
    except FileNotFoundError:
        return judge.schedstat(None)
    return judge.schedstat(run_ns)


def _privileges(case: Case) -> Finding:
    process = _known("vswitchd", case.process).id
    if case.threads:
        pmd = case.threads[0]
        return judge.rights(pmd.name, kernel.rights(process.pid, pmd.id.tid))
    return judge.rights("the main thread", kernel.rights(process.pid, process.pid))


def _access(case: Case) -> Finding:
    process = _known("vswitchd", case.process)
    pid, who = os.getpid(), f"this user, {_user()},"
    if isinstance(running := _running_daemon(), Seen):
        pid = running.value.id.pid
        who = f"the daemon, pid {pid},"
    runs_as = credentials(pid)
    paths = [process.control_socket]
    if case.remote.startswith("unix:"):
        paths.append(Path(case.remote.removeprefix("unix:")))
    stats = [(path.name, path.stat()) for path in paths]
    sockets = [SocketFile(name, stat.st_uid, stat.st_gid, stat.st_mode) for name, stat in stats]
    return access(who, runs_as, sockets)


def _clock(case: Case) -> Finding:
    return judge.clock(case.begun, moment(), time.clock_getres(time.CLOCK_MONOTONIC))


def _python_ovs(_case: Case) -> Finding:
    return judge.python_ovs(VERSION)


def _running_daemon() -> Seen[Process] | NotSeen:
    """Found as vswitchd is: its pidfile is locked as that one's."""
    sensor = VswitchdSensor(dirs.rundir(), dirs.rundir() / "ovs-keepalive.pid")
    found, _ = sensor.look(moment())
    sensor.close()
    return found


def _daemon(case: Case) -> Finding:
    _known("runtime directory", case.rundir)
    found = _running_daemon()
    if isinstance(found, NotSeen):
        return judge.no_daemon(found.why)
    pid = found.value.id.pid
    try:
        node = json.loads(ask(found.value.control_socket, DEADLINE, "keepalive/status", "--json"))
        return judge.daemon(pid, node["daemon"])
    except (NoAnswer, Refused, ValueError, LookupError, TypeError) as error:
        return judge.silent_daemon(pid, str(error))


CHECKS: Sequence[tuple[str, Callable[[Case], Finding]]] = (
    ("runtime directory", _runtime_directory),
    ("database", _database),
    ("schema", _schema),
    ("clients", _clients),
    ("settings", _settings),
    ("vswitchd", _vswitchd),
    ("main thread", _main_thread),
    ("datapath", _datapath),
    ("/proc", _proc),
    ("PMD threads", _pmd_threads),
    ("iterations", _iterations),
    ("rxqs", _rxqs),
    ("schedstat", _schedstat),
    ("access", _access),
    ("privileges", _privileges),
    ("clock", _clock),
    ("python-ovs", _python_ovs),
    ("daemon", _daemon),
)


# --- asking ------------------------------------------------------------------------------------


def _known(check: str, found: T | None) -> T:
    if found is None:
        raise Missing(check)
    return found


def _ask(questions: Questions, kind: Kind) -> Answers | None:
    """The answer to one question; None if none comes in time."""
    now = moment()
    until = now.mono + DEADLINE
    answers = questions.ask(kind, now)
    while answers.is_empty:
        (descriptor, events), left = questions.awaited, until - moment().mono
        if descriptor is None or left <= 0:
            return None
        poll = select.poll()
        poll.register(descriptor, events)
        poll.poll(left * 1000)
        answers = questions.receive(moment())
    return answers


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
