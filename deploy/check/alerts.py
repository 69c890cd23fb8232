"""The alert rules: their selectors, their runbook links, and that neither a second application nor a second installation changes what fires."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from places import run

RUNBOOK = "docs/operate/runbook.md"
DOCUMENTS = "https://example.org/ehr-chat"
NAMESPACE = "ehr-chat"
# What every selector begins with. Others replace these texts to select other jobs.
SELECTORS = tuple(f'namespace="{NAMESPACE}",{job}' for job in ('job="api-service"', 'job="ws-gateway"', 'job=~"api-service|ws-gateway"'))
RENDER = "deploy/monitoring/render-alerts"


def promtool_faults(root: Path) -> Iterator[str]:
    """What promtool says: of the rules, of their tests, and of both beside other installations."""
    monitoring = root / "deploy/monitoring"
    broken = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", cwd=monitoring)
    broken = broken or run("promtool", "test", "rules", "alerts.test.yaml", cwd=monitoring)
    if broken:
        yield from broken
        return
    yield from neighbour_faults(root)
    yield from render_faults(root)


def read_rules(root: Path) -> list[dict[str, Any]]:
    text = (root / "deploy/monitoring/alerts.yaml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def anchors(document: str) -> set[str]:
    """The anchors of a Markdown document, as GitHub and GitLab make them of headings."""
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rule_faults(root: Path, rules: list[dict[str, Any]]) -> list[str]:
    runbook = (root / RUNBOOK).read_text()
    known = anchors(runbook)
    sections = re.findall(r"^## (\w+)\n\nSeverity: (\w+)\.$", runbook, re.MULTILINE)
    tested = (root / "deploy/monitoring/alerts.test.yaml").read_text()
    found = []
    for rule in rules:
        name, notes, labels = rule["alert"], rule.get("annotations", {}), rule.get("labels", {})
        if labels.get("severity") not in ("page", "ticket"):
            found.append(f"{name}: no severity")
        # Without it the same alerts of two installations would be one.
        if labels.get("namespace") != NAMESPACE:
            found.append(f"{name}: no namespace")
        link, _, anchor = notes.get("runbook_url", "").partition("#")
        if not notes.get("summary") or link != f"{DOCUMENTS}/{RUNBOOK}":
            found.append(f"{name}: no summary, or a runbook that is not at {DOCUMENTS}")
        if anchor not in known:
            found.append(f"{name}: {RUNBOOK} has no anchor #{anchor}")
        if anchor != name.lower():
            found.append(f"{name}: the link leads to another section, #{anchor}")
        if [severity for heading, severity in sections if heading == name] != [labels.get("severity")]:
            found.append(f"{name}: {RUNBOOK} has not one heading with its severity")
        if f"(#{name.lower()})" not in runbook:
            found.append(f"{name}: the index of {RUNBOOK} lacks it")
        if f"alertname: {name}\n" not in tested:
            found.append(f"{name}: no test in which it fires")
    alerts = {rule["alert"] for rule in rules}
    return found + [f"{RUNBOOK}: no alert is named {heading}" for heading in re.findall(r"^## (.+)$", runbook, re.MULTILINE) if heading not in alerts]


def selectors(expr: str) -> list[tuple[str, str]]:
    """The metrics of a query, each with what stands in its braces."""
    return [(name, labels or "") for name, labels in re.findall(r"\b(ehr_chat_\w+|process_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r"\b(by|without) \([^)]*\)", "", expr))]


def selector_faults(rules: list[dict[str, Any]]) -> list[str]:
    return [
        f"{rule['alert']}: {name} is not selected by namespace and job"
        for rule in rules
        for name, labels in selectors(rule["expr"])
        if not any(labels == begin or labels.startswith(f"{begin},") for begin in SELECTORS)
    ]


def neighbour_faults(root: Path) -> list[str]:
    """Other installations fail in every way that the tests know, and this one is well: nothing fires."""
    cases = read_cases(root)
    series = [one for one in cases["tests"][0]["input_series"] if one["series"].startswith("up{")]
    silent = []
    for number, case in enumerate(cases["tests"][1:]):
        series += [{**one, "series": re.sub(r'namespace="([^"]*)"', rf'namespace="\1-{number}"', one["series"])} for one in case["input_series"]]
        silent += [{**test, "exp_alerts": []} for test in case["alert_rule_test"]]
    test = {"name": "neighbours fail", "interval": "15s", "input_series": series, "alert_rule_test": silent}
    return promtool({**cases, "tests": [test]}, (root / "deploy/monitoring/alerts.yaml").read_text())


def render_faults(root: Path) -> list[str]:
    """The rules for other names pass the tests for other names, beside a good installation with the names of the file."""
    names = {"--namespace": "chat-prod", "--api-job": "chat/api", "--gateway-job": "chat/gateway", "--documents": "https://wiki.example/chat"}
    words = [word for pair in names.items() for word in pair]
    rendered = subprocess.run([root / RENDER, *words], capture_output=True, text=True, check=False)
    if rendered.returncode:
        return [f"render-alerts: {rendered.stderr.strip()}"]
    rules = "\n".join(line for line in rendered.stdout.splitlines() if not line.startswith("#"))
    found = [f"render-alerts: leaves {text}" for text in (f'"{NAMESPACE}"', DOCUMENTS, "api-service", "ws-gateway") if text in rules]
    theirs = dict(zip((NAMESPACE, "api-service", "ws-gateway", DOCUMENTS), names.values(), strict=True))
    cases = read_cases(root)
    good = cases["tests"][0]["input_series"]
    renamed = json.loads(re.sub("|".join(map(re.escape, sorted(theirs, key=len, reverse=True))), lambda name: theirs[name[0]], json.dumps(cases)))
    for case in renamed["tests"]:
        case["input_series"] += good
    found += promtool(renamed, rendered.stdout)
    for bad in (["--namespace", 'a"b'], ["--api-job", ""], ["--documents", "wiki"], ["--documents", "https://a b"], ["--job", "x"], ["--namespace"]):
        refused = subprocess.run([root / RENDER, *bad], capture_output=True, text=True, check=False)
        if refused.returncode != 64 or refused.stdout:
            found.append(f"render-alerts: accepts {bad}")
    return found


def read_cases(root: Path) -> dict[str, Any]:
    # As text: `0x44` is a series of Prometheus, and a number of YAML.
    cases: dict[str, Any] = yaml.load((root / "deploy/monitoring/alerts.test.yaml").read_text(), yaml.BaseLoader)
    return cases


def promtool(cases: dict[str, Any], rules: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "alerts.yaml").write_text(rules)
        Path(folder, "alerts.test.yaml").write_text(yaml.safe_dump(cases, width=1000))
        return run("promtool", "test", "rules", "alerts.test.yaml", cwd=Path(folder))
