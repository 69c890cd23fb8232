"""Prometheus' configuration and rules by promtool; the dashboard; and that every metric named in them exists."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from places import run

# Words of PromQL that look like names; `up` is Prometheus' own metric.
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "up"}

# What to do about each alert, and what each metric means.
RUNBOOK = "docs/operate/runbook.md"
METRICS = "docs/operate/metrics.md"


def faults(root: Path) -> list[str]:
    monitoring = root / "deploy/monitoring"
    found = run("promtool", "check", "config", "prometheus.yaml", cwd=monitoring)
    found += run("promtool", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", cwd=monitoring)
    if found:
        return found
    found += run("promtool", "test", "rules", "alerts.test.yaml", cwd=monitoring)
    rules = [rule for group in yaml.safe_load((monitoring / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    found += alert_faults(root, rules)
    compose = yaml.safe_load((root / "deploy/compose.yaml").read_text())["services"]
    for job in yaml.safe_load((monitoring / "prometheus.yaml").read_text())["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            if f"/{job['job_name']}:" not in compose.get(target.split(":")[0], {}).get("image", ""):
                found.append(f"prometheus.yaml: {target} is no {job['job_name']} of compose.yaml")
    boards = sorted((monitoring / "grafana/dashboards").glob("*.json"))
    queries = [(f"alert {rule['alert']}", rule["expr"]) for rule in rules]
    for board in boards:
        dashboard = json.loads(board.read_text())
        found += dashboard_faults(dashboard)
        queries += [(f"panel {panel['title']}", t["expr"]) for panel in dashboard["panels"] for t in panel.get("targets", [])]
    return found + query_faults(queries) + metric_faults(root, queries) + ([] if boards else ["no dashboard"])


def alert_faults(root: Path, rules: list[dict[str, Any]]) -> list[str]:
    runbook = (root / RUNBOOK).read_text()
    sections = re.findall(r"^## (\w+)\n\nSeverity: (\w+)\.$", runbook, re.MULTILINE)
    tested = (root / "deploy/monitoring/alerts.test.yaml").read_text()
    found = []
    for rule in rules:
        name, notes = rule["alert"], rule.get("annotations", {})
        if rule.get("labels", {}).get("severity") not in ("page", "ticket"):
            found.append(f"{name}: no severity")
        if not notes.get("summary") or not notes.get("runbook_url", "").endswith(f"/{RUNBOOK}#{name.lower()}"):
            found.append(f"{name}: no summary, or no runbook")
        if [severity for heading, severity in sections if heading == name] != [rule.get("labels", {}).get("severity")]:
            found.append(f"{name}: {RUNBOOK} has not one heading with its severity")
        if f"(#{name.lower()})" not in runbook:
            found.append(f"{name}: the index of {RUNBOOK} lacks it")
        if f"alertname: {name}\n" not in tested:
            found.append(f"{name}: no test in which it fires")
    alerts = {rule["alert"] for rule in rules}
    found += [f"{RUNBOOK}: no alert is named {heading}" for heading in re.findall(r"^## (.+)$", runbook, re.MULTILINE) if heading not in alerts]
    return found


def dashboard_faults(dashboard: dict[str, Any]) -> list[str]:
    panels, found = dashboard["panels"], []
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        found.append("dashboard: an id twice")
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        box = panel["gridPos"]
        own = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        if own & cells or box["x"] + box["w"] > 24:
            found.append(f"dashboard: {panel['title']} lies over another panel, or outside")
        cells |= own
        if panel["type"] != "row" and not panel.get("targets"):
            found.append(f"dashboard: {panel['title']} asks nothing")
        for target in panel.get("targets", []):
            if target.get("datasource", {}).get("uid") != "prometheus":
                found.append(f"dashboard: {panel['title']} asks a source that is not provisioned")
    if not all(key in dashboard for key in ("uid", "title", "schemaVersion", "time")):
        found.append("dashboard: no uid, title, schemaVersion or time")
    return found


def query_faults(queries: list[tuple[str, str]]) -> list[str]:
    """All as recording rules, so that promtool reads them."""
    rules = [{"record": f"q{number}", "expr": expr.replace("$__rate_interval", "5m")} for number, (_, expr) in enumerate(queries)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, file)
        file.flush()
        return run("promtool", "check", "rules", "--lint=none", file.name)


def names(expr: str) -> set[str]:
    """The metrics of a query."""
    text = re.sub(r'"[^"]*"', "", expr)
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", " ", text)
    words = re.findall(r"(?<![\w.])[a-zA-Z_][a-zA-Z0-9_]*(?!\w*\s*\()", text)
    return {word for word in words if word not in WORDS}


def exposed(root: Path) -> set[str]:
    """What the services' sources count, and `/metrics` then calls it."""
    text = "".join(path.read_text() for crate in ("api-service", "ws-gateway", "shared") for path in sorted((root / crate / "src").rglob("*.rs")))
    # A name without these endings is a summary, without buckets.
    with_buckets = tuple(re.findall(r'Suffix\("(\w+)"', text))
    assert with_buckets
    # Some counters are named by a constant.
    found = set(re.findall(r'"(\w+_total)"', text))
    for kind, name in re.findall(r'(?:\b|Meter::new\()(counter|gauge|histogram)(?:!\(|,)\s*"(\w+)"', text, re.IGNORECASE):
        if kind.lower() != "histogram":
            found.add(name)
            continue
        found |= {f"{name}_sum", f"{name}_count"} | ({f"{name}_bucket"} if name.endswith(with_buckets) else set())
    return found


def documented(root: Path) -> set[str]:
    text = (root / METRICS).read_text()
    return set(re.findall(r"`([a-z][a-z0-9_]+)(?:\{[^`]*\})?`", text))


def metric_faults(root: Path, queries: list[tuple[str, str]]) -> list[str]:
    known, listed = exposed(root), documented(root)
    assert len(known) > 30, known
    found = []
    for where, expr in queries:
        asked = names(expr)
        found += [f"{where}: no service has {name}" for name in asked - known]
        bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked & known}
        found += [f"{where}: {METRICS} does not know {name}" for name in bare - listed]
        if not asked and "up{" not in expr:
            found.append(f"{where}: asks for no metric")
    return found
