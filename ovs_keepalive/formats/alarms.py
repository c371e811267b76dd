# SPDX-License-Identifier: Apache-2.0
"""What a subscriber of the two columns has to tell of them: each thing that got worse or well again, once.

Everything is told by difference to what was told last. So nothing that came and stayed is lost while the database was
away, and what is well from the beginning is not told at all. Time is an argument; one Watch belongs to one subscriber.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ovs_keepalive.core.model import Cause, Moment, State, VswitchdState
from ovs_keepalive.core.settings import Asked, read
from ovs_keepalive.formats.column import Pair, parse, told

CALM = 3.0  # seconds; a connection or PMD that is away for less is no news: a conversion takes 1 to 3
SETTLED = 10.0  # seconds for which a column may be absent: OVS's own scripts drop it, `schema: auto` puts it back
SHORTEST = 5.0  # seconds for which a beat may stand still, at least
UNPROVEN = 60.0  # seconds for which a pair may, where there is no beat (CONTRACT section 3)
MOST = 1000  # PMDs that went that are remembered
OVSDB, DAEMON, VSWITCHD = "ovsdb", "daemon", "vswitchd"  # things that are no PMD; no PMD is called so


class Severity(StrEnum):
    """How bad a thing stands."""

    OKAY = "okay"
    WARNING = "warning"
    FAILURE = "failure"


class Thing(NamedTuple):
    """What an alarm is about."""

    name: str  # a PMD's name in the column, or "vswitchd", "daemon", "ovsdb"
    aspect: str  # state, last_seen, beat, connection or columns


class Alarm(NamedTuple):
    """How a thing stands. It is told again when severity or word change."""

    severity: Severity
    word: str  # in a word; of a PMD its state
    text: str = ""  # the sentence; "" for what the word alone says
    facts: Mapping[str, str] = {}  # nobody writes to it


class Notice(NamedTuple):
    """One alarm to be told."""

    at: Moment
    thing: Thing
    alarm: Alarm
    previous: str  # the word told last; "" for none


class Content(NamedTuple):
    """What the database said in one update. None: the server has no such column."""

    keepalive: Mapping[str, str] | None
    detail: Mapping[str, str] | None
    other_config: Mapping[str, str]


class Link(NamedTuple):
    """How the subscription stands."""

    connected: bool
    remote: str
    why: str  # it is not connected; "" if nobody knows


NOTHING = Content(None, None, {})
SEVERITIES: Mapping[str, Severity] = {
    State.ALIVE: Severity.OKAY,
    State.SLEEP: Severity.OKAY,
    State.MISSING: Severity.WARNING,
    State.DEAD: Severity.FAILURE,
    State.GONE: Severity.FAILURE,
}
VSWITCHD_SEVERITIES: Mapping[str, Severity] = {
    VswitchdState.RUNNING: Severity.OKAY,
    VswitchdState.STARTING: Severity.WARNING,
    VswitchdState.RESTARTING: Severity.WARNING,
    VswitchdState.HUNG: Severity.FAILURE,
    VswitchdState.STOPPED: Severity.FAILURE,
    VswitchdState.GONE: Severity.FAILURE,
    VswitchdState.CRASH_LOOP: Severity.FAILURE,
}


class _Stood(NamedTuple):
    """A value, and since when it has stood still."""

    value: str
    since: float  # monotonic


class Watch:
    """Remembers what was told. take() each update in its order, then look() at each turn."""

    def __init__(self, refresh: float, now: Moment) -> None:
        """refresh: seconds between two writes of the daemon in which nothing is news, as its configuration says."""
        self.content = NOTHING
        self.pairs: dict[str, Pair] = {}  # of the present content, those that can be read
        self.asked = Asked()
        self._refresh = refresh
        self._news: list[Notice] = []
        self._told: dict[Thing, Alarm] = {}
        self._cores: dict[str, int] = {}  # of each PMD that was told; -1: not known
        self._away: dict[str, float] = {}  # those of them that have no pair: since when (monotonic)
        self._beat = _Stood("", now.mono)
        self._proven = False  # the beat has moved, or is no older than it may be
        self._stood: dict[str, _Stood] = {}  # last_seen of each pair
        self._connected = False
        self._turned = now.mono  # when it was connected or lost
        self._incomplete: float | None = None  # monotonic; since when a column is absent

    # --- what comes in -------------------------------------------------------------------------

    def take(self, content: Content, now: Moment) -> list[Notice]:
        """One update: what is to be told of it."""
        was, self.asked = self.asked, read(content.other_config, self.asked)
        self.content = content
        keepalive = {n: text for n, text in (content.keepalive or {}).items() if n not in (OVSDB, DAEMON, VSWITCHD)}
        self.pairs = {name: pair for name, text in keepalive.items() if (pair := _pair(text))}
        if not self.asked.enabled:
            self._forget(now)
            return self._told_now()
        if not was.enabled:
            self._begin(now)
        self._follow_beat(now)
        if self.watched:  # else what was told holds until somebody watches again, or the beat is stale
            if content.keepalive is not None:
                self._take_pmds(keepalive, content.detail or {}, now)
            if content.detail is not None and VSWITCHD in content.detail:
                self._tell(Thing(VSWITCHD, "state"), _vswitchd(content.detail[VSWITCHD]), now)
        return self._told_now()

    def look(self, link: Link, now: Moment) -> list[Notice]:
        """What is to be told because time has passed, or the connection changed."""
        if link.connected != self._connected:
            self._connected, self._turned = link.connected, now.mono
            if link.connected:
                self._begin(now)
        self._look_at_connection(link, now)
        if link.connected and self.asked.enabled:
            self._look_at_columns(link, now)
            if self.content.detail is not None:
                self._look_at_beat(now)
            elif self.content.keepalive is not None:
                self._look_at_pairs(now)
            if self.content.keepalive is not None and self.watched:
                self._look_at_the_absent(now)
        return self._told_now()

    # --- what may be believed ------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether a daemon stands behind the content: a clean stop and a restarted database leave it empty."""
        return DAEMON in self.content.detail if self.content.detail is not None else bool(self.content.keepalive)

    @property
    def trusted(self) -> bool:
        """Whether the states are those of now: connected, enabled, and the beat moves."""
        if not self._connected or not self.asked.enabled or not self.watched:
            return False
        return self.content.detail is None or (self._proven and not self._is_bad(Thing(DAEMON, "beat")))

    def is_stale(self, name: str) -> bool:
        """Whether the pair of a PMD, without a beat beside it, has stood still for too long."""
        return self._is_bad(Thing(name, "last_seen"))

    @property
    def beat_ms(self) -> int | None:
        """Epoch milliseconds of the daemon's last sign of life, while connected; None where there is none."""
        return _number(self._beat.value) if self._connected and self.watched else None

    @property
    def patience(self) -> float:
        """Seconds for which the beat may stand still: it is written once an interval, or once a refresh."""
        said = _number(parts((self.content.detail or {}).get(DAEMON, "")).get("interval", ""))
        interval = (self.asked.interval_ms if said is None else said) / 1000
        return max(3 * interval, 3 * self._refresh, SHORTEST)

    # --- what the columns say ------------------------------------------------------------------

    def _take_pmds(self, keepalive: Mapping[str, str], details: Mapping[str, str], now: Moment) -> None:
        for name in keepalive:
            self._away.pop(name, None)
            self._tell(Thing(name, "state"), self._pmd(name, parts(details.get(name, ""))), now)
        for name in self._cores:
            if name not in keepalive:
                self._away.setdefault(name, now.mono)
        for thing in [thing for thing in self._told if thing.aspect == "last_seen"]:
            if self.content.detail is not None or thing.name not in keepalive:  # the beat, or its absence, says more
                self._settle(thing, "SUPERSEDED", f'"{thing.name}" is not judged by its last_seen any more', now)

    def _pmd(self, name: str, said: Mapping[str, str]) -> Alarm:
        pair = self.pairs.get(name)
        if pair is None:
            self._cores.setdefault(name, -1)
            return Alarm(Severity.WARNING, "UNREADABLE", f'keepalive of "{name}" is not STATE,core,last_seen')
        self._cores[name] = pair.core
        facts = {"core": str(pair.core), "last_seen_ms": str(pair.last_seen_ms)}
        facts |= {key: said[key] for key in ("cause", "witness") if key in said}
        why = ": ".join(said[key] for key in ("cause", "witness") if key in said)
        severity, word = SEVERITIES[pair.state], told(pair.state)
        if severity is Severity.OKAY and said.get("cause") == Cause.STARVED:
            return Alarm(Severity.WARNING, word, f'"{name}" is {word}, but gets too little CPU: {why}', facts)
        return Alarm(severity, word, why, facts)

    def _follow_beat(self, now: Moment) -> None:
        value = parts((self.content.detail or {}).get(DAEMON, "")).get("beat", "")
        if value and value != self._beat.value:
            self._proven = bool(self._beat.value) or self._is_recent(value, now)
            self._beat = _Stood(value, now.mono)
        elif self.content.detail is None:
            self._beat = _Stood("", now.mono)
        standing = {name: _Stood(str(pair.last_seen_ms), now.mono) for name, pair in self.pairs.items()}
        before = self._stood
        self._stood = {
            name: before[name] if name in before and before[name].value == stood.value else stood
            for name, stood in standing.items()
        }

    def _is_recent(self, beat: str, now: Moment) -> bool:
        return abs(now.wall_ms - (_number(beat) or 0)) / 1000 <= self.patience

    # --- what time says ------------------------------------------------------------------------

    def _look_at_connection(self, link: Link, now: Moment) -> None:
        thing = Thing(OVSDB, "connection")
        if link.connected:
            self._tell(thing, Alarm(Severity.OKAY, "CONNECTED", f"{link.remote}: connected again"), now)
        elif now.mono - self._turned >= CALM:
            text = link.why or f"{link.remote}: the connection is lost"
            self._tell(thing, Alarm(Severity.FAILURE, "LOST", text), now)

    def _look_at_columns(self, link: Link, now: Moment) -> None:
        thing = Thing(OVSDB, "columns")
        columns = {"keepalive": self.content.keepalive, "keepalive_detail": self.content.detail}
        absent = [name for name, content in columns.items() if content is None]
        if not absent:
            self._incomplete = None
            self._tell(thing, Alarm(Severity.OKAY, "PRESENT", f"{link.remote}: both columns are there"), now)
            return
        self._incomplete = now.mono if self._incomplete is None else self._incomplete
        if now.mono - self._incomplete >= SETTLED:
            severity = Severity.FAILURE if "keepalive" in absent else Severity.WARNING
            text = f"{link.remote}: no column {' and '.join(absent)}: run ovs-keepalive schema apply"
            self._tell(thing, Alarm(severity, f"NO {' '.join(absent)}", text), now)

    def _look_at_beat(self, now: Moment) -> None:
        if now.mono - self._beat.since > self.patience:
            why = "ovs-keepalive hangs or was killed" if self.watched else "ovs-keepalive does not run"
            self._tell_stale(f"no beat for over {self.patience:g} s: {why}", now)
        elif self.watched:
            self._tell(Thing(DAEMON, "beat"), Alarm(Severity.OKAY, "FRESH", "the daemon watches again"), now)

    def _look_at_pairs(self, now: Moment) -> None:
        """Without a beat, by the pairs that should move; those of a PMD that does not are told by its state."""
        patience = max(3 * self.asked.interval_ms / 1000, UNPROVEN)
        if self.watched:
            self._tell(Thing(DAEMON, "beat"), Alarm(Severity.OKAY, "FRESH", "the daemon watches again"), now)
        elif self._cores and now.mono - self._beat.since > patience:
            self._tell_stale(f"the column is empty for {patience:g} s", now)
        for name, pair in self.pairs.items():
            if SEVERITIES[pair.state] is not Severity.OKAY:
                continue
            if now.mono - self._stood[name].since <= patience:
                alarm = Alarm(Severity.OKAY, "FRESH", f'"{name}" is seen again')
            else:
                text = f'"{name}" was not seen for {patience:g} s: is ovs-keepalive running?'
                alarm = Alarm(Severity.FAILURE, "STALE", text)
            self._tell(Thing(name, "last_seen"), alarm, now)

    def _tell_stale(self, why: str, now: Moment) -> None:
        text = f"nobody watches: {why}: see systemctl status ovs-keepalive"
        self._tell(Thing(DAEMON, "beat"), Alarm(Severity.FAILURE, "STALE", text), now)

    def _look_at_the_absent(self, now: Moment) -> None:
        """PMDs whose pair went while somebody watched: vswitchd took them away, or nothing is left to poll."""
        heirs = {pair.core: name for name, pair in self.pairs.items()} if self._away else {}
        for name, since in list(self._away.items()):
            if (heir := heirs.get(self._cores[name])) is not None:
                self._drop(name, "REPLACED", f'"{name}" is replaced by "{heir}"', now)
            elif now.mono - since >= CALM:
                text = f'"{name}" is no longer reported: it was removed, or polls no rxq'
                self._tell(Thing(name, "state"), Alarm(Severity.WARNING, "REMOVED", text), now)
        for name in list(self._away)[: max(0, len(self._away) - MOST)]:
            self._drop(name, "FORGOTTEN", f'"{name}" went long ago', now)

    # --- what was told -------------------------------------------------------------------------

    def _tell(self, thing: Thing, alarm: Alarm, now: Moment) -> None:
        """Tell how it stands, unless that was told; what is well from its beginning is not."""
        before, self._told[thing] = self._told.get(thing), alarm
        is_news = before[:2] != alarm[:2] if before is not None else alarm.severity is not Severity.OKAY
        if is_news:
            self._news.append(Notice(now, thing, alarm, before.word if before is not None else ""))

    def _settle(self, thing: Thing, word: str, text: str, now: Moment) -> None:
        """End what was told of a thing that is no more, and say so if it was bad."""
        bad = self._is_bad(thing)
        before = self._told.pop(thing, None)
        if before is not None and bad:
            self._news.append(Notice(now, thing, Alarm(Severity.OKAY, word, text), before.word))

    def _told_now(self) -> list[Notice]:
        news, self._news = self._news, []
        return news

    def _is_bad(self, thing: Thing) -> bool:
        alarm = self._told.get(thing)
        return alarm is not None and alarm.severity is not Severity.OKAY

    def _begin(self, now: Moment) -> None:
        """Nothing has stood still for longer than it could be seen."""
        self._beat = self._beat._replace(since=now.mono)
        self._proven = self._proven and self._is_recent(self._beat.value, now)
        self._stood = {name: stood._replace(since=now.mono) for name, stood in self._stood.items()}
        self._incomplete = None

    def _drop(self, name: str, word: str, text: str, now: Moment) -> None:
        for aspect in ("state", "last_seen"):
            self._settle(Thing(name, aspect), word, text, now)
        self._away.pop(name, None)
        self._cores.pop(name, None)

    def _forget(self, now: Moment) -> None:
        """Keepalive is disabled: end every alarm but that of the connection, and start anew."""
        for thing in [thing for thing in self._told if thing.aspect != "connection"]:
            self._settle(thing, "DISABLED", f'"{thing.name}" is not watched: keepalive is disabled', now)
        self._away, self._cores, self._stood = {}, {}, {}
        self._beat, self._proven = _Stood("", now.mono), False


def parts(value: str) -> dict[str, str]:
    """`name=text;…` of a value of keepalive_detail, by name; parts without `=` are left out."""
    return {name: text for name, equals, text in (part.partition("=") for part in value.split(";")) if equals}


def _pair(text: str) -> Pair | None:
    try:
        return parse(text)
    except ValueError:
        return None


def _vswitchd(value: str) -> Alarm:
    word, said = value.partition(";")[0], parts(value)
    facts: dict[str, str] = {key: said[key] for key in ("pid", "culprit") if key in said}
    if word not in VSWITCHD_SEVERITIES:
        return Alarm(Severity.WARNING, "UNREADABLE", "keepalive_detail of vswitchd begins with no known state", facts)
    why = f'its main thread waits for "{said["culprit"]}"' if "culprit" in said else ""
    return Alarm(VSWITCHD_SEVERITIES[word], word, why, facts)


def _number(text: str) -> int | None:
    """A whole number of at most 18 digits; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004 - as in a pair
