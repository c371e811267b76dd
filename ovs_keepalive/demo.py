# SPDX-License-Identifier: Apache-2.0
"""`make demo`: four real PMD threads, one of them held and let go, the story told as it happens and once more as an
OVSDB subscriber saw it. Ends by itself, with 0 if all of it came true.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from ovs_keepalive.formats import column
from ovs_keepalive.ptrace import Hold, HoldError
from ovs_keepalive.sandbox import Sandbox, SandboxError

PMDS = 4
HELD = "pmd-c02"
WELL = ("ALIVE", "SLEEP")


def main() -> int:
    """Play it. 0: all came true; 3: the sandbox could not be started; 1: something was not seen in time."""
    sandbox = Sandbox(pmds=PMDS, max_sleep=0)  # they spin, as PMDs do by default
    try:
        with sandbox:
            return _play(sandbox)
    except (SandboxError, HoldError, OSError) as error:
        print(f"ovs-keepalive demo: {error}", file=sys.stderr)
        return error.status if isinstance(error, SandboxError) else 3
    except KeyboardInterrupt:
        return 130


def _play(sandbox: Sandbox) -> int:
    _tell(f"A private Open vSwitch with {PMDS} PMD threads runs below {sandbox.dir}.")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon()
    sandbox.wait(lambda: len(sandbox.column()) == PMDS, f"{PMDS} PMD threads in the column", 15)
    subscriber = subprocess.Popen(
        ["ovsdb-client", "--format=json", "monitor", sandbox.remote, "Open_vSwitch", "Open_vSwitch", "keepalive"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=sandbox.env,
        text=True,
    )
    try:
        name, tid = next((name, tid) for name, tid in sandbox.pmds().items() if name.startswith(HELD))
        _show(sandbox)
        _tell(f"\nNow {name} (thread {tid}) is held by ptrace, as a debugger would hold it.")
        with Hold(tid):
            for state in ("MISSING", "DEAD"):
                _wait_for(sandbox, name, (state,))
            _tell(sandbox.appctl("keepalive/explain", name, target="ovs-keepalive").partition("\n")[2])
            _show(sandbox)
        _tell(f"\n{name} is let go.")
        _wait_for(sandbox, name, WELL)
        _show(sandbox)
    finally:
        subscriber.terminate()
        seen, _ = subscriber.communicate(timeout=5)
    _tell("\nThe same, as a subscriber of the column saw it (ovsdb-client monitor):")
    for line in _story(seen, name):
        _tell(f"    {line}")
    return 0


def _wait_for(sandbox: Sandbox, name: str, states: tuple[str, ...]) -> None:
    def reached() -> bool:
        return sandbox.column().get(name, "").partition(",")[0] in states

    sandbox.wait(reached, f"{name} {' or '.join(states)} in the column", 10)
    value = sandbox.column()[name]
    _tell(f"    {name}={value}    {sandbox.detail().get(name, '')}".rstrip())


def _show(sandbox: Sandbox) -> None:
    _tell(sandbox.appctl("keepalive/pmd-health-show", target="ovs-keepalive").rstrip())


def _story(output: str, name: str) -> Iterator[str]:
    """The changes of one PMD's state in what `ovsdb-client --format=json monitor` printed, a line each."""
    last = None
    for line in output.splitlines():
        for row in json.loads(line)["data"]:
            if row[1] == "old":
                continue
            value = dict(row[2][1]).get(name)
            if value is None:
                continue
            pair = column.parse(value)
            if pair.state != last:
                last = pair.state
                yield f'{name}="{value}"'


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
