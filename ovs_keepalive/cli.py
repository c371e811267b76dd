# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command line, one small function each. Every error is one line on stderr."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace as replaced

from ovs_keepalive import dirs
from ovs_keepalive.command_line import UNHEALTHY, UNREACHABLE, USAGE, WELL, Problem, command_line
from ovs_keepalive.config import Config, Options, default_file, documented_keys
from ovs_keepalive.config_file import Invalid, load
from ovs_keepalive.formats import listen
from ovs_keepalive.formats.plain import one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name need not be a word of this terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = command_line().parse_args(arguments)
        return VERBS[options.verb](options)
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


def _complain(error: Exception) -> None:
    print(one_line(f"ovs-keepalive: {error}"), file=sys.stderr)


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
    from ovs_keepalive import daemon, log_file, pidfile, successor  # python-ovs and all: only for the daemon

    log_file.open_log(options.log_file, options.verbose)
    asked = Options(
        config=config,
        config_file=options.config,
        remote=remote,
        listen=address,
        vswitchd_pidfile=_vswitchd_pidfile(options.vswitchd_pidfile, config),
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


def _show(options: argparse.Namespace) -> int:
    load(options.config)
    if options.watch:
        from ovs_keepalive import watch

        return watch.run(options.json)
    from ovs_keepalive.formats import document, ports, tables

    node = ask_daemon("keepalive/status", "--json")
    if not document.is_node(node):
        cure = "is it of another version? ovs-appctl -t ovs-keepalive version"
        raise Problem(f"what the daemon answers is no node document: {cure}", UNREACHABLE)
    if options.json:
        print(json.dumps(node, indent=2))
    else:
        print(tables.show(node), ports.glance(node.get("ports", ())), sep="", end="")
    return WELL if document.is_well(node) else UNHEALTHY


def ask_daemon(method: str, *arguments: str, refused: int = UNREACHABLE) -> Any:
    """One command of the running daemon, decoded from its JSON. refused: status when it objects. Raises Problem."""
    from ovs_keepalive.question import daemon_socket
    from ovs_keepalive.sensors.appctl_client import NoAnswer, Refused, ask

    try:
        control = daemon_socket(dirs.rundir())
    except NoAnswer as error:
        raise Problem(str(error), UNREACHABLE) from error
    try:
        return json.loads(ask(control, 5.0, method, *arguments))
    except (NoAnswer, ValueError, RecursionError) as error:
        raise Problem(f"{error}: is ovs-keepalive running?", UNREACHABLE) from error
    except Refused as error:
        raise Problem(str(error), refused) from error


def _ports(options: argparse.Namespace) -> int:
    config = load(options.config)
    remote = _remote(options.ovsdb, config)
    if options.action == "audit":
        return _ports_audit(options, config, remote)
    from ovs_keepalive import port_verbs

    return port_verbs.run(options, remote, _vswitchd_pidfile(None, config), sys.stdout)


def _ports_audit(options: argparse.Namespace, config: Config, remote: str) -> int:
    from ovs_keepalive import port_audit, survey_child

    def daemon() -> Any:
        try:
            return ask_daemon("ports/audit", "--json")
        except Problem:
            return None

    try:
        order = survey_child.order_of(config, remote, _vswitchd_pidfile(None, config))
        return WELL if port_audit.run(daemon, order, options.json, sys.stdout) else UNHEALTHY
    except port_audit.Unreachable as error:
        raise Problem(f"ports audit: {error}", UNREACHABLE) from error


def _offload(options: argparse.Namespace) -> int:
    load(options.config)
    from ovs_keepalive import offload_verbs

    def ask(*words: str) -> Any:
        return ask_daemon(*words, refused=USAGE)

    try:
        return WELL if offload_verbs.run(options, ask, sys.stdout) else UNHEALTHY
    except offload_verbs.Foreign as error:
        raise Problem(f"offload: {error}", UNREACHABLE) from error


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


def _web(options: argparse.Namespace) -> int:
    config = load(options.config)
    try:
        address = listen.parse(options.web_listen)
    except listen.BadAddress as error:
        raise Problem(f"--web-listen {error}", USAGE) from error
    if address is None:
        raise Problem("--web-listen off: a page that nobody can reach: give HOST:PORT", USAGE)
    from ovs_keepalive import fleet_access

    try:
        from ovs_keepalive import fleet_source, web_app
    except ImportError as error:
        raise Problem(f"web: {error.name} is not installed: pip install 'ovs-keepalive[fleet,web]'", USAGE) from error
    try:
        source = fleet_source.Following(fleet_access.options(config.fleet), options.cell)
        return web_app.run(source, address, lambda line: print(f"ovs-keepalive: {line}", file=sys.stderr))
    except ValueError as error:
        raise Problem(f"fleet: {error}", USAGE) from error
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise Problem(f"--web-listen {address}: {why}: choose another address or port", USAGE) from error


def _check_config(options: argparse.Namespace) -> int:
    if options.default:
        print(default_file(), end="")
        return WELL
    config = load(options.config)
    for key in documented_keys():
        print(f"{key.name}: {key.of(config)!r}")
    return WELL


def _doctor(options: argparse.Namespace) -> int:
    config = load(options.config)
    from ovs_keepalive import doctor

    pidfile = _vswitchd_pidfile(options.vswitchd_pidfile, config)
    return doctor.run(_remote(options.ovsdb, config), pidfile, sys.stdout)


def _fleet(options: argparse.Namespace) -> int:
    config = load(options.config)
    if options.action == "unmesh":
        return _unmesh(config, _remote(options.ovsdb, config))
    section = config.fleet if options.zookeeper is None else replaced(config.fleet, zookeeper=options.zookeeper)
    from ovs_keepalive import fleet_access

    access = fleet_access.options(section)
    if options.action != "agent":
        from ovs_keepalive import fleet_cli

        return fleet_cli.run(options, section, access, sys.stdout)
    remote = _remote(options.ovsdb, config)
    from ovs_keepalive import fleet_agent, fleet_node, log_file

    log_file.open_log(options.log_file, options.verbose)
    place = fleet_node.Place(dirs.rundir(), remote, _vswitchd_pidfile(options.vswitchd_pidfile, config))
    return fleet_agent.run(section, place)


def _unmesh(config: Config, remote: str) -> int:
    if config.fleet.mesh:
        raise Problem("fleet unmesh: fleet.mesh is true: the agent would make it anew: set it to false first", USAGE)
    from ovs_keepalive import fleet_access, mesh, stall
    from ovs_keepalive.core.mesh import Asked

    if why := stall.objection(dirs.rundir(), _vswitchd_pidfile(None, config)):
        raise Problem(f"fleet unmesh: {why}", USAGE)
    asked = Asked(config.fleet.cell, fleet_access.own_name(config.fleet), config.fleet.address)
    try:
        print(mesh.remove(remote, dirs.rundir(), asked))
    except mesh.NotRemoved as error:
        raise Problem(f"fleet unmesh: {error}", UNREACHABLE) from error
    return WELL


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


def _vswitchd_pidfile(given: Path | None, config: Config) -> Path | None:
    """The option goes before the file; None: any in Open vSwitch's run directory."""
    return given or (Path(config.vswitchd_pidfile) if config.vswitchd_pidfile else None)


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


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "fleet": _fleet,
    "incident": _incident,
    "ports": _ports,
    "offload": _offload,
    "upgrade": _upgrade,
    "run": _run,
    "show": _show,
    "schema": _schema,
    "collectd": _collectd,
    "upgrade-watch": _upgrade_watch,
    "web": _web,
    "check-config": _check_config,
    "doctor": _doctor,
    "sandbox": _sandbox,
    "install": _install,
    "uninstall": _uninstall,
}
