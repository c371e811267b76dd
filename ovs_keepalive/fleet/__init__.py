# SPDX-License-Identifier: Apache-2.0
"""The fleet's store: ZooKeeper through kazoo (extra `fleet`). Nothing that watches this host depends on it."""
