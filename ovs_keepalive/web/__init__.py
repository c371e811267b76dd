# SPDX-License-Identifier: Apache-2.0
"""The fleet's page: HTTP, read-only, in a process of its own (extra [web])."""
