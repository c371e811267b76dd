# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real daemon: what is shipped for it is valid, finds its data, and alarms."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovs_keepalive.children import Children, wait
from ovs_keepalive.sandbox import Sandbox
from tests.conftest import cannot, free_port
from tests.lab import stopped
from tests.numbered import Traffic

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "ovs_keepalive" / "share"
RULES = SHARE / "prometheus" / "ovs-keepalive.rules.yaml"
DASHBOARD = SHARE / "grafana" / "ovs-keepalive.json"
CASES = ROOT / "tests" / "prometheus" / "rules.test.yaml"
BREAK = "vswitchd_last_break_seconds"
ELSEWHERE = re.compile(rf"{BREAK}|_offload_|_fleet_")  # not of a sandbox: there was no break, is no hardware, no fleet
FAMILY = r"\bovs_keepalive_\w+"


def tool(name: str) -> str:
    """Its path."""
    return shutil.which(name) or cannot(f"there is no {name}: install Debian's prometheus")


def promtool(*args: str | Path, given: str = "") -> None:
    """Fail with all that it says, unless it is content."""
    done = subprocess.run(
        [tool("promtool"), *args], input=given, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """One that scrapes and judges every second, and keeps nothing."""

    def __init__(self, directory: Path, target: str) -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "ovs-keepalive", "static_configs": [{"targets": [target]}]}],
        }
        path = directory / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        promtool("check", "config", path)
        self._address = f"127.0.0.1:{free_port()}"
        self._children = Children(directory)
        options = (f"--config.file={path}", f"--storage.tsdb.path={directory}/data", "--log.level=warn")
        argv = [tool("prometheus"), *options, f"--web.listen-address={self._address}"]
        self._children.start("prometheus", argv, {})
        self._children.until("prometheus", lambda: self._ask("/-/ready"), "prometheus is ready", 30)

    def stop(self) -> None:
        """End it."""
        self._children.kill("prometheus", signal.SIGTERM)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an instant query gives now."""
        answer = json.loads(self._ask(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    def finds(self, expression: str) -> list[dict[str, Any]]:
        """These series, as soon as there are any."""
        return wait(lambda: self.query(expression), f"data for {expression}", 20)

    def alerts(self, name: str, **labels: str) -> list[dict[str, Any]]:
        """The alerts of that name which fire now."""
        found = json.loads(self._ask("/api/v1/alerts"))["data"]["alerts"]
        wanted = {"alertname": name, **labels}.items()
        return [alert for alert in found if alert["state"] == "firing" and wanted <= alert["labels"].items()]

    def _ask(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self._address}{path}", timeout=5) as answer:
            return bytes(answer.read())


@pytest.fixture
def target(sandbox: Sandbox) -> str:
    """Where the daemon of the sandbox listens; it watches two PMD threads."""
    address = f"127.0.0.1:{free_port()}"
    sandbox.settings(enable_keepalive=True, keepalive_interval=500)
    sandbox.start_daemon(config={"web-listen": address})
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "all PMDs in the column", 15)
    return address


@pytest.fixture
def prometheus(tmp_path: Path, target: str) -> Iterator[Prometheus]:
    """One that scrapes that daemon."""
    server = Prometheus(tmp_path, target)
    yield server
    server.stop()


def rules() -> list[dict[str, Any]]:
    """All that are shipped."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries(instance: str) -> list[str]:
    """Of all panels, for one node, as Grafana would ask them of a Prometheus that scrapes each second."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [query.replace("$instance", instance).replace("$__rate_interval", "10s") for query in queries]


def test_the_shipped_rules_are_valid_and_do_as_their_cases_say() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", CASES)


def test_rules_and_dashboard_ask_for_nothing_that_nobody_tells() -> None:
    told = set(re.findall(r"`(ovs_keepalive_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    asked = [*(rule["expr"] for rule in rules()), *dashboard_queries("n1")]
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for query in asked for name in re.findall(FAMILY, query)}
    recorded = {name.partition(":")[2] for rule in rules() if (name := rule.get("record"))}
    assert families - told - recorded == set()


def test_every_alert_has_a_case_and_tells_what_to_do() -> None:
    cases = CASES.read_text()
    for rule in rules():
        if name := rule.get("alert"):
            assert name in cases, f"no case fires {name}"
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"].keys() == {"summary", "description", "runbook"}
            page, _, heading = rule["annotations"]["runbook"].partition("#")
            headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
            assert not heading or heading in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


@pytest.mark.real
def test_promtool_has_nothing_against_the_page_of_a_real_daemon(target: str) -> None:
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    promtool("check", "metrics", given=page)
    assert page.count("ovs_keepalive_pmd_iterations_total{") == 2


@pytest.mark.real
@pytest.mark.timeout(150)
def test_a_held_pmd_fires_the_alert_and_every_query_finds_data(
    sandbox: Sandbox, prometheus: Prometheus, target: str
) -> None:
    name, tid = next(iter(sandbox.pmds().items()))
    wait(lambda: len(prometheus.query('ovs_keepalive_pmd_state{state="DEAD"} == 0')) == 2, "both PMDs are scraped", 20)
    assert prometheus.alerts("OvsPmdDead") == []
    with stopped(tid):
        [alert] = wait(lambda: prometheus.alerts("OvsPmdDead", pmd=name), "the alert fires", 10)
        assert "Cause: traced." in alert["annotations"]["description"]
        assert alert["labels"]["severity"] == "critical"
        for query in dashboard_queries(target):
            if not ELSEWHERE.search(query):
                prometheus.finds(query)
        for rule in rules():
            # An alert has data while it fires only; what it asks for is always there.
            asked = [rule["record"]] if "record" in rule else re.findall(rf"{FAMILY}|\bup\b", rule["expr"])
            for family in asked:
                if not ELSEWHERE.search(family):
                    prometheus.finds(family)
    wait(lambda: not prometheus.alerts("OvsPmdDead"), "the alert is over", 10)
    [missed] = prometheus.query(f'ovs_keepalive_pmd_missed_heartbeats_total{{pmd="{name}"}}')
    assert float(missed["value"][1]) >= 1


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(150)
def test_a_long_break_fires_its_alert_and_is_on_the_dashboard(
    sandbox: Sandbox, prometheus: Prometheus, target: str
) -> None:
    prometheus.finds("ovs_keepalive_vswitchd_breaks_total == 0")
    with Traffic(sandbox):
        time.sleep(2.0)  # two looks that count packets, at least
        sandbox.kill_vswitchd()
        time.sleep(6.0)
        sandbox.start_vswitchd()
        [alert] = wait(lambda: prometheus.alerts("OvsVswitchdBreakLong"), "the alert fires", 20)
    assert "left packets unsent for " in alert["annotations"]["summary"]
    for query in dashboard_queries(target):
        if BREAK in query:
            prometheus.finds(query)


@pytest.mark.slow
@pytest.mark.real
def test_a_daemon_that_stops_and_comes_back_is_seen_to(sandbox: Sandbox, prometheus: Prometheus, target: str) -> None:
    prometheus.finds("up == 1")
    sandbox.stop_daemon()
    prometheus.finds("up == 0")
    sandbox.start_daemon(config={"web-listen": target})
    prometheus.finds("up == 1 and on (instance) ovs_keepalive_enabled == 1")
