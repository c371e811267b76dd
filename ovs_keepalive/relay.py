# SPDX-License-Identifier: Apache-2.0
"""The line between a daemon and its successor: short messages, descriptors that come with them, the end of either.

old → new   sample   what a memory looks like, to rehearse with           new → old   ready | refused
old → new   state    the memory itself, noted last, and the listeners     new → old   taken (it beats) | refused
old → new   yours    the lock and the listeners are let go                new → old   done (the pidfile names it)
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from typing import Literal

import msgspec

VARIABLE = "OVS_KEEPALIVE_SUCCESSOR"  # in a successor's environment: numbers of this line and of the log's descriptor
LARGEST = 8192  # bytes of a message
DESCRIPTORS = 4  # with one of them, at most


class Lost(Exception):
    """The other one says nothing, or nothing that is understood: why."""


class Ended(Lost):
    """The other one has ended."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is said, and what goes with it."""

    say: Literal["sample", "ready", "refused", "state", "taken", "yours", "done"]
    why: str = ""  # refused
    at: float = 0.0  # state: monotonic time at which the old beat ended
    control: str = ""  # state: path of the control socket whose listener comes with it
    web: str = ""  # state: where the HTTP listener that comes with it was asked to listen; "": there is none


_DECODER = msgspec.json.Decoder(Message)


class Line:
    """One end of it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._end.fileno()

    def has_news(self) -> bool:
        """Whether there is something to hear, its end too."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(0))

    def say(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send it. Raises Ended."""
        try:
            socket.send_fds(self._end, [msgspec.json.encode(message)], list(descriptors))
        except OSError as error:
            raise Ended("it has ended") from error

    def hear(self, seconds: float) -> tuple[Message, list[int]]:
        """The next message and its descriptors, within so long. Raises Lost."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise Lost(f"it said nothing for {seconds:.2g} s")
        try:
            data, descriptors, _, _ = socket.recv_fds(self._end, LARGEST, DESCRIPTORS)
        except OSError as error:
            raise Ended("it has ended") from error
        for descriptor in descriptors:  # recv_fds of Python 3.11 does not hand its flags on
            os.set_inheritable(descriptor, False)
        if not data:
            raise Ended("it has ended")
        try:
            return _DECODER.decode(data), descriptors
        except ValueError as error:  # msgspec.DecodeError is one
            for descriptor in descriptors:
                os.close(descriptor)
            raise Lost("it said what this version does not understand") from error

    def close(self) -> None:
        """Hang up."""
        self._end.close()


def in_memory(name: str, content: bytes) -> int:
    """A descriptor from which this can be read."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor


def content(descriptor: int) -> bytes:
    """All that such a descriptor holds; it is closed."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()
