# SPDX-License-Identifier: Apache-2.0
"""Takes the pictures of the node's page into a directory: `python -m docs.capture_page docs/images` (make screenshots).

A sandbox with 4 PMD threads; one was held for a while, another one is held when the picture is taken.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from ovs_keepalive.ptrace import Hold
from ovs_keepalive.sandbox import Sandbox, wait
from tests.browser import Browser, missing

SHOTS = {1280: ("light", "#pmds"), 390: ("dark", "#ill-rows")}  # CSS pixels: scheme, and how far down it shows
PMDS = 4
INTERVAL = 5000  # ms; a PMD is DEAD from one to three intervals on, which has to last for two pictures
PAST = 15.0  # seconds of a well node in the strips
HELD = 9.0  # seconds for which the first one is held
MOST = 150_000  # bytes of a picture: it is in the repository for good


def main() -> None:
    """Take them."""
    [_, directory] = sys.argv
    if reason := missing():
        sys.exit(reason)
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with Sandbox(pmds=PMDS) as sandbox, Browser() as browser:
        address = _free_address()
        sandbox.settings(enable_keepalive=True, keepalive_interval=INTERVAL)
        sandbox.start_daemon(config={"web-listen": address})
        sandbox.wait(lambda: len(sandbox.column()) == PMDS, "all PMDs in the column", 20)
        [_, first, second, _] = sandbox.pmds().values()
        sandbox.linger(PAST)
        with Hold(first):
            sandbox.linger(HELD)
        sandbox.linger(PAST)
        browser.open(f"http://{address}/")
        with Hold(second):
            wait(lambda: "DEAD" in browser.text("#ill-rows .state"), "DEAD on the page", 20)
            _take(browser, target)


def _take(browser: Browser, target: Path) -> None:
    for width, (scheme, end) in SHOTS.items():
        path = target / f"page-{width}.png"
        browser.emulate(width, prefers_color_scheme=scheme)
        wait(lambda: browser.word == "FAILURE", "the page drawn")
        browser.photograph(path, end)
        size = path.stat().st_size
        print(f"{path}: {size} bytes")
        if size > MOST:
            sys.exit(f"{path}: {size} bytes, at most {MOST} are wanted: let it show less of the page")


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
