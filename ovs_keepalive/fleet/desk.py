# SPDX-License-Identifier: Apache-2.0
"""Where this host asks for help and gives it: what core.help decides, done in the store, and what comes of that.

It makes every change once, and where nobody answered it asks first what became of it. While the session is not sure to
live nothing new is claimed, and no hook runs on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import ovs.vlog

from ovs_keepalive.core import headroom
from ovs_keepalive.core import help as rules
from ovs_keepalive.core.fleet import Headroom, Held, Help, request_id
from ovs_keepalive.core.help import Asked, Helping, Kind, Mode
from ovs_keepalive.core.model import Moment
from ovs_keepalive.core.repeats import Repeats
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.hooks import Ending, Hooks, Result
from ovs_keepalive.fleet.store import Node, Store, Unsure
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet.watch import asked

log = ovs.vlog.Vlog("fleet_desk")

OWN_EVERY = 5.0  # seconds between two looks at this host's own requests; sooner when its troubles change
STRAYS_EVERY = 60.0  # seconds between two looks for claims that nobody works on
ALL_EVERY = 30.0  # seconds between two looks at everybody's requests, besides those that are told


class Rules(NamedTuple):
    """What the configuration says of help."""

    mode: Mode
    hook: Path | None  # None: there is none


class Now(NamedTuple):
    """What the agent knows of its host in this turn."""

    troubles: Mapping[str, str] | None  # kind -> why: what it needs help about; None: not known
    spare: Headroom
    chance: float  # 0 to 1
    distrust: str = ""  # why the hook must not be run; "" if it may be


class _Claimed(NamedTuple):
    """A claim of ours."""

    held: Held
    numa: int  # where its room is
    ending: Ending | None = None  # how it went; None: a hook runs
    unsure: bool = False  # the store was asked to end it, and did not answer


class Desk:
    """turn() belongs to the agent's loop, and is called while the store is connected."""

    def __init__(self, store: Store, tree: Tree, host: str, asked_of: Rules) -> None:
        self.host = host
        self.helping = Helping()
        self._store, self._tree, self._rules = store, tree, asked_of
        self._claims = Claims(store, tree, host)
        self._hooks = Hooks()
        self._asked = Asked()
        self._troubles: Mapping[str, str] | None = None  # at the last look
        self._own_due = self._all_at = self._strays_at = float("-inf")
        self._requests: dict[str, tuple[Help, int]] = {}  # of others, free as they were seen last, with their versions
        self._mine: dict[str, _Claimed] = {}  # by the request's id
        self._doubtful: dict[str, tuple[str, int]] = {}  # claims that were not answered -> token, NUMA node
        self._repeats = Repeats()

    @property
    def has_open(self) -> bool:
        """Whether this host asks for help itself."""
        return bool(self._asked.open)

    def lose(self, why: str, now: float) -> None:
        """The session is over, or may be: what was claimed is another's. Hooks are killed."""
        for ending in self._hooks.kill(why).values():
            self._say("hook", ending.words, now, bad=True)
        for id, one in self._mine.items():
            self.helping = rules.ended(self.helping, one.numa, id, now, given_back=True)
        self._mine.clear()
        self._doubtful.clear()
        self._requests.clear()
        self._own_due = self._all_at = self._strays_at = float("-inf")

    def turn(self, now: Moment, here: Now, changed: Iterable[str]) -> None:
        """One turn. changed: paths of which the store told. Raises Refused, Unreachable."""
        self._settle(now)
        self._ask(now, here)
        self._find(now.mono, here, {self._tree.directory("help"), self._tree.directory("claim")} & set(changed))
        self._claim(now, here)
        self._sweep(now.mono)

    def look_at_hooks(self, now: float) -> None:
        """Take in which hooks ended; also while the store is not connected."""
        for id, ending in self._hooks.look(now).items():
            self._say(f"hook {ending.result.name}", f"{id}: {ending.words}", now, bad=ending.result is not Result.DONE)
            if id in self._mine:
                self._mine[id] = self._mine[id]._replace(ending=ending)

    def filenos(self) -> tuple[int, ...]:
        """Descriptors of hooks that turn readable when there is something to look at."""
        return self._hooks.filenos()

    def due(self) -> float:
        """Monotonic seconds; when the next turn is due whatever happens."""
        dues = [rules.next_turn(self.helping), self._hooks.next_look(), self._own_due]
        return min(due for due in dues if due is not None)

    def close(self, why: str, now: Moment) -> None:
        """An orderly end: what is claimed is given back. What was asked stays, as its reason does."""
        for id, ending in self._hooks.kill(why).items():
            self._mine[id] = self._mine[id]._replace(ending=ending)
        self._settle(now)

    # --- asking ---

    def _ask(self, now: Moment, here: Now) -> None:
        """While all is well this host's requests are looked at once a session: a fleet has thousands of hosts."""
        if here.troubles is None:  # nothing is concluded from what could not be seen
            self._own_due = max(self._own_due, now.mono + OWN_EVERY)
            return
        if here.troubles == self._troubles and now.mono < self._own_due:
            return
        there = self._own()
        wishes = rules.wishes(self._rules.mode, self._asked, here.troubles, there, now.mono)
        self._asked = wishes.asked
        for kind in wishes.withdraw:
            self._claims.withdraw(request_id(self.host, kind), there[kind])
            log.info(f"help {kind}: taken back, its reason is over")
        for kind, why in wishes.post.items():
            if self._claims.post(Help(self.host, kind, why, now.wall_ms)):
                log.warn(f"help {kind}: asked for: {why}")
            self._asked = rules.posted(self._asked, kind)
        self._troubles = here.troubles  # all that is to be done about them is done
        active = here.troubles or self._asked.open
        self._own_due = now.mono + OWN_EVERY if active else float("inf")

    def _own(self) -> dict[str, int]:
        """This host's requests in the store, and their versions."""
        kinds = [str(kind) for kind in Kind]
        found = self._store.read([self._tree.help(request_id(self.host, kind)) for kind in kinds])
        return {kind: node.version for kind, node in zip(kinds, found, strict=True) if isinstance(node, Node)}

    # --- helping ---

    def _find(self, now: float, here: Now, told: Iterable[str]) -> None:
        """Look at everybody's requests, only while there is room for one: else they are nothing to this host."""
        room = headroom.place(here.spare, rules.promised(self.helping, now)) is not None
        if self._rules.mode is Mode.OFF or not room:
            self._requests, self._all_at = {}, float("-inf")
            return
        if not told and now - self._all_at < ALL_EVERY:
            return
        every, _ = asked(self._store, self._tree, watch=True)
        taken = {id for id, one in every.items() if one.claim is not None}
        free = rules.free_requests((one.help for one in every.values()), taken, self.host)
        self._requests = {one.id: (one, every[one.id].version) for one in free}
        self._all_at = now

    def _claim(self, now: Moment, here: Now) -> None:
        ready = self._rules.mode is not Mode.HOOK or (self._rules.hook is not None and not here.distrust)
        if not ready and self._requests:
            self._say(
                "distrust", f"no request is claimed: {here.distrust or 'fleet.hook names none'}", now.mono, bad=True
            )
        spare = here.spare if ready else Headroom()
        free = [one for one, _ in self._requests.values() if one.id not in self._mine and one.id not in self._doubtful]
        self.helping, chosen = rules.choose(self.helping, free, spare, now.mono, here.chance)
        if chosen is None:
            return
        numa = headroom.place(spare, rules.promised(self.helping, now.mono))
        _, version = self._requests.pop(chosen.id)
        token = uuid.uuid4().hex
        try:
            held = self._claims.claim(chosen, version, token, now.wall_ms)
        except Unsure:
            self._doubtful[chosen.id] = token, numa or 0
            raise
        if held is not None:
            self._take(held, numa or 0, here.spare, now.mono)

    def _take(self, held: Held, numa: int, spare: Headroom, now: float) -> None:
        id = held.help.id
        log.info(f"help {id}: claimed by this host (fence {held.fence}): {held.help.why}")
        self.helping = rules.held(self.helping, numa)
        if self._rules.mode is not Mode.HOOK or self._rules.hook is None:
            self._mine[id] = _Claimed(held, numa, Ending(Result.DONE, rules.offer(self.host, numa, spare)))
            return
        self._mine[id] = _Claimed(held, numa)
        ending = self._hooks.start(self._rules.hook, held, numa, now)
        self._mine[id] = _Claimed(held, numa, ending)

    def _settle(self, now: Moment) -> None:
        """Find out what became of claims that were not answered; tell the store how the others ended."""
        for id, (token, numa) in list(self._doubtful.items()):
            held = self._claims.resolve(id, token)
            del self._doubtful[id]
            if held is not None:  # what was to be done for it is not known any more to be right
                self.helping = rules.held(self.helping, numa)
                self._mine[id] = _Claimed(held, numa, Ending(Result.GIVEN_BACK, "the store answered too late"))
        for id, one in list(self._mine.items()):
            if one.ending is not None:
                self._end(id, one, one.ending, now)

    def _end(self, id: str, one: _Claimed, ending: Ending, now: Moment) -> None:
        self._mine[id] = one._replace(unsure=True)  # until it is answered
        if one.unsure and self._claims.is_done(one.held):
            kept = True
        elif ending.result is Result.DONE:
            kept = self._claims.complete(one.held, ending.words, now.wall_ms)
        else:
            kept = self._claims.give_back(one.held, ending.words)
        del self._mine[id]
        given_back = ending.result is Result.GIVEN_BACK
        self.helping = rules.ended(self.helping, one.numa, id, now.mono, given_back=given_back)
        words = ending.words if kept else f"not this host's any more: {ending.words}"
        self._say(f"end {ending.result.name}", f"help {id}: {ending.result.value}: {words}", now.mono, bad=not kept)
        self._claims.prune()

    def _sweep(self, now: float) -> None:
        if now - self._strays_at < STRAYS_EVERY:
            return
        self._strays_at = now
        known = {one.held.tok for one in self._mine.values()} | {token for token, _ in self._doubtful.values()}
        for id, token in self._claims.strays(known):
            log.warn(f"help {id}: a claim of this host that nobody works on: released")
            self._claims.release(id, token)

    def _say(self, kind: str, text: str, now: float, *, bad: bool) -> None:
        if line := self._repeats.line(kind, text, now):
            (log.warn if bad else log.info)(line)
