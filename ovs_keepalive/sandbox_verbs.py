# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive sandbox`: the private OVS to look at and to play with, its live table here, its faults from another
terminal. Prints for a person.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ovs_keepalive.formats.plain import lines, one_line
from ovs_keepalive.ptrace import Hold, HoldError, is_holder, tracer
from ovs_keepalive.sandbox import LOCK, PREFIX, Sandbox, SandboxError, pmd_threads, wait

PMDS_MAX = 512  # each takes 9 MB of vswitchd, and is no more than a name beyond that
ALIVE_DEADLINE = 15.0  # seconds until the daemon has to know all PMDs
COMMAND_DEADLINE = 10.0  # seconds for a command to obey SIGTERM
HEALTHY = ("ALIVE", "SLEEP")
INTERRUPTED = 130  # exit status, as a shell tells it
UNREACHABLE = 3

# "pmd-c03/id:8", "pmd-c03" or "3", as a person types it
PMD_TYPED = re.compile(r"(?:pmd-c)?(\d+)(/id:\d+)?")

HOW_TO = """\
From another terminal:
    export OVS_RUNDIR={dir}
    ovs-appctl -t ovs-keepalive keepalive/pmd-health-show
    ovsdb-client monitor {remote} Open_vSwitch Open_vSwitch keepalive
    ovs-keepalive show --watch
    ovs-keepalive sandbox fault {pmd} stop       and then: resume
In a browser: {page}
Ctrl-C ends the sandbox.
"""


def run(pmds: int, keep: bool, command: list[str]) -> int:
    """Start a sandbox and its daemon; show the live table until Ctrl-C, or run the command in it. The exit status."""
    if not 1 <= pmds <= PMDS_MAX:
        return _complain(SandboxError(f"--pmds {pmds}: give a number from 1 to {PMDS_MAX}", 2))
    sandbox = Sandbox(pmds=pmds, keep=keep)
    try:
        with sandbox:
            sandbox.settings(enable_keepalive=True)
            sandbox.start_daemon(config={"web-listen": "127.0.0.1:0"})
            _wait_until_healthy(sandbox, pmds)
            if command:
                return _run_command(command, sandbox.env)
            words = {"dir": sandbox.dir, "remote": sandbox.remote, "pmd": max(sandbox.pmds()).partition("/")[0]}
            _say(HOW_TO.format(page=_page(sandbox), **{k: shlex.quote(str(v)) for k, v in words.items()}))
            return _watch(sandbox)
    except (SandboxError, OSError) as error:
        return _complain(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if keep and sandbox.dir.is_dir():
            _say(f"kept: {sandbox.dir}")


def fault(pmd: str, action: str) -> int:
    """Hold ("stop") or let go ("resume") a PMD thread of the running sandbox. The exit status."""
    try:
        name, tid = _thread(pmd, _running_sandbox())
        _say(_stop(name, tid) if action == "stop" else _resume(name, tid))
    except (SandboxError, OSError) as error:
        return _complain(error)
    return 0


def _wait_until_healthy(sandbox: Sandbox, pmds: int) -> None:
    def healthy() -> bool:
        states = [value.partition(",")[0] for value in sandbox.column().values()]
        return len(states) == pmds and all(state in HEALTHY for state in states)

    try:
        wait(healthy, f"{pmds} PMD threads ALIVE in the keepalive column", ALIVE_DEADLINE)
    except SandboxError as error:
        raise SandboxError(f"{error}{sandbox.children.last_words('ovs-keepalive')}") from error


def _page(sandbox: Sandbox) -> str:
    """Where it is served; or why not."""
    node = json.loads(sandbox.appctl("keepalive/status", "--json", target="ovs-keepalive"))
    return str(node["daemon"]["web"]).partition(", ")[0]


def _run_command(command: list[str], env: dict[str, str]) -> int:
    # Ctrl-C reaches the command too: what it means is the command's to say. (Ignored, it would be so for the command.)
    usual = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(command, env=env)
    except OSError as error:
        raise SandboxError(f"{command[0]}: {error.strerror}: give a command that can be run", 2) from error
    try:
        status = process.wait()
    except KeyboardInterrupt:  # from SIGTERM or SIGHUP
        process.terminate()
        process.wait(COMMAND_DEADLINE)
        raise
    finally:
        process.kill()  # nothing happens to one that has ended
        signal.signal(signal.SIGINT, usual)
    return status if status >= 0 else 128 - status


def _watch(sandbox: Sandbox) -> int:
    """The live table: redrawn each second on a terminal, else printed whenever a state changes."""
    terminal = sys.stdout.isatty()
    height, shown = 0, ""
    try:
        while True:
            try:
                table = sandbox.appctl("keepalive/pmd-health-show", target="ovs-keepalive")
                why = "".join(f"{who}: {value}\n" for who, value in sandbox.detail().items() if "cause=" in value)
            except OSError as error:
                table, why = f"ovs-keepalive does not answer: {error}\n", ""
            content = re.sub(r"(\t[A-Z]+)\t.*", r"\1", table) + why  # without the time stamps
            if terminal:
                over = f"\x1b[{height}A\x1b[J" if height < shutil.get_terminal_size().lines else "\x1b[H\x1b[2J"
                _say(table + why, over if height else "")
                height = (table + why).count("\n") + 1
            elif content != shown:
                _say(table + why)
            shown = content
            sandbox.linger(1.0)
    except KeyboardInterrupt:
        return 0


def _running_sandbox() -> Path:
    """Directory of the sandbox that is meant: the one in OVS_RUNDIR, else the only one."""
    named = os.environ.get("OVS_RUNDIR")
    if named and _runs(Path(named)):
        return Path(named)
    found = [path for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) if _runs(path)]
    if not found:
        raise SandboxError(
            "no sandbox runs here: start one with `ovs-keepalive sandbox`, or set OVS_RUNDIR to its directory"
        )
    if len(found) > 1:
        names = " ".join(map(str, found))
        raise SandboxError(f"{len(found)} sandboxes run: set OVS_RUNDIR to one of {names}", 2)
    return found[0]


def _runs(directory: Path) -> bool:
    """Whether a directory is that of a running sandbox of this user."""
    try:
        with (directory / LOCK).open() as lock:
            if os.fstat(lock.fileno()).st_uid != os.getuid():
                return False
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no sandbox, or not ours
        return False
    return False


def _thread(typed: str, directory: Path) -> tuple[str, int]:
    """Name and tid of the PMD thread that a person means."""
    try:
        pmds = pmd_threads(int((directory / "ovs-vswitchd.pid").read_text()))
    except (OSError, ValueError):
        pmds = {}
    if match := PMD_TYPED.fullmatch(typed):
        for name, tid in pmds.items():
            core, _, number = name.removeprefix("pmd-c").partition("/")
            if int(core) == int(match[1]) and match[2] in (None, f"/{number}"):
                return name, tid
    known = " ".join(pmds) or "none at the moment"
    raise SandboxError(f"{typed}: no such PMD thread in {directory}: {known}", 2)


def _stop(name: str, tid: int) -> str:
    if is_holder(tracer(tid)):
        return f"{name} is held already"
    try:
        Hold(tid, leashed=False).leave()
    except HoldError as error:
        raise SandboxError(f"{name}: {error}") from error
    return f"{name} (tid {tid}) is held"


def _resume(name: str, tid: int) -> str:
    # Who holds it is asked of the kernel: no file could know better.
    holder = tracer(tid)
    if not holder:
        return f"{name} is not held"
    if not is_holder(holder):
        raise SandboxError(f"{name}: held by process {holder}, which is none of ours: end that one", 2)
    os.kill(holder, signal.SIGTERM)
    wait(lambda: tracer(tid) != holder, f"{name} let go by process {holder}", 5.0)
    return f"{name} (tid {tid}) runs again"


def _say(text: str, over: str = "") -> None:
    """over: what moves the cursor first."""
    sys.stdout.write(f"{over}{lines(text)}\n")
    sys.stdout.flush()


def _complain(error: SandboxError | OSError) -> int:
    sys.stderr.write(f"ovs-keepalive sandbox: {one_line(str(error))}\n")
    return error.status if isinstance(error, SandboxError) else UNREACHABLE
