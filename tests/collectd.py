# SPDX-License-Identifier: Apache-2.0
"""A real collectd in the foreground, run by nobody, with `ovs-keepalive collectd` as a child of its exec plugin and its
own ovs_events beside it: what it was told, and when.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from ovs_keepalive.ptrace import as_user
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.lab import Background

USER = 65534  # nobody
PROGRAM = "/usr/sbin/collectd"
PLUGINS = Path("/usr/lib/collectd")
TYPES = "/usr/share/collectd/types.db"
POLL = 0.01  # seconds
HOST = "testhost"

_NOTIFICATION = re.compile(
    r"Notification: severity = (\w+), host = (.*?), plugin = (\w+)(?:, plugin_instance = (.*?))?"
    r"(?:, type = (\w+))?(?:, type_instance = (\w+))?, message = (.*)"
)


class Notification(NamedTuple):
    """One that collectd's logfile plugin was handed."""

    at: float  # monotonic seconds of its arrival
    severity: str
    plugin: str
    instance: str
    type: str  # with the type instance: "gauge-state"
    message: str


class _Follower(Background):
    """Reads a log as it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.lines: list[tuple[float, str]] = []

    def run(self) -> None:
        """Read on until the end."""
        rest = ""
        with self._path.open(errors="replace") as log:
            while not self.over.is_set():
                if not (text := log.read()):
                    time.sleep(POLL)
                    continue
                *whole, rest = (rest + text).split("\n")
                self.lines += [(time.monotonic(), line) for line in whole]


class _Sink(HTTPServer):
    """Takes what write_http posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.posted: list[Any] = []
        self._thread = threading.Thread(target=self.serve_forever, name="sink")
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Post(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep the items of the array."""
        length = int(self.headers["Content-Length"])
        assert isinstance(self.server, _Sink)
        self.server.posted += json.loads(self.rfile.read(length))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def reason_against() -> str:
    """Why this machine cannot run the collectd of these tests; "" if it can."""
    if os.geteuid():
        return "collectd as another user: needs root"
    if not Path(PROGRAM).exists():
        return f"{PROGRAM}: not installed: apt-get install collectd-core"
    for plugin in ("exec", "unixsock", "csv", "logfile", "ovs_events", "write_http"):
        linked = subprocess.run(["ldd", PLUGINS / f"{plugin}.so"], capture_output=True, text=True, check=False).stdout
        if missing := re.search(r"(\S+) => not found", linked):
            return f"collectd's {plugin} lacks {missing[1]}: apt-get install libyajl2 libcurl3-gnutls"
    return ""


def _as_nobody(env: Mapping[str, str]) -> list[str]:
    """Where this Python lies below a home directory, nobody gets the one capability that lets it in there."""
    for through in (as_user(USER), as_user(USER, capabilities=["dac_read_search"])):
        # By way of env: the first program after a change of user is still found with root's rights.
        check = [*through, "env", sys.executable, "-c", "import ovs_keepalive"]
        if not subprocess.run(check, env=env, capture_output=True, check=False).returncode:
            return through
    return cannot("nobody may not read this checkout or its Python: put them where everybody may")


class Collectd:
    """On the database of a sandbox, from entering to leaving."""

    def __init__(self, sandbox: Sandbox, interval: float = 1.0) -> None:
        if reason := reason_against():
            cannot(reason)
        self._sandbox = sandbox
        self._interval = interval
        self._directory = sandbox.dir / "collectd"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Collectd:
        self._sandbox.dir.chmod(0o711)
        self.admit()
        self._directory.mkdir()
        shutil.chown(self._directory, USER, USER)
        log = self._directory / "log"
        log.touch()
        shutil.chown(log, USER, USER)
        self._sink = _Sink()
        configuration = self._directory / "collectd.conf"
        configuration.write_text(self._configuration())
        env = {**self._sandbox.env, "PYTHONDONTWRITEBYTECODE": "1"}
        self._follower = _Follower(log)
        self._follower.start()
        with (self._directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*_as_nobody(env), PROGRAM, "-f", "-C", str(configuration)], env=env, stdout=output, stderr=output
            )
        wait(lambda: "Initialization complete" in self.log(), "collectd's start", 15)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(signal.SIGTERM)
        self._follower.over.set()
        self._follower.join()
        self._sink.end()
        if error is not None:
            print(self.log())

    def _configuration(self) -> str:
        name, directory = pwd.getpwuid(USER).pw_name, self._directory
        # exec hands a program only the last part of its path, by which a Python finds no virtual environment.
        command = directory / "ovs-keepalive"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ovs_keepalive "$@"\n')
        command.chmod(0o755)
        return f"""\
Hostname "{HOST}"
FQDNLookup false
BaseDir "{directory}"
PIDFile "{directory}/pid"
TypesDB "{TYPES}"
Interval {self._interval:g}
LoadPlugin logfile
<Plugin logfile>
  LogLevel info
  File "{directory}/log"
</Plugin>
LoadPlugin csv
<Plugin csv>
  DataDir "{directory}/csv"
</Plugin>
LoadPlugin unixsock
<Plugin unixsock>
  SocketFile "{directory}/sock"
  SocketGroup "{os.fsdecode(subprocess.check_output(["id", "-gn", name])).strip()}"
</Plugin>
LoadPlugin exec
<Plugin exec>
  Exec "{name}" "{command}" "collectd" "--ovsdb" "{self._sandbox.remote}"
</Plugin>
LoadPlugin ovs_events
<Plugin ovs_events>
  Socket "{self._sandbox.dir}/db.sock"
</Plugin>
LoadPlugin write_http
<Plugin write_http>
  <Node "sink">
    URL "http://127.0.0.1:{self._sink.server_port}/"
    Format "JSON"
    Metrics false
    Notifications true
  </Node>
</Plugin>
"""

    def admit(self) -> None:
        """Let nobody's group connect to the database, as `install --umask` lets the daemon's."""
        path = self._sandbox.dir / "db.sock"
        os.chown(path, 0, USER)
        path.chmod(0o770)

    def log(self) -> str:
        """All that collectd logged."""
        return "\n".join(line for _, line in list(self._follower.lines))

    def output(self) -> str:
        """What collectd said of the lines of its child: "0 Success …", and all that it could not take."""
        return (self._directory / "output").read_text(errors="replace")

    def told(self, plugin: str = "ovs_keepalive") -> list[Notification]:
        """The notifications of a plugin."""
        found = ((at, _NOTIFICATION.search(line)) for at, line in list(self._follower.lines))
        return [
            Notification(at, match[1], match[3], match[4] or "", f"{match[5]}-{match[6]}", match[7])
            for at, match in found
            if match is not None and match[3] == plugin
        ]

    def changes(self, instance: str) -> list[Notification]:
        """What was told of a thing, but for the CPU that other processes took from a PMD: a busy machine's own news."""
        told = [one for one in self.told() if one.instance == instance]
        return [one for one in told if "too little CPU" not in one.message and ' is "ALIVE"' not in one.message]

    def story(self, instance: str) -> list[str]:
        """The severities of these changes."""
        return [one.severity for one in self.changes(instance)]

    def posted(self) -> list[Any]:
        """What write_http posted of our notifications."""
        return [item for item in list(self._sink.posted) if "ovs_keepalive" in item["labels"]]

    def value(self, identifier: str) -> str:
        """What GETVAL on collectd's own socket answers, behind the `=`; "" for nothing."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._directory / "sock"))
            stream = connection.makefile("rw")
            stream.write(f'GETVAL "{HOST}/ovs_keepalive-{identifier}"\n')
            stream.flush()
            head = stream.readline()
            said = stream.readline().strip().partition("=")[2] if head.startswith("1 ") else ""
            stream.close()
        return said

    def child(self) -> psutil.Process | None:
        """Our process below collectd."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if "ovs_keepalive" in child.cmdline():
                    return child
        return None

    def end(self, number: int) -> tuple[int, float]:
        """Send it a signal, and see it through: its exit status, and the seconds that it took."""
        if self._process is None:
            return 0, 0.0
        process, self._process = self._process, None
        begin = time.monotonic()
        process.send_signal(number)
        try:
            status = process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait(15)
        return status, time.monotonic() - begin
