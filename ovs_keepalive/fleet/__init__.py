# SPDX-License-Identifier: Apache-2.0
"""The fleet: what this host tells ZooKeeper of itself, and what it does for others. Extra [fleet]."""
