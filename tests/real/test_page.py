# SPDX-License-Identifier: Apache-2.0
"""The node's page in a real browser, on a real daemon on a real Open vSwitch."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from tests.around import Watched
from tests.browser import Browser, browsing
from tests.conftest import free_port
from tests.faults.inject import held
from tests.switch import add_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SOON = 2.0  # seconds from the state in OVSDB to the page


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A fresh one: its console and its requests are those of this test."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def address() -> str:
    """A port of this host that is free now."""
    return f"127.0.0.1:{free_port()}"


def shown(browser: Browser, word: str, seconds: float = 10.0) -> float:
    """When the page said this word first, as far as a look at it every few ms can tell."""
    try:
        wait(lambda: browser.word == word, f"the word {word}", seconds)
    except SandboxError as error:
        pytest.fail(f"{error}; the page says: {browser.text('header, #glance, #ills')}; {browser.complaints()}")
    return time.monotonic()


def test_the_page_tells_of_a_dead_pmd_within_two_seconds_why_and_who_suffers(
    watched: Watched, browser: Browser, address: str
) -> None:
    watched.start(web_listen=address)
    browser.open(f"http://{address}/")
    shown(browser, "WELL")
    [(name, tid), (other, _)] = watched.sandbox.pmds().items()
    begin = time.monotonic()
    with held(tid):
        seen = shown(browser, "FAILURE")
        told = wait(lambda: watched.first(name, "DEAD", begin), f"{name} DEAD in the column")
        print(f"in OVSDB {told.at - begin:.3f} s after the fault, on the page {seen - told.at:.3f} s after that")
        assert seen - told.at <= SOON
        card = browser.text(".card")
        assert f"{name} on core 0 DEAD since" in card
        assert "traced: a debugger or tracer holds it. Detach the tracer." in card
        assert "held by python" in card
        assert "Ports: p0. Nothing of these ports is forwarded." in card
        assert f"ovs-appctl -t ovs-keepalive keepalive/explain {name}" in card
        assert browser.text("#pmds tbody th").split() == [name, other]
        assert f"{name} MISSING → DEAD, traced" in browser.text("#transitions")
        label = browser.script("return document.querySelector('#ill-rows .strip').getAttribute('aria-label')")
        assert "DEAD for" in label
        assert browser.driver.title.startswith(f"FAILURE on {address}: {name} DEAD")
    shown(browser, "WELL")
    assert browser.text("#ills") == ""
    strips = browser.script("return [...document.querySelectorAll('.strip')].map(e => e.getAttribute('aria-label'))")
    assert [("DEAD for" in strip) for strip in strips] == [True, False], "the past stays to be seen"
    assert browser.complaints() == []
    asked = browser.requests()
    assert {request.split("/")[2] for request in asked} == {address}, "a request left the host"
    assert {request.rpartition("/")[2] for request in asked} >= {"", "page.css", "page.js", "events", "strip.json"}


@pytest.mark.slow
def test_without_its_daemon_the_page_says_so_and_is_right_again_with_the_next(
    watched: Watched, browser: Browser, address: str
) -> None:
    watched.start(web_listen=address)
    browser.open(f"http://{address}/")
    shown(browser, "WELL")
    watched.sandbox.stop_daemon()
    end = time.monotonic()
    assert shown(browser, "NO NEWS") - end < SOON
    assert "The connection is lost." in browser.text("#link")
    assert browser.text("#summary").startswith("Last known: WELL.")
    name, tid = next(iter(watched.sandbox.pmds().items()))
    with held(tid):
        watched.sandbox.start_daemon(config={"web-listen": address})
        wait(lambda: "Live." in browser.text("#link"), "news again", 20)
        wait(lambda: browser.word != "WELL", "the page knows better than to say WELL")
    shown(browser, "WELL", 20)
    assert name in browser.text("#well-rows")
    strips = [request for request in browser.requests() if request.endswith("/api/strip.json")]
    assert len(strips) >= 2, "what was missed has to be asked for"


@pytest.mark.slow
def test_a_daemon_that_stands_still_is_no_news(watched: Watched, browser: Browser, address: str) -> None:
    watched.start(web_listen=address)
    browser.open(f"http://{address}/")
    shown(browser, "WELL")
    watched.sandbox.stop_daemon(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        assert shown(browser, "NO NEWS") - stopped < 7  # 5 s old at most, and what the machine takes
    finally:
        watched.sandbox.stop_daemon(signal.SIGCONT)
    shown(browser, "WELL", 20)


def test_names_that_are_meant_to_harm_are_text(sandbox: Sandbox, browser: Browser, address: str) -> None:
    port = "<img src=x onerror=document.title=1>"
    add_port(sandbox, port)
    sandbox.wait(lambda: port in sandbox.appctl("dpif-netdev/pmd-rxq-show"), "its port", 15)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config={"web-listen": address})
    sandbox.wait(lambda: len(sandbox.column()) == 2, "two PMDs in the column", 20)
    browser.open(f"http://{address}/")
    shown(browser, "WELL", 20)
    assert f"{port}/0" in browser.text("#well-rows")
    with held(_who_polls(sandbox, port)):
        shown(browser, "FAILURE")
        assert port in browser.text(".card .ports")
    assert browser.script("return document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []


def _who_polls(sandbox: Sandbox, port: str) -> int:
    """The tid of its PMD thread: `pmd thread numa_id 0 core_id 1:` stands above its queues."""
    before = sandbox.appctl("dpif-netdev/pmd-rxq-show").partition(port)[0]
    core = int(before.rpartition("core_id ")[2].partition(":")[0])
    return next(tid for name, tid in sandbox.pmds().items() if name.startswith(f"pmd-c{core:02d}/"))
