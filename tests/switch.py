# SPDX-License-Identifier: Apache-2.0
"""The Open vSwitch that the tests run on: this host's own, or the one that is installed in the chroot $OVS_ROOT."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovs_keepalive.sandbox import Sandbox
from tests import realtime

RAN: set[str] = set()  # what each vswitchd that was started said it is, and where it came from

_root = os.environ.get("OVS_ROOT")
OVS_ROOT = Path(_root).resolve() if _root else None  # tests/matrix makes one, and mounts /proc in it


class TestedSandbox(Sandbox):
    """A sandbox on the Open vSwitch under test, which notes what really ran."""

    __test__ = False  # no test, whatever pytest thinks of its name

    def __init__(
        self,
        *,
        pmds: int = 2,
        numa: Sequence[int] = (),
        max_sleep: int = 10000,
        keep: bool = False,
        ovs_root: Path | None = OVS_ROOT,
    ) -> None:
        super().__init__(pmds=pmds, numa=numa, max_sleep=max_sleep, keep=keep, ovs_root=ovs_root)

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd, and ask it for its version."""
        super().start_vswitchd()
        where = "of this host" if self.root is None else f"in {self.root}"
        RAN.add(f"{self.appctl('version').splitlines()[0]}, {where}")

    def start_daemon(
        self, *args: str, config: Mapping[str, object] | None = None, wait: bool = True, through: Sequence[str] = ()
    ) -> int:
        """Start it; from here on it and what it watches go before other work, where that is allowed."""
        pid = super().start_daemon(*args, config=config, wait=wait, through=through)
        realtime.prefer_sandbox(self, pmds=self.max_sleep > 0)
        return pid


def add_port(sandbox: Sandbox, name: str) -> None:
    """One more port to poll, of any name: ovs-vsctl would not take each that OVS does."""
    interface = {"name": name, "type": "dummy-pmd", "options": ["map", [["n_rxq", "1"], ["numa_id", "0"]]]}
    results = sandbox.transact(
        {"op": "insert", "table": "Interface", "row": interface, "uuid-name": "i"},
        {"op": "insert", "table": "Port", "row": {"name": name, "interfaces": ["named-uuid", "i"]}, "uuid-name": "p"},
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "br0"]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", "p"]]]]],
        },
    )
    assert not any("error" in result for result in results)
