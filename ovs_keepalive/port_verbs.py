# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive ports add|del|migrate|path`: looks at everything first, changes one thing in one transaction, verifies
it, and takes it back if that fails. It acts only when a person calls it; each change is told in the database's log.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ovs_keepalive import dirs, port_path
from ovs_keepalive.core import places, port_plan
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.places import Account, Place
from ovs_keepalive.core.port_plan import CLIENT, PATH_OPTION, SERVER, Iface, Switch, Wish, first_objection
from ovs_keepalive.formats import pmd_rxq, vm_lines
from ovs_keepalive.formats.plain import lines, one_line
from ovs_keepalive.formats.trace import datapath_numbers
from ovs_keepalive.port_ask import Refused, Vswitchd
from ovs_keepalive.publishers import schema
from ovs_keepalive.publishers.switch_db import NotDone, SwitchDb
from ovs_keepalive.sensors import places as files
from ovs_keepalive.sensors.openflow import COOKIE, NORMAL, NoFlows, Ofctl

POLLED = 5.0  # seconds for a PMD to take a new port over
TAKEN_BACK = 5.0  # seconds for vswitchd to see what is taken back
PAUSE = 0.1  # seconds between two looks whether one has


class Failed(Exception):
    """It was tried, and verified to be no good: one line why, and what is left of it."""


TROUBLE = (Failed, NotDone, NoFlows, Refused)  # after a change: it is taken back


def run(options: argparse.Namespace, remote: str, pidfile: Path | None, out: TextIO) -> int:
    """One verb; the exit status: 0 done, 1 tried in vain (or: does not reach), 2 refused, 3 not to be reached."""
    try:
        with _ended_by_signals(), _database(remote) as db:
            vswitchd = Vswitchd(dirs.rundir(), pidfile)
            match options.action:
                case "add":
                    _add(_Room(db, vswitchd, out), options)
                case "del":
                    _delete(_Room(db, vswitchd, out), options)
                case "migrate":
                    _migrate(_Room(db, vswitchd, out), options)
                case _:
                    return 0 if port_path.tell(db.switch(), vswitchd, options, out) else 1
    except Refused as error:
        return _complain(options, error, error.status)
    except schema.Failed as error:
        return _complain(options, error, 2 if isinstance(error, schema.RemoteError) else 3)
    except (Failed, NotDone, NoFlows) as error:
        return _complain(options, error, 1)
    return 0


def _complain(options: argparse.Namespace, error: Exception, status: int) -> int:
    print(one_line(f"ovs-keepalive: ports {options.action}: {error}"), file=sys.stderr)
    return status


@contextmanager
def _database(remote: str) -> Iterator[SwitchDb]:
    db = SwitchDb(remote)
    try:
        yield db
    finally:
        db.close()


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: what is half done is taken back."""
    before = [signal.signal(number, signal.default_int_handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """They wait: it is known afterwards whether this was done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Room:
    """What each verb works with."""

    def __init__(self, db: SwitchDb, vswitchd: Vswitchd, out: TextIO) -> None:
        self.db = db
        self.vswitchd = vswitchd
        self._out = out

    def say(self, line: str) -> None:
        """To whoever called it."""
        print(one_line(line), file=self._out)

    def show(self, title: str, text: str) -> None:
        """Lines to copy."""
        print(f"\n{title}\n{lines(text)}", file=self._out)

    def flows(self, bridge: str) -> Ofctl:
        """Those of a bridge."""
        return Ofctl(self.vswitchd.rundir, bridge)


# --- add ------------------------------------------------------------------------------------------


def _add(room: _Room, options: argparse.Namespace) -> None:
    wish = Wish(
        options.name,
        options.bridge,
        options.path,
        options.server,
        options.ofport,
        options.queues,
        options.normal_flow,
        options.force,
    )
    switch = room.db.switch()
    _refuse(first_objection(port_plan.BEFORE_ADD, wish, switch))
    vm = _vm_user(options.vm_user)
    room.vswitchd.check(wish.force, room.say)
    if wish.server:
        socket = f"{_socket_directory(room, switch)}/{wish.name}"
        _refuse(places.objection_to_server(files.look(socket), vm))
    else:
        wish = _with_client_path(room, wish, switch, vm)
        socket = wish.path
    if wish.normal_flow:
        _check_default_flow(room.flows(wish.bridge), wish.bridge)
    iface = _make(room, wish, options.keep)
    kind = SERVER if wish.server else CLIENT
    room.say(f"added {iface.name} to {wish.bridge}: {kind}, ofport {iface.ofport}, verified")
    if wish.server:
        _warn_of_server(room, wish, files.socket_file(socket), vm)
    _tell_vm(room, vm_lines.Socket(wish.name, socket, not wish.server, wish.queues), vm)
    room.say(f"To undo it: ovs-keepalive ports del {wish.name}")


def _make(room: _Room, wish: Wish, keep: bool) -> Iface:
    """Add it, and verify; whatever ends this before it is verified takes it back."""
    flows, with_flow = room.flows(wish.bridge), False

    def add() -> int:
        return room.db.add(wish, f"ports add {wish.bridge} {wish.name} {wish.path}".rstrip())

    def back(error: BaseException) -> str:
        if keep and isinstance(error, TROUBLE):
            return f"{wish.name} is kept: ovs-keepalive ports del {wish.name}"
        return _taken_back(room, wish.name, flows if with_flow else None)

    with _changed(add, back) as number:
        iface = _verified(room, wish.name, number, wish.ofport)
        with_flow = wish.normal_flow and not flows.default()
        if with_flow:  # before it is there: to take back what is not costs nothing
            flows.add_normal()
            room.say(f"added a flow to {wish.bridge}: {NORMAL}; it goes when vswitchd crashes: OpenFlow is not stored")
        _verify_flow(room, wish, flows, iface.ofport or 0)
    return iface


@contextmanager
def _changed(change: Callable[[], int], back: Callable[[BaseException], str]) -> Iterator[int]:
    """Make a change; what ends this block before its end takes it back. Raises Failed instead of TROUBLE.

    change: gives its number; back: what was done instead, in words.
    """
    made = False
    try:
        with _undisturbed():
            number = change()
            made = True
        yield number
    except BaseException as error:
        if not made:
            raise
        with _undisturbed():
            left = back(error)
        if isinstance(error, TROUBLE):
            raise Failed(f"{error}; {left}") from error
        raise


def _taken_back(room: _Room, name: str, flows: Ofctl | None) -> str:
    """Leave nothing of it; what came of that, in words."""
    left = []
    try:
        if flows is not None:
            flows.take_back_normal()
    except NoFlows as error:
        left.append(f"its flow could not be taken back ({error}): ovs-ofctl del-flows with cookie={COOKIE:#x}/-1")
    try:
        number = room.db.delete(name, f"takes back ports add {name}", whatever=True)
    except NotDone as error:
        return "; ".join([*left, f"it could not be taken back ({error}): ovs-vsctl del-port {name}"])
    return "; ".join([*left, _taken_up(room, number, f"{name} is taken back")])


def _taken_up(room: _Room, number: int, done: str) -> str:
    """What was done, and if vswitchd has not taken it up, that too."""
    try:
        room.db.configured(number, TAKEN_BACK)
    except NotDone:
        return f"{done}, which vswitchd has not taken up within {TAKEN_BACK:g} s"
    return done


def _verified(room: _Room, name: str, number: int, ofport: int | None) -> Iface:
    """The port as vswitchd made it, under that number if one is given, once a PMD polls it. Raises Failed, NotDone."""
    room.db.configured(number)
    iface = room.db.interface(name)
    if iface is None:
        raise Failed(f"{name}: vanished from the database meanwhile")
    if iface.error or iface.ofport is None or iface.ofport < 1:
        why = iface.error or f"ofport {iface.ofport}"
        raise Failed(f"{name}: vswitchd could not open it: {why}; its log tells more")
    if ofport not in (None, iface.ofport):
        raise Failed(f"{name}: vswitchd gave it ofport {iface.ofport} instead of {ofport}: flows would miss it")
    deadline = time.monotonic() + POLLED
    while not (cores := _cores(room.vswitchd, name)):
        if time.monotonic() >= deadline:
            raise Failed(f"{name}: no PMD polls it within {POLLED:g} s: check other_config:pmd-cpu-mask")
        time.sleep(PAUSE)
    room.say(f"{name}: vswitchd has opened it; polled by the PMD on core {', '.join(map(str, cores))}")
    return iface


def _cores(vswitchd: Vswitchd, name: str) -> list[int]:
    """The cores whose PMDs poll the port."""
    pmds = pmd_rxq.parse(vswitchd.ask("dpif-netdev/pmd-rxq-show"))
    return sorted({pmd.core for pmd in pmds for rxq in pmd.rxqs if rxq.port == name})


def _verify_flow(room: _Room, wish: Wish, flows: Ofctl, ofport: int) -> None:
    """Some flow has to be able to lead to it; on a controller's bridge that is the controller's to see to."""
    ways = flows.leading_to(ofport)
    if ways:
        room.say(f"{wish.name}: flows lead to it: {', '.join(ways)}")
        return
    cure = f"add it with --normal-flow, or with --ofport N after a flow to N, or --keep it; {wish.bridge} has none"
    if not wish.force:
        raise Failed(f"{wish.name}: no flow of {wish.bridge} outputs to port {ofport}: {cure}")
    room.say(f"warning: no flow of {wish.bridge} outputs to port {ofport} yet")


def _check_default_flow(flows: Ofctl, bridge: str) -> None:
    try:
        default = flows.default()
    except NoFlows as error:
        raise Refused(str(error), 3) from error
    if default and not default.endswith("actions=NORMAL"):
        raise Refused(f"--normal-flow: {bridge} has another flow in its place, {short(default)}: change that one")


def _warn_of_server(room: _Room, wish: Wish, socket: places.Entry | None, vm: Account) -> None:
    warning = (
        f"warning: {SERVER} is deprecated: when vswitchd crashes, or restarts while the VM does not reconnect, the"
    )
    print(f"{warning} VM is stranded until it is restarted: ovs-keepalive ports migrate {wish.name}", file=sys.stderr)
    if socket is not None and places.shut_to(socket, vm):
        room.say(
            f"warning: permission: {socket.path} has mode {socket.mode:04o}: {vm.name} may not connect:"
            f" chown {vm.name} {socket.path}, again after each start of vswitchd"
        )


# --- del ------------------------------------------------------------------------------------------


def _delete(room: _Room, options: argparse.Namespace) -> None:
    wish = Wish(options.name, force=options.force)
    switch = room.db.switch()
    _refuse(first_objection(port_plan.BEFORE_DEL, wish, switch))
    room.vswitchd.check(wish.force, room.say)
    found = switch.find(wish.name)
    assert found is not None  # noqa: S101 -- else refused
    bridge, [iface] = found[0], found[1].interfaces
    number = room.db.delete(wish.name, f"ports del {wish.name}", whatever=wish.force)
    room.db.configured(number)
    if wish.name in datapath_numbers(room.vswitchd.ask("dpif/show")):
        raise Failed(f"{wish.name}: is out of the database, but vswitchd has it still: see its log")
    room.say(f"took {wish.name} off {bridge.name}")
    again = ["ovs-keepalive", "ports", "add", bridge.name, wish.name]
    again += ["--server"] if iface.type == SERVER else ["--path", iface.options.get(PATH_OPTION, "PATH")]
    again += ["--ofport", str(iface.ofport)] if (iface.ofport or 0) > 0 else []
    room.say(f"To undo it: {shlex.join(again)}")


# --- migrate --------------------------------------------------------------------------------------


def _migrate(room: _Room, options: argparse.Namespace) -> None:
    wish = Wish(options.name, path=options.path, queues=options.queues, force=options.force)
    switch = room.db.switch()
    _refuse(port_plan.bad_numbers(wish, switch) or first_objection(port_plan.BEFORE_MIGRATE, wish, switch))
    vm = _vm_user(options.vm_user)
    room.vswitchd.check(wish.force, room.say)
    wish = _with_client_path(room, wish, switch, vm)
    found = switch.find(wish.name)
    assert found is not None  # noqa: S101 -- else refused
    bridge, [before] = found[0], found[1].interfaces
    old = f"{_socket_directory(room, switch)}/{wish.name}"
    options_then = {**before.options, PATH_OPTION: wish.path}

    def change() -> int:
        return room.db.change(before, CLIENT, options_then, f"ports migrate {wish.name} {wish.path}")

    def back(_error: BaseException) -> str:
        return _restored(room, after=Iface(wish.name, CLIENT, options_then), before=before)

    with _changed(change, back) as number:
        after = _verified(room, wish.name, number, before.ofport if (before.ofport or 0) > 0 else None)
    room.say(f"migrated {wish.name} on {bridge.name}: {SERVER} is now {CLIENT}, ofport {after.ofport} as before")
    room.show("Change in the VM's definition, for libvirt, from", _source(old, server=False))
    room.show("to", _source(wish.path, server=True))
    _tell_vm(room, vm_lines.Socket(wish.name, wish.path, vm_is_server=True, queues=wish.queues), vm)
    room.say("Then shut the VM down and start it again: until then nothing is forwarded to it.")


def _source(path: str, *, server: bool) -> str:
    return f"  <source type='unix' path='{one_line(path)}' mode='{'server' if server else 'client'}'/>"


def _restored(room: _Room, *, after: Iface, before: Iface) -> str:
    try:
        number = room.db.change(after, before.type, before.options, f"takes back ports migrate {before.name}")
    except NotDone as error:
        return f"it could not be taken back ({error}): ovs-vsctl set Interface {before.name} type={before.type}"
    return _taken_up(room, number, f"{before.name} is a {before.type} port again")


# --- what several need ----------------------------------------------------------------------------


def _refuse(objection: str) -> None:
    if objection:
        raise Refused(objection)


def _vm_user(name: str | None) -> Account:
    try:
        return files.vm_user(name)
    except files.NoUser as error:
        raise Refused(str(error)) from error


def _with_client_path(room: _Room, wish: Wish, switch: Switch, vm: Account) -> Wish:
    """The wish with the socket's path, checked."""
    usual = places.USUAL if files.is_directory(places.USUAL) else _socket_directory(room, switch)
    path = wish.path or f"{usual}/{wish.name}.sock"
    wish = wish._replace(path=path)
    _refuse(first_objection(port_plan.OF_PATH, wish, switch))
    place = files.look(path)
    _refuse(places.objection_to_client(place, vm, room.vswitchd.account()))
    _tell_unjudged(room, place)
    return wish


def _socket_directory(room: _Room, switch: Switch) -> str:
    return places.socket_directory(switch.other_config, str(room.vswitchd.rundir))


def _tell_unjudged(room: _Room, place: Place) -> None:
    for directory in places.unjudged(place):
        room.say(f"not judged: {directory} has an access control list: getfacl {directory}")


def _tell_vm(room: _Room, socket: vm_lines.Socket, vm: Account) -> None:
    role = "makes it, as its server" if socket.vm_is_server else "connects to it, as its client"
    room.say(f"socket: {socket.path}; the VM {role}, as the user {vm.name} ({vm.source})")
    room.show("For libvirt, in <devices>:", vm_lines.libvirt(socket))
    room.show("and in <domain>, once:", vm_lines.libvirt_memory())
    room.show("For QEMU:", f"{vm_lines.qemu(socket)}\n{vm_lines.qemu_memory()}\n")
