# SPDX-License-Identifier: Apache-2.0
"""A client like neutron-openvswitch-agent (through ovsdbapp): the schema asked of the server once, at start, and ALL
its columns registered. Prints one line for each change of Open_vSwitch.other_config that reaches it; silence after a
change means that it went deaf.

    python neutron_like.py unix:/run/openvswitch/db.sock

    connected ovs=4.0.0 columns=18          once, when the first content is there
    other_config {"pmd-cpu-mask": "0x3"}    at once, and then on every change

Needs nothing but python-ovs, of any version: run it with another interpreter to try an older one. Ends by SIGTERM.
"""

from __future__ import annotations

import json
import os
import sys

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.stream
import ovs.version


def server_schema(remote: str) -> ovs.db.idl.SchemaHelper:
    """What ovsdbapp's idlutils.get_schema_helper does."""
    error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote))
    if error:
        sys.exit(f"{remote}: {os.strerror(error)}")
    rpc = ovs.jsonrpc.Connection(stream)
    error, reply = rpc.transact_block(ovs.jsonrpc.Message.create_request("get_schema", ["Open_vSwitch"]))
    rpc.close()
    if error or reply.error is not None:
        sys.exit(f"{remote}: get_schema: {reply.error if reply else error}")
    return ovs.db.idl.SchemaHelper(None, reply.result)


def main(remote: str) -> None:
    helper = server_schema(remote)
    helper.register_all()
    idl = ovs.db.idl.Idl(remote, helper)
    seqno, told = idl.change_seqno, None
    while True:
        idl.run()
        if idl.change_seqno != seqno:
            seqno = idl.change_seqno
            for row in idl.tables["Open_vSwitch"].rows.values():
                if told is None:
                    columns = len(idl.tables["Open_vSwitch"].columns)
                    print(f"connected ovs={ovs.version.VERSION} columns={columns}", flush=True)
                if row.other_config != told:
                    told = dict(row.other_config)
                    print("other_config", json.dumps(told, sort_keys=True), flush=True)
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.timer_wait(1000)
        poller.block()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(0)
