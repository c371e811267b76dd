# SPDX-License-Identifier: Apache-2.0
"""The flows of the services, as ovs-ofctl reads them, and which of them are there.

Ours are known by their cookie: its upper half says that they are, its lower half is a hash of the flow's text. So what
is there is compared with what is wanted by numbers, and nobody has to read the text that ovs-ofctl prints of a flow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from ovs_keepalive.core.services import REPLY, Route, Routes

OURS = 0x6F76736B << 32  # "ovsk"
MASK = 0xFFFFFFFF << 32
LEARNED = OURS | 1  # the way back to whoever asked, which vswitchd adds itself
SERVICES, BACK = 40, 41  # tables
IDLE = 300  # seconds until the way back to a silent client is forgotten
MOST = 4096  # clients whose way back one flow learns

# cookie=0x6f76736b9d2a11f0, table=40, priority=10,in_port=3 actions=output:4
_COOKIE = re.compile(r"\bcookie=0x([0-9a-f]{1,16})\b")


def wanted(routes: Routes) -> Mapping[int, str]:
    """Cookie -> flow, of all that are wanted; none where no service concerns this node."""
    lines = [line for route in routes.routes for line in _of(route, routes.tunnels)]
    if lines:
        lines.append("table=0,priority=1,actions=resubmit(,40)")
        lines += [f"table={SERVICES},priority=1,in_port={port},actions=resubmit(,{BACK})" for port in _backward(routes)]
    return {OURS | _hash(line): line for line in lines}


def there(dump: str) -> frozenset[int]:
    """The cookies of those of ours that are there, of what ovs-ofctl dump-flows printed; not the learned ones."""
    found = (_COOKIE.search(line) for line in dump.splitlines() if "actions=" in line)
    cookies = (int(one[1], 16) for one in found if one is not None)
    return frozenset(one for one in cookies if one & MASK == OURS and one != LEARNED)


def bundle(want: Mapping[int, str], are: Iterable[int]) -> str:
    """What brings them there to those wanted, for ovs-ofctl --bundle: all at once; "" if there is nothing to do.

    What was learned goes as well: it may lead to where nobody is any more, and the next packet teaches it anew.
    """
    are = frozenset(are)
    lines = [f"delete cookie={cookie:#x}/-1" for cookie in sorted(are - want.keys())]
    lines += [f"add cookie={cookie:#x},{line}" for cookie, line in want.items() if cookie not in are]
    return "\n".join([f"delete cookie={LEARNED:#x}/-1", *lines]) + "\n" if lines else ""


def _of(route: Route, tunnels: Iterable[int]) -> list[str]:
    """Those of one service: its clients' packets to its instance, and others' packets that ask for it here."""
    if route.home is not None:
        at = f"table={SERVICES},priority=10"
        reply = f"load:{route.number | REPLY:#x}->NXM_NX_TUN_ID[],"
        to = f"output:{route.home}"
        here = f"actions={_learn(route.home)},output:NXM_OF_IN_PORT[]),{to}"
        own = [f"{at},in_port={one},{here}" for one in route.clients]
        asked = f"tun_id={route.number:#x},actions={_learn(route.home)},{reply}output:NXM_OF_IN_PORT[]),{to}"
        return own + [f"{at},in_port={one},{asked}" for one in tunnels]
    if route.tunnel is None:
        return []
    back = f"{_learn(route.tunnel)},NXM_NX_TUN_ID[]={route.away | REPLY:#x},output:NXM_OF_IN_PORT[])"
    send = f"set_field:{route.away:#x}->tun_id,output:{route.tunnel}"
    return [f"table={SERVICES},priority=10,in_port={one},actions={back},{send}" for one in route.clients]


def _backward(routes: Routes) -> list[int]:
    """The ports by which answers come."""
    homes = {route.home for route in routes.routes if route.home is not None}
    return sorted(homes | {route.tunnel for route in routes.routes if route.tunnel is not None})


def _learn(port: int) -> str:
    """The beginning of an action by which vswitchd learns the way of an answer that comes from that port."""
    head = f"learn(table={BACK},idle_timeout={IDLE},priority=10,limit={MOST},cookie={LEARNED:#x}"
    return f"{head},in_port={port},NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]"


def _hash(line: str) -> int:
    """32 bits, never those of LEARNED."""
    return int.from_bytes(hashlib.sha256(line.encode()).digest()[:4], "big") | 2
