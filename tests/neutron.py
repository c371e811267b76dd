# SPDX-License-Identifier: Apache-2.0
"""A client of the database beside the daemon: whatever fails, and whatever the daemon does, it must not suffer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ovs_keepalive.sandbox import Sandbox, wait

PROGRAM = Path(__file__).with_name("real") / "neutron_like.py"


class NeutronLike:
    """neutron_like.py in a process of its own."""

    def __init__(self, box: Sandbox, name: str, python: str = sys.executable) -> None:
        self._said = box.dir / f"{name}.out"
        self._argv, self._env = [python, str(PROGRAM), box.remote], box.env

    def hears(self, text: str) -> bool:
        """Whether it has told of an other_config with this text in it."""
        return text in self._said.read_text()

    def __enter__(self) -> NeutronLike:
        with self._said.open("w") as out:
            self._process = subprocess.Popen(self._argv, stdout=out, stderr=out, env=self._env)
        wait(lambda: self.hears("other_config"), "the client is connected")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.poll() is None, self._said.read_text()
        self._process.terminate()
        self._process.wait(10)
