# SPDX-License-Identifier: Apache-2.0
"""The mesh as operations of OVSDB (RFC 7047, section 5.2). Each names our mark in its condition: a row that does not
carry it when the server gets there is not touched, and then nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ovs_keepalive.core.interfaces import Interface
from ovs_keepalive.core.mesh import HOST, MARK, Asked, Plan, Wanted

Operation = dict[str, Any]


def operations(asked: Asked, plan: Plan) -> list[Operation]:
    """Of one transaction, which is done whole or not at all."""
    added = [pair for number, port in enumerate(plan.add) for pair in _inserted(asked, number, port)]
    ports = [["named-uuid", f"port{number}"] for number in range(len(plan.add))]
    if plan.create is not None:
        return [*added, *_made(asked, plan.create.datapath, ports), _next_cfg()]
    done = [_guard("Bridge", asked, ["name", "==", asked.bridge], asked.bridge)]
    for there, port in plan.change:
        done += [_guard("Interface", asked, _is(there.id), there.name), _changed(asked, there, port)]
    done += _removed(asked, plan.remove)
    if ports:
        done += [*added, _of_bridge(asked, [["ports", "insert", ["set", ports]]])]
    return [*done, _next_cfg()]


def withdrawal(asked: Asked, ports: Iterable[Interface], *, bridge: str) -> list[Operation]:
    """Takes these ports away. bridge: the UUID of the bridge that goes with them; "": it stays."""
    done = [_guard("Bridge", asked, ["name", "==", asked.bridge], asked.bridge), *_removed(asked, ports)]
    if bridge:
        gone = [["bridges", "delete", ["uuid", bridge]]]
        done.append({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": gone})
    return [*done, _next_cfg()]


def _inserted(asked: Asked, number: int, port: Wanted) -> list[Operation]:
    marks = _map({MARK: asked.cell, HOST: port.host})
    interface = {
        "name": port.name,
        "type": "vxlan",
        "options": _map(port.options),
        "bfd": _map(port.bfd),
        "external_ids": marks,
    }
    row = {"name": port.name, "interfaces": ["named-uuid", f"interface{number}"], "external_ids": marks}
    return [
        {"op": "insert", "table": "Interface", "uuid-name": f"interface{number}", "row": interface},
        {"op": "insert", "table": "Port", "uuid-name": f"port{number}", "row": row},
    ]


def _made(asked: Asked, datapath: str, ports: list[Any]) -> list[Operation]:
    """The bridge, with the port that every bridge has. It forwards nothing that no flow says."""
    marks = _map({MARK: asked.cell})
    interface = {"name": asked.bridge, "type": "internal", "external_ids": marks}
    port = {"name": asked.bridge, "interfaces": ["named-uuid", "own_interface"], "external_ids": marks}
    bridge = {
        "name": asked.bridge,
        "datapath_type": datapath,
        "fail_mode": "secure",
        "ports": ["set", [["named-uuid", "own_port"], *ports]],
        "external_ids": marks,
        "other_config": _map({"disable-in-band": "true"}),
    }
    new = [["bridges", "insert", ["set", [["named-uuid", "bridge"]]]]]
    return [
        {"op": "insert", "table": "Interface", "uuid-name": "own_interface", "row": interface},
        {"op": "insert", "table": "Port", "uuid-name": "own_port", "row": port},
        {"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": bridge},
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": new},
    ]


def _changed(asked: Asked, there: Interface, port: Wanted) -> Operation:
    row = {"type": "vxlan", "options": _map(port.options), "bfd": _map(port.bfd)}
    return {"op": "update", "table": "Interface", "where": [_is(there.id), _marked(asked)], "row": row}


def _removed(asked: Asked, ports: Iterable[Interface]) -> list[Operation]:
    """Rows to which nothing refers any more the server collects: the Interface goes with its Port."""
    gone = sorted({port.port for port in ports})
    guards = [_guard("Port", asked, _is(port.port), port.name) for port in ports]
    if not gone:
        return []
    return [*guards, _of_bridge(asked, [["ports", "delete", ["set", [["uuid", one] for one in gone]]]])]


def _of_bridge(asked: Asked, mutations: list[Any]) -> Operation:
    where = [["name", "==", asked.bridge], _marked(asked)]
    return {"op": "mutate", "table": "Bridge", "where": where, "mutations": mutations}


def _guard(table: str, asked: Asked, where: list[Any], name: str) -> Operation:
    """Nothing is done unless that row is there, of that name, and ours."""
    return {
        "op": "wait",
        "timeout": 0,
        "table": table,
        "where": [where, _marked(asked)],
        "columns": ["name"],
        "until": "==",
        "rows": [{"name": name}],
    }


def _next_cfg() -> Operation:
    """vswitchd takes up what is configured when this number grows."""
    return {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}


def _marked(asked: Asked) -> list[Any]:
    return ["external_ids", "includes", _map({MARK: asked.cell})]


def _is(id: str) -> list[Any]:
    return ["_uuid", "==", ["uuid", id]]


def _map(pairs: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in sorted(pairs.items())]]
