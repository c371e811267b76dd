# SPDX-License-Identifier: Apache-2.0
"""Prints the Grafana dashboard: `python docs/generate_dashboard.py > ovs_keepalive/share/grafana/ovs-keepalive.json`.

States are words in labels: each becomes a number by its place in a table, and the number a word again, with its colour,
by a value mapping. tests/unit/test_docs.py fails when the file and this differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ovs_keepalive.core.model import State, VswitchdState
from ovs_keepalive.core.offload import OffloadState
from ovs_keepalive.formats.metric import PREFIX

SCHEMA = 41  # of dashboards, as Grafana 12.0 has it; later ones bring it up to theirs
WIDTH = 24  # columns of Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODE, EACH = "{{instance}}", "{{instance}} {{pmd}}"  # legends

PMD_COLOURS = {
    State.UNUSED: "#6e7787",
    State.ALIVE: "#3a9b4f",
    State.SLEEP: "#3f7fd0",
    State.MISSING: "#e8b021",
    State.DEAD: "#e0363c",
    State.GONE: "#8f1d22",
}
VSWITCHD_COLOURS = {
    VswitchdState.RUNNING: "#3a9b4f",
    VswitchdState.STARTING: "#3f7fd0",
    VswitchdState.RESTARTING: "#8a6fd1",
    VswitchdState.HUNG: "#e8b021",
    VswitchdState.STOPPED: "#e07a1f",
    VswitchdState.CRASH_LOOP: "#e0363c",
    VswitchdState.GONE: "#8f1d22",
}
OFFLOAD_COLOURS = {
    OffloadState.DISABLED: "#6e7787",
    OffloadState.UNKNOWN: "#9aa3b2",
    OffloadState.OK: "#3a9b4f",
    OffloadState.PRESSURE: "#e8b021",
    OffloadState.OOR: "#e0363c",
    OffloadState.STARVED: "#e07a1f",
    OffloadState.SKIPPED: "#8a6fd1",
}
SEEN_COLOURS = {"blind": "#e0363c", "up": "#3a9b4f"}


def main() -> None:
    """Print it."""
    print(json.dumps(dashboard(), indent=2))


def dashboard() -> dict[str, Any]:
    """The whole document."""
    return {
        "title": "Open vSwitch PMD threads (ovs-keepalive)",
        "uid": "ovs-keepalive",
        "description": "Whether each PMD thread of Open vSwitch is alive, as ovs-keepalive tells it.",
        "tags": ["open-vswitch", "ovs-keepalive"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": _placed([*_states(), *_work(), *_ports(), *_breaks(), *_watching(), *_fleet()]),
    }


def _states() -> list[dict[str, Any]]:
    pmds, process = _coded("pmd_state", "pmd", PMD_COLOURS), _coded("vswitchd_state", "", VSWITCHD_COLOURS)
    transitions = f"sum by (instance, pmd, to, cause) ({_of('pmd_transitions_total')})"
    return [
        _stat("PMD threads by state", f"sum by (state) ({_of('pmd_state')})", "{{state}}", 12),
        _stat("PMD threads without their CPU", f"sum({_of('pmd_starved')})", "starved", 6),
        _stat("Longest keepalive interval", f"max({_of('effective_interval_seconds')})", "interval", 6, "s"),
        _timeline("PMD threads", pmds, EACH, PMD_COLOURS, WIDTH, 10),
        _timeline("ovs-vswitchd", process, NODE, VSWITCHD_COLOURS, 12, 6),
        _timeline("What the daemon sees", _of("up"), f"{NODE} {{{{source}}}}", SEEN_COLOURS, 12, 6),
        _table("What is wrong now", f"{_of('pmd_cause')} == 1", ("instance", "pmd", "core", "numa", "cause")),
        _table("Transitions since the daemon began", transitions, ("instance", "pmd", "to", "cause", "Value")),
    ]


def _work() -> list[dict[str, Any]]:
    # Of two time stamps of one clock: that of the node may be wrong.
    age = (
        f"{_of('beat_timestamp_seconds')} - on (job, instance) group_right () {_of('pmd_last_seen_timestamp_seconds')}"
    )
    missed = f"sum by (instance, pmd) (increase({_of('pmd_missed_heartbeats_total')}[$__rate_interval]))"
    return [
        _graph("Iterations", _rate("pmd_iterations_total", "instance, pmd"), EACH, "ops"),
        _graph("Busy iterations", _of("pmd_busy_ratio"), EACH, "percentunit"),
        _graph("Age of the last progress seen", f"clamp_min({age}, 0)", EACH, "s"),
        _graph("Missed heartbeats", missed, EACH, "short"),
    ]


def _ports() -> list[dict[str, Any]]:
    state = _coded("offload_state", "netdev", OFFLOAD_COLOURS)
    each = "{{instance}} {{netdev}}"
    return [
        _stat("Ports by state", f"sum by (state) ({_of('port_state')})", "{{state}}", WIDTH),
        _timeline("Flow offload", state, each, OFFLOAD_COLOURS, WIDTH, 6),
        _graph("Share of packets that hardware forwards", _of("offload_share"), each, "percentunit"),
        _graph("Flows that wait for room in hardware", _of("offload_pending"), each, "short"),
    ]


def _fleet() -> list[dict[str, Any]]:
    """Of the fleet's page, whichever node is chosen above."""
    hosts, asked = f"{PREFIX}fleet_hosts", f"{PREFIX}fleet_help_requests"
    return [
        _graph("Hosts of the fleet", f"sum by (cell, state) ({hosts})", "{{cell}} {{state}}", "short"),
        _graph("Requests for help", f"sum by (cell, state) ({asked})", "{{cell}} {{state}}", "short"),
    ]


def _breaks() -> list[dict[str, Any]]:
    ended = f"sum by (instance, kind) (increase({_of('vswitchd_breaks_total')}[$__rate_interval]))"
    return [
        _graph("Ends of ovs-vswitchd", ended, f"{NODE} {{{{kind}}}}", "short"),
        _graph("Time for which the last one left packets unsent", _of("vswitchd_last_break_seconds"), NODE, "s"),
    ]


def _watching() -> list[dict[str, Any]]:
    looks, cpu = _rate("looks_total", "instance, source, result"), _rate("process_cpu_seconds_total", "instance")
    late, written = _rate("blind_seconds_total", "instance"), _rate("ovsdb_transactions_total", "instance, result")
    slowest = f"histogram_quantile(0.99, {_rate('look_duration_seconds_bucket', 'instance, le')})"
    return [
        _graph("Looks", looks, f"{NODE} {{{{source}}}} {{{{result}}}}", "ops"),
        _graph("Time for vswitchd to answer a look, 99th percentile", slowest, NODE, "s"),
        _graph("The daemon's own CPU", cpu, NODE, "percentunit"),
        _graph("The daemon's own memory", _of("process_resident_memory_bytes"), NODE, "bytes"),
        _graph("Time for which the daemon did not get its CPU", late, NODE, "percentunit"),
        _graph("Transactions", written, f"{NODE} {{{{result}}}}", "ops"),
    ]


def _variables() -> list[dict[str, Any]]:
    query = "label_values(ovs_keepalive_build_info, instance)"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Node",
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": "instance"},
            "definition": query,
            "refresh": 2,  # with the time range
            "sort": 7,  # as people sort numbers in names
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _of(family: str) -> str:
    return f'{PREFIX}{family}{{instance=~"$instance"}}'


def _rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate({_of(counter)}[$__rate_interval]))"


def _coded(family: str, of: str, colours: Mapping[Any, str]) -> str:
    """The state of each as the number that the mapping knows."""
    terms = [f'{number} * {_of(family)[:-1]},state="{state}"}}' for number, state in enumerate(colours)]
    return f"sum by (instance{', ' + of if of else ''}) ({' or '.join(terms)})"


def _mapping(colours: Mapping[Any, str]) -> list[dict[str, Any]]:
    options = {
        str(number): {"text": str(word), "color": colour, "index": number}
        for number, (word, colour) in enumerate(colours.items())
    }
    return [{"type": "value", "options": options}]


def _panel(title: str, kind: str, target: dict[str, Any], size: tuple[int, int], **fields: Any) -> dict[str, Any]:
    target = {"refId": "A", "datasource": DATASOURCE, "editorMode": "code", **target}
    return {
        "title": title,
        "type": kind,
        "datasource": DATASOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [target],
        **fields,
    }


def _stat(title: str, query: str, legend: str, width: int, unit: str = "none") -> dict[str, Any]:
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "colorMode": "none",
        "textMode": "auto",
        "graphMode": "none",
    }
    target = {"expr": query, "legendFormat": legend}
    return _panel(title, "stat", target, (width, 4), options=options, fieldConfig=_fields(unit))


def _timeline(
    title: str, query: str, legend: str, colours: Mapping[Any, str], width: int, height: int
) -> dict[str, Any]:
    config = _fields("none", mappings=_mapping(colours), custom={"fillOpacity": 85, "lineWidth": 0})
    options = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.85, "legend": {"showLegend": False}}
    target = {"expr": query, "legendFormat": legend}
    return _panel(title, "state-timeline", target, (width, height), options=options, fieldConfig=config)


def _graph(title: str, query: str, legend: str, unit: str) -> dict[str, Any]:
    config = _fields(unit, min=0, custom={"lineWidth": 1, "fillOpacity": 8, "showPoints": "never"})
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    target = {"expr": query, "legendFormat": legend}
    return _panel(title, "timeseries", target, (12, 8), options=options, fieldConfig=config)


def _table(title: str, query: str, columns: tuple[str, ...]) -> dict[str, Any]:
    chosen = {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}
    target = {"expr": query, "instant": True, "format": "table"}
    return _panel(title, "table", target, (12, 8), fieldConfig=_fields("none"), transformations=[chosen])


def _fields(unit: str, **defaults: Any) -> dict[str, Any]:
    return {"defaults": {"unit": unit, **defaults}, "overrides": []}


def _placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From left to right, line by line."""
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        grid = panel["gridPos"]
        if x + grid["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        panel["id"], grid["x"], grid["y"] = number, x, y
        x, height = x + grid["w"], max(height, grid["h"])
    return panels


if __name__ == "__main__":
    main()
