# SPDX-License-Identifier: Apache-2.0
"""A private, real ovsdb-server and ovs-vswitchd with dummy PMD threads in a temporary directory: the demo and the tests
are this one piece. It needs no DPDK, no hugepages, no kernel module, and touches nothing of the host's own OVS.
What it starts are direct children that die with it, even by SIGKILL; the directory goes as well, unless it is kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ovs_keepalive.children import POLL, Children, SandboxError, wait
from ovs_keepalive.ptrace import is_holder, leash, tracer

__all__ = ["Sandbox", "SandboxError", "missing", "pmd_threads", "request", "wait"]

PREFIX = "ovs-keepalive-sandbox."
DIRECTORIES = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
LOCK = "sandbox.lock"  # locked while the sandbox runs: a process id could be reused
DEFAULTS = {"schema": "auto", "max-main-share": 10, "web-listen": "off"}  # of the daemon in a sandbox
TOOLS = ("setpriv", "ovsdb-server", "ovs-vswitchd")
LONGEST_NAME = len("/12345678/ovs-keepalive.4194304.ctl")
SOCKET_PATH_MAX = 107  # bytes; a unix socket's path is no longer

ROUNDS = 4  # of vswitchd's main loop: what a configuration leaves to be done is done in the first
PORTS_MAX = 16  # vswitchd takes 10 s for 64 ports, 2 s for one port with 64 queues (measured)

# pmd-c03/id:8 (the kernel keeps 15 characters: the id may be cut)
PMD_NAME = re.compile(r"pmd-c(\d+)/id:\d*")


def request(path: Path, method: str, params: Sequence[object], seconds: float = 5.0) -> Any:
    """The answer to one JSON-RPC request on a unix socket, as ovsdb-server and every OVS control socket speak it.
    seconds: without a byte. Deliberately not the daemon's own client: a test is not to trust what it tests.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(json.dumps({"id": 0, "method": method, "params": params}).encode())
        text = b""
        while chunk := connection.recv(1 << 20):
            text += chunk
            try:
                reply = json.loads(text)
            except ValueError:  # not all of it yet
                continue
            if reply.get("error") is not None:
                raise SandboxError(f"{path.name}: {str(reply['error']).strip()}")
            return reply.get("result")
    raise ConnectionResetError(f"{path.name}: closed before it answered {method}")


def pmd_threads(pid: int) -> dict[str, int]:
    """Name and tid of each PMD thread of a process, in the order of their cores; none if the process is no more."""
    found = []
    for comm in Path(f"/proc/{pid}/task").glob("*/comm"):
        try:
            name = comm.read_text(errors="replace").rstrip("\n")
        except OSError:  # it ended while we looked
            continue
        if match := PMD_NAME.match(name):
            found.append((int(match[1]), name, int(comm.parent.name)))
    return {name: tid for _, name, tid in sorted(found)}


def missing() -> str:
    """One line on what a sandbox needs and this machine has not; empty if all is there."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=_search_path()) is None]
    return f"{absent[0]}: not installed: apt-get install openvswitch-switch" if absent else ""


class Sandbox:
    """The private OVS, and on demand the daemon on it. Started in the main thread: the death of that one ends it."""

    def __init__(
        self,
        *,
        pmds: int = 2,
        numa: Sequence[int] = (),
        max_sleep: int = 10000,
        keep: bool = False,
        ovs_root: Path | None = None,
    ) -> None:
        """numa: the node of each core, all on 0 by default. ovs_root: a chroot with another OVS, its /proc mounted.
        max_sleep: microseconds an idle PMD may sleep; 10000: 0.5 % of a core each, and SLEEP; 0: it spins, is ALIVE.
        """
        self.numa = list(numa) or [0] * pmds
        self.max_sleep = max_sleep
        self.keep = keep
        self.root = ovs_root
        self.dir = Path(os.devnull)  # until it is started
        self.children = Children(self.dir)
        self._lock: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Sandbox:
        # SIGTERM and SIGHUP end a sandbox as Ctrl-C does, unless somebody else cares for them.
        for number in (signal.SIGHUP, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, signal.default_int_handler)
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handlers[signal.SIGINT] = signal.getsignal(signal.SIGINT)
        for number in self._handlers:  # no second Ctrl-C stops the cleaning up
            signal.signal(number, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def start(self) -> None:
        """Start ovsdb-server and ovs-vswitchd, and wait until all PMD threads poll."""
        if not self.root and (line := missing()):
            raise SandboxError(line)
        parent = self.root / "tmp" if self.root else Path(tempfile.gettempdir())
        if len(os.fsencode(parent)) + len(PREFIX) + LONGEST_NAME > SOCKET_PATH_MAX:
            raise SandboxError(f"{parent}: too long a path for sockets in it: set TMPDIR to a shorter directory", 2)
        try:
            self.dir = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:
            raise SandboxError(f"{parent}: {error.strerror}: set TMPDIR to another directory", 2) from error
        self.children = Children(self.dir)
        self._lock = os.open(self.dir / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._tool("ovsdb-tool", "create")
        self.start_ovsdb()
        self._configure()
        self.start_vswitchd()
        self.wait_for_pmds()

    def stop(self) -> None:
        """End whatever was started and remove the directory. Nothing happens if it was stopped before."""
        holders = [pid for tid in self.pmds().values() if is_holder(pid := tracer(tid))]
        for name in ("ovs-keepalive", "ovs-vswitchd", "ovsdb-server"):
            if name in self.children:
                self.children.kill(name, signal.SIGTERM if name == "ovs-keepalive" else signal.SIGKILL)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self.dir.name.startswith(PREFIX) and not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        wait(lambda: not any(map(is_holder, holders)), "what held PMD threads ended with them")

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the tools of OVS, and ovs-keepalive, find this sandbox."""
        return self._environment(self.dir)

    @property
    def remote(self) -> str:
        """The database, as the tools of OVS call it."""
        return f"unix:{self.dir}/db.sock"

    wait = staticmethod(wait)

    def start_ovsdb(self, *options: str) -> None:
        """Start ovsdb-server, with more options if need be, and wait until it answers."""
        self._spawn("ovsdb-server", f"--remote=punix:{self._inner}/db.sock", *options)
        self.children.until(
            "ovsdb-server", lambda: request(self.dir / "db.sock", "list_dbs", []), "ovsdb-server answers"
        )

    def kill_ovsdb(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for its end (not for SIGSTOP and SIGCONT)."""
        self.children.kill("ovsdb-server", number)

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd, and wait until it answers, which is before it has its PMD threads."""
        asked = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(asked)  # its cur_cfg follows when it has configured everything: wait_for_pmds
        options = ["--enable-dummy=override", "--disable-system", f"--dummy-numa={','.join(map(str, self.numa))}"]
        self._spawn("ovs-vswitchd", f"unix:{self._inner}/db.sock", *options)
        self.children.until("ovs-vswitchd", lambda: self.appctl("version"), "ovs-vswitchd answers")

    def wait_for_pmds(self) -> None:
        """Wait until each PMD polls a queue and vswitchd has calmed down: a PMD that is held earlier hangs it."""
        cores = len(self.numa)

        def calm() -> bool:
            row = self._row("cur_cfg", "next_cfg")
            if row["cur_cfg"] != row["next_cfg"]:
                return False
            # It has configured everything. What follows from that it does in the next rounds of its main loop, and each
            # answer comes from another round.
            polled = [self.appctl("dpif-netdev/pmd-rxq-show").count("queue-id:") for _ in range(ROUNDS)]
            return polled[-1] == cores == len(self.pmds())

        self.children.until("ovs-vswitchd", calm, f"{cores} PMD threads", 30 + cores / 5)

    def kill_vswitchd(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for its end (not for SIGSTOP and SIGCONT)."""
        self.children.kill("ovs-vswitchd", number)

    @property
    def vswitchd_pid(self) -> int:
        """The process id of ovs-vswitchd."""
        return self.children.process("ovs-vswitchd").pid

    def start_daemon(
        self, *args: str, config: Mapping[str, object] | None = None, wait: bool = True, through: Sequence[str] = ()
    ) -> int:
        """Start `ovs-keepalive run` on this sandbox; its pid. wait: until it has looked; through: as of as_user()."""
        path = self.dir / "config.yaml"
        path.write_text(json.dumps({**DEFAULTS, "state-dir": f"{self.dir}/state", **(config or {})}))  # JSON is YAML
        argv = [*through, sys.executable, "-m", "ovs_keepalive", "run", "--config", str(path), *args]
        pid = self.children.start("ovs-keepalive", argv, self.env)
        if wait:
            control = self.dir / f"ovs-keepalive.{pid}.ctl"

            def looked() -> bool:
                try:
                    return bool(request(control, "keepalive/status", []))
                except SandboxError:  # "the daemon has just started and has not looked yet"
                    return False

            self.children.until("ovs-keepalive", looked, "ovs-keepalive has looked")
        return pid

    def stop_daemon(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end (not for SIGSTOP and SIGCONT); its exit status."""
        return self.children.kill("ovs-keepalive", number)

    def pmds(self) -> dict[str, int]:
        """Name and tid of each PMD thread."""
        return pmd_threads(self.vswitchd_pid) if "ovs-vswitchd" in self.children else {}

    def vsctl(self, *args: str) -> str:
        """What ovs-vsctl says."""
        return self._tool("ovs-vsctl", "--timeout=30", f"--db=unix:{self._inner}/db.sock", *args)

    def appctl(self, *args: str, target: str = "ovs-vswitchd") -> str:
        """What ovs-appctl would say, without starting it."""
        pid = (self.dir / f"{target}.pid").read_text().strip()
        return str(request(self.dir / f"{target}.{pid}.ctl", args[0], args[1:]))

    def transact(self, *operations: Mapping[str, object]) -> list[dict[str, Any]]:
        """The results of the operations of one OVSDB transaction."""
        return list(request(self.dir / "db.sock", "transact", ["Open_vSwitch", *operations]))

    def column(self) -> dict[str, str]:
        """Open_vSwitch.keepalive; empty as well while there is no such column."""
        return self._map("keepalive")

    def detail(self) -> dict[str, str]:
        """Open_vSwitch.keepalive_detail; empty as well while there is no such column."""
        return self._map("keepalive_detail")

    def settings(self, **other_config: object) -> None:
        """Set keys of Open_vSwitch.other_config, named with _ for -; None removes one. Waits for nobody to obey."""
        wanted = {key.replace("_", "-"): value for key, value in other_config.items()}
        pairs = [[k, v if isinstance(v, str) else str(v).lower()] for k, v in wanted.items() if v is not None]
        mutations = [["other_config", "delete", ["set", list(wanted)]], ["other_config", "insert", ["map", pairs]]]
        [result] = self.transact({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations})
        if "error" in result:
            raise SandboxError(f"other_config: {result['error']}: {result.get('details')}")

    def linger(self, seconds: float) -> None:
        """Let time pass; raise as soon as a process ends that nobody asked to end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.children.check(*self.children)
            time.sleep(POLL)

    @property
    def _inner(self) -> Path:
        """The directory as the daemons of OVS see it."""
        return Path("/tmp") / self.dir.name if self.root else self.dir  # noqa: S108 -- of the chroot

    @property
    def _chroot(self) -> list[str]:
        return ["chroot", str(self.root)] if self.root else []

    def _environment(self, directory: Path) -> dict[str, str]:
        return {**os.environ, "PATH": _search_path(), **dict.fromkeys(DIRECTORIES, str(directory))}

    def _configure(self) -> None:
        """A bridge, and for each PMD a queue to poll; done before vswitchd starts, all in one transaction."""
        words = f"--no-wait init -- set Open_vSwitch . other_config:pmd-cpu-mask={(1 << len(self.numa)) - 1:#x}"
        if self.max_sleep:  # pmd-sleep-max from 3.2 on
            words += f" other_config:pmd-maxsleep={self.max_sleep} other_config:pmd-sleep-max={self.max_sleep}"
        words += " -- add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure"
        pmds_of = {node: self.numa.count(node) for node in self.numa}
        ports = [(node, 1) for node in self.numa] if len(self.numa) <= PORTS_MAX else list(pmds_of.items())
        for number, (node, queues) in enumerate(ports):
            words += f" -- add-port br0 p{number} -- set interface p{number} type=dummy-pmd"
            words += f" options:n_rxq={queues} options:numa_id={node}"
        self.vsctl(*words.split())

    def _row(self, *columns: str) -> dict[str, Any]:
        """Those columns of Open_vSwitch; nothing if it lacks one of them."""
        select = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": columns}
        rows = self.transact(select)[0].get("rows", [])
        return rows[0] if rows else {}

    def _map(self, column: str) -> dict[str, str]:
        return dict(self._row(column).get(column, ["map", []])[1])

    def _tool(self, *argv: str) -> str:
        env, argv = self._environment(self._inner), (*leash(), *self._chroot, *argv)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise SandboxError(said[-1])
        return done.stdout

    def _spawn(self, name: str, *args: str) -> None:
        """Start a daemon of OVS in the foreground, its pidfile, control socket and log where OVS puts them."""
        options = ["--pidfile", "--log-file", "-vconsole:off", "-vsyslog:off"]
        self.children.start(name, [*self._chroot, name, *args, *options], self._environment(self._inner))


def _search_path() -> str:
    """PATH, and where daemons are: not on the PATH of an ordinary user."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
