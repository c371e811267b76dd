# SPDX-License-Identifier: Apache-2.0
"""Moves flows between hardware and software, one at a time: looks before, writes, looks after, mends. No policy.

vswitchd answers "No such file or directory" to what it has done, since of many PMD threads the last one counts: nothing
that it answers to a write is believed, but what it shows afterwards. Actions are written that the OpenFlow tables may
have changed a moment before, and vswitchd would not notice; so after each write the tables are asked (`ofproto/trace`).

The order of a round: `examine`, SETTLE seconds, `act` for each move, a while, `look_again`, `replay`. It waits up to
PATIENCE for each answer: it belongs into a process of its own, never into the daemon's main loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovs_keepalive.core import offload_act
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.model import Moment, ProcessId
from ovs_keepalive.core.offload import Hardware, Move
from ovs_keepalive.core.offload_act import (
    REMOVED,
    REPAIRED,
    REPLAYED,
    SETTLE,
    SUSPECT,
    WRITTEN,
    Anomaly,
    Counters,
    Entry,
    Examined,
    Kind,
    Outcome,
    Reading,
    Reinstall,
    Result,
)
from ovs_keepalive.formats import one_flow
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.trace import datapath_numbers
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused
from ovs_keepalive.sensors.offload_journal import Journal, Unwritten

PATIENCE = 2.0  # seconds for an answer
REPAIRS = 2  # times that actions are written anew before the flow is taken away
GONE = "gone"


class Writer:
    """Of one vswitchd process. Its methods raise NoAnswer, `replay` also Unwritten; `act` neither."""

    def __init__(
        self,
        client: AppctlClient,
        process: ProcessId,
        journal: Journal,
        reinstall: Reinstall = Reinstall.VSWITCHD,
        settle: float = SETTLE,
    ) -> None:
        """client: a connection to that process, for this alone. settle: seconds, twice its max-revalidator at least."""
        self._client = client
        self._process = process
        self._journal = journal
        self._reinstall = reinstall
        self._settle = settle
        self._datapath = ""
        self._names: dict[str, int] = {}

    def gate(self) -> str:
        """Why no flow of this vswitchd may be moved; "" if flows may be. To be asked first."""
        try:
            version = one_flow.version(self._ask("version"))
            datapaths = tuple(self._ask("dpctl/dump-dps").split())
        except Refused as error:
            return short(one_line(f"vswitchd does not tell its datapaths: {error}"))
        why = offload_act.gate(version, datapaths)
        self._datapath = "" if why else datapaths[0]
        return why

    def examine(self, moves: Sequence[Move], now: Moment) -> list[Examined | Outcome]:
        """The look before, of each move; an outcome for one that must not be made. Writes nothing."""
        if not self._datapath:
            return [Outcome(move, now, Result.SKIPPED, "no flow of this vswitchd may be moved") for move in moves]
        self._names = datapath_numbers(self._ask("dpif/show"))
        return [self._examine(move, now) for move in moves]

    def act(self, examined: Examined, now: Moment) -> Outcome:
        """Make a move. Never raises: what went wrong is in the outcome."""
        move = examined.move
        try:
            return self._act(examined, now)
        except NoAnswer as error:
            anomaly = Anomaly(Kind.SILENT, move.victim or move.promoted, one_line(str(error)))
        except Unwritten as error:
            anomaly = Anomaly(Kind.JOURNAL, move.victim, one_line(str(error)))
        return Outcome(move, now, Result.FAILED, anomaly.why, anomalies=(anomaly,))

    def look_again(self, outcome: Outcome) -> Outcome:
        """The same move a while later: hardware may take its time, and what was removed may have come back."""
        if outcome.result not in (Result.PROMOTED, Result.REFUSED):
            return outcome
        promoted = self._read(outcome.move.promoted)
        victim = self._read(outcome.move.victim) if outcome.move.victim else None
        took = promoted is not None and bool(promoted.hardware)
        result, why = (Result.PROMOTED, "") if took else (Result.REFUSED, outcome.why or "it did not stay in hardware")
        lost: tuple[Anomaly, ...] = ()
        if self._reinstall is Reinstall.OURS and outcome.move.victim and victim is None and not outcome.repaired:
            lost = (Anomaly(Kind.LOST, outcome.move.victim, "it was put back, and is gone"),)
            result, why = Result.FAILED, lost[0].why
        after = (_word(promoted), _word(victim) if outcome.move.victim else "")
        return outcome._replace(result=result, why=why, after=after, anomalies=outcome.anomalies + lost)

    @property
    def unfinished(self) -> int:
        """Entries of the journal that replay() still has to make good."""
        return len(self._journal.open)

    def counters(self) -> Counters:
        """What vswitchd counts; up to a second old."""
        names = ("handler_duplicate_upcall", "rev_flow_table")
        return Counters(*(self._counter(name) for name in names))

    def replay(self, now: Moment) -> list[str]:
        """Make good what is open in the journal, of another daemon too: a line each of what was done.

        What was removed is put back if the OpenFlow tables still say what was noted; never what was noted alone.
        What was repaired is looked at again when it has settled. To be called at the start, after each round, and
        before the end until `unfinished` is 0.
        """
        told: list[str] = []
        if not self._datapath or not self._journal.open:
            return told
        self._names = datapath_numbers(self._ask("dpif/show"))
        for entry in tuple(self._journal.open.values()):
            line = self._make_good(entry, now)
            if line:
                told.append(f"flow {entry.ufid}: {line}")
                self._journal.end(entry.number)
        return told

    # --- the look before -----------------------------------------------------------------------

    def _examine(self, move: Move, now: Moment) -> Examined | Outcome:
        promoted = self._traced(self._read(move.promoted))
        victim = self._traced(self._read(move.victim)) if move.victim else None
        before = (_word(promoted), _word(victim) if move.victim else "")
        for name, ufid, reading in (("promoted", move.promoted, promoted), ("victim", move.victim, victim)):
            if not ufid:
                continue
            why = "it cannot be read, or is gone" if reading is None else offload_act.objection(reading)
            if not why and reading is not None and bool(reading.hardware) is (name == "promoted"):
                why = "already in hardware" if reading.hardware else "not in hardware"
            if why:
                return Outcome(move, now, Result.SKIPPED, f"{name} flow {ufid}: {why}", before, before)
        if promoted is None:
            return Outcome(move, now, Result.SKIPPED, "no flow to promote", before, before)
        return Examined(move, now, promoted, victim)

    def _read(self, ufid: str) -> Reading | None:
        """A flow as it is now; None if there is none, or none that can be read."""
        word = f"ufid:{ufid}"
        try:
            bare = one_flow.shown(self._ask("dpctl/get-flow", self._datapath, word))
            whole = one_flow.shown(self._ask("dpctl/get-flow", "-m", word))  # no room for the datapath: there is one
        except Refused:
            return None
        if bare is None or whole is None:
            return None
        key = one_flow.numbered(whole.key, bare.key, self._names)
        return None if key is None else Reading(ufid, key, bare.actions, whole.packets, whole.hardware)

    def _traced(self, reading: Reading | None) -> Reading | None:
        """With what the OpenFlow tables say of it."""
        if reading is None:
            return None
        try:
            text = self._ask("ofproto/trace", self._datapath.partition("@")[2], reading.key)
        except Refused:  # its port is gone, say
            return reading
        verdict = one_flow.verdict(text)
        return reading if verdict is None else reading._replace(megaflow=verdict.megaflow, says=verdict.actions)

    # --- the move ------------------------------------------------------------------------------

    def _act(self, examined: Examined, now: Moment) -> Outcome:
        move, promoted, victim = examined.move, examined.promoted, examined.victim
        before = (_word(promoted), _word(victim) if victim else "")

        def skipped(why: str) -> Outcome:
            return Outcome(move, now, Result.SKIPPED, why, before, before)

        if why := offload_act.unsettled(examined, now, self._settle):
            return skipped(why)
        for reading in (promoted, victim):
            if reading is not None and (why := offload_act.changed(reading, self._read(reading.ufid))):
                return skipped(f"flow {reading.ufid}: {why}")
        entries = [] if victim is None else [self._entry(REMOVED, victim, now)]
        entries.append(self._entry(WRITTEN, promoted, now))
        numbers = self._journal.begin(*entries)
        why = self._swap(promoted, victim)
        outcome = self._after(examined, now, why)
        self._journal.end(*numbers)
        return outcome

    def _swap(self, promoted: Reading, victim: Reading | None) -> str:
        """All that is written; why the promoted flow's part was not, or did not help."""
        ours = victim is not None and self._reinstall is Reinstall.OURS
        if victim is not None:
            if ours and (why := self._write("mod-flow", victim, victim.actions)):
                return f"flow {victim.ufid} could not be put back: {why}"
            self._remove(victim.ufid)
            if self._read(victim.ufid) is not None:
                return f"flow {victim.ufid} cannot be removed"
        why = self._write("mod-flow", promoted, promoted.actions)
        if victim is not None and ours:
            self._write("add-flow", victim, victim.actions)
        return why

    def _after(self, examined: Examined, now: Moment, why: str) -> Outcome:
        """The look after: the flows, their actions, and what the tables say by now."""
        move, repaired = examined.move, 0
        anomalies: list[Anomaly] = []
        seen: dict[str, Reading | None] = {}
        for reading in (examined.promoted, examined.victim):
            if reading is None:
                continue
            added = reading is examined.victim and self._reinstall is Reinstall.OURS
            there, times, anomaly = self._verify(reading, now, suspicious=added)
            seen[reading.ufid] = there
            repaired += times
            if anomaly is not None:
                anomalies.append(anomaly)
        took, back = seen[move.promoted], seen.get(move.victim)
        before = (_word(examined.promoted), _word(examined.victim) if examined.victim else "")
        after = (_word(took), _word(back) if move.victim else "")
        if anomalies:
            result, why = Result.FAILED, anomalies[0].why
        elif why:
            result = Result.SKIPPED
        elif took is not None and took.hardware:
            result = Result.PROMOTED
        else:
            result, why = Result.REFUSED, "hardware did not take it" if took is not None else "it is gone"
        return Outcome(move, now, result, why, before, after, repaired, tuple(anomalies))

    def _verify(self, reading: Reading, now: Moment, suspicious: bool) -> tuple[Reading | None, int, Anomaly | None]:
        """A flow after a write, mended if the tables changed meanwhile; how often, and what could not be mended.

        suspicious: what it matches, too, was written, not only its actions.
        """
        times = 0
        while (there := self._traced(self._read(reading.ufid))) is not None:
            if suspicious and there.key == reading.key and there.megaflow != reading.megaflow:
                self._again(SUSPECT, reading, now)
            if there.says == there.actions:
                break
            self._again(REPAIRED, there, now)
            if not there.says or times == REPAIRS or self._write("mod-flow", there, there.says):
                self._remove(reading.ufid)
                why = f"its actions were {there.actions}, by the tables {there.says or 'none'}: it was removed"
                return None, times, Anomaly(Kind.STALE, reading.ufid, why)
            times += 1
        return there, times, None

    def _again(self, kind: str, reading: Reading, now: Moment) -> None:
        """Have it looked at once more when it has settled."""
        known = {(entry.kind, entry.ufid, entry.mono) for entry in self._journal.open.values()}
        if (kind, reading.ufid, now.mono) not in known:
            self._journal.begin(self._entry(kind, reading, now))

    # --- the journal ---------------------------------------------------------------------------

    def _make_good(self, entry: Entry, now: Moment) -> str:
        """What was done for it; "" if it is to be looked at again."""
        if entry.process != self._process or entry.datapath != self._datapath:
            return "of another vswitchd, or another datapath: nothing to do"
        age = now.mono - entry.mono
        late = entry.kind in (REPAIRED, SUSPECT)
        if late and 0 <= age < self._settle:
            return ""
        there = self._traced(self._read(entry.ufid))
        if late:
            return self._settled(entry, there, now)
        if there is not None:
            reading = Reading(entry.ufid, entry.key, entry.actions, 0, Hardware.NONE, entry.megaflow, entry.actions)
            _, times, anomaly = self._verify(reading, now, suspicious=entry.kind == REMOVED)
            return anomaly.why if anomaly else "is there" + (", its actions written anew" if times else "")
        if entry.kind == WRITTEN:
            return "gone"
        if not 0 <= age <= REPLAYED:
            return f"removed {age:.0f} s ago: vswitchd puts it back when a packet comes"
        return self._put_back(entry, now)

    def _settled(self, entry: Entry, there: Reading | None, now: Moment) -> str:
        """Of what was repaired, once the revalidators have seen it: what they left as it is they hold to be right."""
        if there is None:
            return "gone"
        if entry.kind == SUSPECT and there.key == entry.key and there.megaflow != entry.megaflow:
            self._remove(entry.ufid)
            return "it may match too much: removed, vswitchd puts it back when a packet comes"
        if there.says == there.actions:
            return "as the tables say"
        self._again(entry.kind, there, now)
        if not there.says or self._write("mod-flow", there, there.says):
            self._remove(entry.ufid)
        return f"its actions were {there.actions}, by the tables {there.says or 'none'}: written anew"

    def _put_back(self, entry: Entry, now: Moment) -> str:
        lost = Reading(entry.ufid, entry.key, entry.actions, 0, Hardware.NONE)
        by_tables = self._traced(lost)
        if by_tables is None or (by_tables.megaflow, by_tables.says) != (entry.megaflow, entry.actions):
            return "the tables say something else by now: vswitchd puts it back when a packet comes"
        self._write("add-flow", lost, entry.actions)
        there, _, anomaly = self._verify(by_tables, now, suspicious=True)
        if anomaly is not None:
            return anomaly.why
        return "put back" if there is not None else "it could not be put back: vswitchd does when a packet comes"

    def _entry(self, kind: str, reading: Reading, now: Moment) -> Entry:
        return Entry(
            0, kind, self._process, now.mono, self._datapath, reading.ufid, reading.key, reading.actions,
            reading.megaflow,
        )  # fmt: skip

    # --- what is said to vswitchd --------------------------------------------------------------

    def _write(self, how: str, reading: Reading, actions: str) -> str:
        """Why vswitchd could not read it; "" says no more than that it could."""
        try:
            self._ask(f"dpctl/{how}", self._datapath, f"ufid:{reading.ufid},{reading.key}", actions)
        except Refused as error:
            return "" if one_flow.was_read(str(error)) else short(one_line(str(error)))
        return ""

    def _remove(self, ufid: str) -> None:
        try:
            self._ask("dpctl/del-flow", self._datapath, f"ufid:{ufid}")
        except Refused:  # says nothing: the next look does
            return

    def _counter(self, name: str) -> int:
        try:
            return one_flow.counter(self._ask("coverage/read-counter", name))
        except Refused:  # of a vswitchd that has no such counter
            return 0

    def _ask(self, method: str, *arguments: str) -> str:
        self._client.ask(method, *arguments)
        try:
            return self._client.wait(PATIENCE)
        except NoAnswer:
            self._client.close()  # what may yet come is no answer to anything that follows
            raise


def _word(reading: Reading | None) -> str:
    """For the history."""
    return GONE if reading is None else reading.hardware.value
