"""What lies in deploy/ is sound; and each check finds the mistake that is put into a copy of it."""

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import chart
import compose
import images
import monitoring
import pytest
from places import ROOT, run


def lint(root: Path) -> list[str]:
    files = [path for path in (root / "deploy").rglob("*.yaml") if "secrets" not in path.parts and "templates" not in path.parts]
    assert len(files) > 10, files
    return run("yamllint", "--strict", "--config-file", root / "deploy/check/tools/yamllint.yaml", root / "asyncapi.yaml", *files)


CHECKS: dict[str, Callable[[Path], Iterable[str]]] = {
    "yaml": lint,
    "images": images.faults,
    "compose": compose.faults,
    "quick start": compose.development_faults,
    "chart": chart.faults,
    "monitoring": monitoring.faults,
}

# Which check, in which file, what becomes what, and what the check says then.
MISTAKES = [
    ("yaml", "deploy/compose.yaml", "name: ehr-chat", "name: ehr-chat\nname: again", "duplication of key"),
    ("images", "deploy/Dockerfile", "USER 65532:65532", "USER root", "DL3002"),
    ("images", "deploy/Dockerfile", "USER 65532:65532", "USER nonroot", "runs as root"),
    ("images", "deploy/Dockerfile", "--locked ", "", "--locked"),
    ("images", "deploy/Dockerfile", "rust:1.95.0-bookworm", "rust:latest", "DL3007"),
    ("images", "deploy/Dockerfile", "rust:1.95.0-bookworm", "rust:1.95-bookworm", "has no exact version"),
    ("images", "deploy/Dockerfile", "FROM rust", "# syntax=docker/dockerfile:1\nFROM rust", "docker/dockerfile:1 has no exact version"),
    ("compose", "deploy/compose.yaml", "redis:7.4.11-alpine", "redis:7.4-alpine", "redis:7.4-alpine has no exact version"),
    ("compose", "deploy/compose.yaml", "postgres:17.10-bookworm", "postgres:17-bookworm", "has no exact version"),
    ("compose", "deploy/compose.yaml", "v3.14.0", "latest", "has no exact version"),
    ("quick start", "deploy/compose.dev.yaml", "ports: !override", "ports:", "is open to the network at 0.0.0.0"),
    ("quick start", "deploy/compose.dev.yaml", "secrets: !reset {}", "", "needs secrets"),
    ("quick start", "deploy/compose.dev.yaml", "env_file: !reset []", "", "needs a file with secrets"),
    ("quick start", "deploy/compose.dev.yaml", ", POSTGRES_PASSWORD_FILE: !reset null", "", "reads POSTGRES_PASSWORD_FILE from a secret"),
    ("quick start", "deploy/compose.dev.yaml", "MODE: development", "MODE: production", "is not in development mode"),
    ("quick start", "deploy/compose.dev.yaml", "JWT_SECRET: development-of", "JWT_SECRET: made-of", "production would take"),
    ("quick start", "deploy/compose.dev.yaml", "POSTGRES_PASSWORD: development", "POSTGRES_PASSWORD: other", "has not the password of postgres"),
    ("images", "deploy/Dockerfile", "HEALTHCHECK", "# HEALTHCHECK", "api-service has no"),
    ("images", ".dockerignore", "docs\n", "docs\nmigrations\n", "leaves out migrations"),
    ("images", ".dockerignore", "docs\n", "**/console\n", "leaves out clients/console/"),
    ("compose", "deploy/compose.yaml", "cap_drop: [ALL]", "cap_dorp: [ALL]", "cap_dorp"),
    ("compose", "deploy/compose.yaml", "    networks: &gateway-networks\n", "    networks: &gateway-networks\n      database:\n", "gateway-1: reaches postgres"),
    ("compose", "deploy/compose.yaml", '      DRAIN_SECONDS: "10"', '      DRAIN_SECS: "10"', "ws-gateway knows no DRAIN_SECS"),
    ("compose", "deploy/compose.yaml", "[secrets/ws-gateway.env]", "[secrets/migrate.env]", "ws-gateway needs REDIS_URL"),
    ("compose", "deploy/compose.yaml", "[secrets/ws-gateway.env]", "[secrets/api-service.env]", "ws-gateway knows no DATABASE_URL"),
    ("compose", "deploy/compose.yaml", "DATABASE_SERVICE_ROLE", "SERVICE_ROLES", "knows no SERVICE_ROLES"),
    ("compose", "deploy/compose.yaml", "PLAINTEXT_LINKS: private-network", 'PLAINTEXT_LINKS: ""', "api-1: does not start"),
    ("compose", "deploy/compose.yaml", "chat_service, <<: *links", "chat_service", "migrate: does not start"),
    ("images", "deploy/Dockerfile", 'EHR_CHAT_COMMIT="$REVISION" ', "", "does not name the commit"),
    ("compose", "deploy/make-secrets", "\nRELAY_KEYS=", "\nRELAY_KEY=", "ws-gateway knows no RELAY_KEY"),
    ("compose", "deploy/make-secrets", "redis://gateway:", "redis://api:", "services share a user"),
    ("compose", "deploy/redis-users.acl", "user default off", "user default on", "any client gets in"),
    ("compose", "deploy/redis-users.acl", "#SHA256_OF_GATEWAY_PASSWORD", "#SHA256_OF_GATEWAY_PASS", "gateway has not the password of ws-gateway"),
    ("compose", "deploy/compose.yaml", "stop_grace_period: 35s", "stop_grace_period: 30s", "gateway-1: is killed"),
    ("compose", "deploy/compose.yaml", "{ ipv4_address: 172.30.10.2 }", "{ ipv4_address: 172.30.10.3 }", "does not believe HAProxy"),
    ("compose", "deploy/compose.yaml", "./postgres-roles.sh", "./roles.sh", "which is not there"),
    ("compose", "deploy/haproxy.cfg", "gateway-2:8082", "gateway-3:8082", "haproxy.cfg asks"),
    ("compose", "deploy/make-secrets", "random | keep grafana_password", ":", "make-secrets makes no"),
    ("chart", "deploy/chart/templates/deployments.yaml", "revisionHistoryLimit", "revisionHistroyLimit", "revisionHistroyLimit"),
    ("chart", "deploy/chart/templates/deployments.yaml", "containerPort: {{ $service.port }}", 'containerPort: "8081"', "is not of type"),
    ("chart", "deploy/chart/templates/deployments.yaml", "{{- range $key, $service", "{{- rnage $key, $service", 'function "rnage" not defined'),
    ("chart", "deploy/chart/templates/deployments.yaml", "revisionHistoryLimit: 5", "revisionHistoryLimit: 5\n  revisionHistoryLimit: 6", "duplication of key"),
    ("chart", "deploy/chart/templates/_helpers.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    ("chart", "deploy/chart/templates/_helpers.tpl", "runAsUser: {{", "runAsUsr: {{", "runAsUsr"),
    ("chart", "deploy/chart/templates/_helpers.tpl", "drop: [ALL]", "drop: [KILL]", "capabilities"),
    ("chart", "deploy/chart/values.yaml", "limits: { memory: 1Gi }", "limits: {}", "a memory limit"),
    ("chart", "deploy/chart/examples/ingress.yaml", "host: chat", "hots: chat", "hots"),
    ("chart", "deploy/chart/values.yaml", "MAX_SOCKETS: 20000", "MOST_SOCKETS: 20000", "ws-gateway knows no MOST_SOCKETS"),
    ("chart", "deploy/chart/templates/deployments.yaml", "SHUTDOWN_TIMEOUT_SECONDS 5 }}", "SHUTDOWN_TIMEOUT_SECONDS 0 }}", "is killed"),
    ("chart", "deploy/chart/templates/deployments.yaml", '"0.0.0.0:%v" $service.adminPort', '"0.0.0.0:%v" $service.port', "ADMIN_ADDR is not the port admin"),
    ("chart", "deploy/chart/templates/deployments.yaml", "{ path: /readyz, port: admin }", "{ path: /, port: admin }", "readinessProbe does not ask"),
    ("chart", "deploy/chart/templates/deployments.yaml", "mountPath: /etc/ehr-chat/ca", "mountPath: /etc/ca", "DATABASE_CA_FILE is in no ConfigMap"),
    ("chart", "deploy/chart/examples/managed.yaml", "[10.42.7.0/24]", "[10.32.0.0/13]", "believes the client addresses that 10.32.0.0/13"),
    ("chart", "deploy/chart/templates/ingress.yaml", '"path" "/ws"', '"path" "/socket"', "is not the split"),
    ("chart", "deploy/chart/templates/http-routes.yaml", "value: /ws", "value: /socket", "is not the split"),
    ("chart", "deploy/chart/templates/http-routes.yaml", "request: 0s,", "request: 60s,", "end sockets"),
    ("chart", "deploy/chart/templates/http-routes.yaml", "request: 0s,", "request: never,", "must match pattern"),
    ("chart", "deploy/chart/templates/http-routes.yaml", "      timeouts: { request: 12s }", "      timeouts: { request: 12s }\n      retry: { attempts: 1 }", "is asked twice"),
    ("chart", "deploy/chart/templates/http-routes.yaml", "attempts: 0", "attempts: 1", "retries are not forbidden"),
    ("chart", "deploy/chart/templates/availability.yaml", "name: ehr_chat_gateway_sockets", "name: sockets", "does not know the sockets"),
    ("chart", "deploy/chart/templates/availability.yaml", '{{- include "ehr-chat.selector" (list $root $service.name)', '{{- include "ehr-chat.selector" (list $root "gateway")', "selects other pods"),
    ("chart", "deploy/chart/values.yaml", "  enabled: false\n  apiService: { minReplicas", "  enabled: true\n  apiService: { minReplicas", "is there without being asked for"),
    ("chart", "deploy/chart/values.yaml", "prometheusRule: { enabled: false", "prometheusRule: { enabled: true", "is there without being asked for"),
    ("chart", "deploy/chart/templates/network-policies.yaml", "  policyTypes: [Ingress, Egress]\n---\n{{- range", "  policyTypes: [Ingress, Egress]\n  egress: [{}]\n---\n{{- range", "not everything is denied"),
    ("chart", "deploy/chart/templates/network-policies.yaml", 'eq $key "apiService"', 'ne $key ""', "NetworkPolicy ws-gateway: reaches"),
    ("chart", "deploy/chart/examples/ingress.yaml", "kubernetes.io/metadata.name: traefik", "kubernetes.io/metadata.name: monitoring", "open to the wrong pods"),
    ("chart", "deploy/chart/values.yaml", "ports: [53, 5353]", "ports: [53]", "not every kind of cluster can look names up"),
    ("chart", "deploy/chart/values.yaml", "addresses: [169.254.20.10/32]", "addresses: []", "not every kind of cluster can look names up"),
    ("chart", "deploy/chart/templates/migrate.yaml", "helm.sh/hook: pre-install,pre-upgrade", "helm.sh/hook: pre-install", "no hook before each installation and upgrade"),
    ("chart", "deploy/chart/templates/migrate.yaml", "before-hook-creation", "hook-failed", "the second upgrade finds it there"),
    ("chart", "deploy/chart/templates/migrate.yaml", 'helm.sh/hook-weight: "-10"', 'helm.sh/hook-weight: "10"', "comes behind the Job"),
    ("chart", "deploy/chart/templates/migrate.yaml", "name: {{ $ca.configMap }}", "name: {{ .Release.Name }}-api-service", "needs what the release brings later"),
    ("chart", "deploy/chart/templates/monitoring.yaml", '(printf "namespace=%q" .Release.Namespace)', '"namespace=\\"ehr-chat\\""', "PrometheusRule: does not select by the namespace"),
    ("chart", "deploy/chart/templates/migrate.yaml", "name: PLAINTEXT_LINKS", "name: PLAINTEXT_LINK", "Job chat-migrate: its links have neither TLS"),
    ("chart", "deploy/chart/examples/ingress.yaml", "plaintextLinks: private-network", 'plaintextLinks: ""', "its links have neither TLS"),
    ("chart", "deploy/chart/templates/monitoring.yaml", "ehr-chat/port: admin", "ehr-chat/port: http", "ServiceMonitor: reads"),
    ("chart", "deploy/chart/templates/monitoring.yaml", "jobLabel: app.kubernetes.io/name", "jobLabel: app.kubernetes.io/instance", "have not the names of the alerts"),
    ("chart", "deploy/chart/templates/monitoring.yaml", "$rules | fromYaml | toYaml", '$rules | fromYaml | toYaml | replace "10" "8"', "is not deploy/monitoring/alerts.yaml"),
    ("chart", "deploy/chart/templates/_helpers.tpl", ':{{ index . 2 | default $root', ':{{ $root', "the first step of an upgrade replaces"),
    ("monitoring", "deploy/monitoring/prometheus.yaml", "scrape_interval", "scrap_interval", "scrap_interval"),
    ("monitoring", "deploy/monitoring/prometheus.yaml", "gateway-2:9082", "api-2:9082", "is no ws-gateway"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "outbox_age_seconds{namespace=\"ehr-chat\",job=\"api-service\"}) > 10", "outbox_age_seconds > 10", "unclosed left parenthesis"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "job=\"api-service\"}) > 10", "job=\"api-service\"}) > 8", "OutboxBacklog"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "job=\"ws-gateway\"} == 0", "job=\"ws-gateway\"} == 1", "GatewayWithoutRedis"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "ehr_chat_outbox_age_seconds", "ehr_chat_outbox_age", "no service has ehr_chat_outbox_age"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "severity: ticket", "severity: shrug", "no severity"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "#slowsends", "#slow-sends", "SlowSends: docs/operate/runbook.md has no anchor #slow-sends"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "#slowsends", "#slowclients", "SlowSends: the link leads to another section"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "https://example.org/ehr-chat/docs", "https://example.com/docs", "a runbook that is not at"),
    ("monitoring", "deploy/monitoring/alerts.yaml", 'up{namespace="ehr-chat",job=~', "up{job=~", "InstanceDown: up is not selected by namespace and job"),
    ("monitoring", "deploy/monitoring/alerts.yaml", "severity: page, namespace: ehr-chat", "severity: page", "no namespace"),
    ("monitoring", "deploy/monitoring/alerts.test.yaml", 'namespace="billing",job="api-service",instance="b"}\', values: 0x80', 'namespace="ehr-chat",job="api-service",instance="b"}\', values: 0x80', "a second application"),
    ("monitoring", "deploy/monitoring/render-alerts", "s,namespace=", "s,namspace=", "render-alerts: leaves"),
    ("monitoring", "deploy/monitoring/prometheus.yaml", "namespace: ehr-chat", "namespace: chat", "the alerts do not select"),
    ("monitoring", "docs/operate/runbook.md", "# Resyncs\n", "# Resync\n", "Resyncs: docs/operate/runbook.md has not one heading"),
    ("monitoring", "docs/operate/runbook.md", "# Resyncs\n", "# Resync\n", "no alert is named Resync"),
    ("monitoring", "docs/operate/runbook.md", "## SlowSends\n\nSeverity: ticket", "## SlowSends\n\nSeverity: page", "SlowSends: docs/operate/runbook.md has not one heading"),
    ("monitoring", "docs/operate/runbook.md", "[SlowClients](#slowclients)", "SlowClients", "the index of docs/operate/runbook.md lacks it"),
    ("monitoring", "docs/operate/metrics.md", "`ehr_chat_gateway_sockets`", "`sockets`", "does not know ehr_chat_gateway_sockets"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", "ehr_chat_gateway_frames_sent_total", "ehr_chat_frames_total", "no service has ehr_chat_frames_total"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"id": 3,', '"id": 2,', "an id twice"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"x": 4,', '"x": 3,', "lies over another panel"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"uid": "${datasource}"', '"uid": "influx"', "does not ask the source that is chosen"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", 'namespace=~\\"$namespace\\",', "", "by namespace, job and instance"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", '"name": "instance"', '"name": "pod"', "its variables are not"),
    ("monitoring", "deploy/monitoring/grafana/dashboards/ehr-chat.json", 'instance=~\\"$instance\\"})"', 'instance=~\\"$instance\\"}"', "unclosed left parenthesis"),
]


def test_secrets_that_exist_stay_and_are_named(tmp_path: Path) -> None:
    def make() -> str:
        return subprocess.run([ROOT / "deploy/make-secrets", tmp_path], capture_output=True, text=True, check=True).stdout

    assert make() == ""
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "relay_keys").unlink()
    said = make().splitlines()
    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"relay_keys"}
    assert sorted(said[:-1]) == sorted(f"kept {name}, which exists" for name in before if name != "relay_keys")
    assert said[-1].startswith("to replace a value, remove its file")


@pytest.mark.parametrize("check", CHECKS)
def test_is_sound(check: str) -> None:
    assert list(CHECKS[check](ROOT)) == []


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
    found: list[str] = []
    for fault in CHECKS[check](tmp_path):
        found.append(fault)
        if said in fault:
            return
    raise AssertionError(found)
