#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write down what a real ovs-vswitchd answers, and what /proc says of its PMD threads.

usage: capture.py [--root CHROOT] [--proc DIR] [--only PART] OUT      (as root; takes about 40 s)

It starts an Open vSwitch of its own, the one installed in CHROOT, and stops it again. Every reply goes into OUT byte
for byte as it came over the control socket; an error reply into a file `*.error`.
A CHROOT is made with: debootstrap --variant=minbase --include=openvswitch-switch SUITE CHROOT
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000  # __WALL: also for threads that are not our children
PROC_FILES = ("comm", "schedstat", "stat", "status", "syscall", "wchan")
PERF, RXQ = ("dpif-netdev/pmd-perf-show", "-nh"), ("dpif-netdev/pmd-rxq-show",)
STATS = ("dpif-netdev/pmd-stats-show",)
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DUMP = ("dpctl/dump-flows", "-m", "--no-names")
PACKET = "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)"

OFCTL = ("--timeout=30", "--protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15")
FLOWS = (
    "group_id=7,type=all,bucket=output:1,bucket=output:3",
    "priority=10,in_port=1,dl_vlan=100,actions=strip_vlan,output:2",
    "cookie=0x5adc15c0,priority=9000,in_port=1,ip,nw_dst=10.0.0.5,actions=resubmit(,10)",
    "table=10,priority=5,tcp,tp_dst=80,actions=mod_dl_dst:02:00:00:00:00:01,output:3",
    "table=10,priority=4,udp,actions=group:7",
    "priority=8,in_port=3,actions=drop",
    "priority=7,in_port=2,actions=clone(set_field:02:00:00:00:00:02->eth_dst,output:1),output:3",
    "priority=0,actions=NORMAL",
)
_IP = "in_port=1,ip,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b,nw_src=10.0.0.1,nw_dst=10.0.0.5"
TRACED = {
    "vlan": "in_port=1,dl_vlan=100,dl_dst=02:00:00:00:00:0b",
    "resubmit": f"{_IP},nw_proto=6,tp_dst=80",
    "group": f"{_IP},nw_proto=17",
    "no-match": f"{_IP},nw_proto=1",
    "drop": "in_port=3",
    "clone": "in_port=2",
    "normal": "in_port=1,dl_dst=ff:ff:ff:ff:ff:ff",
    "no-port": "in_port=nosuch",
}

_ETH = "eth(src=50:54:00:00:00:{n:02x},dst=50:54:00:00:00:a2)"
_IPV4 = f"{_ETH},eth_type(0x0800),ipv4(src=10.0.{{n}}.1,dst=10.1.0.{{n}},proto={{proto}},tos=0,ttl=64,frag=no)"
_IPV6 = f"{_ETH},eth_type(0x86dd),ipv6(src=fe80::{{n:x}},dst=2001:db8::1,label=0,proto=17,tclass=0,hlimit=64,frag=no)"
# Flows of OpenFlow, and for each the packets that make flows of the datapath of it.
OFFLOADED = (
    ("in_port=1,udp,tp_dst=1,nw_dst=10.1.0.0/16,actions=output:2", _IPV4 + ",udp(src=1000,dst=1)", 17),
    (
        "in_port=1,udp,tp_dst=2,dl_src=50:54:00:00:00:00/ff:ff:ff:00:00:00,actions=in_port",
        _IPV4 + ",udp(src=9,dst=2)",
        17,
    ),
    ("in_port=1,tcp,tp_dst=3,actions=ct(commit,table=1)", _IPV4 + ",tcp(src=1000,dst=3),tcp_flags(syn)", 6),
    ("table=1,tcp,actions=set_field:1.2.3.4->ip_dst,push_vlan:0x8100,set_field:4100->vlan_vid,output:2", "", 0),
    ("in_port=1,udp,tp_dst=4,nw_src=10.0.3.0/24,actions=output:2,controller", _IPV4 + ",udp(src=1000,dst=4)", 17),
    ("in_port=1,udp,tp_dst=5,nw_src=10.0.0.0/16,actions=drop", _IPV4 + ",udp(src=1000,dst=5)", 17),
    (
        "in_port=1,udp,tp_dst=6,actions=check_pkt_larger(900)->NXM_NX_REG0[0],resubmit(,2)",
        _IPV4 + ",udp(src=7,dst=6)",
        17,
    ),
    ("table=2,reg0=1,actions=output:2", "", 0),
    ("table=2,reg0=0,actions=sample(probability=9,collector_set_id=1),output:2,output:3", "", 0),
    (
        "in_port=1,udp,tp_dst=7,actions=meter:1,clone(set_field:02:00:00:00:00:02->eth_dst,output:3),2",
        _IPV4 + ",udp(src=1000,dst=7)",
        17,
    ),
    ("in_port=1,udp6,ipv6_src=fe80::/64,actions=output:2", _IPV6 + ",udp(src=1000,dst=1)", 17),
    (
        "in_port=1,dl_vlan=100,actions=pop_vlan,output:2",
        _ETH + ",eth_type(0x8100),vlan(vid=100,pcp=0),encap(eth_type(0x1234))",
        0,
    ),
    ("in_port=1,mpls,actions=pop_mpls:0x0800,output:2", _ETH + ",eth_type(0x8847),mpls(label=99,tc=0,ttl=64,bos=1)", 0),
    (
        "in_port=1,arp,actions=output:2",
        _ETH + ",eth_type(0x0806),arp(sip=1.2.3.{n},tip=4.3.2.1,op=1,sha=50:54:00:00:00:01,tha=00:00:00:00:00:00)",
        0,
    ),
    ("in_port=1,icmp,nw_tos=0,actions=output:2,output:3", _IPV4 + ",icmp(type=8,code=0)", 1),
    ("in_port=4,actions=output:2", "", 0),
)
TUNNEL = ("1.1.2.88", "1.1.2.92")  # our end, and the other


class Switch:
    """A private Open vSwitch with dummy datapath, below a directory of its own inside root."""

    def __init__(self, root: Path, out: Path, dummies: str = "=override") -> None:
        self.root, self.out, self.dummies = root, out, dummies
        self.outer = Path(tempfile.mkdtemp(dir=root / "tmp"))
        self.dir = f"/tmp/{self.outer.name}"  # noqa: S108  as the processes inside root see it
        self.daemons: list[subprocess.Popen[bytes]] = []

    def argv(self, *command: str) -> list[str]:
        # A mount namespace of its own: the bind mount ends with the process.
        script = 'root=$1; shift; [ "$root" = / ] || mount --bind /proc "$root/proc"; exec chroot "$root" "$@"'
        return ["unshare", "--mount", "sh", "-ec", script, "sh", str(self.root), *command]

    def env(self) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        places = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), self.dir)
        return {"PATH": path, "LC_ALL": "C.UTF-8", **places}

    def run(self, *command: str) -> None:
        subprocess.run(self.argv(*command), env=self.env(), check=True, timeout=60, stdout=subprocess.DEVNULL)

    def start(self, *settings: str) -> None:
        """settings: of other_config, before there is a vswitchd."""
        self.run("ovsdb-tool", "create", f"{self.dir}/conf.db", SCHEMA)
        self.daemon(
            "ovsdb-server", f"{self.dir}/conf.db", f"--remote=punix:{self.dir}/db.sock", f"--unixctl={self.dir}/db.ctl"
        )
        until((self.outer / "db.sock").exists)
        self.run("ovs-vsctl", "--no-wait", f"--db=unix:{self.dir}/db.sock", "init")
        for setting in settings:
            words = ("set", "Open_vSwitch", ".", f"other_config:{setting}")
            self.run("ovs-vsctl", "--no-wait", f"--db=unix:{self.dir}/db.sock", *words)
        # "override" makes dummies of all types of ports, of tunnels too.
        dummy = (f"--enable-dummy{self.dummies}", "--disable-system", "--dummy-numa=0,0,1,1")
        self.daemon("ovs-vswitchd", f"unix:{self.dir}/db.sock", *dummy, f"--unixctl={self.dir}/v.ctl")
        until((self.outer / "v.ctl").exists)

    def daemon(self, name: str, *options: str) -> None:
        command = self.argv(name, *options, f"--pidfile={self.dir}/{name}.pid", f"--log-file={self.dir}/{name}.log")
        self.daemons.append(subprocess.Popen(command, env=self.env(), stderr=subprocess.DEVNULL))

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(30)
        shutil.rmtree(self.outer)

    def vsctl(self, *command: str) -> None:
        """Returns when vswitchd has done it."""
        self.run("ovs-vsctl", "--timeout=30", f"--db=unix:{self.dir}/db.sock", *command)

    def ask(self, *commands: tuple[str, ...]) -> list[tuple[str, str]]:
        """Send all commands at once; for each "result" or "error", and its text."""
        replies: list[tuple[str, str]] = []
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.outer / "v.ctl"))
            for number, (method, *params) in enumerate(commands):
                connection.sendall(json.dumps({"id": number, "method": method, "params": params}).encode())
            # Replies follow each other without anything in between.
            pending, decoder = b"", json.JSONDecoder()
            while len(replies) < len(commands):
                chunk = connection.recv(65536)
                if not chunk:
                    raise ConnectionError("vswitchd closed the connection")
                pending += chunk
                with suppress(ValueError):  # until one is not complete yet
                    while pending:
                        reply, end = decoder.raw_decode(pending.decode())
                        pending = pending.decode()[end:].encode()
                        kind = "error" if reply["error"] is not None else "result"
                        replies.append((kind, reply[kind]))
        return replies

    def write(self, name: str, *command: str) -> None:
        self.write_reply(name, self.ask(command)[0])

    def write_reply(self, name: str, reply: tuple[str, str]) -> None:
        kind, text = reply
        ending = "error" if kind == "error" else "txt"
        (self.out / f"{name}.{ending}").write_text(text, newline="")

    def write_ofctl(self, name: str, *command: str) -> None:
        argv = self.argv("ovs-ofctl", *OFCTL, *command)
        done = subprocess.run(argv, env=self.env(), check=True, timeout=60, capture_output=True)
        (self.out / f"ofctl-{name}.txt").write_bytes(done.stdout)

    def write_both(self, name: str, *datapath: str) -> None:
        self.write(f"perf-{name}", *PERF, *datapath)
        self.write(f"rxq-{name}", *RXQ, *datapath)
        self.write(f"stats-{name}", *STATS, *datapath)

    def pmds(self) -> dict[str, Path]:
        """/proc directory of each PMD thread, by its name."""
        tasks = Path(f"/proc/{self.daemons[-1].pid}/task").iterdir()
        names = {(task / "comm").read_text().strip(): task for task in tasks}
        return {name: names[name] for name in sorted(names) if name.startswith("pmd-")}


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait for a condition; False when it did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def write_proc(task: Path, proc: Path | None, case: str, state: str) -> None:
    """Copy the files of a thread, all while it shows this state."""
    if proc is None:
        return
    out = proc / case
    out.mkdir(parents=True, exist_ok=True)

    def copied() -> bool:
        for name in PROC_FILES:
            (out / name).write_bytes((task / name).read_bytes())
        states = ((out / "stat").read_text().rpartition(")")[2].split()[0], (out / "status").read_text().split()[5])
        return states == (state, state)

    if not until(copied):
        raise TimeoutError(f"{task} never showed state {state}")


@contextmanager
def held(tid: int) -> Iterator[None]:
    """Stop one thread with ptrace(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, tid, None, None) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace of thread {tid}: {os.strerror(ctypes.get_errno())}")
    os.waitpid(tid, WAIT_ALL)
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, tid, None, None)


def write_odd_name(proc: Path | None) -> None:
    """The stat of a process whose name looks like the fields after it."""
    if proc is not None:
        (proc / "odd-name").mkdir(parents=True, exist_ok=True)
        Path("/proc/self/comm").write_text("a) R (b) c")
        (proc / "odd-name" / "stat").write_bytes(Path("/proc/self/stat").read_bytes())


def capture(switch: Switch, proc: Path | None) -> None:
    """One state of the switch after the other."""
    switch.write("version", "version")
    switch.write("list-commands", "list-commands")
    switch.write_both("no-datapath")
    switch.write("dump-dps-none", "dpctl/dump-dps")

    bridge = ("set", "bridge", "br0", "datapath_type=dummy", "fail_mode=secure")
    switch.vsctl("add-br", "br0", "--", *bridge)
    switch.write_both("no-pmd")
    switch.write("dump-dps", "dpctl/dump-dps")

    switch.vsctl(
        *("set", "Open_vSwitch", ".", "other_config:pmd-cpu-mask=0xf"),
        *("--", "add-port", "br0", "p0", "--", "set", "interface", "p0", "type=dummy-pmd", "options:n_rxq=2"),
        *("--", "add-port", "br0", "vhu-1.é/x", "--", "set", "interface", "vhu-1.é/x", "type=dummy-pmd"),
        *("options:n_rxq=2", "options:numa_id=1", "other_config:pmd-rxq-affinity=1:3"),
    )
    switch.write_both("four-first")
    switch.run("ovs-ofctl", "add-flow", f"unix:{switch.dir}/br0.mgmt", "actions=all")
    switch.ask(*[("netdev-dummy/receive", "p0", PACKET)] * 100)
    time.sleep(1)  # so that there is something to count
    switch.write_both("four-polling")
    until(lambda: has_cleared(switch))
    first, *_ = switch.pmds().values()
    write_proc(first, proc, "polling", "R")
    with held(int(first.name)):
        write_proc(first, proc, "held", "t")
        switch.ask(("dpif-netdev/pmd-stats-clear",))
        switch.write("perf-held", *PERF)

    switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-maxsleep=1000", "other_config:pmd-perf-metrics=true")
    # For a while after the ports' change it says NOT AVAIL.
    if not until(lambda: "NOT AVAIL" not in switch.ask(RXQ)[0][1]):
        print(f"{switch.out}: pmd usage is still NOT AVAIL")
    switch.write_both("four-sleeping")
    if "dpif-netdev/pmd-sleep-show" in (switch.out / "list-commands.txt").read_text():
        switch.write("sleep-show", "dpif-netdev/pmd-sleep-show")
    switch.write("perf-histograms", PERF[0])
    write_proc(first, proc, "sleeping", "S")

    switch.vsctl(
        *("--", "del-port", "vhu-1.é/x", "--", "set", "interface", "p0", "options:n_rxq=1"),
        *("--", "clear", "Open_vSwitch", ".", "other_config", "--", "set", "Open_vSwitch", "."),
        "other_config:pmd-cpu-mask=0x3",
    )
    time.sleep(0.5)  # the PMD without rxqs goes to sleep
    switch.write_both("no-rxq")
    unused = [name for name in switch.pmds() if name[5:7] not in rxq_cores(switch)]
    write_proc(switch.pmds()[unused[0]], proc, "no-rxq", "S")

    switch.ask(("dpctl/add-dp", "dummy@other"))
    switch.write_both("several")
    switch.write("dump-dps-several", "dpctl/dump-dps")
    switch.write_both("several-typed", "dummy@ovs-dummy")
    switch.write_both("several-named", "ovs-dummy")
    switch.write_both("several-without-pmd", "other")


def capture_flows(switch: Switch) -> None:
    """A bridge of its own, whose flows lead somewhere: what ovs-ofctl prints of them, and how packets are traced."""
    bridge = ("set", "bridge", "br1", "datapath_type=dummy", "fail_mode=secure")
    ports = [
        word
        for number, port in enumerate(("q1", "vhu-1.é", "q3"), 1)
        for word in (*("--", "add-port", "br1", port, "--", "set", "interface", port), f"ofport_request={number}")
    ]
    switch.vsctl("add-br", "br1", "--", *bridge, *ports)
    target = f"unix:{switch.dir}/br1.mgmt"
    switch.write_ofctl("dump-tables-empty", "dump-tables", target)
    for flow in FLOWS:
        switch.run("ovs-ofctl", *OFCTL, "add-group" if flow.startswith("group_id") else "add-flow", target, flow)
    switch.write_ofctl("dump-tables", "dump-tables", target)
    switch.write_ofctl("dump-flows", "--no-names", "dump-flows", target)
    switch.write_ofctl("dump-flows-no-stats", "--no-names", "--no-stats", "dump-flows", target)
    switch.write_ofctl("dump-aggregate", "dump-aggregate", target, "out_port=2")
    switch.write("dpif-show", "dpif/show")
    for name, flow in TRACED.items():
        switch.write(f"trace-{name}", "ofproto/trace", "br1", flow)


def capture_offload(switch: Switch) -> None:
    """Flows of the datapath, some of them of each kind that offload tells apart, and what is said of them."""
    switch.write("upcall-show-none", "upcall/show")
    switch.vsctl(
        *("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail_mode=secure"),
        *("--", "set", "Open_vSwitch", ".", "other_config:pmd-cpu-mask=0x3", "--", "--id=@br0", "get", "bridge", "br0"),
        *("--", "create", "Flow_Sample_Collector_Set", "bridge=@br0", "id=1"),
        *[
            word
            for number in (1, 2, 3)
            for words in (
                f"-- add-port br0 p{number}",
                f"-- set interface p{number} type=dummy-pmd ofport_request={number}",
            )
            for word in words.split()
        ],
        *("--", "add-port", "br0", "vx", "--", "set", "interface", "vx", "type=vxlan", "options:key=flow"),
        *("ofport_request=4", f"options:remote_ip={TUNNEL[1]}"),
        *(
            "--",
            "add-port",
            "br0",
            "vy",
            "--",
            "set",
            "interface",
            "vy",
            "type=vxlan",
            "options:remote_ip=flow",
            "ofport_request=5",
        ),
    )
    target = f"unix:{switch.dir}/br0.mgmt"
    switch.run("ovs-ofctl", *OFCTL, "add-meter", target, "meter=1,pktps,band=type=drop,rate=1000000")
    for flow, _, _ in OFFLOADED:
        switch.run("ovs-ofctl", *OFCTL, "add-flow", target, flow)
    outside = (
        "add-br",
        "br1",
        "--",
        "set",
        "bridge",
        "br1",
        "datapath_type=dummy",
        "other_config:hwaddr=aa:55:aa:55:00:01",
    )
    switch.vsctl(*outside, "--", "add-port", "br1", "q1", "--", "set", "interface", "q1", "type=dummy-pmd")
    switch.run(
        "ovs-ofctl", *OFCTL, "add-flow", f"unix:{switch.dir}/br0.mgmt", "in_port=2,udp,actions=set_field:7->tun_id,4"
    )
    switch.ask(
        ("netdev-dummy/ip4addr", "br1", f"{TUNNEL[0]}/24"),
        ("ovs/route/add", f"{TUNNEL[1]}/24", "br1"),
        ("tnl/arp/set", "br1", TUNNEL[1], "f8:bc:12:44:34:b6"),
    )
    packets = [
        ("netdev-dummy/receive", "p1", "in_port(1)," + text.format(n=number, proto=proto))
        for number in range(4)
        for _, text, proto in OFFLOADED
        if text
    ]
    packets += [("netdev-dummy/receive", "p2", "in_port(2)," + (_IPV4 + ",udp(src=1,dst=2)").format(n=9, proto=17))]
    packets += [("netdev-dummy/receive", "q1", vxlan())]
    for _ in range(3):
        for packet in packets:
            kind, text = switch.ask(packet)[0]
            if kind == "error":
                raise ValueError(f"{packet}: {text}")
        time.sleep(0.7)  # for upcalls, offload threads and the counters
    # One flow on every PMD, as somebody writes it: it was not used on the others.
    line = next(line for line in switch.ask(DUMP)[0][1].split("\n") if ",dst=1)" in line)
    key, _, rest = line.partition(", packets:")
    switch.ask(("dpctl/add-flow", key, rest.partition("actions:")[2].partition(", dp-extra-info")[0]))
    switch.write("dump-flows", *DUMP)
    switch.write("dump-flows-names", "dpctl/dump-flows", "-m", "--names")
    switch.write("dump-flows-brief", "dpctl/dump-flows", "--no-names")
    switch.write("upcall-show", "upcall/show")
    switch.write("offload-dpif-show", "dpif/show")


def vxlan() -> str:
    """A packet that comes out of a tunnel, as hexadecimal digits."""
    inner = bytes.fromhex("505400000002 505400000001 0800") + ipv4(
        17, struct.pack(">4H", 1000, 80, 8, 0), "10.9.0.1", "10.9.0.2"
    )
    outer = struct.pack(">4HII", 51000, 4789, 16 + len(inner), 0, 0x08000000, 7 << 8) + inner
    frame = bytes.fromhex("aa55aa550001 f8bc124434b6 0800") + ipv4(17, outer, TUNNEL[1], TUNNEL[0])
    return frame.hex()


def ipv4(proto: int, payload: bytes, source: str, to: str) -> bytes:
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, proto, 0, *map(socket.inet_aton, (source, to))
    )
    total = sum(struct.unpack(">10H", head))
    check = ~(total % 0xFFFF) & 0xFFFF
    return head[:10] + struct.pack(">H", check) + head[12:] + payload


def has_cleared(switch: Switch) -> bool:
    """Whether the reply right after pmd-stats-clear shows a PMD without counts."""
    # Sent together: a PMD that has not iterated in between has not cleared its counters yet.
    reply = switch.ask(("dpif-netdev/pmd-stats-clear",), PERF)[1]
    switch.write_reply("perf-cleared", reply)
    return "duration: 0.000 s\n\npmd thread" in reply[1]


def rxq_cores(switch: Switch) -> set[str]:
    """Cores, two digits each, of the PMDs that poll an rxq."""
    blocks = switch.ask(RXQ)[0][1].split("pmd thread numa_id ")[1:]
    return {block.split()[2].rstrip(":").zfill(2) for block in blocks if "port:" in block}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="CHROOT", help="where Open vSwitch is installed"
    )
    parser.add_argument("--proc", type=Path, metavar="DIR", help="where the /proc texts go; needs Open vSwitch 3.1")
    parser.add_argument("--only", choices=("pmds", "offload"), help="this part; by default all")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the replies go")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_odd_name(args.proc)
    if args.only != "offload":
        with started(Switch(args.root.resolve(), args.out)) as switch:
            capture(switch, args.proc)
            capture_flows(switch)
    if args.only != "pmds":
        with started(Switch(args.root.resolve(), args.out, dummies=""), "hw-offload=true") as switch:
            capture_offload(switch)


@contextmanager
def started(switch: Switch, *settings: str) -> Iterator[Switch]:
    try:
        switch.start(*settings)
        yield switch
    finally:
        switch.stop()


if __name__ == "__main__":
    main()
