# SPDX-License-Identifier: Apache-2.0
"""The child process that writes one black-box record: `python -m ovs_keepalive.collector < request`.

What memory alone knows (the looks, the rxqs) is on disk first; then it collects, and the record takes that one's place.
Neither its GIL nor its disk is the daemon's.
"""

from __future__ import annotations

import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ovs_keepalive import dirs, records
from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import ProcessId, Seen
from ovs_keepalive.formats.incident import Head, Section
from ovs_keepalive.sensors import evidence
from ovs_keepalive.sensors.core_users import core_users
from ovs_keepalive.sensors.vswitchd import VswitchdSensor

DEADLINE = 20  # seconds for the whole; what is not there by then is not waited for
SAMPLE = 100  # ms between the two samples of who runs on the cores
DATABASE = 3.0  # seconds for its answer

TABLES = {  # what is asked of the database
    "Open_vSwitch": ["ovs_version", "dpdk_version", "db_version", "cur_cfg", "next_cfg", "other_config"],
    "Bridge": ["name", "datapath_type", "fail_mode", "ports"],
    "Port": ["_uuid", "name", "tag", "bond_mode", "interfaces"],
    "Interface": ["_uuid", "name", "type", "options", "error", "admin_state", "link_state", "ofport"],
}


class Request(msgspec.Struct, frozen=True):
    """What the daemon knows."""

    directory: str
    transition: dict[str, Any]  # as formats.document has it
    node: dict[str, Any]
    history: list[dict[str, Any]]
    looks: list[Any]
    fields: list[str]  # of a PMD in a look
    process: ProcessId | None  # the last vswitchd known
    cpus: list[int]  # of the stalled PMDs
    pidfile: str | None
    log: str | None
    remote: str


class CutShort(Exception):
    """The time is over, or the daemon ends."""


def main() -> int:
    """Collect and write. One line on stderr and 1 if nothing could be written."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    directory = Path(request.directory)
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _cut_short)
    sections = _remembered(request)
    try:
        records.clean(directory)
        head = _head(request, max(records.numbers(directory), default=0) + 1)
        records.write(directory, head, sections)
        note = ""
        try:
            signal.alarm(DEADLINE)
            for section in _collected(request):
                sections.append(section)
        except CutShort:
            note = f"cut short after {sections[-1].name}"
        finally:
            signal.alarm(0)
        records.write(directory, msgspec.structs.replace(head, complete=not note, note=note), sections)
    except OSError as error:
        print(f"{error.filename or directory}: {error.strerror}", file=sys.stderr)
        return 1
    except CutShort:  # while it wrote: what was there before stays
        return 1
    print(head.number)
    return 0


def _cut_short(_number: int, _frame: object) -> None:
    raise CutShort


def _head(request: Request, number: int) -> Head:
    what = request.transition
    return Head(
        number=number,
        at=what["at"],
        who=what["who"],
        old=what["from"],
        new=what["to"],
        cause=what["cause"],
        evidence=what["evidence"],
        complete=False,
        note="being written, or its collector was killed",
    )


def _remembered(request: Request) -> list[Section]:
    looks = {"fields": request.fields, "rows": request.looks}
    return [
        Section("node", request.node, "states, causes, rxqs and ports at that moment"),
        Section("history", request.history),
        Section("looks", looks, f"{len(request.looks)} of the last 60 s"),
    ]


def _collected(request: Request) -> Iterator[Section]:
    process = request.process
    if process is None:
        yield Section("threads", note="no vswitchd known")
    else:
        yield evidence.threads(process.pid)
    yield _attempt("cores", lambda: _cores(request))
    yield evidence.log_tail(Path(request.log) if request.log else None)
    given = Path(request.pidfile) if request.pidfile else None
    found, _ = VswitchdSensor(dirs.rundir(), given).look(moment())
    if isinstance(found, Seen) and found.value.id == process:
        yield from evidence.answers(found.value.control_socket)
    else:
        why = "another process by now" if isinstance(found, Seen) else found.why
        yield from (Section(method, note=f"not asked: {why}") for method in evidence.QUESTIONS)
    yield _attempt("database", lambda: _database(request.remote))


def _attempt(name: str, collect: Callable[[], Section]) -> Section:
    """The section, or why it is not there."""
    try:
        return collect()
    except (OSError, ValueError) as error:
        return Section(name, note=getattr(error, "strerror", None) or str(error))


def _cores(request: Request) -> Section:
    cpus = frozenset(request.cpus)
    if not cpus:
        return Section("cores", note="no PMD is stalled, or its CPUs are not known")

    def pause() -> None:
        select.select([], [], [], SAMPLE / 1000)

    users = [user._asdict() for user in core_users(cpus, pause)]
    return Section("cores", users, f"threads that ran on CPUs {sorted(cpus)} within {SAMPLE} ms")


def _database(remote: str) -> Section:
    # Only here: python-ovs costs 0.2 s, and is not needed for what goes away first.
    from ovs_keepalive.publishers import schema  # noqa: PLC0415

    asked = [{"op": "select", "table": table, "where": [], "columns": TABLES[table]} for table in TABLES]
    results = schema.call(remote, "transact", ["Open_vSwitch", *asked], DATABASE)
    if not isinstance(results, list):
        raise ValueError(f"{remote}: no answer to a transaction: is this the socket of ovsdb-server?")  # noqa: TRY004
    found = {}
    for table, result in zip(TABLES, results, strict=False):
        found[table] = result.get("rows", result) if isinstance(result, dict) else result
    return Section("database", found)


if __name__ == "__main__":
    sys.exit(main())
