# SPDX-License-Identifier: Apache-2.0
"""Where the log goes, and that each of its lines is one: through python-ovs's vlog, as of any daemon of OVS."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import ovs.vlog

from ovs_keepalive import dirs
from ovs_keepalive.command_line import USAGE, Problem
from ovs_keepalive.core.excerpt import short
from ovs_keepalive.formats.plain import lines, one_line

LONGEST_LOG_LINE = 2000  # characters


class Fit(logging.Filter):
    """Every line of the log, python-ovs's own too, in words that cannot forge another one or steer a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = short(one_line(record.getMessage()), LONGEST_LOG_LINE), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = lines(logging.Formatter().formatException(record.exc_info))
        return True


def open_log(name: str | None, specs: Iterable[str]) -> None:
    """Log to stderr and to the file of this name ("": its usual place). Every module that logs is imported before.

    specs: of levels, as OVS has them. Raises Problem.
    """
    logging.raiseExceptions = False  # a full disk loses lines of the log; a traceback for each would help nobody
    path = None if name is None else name or str(dirs.logdir() / "ovs-keepalive.log")
    try:
        if path is not None:
            Path(path).open("a").close()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}: name a writable file with --log-file", USAGE) from error
    ovs.vlog.Vlog.set_levels_from_string("syslog:off")
    for destination in ovs.vlog.DESTINATIONS:  # of each its logger, which outlives a log file that is reopened
        logging.getLogger(destination).addFilter(Fit())
    if path is None:
        # Without a handler of its own Python's logging would print what is meant for the file to stderr once more.
        ovs.vlog.Vlog.set_levels_from_string("file:off")
    for spec in specs:
        wrong = ovs.vlog.Vlog.set_levels_from_string(spec)
        if wrong:
            raise Problem(f"-v {spec}: {wrong}: see --help", USAGE)
    ovs.vlog.Vlog.init(path)
