# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive install --systemd` and `uninstall`: unit, user, default configuration, man pages and completion.

What was put in place stands in a manifest, which only root may write: uninstall takes away exactly that.
"""

from __future__ import annotations

import hashlib
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TextIO

import msgspec

from ovs_keepalive import __version__
from ovs_keepalive.config import default_file
from ovs_keepalive.config_file import DEFAULT_PATH

NAME = "ovs-keepalive"
UNIT = f"{NAME}.service"
FLEET = f"{NAME}-fleet.service"  # of the agent, which nobody has to start …
WEB = f"{NAME}-web.service"  # … and of the fleet's page, the same
SHIPPED_COMMAND = f"/usr/bin/{NAME}"  # what the unit in share/ names
STATE = Path("/var/lib/ovs-keepalive")
RUNNING = Path("/run/systemd/system")  # there where systemd runs (sd_booted(3))
UNSEEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - by ProtectHome= and PrivateTmp= of the unit
PLAIN_PATH = re.compile(r"[\w./@+:,=-]+", re.ASCII)  # no quote, blank or % that a unit file would read otherwise
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
EXAMPLES = (f"prometheus/{NAME}.rules.yaml", f"grafana/{NAME}.json")
CALL = 60.0  # seconds that a tool of systemd may take


class Refused(Exception):
    """Nothing, or no more, is done: one line that names the thing and the cure."""


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for."""

    root: Path | None = None  # a tree to install into; None: this host
    prefix: Path = Path("/usr/local")
    umask: bool = False  # Open vSwitch opens its sockets to the group, and the daemon has no capability
    user: str | None = None  # Open vSwitch's own user, as whom the daemon then runs
    full_causes: bool = False  # with the capabilities for wchan, syscall and perf events


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What install put in place, as paths on the host that it is for."""

    version: str
    files: list[str] = []
    directories: list[str] = []  # that were not there before, the outer ones first
    configuration: str = ""  # SHA-256 of the default file, if install wrote it


@dataclass
class _Tree:
    """A host's files, below a root or not."""

    root: Path
    out: TextIO
    made: list[str] = field(default_factory=list)  # directories

    def at(self, path: Path | str) -> Path:
        return self.root / str(path).lstrip("/")

    def read(self, path: Path | str) -> bytes | None:
        try:
            return self.at(path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        """Whole or not at all; readable by all, writable by the owner."""
        absent = [parent for parent in path.parents if not self.at(parent).exists()]
        for directory in reversed(absent):
            self.at(directory).mkdir(exist_ok=True)
            self.at(directory).chmod(0o755)
            self.made.append(str(directory))
        new = self.at(path).with_name(f".{path.name}.new")
        new.write_bytes(content)
        new.chmod(0o644)
        new.replace(self.at(path))

    def remove(self, path: str) -> None:
        self.at(path).unlink(missing_ok=True)
        self.say(f"removed {self.at(path)}")

    def say(self, line: str) -> None:
        print(line, file=self.out)


def manifest_path(prefix: Path) -> Path:
    """Not in the state directory: what the daemon may write must not tell root which files to remove."""
    return prefix / "share" / NAME / "installed.json"


def installed_command() -> Path:
    """The command by which this very code runs. Raises Refused."""
    called = Path(sys.argv[0])
    path = called.absolute() if called.name == NAME else Path(sys.executable).with_name(NAME)
    if not path.is_file():
        raise Refused(f"{path}: no such command: install the package with pip first, and use its {NAME}")
    return path


def install(wishes: Wishes, command: Path, out: TextIO) -> None:
    """Put everything in place; a second time changes nothing. Raises Refused."""
    tree = _Tree(wishes.root or Path("/"), out)
    try:
        _install(wishes, _on_its_host(command, wishes.root), tree)
    except OSError as error:
        raise _explained(error, tree) from error


def uninstall(root: Path | None, prefix: Path, out: TextIO) -> None:
    """Take away what install put in place, and say what stays. Raises Refused."""
    tree = _Tree(root or Path("/"), out)
    try:
        _uninstall(tree, prefix, on_this_host=root is None)
    except OSError as error:
        raise _explained(error, tree) from error


# --- install -----------------------------------------------------------------------------------


def _install(wishes: Wishes, command: Path, tree: _Tree) -> None:
    _check(wishes, command)
    files = _files(wishes, command)
    before = _manifest(tree, wishes.prefix)
    known = before or Manifest(__version__)
    for path, content in files.items():
        found = tree.read(path)
        if found not in (None, content) and str(path) not in known.files:
            raise Refused(f"{tree.at(path)}: is there, and install did not put it there: move it away")
    for old in sorted(set(known.files) - set(map(str, files))):
        tree.remove(old)  # of another choice, or of an older version
    for path, content in files.items():
        if tree.read(path) == content:
            tree.say(f"as it was: {tree.at(path)}")
        else:
            tree.write(path, content)
            tree.say(f"wrote {tree.at(path)}")
    written = known.configuration
    if tree.read(DEFAULT_PATH) is None:
        content = default_file().encode()
        tree.write(DEFAULT_PATH, content)
        tree.say(f"wrote {tree.at(DEFAULT_PATH)}")
        written = _digest(content)
    else:
        tree.say(f"left alone: {tree.at(DEFAULT_PATH)}")
    where = manifest_path(wishes.prefix)
    tree.write(where, b"")  # so that its own directory is in it
    directories = known.directories + [made for made in tree.made if made not in known.directories]
    manifest = Manifest(__version__, sorted(map(str, files)), directories, written)
    tree.write(where, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    _tell_systemd(wishes, tree)


def _check(wishes: Wishes, command: Path) -> None:
    if wishes.user is not None:
        if wishes.umask:
            raise Refused("--umask with --user: the user of Open vSwitch needs no umask: leave one of them out")
        if not USER.fullmatch(wishes.user):
            raise Refused(f"--user {wishes.user!r}: not a user's name: name the one that ovs-vswitchd runs as")
    if not PLAIN_PATH.fullmatch(str(command)):
        raise Refused(f"{command}: not to be written in a unit: install {NAME} where the path has no such characters")
    if wishes.root is not None:
        return
    if wishes.user is not None:
        _check_user(wishes.user)
    for path in (command, Path(sys.executable).resolve()):
        for unseen in UNSEEN:
            if path.is_relative_to(unseen):
                raise Refused(f"{path}: the unit cannot see {unseen}: install {NAME} in /opt or /usr/local")


def _check_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"--user {name}: no such user: name the one that ovs-vswitchd runs as") from None


def _files(wishes: Wishes, command: Path) -> dict[Path, bytes]:
    """What belongs where, but for the configuration."""
    lib, share = wishes.prefix / "lib", wishes.prefix / "share"
    units = lib / "systemd" / "system"
    drop_ins = units / f"{UNIT}.d"
    files = {
        **{units / unit: _started(_shipped("systemd", unit), command) for unit in (UNIT, FLEET, WEB)},
        share / "man" / "man8" / f"{NAME}.8": _shipped("man", f"{NAME}.8"),
        share / "man" / "man5" / f"{NAME}.conf.5": _shipped("man", f"{NAME}.conf.5"),
        share / "bash-completion" / "completions" / NAME: _shipped("completion", NAME),
        share / "zsh" / "site-functions" / f"_{NAME}": _shipped("completion", f"_{NAME}"),
        share / NAME / "collectd" / f"{NAME}.conf": _for_collectd(wishes, command),
    }
    for example in EXAMPLES:  # for other programs, which their administrators point at them
        files[share / NAME / example] = _shipped(*example.split("/"))
    if wishes.user is None:
        files[lib / "sysusers.d" / f"{NAME}.conf"] = _shipped("sysusers.d", f"{NAME}.conf")
    else:
        files[drop_ins / "20-user.conf"] = _as_user(UNIT, wishes.user)
    if wishes.umask or wishes.user is not None:
        user = _as_user(FLEET, wishes.user or NAME)
        files |= {units / f"{unit}.d" / "20-user.conf": user for unit in (FLEET, WEB)}
    if wishes.umask:
        files[lib / "tmpfiles.d" / f"{NAME}.conf"] = _shipped("tmpfiles.d", f"{NAME}.conf")
        files[drop_ins / "10-umask.conf"] = _shipped("systemd", f"{UNIT}.d", "10-umask.conf")
        for theirs in ("ovsdb-server.service.d", "ovs-vswitchd.service.d"):
            files[units / theirs / f"{NAME}.conf"] = _shipped("systemd", theirs, f"{NAME}.conf")
    if wishes.full_causes:
        files[drop_ins / "30-full-causes.conf"] = _shipped("systemd", f"{UNIT}.d", "30-full-causes.conf")
    return {path: text.encode() for path, text in files.items()}


def _started(unit: str, command: Path) -> str:
    """The unit with the command that is installed."""
    return unit.replace(f"ExecStart={SHIPPED_COMMAND} ", f"ExecStart={command} ")


def _as_user(unit: str, user: str) -> str:
    """The drop-in by which a unit runs as that user."""
    drop_in = _shipped("systemd", f"{unit}.d", "20-user.conf")
    return drop_in.replace(f"User={NAME}\n", f"User={user}\n").replace(f"-o {NAME} ", f"-o {user} ")


def _for_collectd(wishes: Wishes, command: Path) -> str:
    """The example that an operator copies to collectd, with the command and the user of this installation."""
    text = _shipped("collectd", f"{NAME}.conf")
    return text.replace(f'Exec "{NAME}" "{SHIPPED_COMMAND}"', f'Exec "{wishes.user or NAME}" "{command}"')


def _shipped(*names: str) -> str:
    return resources.files("ovs_keepalive").joinpath("share", *names).read_text(encoding="utf-8")


def _on_its_host(command: Path, root: Path | None) -> Path:
    """The path that the command has once the tree is a host's root."""
    placed = command.parent.resolve() / command.name
    if root is not None and placed.is_relative_to(root.resolve()):
        return Path("/") / placed.relative_to(root.resolve())
    return command


def _tell_systemd(wishes: Wishes, tree: _Tree) -> None:
    if wishes.root is not None:
        return
    if not RUNNING.is_dir():
        tree.say("systemd does not run here: nobody was told, and no user was made")
        return
    lib = wishes.prefix / "lib"
    if wishes.user is None:
        _call(tree, "systemd-sysusers", str(lib / "sysusers.d" / f"{NAME}.conf"))
    if wishes.umask:
        _call(tree, "systemd-tmpfiles", "--create", str(lib / "tmpfiles.d" / f"{NAME}.conf"))
        tree.say(f"with Open vSwitch's next restart its sockets are the group's; until then {NAME} cannot connect")
    _call(tree, "systemctl", "daemon-reload")
    tree.say(f"to start it, now and at every boot: systemctl enable --now {NAME}")


# --- uninstall ---------------------------------------------------------------------------------


def _uninstall(tree: _Tree, prefix: Path, *, on_this_host: bool) -> None:
    manifest = _manifest(tree, prefix)
    if manifest is None:
        raise Refused(f"{tree.at(manifest_path(prefix))}: not there: nothing was installed below {prefix}")
    systemd = on_this_host and RUNNING.is_dir()
    if systemd:
        there = {Path(path).name for path in manifest.files}
        _call(tree, "systemctl", "disable", "--now", *(unit for unit in (WEB, FLEET, UNIT) if unit in there))
    for path in manifest.files:
        tree.remove(path)
    found = tree.read(DEFAULT_PATH)
    if found is not None and _digest(found) == manifest.configuration:
        tree.remove(str(DEFAULT_PATH))
    elif found is not None:
        tree.say(f"kept {tree.at(DEFAULT_PATH)}: it is not as install wrote it")
    tree.remove(str(manifest_path(prefix)))
    for directory in reversed(manifest.directories):
        if tree.at(directory).is_dir() and not any(tree.at(directory).iterdir()):
            tree.at(directory).rmdir()
    if systemd:
        _call(tree, "systemctl", "daemon-reload")
    if tree.at(STATE).exists():
        tree.say(f"kept {tree.at(STATE)} with the black-box records, and the user they belong to")


# --- both --------------------------------------------------------------------------------------


def _manifest(tree: _Tree, prefix: Path) -> Manifest | None:
    path = tree.at(manifest_path(prefix))
    content = tree.read(manifest_path(prefix))
    if content is None:
        return None
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}: not what install wrote: restore it, or remove the files by hand") from error
    for listed in (*manifest.files, *manifest.directories):
        if not listed.startswith("/") or ".." in Path(listed).parts:
            raise Refused(f"{path}: {listed!r}: no path that install wrote: restore it, or remove the files by hand")
    return manifest


def _call(tree: _Tree, *argv: str) -> None:
    tree.say(f"ran {' '.join(argv)}")
    if shutil.which(argv[0]) is None:
        raise Refused(f"{argv[0]}: not found: install systemd's tools, and run this again")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=CALL, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{' '.join(argv)}: no end in {CALL:g} s: see systemctl status, run this again") from error
    if done.returncode:
        raise Refused(f"{' '.join(argv)}: {_last_line(done.stderr) or f'status {done.returncode}'}: run this again")


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _explained(error: OSError, tree: _Tree) -> Refused:
    cure = "run it as root, or name a tree that you may write with --root"
    return Refused(f"{error.filename or tree.root}: {error.strerror}: {cure}")
