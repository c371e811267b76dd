# SPDX-License-Identifier: Apache-2.0
"""The columns put into a running ovsdb-server with ovs-vswitchd connected, and taken out again; who survives that; and
every way in which a database cannot be reached."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ovs_keepalive.formats.schema import Found
from ovs_keepalive.publishers import schema
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import free_port
from tests.neutron import NeutronLike

pytestmark = pytest.mark.real

Maker = Callable[..., Sandbox]
BOTH = ("keepalive", "keepalive_detail")
STOCK = "/usr/share/openvswitch/vswitch.ovsschema"
DEBIAN_PYTHON = "/usr/bin/python3"  # the one that Debian's python3-openvswitch is made for


def verb(action: str, remote: str) -> tuple[int, list[str]]:
    """Exit status and lines of `ovs-keepalive schema ACTION`."""
    out = io.StringIO()
    return schema.verb(action, remote, out), out.getvalue().splitlines()


def live(box: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = schema.call(box.remote, "get_schema", ["Open_vSwitch"], 5)
    return found


def shown(box: Sandbox) -> bytes:
    """The schema as `ovsdb-client get-schema` prints it."""
    argv = ["ovsdb-client", "get-schema", box.remote, "Open_vSwitch"]
    return subprocess.run(argv, env=box.env, check=True, capture_output=True, timeout=10).stdout


def add_column(box: Sandbox, name: str, column: dict[str, Any]) -> None:
    changed = live(box)
    changed["tables"]["Open_vSwitch"]["columns"][name] = column
    schema.call(box.remote, "convert", ["Open_vSwitch", changed], 30)


@contextmanager
def bystander(box: Sandbox) -> Iterator[Callable[[], bool]]:
    """An idle session that does not understand conversions: ovsdb-server ends it at each. Says whether it was."""
    with socket.socket(socket.AF_UNIX) as session:
        session.settimeout(5)
        session.connect(str(box.dir / "db.sock"))
        session.sendall(b'{"id": 0, "method": "echo", "params": []}')
        session.recv(100)
        session.setblocking(False)

        def ended() -> bool:
            try:
                return session.recv(1) == b""
            except BlockingIOError:
                return False

        yield ended


# --- apply and revert ----------------------------------------------------------------------------


def check_there_and_back(box: Sandbox) -> None:
    """All that `apply` and `revert` promise, on one sandbox."""
    schema_before, shown_before = live(box), shown(box)
    threads, pid = box.pmds(), box.vswitchd_pid
    assert verb("status", box.remote) == (1, ["keepalive: absent", "keepalive_detail: absent"])

    with bystander(box) as ended:
        status, lines = verb("apply", box.remote)
        wait(ended, "the conversion is seen")
    version = schema_before["version"]
    assert (status, lines) == (
        0,
        [
            schema.DANGER,
            f"added keepalive and keepalive_detail; schema version {version} as before",
            "keepalive: present",
            "keepalive_detail: present",
        ],
    )
    assert verb("status", box.remote) == (0, ["keepalive: present", "keepalive_detail: present"])
    applied = live(box)
    assert {key: value for key, value in applied.items() if key != "tables"} == {
        key: value for key, value in schema_before.items() if key != "tables"
    }
    # ovs-vswitchd follows the database as before: ovs-vsctl waits until it has done what was asked.
    box.vsctl("add-port", "br0", "after", "--", "set", "interface", "after", "type=dummy")
    box.vsctl("del-port", "br0", "after")
    assert "numa_id" in box.appctl("dpif-netdev/pmd-perf-show")
    assert (box.pmds(), box.vswitchd_pid) == (threads, pid)
    box.transact({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"keepalive": ["map", [["a", "b"]]]}})
    assert box.column() == {"a": "b"}

    with bystander(box) as ended:
        status, lines = verb("apply", box.remote)
        assert (status, lines) == (0, ["nothing to do", "keepalive: present", "keepalive_detail: present"])
        assert not schema.apply(box.remote).changed
        assert not ended()  # no second conversion
        status, lines = verb("revert", box.remote)
        wait(ended, "the conversion is seen")
    assert status == 0
    assert lines[1] == f"removed keepalive and keepalive_detail; schema version {version} as before"
    assert live(box) == schema_before
    assert shown(box) == shown_before
    with bystander(box) as ended:
        assert verb("revert", box.remote)[1][0] == "nothing to do"
        assert not ended()
    assert (box.pmds(), box.vswitchd_pid) == (threads, pid)


def test_there_and_back(sandbox: Sandbox) -> None:
    check_there_and_back(sandbox)
    argv = ["ovsdb-tool", "needs-conversion", str(sandbox.dir / "conf.db"), STOCK]
    assert subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10).stdout == "no\n"


@pytest.mark.parametrize("suite", ["bullseye", "trixie", "sid"])
def test_there_and_back_on_another_ovs(make_sandbox: Maker, suite: str) -> None:
    root = Path(os.environ.get("OVS_CHROOTS", "/var/tmp"), f"ovs-chroot-{suite}")  # noqa: S108 -- a place, not a file
    if not (root / STOCK[1:]).exists() or os.geteuid() != 0:
        pytest.skip(f"no OVS below {root} (debootstrap makes it), or not root")
    check_there_and_back(make_sandbox(ovs_root=root))


def test_values_end_with_the_server_and_the_columns_stay(sandbox: Sandbox) -> None:
    schema.apply(sandbox.remote)
    row = {"keepalive": ["map", [["pmd-c00/id:6", "ALIVE,0,1763690430123"]]]}
    sandbox.transact({"op": "update", "table": "Open_vSwitch", "where": [], "row": row})
    assert sandbox.column() == {"pmd-c00/id:6": "ALIVE,0,1763690430123"}
    assert b"1763690430123" not in (sandbox.dir / "conf.db").read_bytes()  # never on the disk
    sandbox.kill_ovsdb()
    sandbox.start_ovsdb()
    assert schema.status(sandbox.remote).complete
    assert sandbox.column() == {}


def test_a_foreign_column_is_left_alone_and_told(sandbox: Sandbox) -> None:
    add_column(sandbox, "keepalive", {"type": "integer"})
    told = 'keepalive: of another type, left alone: {"type": "integer"}'
    assert verb("status", sandbox.remote) == (1, [told, "keepalive_detail: absent"])
    status, lines = verb("apply", sandbox.remote)
    assert (status, lines[2:]) == (1, [told, "keepalive_detail: present"])
    with bystander(sandbox) as ended:
        assert verb("apply", sandbox.remote) == (1, ["nothing to do", told, "keepalive_detail: present"])
        assert not ended()
    status, lines = verb("revert", sandbox.remote)
    assert (status, lines[2:]) == (0, [told, "keepalive_detail: absent"])
    assert live(sandbox)["tables"]["Open_vSwitch"]["columns"]["keepalive"] == {"type": "integer"}


def test_what_is_there_already_is_not_added_again(sandbox: Sandbox) -> None:
    before = live(sandbox)
    column = live(sandbox)["tables"]["Open_vSwitch"]["columns"]["external_ids"]
    add_column(sandbox, "keepalive", {**column, "ephemeral": True})
    outcome = schema.apply(sandbox.remote)
    assert outcome.before.names(Found.ABSENT) == ("keepalive_detail",)
    assert outcome.after.complete
    schema.revert(sandbox.remote)
    assert live(sandbox) == before


def test_the_start_scripts_of_ovs_take_the_columns_away(sandbox: Sandbox) -> None:
    """What `ovs-ctl start` does to the database before it starts ovsdb-server."""
    library = Path("/usr/share/openvswitch/scripts/ovs-lib")
    if not library.exists():
        pytest.skip(f"{library} is not there")
    before = shown(sandbox)
    schema.apply(sandbox.remote)
    sandbox.kill_ovsdb()
    script = f". {library}; upgrade_db {sandbox.dir}/conf.db {STOCK}"
    subprocess.run(["sh", "-c", script], env=sandbox.env, check=True, capture_output=True, timeout=30)
    sandbox.start_ovsdb()
    assert verb("status", sandbox.remote) == (1, ["keepalive: absent", "keepalive_detail: absent"])
    assert shown(sandbox) == before
    version, checksum = live(sandbox)["version"], live(sandbox)["cksum"].split()[0]
    assert (sandbox.dir / f"conf.db.backup{version}-{checksum}").exists()


def test_the_commands_that_the_documentation_shows(sandbox: Sandbox) -> None:
    """Each `ovsdb-client` line of docs/schema.md shows the column; `monitor` goes on until it is ended."""
    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text()
    schema.apply(sandbox.remote)
    row = {"keepalive": ["map", [["pmd-c00/id:6", "ALIVE,0,1763690430123"]]]}
    sandbox.transact({"op": "update", "table": "Open_vSwitch", "where": [], "row": row})
    commands = re.findall(r"^```sh\n(ovsdb-client .*)\n```$", page, re.MULTILINE)
    assert len(commands) == 3
    for number, command in enumerate(commands):
        argv = shlex.split(command.replace("unix:/run/openvswitch/db.sock", sandbox.remote))
        said = sandbox.dir / f"command{number}.out"
        with said.open("w") as out, subprocess.Popen(argv, stdout=out, env=sandbox.env) as process:
            wait(lambda said=said: "ALIVE,0,1763690430123" in said.read_text(), command)  # type: ignore[misc]
            if "monitor" in argv:
                process.terminate()
            assert (process.wait(10) == 0) == ("monitor" not in argv)


# --- clients beside us ---------------------------------------------------------------------------


def test_a_client_like_neutron_and_conversions(sandbox: Sandbox) -> None:
    """One that started before the columns were there survives all. One that started while they were there goes deaf
    when they are taken away, and stays so: it asks the server for a column that it does not have."""
    with ExitStack() as clients:
        before = clients.enter_context(NeutronLike(sandbox, "before"))
        schema.apply(sandbox.remote)
        sandbox.settings(told="one")
        wait(lambda: before.hears('"one"'), "the client survives apply")
        between = clients.enter_context(NeutronLike(sandbox, "between"))
        sandbox.settings(told="two")
        wait(lambda: before.hears('"two"') and between.hears('"two"'), "both clients hear")
        schema.revert(sandbox.remote)
        sandbox.settings(told="three")
        wait(lambda: before.hears('"three"'), "the first client survives revert")
        sandbox.linger(2)
        assert not between.hears('"three"')
        schema.apply(sandbox.remote)  # does not heal it
        sandbox.settings(told="four")
        wait(lambda: before.hears('"four"'), "the first client survives the second apply")
        sandbox.linger(2)
        assert not between.hears('"four"')
        again = clients.enter_context(NeutronLike(sandbox, "again"))  # a restart does
        sandbox.settings(told="five")
        wait(lambda: again.hears('"five"'), "the restarted client hears")


def test_an_old_client_goes_deaf_at_apply(sandbox: Sandbox) -> None:
    """Debian 12's python3-openvswitch: why `schema: manual` is the default."""
    argv = [DEBIAN_PYTHON, "-c", "import ovs.version; print(ovs.version.VERSION)"]
    found = shutil.which(DEBIAN_PYTHON) and subprocess.run(
        argv, capture_output=True, text=True, timeout=10, check=False
    )
    version = found.stdout.strip() if found else ""
    if not version or tuple(map(int, version.split(".")[:2])) >= (3, 3):
        pytest.skip(f"needs python3-openvswitch older than 3.3, found {version or 'none'}")
    with NeutronLike(sandbox, "old", DEBIAN_PYTHON) as old, NeutronLike(sandbox, "new") as new:
        sandbox.settings(told="one")
        wait(lambda: old.hears('"one"'), "the old client hears")
        schema.apply(sandbox.remote)
        sandbox.settings(told="two")
        wait(lambda: new.hears('"two"'), "the new client hears")
        sandbox.linger(2)
        assert not old.hears('"two"')


# --- remotes of all kinds --------------------------------------------------------------------------


def test_tcp(sandbox: Sandbox) -> None:
    port = free_port()
    sandbox.appctl("ovsdb-server/add-remote", f"ptcp:{port}:127.0.0.1", target="ovsdb-server")
    remote = f"tcp:127.0.0.1:{port}"
    wait(lambda: schema.status(remote), "ovsdb-server listens")  # until then: Failed, an OSError
    assert schema.apply(remote).after.complete


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """What came on stderr, which must be one line."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ovs-keepalive: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.mark.parametrize(
    ("remote", "cure"),
    [
        ("", "write unix:FILE"),
        ("db.sock", "write unix:FILE"),
        ("punix:/tmp/db.sock", "write unix:FILE"),
        ("unix:", "write unix:FILE"),
        ("unix:/tmp/a\nb", "write unix:FILE"),
        ("unix:/" + "x" * 200, "at most 107 bytes"),
        ("tcp:127.0.0.1", "write tcp:ADDRESS:PORT"),
        ("tcp::6640", "write tcp:ADDRESS:PORT"),
        ("tcp:no.such.host.invalid:6640", "numeric address"),
        ("tcp:127.0.0.1:x", "write tcp:ADDRESS:PORT"),
        ("tcp:127.0.0.1:65536", "a port of 1 to 65535"),
        ("ssl:127.0.0.1:-1", "a port of 1 to 65535"),
    ],
)
@pytest.mark.parametrize("action", ["status", "apply", "revert"])
def test_a_bad_remote_is_usage(action: str, remote: str, cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(action, remote) == (2, [])
    assert cure in complaint(capsys)


def test_ssl_without_keys_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("status", "ssl:127.0.0.1:6640") == (2, [])
    assert "set ssl-private-key, ssl-certificate and ssl-ca-cert" in complaint(capsys)


def test_an_unknown_action_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("drop", "unix:/tmp/db.sock") == (2, [])
    assert 'unknown action "drop": use status, apply, revert' in complaint(capsys)


def test_nothing_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    deep = "/".join([str(tmp_path), *["deep" * 10] * 3, "db.sock"])  # longer than a socket's path may be
    for remote, cure in (
        (f"unix:{tmp_path}/none.sock", "no such socket: is ovsdb-server running"),
        (f"unix:{deep}", "no such socket: is ovsdb-server running"),
        (f"unix:{tmp_path}/file", "nothing listens there: is ovsdb-server running?"),
        (f"tcp:127.0.0.1:{free_port()}", "nothing listens there: is ovsdb-server running?"),
        (f"tcp:[::1]:{free_port()}", "tcp:[::1]:"),  # or no IPv6 here
    ):
        assert verb("apply", remote) == (3, [])
        line = complaint(capsys)
        assert remote in line
        assert cure in line


def test_no_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "db.sock"))
        server.listen()
        (tmp_path / "db.sock").chmod(0)
        me = os.geteuid()
        os.seteuid(me or 65534)  # nobody
        try:
            answer = verb("apply", f"unix:{tmp_path}/db.sock")
        finally:
            os.seteuid(me)
    assert answer == (3, [])
    assert "permission denied: run as root, or as" in complaint(capsys)


def test_the_control_socket_of_vswitchd_is_no_database(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("apply", f"unix:{sandbox.dir}/ovs-vswitchd.{sandbox.vswitchd_pid}.ctl") == (3, [])
    assert 'the server refuses get_schema: "get_schema" is not a valid command' in complaint(capsys)


def test_a_stopped_server(sandbox: Sandbox) -> None:
    sandbox.kill_ovsdb(19)  # SIGSTOP: connections are taken by the kernel, nobody answers
    try:
        with pytest.raises(schema.Failed, match=r"get_schema: no answer within 0\.3 s$"):
            schema.status(sandbox.remote, timeout=0.3)
        with pytest.raises(schema.Failed, match=r"convert: no answer within 0\.3 s; it may still be under way"):
            schema.call(sandbox.remote, "convert", ["Open_vSwitch", {"name": "x" * 5_000_000}], 0.3)
    finally:
        sandbox.kill_ovsdb(18)
    wait(lambda: schema.status(sandbox.remote), "ovsdb-server answers again")


# --- servers that are none -------------------------------------------------------------------------


@contextmanager
def server(path: Path, *answers: bytes, endless: bytes = b"", hold: bool = False) -> Iterator[str]:
    """Takes one connection, reads once, sends the answers one by one; then closes, goes on for ever or falls silent."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65536)
            try:
                for answer in answers:
                    connection.sendall(answer)
                while endless:
                    connection.sendall(endless)
                while hold and connection.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                return  # the client has had enough

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        thread.join()
        listener.close()


NO_JSON_RPC = "does not speak JSON-RPC"
CUT_SHORT = "closed the connection without a whole answer"


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ([], {}, CUT_SHORT),
        ([b'{"id": "get_schema", "resu'], {}, CUT_SHORT),
        ([b'{"id": "get_schema", "resu'], {"hold": True}, r"no answer within 0\.5 s"),
        ([], {"hold": True}, r"no answer within 0\.5 s"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], {"hold": True}, NO_JSON_RPC),
        ([b"\xff\xfe\x00"], {"hold": True}, NO_JSON_RPC),
        ([b'{"\xff": 1}'], {"hold": True}, NO_JSON_RPC),
        ([b'{"a":' * 100_000 + b"}"], {"hold": True}, NO_JSON_RPC),
        ([b"{"], {"endless": b"x" * 65536}, NO_JSON_RPC),
        ([], {"endless": b'{"method": "echo", "params": [], "id": "echo"}' * 9}, r"no answer within 0\.5 s"),
        ([b'{"id": "get_schema", "result": null, "error": "no"}'], {}, "the server refuses get_schema: no$"),
        (
            [b'{"id": "get_schema", "error": {"error": "unknown database", "details": "no\\nsuch"}}'],
            {},
            "the server refuses get_schema: unknown database: no such$",
        ),
        (
            [b'{"id": "get_schema", "result": 7, "error": null}'],
            {},
            "no ovsdb-server of Open vSwitch: no schema with a",
        ),
        (
            [b'{"id": "get_schema", "result": {"name": "x", "tables": {}}, "error": null}'],
            {},
            "no ovsdb-server of Open",
        ),
    ],
)
def test_garbage(tmp_path: Path, answers: list[bytes], options: dict[str, Any], message: str) -> None:
    with server(tmp_path / "db.sock", *answers, **options) as remote:
        start = time.monotonic()
        with pytest.raises(schema.Failed, match=message) as raised:
            schema.status(remote, timeout=0.5)
        assert time.monotonic() - start < 5
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith(f"{remote}: ")


def test_other_messages_are_passed_over(tmp_path: Path) -> None:
    other = b'{"method": "update", "params": [], "id": null} {"id": "other", "result": 1, "error": null}'
    echo = b'{"method": "echo", "params": ["x"], "id": "echo"}\n'
    answer = '{"id": "get_schema", "result": "ä", "error": null}'.encode()
    pieces = [answer[i : i + 1] for i in range(len(answer))]
    with server(tmp_path / "db.sock", other, echo, *pieces, b"\n", hold=True) as remote:
        assert schema.call(remote, "get_schema", [], 5) == "ä"
