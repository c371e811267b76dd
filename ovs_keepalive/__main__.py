# SPDX-License-Identifier: Apache-2.0
"""`python -m ovs_keepalive` is the command `ovs-keepalive`."""

import sys

from ovs_keepalive.cli import main

sys.exit(main())
