# SPDX-License-Identifier: Apache-2.0
"""A node that only helps: claims requests, works a moment on each, and now and then gives one back or falls asleep.

`python -m tests.fleet_worker SERVERS HOST SEED TIMEOUT` prints a line for each thing that it knows to have happened.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid

from ovs_keepalive.core.fleet import Held, Help
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.session import Options
from ovs_keepalive.fleet.store import Refused, Unreachable, Unsure
from tests.zookeeper import TREE, Client

GIVES_BACK = 0.10  # of its claims
SLEEPS = 0.04  # of its claims: stops itself in the middle, until somebody lets it go on
WORKS = 0.15  # seconds at most


class Worker:
    """One of them."""

    def __init__(self, client: Client, host: str, seed: int) -> None:
        self._claims = Claims(client.session, TREE, host)
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated
        self._mine: set[str] = set()  # tokens that it works on

    def turn(self) -> None:
        """Try each request that is there, in an order of its own. Raises Refused, Unreachable."""
        for id, token in self._claims.strays(self._mine):
            self._claims.release(id, token)
            say("released", id)
        found = list(self._claims.requests().values())
        self._chance.shuffle(found)
        for request, version in found:
            held = self._claim(request, version)
            if held is not None:
                self._mine.add(held.tok)
                self._work(held)
                self._mine.discard(held.tok)

    def _claim(self, request: Help, version: int) -> Held | None:
        token = uuid.UUID(int=self._chance.getrandbits(128)).hex
        self._mine.add(token)
        try:
            return self._claims.claim(request, version, token, 0)
        except Unsure:
            say("unsure", request.id)
            return self._claims.resolve(request.id, token)
        finally:
            self._mine.discard(token)

    def _work(self, held: Held) -> None:
        say("claimed", held.help.id, held.fence)
        fate = self._chance.random()
        if fate < SLEEPS:
            say("sleeps", held.help.id)
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.0, WORKS))
        try:
            if fate > 1.0 - GIVES_BACK:
                say("gave" if self._claims.give_back(held, "not now") else "fenced", held.help.id, held.fence)
            else:
                say("done" if self._claims.complete(held, "helped", 0) else "fenced", held.help.id, held.fence)
        except Unsure:
            say("unsure", held.help.id)


def say(*words: object) -> None:
    print(*words, flush=True)


def main(servers: str, host: str, seed: str, timeout: str) -> None:
    client = Client(Options(servers, timeout=float(timeout)))
    client.session.start()
    worker = Worker(client, host, int(seed))
    say("began", os.getpid())
    while True:
        client.news()
        try:
            worker.turn()
        except (Refused, Unreachable) as error:
            say("cannot", error)
            time.sleep(0.2)
        client.bell.wait(0.05)
        client.bell.clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
