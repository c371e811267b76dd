# SPDX-License-Identifier: Apache-2.0
"""A real ZooKeeper of a test's own: one server or three, which can be killed, stopped and brought back.

No server outlives the test, nor pytest itself: it is ended by pid when the block ends, and by the kernel should the
process that started it die.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from ovs_keepalive.fleet.session import News, Options, Session
from ovs_keepalive.fleet.store import Link
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.sandbox import wait
from tests.conftest import cannot

JARS = Path("/usr/share/java")
PLAIN = ("zookeeper.jar", "slf4j-simple.jar")
SECURE = ("netty-codec.jar", "netty-resolver.jar", "netty-transport-native-unix-common.jar", "netty-tcnative.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
TICK = 0.5  # seconds
TREE = Tree("c1")


def require() -> None:
    """Skip the test where there is no ZooKeeper."""
    if shutil.which("java") is None:
        cannot("there is no java: apt-get install default-jre-headless")
    for jar in PLAIN:
        if not (JARS / jar).exists():
            cannot(f"there is no {JARS / jar}: apt-get install libzookeeper-java")


class Server:
    """One of them."""

    def __init__(self, directory: Path, port: int, lines: Sequence[str], options: Sequence[str], jars: str) -> None:
        self.directory, self.port = directory, port
        (directory / "data").mkdir(parents=True, exist_ok=True)
        (directory / "zoo.cfg").write_text("\n".join(lines) + "\n")
        jvm = ["java", "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        self._argv = ["setpriv", "--pdeathsig", "KILL", *jvm, *options, "-cp", jars, MAIN, str(directory / "zoo.cfg")]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def mode(self) -> str:
        """`leader`, `follower` or `standalone`; "" while it serves nobody."""
        answer = four_letters(self.port, b"srvr")
        return next((line.split(": ")[1] for line in answer.splitlines() if line.startswith("Mode: ")), "")

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, cwd=self.directory, process_group=0)

    def kill(self) -> None:
        """SIGKILL; a server that was stopped, too."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def is_running(self) -> bool:
        """Whether the process is there; a server that ended tells why in its log."""
        return self._process is not None and self._process.poll() is None


def four_letters(port: int, word: bytes) -> str:
    """What the server says to one of its words; "" where nobody answers within half a second."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as client:
            client.sendall(word)
            client.settimeout(0.5)
            answer = b""
            while piece := client.recv(8192):
                answer += piece
    except OSError:
        return ""
    return answer.decode(errors="replace")


class Zookeeper:
    """Servers that form one ensemble."""

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        *,
        fsync: bool = True,
        secure: Sequence[str] = (),
        options: Sequence[str] = (),
        most: float = 60.0,
    ) -> None:
        """secure: lines of zoo.cfg for a server that speaks TLS; `secureClientPort=…` is added.

        most: seconds that it grants a session.
        """
        ports = free_ports(4 * count)
        self.secure_ports = ports[3 * count :]
        peers = [f"server.{n + 1}=127.0.0.1:{ports[count + n]}:{ports[2 * count + n]}" for n in range(count)]
        jars = ":".join(str(JARS / jar) for jar in (*PLAIN, *(SECURE if secure else ())))
        self.servers = []
        for n in range(count):
            place = directory / f"zk{n + 1}"
            lines = [
                *(f"tickTime={round(TICK * 1000)}", "initLimit=20", "syncLimit=10", f"dataDir={place / 'data'}"),
                *(f"clientPort={ports[n]}", "clientPortAddress=127.0.0.1", "admin.enableServer=false"),
                *("4lw.commands.whitelist=*", "maxClientCnxns=0", "minSessionTimeout=1000"),
                f"maxSessionTimeout={round(most * 1000)}",
                *(peers if count > 1 else ()),
                *((f"secureClientPort={self.secure_ports[n]}", *secure) if secure else ()),
            ]
            durable = () if fsync else ("-Dzookeeper.forceSync=no",)
            self.servers.append(Server(place, ports[n], lines, (*durable, *options), jars))
            (place / "data" / "myid").write_text(f"{n + 1}\n")

    @property
    def hosts(self) -> str:
        """As a client takes it."""
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    @property
    def leader(self) -> Server:
        """The one that leads now, or stands alone."""
        return next(server for server in self.servers if server.mode in ("leader", "standalone"))

    @property
    def pids(self) -> list[int]:
        return [server.pid for server in self.servers if server.is_running()]

    def __enter__(self) -> Zookeeper:
        require()
        try:
            for server in self.servers:
                server.start()
            for server in self.servers:
                self.wait_for(server)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    def wait_for(self, server: Server, seconds: float = 30.0) -> None:
        """Until it serves."""
        wait(lambda: not server.is_running() or bool(server.mode), "a ZooKeeper server serves", seconds)
        if not server.is_running():
            raise AssertionError((server.directory / "log").read_text()[-2000:])


class Client:
    """A session of ours with a loop, such as an agent's: waits are conditions with a deadline."""

    def __init__(self, options: Options) -> None:
        self.bell = threading.Event()
        self.links: list[Link] = []
        self.changed: set[str] = set()
        self.session = Session(options, time.monotonic, self.bell.set)

    def __enter__(self) -> Client:
        self.session.start()
        self.until(lambda: self.session.link is Link.CONNECTED, "the session is connected")
        return self

    def __exit__(self, *_: object) -> None:
        self.session.stop(2.0)

    def news(self) -> News:
        """Take what happened, and remember it."""
        news = self.session.news()
        self.links += news.links
        self.changed |= news.changed
        return news

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
        """Until it is so; asked whenever the session rings, and now and then."""
        end = time.monotonic() + seconds
        while True:
            self.bell.clear()
            self.news()
            if condition():
                return
            assert time.monotonic() < end, f"not within {seconds} s: {what} ({self.session.problem})"
            self.bell.wait(0.05)

    def expire(self) -> None:
        """Let the server end this session now: a second client takes it over and closes it."""
        ending: Any = KazooClient(self.session.options.servers, client_id=self.session._client.client_id)
        ending.start(10)
        ending.stop()
        ending.close()


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that nobody listens on now, all distinct."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in taken]


@contextmanager
def planted(zookeeper: Zookeeper, timeout: float = 4.0) -> Iterator[Callable[[], Client]]:
    """Makes connected clients; the cell's directories are there."""
    with ExitStack() as stack:

        def connect() -> Client:
            return stack.enter_context(Client(Options(zookeeper.hosts, timeout=timeout)))

        TREE.plant(connect().session)
        yield connect
