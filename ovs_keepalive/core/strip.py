# SPDX-License-Identifier: Apache-2.0
"""The last ten minutes of each PMD, as one letter for every five seconds: its worst state in them."""

from __future__ import annotations

from ovs_keepalive.core.model import Snapshot, State

STEP = 5  # seconds of one cell
CELLS = 120
UNKNOWN = "."
LETTERS = {state: state[0] for state in State}
BADNESS = {letter: rank for rank, letter in enumerate((UNKNOWN, *LETTERS.values()))}  # State is in that order


class Strip:
    """What was seen, by PMD name. Cells of which nothing is known are UNKNOWN: nothing is filled in afterwards."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}
        self._newest = 0  # number of the newest cell, of STEP seconds of wall time since the epoch

    def take(self, snapshot: Snapshot) -> None:
        """Enter one snapshot. A PMD that has not been seen for the whole time is forgotten."""
        number = snapshot.at.wall_ms // (STEP * 1000)
        if number != self._newest:
            self._move(number - self._newest)
            self._newest = number
        if snapshot.settings.enabled:
            for pmd in snapshot.pmds:
                cells = self._cells.setdefault(pmd.name, [UNKNOWN] * CELLS)
                cells[-1] = max(cells[-1], LETTERS[pmd.state], key=BADNESS.__getitem__)

    def _move(self, cells: int) -> None:
        if not 0 < cells < CELLS:  # the wall clock was set: the cells would lie
            self._cells = {}
        for name, row in list(self._cells.items()):
            row[:] = row[cells:] + [UNKNOWN] * cells
            if set(row) == {UNKNOWN}:
                del self._cells[name]

    @property
    def end(self) -> int:
        """Epoch ms at which the newest cell ends."""
        return (self._newest + 1) * STEP * 1000

    def rows(self) -> dict[str, str]:
        """CELLS letters for each PMD, the newest last."""
        return {name: "".join(row) for name, row in self._cells.items()}
