"""What lies in deploy/ is sound; and each check finds the mistake that is put into a copy of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import compose
import images
import kubernetes
import monitoring
import pytest
from places import run

ROOT = Path(__file__).resolve().parents[2]


def lint(root: Path) -> list[str]:
    files = [path for path in (root / "deploy").rglob("*.yaml") if "secrets" not in path.parts]
    assert len(files) > 15, files
    return run("yamllint", "--strict", "--config-file", root / "deploy/check/yamllint.yaml", root / "asyncapi.yaml", *files)


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "yaml": lint,
    "images": images.faults,
    "compose": compose.faults,
    "kubernetes": kubernetes.faults,
    "monitoring": monitoring.faults,
}

# Which check, in which file, what becomes what, and what the check says then.
MISTAKES = [
    ("yaml", "deploy/compose.yaml", "name: ehr-chat", "name: ehr-chat\nname: again", "duplication of key"),
    ("images", "deploy/Dockerfile", "USER 65532:65532", "USER root", "DL3002"),
    ("images", "deploy/Dockerfile", "USER 65532:65532", "USER nonroot", "runs as root"),
    ("images", "deploy/Dockerfile", "--locked ", "", "--locked"),
    ("images", "deploy/Dockerfile", "rust:1.95-bookworm", "rust:latest", "DL3007"),
    ("images", "deploy/Dockerfile", "HEALTHCHECK", "# HEALTHCHECK", "api-service has no"),
    ("images", ".dockerignore", "docs\n", "docs\nmigrations\n", "leaves out migrations"),
    ("images", ".dockerignore", "docs\n", "**/console\n", "leaves out clients/console/"),
    ("compose", "deploy/compose.yaml", "cap_drop: [ALL]", "cap_dorp: [ALL]", "cap_dorp"),
    ("compose", "deploy/compose.yaml", "    networks: &gateway-networks\n", "    networks: &gateway-networks\n      database:\n", "gateway-1: reaches postgres"),
    ("compose", "deploy/compose.yaml", '      DRAIN_SECONDS: "10"', '      DRAIN_SECS: "10"', "ws-gateway knows no DRAIN_SECS"),
    ("compose", "deploy/compose.yaml", "[secrets/ws-gateway.env]", "[secrets/migrate.env]", "ws-gateway needs REDIS_URL"),
    ("compose", "deploy/compose.yaml", "[secrets/ws-gateway.env]", "[secrets/api-service.env]", "ws-gateway knows no DATABASE_URL"),
    ("compose", "deploy/compose.yaml", "DATABASE_SERVICE_ROLE", "SERVICE_ROLES", "knows no SERVICE_ROLES"),
    ("compose", "deploy/make-secrets", "\nRELAY_KEYS=", "\nRELAY_KEY=", "ws-gateway knows no RELAY_KEY"),
    ("compose", "deploy/make-secrets", "redis://gateway:", "redis://api:", "services share a user"),
    ("compose", "deploy/redis-users.acl", "user default off", "user default on", "any client gets in"),
    ("compose", "deploy/redis-users.acl", "#SHA256_OF_GATEWAY_PASSWORD", "#SHA256_OF_GATEWAY_PASS", "gateway has not the password of ws-gateway"),
    ("compose", "deploy/compose.yaml", "stop_grace_period: 35s", "stop_grace_period: 30s", "gateway-1: is killed"),
    ("compose", "deploy/compose.yaml", "{ ipv4_address: 172.30.10.2 }", "{ ipv4_address: 172.30.10.3 }", "does not believe HAProxy"),
    ("compose", "deploy/compose.yaml", "./postgres-roles.sh", "./roles.sh", "which is not there"),
    ("compose", "deploy/haproxy.cfg", "gateway-2:8082", "gateway-3:8082", "haproxy.cfg asks"),
    ("compose", "deploy/make-secrets", "random | keep grafana_password", ":", "make-secrets makes no"),
    ("kubernetes", "deploy/kubernetes/base/api-service.yaml", "revisionHistoryLimit", "revisionHistroyLimit", "revisionHistroyLimit"),
    ("kubernetes", "deploy/kubernetes/base/api-service.yaml", "containerPort: 8081", 'containerPort: "8081"', "is not of type"),
    ("kubernetes", "deploy/kubernetes/base/kustomization.yaml", "ingress.yaml", "ingres.yaml", "ingres.yaml"),
    ("kubernetes", "deploy/kubernetes/base/ws-gateway.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    ("kubernetes", "deploy/kubernetes/base/ws-gateway.yaml", "drop: [ALL]", "drop: [KILL]", "capabilities"),
    ("kubernetes", "deploy/kubernetes/base/ws-gateway.yaml", "limits: { memory: 1Gi }", "limits: {}", "a memory limit"),
    ("kubernetes", "deploy/kubernetes/overlays/example/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "an image with a version"),
    ("kubernetes", "deploy/kubernetes/base/ws-gateway.settings", "SHUTDOWN_TIMEOUT_SECONDS=45", "SHUTDOWN_TIMEOUT_SECONDS=50", "is killed"),
    ("kubernetes", "deploy/kubernetes/base/ws-gateway.settings", "MAX_SOCKETS", "MOST_SOCKETS", "ws-gateway knows no MOST_SOCKETS"),
    ("kubernetes", "deploy/kubernetes/base/api-service.settings", "0.0.0.0:9081", "0.0.0.0:9080", "ADMIN_ADDR is not the port admin"),
    ("kubernetes", "deploy/kubernetes/base/api-service.yaml", "{ path: /readyz, port: admin }", "{ path: /, port: admin }", "readinessProbe does not ask"),
    ("kubernetes", "deploy/kubernetes/base/ingress.yaml", "path: /ws", "path: /socket", "is not the split"),
    ("kubernetes", "deploy/kubernetes/base/ingress.yaml", '"3600"', '"60"', "ends sockets that are silent"),
    ("kubernetes", "deploy/kubernetes/base/autoscaling.yaml", "ehr_chat_gateway_sockets }", "sockets }", "does not know the sockets"),
    ("kubernetes", "deploy/kubernetes/base/disruption.yaml", "app.kubernetes.io/name: ws-gateway } }", "app.kubernetes.io/name: gateway } }", "selects other pods"),
    ("kubernetes", "deploy/kubernetes/base/network-policies.yaml", "metadata: { name: default-deny }\nspec:\n", "metadata: { name: default-deny }\nspec:\n  egress: [{}]\n", "not everything is denied"),
    ("kubernetes", "deploy/kubernetes/base/network-policies.yaml", "      ports: [{ protocol: TCP, port: 6379 }]\n---", "      ports: [{ protocol: TCP, port: 6379 }, { protocol: TCP, port: 5432 }]\n---", "NetworkPolicy ws-gateway: reaches more"),
    ("kubernetes", "deploy/kubernetes/base/network-policies.yaml", "kubernetes.io/metadata.name: monitoring", "kubernetes.io/metadata.name: ingress-nginx", "is open to"),
    ("monitoring", "deploy/monitoring/prometheus.yaml", "scrape_interval", "scrap_interval", "scrap_interval"),
    ("monitoring", "deploy/monitoring/prometheus.yaml", "gateway-2:9082", "api-2:9082", "is no ws-gateway"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "max(ehr_chat_outbox_age_seconds) > 10", "max(ehr_chat_outbox_age_seconds > 10", "unclosed left parenthesis"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "max(ehr_chat_outbox_age_seconds) > 10", "max(ehr_chat_outbox_age_seconds) > 8", "OutboxBacklog"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "ehr_chat_gateway_redis_up == 0", "ehr_chat_gateway_redis_up == 1", "GatewayWithoutRedis"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "ehr_chat_outbox_age_seconds", "outbox_age", "no service has outbox_age"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "severity: ticket", "severity: shrug", "no severity"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "#slowsends", "#slow-sends", "SlowSends: no summary, or no runbook"),
    ("monitoring", "docs/operate/runbook.md", "# Resyncs\n", "# Resync\n", "Resyncs: docs/operate/runbook.md has not one heading"),
    ("monitoring", "docs/operate/runbook.md", "# Resyncs\n", "# Resync\n", "no alert is named Resync"),
    ("monitoring", "docs/operate/runbook.md", "## SlowSends\n\nSeverity: ticket", "## SlowSends\n\nSeverity: page", "SlowSends: docs/operate/runbook.md has not one heading"),
    ("monitoring", "docs/operate/runbook.md", "[SlowClients](#slowclients)", "SlowClients", "the index of docs/operate/runbook.md lacks it"),
    ("monitoring", "docs/operate/metrics.md", "`ehr_chat_gateway_sockets`", "`sockets`", "does not know ehr_chat_gateway_sockets"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", "ehr_chat_gateway_frames_sent_total", "gateway_frames_total", "no service has gateway_frames_total"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"id": 3,', '"id": 2,', "an id twice"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"x": 4,', '"x": 3,', "lies over another panel"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"uid": "prometheus"', '"uid": "influx"', "not provisioned"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", "sum(ehr_chat_gateway_sockets)", "sum(ehr_chat_gateway_sockets", "unclosed left parenthesis"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_is_sound(check: str) -> None:
    assert CHECKS[check](ROOT) == []


@pytest.mark.parametrize(("check", "path", "right", "wrong", "said"), MISTAKES)
def test_finds(check: str, path: str, right: str, wrong: str, said: str, tmp_path: Path) -> None:
    for part in ("deploy", "docs", "asyncapi.yaml", ".dockerignore", "api-service/src", "ws-gateway/src", "shared/src"):
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
        else:
            shutil.copy(source, target)
    file = tmp_path / path
    text = file.read_text()
    assert right in text, f"the mistake cannot be made: {path} has no {right!r}"
    file.write_text(text.replace(right, wrong))
    found = CHECKS[check](tmp_path)
    assert any(said in fault for fault in found), found
