"""Alerts and dashboard: whether Prometheus understands them, and whether the alerts ring when they should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from report import Report

# Metrics of ours, as they stand in a query.
OURS = re.compile(r"\b((?:http_server|rpc_server|messaging|outbox|dead)_[a-z_]+?)(?:_bucket|_count|_sum)?\b(?=[{\[])")


def check_names(root: Path, queries: list[str], report: Report) -> None:
    """Every metric must be one that the product describes."""
    source = root / "platform/src/metrics.rs"
    if not source.exists():
        report.unchecked.append("names of metrics: there is no platform/src/metrics.rs")
        return
    described = set(re.findall(r'describe_\w+!\(\s*"(\w+)"', source.read_text()))
    used = {name for query in queries for name in OURS.findall(query)}
    report.require(used, "dashboard.json", "asks for no metric of ours")
    for name in sorted(used - described):
        report.problem("deploy/kubernetes/components/monitoring", f"asks for {name}, which nothing records")


def check(root: Path, work: Path, promtool: str | None, report: Report) -> None:
    folder = root / "deploy/kubernetes/components/monitoring"
    rules = yaml.safe_load((folder / "rules.yaml").read_text())["spec"]
    dashboard = json.loads((folder / "dashboard.json").read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    rows = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    check_names(root, queries + rows, report)
    ids = [panel["id"] for panel in dashboard["panels"]]
    report.require(len(ids) == len(set(ids)), "dashboard.json", "has two panels with the same id")
    if promtool is None:
        report.unchecked.append("alerts and dashboard: promtool is missing")
        return
    work = work / "alerts"
    work.mkdir(parents=True, exist_ok=True)
    (work / "rules.yaml").write_text(yaml.safe_dump(rules))
    # Each query of the dashboard, dressed up as a rule.
    plain = [query.replace("$__rate_interval", "5m").replace("$namespace", "coffer") for query in queries]
    panels = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(plain)]
    for query in plain:
        left = re.search(r"\$\w+", query)
        report.require(left is None, "dashboard.json", f"uses an unknown variable: {query}")
    (work / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    tests = yaml.safe_load((folder / "rules.test.yaml").read_text())
    # Annotations are for people; a test would have to repeat them word for word.
    bare = [
        group | {"rules": [{k: v for k, v in rule.items() if k != "annotations"} for rule in group["rules"]]}
        for group in rules["groups"]
    ]
    (work / "bare.yaml").write_text(yaml.safe_dump({"groups": bare}))
    (work / "test.yaml").write_text(yaml.safe_dump(tests | {"rule_files": ["bare.yaml"]}, sort_keys=False))
    for arguments, place in (
        (["check", "rules", "rules.yaml"], "rules.yaml"),
        (["check", "rules", "panels.yaml"], "dashboard.json"),
        (["test", "rules", "test.yaml"], "rules.test.yaml"),
    ):
        done = subprocess.run([promtool, *arguments], cwd=work, capture_output=True, text=True)
        report.require(done.returncode == 0, place, (done.stdout + done.stderr).strip()[:3000])
    tried = {rule["alertname"] for test in tests["tests"] for rule in test["alert_rule_test"]}
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    report.require(alerts == tried, "rules.test.yaml", f"tries {sorted(tried)}, but there are {sorted(alerts)}")
    report.checked.append(f"{len(alerts)} alerts and {len(queries)} queries of the dashboard by promtool")
