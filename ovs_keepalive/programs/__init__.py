# SPDX-License-Identifier: Apache-2.0
"""Programs that are not ours: which of them may be run, and one that runs. What two edges share lies here."""
