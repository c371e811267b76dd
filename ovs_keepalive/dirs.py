# SPDX-License-Identifier: Apache-2.0
"""OVS's runtime directories. Imported before anything of python-ovs, whose own default is /usr/local."""

from __future__ import annotations

import os
from pathlib import Path

_DEFAULTS = {
    "OVS_RUNDIR": "/run/openvswitch",
    "OVS_LOGDIR": "/var/log/openvswitch",
    "OVS_DBDIR": "/var/lib/openvswitch",
}

for _name, _default in _DEFAULTS.items():
    os.environ.setdefault(_name, _default)


def rundir() -> Path:
    """Where OVS keeps its sockets and pidfiles: OVS_RUNDIR, else the distribution's."""
    return Path(os.environ["OVS_RUNDIR"])


def logdir() -> Path:
    """Where OVS keeps its logs: OVS_LOGDIR, else the distribution's."""
    return Path(os.environ["OVS_LOGDIR"])
