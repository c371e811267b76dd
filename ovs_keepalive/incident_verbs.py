# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive incident`: the black-box records, read from the state directory, also while the daemon is down."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, TextIO

from ovs_keepalive import records
from ovs_keepalive.formats import incident
from ovs_keepalive.formats.plain import json_text


def list_all(directory: Path, as_json: bool, out: TextIO) -> None:
    """One line a record. Raises records.Unusable."""
    heads = records.heads(directory)
    if as_json:
        out.write(json_text(heads))
    else:
        out.writelines(f"{line}\n" for line in incident.listing(heads))


def show(directory: Path, number: int, as_json: bool, out: TextIO) -> None:
    """One record, readable. Raises records.Unusable."""
    head, sections = records.read(directory, number)
    if as_json:
        out.write(json_text({"incident": head, "sections": sections}))
    else:
        out.write(incident.text(head, sections))


def export(directory: Path, number: int, output: Path | None, stdout: BinaryIO) -> None:
    """The record's file as it is, to a new file or to stdout. Raises records.Unusable."""
    records.head(directory, number)
    try:
        with records.path_of(directory, number).open("rb") as source:
            if output is None:
                shutil.copyfileobj(source, stdout)
                stdout.flush()
                return
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            with os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(source, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise records.Unusable(f"{error.filename or output}: {error.strerror}: name a writable --output") from error
