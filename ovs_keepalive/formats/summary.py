# SPDX-License-Identifier: Apache-2.0
"""The node in one line, worst first: what `systemctl status` shows. It changes when a state does, and not else."""

from __future__ import annotations

from ovs_keepalive.core.model import BAD, Cause, Snapshot, VswitchdState
from ovs_keepalive.formats.plain import one_line
from ovs_keepalive.formats.tables import tally

NAMED = 3  # PMDs; more are counted


def line(snapshot: Snapshot) -> str:
    """At most a few hundred printable characters."""
    if not snapshot.settings.enabled:
        return "disabled: set other_config:enable-keepalive=true"
    ill = sorted((pmd for pmd in snapshot.registered if pmd.state in BAD), key=lambda pmd: -BAD.index(pmd.state))
    said = [f"{pmd.name} {pmd.state}" + (f" ({pmd.cause})" if pmd.cause is not Cause.NONE else "") for pmd in ill]
    if len(said) > NAMED:
        said[NAMED:] = [f"{len(said) - NAMED} more"]
    if snapshot.vswitchd.state is not VswitchdState.RUNNING:
        said.insert(0, f"vswitchd {snapshot.vswitchd.state}")
    blind = ["blind to " + ", ".join(what.partition(":")[0] for what in snapshot.blind)] if snapshot.blind else []
    return one_line("; ".join([*said, f"PMDs: {tally(snapshot.registered)}", *blind]))
