# SPDX-License-Identifier: Apache-2.0
"""The line between a daemon and its successor: what is said arrives whole, and an end is no silence."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ovs_keepalive.relay import Ended, Line, Lost, Message, content, in_memory


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Line]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield one, Line(other)
    one.close()
    other.close()


def test_a_message_comes_with_its_descriptors(ends: tuple[socket.socket, Line]) -> None:
    said = Message("state", at=1.5, control="/run/x.ctl", web="127.0.0.1:9811")
    descriptor = in_memory("state", b"all of it")
    Line(ends[0]).say(said, [descriptor])
    os.close(descriptor)
    assert ends[1].has_news()
    heard, [copy] = ends[1].hear(0.0)
    assert heard == said
    assert not os.get_inheritable(copy)
    assert content(copy) == b"all of it"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
    assert not ends[1].has_news()


def test_silence_is_lost_and_an_end_is_told_apart(ends: tuple[socket.socket, Line]) -> None:
    with pytest.raises(Lost, match=r"said nothing for 0\.01 s"):
        ends[1].hear(0.01)
    ends[0].close()
    assert ends[1].has_news()
    with pytest.raises(Ended):
        ends[1].hear(0.01)
    with pytest.raises(Ended):
        ends[1].say(Message("ready"))


@pytest.mark.parametrize("words", [b"{}", b'{"say":"hello"}', b'{"say":"ready","more":1}', b"\xff"])
def test_what_is_not_understood_is_lost(ends: tuple[socket.socket, Line], words: bytes) -> None:
    ends[0].send(words)
    with pytest.raises(Lost, match="does not understand"):
        ends[1].hear(1.0)
