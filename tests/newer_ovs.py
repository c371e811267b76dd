# SPDX-License-Identifier: Apache-2.0
"""A sandbox on the newest Open vSwitch that there is a chroot of: it shows what its dummy devices have in hardware."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from ovs_keepalive.sandbox import Sandbox
from tests.conftest import cannot

MATRIX = Path(__file__).parent / "matrix" / "chroot"
SUITE = "sid"
MADE = 600.0  # seconds that making it may take, once


@functools.cache
def root() -> Path:
    """The chroot, made if need be. Skips the test where it cannot be."""
    done = subprocess.run([str(MATRIX), SUITE], capture_output=True, text=True, timeout=MADE, check=False)
    if done.returncode:
        cannot((done.stderr.strip().splitlines() or ["tests/matrix/chroot failed"])[-1])
    return Path(done.stdout.strip())


class NewerSandbox(Sandbox):
    """In a mount namespace of its own, in which /proc is there for it."""

    def __init__(self, *, pmds: int = 2) -> None:
        super().__init__(pmds=pmds, ovs_root=root())

    @property
    def _chroot(self) -> list[str]:
        enter = 'mount --bind /proc "$0/proc"; exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-ec", enter, str(self.root)]
