# SPDX-License-Identifier: Apache-2.0
"""Many hosts in one process: a TCP session with ZooKeeper for each, spoken by hand, since a kazoo client has 3 threads.

`python -m tests.raw_sessions SERVERS HOSTS TIMEOUT CHANGES_A_SECOND SECONDS` joins that many hosts to the cell, and
says so. It refreshes their numbers every 30 s, changes states at random and prints each change with its time:
`changed HOST SEQ EPOCH_SECONDS`. It ends with its input.
"""

from __future__ import annotations

import asyncio
import random
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from ovs_keepalive.core.fleet import HostState, Known, Member, PmdBrief
from ovs_keepalive.core.telling import REFRESH
from ovs_keepalive.fleet.store import ANY, Create, Delete, Part, Put
from ovs_keepalive.formats import fleet
from tests.zookeeper import TREE

CREATE, DELETE, SET_DATA, PING, MULTI = 1, 2, 5, 11, 14
PING_XID = -2
JOINING = 50  # at a time
ALL_MAY = 31
STATES = (HostState.WELL, HostState.FAILURE)


def _buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _part(part: Part) -> bytes:
    """Of a multi: a header, and the request."""
    match part:
        case Create(path, value, _, ephemeral):
            acl = struct.pack(">ii", 1, ALL_MAY) + _buffer(b"world") + _buffer(b"anyone")
            body = _buffer(path.encode()) + _buffer(value) + acl + struct.pack(">i", int(ephemeral))
            return struct.pack(">i?i", CREATE, False, -1) + body
        case Delete(path, version):
            return struct.pack(">i?i", DELETE, False, -1) + _buffer(path.encode()) + struct.pack(">i", version)
        case _:
            body = _buffer(part.path.encode()) + _buffer(part.value) + struct.pack(">i", part.version)
            return struct.pack(">i?i", SET_DATA, False, -1) + body


class RawSession:
    """One session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._xid = 0
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, host: str, port: int, timeout: float) -> RawSession:
        """A new session."""
        session = cls(*await asyncio.open_connection(host, port))
        hello = struct.pack(">iqiq", 0, 0, round(timeout * 1000), 0) + _buffer(bytes(16)) + b"\0"
        session._writer.write(_buffer(hello))
        await session._frame()
        session._reading = asyncio.create_task(session._read())
        return session

    async def multi(self, parts: Sequence[Part]) -> int:
        """All or nothing; 0, or the error of the first part that failed."""
        self._xid += 1
        end = struct.pack(">i?i", -1, True, -1)
        self._writer.write(_buffer(struct.pack(">ii", self._xid, MULTI) + b"".join(map(_part, parts)) + end))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        return await answer

    def ping(self) -> None:
        """Say that we are there."""
        self._writer.write(_buffer(struct.pack(">ii", PING_XID, PING)))

    async def _frame(self) -> bytes:
        [length] = struct.unpack(">i", await self._reader.readexactly(4))
        return await self._reader.readexactly(length)

    async def _read(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await self._frame()
                xid, _, error = struct.unpack_from(">iqi", frame)
                if xid != PING_XID:
                    kind, _, failed = struct.unpack_from(">i?i", frame, 16) if len(frame) >= 25 else (0, True, error)
                    self._waiting.popleft().set_result(error or (failed if kind == -1 else 0))


class Host:
    """A node that says only whether it is well."""

    def __init__(self, name: str, session: RawSession) -> None:
        self.name, self.seq, self.state = name, 0, HostState.WELL
        self._session = session

    def _member(self) -> Member:
        now = int(time.time() * 1000)
        pmds = tuple(PmdBrief(core, 0, "ALIVE", 41, 2, self.seq, 0) for core in range(4))
        return Member(self.name, self.seq, now, "boot", self.state, now, pmds=pmds, ver="0.1.0")

    async def join(self) -> None:
        member = self._member()
        await self._session.multi([Create(TREE.host(self.name), b"", ())])
        record = fleet.known_bytes(Known(member.t, member.t, member))
        parts = [
            Create(TREE.live(self.name), fleet.member_bytes(member), (), ephemeral=True),
            Create(TREE.known(self.name), record, ()),
        ]
        assert await self._session.multi(parts) == 0, f"{self.name} cannot join"

    async def refresh(self) -> None:
        """New numbers."""
        self.seq += 1
        await self._session.multi([Put(TREE.live(self.name), fleet.member_bytes(self._member()), ANY)])

    async def change(self) -> None:
        """The other state."""
        self.seq += 1
        self.state = STATES[self.state is STATES[0]]
        member, alert = self._member(), TREE.alert(self.name)
        record = fleet.known_bytes(Known(member.t, member.t, member))
        parts: list[Part] = [Put(TREE.live(self.name), fleet.member_bytes(member)), Put(TREE.known(self.name), record)]
        parts.append(Delete(alert) if self.state is HostState.WELL else Create(alert, b"", (), ephemeral=True))
        print(f"changed {self.name} {self.seq} {time.time()}", flush=True)
        assert await self._session.multi(parts) == 0, f"{self.name} cannot change"

    def ping(self) -> None:
        self._session.ping()


async def _joined(servers: Sequence[str], count: int, timeout: float) -> list[Host]:
    gate = asyncio.Semaphore(JOINING)

    async def join(number: int) -> Host:
        async with gate:
            address, _, port = servers[number % len(servers)].rpartition(":")
            host = Host(f"n{number:05}", await RawSession.open(address, int(port), timeout))
            await host.join()
            return host

    return list(await asyncio.gather(*map(join, range(count))))


async def _each(hosts: Sequence[Host], period: float, ping: bool) -> None:
    """Let each do it once a period, one after the other."""
    at = asyncio.get_running_loop().time()
    while True:
        for host in hosts:
            at += period / len(hosts)
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            host.ping() if ping else await host.refresh()


async def _change(hosts: Sequence[Host], rate: float, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await random.choice(hosts).change()  # noqa: S311 - any of them
        await asyncio.sleep(1 / rate)


async def _main(servers: str, count: int, timeout: float, rate: float, seconds: float) -> None:
    began = time.monotonic()
    hosts = await _joined(servers.split(","), count, timeout)
    print(f"joined {time.monotonic() - began}", flush=True)
    steady = [asyncio.create_task(_each(hosts, timeout / 3, ping=True))]
    steady += [asyncio.create_task(_each(hosts, REFRESH, ping=False))]
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    await _change(hosts, rate, seconds)
    print("ended", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for task in steady:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:6])))
