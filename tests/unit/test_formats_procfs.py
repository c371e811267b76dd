# SPDX-License-Identifier: Apache-2.0
"""/proc texts of real PMD threads (tests/golden/linux-*), and texts that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_keepalive.core.access import Credentials
from ovs_keepalive.formats import procfs
from ovs_keepalive.formats.procfs import Stat

GOLDEN = Path(__file__).parents[1] / "golden"
KERNELS = sorted(GOLDEN.glob("linux-*"))


@pytest.fixture(params=KERNELS, ids=lambda path: path.name)
def kernel(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def golden(kernel: Path, case: str, name: str) -> str:
    return (kernel / case / name).read_text()


@pytest.mark.parametrize(("case", "state"), [("polling", "R"), ("sleeping", "S"), ("no-rxq", "S"), ("held", "t")])
def test_stat_of_a_pmd(kernel: Path, case: str, state: str) -> None:
    text = golden(kernel, case, "stat")
    stat, words = procfs.parse_stat(text), text.split()  # this name has no spaces
    assert stat.name == golden(kernel, case, "comm").strip()
    assert procfs.pmd_core(stat.name) in (0, 1)
    assert stat.state == state
    assert [stat.flags, stat.start] == [int(words[field - 1]) for field in (9, 22)]


def test_stat_of_a_process_whose_name_looks_like_other_fields(kernel: Path) -> None:
    text = golden(kernel, "odd-name", "stat")
    stat = procfs.parse_stat(text)
    assert (stat.name, stat.state) == ("a) R (b) c", "R")
    assert stat.start == int(text.split()[21 + 3])  # its name has three spaces


@pytest.mark.parametrize("comm", ["", ")", "((", "ovs vswitchd", "\n", "é\ufffd", ") Z 1 (x"])
def test_names_in_stat(comm: str) -> None:
    text = f"7 ({comm}) S 1 7 7 0 -1 64 0 0 0 0 11 38 0 0 20 0 10 0 363060 742105088 14145\n"
    assert procfs.parse_stat(text) == Stat(comm, "S", start=363060, flags=64)


def test_schedstat(kernel: Path) -> None:
    text = golden(kernel, "polling", "schedstat")
    run, wait, _ = map(int, text.split())
    assert procfs.parse_schedstat(text) == (run, wait)


def test_status_of_a_pmd_that_polls(kernel: Path) -> None:
    text = golden(kernel, "polling", "status")
    status = procfs.parse_status(text)
    assert status.tracer_pid == 0
    assert status.core_dumping is False
    assert f"\nvoluntary_ctxt_switches:\t{status.voluntary}\n" in text
    assert f"\nnonvoluntary_ctxt_switches:\t{status.involuntary}\n" in text
    assert status.cpus_allowed


def test_status_of_a_held_pmd_names_its_tracer(kernel: Path) -> None:
    text = golden(kernel, "held", "status")
    tracer = procfs.parse_status(text).tracer_pid
    assert tracer > 0
    assert f"\nTracerPid:\t{tracer}\n" in text


def test_status_of_a_process_that_is_being_dumped(kernel: Path) -> None:
    text = golden(kernel, "polling", "status").replace("CoreDumping:\t0", "CoreDumping:\t1")
    assert procfs.parse_status(text).core_dumping is True


def test_a_name_in_status_cannot_pass_for_a_field(kernel: Path) -> None:
    text = golden(kernel, "polling", "status").replace("CoreDumping:\t0\n", "")
    for separator in ("\t", "\x0b", "\x85", "\u2028"):
        odd = text.replace("Name:\t", f"Name:\tx{separator}CoreDumping:\t1", 1)
        assert procfs.parse_status(odd) == procfs.parse_status(text)
        assert procfs.parse_status(odd).core_dumping is None


def test_status_of_an_old_kernel_tells_less() -> None:
    assert procfs.parse_status("Name:\tx\nTracerPid:\t0\n") == (0, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8", {0, 1, 2, 3, 8}), ("0\n", {0}), ("0-1", {0, 1}), ("2,4-4", {2, 4}), ("", set()), ("\n", set())],
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    assert procfs.parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("comm", "core"),
    [
        ("pmd-c00/id:9", 0),
        ("pmd-c127/id:139", 127),
        ("pmd-c511/id:123", 511),  # cut at 15 characters
        ("pmd-c1023/id:10", 1023),
        ("ovs-vswitchd", None),
        ("xpmd-c00/id:9", None),
        ("pmd-cxx/id:9", None),
        ("pmd-c00", None),
        ("pmd-c٣/id:9", None),
        ("", None),
    ],
)
def test_the_core_in_a_thread_name(comm: str, core: int | None) -> None:
    assert procfs.pmd_core(comm) == core


@pytest.mark.parametrize(("case", "word"), [("polling", "running"), ("sleeping", "230"), ("no-rxq", "7")])
def test_syscall(kernel: Path, case: str, word: str) -> None:
    assert procfs.syscall_number(golden(kernel, case, "syscall")) == word


def test_a_held_pmd_still_shows_the_system_call_it_was_held_in(kernel: Path) -> None:
    assert procfs.syscall_number(golden(kernel, "held", "syscall")) in ("-1", "24")  # none; sched_yield of a dummy PMD
    assert procfs.syscall_number("-1 0x7ffd 0x55\n") == "-1"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (procfs.parse_stat, ""),
        (procfs.parse_stat, "7 (x) S 1 7 7 0 -1 64 0 0"),
        (procfs.parse_stat, "7 (x) S 1 7 7 0 -1 a 0 0 0 0 11 38 0 0 20 0 10 0 363060 1"),
        (procfs.parse_stat, "7 (x) S 1 7 7 0 -1 64 0 0 0 0 11 38 0 0 20 0 10 0 b 1"),
        (procfs.parse_stat, "7 x) S 1 7 7 0 -1 64 0 0 0 0 11 38 0 0 20 0 10 0 363060 1"),
        (procfs.parse_stat, "7 (x S 1 7 7 0 -1 64 0 0 0 0 11 38 0 0 20 0 10 0 363060 1"),
        (procfs.parse_stat, "7 (x) SS 1 7 7 0 -1 64 0 0 0 0 11 38 0 0 20 0 10 0 363060 1"),
        (procfs.parse_schedstat, ""),
        (procfs.parse_schedstat, "1"),
        (procfs.parse_schedstat, "1 x 2"),
        (procfs.parse_status, ""),
        (procfs.parse_status, "Name:\tx\n"),
        (procfs.parse_status, "TracerPid:\tx\n"),
        (procfs.parse_status, "TracerPid:\t0\nCpus_allowed_list:\t0-x\n"),
        (procfs.parse_cpu_list, "0-"),
        (procfs.parse_cpu_list, "3-1"),
        (procfs.parse_cpu_list, "-1"),
        (procfs.parse_cpu_list, "0,,1"),
        (procfs.parse_cpu_list, "0-99999999999"),
        (procfs.syscall_number, "\n"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"^['\"].*['\"] is no [\w ]+$"):
        parse(text)


# --- credentials ---------------------------------------------------------------------------------


def test_credentials_are_the_effective_ones() -> None:
    text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t27 4 \nCapEff:\t0000000000000002\n"
    assert procfs.parse_credentials(text) == Credentials(2, frozenset({6, 27, 4}), 2)


@pytest.mark.parametrize("text", ["", "Uid:\t1\n", "Uid:\tx\ty\nGid:\t1\t1\nGroups:\nCapEff:\t0\n"])
def test_credentials_that_cannot_be_read_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="status"):
        procfs.parse_credentials(text)
