# SPDX-License-Identifier: Apache-2.0
"""The datapath's flows, seen through a connection of its own to vswitchd's control socket.

One dump holds up the main thread for 10 us a flow: the number is asked for first, and
too many are not dumped. It waits for its answers: for a process that has nothing else to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ovs_keepalive.core.model import Moment, NotSeen, Seen
from ovs_keepalive.core.offload import Dump, Flow
from ovs_keepalive.core.pace import pause_after
from ovs_keepalive.formats import offload_show, procfs
from ovs_keepalive.formats.dp_flows import Scanner
from ovs_keepalive.formats.offload_show import Upcalls
from ovs_keepalive.sensors.appctl_client import AppctlClient, NoAnswer, Refused

DEADLINE = 5.0  # seconds without a byte of an answer
MOST = 50_000  # flows of all datapaths; their dump takes 0.6 s of the main thread
LINE = 2048  # bytes of a flow's line: 430 as a rule, and more of tunnels with options
FLOW_COST = 11e-6  # seconds of the main thread, where the kernel does not count them


class FlowLook(NamedTuple):
    """All datapaths, looked at once."""

    dump: Dump
    datapaths: dict[str, Upcalls]  # by name: `netdev@ovs-netdev`
    netdevs: dict[str, tuple[str, ...]]  # by datapath, those without a flow too
    unread: int  # lines that could not be read


class FlowSensor:
    """Looks at one vswitchd process: there is another one for the next."""

    def __init__(self, control: Path, pid: int, most: int = MOST, proc: Path = Path("/proc")) -> None:
        """control: its control socket; most: flows that are dumped."""
        self.cost = 0.0  # seconds of the main thread that the last look took, with all else that it did meanwhile
        self._control = control
        self._most = most
        self._schedstat = proc / str(pid) / "task" / str(pid) / "schedstat"
        self._client = AppctlClient(control, most * LINE)
        self._scanners: dict[str, Scanner] = {}

    def pause(self, share: float) -> float:
        """Seconds until the next look. share: of the main thread's time that looks may take."""
        return pause_after(self.cost, share)

    def look(self, clock: Callable[[], Moment], *, dumped: bool = True) -> Seen[FlowLook] | NotSeen:
        """The flows, as they are now, or why they are not known. Takes seconds where there are tens of thousands.

        clock: asked when the main thread has just answered, and is free to read the counters.
        dumped: else there are only the devices, which costs next to nothing.
        """
        began, walked = self._main_thread(), 0
        try:
            if self._owes():
                return NotSeen(clock(), f"{self._control}: has not answered yet what it was asked at the last look")
            datapaths = offload_show.upcalls(self._ask("upcall/show"))
            number = sum(upcalls.flows for upcalls in datapaths.values()) if dumped else 0
            if number > self._most:
                return NotSeen(clock(), f"{number} flows, more than {self._most}: they are not dumped")
            walked = number
            names = offload_show.netdevs(self._ask("dpif/show"))
            now = clock()
            self._scanners = {name: self._scanners.get(name, Scanner()) for name in datapaths}
            flows, unread = list[Flow](), 0
            for name, scanner in self._scanners.items() if dumped else ():
                scanned = scanner.scan(self._ask("dpctl/dump-flows", "-m", "--no-names", name), names.get(name, {}))
                flows += scanned.flows
                unread += scanned.unread
        except (NoAnswer, Refused) as error:
            return NotSeen(clock(), str(error))
        finally:
            ended = self._main_thread()
            self.cost = ended - began if began is not None and ended is not None else walked * FLOW_COST
            if not self._client.waiting:
                self._client.close()
                self._client = AppctlClient(self._control, self._most * LINE)  # the old one keeps room for the dump
        dump = Dump(now, tuple(flows), self.cost)
        known = {name: tuple(sorted(names.get(name, {}).values())) for name in datapaths}
        return Seen(now, FlowLook(dump, datapaths, known, unread))

    def close(self) -> None:
        """End the conversation."""
        self._client.close()

    def _ask(self, method: str, *arguments: str) -> str:
        self._client.ask(method, *arguments)
        return self._client.wait(DEADLINE)

    def _owes(self) -> bool:
        """Whether it still owes an answer, so that nothing piles up on a main thread that is silent."""
        try:
            return self._client.waiting and self._client.receive() is None
        except Refused:
            return False

    def _main_thread(self) -> float | None:
        """Seconds that it has run; None where the kernel does not tell."""
        try:
            return procfs.parse_schedstat(self._schedstat.read_text())[0] / 1e9
        except (OSError, ValueError):
            return None
