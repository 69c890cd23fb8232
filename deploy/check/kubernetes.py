"""The rendered overlay: every object's schema, real settings, restricted pods, and who reaches whom."""

import base64
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
from places import KUBECTL, SERVICES, documents, seconds_to_end, setting_faults

VERSION = "1.32"
# Kinds of the Prometheus operator: Kubernetes itself has no schema of them.
FOREIGN = {"ServiceMonitor"}
ADMIN = {"api-service": 9081, "ws-gateway": 9082}


def render(root: Path) -> list[dict[str, Any]]:
    overlay = root / "deploy/kubernetes/overlays/example"
    with tempfile.TemporaryDirectory() as copy:
        kubernetes = Path(copy, "kubernetes")
        shutil.copytree(root / "deploy/kubernetes", kubernetes, ignore=shutil.ignore_patterns("secrets"))
        place = kubernetes / overlay.relative_to(root / "deploy/kubernetes")
        subprocess.run([root / "deploy/make-secrets", place / "secrets"], check=True)
        done = subprocess.run([KUBECTL, "kustomize", place], capture_output=True, text=True, env={**os.environ, "KUBECONFIG": "/dev/null"}, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return documents(done.stdout)


def faults(root: Path) -> list[str]:
    try:
        objects = render(root)
    except ValueError as error:
        return [str(error)]
    found = []
    for one in objects:
        found += schema_faults(one)
    if found:
        return found
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            found += pod_faults(one)
    for service in SERVICES:
        found += service_faults(service, by_name)
    return found + ingress_faults(by_name) + policy_faults(objects)


def schema_faults(one: dict[str, Any]) -> list[str]:
    if one["kind"] in FOREIGN:
        return []
    try:
        kubernetes_validate.validate(one, VERSION, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [f"{one['kind']} {one['metadata']['name']}: {error}"]
    return []


def pod_faults(one: dict[str, Any]) -> list[str]:
    pod, name, found = one["spec"]["template"]["spec"], one["metadata"]["name"], []
    container = pod["containers"][0]
    must = {
        "runAsNonRoot": pod.get("securityContext", {}).get("runAsNonRoot") is True,
        "seccompProfile": pod.get("securityContext", {}).get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "allowPrivilegeEscalation": container.get("securityContext", {}).get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem": container.get("securityContext", {}).get("readOnlyRootFilesystem") is True,
        "capabilities": container.get("securityContext", {}).get("capabilities", {}).get("drop") == ["ALL"],
        "automountServiceAccountToken": pod.get("automountServiceAccountToken") is False,
        "a memory limit": "memory" in container.get("resources", {}).get("limits", {}),
        "a CPU request": "cpu" in container.get("resources", {}).get("requests", {}),
        "an image with a version": container["image"].rpartition("/")[2].partition(":")[2] not in ("", "latest"),
    }
    return found + [f"{one['kind']} {name}: {what} is not as it must be" for what, holds in must.items() if not holds]


def given(container: dict[str, Any], by_name: dict[tuple[str, str], Any]) -> dict[str, str]:
    """The environment of a container."""
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= by_name["ConfigMap", source["configMapRef"]["name"]]["data"]
        else:
            data = by_name["Secret", source["secretRef"]["name"]]["data"]
            found |= {name: base64.b64decode(value).decode() for name, value in data.items()}
    return found


def service_faults(service: str, by_name: dict[tuple[str, str], Any]) -> list[str]:
    deployment = by_name["Deployment", service]
    pod, found = deployment["spec"]["template"]["spec"], []
    container = pod["containers"][0]
    environment = given(container, by_name)
    found += setting_faults(f"Deployment {service}", service, environment)
    if pod["terminationGracePeriodSeconds"] <= seconds_to_end(service, environment):
        found.append(f"Deployment {service}: is killed before it has ended by itself")
    for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        asks = container.get(probe, {}).get("httpGet", {})
        if (asks.get("path"), asks.get("port")) != (path, "admin"):
            found.append(f"Deployment {service}: {probe} does not ask {path} of the admin port")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name, setting in (("http", "LISTEN_ADDR"), ("admin", "ADMIN_ADDR")):
        if environment[setting] != f"0.0.0.0:{ports[name]}":
            found.append(f"Deployment {service}: {setting} is not the port {name}")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for kind in ("Service", "PodDisruptionBudget"):
        selector = by_name[kind, service]["spec"]["selector"]
        if not (selector.get("matchLabels") or selector).items() <= labels:
            found.append(f"{kind} {service}: selects other pods")
    scaler = by_name["HorizontalPodAutoscaler", service]["spec"]
    if scaler["scaleTargetRef"]["name"] != service or scaler["minReplicas"] < 2 or "replicas" in deployment["spec"]:
        found.append(f"HorizontalPodAutoscaler {service}: does not rule this Deployment, or rules it down to one")
    if service == "ws-gateway" and "ehr_chat_gateway_sockets" not in [m.get("pods", {}).get("metric", {}).get("name") for m in scaler["metrics"]]:
        found.append("HorizontalPodAutoscaler ws-gateway: does not know the sockets")
    return found


def ingress_faults(by_name: dict[tuple[str, str], Any]) -> list[str]:
    routes = {
        (path["path"], path["pathType"]): path["backend"]["service"]["name"]
        for (kind, _), one in by_name.items()
        if kind == "Ingress"
        for rule in one["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    expected = {("/", "Prefix"): "api-service", ("/ws", "Exact"): "ws-gateway"}
    found = [] if routes == expected else [f"Ingress: {routes} is not the split of haproxy.cfg"]
    notes = by_name["Ingress", "ws-gateway"]["metadata"]["annotations"]
    if int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) < 600:
        found.append("Ingress ws-gateway: ends sockets that are silent")
    return found


def policy_faults(objects: list[dict[str, Any]]) -> list[str]:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    found = []
    deny = policies.get("default-deny", {})
    if deny.get("podSelector") != {} or set(deny.get("policyTypes", [])) != {"Ingress", "Egress"} or deny.keys() & {"ingress", "egress"}:
        found.append("NetworkPolicy: not everything is denied that is not allowed")
    reach = {"ws-gateway": [6379], "api-service": [5432, 6379], "migrate": [5432]}
    for name, ports in reach.items():
        rules = policies[name].get("egress", [])
        if any(not rule.get("to") or not rule.get("ports") for rule in rules) or sorted(p["port"] for r in rules for p in r.get("ports", [])) != ports:
            found.append(f"NetworkPolicy {name}: reaches more, or less, than the ports {ports}")
    for name, admin in ADMIN.items():
        for rule in policies[name]["ingress"]:
            spaces = [peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") for peer in rule.get("from", [])]
            is_admin = any(port["port"] == admin for port in rule["ports"])
            if spaces != ["monitoring" if is_admin else "ingress-nginx"] or (is_admin and len(rule["ports"]) > 1):
                found.append(f"NetworkPolicy {name}: port {[p['port'] for p in rule['ports']]} is open to {spaces}")
    return found
