# SPDX-License-Identifier: Apache-2.0
"""A real, headless Chromium that looks at the node's page, and can tell all that it asked for and complained of."""

from __future__ import annotations

import base64
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.conftest import cannot

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless=new",
    "--disable-dev-shm-usage",  # a container has too little of it
    "--disable-gpu",
    "--disable-lcd-text",  # coloured edges of letters are of no use in a picture
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name leads anywhere
    "--window-size=1280,1000",
)


CONTRASTS = """
const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
const light = ({r, g, b}) => [[r, .2126], [g, .7152], [b, .0722]].map(([c, w]) => {
  const s = c / 255; return w * (s <= .04045 ? s / 12.92 : ((s + .055) / 1.055) ** 2.4); }).reduce((x, y) => x + y);
const ground = (e) => { for (; e; e = e.parentElement) {
  const colour = parse(getComputedStyle(e).backgroundColor); if (colour.a === 1) return colour; } };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (!walker.currentNode.textContent.trim() || !box.width || style.visibility === "hidden") continue;
  const [one, other] = [light(parse(style.color)), light(ground(e))].sort((x, y) => y - x);
  found.push([(one + .05) / (other + .05), parseFloat(style.fontSize), walker.currentNode.textContent.slice(0, 40)]);
}
const marks = [...document.querySelectorAll(".strip path")].map(e => {
  const [one, other] = [parse(getComputedStyle(e).fill), ground(e)].map(light).sort((x, y) => y - x);
  return [(one + .05) / (other + .05), e.getAttribute("class")]; });
return [found, marks];
"""


def missing() -> str:
    """What this machine lacks; empty if all is there."""
    return "" if CHROMIUM and DRIVER else "no chromium or chromedriver: apt-get install chromium chromium-driver"


@contextmanager
def browsing() -> Iterator[Browser]:
    """A fresh one, for this block; the test is skipped where there can be none."""
    if reason := missing():
        cannot(reason)
    with Browser() as browser:
        yield browser


class Browser:
    """One browser with one tab; closed, it leaves nothing behind."""

    def __init__(self, *options: str) -> None:
        chosen = Options()
        for option in (*OPTIONS, *options, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
            chosen.add_argument(option)
        chosen.binary_location = CHROMIUM or ""
        chosen.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=chosen, service=Service(DRIVER))
        self._asked: list[str] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.driver.quit()

    def open(self, url: str) -> None:
        """Load a page."""
        self.driver.get(url)

    def script(self, text: str, *arguments: object) -> Any:
        """What this JavaScript returns, run from outside: the page's own policy does not hold for it."""
        return self.driver.execute_script(text, *arguments)

    def text(self, selector: str = "body") -> str:
        """What a person reads there; of several, all."""
        found = self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)
        return "\n".join(found)

    def contrasts(self) -> tuple[list[Any], list[Any]]:
        """Of each text that is seen [its contrast, its size, how it begins]; of each mark of a strip [its contrast, its
        class]. WCAG 2.1, 1.4.3 says how a contrast is reckoned.
        """
        texts, marks = self.script(CONTRASTS)
        return texts, marks

    @property
    def word(self) -> str:
        """The one word for the node."""
        return self.text("#word")

    def requests(self) -> list[str]:
        """The address of every request since the browser was started."""
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._asked.append(message["params"]["request"]["url"])
        return self._asked

    def complaints(self) -> list[str]:
        """What stands in the console since the last call: errors, refusals of the security policy."""
        return [entry["message"] for entry in self._log("browser")]

    def emulate(self, width: int, height: int = 1000, **media: str) -> None:
        """A screen so many CSS pixels wide; media: prefers_color_scheme="dark"."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def press(self, key: str) -> None:
        """One key, as a keyboard sends it."""
        from_keyboard = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._devtools("Input.dispatchKeyEvent", {"type": "keyDown", **from_keyboard, **text})
        self._devtools("Input.dispatchKeyEvent", {"type": "keyUp", **from_keyboard})

    def photograph(self, path: Path, down_to: str = "body") -> None:
        """The page as a small PNG, from its top to the end of that element, also what lies below the screen."""
        self._devtools("Emulation.setScrollbarsHidden", {"hidden": True})
        end = (
            "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return box.bottom + scrollY + 16"
        )
        clip = {
            "x": 0,
            "y": 0,
            "width": self.script("return innerWidth"),
            "height": self.script(end, down_to),
            "scale": 1,
        }
        shot = self._devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        path.write_bytes(_packed(base64.b64decode(shot["data"])))

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]

    def _devtools(self, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(command, parameters)
        return answer


def _packed(png: bytes) -> bytes:
    """The same PNG, its pixels compressed as far as zlib can: a browser compresses in haste."""
    chunks, pixels, at = [], b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels += body
        else:
            chunks.append((kind, body))
        at += 12 + length
    chunks.insert(-1, (b"IDAT", zlib.compress(zlib.decompress(pixels), 9)))
    return png[:8] + b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4) for kind, body in chunks
    )
