# SPDX-License-Identifier: Apache-2.0
"""`install` and `uninstall` into a tree: what they put where, what they take away, and what they leave alone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import cli, config, config_file, install
from ovs_keepalive.command_line import USAGE
from ovs_keepalive.install import Refused, Wishes

COMMAND = Path("/opt/ovs-keepalive/bin/ovs-keepalive")
PREFIX = Path("/usr/local")
UNITS = "usr/local/lib/systemd/system"
CONFIG = "etc/ovs-keepalive/config.yaml"
PLAIN = {
    f"{UNITS}/ovs-keepalive-fleet.service",
    f"{UNITS}/ovs-keepalive-web.service",
    f"{UNITS}/ovs-keepalive.service",
    "usr/local/lib/sysusers.d/ovs-keepalive.conf",
    "usr/local/share/bash-completion/completions/ovs-keepalive",
    "usr/local/share/man/man5/ovs-keepalive.conf.5",
    "usr/local/share/man/man8/ovs-keepalive.8",
    "usr/local/share/ovs-keepalive/collectd/ovs-keepalive.conf",
    "usr/local/share/ovs-keepalive/grafana/ovs-keepalive.json",
    "usr/local/share/ovs-keepalive/installed.json",
    "usr/local/share/ovs-keepalive/prometheus/ovs-keepalive.rules.yaml",
    "usr/local/share/zsh/site-functions/_ovs-keepalive",
    CONFIG,
}
FLEET_USERS = {f"{UNITS}/ovs-keepalive-{name}.service.d/20-user.conf" for name in ("fleet", "web")}
UMASK = {
    *FLEET_USERS,
    f"{UNITS}/ovs-keepalive.service.d/10-umask.conf",
    f"{UNITS}/ovs-vswitchd.service.d/ovs-keepalive.conf",
    f"{UNITS}/ovsdb-server.service.d/ovs-keepalive.conf",
    "usr/local/lib/tmpfiles.d/ovs-keepalive.conf",
}


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def _install(root: Path, command: Path = COMMAND, prefix: Path = PREFIX, **wishes: Any) -> str:
    out = io.StringIO()
    install.install(Wishes(root=root, prefix=prefix, **wishes), command, out)
    return out.getvalue()


def _uninstall(root: Path, prefix: Path = PREFIX) -> str:
    out = io.StringIO()
    install.uninstall(root, prefix, out)
    return out.getvalue()


# --- what is put in place ------------------------------------------------------------------------


def test_a_plain_install_is_unit_user_configuration_man_pages_and_completion(tmp_path: Path) -> None:
    _install(tmp_path)
    assert _files(tmp_path) == PLAIN
    modes = {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {"0o644"}


def test_nothing_of_it_depends_on_the_callers_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        _install(tmp_path / "root")
    finally:
        os.umask(before)
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "root").rglob("*") if path.is_dir()}
    assert modes == {"0o755"}


def test_the_unit_starts_the_command_that_is_installed(tmp_path: Path) -> None:
    _install(tmp_path)
    lines = (tmp_path / UNITS / "ovs-keepalive.service").read_text().splitlines()
    assert [line for line in lines if line.startswith("ExecStart=")] == [f"ExecStart={COMMAND} run"]


def test_a_command_inside_the_tree_is_named_as_its_host_will_see_it(tmp_path: Path) -> None:
    _install(tmp_path, command=tmp_path / "usr/bin/ovs-keepalive", prefix=Path("/usr"))
    unit = (tmp_path / "usr/lib/systemd/system/ovs-keepalive.service").read_text()
    assert "\nExecStart=/usr/bin/ovs-keepalive run\n" in unit


@pytest.mark.parametrize("user", [None, "openvswitch"])
def test_the_example_for_collectd_runs_the_command_that_is_installed(tmp_path: Path, user: str | None) -> None:
    _install(tmp_path, user=user)
    lines = (tmp_path / "usr/local/share/ovs-keepalive/collectd/ovs-keepalive.conf").read_text().splitlines()
    told = [line.strip() for line in lines if line.strip().startswith("Exec ")]
    assert told == [f'Exec "{user or "ovs-keepalive"}" "{COMMAND}" "collectd"']


def test_the_configuration_is_the_default_one_and_valid(tmp_path: Path) -> None:
    _install(tmp_path)
    assert (tmp_path / CONFIG).read_text() == config.default_file()
    assert config_file.load(tmp_path / CONFIG) == config.Config()


def test_umask_adds_its_drop_ins_and_only_it(tmp_path: Path) -> None:
    _install(tmp_path, umask=True)
    assert _files(tmp_path) == PLAIN | UMASK


def test_full_causes_adds_a_drop_in_that_is_read_after_the_others(tmp_path: Path) -> None:
    _install(tmp_path, umask=True, full_causes=True)
    drop_ins = sorted(path.name for path in (tmp_path / UNITS / "ovs-keepalive.service.d").iterdir())
    assert drop_ins == ["10-umask.conf", "30-full-causes.conf"]


def test_with_open_vswitchs_own_user_no_user_is_made(tmp_path: Path) -> None:
    _install(tmp_path, user="openvswitch")
    drop_in = f"{UNITS}/ovs-keepalive.service.d/20-user.conf"
    assert _files(tmp_path) == PLAIN - {"usr/local/lib/sysusers.d/ovs-keepalive.conf"} | {drop_in, *FLEET_USERS}
    for path in (drop_in, *FLEET_USERS):
        assert "\nUser=openvswitch\nAmbientCapabilities=\n" in (tmp_path / path).read_text()


# --- a second time -------------------------------------------------------------------------------


def test_a_second_install_changes_nothing(tmp_path: Path) -> None:
    _install(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    said = _install(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before
    assert "wrote" not in said


def test_another_choice_takes_back_what_the_last_one_added(tmp_path: Path) -> None:
    _install(tmp_path, umask=True)
    _install(tmp_path)
    assert _files(tmp_path) == PLAIN


def test_a_changed_configuration_is_never_overwritten(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / CONFIG).write_text("refresh: 5000\n")
    said = _install(tmp_path)
    assert (tmp_path / CONFIG).read_text() == "refresh: 5000\n"
    assert f"left alone: {tmp_path / CONFIG}" in said


def test_a_changed_unit_is_written_anew(tmp_path: Path) -> None:
    _install(tmp_path)
    unit = tmp_path / UNITS / "ovs-keepalive.service"
    unit.write_text("[Service]\n")
    _install(tmp_path)
    assert f"ExecStart={COMMAND} run" in unit.read_text()


# --- uninstall -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wishes", [{}, {"umask": True, "full_causes": True}, {"user": "openvswitch"}])
def test_uninstall_leaves_nothing(tmp_path: Path, wishes: dict[str, Any]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    _install(root, **wishes)
    _uninstall(root)
    assert list(root.iterdir()) == []


def test_uninstall_takes_away_nothing_else(tmp_path: Path) -> None:
    theirs = tmp_path / UNITS / "other.service"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\n")
    _install(tmp_path)
    late = tmp_path / "usr/local/share/man/man8/other.8"
    late.write_text("")
    _uninstall(tmp_path)
    assert _files(tmp_path) == {f"{UNITS}/other.service", "usr/local/share/man/man8/other.8"}


def test_uninstall_after_a_second_install_still_knows_the_directories(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    _install(root)
    _install(root, full_causes=True)
    _uninstall(root)
    assert list(root.iterdir()) == []


def test_a_changed_configuration_is_kept_and_told(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / CONFIG).write_text("refresh: 5000\n")
    said = _uninstall(tmp_path)
    assert f"kept {tmp_path / CONFIG}: " in said
    assert _files(tmp_path) == {CONFIG}


def test_a_configuration_that_was_there_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / CONFIG).parent.mkdir(parents=True)
    (tmp_path / CONFIG).write_text(config.default_file())
    _install(tmp_path)
    _uninstall(tmp_path)
    assert _files(tmp_path) == {CONFIG}


def test_the_records_are_kept_and_told(tmp_path: Path) -> None:
    _install(tmp_path)
    state = tmp_path / "var/lib/ovs-keepalive"
    state.mkdir(parents=True)
    assert f"kept {state} " in _uninstall(tmp_path)
    assert state.is_dir()


# --- what is refused -----------------------------------------------------------------------------


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    line = str(caught.value)
    assert line.isprintable()
    return line


def test_a_file_of_somebody_else_is_not_overwritten_and_nothing_else_is_done(tmp_path: Path) -> None:
    theirs = tmp_path / "usr/local/share/man/man8/ovs-keepalive.8"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert _refusal(lambda: _install(tmp_path)).startswith(f"{theirs}: is there")
    assert _files(tmp_path) == {"usr/local/share/man/man8/ovs-keepalive.8"}


@pytest.mark.parametrize("user", ["a b", "x\nExecStart=/bin/sh", "%i", "", "-u"])
def test_what_is_no_user_never_reaches_a_unit(tmp_path: Path, user: str) -> None:
    assert _refusal(lambda: _install(tmp_path, user=user)).startswith(f"--user {user!r}: ")
    assert _files(tmp_path) == set()


def test_umask_and_user_exclude_each_other(tmp_path: Path) -> None:
    assert "--umask with --user" in _refusal(lambda: _install(tmp_path, umask=True, user="openvswitch"))


@pytest.mark.parametrize("directory", ["/opt/with blank", "/opt/%h", '/opt/"'])
def test_a_command_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path, directory: str) -> None:
    command = Path(directory) / "ovs-keepalive"
    assert _refusal(lambda: _install(tmp_path, command=command)).startswith(f"{command}: not to be written in a unit")


@pytest.mark.parametrize("directory", install.UNSEEN)
def test_a_command_that_the_unit_could_not_see_is_refused_on_this_host(directory: str) -> None:
    command = Path(directory) / "venv" / "bin" / "ovs-keepalive"
    line = _refusal(lambda: install._check(Wishes(), command))
    assert line.startswith(f"{command}: the unit cannot see {directory}: ")


def test_without_a_manifest_uninstall_takes_nothing_away(tmp_path: Path) -> None:
    assert "nothing was installed below /usr/local" in _refusal(lambda: _uninstall(tmp_path))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"version": "0"',
        b'{"version": "0", "files": ["/../x"]}',
        b'{"version": "0", "files": ["x"]}',
    ],
)
def test_a_manifest_that_install_did_not_write_removes_nothing(tmp_path: Path, manifest: bytes) -> None:
    root = tmp_path / "root"
    (tmp_path / "x").write_text("")
    _install(root)
    (root / "usr/local/share/ovs-keepalive/installed.json").write_bytes(manifest)
    _refusal(lambda: _uninstall(root))
    assert _files(root) == PLAIN
    assert (tmp_path / "x").exists()


def test_a_tree_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "usr").write_text("a file, not a directory")
    assert _refusal(lambda: _install(tmp_path)).endswith("name a tree that you may write with --root")


# --- the command line ----------------------------------------------------------------------------


def test_both_verbs_work_from_the_command_line(tmp_path: Path) -> None:
    root = tmp_path / "root"
    argv = [str(Path(sys.executable).with_name("ovs-keepalive")), "install", "--systemd", "--root", str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert _files(root) == PLAIN
    done = subprocess.run([argv[0], "uninstall", "--root", str(root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not root.exists(), "install made it"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["install"], "--systemd"),
        (["install", "--systemd", "--prefix", "usr"], "--prefix usr: not absolute"),
        (["uninstall", "--root", "/nowhere/at/all"], "nothing was installed"),
    ],
)
def test_every_error_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == USAGE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ovs-keepalive: ")
    assert says in line
