# SPDX-License-Identifier: Apache-2.0
"""Whether a VM's user gets to its socket: judged by the modes of real files, and by facts where those need root."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ovs_keepalive.core import access, places
from ovs_keepalive.core.access import Credentials
from ovs_keepalive.core.places import Account, Entry, Kind, Place, objection_to_client, objection_to_server
from ovs_keepalive.sensors import places as files

ROOT = Account("root", access.ROOT, "vswitchd")
VM = Account("vm", Credentials(64055, frozenset({64055, 108}), 0), "--vm-user")


def entry(path: str, mode: int, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(path, uid, gid, mode)


def place(*directories: Entry, kind: Kind = Kind.ABSENT, itself: Entry | None = None, ro: bool = False) -> Place:
    return Place("/vms/a.sock", (entry("/", 0o755), *directories), kind, itself, ro)


WELL = [
    place(entry("/vms", 0o777)),
    place(entry("/vms", 0o700, uid=VM.credentials.uid)),
    place(entry("/vms", 0o770, gid=108)),
    place(
        entry("/vms", 0o755, uid=VM.credentials.uid),
        kind=Kind.SOCKET,
        itself=entry("/vms/a.sock", 0o755, uid=VM.credentials.uid),
    ),
    place(
        entry("/vms", 0o755, uid=VM.credentials.uid), kind=Kind.SOCKET, itself=entry("/vms/a.sock", 0o755)
    ),  # it may rm it
    place(Entry("/vms", 0, 0, 0o700, has_list=True)),
]
ILL = {
    "chmod o+x /vms": place(entry("/vms", 0o700)),
    "chmod o+x /in": place(entry("/in", 0o754), entry("/in/vms", 0o777)),
    "install -d -o vm": place(entry("/vms", 0o755)),
    "not vm's": place(entry("/vms", 0o1777), kind=Kind.SOCKET, itself=entry("/vms/a.sock", 0o777)),
    "is a directory": place(entry("/vms", 0o777), kind=Kind.DIRECTORY),
    "is a symbolic link": place(entry("/vms", 0o777), kind=Kind.LINK),
    "is a file": place(entry("/vms", 0o777), kind=Kind.FILE),
    "read-only": place(entry("/vms", 0o777), ro=True),
}


@pytest.mark.parametrize("there", WELL)
def test_a_place_that_the_vm_can_use_is_no_objection(there: Place) -> None:
    assert objection_to_client(there, VM, ROOT) == ""


@pytest.mark.parametrize(("cure", "there"), ILL.items(), ids=ILL)
def test_what_keeps_the_vm_out_is_told_with_its_cure(cure: str, there: Place) -> None:
    said = objection_to_client(there, VM, ROOT)
    assert said.startswith("--path /vms/a.sock: ")
    assert cure in said


def test_the_group_counts_before_everybody_else() -> None:
    there = place(entry("/vms", 0o707, gid=108))
    assert "cannot pass" in objection_to_client(there, VM, ROOT)


def test_a_vswitchd_that_is_not_root_has_to_get_there_too() -> None:
    there = place(entry("/vms", 0o700, uid=VM.credentials.uid))
    said = objection_to_client(there, VM, Account("openvswitch", Credentials(992, frozenset({992}), 0), "vswitchd"))
    assert "openvswitch (vswitchd) cannot pass" in said


def test_a_server_port_needs_a_free_path_on_a_way_that_is_open() -> None:
    assert objection_to_server(place(entry("/vms", 0o755)), VM) == ""
    assert "cannot pass" in objection_to_server(place(entry("/vms", 0o750)), VM)
    stale = place(entry("/vms", 0o755), kind=Kind.SOCKET, itself=entry("/vms/a.sock", 0o755))
    assert "rm /vms/a.sock" in objection_to_server(stale, VM)


def test_a_socket_is_shut_to_whoever_may_not_write_to_it() -> None:
    assert places.shut_to(entry("/s", 0o755), VM)
    assert not places.shut_to(entry("/s", 0o775, gid=108), VM)
    assert not places.shut_to(entry("/s", 0o755), ROOT)


# --- real files -----------------------------------------------------------------------------------


def test_every_directory_on_the_way_is_looked_at(tmp_path: Path) -> None:
    tmp_path.chmod(0o751)
    there = files.look(f"{tmp_path}/a.sock")
    assert [one.path for one in there.directories] == [str(one) for one in reversed((tmp_path / "a").parents)]
    assert there.directories[-1].mode == 0o751
    assert (there.kind, there.itself, there.problem) == (Kind.ABSENT, None, "")


@pytest.mark.parametrize("kind", [Kind.SOCKET, Kind.DIRECTORY, Kind.LINK, Kind.FILE])
def test_what_lies_there_is_named(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "a"
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case Kind.SOCKET:
                listener.bind(str(path))
            case Kind.DIRECTORY:
                path.mkdir()
            case Kind.LINK:
                path.symlink_to(path)
            case _:
                path.touch()
        there = files.look(str(path))
    assert there.kind is kind
    assert there.itself is not None
    assert there.itself.uid == os.getuid()
    assert (files.socket_file(str(path)) is not None) == (kind is Kind.SOCKET)


@pytest.mark.parametrize("below", ["loop/a.sock", "file/a.sock", "absent/a.sock"])
def test_a_way_that_leads_nowhere_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    there = files.look(f"{tmp_path}/{below}")
    assert str(tmp_path / Path(below).parts[0]) in there.problem
    assert there.problem in objection_to_client(there, VM, ROOT)


def test_the_user_is_the_one_that_was_named_then_libvirts_then_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "qemu.conf"
    conf.write_text('#user = "root"\nuser = "nobody"\ngroup = "kvm"\n')
    named = files.vm_user("daemon", conf)
    assert (named.name, named.credentials.uid) == ("daemon", 1)
    told = files.vm_user(None, conf)
    assert (told.name, told.source) == ("nobody", str(conf))
    conf.write_text('user = "+0"\n')
    assert files.vm_user(None, conf).credentials == access.ROOT
    monkeypatch.setattr(files, "USUAL", ("no-such-user-of-libvirt",))
    assert files.libvirt_user(tmp_path / "absent") is None
    alone = files.vm_user(None, tmp_path / "absent")
    assert alone.credentials == access.ROOT
    assert "--vm-user" in alone.source


@pytest.mark.parametrize("name", ["no such user", "u" * 300, "+99999999999999999999", "1\n2"])
def test_a_user_that_is_none_is_told(name: str) -> None:
    with pytest.raises(files.NoUser, match="no such user on this host"):
        files.vm_user(name)


def test_a_process_runs_as_somebody() -> None:
    account = files.process_user(os.getpid())
    assert account.credentials.uid == os.geteuid()
    assert os.getegid() in account.credentials.groups
