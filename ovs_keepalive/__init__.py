# SPDX-License-Identifier: Apache-2.0
"""Tells, truthfully and from outside, whether each PMD thread of Open vSwitch is alive, and why not."""

__version__ = "0.1.0"
