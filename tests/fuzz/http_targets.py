# SPDX-License-Identifier: Apache-2.0
"""What a browser or a scraper says that is read: the headers, and the addresses that an operator writes."""

from __future__ import annotations

from ovs_keepalive.formats import listen, metric, remote
from tests.fuzz.target import Target, as_text, seeds


def _headers(data: bytes) -> None:
    """`Host` and `Accept`, which http.server hands on as they came."""
    text = as_text(data)
    assert listen.is_loopback(text) in (True, False)
    assert metric.wants_openmetrics(text) in (True, False)


def _address(data: bytes) -> None:
    """Of our own listener, or of a database: by the first byte."""
    kind, text = data[:1], as_text(data[1:])
    if kind < b"b":
        read = listen.parse(text)
        assert read is None or listen.parse(str(read)) == read
    else:
        assert remote.check(text) == text.partition(":")[0]


HTTP_TARGETS = (
    Target(
        "http-headers",
        _headers,
        (),
        seeds(
            "127.0.0.1:9811",
            "[::1]:9811",
            "localhost",
            "application/openmetrics-text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        ),
        "`Host` and `Accept`",
    ),
    Target(
        "addresses",
        _address,
        (listen.BadAddress, remote.BadRemote),
        seeds("a127.0.0.1:9811", "a[::1]:0", "aoff", "btcp:127.0.0.1:6640", "bssl:[::1]:6640", "bunix:/run/db.sock"),
        "`web-listen` and `ovsdb` of the configuration",
    ),
)
