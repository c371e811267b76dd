# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive fleet status|show|watch|help|forget`: what ZooKeeper has of the fleet, for people and scripts."""

from __future__ import annotations

import argparse
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ovs_keepalive.beat import moment
from ovs_keepalive.command_line import UNHEALTHY, UNREACHABLE, USAGE, WELL, Problem
from ovs_keepalive.config_sections import Fleet as Section
from ovs_keepalive.core import fleet_view
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import QUIET, Help, parts_of
from ovs_keepalive.core.fleet_view import Fleet, Request, Sight, worst_first
from ovs_keepalive.fleet import members, watch
from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.session import Options, Session
from ovs_keepalive.fleet.store import Link, Refused, Unreachable, Why
from ovs_keepalive.fleet.tree import Tree
from ovs_keepalive.fleet_access import own_name, tree
from ovs_keepalive.fleet_source import Following
from ovs_keepalive.formats import fleet as documents
from ovs_keepalive.formats import fleet_tables
from ovs_keepalive.formats.plain import json_text, one_line

PATIENCE = 10.0  # seconds for a connection
LAST_DONE = 10  # records that `help list` shows
LOOK = 1.0  # seconds between two looks at whether `watch` can still print


def run(words: argparse.Namespace, section: Section, access: Options, out: TextIO) -> int:
    """One of the verbs. Raises Problem."""
    try:
        if words.action == "watch":
            return _watch(words, access, out)
        with _session(access) as session:
            return VERBS[words.action](_Room(words, section, session, out))
    except Unreachable as error:
        raise Problem(f"fleet: {error}", UNREACHABLE) from error
    except Refused as error:
        raise Problem(f"fleet: {error}: ask whoever administers the fleet", USAGE) from error
    except ValueError as error:
        raise Problem(f"fleet {words.action}: {error}", USAGE) from error


class _Room:
    """What every verb works with."""

    def __init__(self, words: argparse.Namespace, section: Section, session: Session, out: TextIO) -> None:
        self.words, self.section, self.session, self.out = words, section, session, out
        self.now_ms = moment().wall_ms

    @property
    def tree(self) -> Tree:
        """The one cell that the verb is for."""
        return tree(self.section, self.words.cell)

    @property
    def claims(self) -> Claims:
        return Claims(self.session, self.tree, own_name(self.section))

    def read(self, cells: Sequence[str]) -> Fleet:
        """These cells as they are now."""
        found = [watch.read_cell(self.session, tree(self.section, cell)) for cell in cells]
        store = fleet_view.Store(self.session.link)
        return fleet_view.picture(found, store, moment(), Fleet(store), self.now_ms)

    def say(self, line: str) -> None:
        print(one_line(line), file=self.out)


@contextmanager
def _session(access: Options) -> Iterator[Session]:
    """A connected one. Raises Unreachable, ValueError."""
    rung = threading.Event()
    session = Session(access, lambda: moment().mono, rung.set)
    session.start()
    try:
        until = moment().mono + PATIENCE
        while session.link is not Link.CONNECTED:
            if not rung.wait(max(0.0, until - moment().mono)):
                why = session.problem or "no answer"
                raise Unreachable(f"no connection to {access.servers} within {PATIENCE:g} s: {why}")
            rung.clear()
        yield session
    finally:
        session.stop(1.0)


def _status(room: _Room) -> int:
    cells = (room.words.cell,) if room.words.cell else watch.cells(room.session)
    seen = room.read(cells)
    sights = worst_first(one for one in seen.sights.values() if room.words.state in (None, one.state))
    if room.words.json:
        room.out.write(json_text(fleet_tables.status_document(sights, seen.requests, seen.problems, room.now_ms)))
    else:
        room.out.write(fleet_tables.status(sights, seen.requests, seen.problems, room.now_ms))
    if not seen.sights:
        where = f"cell {room.words.cell}" if room.words.cell else "any cell"
        cure = "start ovs-keepalive-fleet on the hosts, or ask another fleet or cell"
        servers = room.session.options.servers
        raise Problem(one_line(f"fleet: no host is in {where} of the fleet at {servers}: {cure}"), UNHEALTHY)
    return _judged(seen.sights.values())


def _judged(sights: Iterable[Sight]) -> int:
    return WELL if all(one.state in QUIET for one in sights) else UNHEALTHY


def _show(room: _Room) -> int:
    host = documents.host_name(room.words.host)
    cell = room.tree.cell
    seen = room.read([cell])
    sight = seen.sights.get((cell, host))
    if sight is None:
        raise ValueError(f"{short(one_line(host))}: no such host is known in cell {cell}: see fleet status")
    asking = [one for one in seen.requests if one.help.host == host]
    if room.words.json:
        said = {**fleet_tables.host_document(sight), "requests": [fleet_tables.request_document(one) for one in asking]}
        room.out.write(json_text(said))
    else:
        room.out.write(fleet_tables.host(sight, asking, room.now_ms))
    return _judged([sight])


def _help(room: _Room) -> int:
    what, words = room.words.what, room.words.words
    wanted = {"list": 0, "post": 2, "cancel": 1, "clear": 1}[what]
    if len(words) != wanted:
        raise ValueError(f"help {what}: {wanted} words follow it, not {len(words)}: see --help")
    match what:
        case "post":
            return _post(room, *words)
        case "cancel":
            return _change(room, words[0], lambda one, version: room.claims.withdraw(one.id, version), "taken back")
        case "clear":
            return _change(room, words[0], lambda one, version: room.claims.clear(one, version, "cleared"), "cleared")
    return _list(room)


def _list(room: _Room) -> int:
    found, problems = watch.asked(room.session, room.tree)
    requests = [Request(room.tree.cell, one.help, one.claim) for _, one in sorted(found.items())]
    done = room.claims.records()[-LAST_DONE:]
    if room.words.json:
        listed = [fleet_tables.request_document(one) for one in requests]
        room.out.write(json_text({"requests": listed, "done": [one._asdict() for one in done], "problems": problems}))
        return WELL
    room.out.write(fleet_tables.asked(requests, done, room.now_ms))
    for line in fleet_tables.unreadable(problems):
        room.say(line)
    return WELL


def _post(room: _Room, kind: str, why: str) -> int:
    host = own_name(room.section) if room.words.node is None else documents.host_name(room.words.node)
    request = Help(host, documents.kind_name(kind), why, room.now_ms)
    try:
        is_new = room.claims.post(request)
    except Refused as refused:
        if refused.why is Why.ABSENT:
            raise ValueError(f"{room.tree.cell}: there is no such cell: see fleet status") from refused
        raise
    if not is_new:
        raise ValueError(f"{request.id}: is asked for already: fleet help list")
    room.say(f"{request.id}: asked for; to take it back: ovs-keepalive fleet help cancel {request.id}")
    return WELL


def _change(room: _Room, id: str, change: Callable[[Help, int], bool], done: str) -> int:
    parts_of(id)
    found = room.claims.requests().get(id)
    if found is None:
        raise ValueError(f"{short(one_line(id))}: there is no such request: fleet help list")
    if not change(*found):
        raise ValueError(f"{id}: was changed meanwhile: look at it, and try again")
    room.say(f"{id}: {done}")
    return WELL


def _forget(room: _Room) -> int:
    """The host, and what it asked for."""
    host = documents.host_name(room.words.host)
    members.forget(room.session, room.tree, host)
    for id, (one, version) in room.claims.requests().items():
        if one.host == host:
            room.claims.withdraw(id, version)
    room.say(f"{host}: forgotten")
    return WELL


def _watch(words: argparse.Namespace, access: Options, out: TextIO) -> int:
    """A line a change, until somebody ends it, or nobody reads it any more."""
    seen: list[Fleet] = []
    failed: list[OSError] = []

    def tell(now: Fleet) -> None:
        try:
            show(now)
        except OSError as error:  # of another thread than the one that ends this program
            failed.append(error)

    def show(now: Fleet) -> None:
        if now.read.mono and not seen:
            out.write(f"{fleet_tables.summary(now.sights.values())}\n")
        lines = fleet_view.events(seen[0], now, moment().wall_ms) if seen else ()
        out.writelines(f"{fleet_tables.event(one)}\n" for one in lines)
        out.flush()
        if now.read.mono:
            seen[:] = [now]

    following = Following(access, (words.cell,) if words.cell else ())
    following.start(tell)
    poll = select.poll()
    poll.register(out.fileno(), 0)  # POLLERR: whoever read it is gone
    try:
        while not failed and not poll.poll(LOOK * 1000):
            pass
    finally:
        following.close()
    for error in failed:
        raise error
    return WELL


VERBS: dict[str, Callable[[_Room], int]] = {"status": _status, "show": _show, "help": _help, "forget": _forget}
