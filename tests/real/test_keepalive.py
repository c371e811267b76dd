# SPDX-License-Identifier: Apache-2.0
"""The main job on real input: real PMD threads, the column of a real ovsdb-server, the tools that operators have."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ovs_keepalive.formats import column
from ovs_keepalive.pidfile import Pidfile, Taken
from ovs_keepalive.sandbox import Sandbox, SandboxError, wait
from tests.subscriber import Subscriber

pytestmark = pytest.mark.real

PAIR = re.compile(r"(ALIVE|SLEEP|MISSING|DEAD|GONE),\d+,\d{13}")


def watch(sandbox: Sandbox, **config: object) -> None:
    """Enable keepalive, start the daemon, and wait until the column shows every PMD well."""
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(config=config)
    wait(lambda: all_well(sandbox), "all PMDs well in the column", 15)


def all_well(sandbox: Sandbox) -> bool:
    """Whether the column shows exactly the PMDs that there are, each ALIVE or SLEEP."""
    pairs = sandbox.column()
    states = {column.parse(value).state for value in pairs.values()}
    return bool(pairs) and set(pairs) == set(sandbox.pmds()) and states <= {"ALIVE", "SLEEP"}


def ask(sandbox: Sandbox, *command: str) -> str:
    """What `ovs-appctl -t ovs-keepalive` says: the real tool, not our own client."""
    argv = ["ovs-appctl", "-t", "ovs-keepalive", *command]
    return subprocess.run(argv, env=sandbox.env, check=True, capture_output=True, text=True, timeout=10).stdout


def test_four_spinning_pmds_are_alive_within_5_s(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(pmds=4, max_sleep=0)
    sandbox.settings(enable_keepalive=True)
    begin = time.monotonic()
    sandbox.start_daemon()
    wait(lambda: [v.partition(",")[0] for v in sandbox.column().values()] == ["ALIVE"] * 4, "4 ALIVE", 10)
    assert time.monotonic() - begin <= 5.0
    pairs = sandbox.column()
    assert set(pairs) == set(sandbox.pmds())
    for name, value in pairs.items():
        assert PAIR.fullmatch(value), value
        pair = column.parse(value)
        assert name.startswith(f"pmd-c{pair.core:02d}/id:")
        assert abs(pair.last_seen_ms / 1000 - time.time()) < 5


def test_last_seen_advances_once_an_interval_and_ovsdb_client_sees_it(sandbox: Sandbox) -> None:
    watch(sandbox)
    argv = ["ovsdb-client", "--format=json", "monitor", sandbox.remote, "Open_vSwitch", "Open_vSwitch", "keepalive"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client, Subscriber(sandbox.remote) as subscriber:
        name = next(iter(sandbox.pmds()))
        wait(lambda: len({told.keepalive.get(name) for told in subscriber.updates}) >= 4, "3 refreshes", 10)
        client.terminate()
        seen, _ = client.communicate(timeout=5)
    moments = [column.parse(told.keepalive[name]).last_seen_ms for told in subscriber.updates]
    assert moments == sorted(moments)
    steps = [after - before for before, after in itertools.pairwise(moments)]
    assert all(step == 0 or step >= 500 for step in steps), steps  # once an interval of 1000 ms, not at each look
    told_to_client = set(re.findall(r'"(?:ALIVE|SLEEP),\d+,\d+"', seen))
    assert len(told_to_client) >= 3


def test_health_show_has_the_layout_of_the_series_byte_for_byte(sandbox: Sandbox) -> None:
    watch(sandbox)
    when = r"\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d"
    rows = "".join(
        rf"{re.escape(name)}\t{core:2d}\t(ALIVE|SLEEP)\t{when}\n" for core, name in enumerate(sandbox.pmds())
    )
    assert re.fullmatch(
        "\n\t\tKeepalive status\n\n"
        "keepalive status   : Enabled\n"
        "keepalive interval : 1000 ms\n"
        f"keepalive init time: {when} \n"
        "PMD threads        : 2 \n"
        "\n PMD\tCORE\tSTATE\tLAST SEEN TIMESTAMP\\(UTC\\)\n"
        f"{rows}\n",
        ask(sandbox, "keepalive/pmd-health-show"),
    )
    sandbox.settings(enable_keepalive=False)
    wait(lambda: not sandbox.column(), "an empty column", 5)
    assert ask(sandbox, "keepalive/pmd-health-show") == "\n\t\tKeepalive status\n\nkeepalive status   : Disabled\n"
    for command in ("status", "pmd-xstats-show", "explain vswitchd", "history"):
        assert ask(sandbox, *f"keepalive/{command}".split()).startswith("keepAlive Status: Disabled\n")


def test_enable_and_interval_change_live_and_bad_values_are_told(sandbox: Sandbox) -> None:
    sandbox.start_daemon()
    wait(lambda: "Disabled" in ask(sandbox, "keepalive/status"), "disabled at first", 5)
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    wait(lambda: all_well(sandbox), "all PMDs well", 15)
    assert "interval=500;" in sandbox.detail()["daemon"]
    sandbox.settings(keepalive_interval="5 s; now")
    wait(lambda: "keepalive-interval=5 s; now" in ask(sandbox, "keepalive/status"), "the refused value told", 5)
    assert re.search(r"^interval +: 500 ms$", ask(sandbox, "keepalive/status"), re.MULTILINE)
    sandbox.settings(keepalive_interval=None)
    wait(lambda: "interval=1000;" in sandbox.detail()["daemon"], "the default again", 5)
    assert all_well(sandbox)


def test_a_nap_that_ovs_lets_its_pmds_take_is_no_silence(sandbox: Sandbox) -> None:
    """In a sandbox they may nap for 10 ms, in which they make no progress."""
    sandbox.settings(enable_keepalive=True, keepalive_interval=10)
    sandbox.start_daemon(config={"max-main-share": 50})
    napping = "effective interval : 20 ms (OVS lets PMDs nap for up to 10 ms: pmd-maxsleep, pmd-sleep-max)"
    wait(lambda: napping in ask(sandbox, "keepalive/status"), "the interval stretched for naps", 10)
    sandbox.settings(pmd_maxsleep=100, pmd_sleep_max=100)
    wait(lambda: "nap for" not in ask(sandbox, "keepalive/status"), "the interval shorter again", 10)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["disable", "SIGTERM", "SIGINT", "exit"])
def test_nothing_is_left_saying_alive(sandbox: Sandbox, end: str) -> None:
    watch(sandbox)
    assert sandbox.detail()
    if end == "disable":
        sandbox.settings(enable_keepalive=False)
        wait(lambda: not sandbox.column() and not sandbox.detail(), "both columns empty", 5)
        return
    if end == "exit":
        ask(sandbox, "exit")
        wait(lambda: not (sandbox.dir / "ovs-keepalive.pid").exists(), "the daemon's end", 5)
    else:
        assert sandbox.stop_daemon(getattr(signal, end)) == 0
    assert sandbox.column() == {}
    assert sandbox.detail() == {}
    assert not list(sandbox.dir.glob("ovs-keepalive.*[lt]*d")), "pidfile or socket left"
    assert not list(sandbox.dir.glob("ovs-keepalive.*.ctl"))


def test_kill_9_of_the_daemon_leaves_stale_pairs_and_a_new_start_heals_them(sandbox: Sandbox) -> None:
    watch(sandbox)
    sandbox.stop_daemon(signal.SIGKILL)
    stale = sandbox.column()
    assert stale
    sandbox.start_daemon()
    wait(lambda: all_well(sandbox) and sandbox.column() != stale, "fresh pairs", 15)
    assert f"pid={(sandbox.dir / 'ovs-keepalive.pid').read_text().strip()};" in sandbox.detail()["daemon"]


def test_a_second_daemon_waits_for_the_lock_and_takes_over(sandbox: Sandbox) -> None:
    watch(sandbox)
    argv = [*daemon(), "--config", str(sandbox.dir / "config.yaml"), "--pidfile", str(sandbox.dir / "second.pid")]
    with subprocess.Popen(argv, env=sandbox.env, stderr=subprocess.DEVNULL) as second:
        try:
            status = ["ovs-appctl", "-t", str(sandbox.dir / f"ovs-keepalive.{second.pid}.ctl"), "keepalive/status"]

            def says(text: str) -> bool:
                result = subprocess.run(
                    status, env=sandbox.env, capture_output=True, text=True, check=False, timeout=10
                )
                return text in result.stdout

            wait(lambda: says("held by another daemon"), "the second one waits", 15)
            first = (sandbox.dir / "ovs-keepalive.pid").read_text().strip()
            assert f"pid={first};" in sandbox.detail()["daemon"]
            sandbox.stop_daemon()
            wait(lambda: f"pid={second.pid};" in sandbox.detail().get("daemon", ""), "the second one writes", 10)
        finally:
            second.terminate()


def test_two_daemons_on_one_pidfile_are_refused_in_one_line(sandbox: Sandbox) -> None:
    watch(sandbox)
    result = subprocess.run(daemon(), env=sandbox.env, capture_output=True, text=True, check=False, timeout=15)
    assert result.returncode == 2
    assert "already running as pid" in result.stderr
    assert result.stderr.count("\n") == 1
    assert all_well(sandbox)


@pytest.mark.slow
def test_it_recovers_from_both_servers_killed_and_tells_so(sandbox: Sandbox) -> None:
    watch(sandbox)
    sandbox.kill_ovsdb()
    sandbox.start_ovsdb()
    wait(lambda: all_well(sandbox), "the column after ovsdb-server came back", 30)
    sandbox.kill_vswitchd()
    wait(lambda: {v.partition(",")[0] for v in sandbox.column().values()} == {"GONE"}, "GONE", 5)
    assert sandbox.detail()["vswitchd"].startswith("GONE;")
    sandbox.start_vswitchd()
    wait(lambda: all_well(sandbox), "the column after ovs-vswitchd came back", 30)
    history = ask(sandbox, "keepalive/history")
    story = re.sub(r"^\S+ +", "", history, flags=re.MULTILINE)
    for line in (
        "ovsdb  connected -> disconnected",
        "ovsdb  disconnected -> connected",
        "vswitchd  RUNNING -> GONE",
        "vswitchd  GONE -> STARTING",
        "vswitchd  STARTING -> RUNNING",
    ):
        assert line in story, history
    assert re.search(r"pmd-c00/id:\d+  (ALIVE|SLEEP) -> GONE  process-gone: ", story)


def test_an_orderly_restart_inside_its_deadline_raises_no_alarm(sandbox: Sandbox) -> None:
    watch(sandbox)
    with Subscriber(sandbox.remote) as subscriber:
        names = list(sandbox.pmds())
        sandbox.kill_vswitchd(signal.SIGTERM)
        wait(lambda: sandbox.detail()["vswitchd"].startswith("RESTARTING;"), "RESTARTING", 5)
        sandbox.start_vswitchd()
        sandbox.wait_for_pmds()
        wait(lambda: all_well(sandbox), "the new PMDs", 20)
        states = {told.state(name) for told in subscriber.updates for name in told.keepalive}
    assert names
    assert states <= {"ALIVE", "SLEEP"}


def test_without_the_columns_and_schema_manual_it_watches_on_and_converts_nothing(sandbox: Sandbox) -> None:
    before = subprocess.run(
        ["ovsdb-client", "get-schema", sandbox.remote], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(config={"schema": "manual"})
    wait(
        lambda: re.search(r"pmd-c01/id:\d+\t 1\t(ALIVE|SLEEP)", ask(sandbox, "keepalive/pmd-health-show")), "ALIVE", 10
    )
    status = ask(sandbox, "keepalive/status")
    assert re.search(r"^columns +: none: see ovs-keepalive schema apply", status, re.MULTILINE)
    sandbox.kill_vswitchd(signal.SIGKILL)
    sandbox.start_vswitchd()
    sandbox.settings(keepalive_interval=500)
    wait(lambda: "vswitchd           : RUNNING" in ask(sandbox, "keepalive/status"), "RUNNING again", 10)
    after = subprocess.run(
        ["ovsdb-client", "get-schema", sandbox.remote], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    assert after == before


def test_a_client_like_neutrons_agent_survives_all_that_the_daemon_does_by_default(sandbox: Sandbox) -> None:
    argv = [sys.executable, str(Path(__file__).with_name("neutron_like.py")), sandbox.remote]
    with subprocess.Popen(argv, env=sandbox.env, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline().startswith("connected")
            sandbox.settings(enable_keepalive=True)
            sandbox.start_daemon(config={"schema": "manual"})
            wait(lambda: "RUNNING" in ask(sandbox, "keepalive/status"), "RUNNING", 10)
            sandbox.kill_vswitchd()
            sandbox.start_vswitchd()
            sandbox.settings(enable_keepalive=False)
            sandbox.stop_daemon()
            sandbox.settings(last_word="heard")
            heard = wait_for_line(agent, '"last-word": "heard"')
        finally:
            agent.kill()
    assert heard


def wait_for_line(process: subprocess.Popen[str], words: str) -> bool:
    """Whether the process prints a line with these words; the test's own timeout ends a wait in vain."""
    assert process.stdout is not None
    return any(words in line for line in process.stdout)


def test_schema_auto_heals_a_column_taken_away_within_10_s(sandbox: Sandbox) -> None:
    watch(sandbox)
    argv = [*daemon()[:-1], "schema", "revert"]
    subprocess.run(argv, env=sandbox.env, check=True, capture_output=True, timeout=20)
    begin = time.monotonic()
    wait(lambda: all_well(sandbox), "the columns again", 15)
    assert time.monotonic() - begin <= 10
    assert "columns  keepalive, keepalive_detail -> none" in ask(sandbox, "keepalive/history")


@pytest.mark.slow
def test_the_mirror_tells_changes_in_external_ids_and_takes_its_keys_away(sandbox: Sandbox) -> None:
    sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:ovs-keepalive-core7=ALIVE,1", "external_ids:system-id=x")

    def mirrored() -> dict[str, str]:
        rows = sandbox.transact({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["external_ids"]})
        return dict(rows[0]["rows"][0]["external_ids"][1])

    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(config={"schema": "manual", "mirror": "external_ids"})
    both = {"ovs-keepalive-core0", "ovs-keepalive-core1", "system-id"}
    wait(lambda: mirrored().keys() == both, "both cores, and the stale key gone", 15)
    assert re.fullmatch(r"ALIVE,\d{13}", mirrored()["ovs-keepalive-core0"])
    sandbox.kill_vswitchd()
    wait(lambda: mirrored()["ovs-keepalive-core0"].startswith("GONE,"), "the change", 10)
    sandbox.stop_daemon()
    assert mirrored() == {"system-id": "x"}


def test_the_mirror_leaves_an_ovn_chassis_alone(sandbox: Sandbox) -> None:
    sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:127.0.0.1:6642")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon(config={"schema": "auto", "mirror": "external_ids"})
    wait(lambda: all_well(sandbox), "all PMDs well", 15)
    assert "ovn-remote: this is an OVN chassis, nothing is mirrored" in ask(sandbox, "keepalive/status")
    sandbox.stop_daemon()
    assert sandbox.vsctl("get", "Open_vSwitch", ".", "external_ids").count("=") == 1


def test_what_it_is_found_by_is_put_back_when_it_is_taken_away(sandbox: Sandbox) -> None:
    """systemd may take the runtime directory of Open vSwitch away, with all that is in it."""
    sandbox.settings(enable_keepalive=True)
    pid = sandbox.start_daemon()
    pidfile, control = sandbox.dir / "ovs-keepalive.pid", sandbox.dir / f"ovs-keepalive.{pid}.ctl"
    pidfile.unlink()
    control.unlink()
    wait(lambda: pidfile.exists() and control.is_socket(), "both are back", 5)
    assert pidfile.read_text() == f"{pid}\n"
    assert f"pid {pid}" in ask(sandbox, "keepalive/status")
    with pytest.raises(Taken, match=f"already running as pid {pid}"):
        Pidfile(pidfile)
    held = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed this moment
            held.append(descriptor.readlink().name)
    assert sum(name.startswith(pidfile.name) for name in held) == 1, "the one that was taken away is closed"
    assert sandbox.stop_daemon() == 0
    assert not pidfile.exists()
    assert not control.exists()


def test_the_control_socket_of_a_killed_daemon_is_taken_away_by_the_next(sandbox: Sandbox) -> None:
    killed = sandbox.start_daemon()
    sandbox.stop_daemon(signal.SIGKILL)
    control = sandbox.dir / f"ovs-keepalive.{killed}.ctl"
    assert control.exists()
    sandbox.start_daemon()
    assert not control.exists()


def daemon() -> list[str]:
    """The daemon's command line."""
    return [sys.executable, "-m", "ovs_keepalive", "run"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run", "--ovsdb", "nonsense"], 2, "nonsense"),
        (["run", "--config", "/nowhere/config.yaml"], 2, "/nowhere/config.yaml"),
        (["run", "--log-file=/nowhere/x.log"], 2, "/nowhere/x.log"),
        (["run", "--pidfile", "/nowhere/x.pid"], 2, "/nowhere"),
        (["frobnicate"], 2, "frobnicate"),
        ([], 2, "VERB"),
        (["show"], 3, "ovs-keepalive.pid"),
        (["schema", "status", "--ovsdb", "unix:/nowhere/db.sock"], 3, "/nowhere/db.sock"),
    ],
)
def test_every_error_of_a_command_is_one_line(arguments: list[str], status: int, words: str, tmp_path: object) -> None:
    env = {**os.environ, "OVS_RUNDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "ovs_keepalive", *arguments]
    result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == status, result.stderr
    assert words in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_without_a_database_the_daemon_stays_up_and_says_so(sandbox: Sandbox) -> None:
    sandbox.start_daemon("--ovsdb", f"unix:{sandbox.dir}/nothing.sock")
    status = ask(sandbox, "keepalive/status")
    assert status.startswith("keepAlive Status: Disabled\n")
    assert "not connected, trying again" in status


def test_a_wrong_pidfile_of_vswitchd_is_told_and_invents_no_state(sandbox: Sandbox) -> None:
    wrong = sandbox.dir / "wrong.pid"
    wrong.write_text("not a number\n")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon("--vswitchd-pidfile", str(wrong))
    wait(lambda: "is no process id" in ask(sandbox, "keepalive/status"), "what is wrong with the pidfile", 5)
    assert sandbox.column() == {}
    wrong.write_text("1\n")
    wait(lambda: "no process holds its lock" in ask(sandbox, "keepalive/status"), "the stale pidfile told", 5)
    wrong.unlink()
    wrong.symlink_to(sandbox.dir / "ovs-vswitchd.pid")
    wait(lambda: "RUNNING" in ask(sandbox, "keepalive/status"), "vswitchd found", 5)


@pytest.mark.slow
def test_a_stopped_vswitchd_moves_nothing_but_what_proc_proves(sandbox: Sandbox) -> None:
    watch(sandbox)
    names = list(sandbox.pmds())
    with Subscriber(sandbox.remote) as subscriber:
        begin = time.monotonic()
        sandbox.kill_vswitchd(signal.SIGSTOP)
        try:
            for name in names:
                wait(functools.partial(subscriber.first, name, "DEAD", begin), f"{name} DEAD", 6)
            assert sandbox.detail()["vswitchd"].startswith("STOPPED;")
            assert "cause=stopped;" in sandbox.detail()[names[0]]
        finally:
            sandbox.kill_vswitchd(signal.SIGCONT)
        wait(lambda: all_well(sandbox), "ALIVE again", 10)
        wait(lambda: subscriber.states(names[0], begin)[-1] == "ALIVE", "told to the subscriber, too", 5)
        assert subscriber.states(names[0], begin)[-3:] == ["MISSING", "DEAD", "ALIVE"]


def test_json_is_given_to_an_argument_and_to_a_client_that_asks_for_it(sandbox: Sandbox) -> None:
    watch(sandbox)
    told = json.loads(ask(sandbox, "keepalive/pmd-health-show", "--json"))
    assert {pmd["name"] for pmd in told["pmds"]} == set(sandbox.pmds())
    node = json.loads(ask(sandbox, "keepalive/status", "--json"))
    assert node["vswitchd"]["state"] == "RUNNING"
    assert json.loads(ask(sandbox, "keepalive/explain", "pmd-c01", "--json"))["core"] == 1
    pid = (sandbox.dir / "ovs-keepalive.pid").read_text().strip()
    with socket.socket(socket.AF_UNIX) as client:  # what ovs-appctl --format json does, from 3.4 on
        client.settimeout(10)
        client.connect(str(sandbox.dir / f"ovs-keepalive.{pid}.ctl"))
        for number, (method, *params) in enumerate(
            [("set-options", "--format", "json"), ("keepalive/pmd-health-show",), ("keepalive/pmd-xstats-show", "0")]
        ):
            client.sendall(json.dumps({"id": number, "method": method, "params": params}).encode())
            reply = json.loads(client.recv(1 << 20))
            assert reply["error"] is None
        assert reply["result"][0]["core"] == 0


def test_show_ends_with_its_status(sandbox: Sandbox) -> None:
    watch(sandbox)
    argv = [*daemon()[:-1], "show"]

    def show() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=sandbox.env, capture_output=True, text=True, check=False, timeout=10)

    well = show()
    assert well.returncode == 0, well.stdout + well.stderr
    assert all(name in well.stdout for name in sandbox.pmds())
    sandbox.kill_vswitchd()
    wait(lambda: show().returncode == 1, "show ends with 1", 5)
    assert "process-gone" in show().stdout


def test_unknown_pmd_and_bad_numbers_are_refused_in_one_line(sandbox: Sandbox) -> None:
    watch(sandbox)
    for command in (("keepalive/explain", "pmd-c77"), ("keepalive/history", "-1"), ("keepalive/history", "x")):
        with pytest.raises(SandboxError) as refusal:
            sandbox.appctl(*command, target="ovs-keepalive")
        assert str(refusal.value).count("\n") == 0
