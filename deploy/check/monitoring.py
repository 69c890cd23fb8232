"""Prometheus' configuration and rules by promtool; the dashboard; and that every metric named in them exists."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alerts
import yaml
from places import run

# Words of PromQL that look like names; `up` is Prometheus' own metric.
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "up"}

# What each metric means.
METRICS = "docs/operate/metrics.md"

# Of the library that reads them from the system.
PROCESS_METRICS = {
    f"process_{name}"
    for name in ("cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds", "threads", "virtual_memory_bytes", "virtual_memory_max_bytes")
}
# What each query of the dashboard selects by, and so the variables that it needs, each with the ones that narrow it.
DASHBOARD_SELECTOR = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
VARIABLES = {"namespace": (), "job": ("namespace",), "instance": ("namespace", "job")}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def faults(root: Path) -> Iterator[str]:
    """What costs least comes first: a check of a mistake ends with the fault that it looks for."""
    monitoring = root / "deploy/monitoring"
    broken = run("promtool", "check", "config", "prometheus.yaml", cwd=monitoring)
    if broken:
        yield from broken
        return
    yield from job_faults(root)
    rules = alerts.read_rules(root)
    yield from alerts.rule_faults(root, rules)
    yield from alerts.selector_faults(rules)
    boards = sorted((monitoring / "grafana/dashboards").glob("*.json"))
    queries = [(f"alert {rule['alert']}", rule["expr"]) for rule in rules]
    for board in boards:
        dashboard = json.loads(board.read_text())
        yield from dashboard_faults(dashboard)
        queries += [(f"panel {panel['title']}", t["expr"]) for panel in dashboard["panels"] for t in panel.get("targets", [])]
    if not boards:
        yield "no dashboard"
    yield from query_faults(queries)
    yield from metric_faults(root, queries)
    yield from alerts.promtool_faults(root)


def job_faults(root: Path) -> Iterator[str]:
    """The jobs are services of compose.yaml, and have the labels by which the alerts select."""
    compose = yaml.safe_load((root / "deploy/compose.yaml").read_text())["services"]
    for job in yaml.safe_load((root / "deploy/monitoring/prometheus.yaml").read_text())["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            if f"/{job['job_name']}:" not in compose.get(target.split(":")[0], {}).get("image", ""):
                yield f"prometheus.yaml: {target} is no {job['job_name']} of compose.yaml"
        if job["static_configs"][0].get("labels", {}).get("namespace") != alerts.NAMESPACE:
            yield f"prometheus.yaml: the alerts do not select {job['job_name']}"


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
            if target.get("datasource") != DATASOURCE:
                found.append(f"dashboard: {panel['title']} does not ask the source that is chosen")
            for name, labels in alerts.selectors(target["expr"]):
                if not labels.startswith(DASHBOARD_SELECTOR):
                    found.append(f"dashboard: {panel['title']} does not select {name} by namespace, job and instance")
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    if variables.keys() != {"datasource", *VARIABLES} or variables["datasource"]["query"] != "prometheus":
        found.append("dashboard: its variables are not datasource, namespace, job and instance")
    for name, narrowed_by in VARIABLES.items():
        one = variables.get(name, {})
        labels = ",".join(f'{other}=~"${other}"' for other in narrowed_by)
        expected = f"label_values(ehr_chat_build_info{{{labels}}}, {name})".replace("{}", "")
        # `.*` also finds series without the label.
        if one.get("query", {}).get("query") != expected or one.get("allValue") != ".*" or one.get("datasource") != DATASOURCE:
            found.append(f"dashboard: the variable {name} does not ask {expected}")
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
    # Some metrics are named by a constant.
    found = PROCESS_METRICS | set(re.findall(r'"(\w+_total|ehr_chat_build_info)"', text))
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
