# SPDX-License-Identifier: Apache-2.0
"""How long the fleet's page waits for a browser: for a request to come in, and for an answer to be taken.

uvicorn itself waits for ever; its option `http` takes a protocol, which this one extends by a timer.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds


class PatientProtocol(H11Protocol):
    """A connection for one request, as every answer says (app.py): what is still to come of it has its time too."""

    _end: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait."""
        super().connection_made(transport)
        self._end = self.loop.call_later(PATIENCE, self._hang_up_unasked)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._end.cancel()
        super().connection_lost(exc)

    def _hang_up_unasked(self) -> None:
        if getattr(self, "cycle", None) is None:  # it is until a request is there, whatever uvicorn's types say
            self.transport.close()
