# SPDX-License-Identifier: Apache-2.0
"""Whatever claimers do, in whatever order sessions end and answers get lost: one owner at a time, one record each."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ovs_keepalive.core.fleet import Held
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.store import Unsure
from tests.fleets import HOST, T, help_of, is_held
from tests.memory_store import Ensemble
from tests.zookeeper import TREE

WORKERS = st.integers(0, 2)


class Worker:
    """A claimer, that thinks it holds what it was last given."""

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.store = ensemble.session()
        self.claims = Claims(self.store, TREE, name)
        self.held: list[Held] = []


class Claimers(RuleBasedStateMachine):
    """One kind of request, three claimers."""

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = Ensemble()
        TREE.plant(self.ensemble.session())
        self.asking = Claims(self.ensemble.session(), TREE, HOST)
        self.workers = [Worker(self.ensemble, f"w{number}") for number in range(3)]
        self.tokens = self.posted = self.withdrawn = self.completed = 0

    @property
    def open(self) -> list[Any]:
        return list(self.asking.requests().values())

    @rule()
    def post(self) -> None:
        self.posted += self.asking.post(help_of(n=0))

    @precondition(lambda self: self.open)
    @rule()
    def withdraw(self) -> None:
        [(request, version)] = self.open
        assert self.asking.withdraw(request.id, version)
        self.withdrawn += 1

    @precondition(lambda self: self.open)
    @rule(number=WORKERS, answer_is_lost=st.booleans())
    def claim(self, number: int, answer_is_lost: bool) -> None:
        worker, [(request, version)] = self.workers[number], self.open
        worker.claims._plant()
        self.tokens += 1
        token = f"tok-{self.tokens}"
        worker.store.lose = int(answer_is_lost)
        try:
            held = worker.claims.claim(request, version, token, T)
        except Unsure:
            held = worker.claims.resolve(request.id, token)
            assert held is not None, "it was done"
        worker.store.lose = 0
        worker.held += [held] if held is not None else []

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), gives_back=st.booleans(), answer_is_lost=st.booleans())
    def end(self, data: st.DataObject, gives_back: bool, answer_is_lost: bool) -> None:
        """Of any claim that somebody ever had."""
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.held]))
        held = data.draw(st.sampled_from(worker.held))
        had = is_held(worker.claims, held)
        before = len(self.asking.records())
        worker.store.lose = int(answer_is_lost)
        try:
            won = worker.claims.give_back(held, "no") if gives_back else worker.claims.complete(held, "yes", T)
        except Unsure:
            won = had  # done, or only the marks taken away
        worker.store.lose = 0
        assert won == had
        assert len(self.asking.records()) == before + (won and not gives_back)
        if not gives_back and won:
            assert worker.claims.is_done(held)
            self.completed += 1

    @rule(number=WORKERS)
    def expire(self, number: int) -> None:
        worker = self.workers[number]
        self.ensemble.expire(worker.store)
        worker.store = worker.claims._store = self.ensemble.session()

    @precondition(lambda self: any(request.is_stuck for request, _ in self.open))
    @rule()
    def clear(self) -> None:
        [(request, version)] = self.open
        assert self.asking.clear(request, version, "by hand")

    @invariant()
    def nobody_shares(self) -> None:
        holders = [held.tok for worker in self.workers for held in worker.held if is_held(worker.claims, held)]
        assert len(holders) <= 1

    @invariant()
    def nothing_is_lost_or_done_twice(self) -> None:
        assert len(self.asking.records()) == self.completed
        assert self.posted == self.withdrawn + self.completed + len(self.open)

    @invariant()
    def no_mark_is_left_of_a_session_that_ended(self) -> None:
        living = {worker.store.id for worker in self.workers}
        marks = [node.owner for path, node in self.ensemble.nodes.items() if node.owner]
        assert set(marks) <= living


TestClaimers = Claimers.TestCase
TestClaimers.settings = settings(max_examples=60, stateful_step_count=40)
