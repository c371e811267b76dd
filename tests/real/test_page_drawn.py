# SPDX-License-Identifier: Apache-2.0
"""The node's page in a real browser, served by the daemon's own listener from snapshots that a test makes up."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ovs_keepalive.beat import moment
from ovs_keepalive.core.model import Cause, Moment, Pmd, Rxq, Shares, State, Transition, VswitchdState
from ovs_keepalive.formats import document, listen
from ovs_keepalive.publishers import http as web
from ovs_keepalive.publishers.board import Shown
from ovs_keepalive.publishers.http import WebServer
from ovs_keepalive.sandbox import wait
from tests import looks
from tests.browser import Browser, browsing

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SHARES = Shares(rate=123456.0, busy=0.25, idle=0.75, sleep=0.5, run=1.0, wait=0.0)
# What a person, or a program for blind persons, has to be able to tell apart (WCAG 2.2, AA).
CONTRAST = 4.5  # of a text
MARK_CONTRAST = 3.0  # of a mark in a strip


class Node:
    """A listener, and a main loop that shows it the same facts again and again until it freezes."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {"pmds": [made(0)]}
        self.frozen = False
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._web = WebServer(listen.Address("127.0.0.1", 0, 4), moment)
        self._web.run(time.monotonic())
        self.url = self._web.url
        self._publish()
        self._thread = threading.Thread(target=self._run, name="main loop")
        self._thread.start()

    def show(self, **fields: Any) -> None:
        """From now on."""
        self.fields = fields

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()
        self._web.close()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            if not self.frozen:
                self._publish()

    def _publish(self) -> None:
        fields = {"vswitchd": looks.running(), **self.fields}
        snapshot = looks.snapshot(seq=next(self._numbers), at=moment(), **fields)
        self._web.publish(Shown(snapshot, {"version": "of a test"}, ()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all of these tests: it takes a second to start."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def node(browser: Browser) -> Iterator[Node]:
    node = Node()
    try:
        browser.emulate(1280)
        yield node
        assert browser.complaints() == []
    finally:
        browser.open("about:blank")
        browser.complaints()  # that came late are this node's, not the next one's
        node.close()


def made(core: int, state: State = State.ALIVE, **fields: Any) -> Pmd:
    """A PMD thread that has been in its state for 12 s."""
    now = moment()
    then = Moment(now.mono - 12, now.wall_ms - 12_000)
    fields = {"since": then, "cause_since": then, "progress": then, "rxqs": (Rxq(f"p{core}", 0),), **fields}
    return looks.pmd(core, state=state, shares=SHARES, **fields)


def held(core: int, **fields: Any) -> Pmd:
    """One that gdb holds."""
    return made(core, State.DEAD, cause=Cause.TRACED, witness="state t, held by gdb (pid 901)", **fields)


def until(browser: Browser, word: str, seconds: float = 10.0) -> None:
    """Wait until the page says this word."""
    wait(lambda: browser.word == word, f"the word {word}", seconds)


@pytest.mark.slow
def test_a_node_of_256_pmds_is_shown_worst_first_the_well_ones_folded(browser: Browser, node: Node) -> None:
    pmds = [made(core) for core in range(256)]
    pmds[200] = held(200)
    pmds[100] = made(100, State.MISSING)
    node.show(pmds=pmds)
    browser.open(node.url)
    until(browser, "FAILURE")
    assert browser.text("#pmds tbody th").split() == ["pmd-c200/id:8", "pmd-c100/id:8"]
    assert browser.text("#fold") == "Show 254 PMD threads that are well"
    browser.script("document.querySelector('#fold').focus()")
    browser.press("Enter")
    assert browser.script("return document.querySelectorAll('#pmds tbody tr').length") == 256
    assert browser.script("return document.activeElement.id") == "fold"
    first = browser.script("return document.querySelector('#well-rows tr')")
    slowest = browser.script(
        "return new Promise(done => { let last = performance.now(), worst = 0; const stop = last + 3000;"
        " const turn = now => { worst = Math.max(worst, now - last); last = now;"
        " now < stop ? requestAnimationFrame(turn) : done(worst); }; requestAnimationFrame(turn); })"
    )
    print(f"256 rows, drawn anew with each event: the longest time between two frames was {slowest:.0f} ms")
    assert first == browser.script("return document.querySelector('#well-rows tr')"), "a row was made anew"
    node.show(pmds=[made(core) for core in range(256)])
    until(browser, "WELL")
    assert browser.text("#ills") == ""
    browser.press("Enter")
    assert browser.text("#pmds tbody th").split() == ["pmd-c100/id:8", "pmd-c200/id:8"], "not well just now"


@pytest.mark.slow
def test_news_that_stops_is_no_news_though_the_connection_stands(browser: Browser, node: Node) -> None:
    browser.open(node.url)
    until(browser, "WELL")
    node.frozen = True
    froze = time.monotonic()
    until(browser, "NO NEWS", 8)
    assert 4 < time.monotonic() - froze < 7
    assert browser.text("#summary").startswith("Last known: WELL.")
    assert browser.script("return getComputedStyle(document.querySelector('.state'), '::before').content") == '"was "'
    assert browser.driver.title.startswith("NO NEWS on 127.0.0.1")
    # Who comes now gets the same old document, and is not taken in by it either.
    browser.open(node.url)
    wait(lambda: "old" in browser.text("#link"), "a document")
    assert browser.word == "NO NEWS"
    node.frozen = False
    until(browser, "WELL")


@pytest.mark.slow
def test_who_finds_no_place_among_the_viewers_asks_again_and_again(
    browser: Browser, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "VIEWERS", 0)
    browser.open(node.url)
    until(browser, "WELL")
    assert "too many live viewers" in browser.text("#link")
    node.show(pmds=[held(0)])
    until(browser, "FAILURE", 7)
    complaints = browser.complaints()
    assert all("api/events" in complaint and "503" in complaint for complaint in complaints), complaints
    assert complaints


def test_an_answer_that_cannot_be_read_is_told_and_nothing_of_it_shown(
    browser: Browser, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.open(node.url)
    until(browser, "WELL")
    with monkeypatch.context() as patch:
        patch.setattr(document, "VERSION", 2)
        until(browser, "NO NEWS")
        assert "its version is 2" in browser.text("#link")
    until(browser, "WELL")


def test_what_later_versions_tell_is_shown_as_it_is(
    browser: Browser, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.open(node.url)
    until(browser, "WELL")
    assert browser.text("#later") == ""
    more = {
        "breaks": [{"kind": "crash", "pid_old": 1}, {"kind": "orderly", "ports_missing": ["p1"]}],
        "ports": {"p<b>1": {"state": "UP", "since": 1_700_000_000_000, "share": 0.8333, "flows": 5}},
        "offload": {"mode": "off", "flows": None},
    }
    was = document.node
    monkeypatch.setattr(document, "node", lambda *told: {**was(*told), **more})
    wait(lambda: browser.text("#later h2").split() == ["Breaks", "Ports", "Offload"], "their headings")
    columns = ["kind", "pid_old", "ports_missing", "state", "since", "share", "flows"]
    assert browser.text("#later thead").split() == columns
    assert "p<b>1 UP 2023-11-14 22:13:20 UTC 83.3 % 5" in " ".join(browser.text("#later tbody").split())
    assert browser.text("#later dd").split() == ["off", "-"]


def test_of_a_port_that_others_serve_too_only_the_rxq_suffers(browser: Browser, node: Node) -> None:
    shared = (Rxq("vhu1", 0), Rxq("p9", 0))
    node.show(pmds=[held(0, rxqs=shared), made(1, rxqs=(Rxq("vhu1", 1),))])
    browser.open(node.url)
    until(browser, "FAILURE")
    expected = "Ports: vhu1 (rxq vhu1/0 of it), p9. Nothing of these ports and rxqs is forwarded."
    assert browser.text(".card .ports") == expected


def test_the_word_is_since_the_failure_not_since_an_older_warning(browser: Browser, node: Node) -> None:
    old = Moment(0.0, moment().wall_ms - 3_600_000)
    starved = made(1, since=old, cause=Cause.STARVED, cause_since=old, witness="runs 5% and waits 95% of the time")
    node.show(pmds=[held(0), starved])
    browser.open(node.url)
    until(browser, "FAILURE")
    assert re.search(r", for \d+ s$", browser.text("#since"))
    node.show(pmds=[made(0), starved])
    until(browser, "WARNING")
    assert re.search(r", for 6\d min \d+ s$", browser.text("#since"))


def test_pmds_that_went_with_their_process_are_one_fact(browser: Browser, node: Node) -> None:
    witness = "process 100 ended"
    gone = [made(core, State.GONE, cause=Cause.PROCESS_GONE, witness=witness) for core in range(40)]
    down = looks.running(None)._replace(state=VswitchdState.GONE, witness="it crashed", since=moment())
    node.show(pmds=gone, vswitchd=down)
    browser.open(node.url)
    until(browser, "FAILURE")
    first, second = browser.script("return [...document.querySelectorAll('.card h2')].map(e => e.innerText)")
    assert first.startswith("ovs-vswitchd GONE since")
    assert second.startswith("40 PMDs (pmd-c00/id:8, pmd-c01/id:8, ")
    assert "and 34 more) GONE since" in second


def test_a_pmd_that_nobody_can_vouch_for_is_called_unverified(browser: Browser, node: Node) -> None:
    silent = looks.running()._replace(silent=6.0, noted=6.0)
    node.show(pmds=[made(0, witness="run-time (unverified)")], vswitchd=silent)
    browser.open(node.url)
    until(browser, "WELL")
    wait(lambda: browser.text(".card h2"), "its card, which is drawn after the word", 10)
    assert "ALIVE, unverified" in browser.text(".card h2")
    assert "unverified" in browser.text("#ill-rows .cause")
    assert "silent for 6.0 s" in browser.text("#vswitchd")


def test_disabled_is_said_with_the_cure(browser: Browser, node: Node) -> None:
    node.show(settings=replace(looks.SETTINGS, enabled=False))
    browser.open(node.url)
    until(browser, "DISABLED")
    assert "other_config:enable-keepalive=true" in browser.text(".card")
    assert browser.text("#as-of") == "There are no PMD threads."


LONG_NAME = "<img src=x onerror=alert(1)>" + "n" * 4000


def test_names_are_text_whatever_is_in_them(browser: Browser, node: Node) -> None:
    names = ("<script>alert(1)</script>", "x\u202eyz", LONG_NAME, "\ud800", "\x1b[2J", '"><b>bold')
    node.show(
        pmds=[held(0, name="pmd</td>;reboot", rxqs=tuple(Rxq(name, 0) for name in names))],
        history=(Transition(moment(), "<b>who</b>", "ALIVE", "DEAD", "traced", "<i>why</i>\u2028"),),
        blind=("<u>blind</u>: all",),
    )
    browser.open(node.url)
    until(browser, "FAILURE")
    for selector in ("#ills", "#ill-rows"):
        text = browser.text(selector)
        assert names[0] in text
        assert "x\\u{202e}yz" in text
        assert "n" * 200 not in text
    assert "<b>who</b> ALIVE → DEAD, traced: <i>why</i>\\u{2028}" in browser.text("#transitions")
    assert (
        browser.script("return document.querySelectorAll('main img, main script, main b, main i, main u').length") == 0
    )
    assert "explain pmd-c00\n" in browser.text(".card code") + "\n", "what is pasted into a shell is no foreign text"
    assert browser.script("return document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_is_wider_than_the_screen(browser: Browser, node: Node, width: int) -> None:
    ports = tuple(Rxq(f"vhostuser-client-port-{number}", number) for number in range(12))
    node.show(pmds=[held(0, rxqs=ports), made(1, State.MISSING), *(made(core) for core in range(2, 6))])
    browser.emulate(width)
    browser.open(node.url)
    until(browser, "FAILURE")
    assert browser.script("return document.documentElement.scrollWidth") <= width
    assert all(said in browser.text("#ill-rows") for said in ("vhostuser-client-port-11", "s ago", "DEAD"))
    assert "25 % / 75 % / 50 %" in browser.text("#well-rows")
    assert "25 %" not in browser.text("#ill-rows"), "what it did before it stalled is not what it does"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_text_stands_out_from_what_lies_under_it(browser: Browser, node: Node, scheme: str) -> None:
    browser.emulate(1280, prefers_color_scheme=scheme)
    browser.open(node.url)
    every = [held(0), made(1, State.MISSING), made(2, State.SLEEP), made(3, State.UNUSED), made(4)]
    one_each: dict[str, dict[str, Any]] = {
        "FAILURE": {"pmds": every, "blind": ("log: not readable",)},
        "WARNING": {"pmds": [made(1, State.MISSING)]},
        "WELL": {"pmds": [made(1)]},
        "RESTARTING": {"vswitchd": looks.running()._replace(state=VswitchdState.STARTING)},
        "DISABLED": {"settings": replace(looks.SETTINGS, enabled=False)},
    }
    browser.script("document.querySelector('details').open = true")
    for word, fields in one_each.items():
        node.show(**fields)
        until(browser, word)
        texts, marks = browser.contrasts()
        assert len(texts) > 20
        assert [text for text in texts if text[0] < CONTRAST] == []
        assert [mark for mark in marks if mark[0] < MARK_CONTRAST] == []
        assert len(marks) >= len(fields.get("pmds", ()))
        print(f"{scheme}, {word}: {min(text[0] for text in texts):.2f}, marks {min(marks, default=None)}")
    node.frozen = True
    until(browser, "NO NEWS", 8)
    assert [text for text in browser.contrasts()[0] if text[0] < CONTRAST] == []
    ground = browser.script("return getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


def test_a_keyboard_reaches_all_and_a_screen_reader_is_told_all(browser: Browser, node: Node) -> None:
    node.show(pmds=[held(0), *(made(core) for core in range(1, 30))])
    browser.open(node.url)
    until(browser, "FAILURE")
    wanted = browser.script("return document.querySelectorAll('a, button, summary, [tabindex=\"0\"]').length")
    reached = []
    for _ in range(wanted):
        browser.press("Tab")
        reached.append(browser.script("const e = document.activeElement; return e.id || e.innerText"))
        assert browser.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[0] == "Skip to the PMD threads"
    assert len(set(reached)) == wanted >= 6
    assert browser.script("return document.documentElement.lang") == "en"
    levels = browser.script("return [...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")
    assert levels[0] == "H1"
    assert levels.count("H1") == 1
    landmarks = ("header", "main", "footer", "[role=status][aria-live=polite] #word", "table[role=table]", "noscript")
    assert [mark for mark in landmarks if browser.script(f"return !document.querySelector('{mark}')")] == []
    strip = browser.script("return document.querySelector('#ill-rows .strip').getAttribute('aria-label')")
    assert strip.startswith("last 10 minutes: DEAD for ")
    # The words that are not colours, in title and icon too.
    assert browser.driver.title.startswith("FAILURE on 127.0.0.1")
    assert browser.script("return document.querySelector('#icon').href").endswith("icon-failure.svg")
    assert browser.text("#sign") == "✕"
    assert browser.script("return document.querySelector('[aria-live]').textContent").split() == [
        "✕", "FAILURE", "pmd-c00/id:8", "DEAD",
    ]  # fmt: skip
    assert browser.text("#ill-rows .state").split() == ["D", "DEAD", "traced"]
