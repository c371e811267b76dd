# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command line, one small function each. Every error is one line on stderr."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ovs_keepalive import __version__, dirs, port_options, upgrade_options
from ovs_keepalive.config import Config, Invalid, Options, default_file, load
from ovs_keepalive.formats import listen
from ovs_keepalive.formats.plain import lines, one_line, short

WELL, UNHEALTHY, USAGE, UNREACHABLE = 0, 1, 2, 3  # exit statuses (CONTRACT section 6)
LONGEST_LOG_LINE = 2000  # characters


class Problem(Exception):
    """Ends a verb: the line to print and the exit status."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message}: see {self.prog} --help", USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name need not be a word of this terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = command_line().parse_args(arguments)
        status: int = options.verb(options)
    except Problem as problem:
        _complain(problem)
        return problem.status
    except Invalid as error:
        _complain(error)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return WELL
    return status


def _complain(error: Exception) -> None:
    print(one_line(f"ovs-keepalive: {error}"), file=sys.stderr)


def command_line() -> argparse.ArgumentParser:
    """Every verb with its options: the man page and the completion are made of it."""
    parser = _Parser(prog="ovs-keepalive", description="Tells whether each PMD thread of Open vSwitch is alive.")
    parser.add_argument("--version", action="version", version=f"ovs-keepalive {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--config", type=Path, metavar="F", help="configuration file (/etc/ovs-keepalive/config.yaml)")
    database = _Parser(add_help=False, parents=[common])
    database.add_argument("--ovsdb", metavar="REMOTE", help="database (unix:$OVS_RUNDIR/db.sock)")

    run = verbs.add_parser("run", parents=[database], help="the daemon, in the foreground")
    run.add_argument("--vswitchd-pidfile", type=Path, metavar="F", help="any ovs-vswitchd*.pid in $OVS_RUNDIR")
    run.add_argument("--web-listen", metavar="HOST:PORT|off", help="page, metrics and JSON (127.0.0.1:9811)")
    run.add_argument("--pidfile", type=Path, metavar="F", help="$OVS_RUNDIR/ovs-keepalive.pid")
    run.add_argument("--log-file", nargs="?", const="", metavar="F", help="log to a file too")
    run.add_argument("-v", "--verbose", action="append", default=[], nargs="?", const="dbg", metavar="SPEC",
                     help="log more: dbg, or MODULE:FACILITY:LEVEL as OVS has it")  # fmt: skip
    run.set_defaults(verb=_run)

    show = verbs.add_parser("show", parents=[common], help="health at a glance")
    show.add_argument("--watch", action="store_true", help="go on: one screen, or a line a change without a terminal")
    show.add_argument("--json", action="store_true", help="the node document; with --watch a line at each change")
    show.set_defaults(verb=_show)

    schema = verbs.add_parser("schema", parents=[database], help="the columns in a running ovsdb-server")
    schema.add_argument("action", choices=("status", "apply", "revert"), help="compare, add or take away")
    schema.set_defaults(verb=_schema)

    _add_incident(verbs, common)
    port_options.add(verbs, database, lambda options: _remote(options.ovsdb, load(options.config)))

    collectd = verbs.add_parser(
        "collectd",
        parents=[database],
        help="tells collectd what the columns say",
        description="A child of collectd's exec plugin: values and notifications on stdout, every "
        "COLLECTD_INTERVAL seconds, of the host COLLECTD_HOSTNAME. It ends when collectd does.",
    )
    collectd.set_defaults(verb=_collectd)

    upgrade_options.add_watch(verbs, database).set_defaults(verb=_upgrade_watch)

    check = verbs.add_parser("check-config", parents=[common], help="check a configuration file")
    check.add_argument("--default", action="store_true", help="print the commented default file instead")
    check.set_defaults(verb=_check_config)

    doctor = verbs.add_parser(
        "doctor",
        parents=[database],
        help="what keeps the daemon from seeing, and the cure",
        description="A line a check: OK, WARN or FAIL, with the cure; run it as the daemon's user. Exit status: 1 if a "
        "line says FAIL, 3 if the database cannot be reached, else 0.",
    )
    doctor.add_argument("--vswitchd-pidfile", type=Path, metavar="F", help="any ovs-vswitchd*.pid in $OVS_RUNDIR")
    doctor.set_defaults(verb=_doctor)

    sandbox = verbs.add_parser("sandbox", parents=[common], help="a private real OVS with PMD threads, watched",
                               usage="ovs-keepalive sandbox [--pmds N] [--keep] [-- COMMAND]\n"
                                     "       ovs-keepalive sandbox fault PMD stop|resume")  # fmt: skip
    sandbox.add_argument("--pmds", type=int, default=4, metavar="N", help="PMD threads (4)")
    sandbox.add_argument("--keep", action="store_true", help="keep the directory with its logs")
    sandbox.add_argument("command", nargs="*", metavar="COMMAND", help="ends the sandbox when it ends")
    sandbox.set_defaults(verb=_sandbox)

    upgrade = verbs.add_parser("upgrade", parents=[common], help="hand the running daemon's work over to a new one")
    upgrade.add_argument("python", nargs="?", metavar="PYTHON", help="its interpreter (the one that runs the daemon)")
    upgrade.set_defaults(verb=_upgrade)

    _add_install(verbs)
    return parser


def _add_incident(verbs: Any, common: _Parser) -> None:
    usage = "ovs-keepalive incident [show N | export N [--output F]] [--json] [--state-dir D] [--config F]"
    parser = verbs.add_parser("incident", parents=[common], help="the black-box records", usage=usage)
    parser.add_argument("action", nargs="?", choices=("list", "show", "export"), default="list",
                        help="a line each, or one of them, readable or as its file")  # fmt: skip
    parser.add_argument("number", nargs="?", type=int, metavar="N", help="of the record")
    parser.add_argument("--json", action="store_true", help="list or show it as JSON")
    parser.add_argument("--output", type=Path, metavar="F", help="export to this file (stdout)")
    parser.add_argument("--state-dir", type=Path, metavar="D", help="where they are (state-dir of the configuration)")
    parser.set_defaults(verb=_incident)


def _add_install(verbs: Any) -> None:
    where = _Parser(add_help=False)
    where.add_argument("--root", type=Path, metavar="DIR", help="a tree to work on instead of this host")
    where.add_argument("--prefix", type=Path, default=Path("/usr/local"), metavar="DIR",
                       help="where all but the configuration lies (/usr/local)")  # fmt: skip
    parser = verbs.add_parser("install", parents=[where], help="put unit, user, configuration and man pages in place")
    parser.add_argument("--systemd", action="store_true", required=True, help="for systemd; there is no other way")
    parser.add_argument("--umask", action="store_true", help="Open vSwitch's sockets for the group, no capability")
    parser.add_argument("--user", metavar="NAME", help="the user that Open vSwitch has of its own, as on RHEL")
    parser.add_argument("--full-causes", action="store_true", help="with CAP_SYS_PTRACE and CAP_PERFMON")
    parser.set_defaults(verb=_install)
    parser = verbs.add_parser("uninstall", parents=[where], help="take away what install put in place")
    parser.set_defaults(verb=_uninstall)


def _incident(options: argparse.Namespace) -> int:
    directory = options.state_dir or Path(load(options.config).state_dir)
    from ovs_keepalive import incident_verbs, records

    action, number = options.action, options.number
    if (action == "list") != (number is None):
        raise Problem(f"incident {action}: {'takes no' if number is not None else 'needs a'} number: see --help", USAGE)
    try:
        match action:
            case "show":
                incident_verbs.show(directory, number, options.json, sys.stdout)
            case "export" if options.output is None and sys.stdout.isatty():
                raise Problem("incident export: a record is compressed, no text for a terminal: give --output F", USAGE)
            case "export":
                incident_verbs.export(directory, number, options.output, sys.stdout.buffer)
            case _:
                incident_verbs.list_all(directory, options.json, sys.stdout)
    except records.Unusable as error:
        raise Problem(str(error), UNREACHABLE) from error
    return WELL


def _upgrade(options: argparse.Namespace) -> int:
    load(options.config)
    from ovs_keepalive import upgrade_verb

    try:
        print(upgrade_verb.run(options.python, lambda method, *words: ask_daemon(method, *words, "--json")))
    except upgrade_verb.Failed as error:
        raise Problem(str(error), UNHEALTHY) from error
    return WELL


def _run(options: argparse.Namespace) -> int:
    config = load(options.config)
    remote = _remote(options.ovsdb, config)
    try:
        address = listen.parse(config.web_listen if options.web_listen is None else options.web_listen)
    except listen.BadAddress as error:
        raise Problem(f"--web-listen {error}", USAGE) from error
    from ovs_keepalive import daemon, pidfile, successor  # python-ovs and all: only for the daemon

    _open_log(options)  # ovs.vlog wants every module that logs imported before
    given = options.vswitchd_pidfile or config.vswitchd_pidfile or None
    asked = Options(
        config=config,
        config_file=options.config,
        remote=remote,
        listen=address,
        vswitchd_pidfile=Path(given) if given else None,
        pidfile=options.pidfile or dirs.rundir() / "ovs-keepalive.pid",
    )
    if successor.is_wanted(os.environ):
        return successor.run(asked)
    try:
        run = daemon.Daemon(asked)
    except pidfile.Taken as error:
        raise Problem(str(error), USAGE) from error
    except OSError as error:
        where = error.filename or dirs.rundir()
        cures = {errno.ENOSPC: "make room there", errno.EMFILE: "raise the limit of open files (ulimit -n)"}
        usual = "set OVS_RUNDIR to OVS's run directory, and run as a user who may write there"
        cure = cures.get(error.errno or 0, usual)
        raise Problem(f"{where}: {error.strerror}: {cure}", USAGE) from error
    return run.loop()


class _Fit(logging.Filter):
    """Every line of the log, python-ovs's own too, in words that cannot forge another one or steer a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = short(one_line(record.getMessage()), LONGEST_LOG_LINE), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = lines(logging.Formatter().formatException(record.exc_info))
        return True


def _open_log(options: argparse.Namespace) -> None:
    import logging

    import ovs.vlog

    logging.raiseExceptions = False  # a full disk loses lines of the log; a traceback for each would help nobody
    name = options.log_file
    path = None if name is None else name or str(dirs.logdir() / "ovs-keepalive.log")
    try:
        if path is not None:
            Path(path).open("a").close()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}: name a writable file with --log-file", USAGE) from error
    ovs.vlog.Vlog.set_levels_from_string("syslog:off")
    for destination in ovs.vlog.DESTINATIONS:  # of each its logger, which outlives a log file that is reopened
        logging.getLogger(destination).addFilter(_Fit())
    if path is None:
        # Without a handler of its own Python's logging would print what is meant for the file to stderr once more.
        ovs.vlog.Vlog.set_levels_from_string("file:off")
    for spec in options.verbose:
        wrong = ovs.vlog.Vlog.set_levels_from_string(spec)
        if wrong:
            raise Problem(f"-v {spec}: {wrong}: see --help", USAGE)
    ovs.vlog.Vlog.init(path)


def _show(options: argparse.Namespace) -> int:
    load(options.config)
    if options.watch:
        from ovs_keepalive import watch

        return watch.run(options.json)
    from ovs_keepalive.formats import document, tables

    node = ask_daemon("keepalive/status", "--json")
    if not document.is_node(node):
        cure = "is it of another version? ovs-appctl -t ovs-keepalive version"
        raise Problem(f"what the daemon answers is no node document: {cure}", UNREACHABLE)
    print(json.dumps(node, indent=2) if options.json else tables.show(node), end="\n" if options.json else "")
    return WELL if document.is_well(node) else UNHEALTHY


def ask_daemon(method: str, *arguments: str) -> Any:
    """One command of the running daemon, decoded from its JSON. Raises Problem."""
    from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask

    pidfile = dirs.rundir() / "ovs-keepalive.pid"
    try:
        pid = pidfile.read_bytes()[:32].strip()
        if not pid.isdigit():
            raise Problem(f"{pidfile}: {pid!r} is no process id: is ovs-keepalive running?", UNREACHABLE)
        return json.loads(ask(dirs.rundir() / f"ovs-keepalive.{pid.decode()}.ctl", 5.0, method, *arguments))
    except OSError as error:
        cure = "start ovs-keepalive run, or set OVS_RUNDIR"
        raise Problem(f"{pidfile}: {error.strerror}: {cure}", UNREACHABLE) from error
    except (NoAnswer, ValueError, RecursionError) as error:
        raise Problem(f"{error}: is ovs-keepalive running?", UNREACHABLE) from error
    except Refused as error:
        raise Problem(str(error), UNREACHABLE) from error


def _schema(options: argparse.Namespace) -> int:
    remote = _remote(options.ovsdb, load(options.config))
    from ovs_keepalive.publishers import schema

    return schema.verb(options.action, remote, sys.stdout)


def _collectd(options: argparse.Namespace) -> int:
    config = load(options.config)
    remote = _remote(options.ovsdb, config)
    from ovs_keepalive import collectd

    try:
        return collectd.Child(remote, config.refresh / 1000, os.environ).loop()
    except OSError as error:  # no descriptors, no memory
        raise Problem(f"collectd: {error.strerror}: raise the limit of collectd's service", UNREACHABLE) from error


def _upgrade_watch(options: argparse.Namespace) -> int:
    remote = _remote(options.ovsdb, load(options.config))
    from ovs_keepalive import upgrade_watch

    wishes = upgrade_watch.Wishes(options.command, options.max_break, options.deadline, options.json)
    try:
        return WELL if upgrade_watch.run(wishes, ask_daemon, remote, sys.stdout) else UNHEALTHY
    except upgrade_watch.NotBegun as error:
        raise Problem(f"upgrade-watch: {error}", UNHEALTHY) from error


def _check_config(options: argparse.Namespace) -> int:
    if options.default:
        print(default_file(), end="")
        return WELL
    config = load(options.config)
    for name in config.__struct_fields__:
        print(f"{name.replace('_', '-')}: {getattr(config, name)!r}")
    return WELL


def _doctor(options: argparse.Namespace) -> int:
    config = load(options.config)
    from ovs_keepalive import doctor

    given = options.vswitchd_pidfile or config.vswitchd_pidfile or None
    return doctor.run(_remote(options.ovsdb, config), Path(given) if given else None, sys.stdout)


def _sandbox(options: argparse.Namespace) -> int:
    from ovs_keepalive import sandbox_verbs

    match options.command:
        case ["fault", pmd, "stop" | "resume" as action]:
            return sandbox_verbs.fault(pmd, action)
        case ["fault", *_]:
            raise Problem("sandbox fault: needs a PMD and stop or resume: see ovs-keepalive sandbox --help", USAGE)
    return sandbox_verbs.run(options.pmds, options.keep, options.command)


def _install(options: argparse.Namespace) -> int:
    from ovs_keepalive import install

    root, prefix = _tree(options)
    wishes = install.Wishes(root, prefix, options.umask, options.user, options.full_causes)
    try:
        install.install(wishes, install.installed_command(), sys.stdout)
    except install.Refused as error:
        raise Problem(f"install: {error}", USAGE) from error
    return WELL


def _uninstall(options: argparse.Namespace) -> int:
    from ovs_keepalive import install

    try:
        install.uninstall(*_tree(options), sys.stdout)
    except install.Refused as error:
        raise Problem(f"uninstall: {error}", USAGE) from error
    return WELL


def _tree(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """--root and --prefix."""
    root, prefix = options.root, options.prefix
    if not prefix.is_absolute() or ".." in prefix.parts:
        raise Problem(f"--prefix {prefix}: not absolute: name a directory such as /usr/local", USAGE)
    return (None if root is None or root.resolve() == Path("/") else root.resolve()), prefix


def _remote(given: str | None, config: Config) -> str:
    remote: str = given or config.ovsdb or f"unix:{dirs.rundir()}/db.sock"
    from ovs_keepalive.publishers import schema, tls

    files = (config.ssl_private_key, config.ssl_certificate, config.ssl_ca_cert)
    if all(files):
        tls.use(tls.Files(*files, config.ssl_hostname))
    try:
        schema.check_remote(remote)
    except schema.RemoteError as error:
        raise Problem(str(error), USAGE) from error
    return remote
