# SPDX-License-Identifier: Apache-2.0
"""What systemd itself says of the unit and its drop-ins: that it understands them, and how much they leave open."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive import install
from ovs_keepalive.install import Wishes
from tests.conftest import cannot

UNITS = ("ovs-keepalive", "ovs-keepalive-fleet", "ovs-keepalive-web")
MOST = 2.0  # the exposure that `systemd-analyze security` may find (0 to 10)
EVERY = [
    pytest.param({}, id="plain"),
    pytest.param({"umask": True}, id="umask"),
    pytest.param({"user": "openvswitch"}, id="user"),
    pytest.param({"full_causes": True}, id="full-causes"),
    pytest.param({"umask": True, "full_causes": True}, id="umask-full-causes"),
]


@pytest.fixture
def analyze() -> str:
    """systemd-analyze, of a version that rates files (250)."""
    program = shutil.which("systemd-analyze") or cannot("there is no systemd-analyze: install systemd")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return program if int(version.partition(".")[0]) >= 250 else cannot(f"systemd-analyze {version} rates no files")


def _installed(root: Path, wishes: dict[str, Any]) -> Path:
    """The directory of the units of a tree that has a command too."""
    command = root / "usr/bin/ovs-keepalive"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    install.install(Wishes(root=root, prefix=Path("/usr"), **wishes), command, io.StringIO())
    return root / "usr/lib/systemd/system"


def _exposure(analyze: str, root: Path, unit: str = "ovs-keepalive.service") -> float:
    argv = [analyze, "security", "--offline=true", f"--root={root}", "--no-pager", unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(rf"Overall exposure level for {unit}: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


@pytest.mark.parametrize("wishes", EVERY)
def test_systemd_understands_all_of_it(analyze: str, tmp_path: Path, wishes: dict[str, Any]) -> None:
    units = _installed(tmp_path, wishes)
    for name in ("mkdir", "kill", "sh"):
        shutil.copy(shutil.which(name) or cannot(f"there is no {name}"), tmp_path / "usr/bin")
    for name in ("ovsdb-server", "ovs-vswitchd"):  # Open vSwitch's own, on which its drop-ins lie
        (units / f"{name}.service").write_text("[Service]\nExecStart=/usr/bin/kill\n")
    # What its units are ordered by. Only those of systemd itself: the tree has no others.
    for name in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
        (units / f"{name}.target").write_text("[Unit]\n")
    argv = [analyze, "verify", "--man=no", f"--root={tmp_path}"]
    verified = [f"{name}.service" for name in (*UNITS, "ovsdb-server", "ovs-vswitchd")]
    done = subprocess.run([*argv, *verified], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("wishes", EVERY)
def test_it_leaves_little_open(analyze: str, tmp_path: Path, wishes: dict[str, Any]) -> None:
    _installed(tmp_path, wishes)
    exposure = _exposure(analyze, tmp_path)
    print(f"exposure {exposure}, {wishes or 'plain'}")
    if "full_causes" not in wishes:
        assert exposure <= MOST
    for unit in ("ovs-keepalive-fleet.service", "ovs-keepalive-web.service"):
        exposure = _exposure(analyze, tmp_path, unit)
        print(f"exposure {exposure}, {unit}")
        assert exposure <= MOST


def test_a_line_that_opens_something_would_be_seen(analyze: str, tmp_path: Path) -> None:
    unit = _installed(tmp_path, {}) / "ovs-keepalive.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=strict\n", "").replace("CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"))
    assert _exposure(analyze, tmp_path) > MOST


@pytest.mark.parametrize("name", ["ovs-keepalive", "ovs-keepalive-fleet"])
def test_the_plain_unit_has_one_capability(tmp_path: Path, name: str) -> None:
    unit = (_installed(tmp_path, {}) / f"{name}.service").read_text()
    assert re.findall(r"^(?:AmbientCapabilities|CapabilityBoundingSet)=(.*)$", unit, re.MULTILINE) == [
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_OVERRIDE",
    ]


@pytest.mark.parametrize("name", UNITS)
def test_no_start_or_stop_is_passed_on_between_it_and_open_vswitch(tmp_path: Path, name: str) -> None:
    unit = (_installed(tmp_path, {}) / f"{name}.service").read_text()
    bound = r"^(Requires|Requisite|Wants|BindsTo|PartOf|Upholds|Conflicts|PropagatesStopTo|StopPropagatedFrom)="
    assert re.findall(bound, unit, re.MULTILINE) == []


def test_the_user_and_the_directory_of_the_umask_way_are_made(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        cannot("only root may make users and give files away")
    _installed(tmp_path, {"umask": True})
    for program, *options in (("systemd-sysusers",), ("systemd-tmpfiles", "--create")):
        found = shutil.which(program) or cannot(f"there is no {program}: install systemd")
        argv = [found, *options, f"--root={tmp_path}", "ovs-keepalive.conf"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    [group] = [line for line in (tmp_path / "etc/group").read_text().splitlines() if line.startswith("ovs-keepalive:")]
    made = (tmp_path / "run/openvswitch").stat()
    assert oct(made.st_mode & 0o7777) == "0o2775"
    assert (made.st_uid, made.st_gid) == (0, int(group.split(":")[2]))
