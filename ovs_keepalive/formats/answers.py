# SPDX-License-Identifier: Apache-2.0
"""What both pages answer alike, the node's and the fleet's: what a browser is forbidden, and what their files are."""

from __future__ import annotations

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
EVENTS = "text/event-stream"
KINDS = {  # of a file, by the end of its name
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
STRANGER = "Host: this listener is localhost only\n"  # 421 to a page of another name that was made to lead here


def kind(name: str) -> str:
    """The content type of a file."""
    return KINDS[name.rpartition(".")[2]]
