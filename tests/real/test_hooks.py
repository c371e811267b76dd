# SPDX-License-Identifier: Apache-2.0
"""Hooks of a real daemon: the right facts at each change, and that none of them harms it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest

from ovs_keepalive.publishers.hooks import LONGEST, PRINTED
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.lab import Background, node, stopped
from tests.systemd import UserManager
from tests.systemd import missing as systemd_missing

pytestmark = pytest.mark.real

# What of the unit a user's manager can do for root: the filters, and what may not be gained.
WALLS = ("SystemCall", "Restrict", "LockPersonality", "MemoryDeny", "NoNewPrivileges")

FAIR = ("WELL", "WARNING")  # on a busy machine PMDs are starved: ALIVE, and a warning

NOTE = """#!/bin/sh
out=$(dirname "$0")/../told
{ for name in WHO FROM TO CAUSE EVIDENCE AT SEVERITY HEALTH CORE RXQS; do
    eval echo "$name=\\"\\$OVS_KEEPALIVE_$name\\""
done; echo; } >>"$out"
"""


@pytest.fixture
def hooks(sandbox: Sandbox) -> Path:
    """The directory, empty; the daemon is still to be started."""
    directory = sandbox.dir / "hooks"
    directory.mkdir(mode=0o755)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    return directory


def add(directory: Path, name: str, script: str, mode: int = 0o755) -> None:
    path = directory / name
    path.write_text(script)
    path.chmod(mode)


def start(sandbox: Sandbox, hooks: Path) -> int:
    pid = sandbox.start_daemon(config={"hooks": str(hooks)})
    wait(lambda: len(sandbox.column()) == 2 and node(sandbox)["health"] in FAIR, "two PMDs, none bad", 20)
    return pid


def told(sandbox: Sandbox) -> list[dict[str, str]]:
    """The facts of each run so far."""
    path = sandbox.dir / "told"
    runs = path.read_text().split("\n\n")[:-1] if path.exists() else []
    return [dict(line.split("=", 1) for line in run.splitlines() if line) for run in runs]


def history(sandbox: Sandbox) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = json.loads(sandbox.appctl("keepalive/history", "--json", target="ovs-keepalive"))
    return answer


def log(sandbox: Sandbox) -> str:
    return (sandbox.dir / "ovs-keepalive.log").read_text()


def test_each_change_that_matters_is_told_with_the_facts_of_the_history(sandbox: Sandbox, hooks: Path) -> None:
    add(hooks, "note", NOTE)
    start(sandbox, hooks)
    name, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        wait(lambda: any(run["TO"] == "DEAD" for run in told(sandbox)), "the hook told DEAD", 10)
    wait(lambda: told(sandbox)[-1]["TO"] == "ALIVE", "the hook told the recovery", 10)
    runs = [run for run in told(sandbox) if run["WHO"] == name]
    assert [run["TO"] for run in runs] == ["MISSING", "DEAD", "ALIVE"]
    assert [run["SEVERITY"] for run in runs] == ["warning", "failure", "okay"]
    assert [run["HEALTH"] for run in runs[:2]] == ["WARNING", "FAILURE"]
    assert runs[2]["HEALTH"] in FAIR
    assert {(run["CORE"], run["RXQS"]) for run in runs} == {("0", "p0/0")}
    facts = [(change["from"], change["to"], change["cause"], str(change["at"])) for change in history(sandbox)
             if change["who"] == name and change["to"] != "UNUSED" and change["from"] != "UNUSED"]  # fmt: skip
    assert [(run["FROM"], run["TO"], run["CAUSE"], run["AT"]) for run in runs] == facts
    assert f"{hooks}, " in node(sandbox)["daemon"]["hooks"]

    before = len(told(sandbox))
    sandbox.kill_vswitchd()
    wait(lambda: any(run["WHO"] == "vswitchd" and run["TO"] == "GONE" for run in told(sandbox)[before:]), "GONE", 10)
    wait(lambda: [run["TO"] for run in told(sandbox)[before:]].count("GONE") == 3, "all three", 10)


def sleeping(seconds: str) -> list[psutil.Process]:
    """Whoever sleeps for so long."""
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", seconds]]


@pytest.mark.slow
def test_hooks_that_do_not_behave_harm_neither_the_daemon_nor_each_other(sandbox: Sandbox, hooks: Path) -> None:
    forever = f"1000.{os.getpid()}"
    add(hooks, "10-hangs", f"#!/bin/sh\nsleep {forever} & sleep {forever}\n")
    add(hooks, "20-fails", "#!/bin/sh\nprintf 'what\\033[2J\\n' >&2; exit 3\n")
    add(hooks, "30-floods", "#!/bin/sh\nexec timeout 1 yes\n")
    add(hooks, "40-not-executable", "#!/bin/sh\n", 0o644)
    add(hooks, "50-anybodys", f"#!/bin/sh\ntouch {sandbox.dir}/wrong\n", 0o777)
    add(hooks, "60-no-interpreter", "#!/no/such/shell\n")
    add(hooks, "70-removes", f"#!/bin/sh\nrm -f {hooks}/80-removed\n")
    add(hooks, "80-removed", "#!/bin/sh\n")
    add(hooks, "90-note", NOTE)
    start(sandbox, hooks)
    began, slowest = time.monotonic(), 0.0
    while not told(sandbox):  # GONE -> RUNNING of vswitchd is the first change
        asked = time.monotonic()
        assert asked - began < LONGEST + 15, log(sandbox)
        node(sandbox)
        slowest = max(slowest, time.monotonic() - asked)
        sandbox.linger(0.05)
    print(f"slowest answer while hooks ran: {slowest * 1000:.0f} ms")
    assert slowest < LONGEST / 2
    said = log(sandbox)
    for words in (
        f"hook 10-hangs: took more than {LONGEST:g} s: killed, for vswitchd GONE -> ",
        "hook 20-fails: what [2J",
        "hook 20-fails: ended with status 3",
        f"hook 30-floods: printed more than {PRINTED} bytes, at first: y | y | y",
        f"{hooks}/40-not-executable: not executable for this user: chmod +x: not run",
        f"{hooks}/50-anybodys: others may write to it (mode 0777): chmod go-w: not run",
        "hook 60-no-interpreter: could not be started: No such file or directory",
        "hook 80-removed: could not be started: No such file or directory",
    ):
        assert words in said, words
    assert not (sandbox.dir / "wrong").exists()
    assert len(said) < 100_000, "the flood is bounded"
    assert len(sleeping(forever)) <= 2, "those of one hook"
    assert sandbox.stop_daemon() == 0
    wait(lambda: not sleeping(forever), "nothing left behind", 5)


@pytest.mark.slow
def test_a_reload_begins_and_ends_it_and_a_stop_waits_for_no_hook_for_long(sandbox: Sandbox, hooks: Path) -> None:
    add(hooks, "hangs", "#!/bin/sh\nexec sleep 1000\n")
    pid = sandbox.start_daemon()
    wait(lambda: len(sandbox.column()) == 2 and node(sandbox)["health"] in FAIR, "two PMDs, none bad", 20)
    assert node(sandbox)["daemon"]["hooks"] == "none"
    config = sandbox.dir / "config.yaml"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hooks": str(hooks)}))
    psutil.Process(pid).send_signal(signal.SIGHUP)
    wait(lambda: node(sandbox)["daemon"]["hooks"].startswith(str(hooks)), "the reload", 5)
    _, tid = next(iter(sandbox.pmds().items()))
    with stopped(tid):
        [hook] = wait(lambda: [c for c in psutil.Process(pid).children() if c.name() == "sleep"], "the hook", 10)
        began = time.monotonic()
        assert sandbox.stop_daemon() == 0
        assert 1.5 < time.monotonic() - began < 6
    assert not hook.is_running()
    assert "hook hangs: killed, since the daemon ends" in log(sandbox)


# --- the examples that are shipped ---------------------------------------------------------------

FACTS = {
    "WHO": "pmd-c03/id:8", "FROM": "MISSING", "TO": "DEAD", "CAUSE": "traced", "EVIDENCE": 'held by "gdb" $(id) `x`',
    "AT": "1763690430123", "SEVERITY": "failure", "HEALTH": "FAILURE", "SUMMARY": "pmd-c03/id:8 DEAD", "CORE": "3",
    "RXQS": "vhu\\1/0, ü'/1", "VERSION": "1.2.3",
}  # fmt: skip


class Receiver(Background):
    """Takes one connection, speaks as much SMTP or HTTP as curl needs, and keeps what was sent."""

    def __init__(self, mail: bool) -> None:
        super().__init__()
        self._mail = mail
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]
        self.received = b""

    def run(self) -> None:
        """Serve it. curl leaves without reading the last word."""
        with self._listener, self._listener.accept()[0] as client, suppress(ConnectionResetError, BrokenPipeError):
            client.settimeout(20)
            if self._mail:
                client.sendall(b"220 here\r\n")
            while part := client.recv(1 << 16):
                self.received += part
                if self._mail:
                    ends = part.rstrip().upper()
                    client.sendall(b"354 go on\r\n" if ends.endswith(b"DATA") else b"250 fine\r\n")
                elif self._has_all():
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return

    def _has_all(self) -> bool:
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        return length is not None and len(body) == int(length[1])


def send(example: str, old: str, new: str, directory: Path) -> None:
    """Run an example hook with another address in it, as the daemon would run it."""
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None:
            cannot(f"{tool}: not installed: apt-get install {tool}")
    text = (files("ovs_keepalive") / "share/hooks" / example).read_text()
    assert old in text
    add(directory, example, text.replace(old, new))
    told = {f"OVS_KEEPALIVE_{name}": value for name, value in FACTS.items()}
    done = subprocess.run(
        [directory / example], env={**os.environ, **told}, capture_output=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_example_that_mails(tmp_path: Path) -> None:
    with Receiver(mail=True) as receiver:
        send("mail", "smtp://localhost:25", f"smtp://127.0.0.1:{receiver.port}", tmp_path)
    text = receiver.received.decode()
    assert "RCPT TO:<root@localhost>" in text
    assert f"Subject: [failure] {os.uname().nodename}: pmd-c03/id:8 DEAD\r\n" in text
    assert f"seen:    {FACTS['EVIDENCE']}\r\n" in text
    assert f"rxqs:    {FACTS['RXQS']}\r\n" in text


def test_the_example_that_calls_a_web_hook(tmp_path: Path) -> None:
    with Receiver(mail=False) as receiver:
        send("webhook", "http://127.0.0.1:8080/", f"http://127.0.0.1:{receiver.port}/", tmp_path)
    head, _, body = receiver.received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /ovs-keepalive HTTP/1.1")
    told = {f"OVS_KEEPALIVE_{name}": value for name, value in FACTS.items()}
    assert json.loads(body) == {**told, "host": os.uname().nodename}


def test_the_units_sandbox_lets_a_hook_speak_to_the_network_and_change_no_owner(tmp_path: Path) -> None:
    if reason := systemd_missing():
        cannot(reason)
    unit = (files("ovs_keepalive") / "share/systemd/ovs-keepalive.service").read_text()
    walls = [line for line in unit.splitlines() if line.startswith(WALLS)]
    assert len(walls) >= 10
    with Receiver(mail=False) as receiver, UserManager(tmp_path) as manager:
        script = (
            f"#!/bin/sh\ncurl --silent --data 'said=$(uname -n | sed s/^/I-am-/)' http://localhost:{receiver.port}/ |\n"
            f"    cat\ntouch {tmp_path}/mine\nchown 12345 {tmp_path}/mine\n"
        )
        add(tmp_path, "hook", script.replace("'", '"'))
        text = "\n".join(["[Service]", "Type=oneshot", *walls, f"ExecStart={tmp_path}/hook"])
        manager.install("hook.service", text)
        with pytest.raises(subprocess.CalledProcessError):  # the status of chown
            manager.ctl("start", "hook.service")
    assert receiver.received.endswith(f"said=I-am-{os.uname().nodename}".encode())
    assert (tmp_path / "mine").stat().st_uid == os.getuid()
