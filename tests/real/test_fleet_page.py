# SPDX-License-Identifier: Apache-2.0
"""The fleet's page in a real browser, served for real, of fleets that a test makes up."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

import pytest

from ovs_keepalive.core.fleet import HostState
from ovs_keepalive.core.fleet_view import Request, Store
from ovs_keepalive.sandbox import SandboxError, wait
from ovs_keepalive.web import board as boards
from tests.browser import Browser, browsing
from tests.fleets import CLAIM, help_of, member
from tests.pages import CONNECTED, Served, host, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

WELL, GONE, FAILURE, WARNING = HostState.WELL, HostState.GONE, HostState.FAILURE, HostState.WARNING
CONTRAST = 4.5  # of a text (WCAG 2.2, AA)
SOON = 2.0  # seconds from the source to the page
HOSTILE = (
    "<img src=x onerror=document.title=1>",
    "\"'><script>document.title=1</script>",
    "javascript:document.title=1",
    "%3Cb%3E&amp;?host=x#",
    "\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all of these tests: it takes a second to start."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def served(browser: Browser) -> Iterator[Served]:
    with serving() as served:
        try:
            browser.emulate(1280)
            yield served
            assert browser.complaints() == []
        finally:
            browser.open("about:blank")
            browser.complaints()  # that came late are this page's, not the next one's


def until(browser: Browser, said: str, selector: str = "#word", seconds: float = 10.0) -> None:
    """Until the page says so there."""
    try:
        wait(lambda: said in browser.text(selector), f"{said!r} in {selector}", seconds)
    except SandboxError as error:
        pytest.fail(f"{error}; the page says: {browser.text()[:2000]}; {browser.complaints()}")


def shown(browser: Browser) -> list[str]:
    """The names of the hosts whose rows are there."""
    names: list[str] = browser.script("return [...document.querySelectorAll('#rows th')].map(e => e.textContent)")
    return names


def test_the_page_shows_the_fleet_worst_first_and_follows_it_live(browser: Browser, served: Served) -> None:
    served.source.show(*(host(f"h{number:02}") for number in range(20)), host("other", cell="c2"))
    browser.open(served.url)
    until(browser, "ALL WELL")
    assert browser.text("#summary") == "21 hosts: 21 WELL"
    assert browser.text("#store").startswith("Store CONNECTED. The data are ")
    assert browser.text("#cells .letter").split() == ["W", "W"]
    begin = time.monotonic()
    served.source.show(host("h07", FAILURE), host("h12", GONE), host("h03", WARNING))
    until(browser, "1 GONE · 1 FAILURE · 1 WARNING")
    assert time.monotonic() - begin < SOON
    assert shown(browser)[:4] == ["h12", "h07", "h03", "h00"]
    rows = browser.text("#rows tr").splitlines()
    assert "GONE" in rows[0]
    assert "no session; its last word was FAILURE" in browser.text("#rows")
    assert "4 / 1" in browser.text("#rows tr:nth-child(2)"), "four PMD threads, one of them failed"
    assert browser.text("#cells .letter").split() == ["G", "W"], "a letter, not a colour alone"
    assert "1 GONE, 1 FAILURE, 1 WARNING of 20" in browser.text("#cells")
    assert browser.text("#events li").splitlines()[0].endswith("no session; its last word was FAILURE: "
                                                               "pmd-c02/id:9 is DEAD: traced")  # fmt: skip
    assert browser.driver.title.startswith("1 GONE · 1 FAILURE · 1 WARNING on 127.0.0.1:")
    assert browser.script("return document.querySelector('#icon').href").endswith("icon-failure.svg")
    served.source.show(host("h07"), host("h12"), host("h03"))
    until(browser, "ALL WELL")
    asked = browser.requests()
    asked = [request for request in asked if request.startswith("http")]
    assert {request.split("/")[2] for request in asked} == {f"127.0.0.1:{served.port}"}, "a request left the host"
    assert {request.rpartition("/")[2].partition("?")[0] for request in asked} >= {"fleet.js", "fleet.json", "events"}


def test_a_host_that_is_gone_still_shows_its_last_pmd_states(browser: Browser, served: Served) -> None:
    served.source.requests = (Request("c1", help_of("a b&c", n=0, last="", by="")),)
    served.source.show(host("a b&c", FAILURE), host("other"))
    browser.open(served.url)
    until(browser, "1 FAILURE")
    browser.script("document.querySelector('#rows a').click()")
    until(browser, "DEAD", "#single")
    assert "host=a+b%26c" in browser.driver.current_url
    assert "OPEN" in browser.text("#single .request")
    assert browser.script("return document.querySelector('#overview').hidden")
    served.source.show(host("a b&c", GONE, pmds=served.source.sights["c1", "a b&c"].member.pmds))  # type: ignore[union-attr]
    until(browser, "It has no session", "#single")
    assert "DEAD" in browser.text("#single"), "what it said last is still there to be read"
    assert "812,345" in browser.text("#single")
    browser.driver.refresh()
    until(browser, "It has no session", "#single")
    browser.driver.back()
    until(browser, "other", "#rows")
    browser.open(f"{served.url}?cell=c1&host=nobody")
    until(browser, "No host of that name is known in the cell c1.", "#single")
    wait(browser.complaints, "the browser's note of the 404")


def test_filters_stand_in_the_address(browser: Browser, served: Served) -> None:
    served.source.show(*(host(f"h{number}") for number in range(5)), host("x1", GONE), host("x2", FAILURE, cell="c2"))
    browser.open(f"{served.url}?state=GONE")
    until(browser, "1 GONE · 1 FAILURE")
    assert shown(browser) == ["x1"]
    assert browser.text("#found") == "1 of 7 hosts, GONE"
    browser.open(f"{served.url}?cell=c2")
    until(browser, "cell c2", "#found")
    assert shown(browser) == ["x2"]
    browser.open(f"{served.url}?q=TRACED")
    until(browser, "2 of 7", "#found")
    assert shown(browser) == ["x1", "x2"]
    browser.script("document.querySelector('#clear').click()")
    until(browser, "7 of 7", "#found")
    assert browser.driver.current_url == served.url
    browser.script("[...document.querySelectorAll('#cells a')][1].click()")
    until(browser, "1 of 7 hosts, cell c2", "#found")
    assert browser.driver.current_url.endswith("?cell=c2")
    browser.driver.back()
    until(browser, "7 of 7", "#found")
    browser.script("const text = document.querySelector('#text'); text.value = 'h3'; "
                   "text.dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
    until(browser, "1 of 7", "#found")
    assert browser.driver.current_url.endswith("?q=h3")


def test_names_that_are_meant_to_harm_are_text(browser: Browser, served: Served) -> None:
    served.source.requests = tuple(Request("<i>c", help_of(name, why=name, last=name, n=3)) for name in HOSTILE)
    served.source.problems = HOSTILE
    served.source.show(*(host(name, FAILURE, cell="<i>c", why=name, ver=name[:60]) for name in HOSTILE))
    browser.open(served.url)
    until(browser, f"{len(HOSTILE)} FAILURE")
    assert set(shown(browser)) == set(HOSTILE)
    assert set(HOSTILE) <= set(browser.text("#requests td").splitlines())
    assert browser.text("#requests p").splitlines() == [f"{len(HOSTILE)} that cannot be read:", *HOSTILE]
    served.source.show(*(host(name, GONE, cell="<i>c", why=name) for name in HOSTILE))
    until(browser, f"{len(HOSTILE)} GONE")
    assert all(name in browser.text("#events") for name in HOSTILE)
    for number in range(len(HOSTILE)):
        name = shown(browser)[number]
        browser.script(f"document.querySelectorAll('#rows a')[{number}].click()")
        until(browser, name, "#single h2")
        until(browser, "PMD threads", "#single")
        browser.driver.back()
        until(browser, "GONE", "#rows")
    assert browser.script("return document.querySelectorAll('main img, main script, main i, main b').length") == 0
    assert browser.driver.title.startswith(f"{len(HOSTILE)} GONE")
    assert browser.script("return document.documentElement.scrollWidth") <= 1280


def test_open_requests_show_who_claimed_them_and_since_when(browser: Browser, served: Served) -> None:
    asked = help_of("a", n=0, last="", by="")
    served.source.requests = (Request("c1", asked),)
    served.source.show(host("a", FAILURE), host("node-09"))
    browser.open(served.url)
    until(browser, "OPEN", "#requests")
    assert "nobody" in browser.text("#requests")
    served.source.requests = (Request("c1", asked, CLAIM._replace(t=int(time.time() * 1000) - 5000)),)
    until(browser, "CLAIMED", "#requests")
    assert "node-09" in browser.text("#requests")
    until(browser, "6", "#requests td:nth-child(7)")
    served.source.requests = ()
    wait(lambda: browser.script("return document.querySelector('#help').hidden"), "the request is done")
    until(browser, "CLAIMED → none", "#events")
    served.source.problems = ("c1: x--y: it is of version 2",)
    until(browser, "1 that cannot be read:", "#requests")
    assert "c1: x--y: it is of version 2" in browser.text("#requests")


@pytest.mark.slow
def test_the_tunnels_of_a_cell_are_a_matrix(browser: Browser, served: Served) -> None:
    down = member("a").tunnels[0]._replace(local="10.0.0.1", remote="10.0.0.2", bfd="down", bfd_remote="down")
    there = down._replace(local="10.0.0.2", remote="10.0.0.1")
    served.source.show(host("a", tunnels=(down,), address="10.0.0.1"), host("b", tunnels=(there,), address="10.0.0.2"))
    browser.open(served.url)
    until(browser, "ALL WELL")
    browser.script("document.querySelector('#tunnels summary').click()")
    until(browser, "1 pairs of hosts cannot reach each other", "#tunnels-note")
    assert browser.text("#matrix td.DOWN").split() == ["D", "D"]
    well, well_there = (one._replace(bfd="up", bfd_remote="up") for one in (down, there))
    served.source.show(
        host("a", tunnels=(well,), address="10.0.0.1"),
        host("b", tunnels=(well_there,), address="10.0.0.2"),
    )
    until(browser, "0 pairs of hosts cannot reach each other, 1 can", "#tunnels-note", 20)
    assert browser.text("#matrix td.UP").split() == ["U", "U"]


@pytest.mark.slow
def test_old_data_are_no_news_and_a_lost_connection_neither(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.source.show(host("a"), host("b", GONE))
    browser.open(served.url)
    until(browser, "1 GONE")
    served.source.freeze()
    served.source.store = Store("SUSPENDED", "no answer of the ensemble")
    until(browser, "Store SUSPENDED: no answer of the ensemble.", "#store")
    assert "1 GONE" in browser.text("#word"), "what is a few seconds old is still news"
    until(browser, "NO NEWS", seconds=30)
    assert browser.text("#summary").startswith("Last known: 2 hosts: 1 GONE, 1 WELL")
    served.source.store = CONNECTED
    served.source._frozen = None
    until(browser, "1 GONE")
    served.page.stop()
    until(browser, "NO NEWS")
    assert "The connection is lost." in browser.text("#link")
    wait(browser.complaints, "the browser's note of a refused connection")
    browser.open("about:blank")
    browser.complaints()  # there were more of them


def test_after_a_gap_the_page_asks_for_the_whole_and_is_right_again(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "KEPT", 0)  # what was told is forgotten at once: each viewer is always behind
    served.source.show(host("a"), host("b"))
    browser.open(served.url)
    until(browser, "ALL WELL")
    before = _asked_whole(browser)
    served.source.show(host("b", GONE))
    until(browser, "1 GONE")
    assert _asked_whole(browser) > before
    assert shown(browser) == ["b", "a"]


def _asked_whole(browser: Browser) -> int:
    return sum(request.endswith("/api/fleet.json") for request in browser.requests())


def test_ten_thousand_hosts_stay_fluent(browser: Browser, served: Served) -> None:
    served.source.show(*(host(f"node-{number:05d}.dc1.example", cell=f"c{number // 2000}") for number in range(10_000)))
    browser.open(served.url)
    until(browser, "ALL WELL", seconds=30)
    assert browser.text("#found") == "10,000 of 10,000 hosts"
    assert len(shown(browser)) < 60, "only rows in sight are there"
    frames = browser.driver.execute_async_script(SCROLL, 40)
    print(f"10,000 rows, scrolled in 40 steps: median {statistics.median(frames):.0f} ms, worst {max(frames):.0f} ms")
    assert shown(browser)[-1] == "node-09999.dc1.example"
    # What a step costs is the machine's matter; that it does not grow with the fleet is the page's.
    assert browser.script("return document.querySelectorAll('*').length") < 1500
    browser.script("document.querySelector('#box').scrollTop = 100000")
    wait(lambda: "node-02777.dc1.example" in shown(browser), "the middle")
    browser.script("[...document.querySelectorAll('#rows a')].find(e => e.textContent.includes('02777')).click()")
    until(browser, "PMD threads", "#single")
    browser.driver.back()
    wait(lambda: "node-02777.dc1.example" in shown(browser), "the middle again")
    begin = time.monotonic()
    served.source.show(host("node-07777.dc1.example", GONE, cell="c3"))
    until(browser, "1 GONE")
    print(f"a change among 10,000 is on the page after {time.monotonic() - begin:.2f} s")
    browser.script("document.querySelector('#box').scrollTop = 0")
    wait(lambda: shown(browser)[:1] == ["node-07777.dc1.example"], "it stands first")
    browser.open(f"{served.url}?q=node-0999")
    until(browser, "10 of 10,000", "#found")


SCROLL = """
const [steps, done] = arguments, box = document.querySelector('#box'), took = [];
const step = (number) => {
  const begin = performance.now();
  box.scrollTop = (box.scrollHeight - box.clientHeight) * number / steps;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    took.push(performance.now() - begin);
    if (number < steps) step(number + 1); else done(took);
  }));
};
step(1);
"""

WATCH = """
window.seen = {};
new MutationObserver(() => {
  for (const line of document.querySelectorAll('#events li')) {
    const key = line.textContent.replace(/^[^/]*\\//, '').replace(/,.*/s, '');
    window.seen[key] ??= performance.timeOrigin + performance.now();
  }
}).observe(document.querySelector('#events'), {childList: true, subtree: true});
"""


@pytest.mark.slow
def test_a_change_of_one_of_a_thousand_hosts_is_on_the_page_soon(browser: Browser, served: Served) -> None:
    chance = random.Random(9)  # noqa: S311 - the same each time
    served.source.show(*(host(f"h{number:04}") for number in range(1000)))
    browser.open(served.url)
    until(browser, "ALL WELL")
    browser.script(WATCH)
    changed = {}
    for number in chance.sample(range(1000), 150):
        changed[f"h{number:04} WELL → GONE"] = time.time() * 1000
        served.source.show(host(f"h{number:04}", GONE))
        time.sleep(chance.uniform(0.0, 0.12))  # 17 changes a second: they fall into one delta, or do not
    until(browser, "150 GONE")
    seen = browser.script("return window.seen")
    assert set(seen) == set(changed)
    took = sorted(seen[key] - at for key, at in changed.items())
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"1,000 hosts, 150 changes: p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {took[-1]:.0f} ms")
    assert p99 <= 3000, "on a quiet machine it is a tenth of that: test_fleet_web.py measures"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_text_stands_out_and_nothing_is_wider_than_the_screen(
    browser: Browser, served: Served, scheme: str
) -> None:
    served.source.requests = (Request("c1", help_of("s0")), Request("c1", help_of("s1"), CLAIM))
    served.source.show(*(host(f"s{number}", state, cell=f"c{number}") for number, state in enumerate(HostState)))
    down = member("a").tunnels[0]._replace(local="10.0.0.1", remote="10.0.0.2")
    there = down._replace(local="10.0.0.2", remote="10.0.0.1", bfd="up")
    served.source.show(host("a", tunnels=(down,), address="10.0.0.1"), host("b", tunnels=(there,), address="10.0.0.2"))
    for width in (1280, 390):
        browser.emulate(width, prefers_color_scheme=scheme)
        browser.open(f"{served.url}?cell=c1")
        until(browser, "1 GONE")
        browser.script("document.querySelector('#tunnels').open = true")
        until(browser, "a", "#matrix table")
        texts, _ = browser.contrasts()
        assert len(texts) > 60
        assert [text for text in texts if text[0] < CONTRAST] == []
        assert browser.script("return document.documentElement.scrollWidth") <= width
        browser.open(f"{served.url}?cell=c1&host=a")
        until(browser, "PMD threads", "#single")
        assert [text for text in browser.contrasts()[0] if text[0] < CONTRAST] == []
        assert browser.script("return document.documentElement.scrollWidth") <= width


def test_a_keyboard_reaches_all_and_a_screen_reader_is_told_all(browser: Browser, served: Served) -> None:
    served.source.show(host("a", GONE), host("b"))
    browser.open(served.url)
    until(browser, "1 GONE")
    reached = []
    links = 'main a, footer a, header a, button, input, summary, [tabindex="0"]'
    wanted = browser.script(
        f"return [...document.querySelectorAll('{links}')].filter(e => e.checkVisibility()).length + 1"
    )
    for _ in range(wanted):
        browser.press("Tab")
        reached.append(browser.script("const e = document.activeElement; return e.id || e.innerText"))
        assert browser.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[0] == "Skip to the hosts"
    assert {"home", "text", "box", "a", "b"} <= set(reached)
    assert len(reached) > 10
    assert browser.script("return document.querySelector('[aria-live]').textContent").split() == ["✕", "1", "GONE"]
    counted = browser.script("return document.querySelector('#table').getAttribute('aria-rowcount')")
    assert counted == "3"
    assert browser.script("return document.querySelectorAll('h1').length") == 1
