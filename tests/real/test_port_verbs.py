# SPDX-License-Identifier: Apache-2.0
"""`ovs-keepalive ports add|del|migrate|path` on real switches: what is refused leaves the database as it was, what is
made is what a VM can use, what fails is taken back. One switch with DPDK serves all that needs one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive.core.port_plan import Wish
from ovs_keepalive.publishers.switch_db import NotDone, SwitchDb
from ovs_keepalive.sandbox import Sandbox, wait
from tests.conftest import cannot
from tests.lab import stopped
from tests.port_calls import call, configuration, refused
from tests.vhost import Device, VhostSandbox, vhost
from tests.wire import wire

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

PACKET = "eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.2,dst=10.0.0.1,proto=17)"
HOSTILE = ['a"b', "two words", "n" * 200, "a\x1b[31mb", "a\nb", "a'b", "a;b", "a/b", "\udcff", "\u202e", ""]


# --- on a switch without DPDK ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_one_line_whatever_it_is_the_name_of(sandbox: Sandbox, name: str) -> None:
    assert "NAME " in refused(sandbox, "add", "br0", name)
    assert "no such bridge" in refused(sandbox, "add", name, "vm1")
    for verb in ("del", "migrate"):
        assert "no such port" in refused(sandbox, verb, name)
    assert "no such port" in refused(sandbox, "path", "p0", name)
    assert "no such port" in refused(sandbox, "path", name, "p0")


def test_a_switch_without_dpdk_takes_no_vhost_user_port(sandbox: Sandbox) -> None:
    assert "datapath_type dummy" in refused(sandbox, "add", "br0", "vm1")
    sandbox.vsctl("add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=netdev")
    assert "dpdk-init=true" in refused(sandbox, "add", "br1", "vm1")
    assert "is of type dummy-pmd" in refused(sandbox, "del", "p0")
    assert "is of type dummy-pmd" in refused(sandbox, "migrate", "p0")


def test_a_database_that_cannot_be_reached_is_told(sandbox: Sandbox) -> None:
    for verb in (["add", "br0", "vm1"], ["del", "vm1"], ["migrate", "vm1"], ["path", "p0", "p1"]):
        called = call(sandbox, *verb, "--ovsdb", f"unix:{sandbox.dir}/none.sock")
        assert (called.status, called.said, called.complained.count("\n")) == (3, "", 1)
        assert "none.sock" in called.complained
        assert call(sandbox, *verb, "--ovsdb", "nonsense").status == 2


def test_usage_is_one_line(sandbox: Sandbox) -> None:
    for words in ([], ["none"], ["add"], ["add", "br0"], ["add", "br0", "a", "--ofport", "x"], ["path", "p0"]):
        assert "--help" in refused(sandbox, *words)


def test_a_way_is_told_with_the_flow_that_decides_and_its_packets(sandbox: Sandbox) -> None:
    """br0 is secure: nothing leads anywhere until a flow says so."""
    there = configuration(sandbox)
    nowhere = call(sandbox, "path", "p0", "p1")
    assert nowhere.status == 1
    assert "p0 does not reach p1" in nowhere.said
    assert "in_port=1,actions=output:2" in nowhere.said
    flow(sandbox, "br0", "priority=7,in_port=1,dl_type=0x0800,actions=output:2")
    flow(sandbox, "br0", "priority=5,in_port=1,actions=drop")
    dropped = call(sandbox, "path", "p0", "p1")
    assert dropped.status == 1
    assert "in_port=1,priority=5 in table 0 of br0: drop" in dropped.said
    assert "matched: 0" in dropped.said
    reached = call(sandbox, "path", "p0", "p1", "ip,nw_dst=10.0.0.1")
    assert (reached.status, reached.complained) == (0, "")
    assert "p0 reaches p1" in reached.said
    assert "ip,in_port=1,priority=7 in table 0 of br0: output:2" in reached.said
    sandbox.appctl("netdev-dummy/receive", "p0", f"in_port(1),{PACKET}")
    wait(lambda: "matched: 1" in call(sandbox, "path", "p0", "p1", "ip").said, "its packet is counted", 15)
    assert configuration(sandbox) == there


def test_a_way_over_patch_ports_and_its_absence(sandbox: Sandbox) -> None:
    argv = "add-br br1 -- set bridge br1 datapath_type=dummy -- add-port br1 far -- set interface far type=dummy"
    sandbox.vsctl(*argv.split())
    flow(sandbox, "br0", "actions=NORMAL")
    apart = call(sandbox, "path", "p0", "far")
    assert apart.status == 1
    assert "a pair of patch ports" in apart.said
    one = "add-port br0 to1 -- set interface to1 type=patch options:peer=to0"
    other = "add-port br1 to0 -- set interface to0 type=patch options:peer=to1"
    sandbox.vsctl(*one.split(), "--", *other.split())
    together = call(sandbox, "path", "p0", "far")
    assert together.status == 0
    assert "of br1: NORMAL" in together.said
    sandbox.vsctl("set", "port", "far", "tag=7")
    elsewhere = call(sandbox, "path", "p0", "far")
    assert elsewhere.status == 1
    assert "VLANs" in elsewhere.said


@pytest.mark.parametrize("given", ["in_port=2", "nonsense", "ip,nw_dst=nonsense", "ip\n", "f" * 2000, "dl_vlan=x"])
def test_a_packet_that_cannot_be_is_refused(sandbox: Sandbox, given: str) -> None:
    refused(sandbox, "path", "p0", "p1", given)


def test_a_way_to_itself_is_none(sandbox: Sandbox) -> None:
    assert "name two ports" in refused(sandbox, "path", "p0", "p0")


def test_what_changes_between_the_look_and_the_change_is_noticed(sandbox: Sandbox) -> None:
    """Another one's change of the bridge, and its end, between what was read and what would be written."""
    for meanwhile in (["set-controller", "br0", "tcp:127.0.0.1:1"], ["del-br", "br0"]):
        db = SwitchDb(sandbox.remote)
        try:
            assert db.switch().bridge("br0") is not None
            sandbox.vsctl("--no-wait", *meanwhile)
            after = configuration(sandbox)
            with pytest.raises(NotDone, match="changed meanwhile"):
                db.add(Wish("vm1", "br0", "/nowhere/vm1.sock"), "a test")
            assert configuration(sandbox) == after
        finally:
            db.close()


def test_without_vswitchd_nothing_is_done_since_nothing_could_be_verified(sandbox: Sandbox) -> None:
    sandbox.vsctl("--no-wait", "add-port", "br0", "vm1", "--", "set", "interface", "vm1", "type=dpdkvhostuserclient")
    sandbox.kill_vswitchd()
    assert "start it first" in refused(sandbox, "del", "vm1", "--force", status=3)


def flow(sandbox: Sandbox, bridge: str, words: str) -> None:
    """Add a flow."""
    subprocess.run(["ovs-ofctl", "add-flow", bridge, words], env=sandbox.env, check=True, capture_output=True)


def flows(sandbox: Sandbox, bridge: str) -> list[str]:
    """Those that there are, without what is counted."""
    argv = ["ovs-ofctl", "--no-stats", "dump-flows", bridge]
    done = subprocess.run(argv, env=sandbox.env, check=True, capture_output=True, text=True)
    return sorted(line.strip() for line in done.stdout.splitlines())


# --- on a switch with DPDK ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dpdk() -> Iterator[VhostSandbox]:
    """Its bridge br0 has the flow that every new bridge has; each test leaves it as it was."""
    with vhost() as sandbox:
        yield sandbox


@pytest.fixture
def switch(dpdk: VhostSandbox, request: pytest.FixtureRequest) -> Iterator[VhostSandbox]:
    """The same, and afterwards without what the test made."""
    yield dpdk
    for vm in dpdk.vms:
        vm.stop()
    for port in dpdk.vsctl("list-ports", "br0").split():
        dpdk.vsctl("del-port", "br0", port)
    dpdk.vsctl("del-controller", "br0", "--", "del-fail-mode", "br0", "--", "clear", "bridge", "br0", "external_ids")
    dpdk.vsctl("clear", "Open_vSwitch", ".", "external_ids")
    subprocess.run(["ovs-ofctl", "del-flows", "br0"], env=dpdk.env, check=True)
    flow(dpdk, "br0", "priority=0,actions=NORMAL")


OWNED = {
    "has the controller": ["set-controller", "br0", "tcp:127.0.0.1:1"],
    "has fail_mode=secure": ["set-fail-mode", "br0", "secure"],
    "is OVN's": ["set", "Open_vSwitch", ".", "external_ids:ovn-bridge=br0"],
    "of Neutron or OVN": ["set", "bridge", "br0", "external_ids:neutron-id=5"],
}


@pytest.mark.parametrize(("whose", "made"), OWNED.items(), ids=OWNED)
def test_somebody_elses_bridge_is_left_alone(switch: VhostSandbox, whose: str, made: list[str]) -> None:
    switch.vsctl(*made)
    assert whose in refused(switch, "add", "br0", "vm1")
    for force in ([], ["--force"]):
        assert "tenant network" in refused(switch, "add", "br0", "vm1", "--normal-flow", *force)


def test_what_is_taken_is_refused(switch: VhostSandbox) -> None:
    assert call(switch, "add", "br0", "vm1", "--ofport", "7").status == 0
    assert "is taken" in refused(switch, "add", "br0", "vm1")
    assert "is taken" in refused(switch, "add", "br0", "br0")
    assert "is vm1's" in refused(switch, "add", "br0", "vm2", "--ofport", "7")
    assert "socket of vm1" in refused(switch, "add", "br0", "vm2", "--path", f"{switch.dir}/vm1.sock")
    assert "nothing to migrate" in refused(switch, "migrate", "vm1")


def test_a_place_that_no_vm_can_use_is_refused(switch: VhostSandbox, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    longest = f"{tmp_path}/{'a' * 107}"
    cases = {
        f"{tmp_path}/directory": "is a directory",
        f"{tmp_path}/file": "is a file",
        f"{tmp_path}/loop": "is a symbolic link",
        f"{tmp_path}/loop/a": "Too many levels of symbolic links",
        f"{tmp_path}/file/a": "Not a directory",
        f"{tmp_path}/absent/a": "No such file or directory",
        "relative": "not absolute",
        longest: "at most 107",
        f"{tmp_path}/a b": "only letters",
        f"{tmp_path}/a\x07": "only letters",
    }
    for path, words in cases.items():
        assert words in refused(switch, "add", "br0", "vm1", "--path", path), path


def test_a_read_only_file_system_is_refused(switch: VhostSandbox, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        cannot("only who may mount can make a read-only file system")
    try:
        assert "read-only" in refused(switch, "add", "br0", "vm1", "--path", f"{tmp_path}/a")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_the_vms_user_may_not_is_refused(switch: VhostSandbox) -> None:
    """The directory of the switch is its own, as /run/openvswitch is where OVS has a user."""
    path = switch.dir / "vms"
    path.mkdir()
    add = ["add", "br0", "vm1", "--vm-user", "nobody", "--path", f"{path}/vm1.sock"]
    assert "chmod o+x" in refused(switch, *add)
    switch.dir.chmod(0o711)
    try:
        assert "install -d -o nobody" in refused(switch, *add)
        path.chmod(0o1777)
        with socket.socket(socket.AF_UNIX) as roots:
            roots.bind(f"{path}/vm1.sock")
        assert "not nobody's" in refused(switch, *add)
        os.chown(path / "vm1.sock", 65534, 65534)
        assert call(switch, *add).status == 0
        assert "no such user" in refused(switch, "add", "br0", "vm2", "--vm-user", "no such user")
    finally:
        switch.dir.chmod(0o700)


def test_what_is_added_is_told_with_all_that_the_vm_needs(switch: VhostSandbox) -> None:
    there = configuration(switch)
    called = call(switch, "add", "br0", "vm1", "--ofport", "9", "--queues", "2")
    assert (called.status, called.complained) == (0, "")
    path = f"{switch.dir}/vm1.sock"
    for words in (
        "added vm1 to br0: dpdkvhostuserclient, ofport 9, verified",
        "polled by the PMD on core",
        "flows lead to it: NORMAL",
        f"<source type='unix' path='{path}' mode='server'/>",
        "<driver name='vhost' queues='2'/>",
        f"path={path},server=on",
        "ovs-keepalive ports del vm1",
    ):
        assert words in called.said
    row = switch.interface("vm1")
    assert (row["type"], row["ofport"]) == ("dpdkvhostuserclient", 9)
    assert dict(row["options"][1]) == {"vhost-server-path": path}
    gone = call(switch, "del", "vm1")
    assert (gone.status, gone.complained) == (0, "")
    assert f"ports add br0 vm1 --path {path} --ofport 9" in gone.said
    assert switch.interface("vm1") == {}
    now = configuration(switch)
    assert now[1:] == there[1:]  # of Open_vSwitch it counts that vswitchd was asked


def test_while_a_pmd_stalls_no_port_is_made_moved_or_taken_away(switch: VhostSandbox) -> None:
    assert call(switch, "add", "br0", "old", "--server", "--vm-user", "root").status == 0
    with stopped(next(iter(switch.pmds().values()))):
        for words in (["add", "br0", "vm1"], ["migrate", "old"], ["del", "old"]):
            assert "has finished no iteration for 1" in refused(switch, *words)
        switch.appctl("version")


def test_a_port_that_no_flow_leads_to_is_taken_back(switch: VhostSandbox) -> None:
    subprocess.run(["ovs-ofctl", "del-flows", "br0"], env=switch.env, check=True)
    there = configuration(switch)
    failed = call(switch, "add", "br0", "vm1")
    assert failed.status == 1
    assert "no flow of br0 outputs to port" in failed.complained
    assert "vm1 is taken back" in failed.complained
    assert configuration(switch)[1:] == there[1:]
    kept = call(switch, "add", "br0", "vm1", "--keep")
    assert kept.status == 1
    assert "vm1 is kept" in kept.complained
    assert switch.interface("vm1")["type"] == "dpdkvhostuserclient"
    assert call(switch, "del", "vm1").status == 0
    flow(switch, "br0", "in_port=3,actions=output:5")
    assert call(switch, "add", "br0", "vm1", "--ofport", "5").status == 0
    assert flows(switch, "br0") == ["in_port=3 actions=output:5"]
    assert call(switch, "add", "br0", "vm2", "--normal-flow").status == 0
    assert "cookie=0x6f76736b, priority=0 actions=NORMAL" in flows(switch, "br0")


def test_a_flow_of_somebody_elses_is_not_replaced(switch: VhostSandbox) -> None:
    flow(switch, "br0", "priority=0,actions=drop")
    assert "another flow in its place" in refused(switch, "add", "br0", "vm1", "--normal-flow")
    assert flows(switch, "br0") == ["priority=0 actions=drop"]


def test_on_a_controllers_bridge_the_flows_are_the_controllers(switch: VhostSandbox) -> None:
    switch.vsctl("set-fail-mode", "br0", "secure")
    subprocess.run(["ovs-ofctl", "del-flows", "br0"], env=switch.env, check=True)
    forced = call(switch, "add", "br0", "vm1", "--force")
    assert forced.status == 0
    assert "warning: no flow" in forced.said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_ends_it_halfway_finds_nothing_half_done(switch: VhostSandbox, number: signal.Signals) -> None:
    there = configuration(switch)
    argv = [sys.executable, "-m", "ovs_keepalive", "ports", "add", "br0", "vm1"]
    with subprocess.Popen(argv, env=switch.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as verb:
        wait(lambda: switch.interface("vm1"), "the port is in the database", 20)
        switch.kill_vswitchd(signal.SIGSTOP)  # what it waits for does not come
        try:
            verb.send_signal(number)
            _, complained = verb.communicate(timeout=30)
        finally:
            switch.kill_vswitchd(signal.SIGCONT)
    assert verb.returncode == 130, complained
    assert complained == ""
    assert configuration(switch)[1:] == there[1:]


def test_a_server_port_warns_and_migrates_to_a_client_port_of_the_same_number(switch: VhostSandbox) -> None:
    called = call(switch, "add", "br0", "old", "--server", "--ofport", "4", "--vm-user", "root")
    assert called.status == 0, called
    assert "deprecated" in called.complained
    assert f"path='{switch.dir}/old' mode='client'" in called.said
    assert switch.interface("old")["type"] == "dpdkvhostuser"
    vm = switch.vm(Device(switch.dir / "old", server=False))
    switch.wait_for("old")
    assert "would be cut off" in refused(switch, "migrate", "old")
    assert "would be cut off" in refused(switch, "del", "old")
    vm.stop()
    switch.wait_for("old", "disconnected", "down")
    moved = call(switch, "migrate", "old")
    assert (moved.status, moved.complained) == (0, "")
    assert "ofport 4 as before" in moved.said
    assert f"path='{switch.dir}/old' mode='client'" in moved.said
    assert f"path='{switch.dir}/old.sock' mode='server'" in moved.said
    row = switch.interface("old")
    assert (row["type"], row["ofport"]) == ("dpdkvhostuserclient", 4)
    assert not (switch.dir / "old").exists()
    switch.vm(Device(switch.dir / "old.sock"))
    switch.wait_for("old")


def test_a_server_port_below_vhost_sock_dir_and_a_stale_file_in_its_way(switch: VhostSandbox) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{switch.dir}/old")
    assert f"rm {switch.dir}/old" in refused(switch, "add", "br0", "old", "--server")
    assert "leave --path out" in refused(switch, "add", "br0", "new", "--server", "--path", "/a")
    (switch.dir / "old").unlink()


def test_a_server_ports_socket_that_its_vm_may_not_use_is_told(switch: VhostSandbox) -> None:
    switch.dir.chmod(0o711)
    try:
        called = call(switch, "add", "br0", "old", "--server", "--vm-user", "nobody")
    finally:
        switch.dir.chmod(0o700)
    assert called.status == 0
    assert f"chown nobody {switch.dir}/old" in called.said


@pytest.mark.slow
def test_packets_go_from_one_added_port_to_another_through_the_normal_flow(
    switch: VhostSandbox, tmp_path: Path
) -> None:
    subprocess.run(["ovs-ofctl", "del-flows", "br0"], env=switch.env, check=True)
    assert call(switch, "add", "br0", "vm1", "--normal-flow").status == 0
    assert call(switch, "add", "br0", "vm2").status == 0
    with wire(tmp_path, 200) as ends:
        switch.vm(Device(switch.dir / "vm1.sock", wire=ends.into), Device(switch.dir / "vm2.sock", wire=ends.out))
        switch.wait_for("vm1")
        switch.wait_for("vm2")
        wait(lambda: len(ends.packets()) >= 200, "200 numbered packets through vm1 and vm2", 20)
        told = call(switch, "path", "vm1", "vm2")
        assert told.status == 0
        assert "priority=0 in table 0 of br0: NORMAL" in told.said
        counted = int(told.said.partition("matched: ")[2].split()[0])
        assert counted >= 200
