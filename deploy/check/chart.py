"""The chart with each of its example values: schemas, real settings, restricted pods, who reaches whom, and the migration's hook."""

import ipaddress
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import yaml
from places import HELM, HELM_3, SERVICES, TOOLS, documents, env_file, run, seconds_to_end, setting_faults

VERSION = "1.35"
# It reads the whole schema from its file for each object, unless the last one is kept.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
RELEASE = "chat"
# Kinds of others: Kubernetes itself has no schema of them.
FOREIGN = {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}
PORTS = {"api-service": (8081, 9081), "ws-gateway": (8082, 9082)}
Objects = dict[tuple[str, str], dict[str, Any]]


def template(root: Path, example: str, *options: str, helm: str = HELM) -> str:
    """What Helm renders of an example. ValueError has what Helm says against it."""
    chart = root / "deploy/chart"
    command = [helm, "template", RELEASE, chart, "--namespace", "ehr-chat", "--values", chart / f"examples/{example}.yaml", *options]
    # Helm reads no configuration of the machine.
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return done.stdout


def render(root: Path, example: str, *options: str) -> Objects:
    return {(one["kind"], one["metadata"]["name"]): one for one in documents(template(root, example, *options))}


def faults(root: Path) -> Iterator[str]:
    examples = sorted(path.stem for path in (root / "deploy/chart/examples").glob("*.yaml"))
    assert len(examples) >= 4, examples
    for example in examples:
        for fault in example_faults(root, example):
            yield f"{example}: {fault}"
    yield from option_faults(root)


def example_faults(root: Path, example: str) -> Iterator[str]:
    chart = root / "deploy/chart"
    try:
        objects = documents(template(root, example))
    except ValueError as error:
        yield str(error)
        return
    found = schema_faults(objects)
    if found:
        yield from found
        return
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    if len(by_name) != len(objects):
        yield "two objects with one name"
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            yield from pod_faults(one)
    for service in SERVICES:
        yield from service_faults(root, service, by_name)
    yield from route_faults(by_name)
    yield from policy_faults(by_name)
    yield from link_faults(by_name)
    yield from hook_faults(by_name)
    yield from monitoring_faults(root, by_name)
    yield from run(HELM, "lint", "--strict", chart, "--values", chart / f"examples/{example}.yaml")


def schema_faults(objects: list[dict[str, Any]]) -> list[str]:
    found = []
    for one in objects:
        if one["kind"] in FOREIGN:
            continue
        try:
            kubernetes_validate.validate(one, VERSION, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{one['kind']} {one['metadata']['name']}: {error}")
    lines = "".join(json.dumps(one) + "\n" for one in objects if one["kind"] in FOREIGN)
    if not lines:
        return found
    done = subprocess.run(["node", TOOLS / "foreign.mjs"], input=lines, capture_output=True, text=True, check=True)
    return found + done.stdout.splitlines()


def pod_faults(one: dict[str, Any]) -> list[str]:
    pod, name = one["spec"]["template"]["spec"], one["metadata"]["name"]
    container = pod["containers"][0]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
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
        "the user of a pod outside of OpenShift": "openshift" in container["image"] or pod["securityContext"].get("runAsUser") == 65532,
        "the volume of each mount": {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes,
    }
    return [f"{one['kind']} {name}: {what} is not as it must be" for what, holds in must.items() if not holds]


@cache
def secrets(make_secrets: Path) -> dict[str, dict[str, str]]:
    """What `make-secrets` puts into the Secret of each program."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([make_secrets, folder], check=True, capture_output=True)
        return {name: env_file(Path(folder, f"{name}.env")) for name in ("api-service", "ws-gateway", "migrate")}


def given(root: Path, container: dict[str, Any], by_name: Objects) -> dict[str, str]:
    """The environment of a container."""
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= by_name["ConfigMap", source["configMapRef"]["name"]]["data"]
        else:
            found |= secrets(root / "deploy/make-secrets")[source["secretRef"]["name"].removeprefix(f"{RELEASE}-")]
    return found


def service_faults(root: Path, service: str, by_name: Objects) -> list[str]:
    name = f"{RELEASE}-{service}"
    deployment = by_name["Deployment", name]
    pod, found = deployment["spec"]["template"]["spec"], []
    container = pod["containers"][0]
    environment = given(root, container, by_name)
    found += setting_faults(f"Deployment {name}", service, environment)
    if pod["terminationGracePeriodSeconds"] <= seconds_to_end(service, environment):
        found.append(f"Deployment {name}: is killed before it has ended by itself")
    for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        asks = container.get(probe, {}).get("httpGet", {})
        if (asks.get("path"), asks.get("port")) != (path, "admin"):
            found.append(f"Deployment {name}: {probe} does not ask {path} of the admin port")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port, setting in (("http", "LISTEN_ADDR"), ("admin", "ADMIN_ADDR")):
        if environment[setting] != f"0.0.0.0:{ports[port]}":
            found.append(f"Deployment {name}: {setting} is not the port {port}")
    for proxy in environment["TRUSTED_PROXIES"].split(","):
        if ipaddress.ip_network(proxy).num_addresses > 2**12:
            found.append(f"Deployment {name}: believes the client addresses that {proxy} reports")
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
    maps = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod.get("volumes", [])}
    for setting in ("DATABASE_CA_FILE", "REDIS_CA_FILE"):
        if setting in environment and not maps.get(mounts.get(str(Path(environment[setting]).parent), "")):
            found.append(f"Deployment {name}: {setting} is in no ConfigMap that is mounted")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for kind, other in (("Service", name), ("Service", f"{name}-admin"), ("PodDisruptionBudget", name)):
        selector = by_name[kind, other]["spec"]["selector"]
        if not (selector.get("matchLabels") or selector).items() <= labels:
            found.append(f"{kind} {other}: selects other pods")
    scaler = by_name.get(("HorizontalPodAutoscaler", name), {}).get("spec")
    replicas = deployment["spec"].get("replicas")
    if scaler is None:
        return found if replicas and replicas >= 2 else [*found, f"Deployment {name}: one pod alone"]
    if scaler["scaleTargetRef"]["name"] != name or scaler["minReplicas"] < 2 or replicas is not None:
        found.append(f"HorizontalPodAutoscaler {name}: does not rule this Deployment, or rules it down to one")
    if service == "ws-gateway" and "ehr_chat_gateway_sockets" not in [m.get("pods", {}).get("metric", {}).get("name") for m in scaler["metrics"]]:
        found.append(f"HorizontalPodAutoscaler {name}: does not know the sockets")
    return found


def route_faults(by_name: Objects) -> list[str]:
    """The split of haproxy.cfg; no timeout ends a socket, and nothing asks for a second attempt."""
    # OpenShift makes no route of an Ingress path of the type Exact.
    of_sockets = "Prefix" if any(kind == "Ingress" for kind, _ in by_name) else "Exact"
    expected = {("/", "Prefix"): f"{RELEASE}-api-service", ("/ws", of_sockets): f"{RELEASE}-ws-gateway"}
    routes, found = {}, []
    for (kind, name), one in by_name.items():
        if kind == "Ingress":
            for path in one["spec"]["rules"][0]["http"]["paths"]:
                routes[path["path"], path["pathType"]] = path["backend"]["service"]["name"]
            if "nginx" in json.dumps(one):
                found.append(f"Ingress {name}: is for the retired controller")
        if kind == "HTTPRoute":
            for rule in one["spec"]["rules"]:
                path, target = rule["matches"][0]["path"], rule["backendRefs"][0]["name"]
                routes[path["value"], path["type"].removeprefix("Path")] = target
                is_socket = target.endswith("ws-gateway")
                if (rule["timeouts"].get("request") == "0s") != is_socket or (rule["timeouts"].get("backendRequest") == "0s") != is_socket:
                    found.append(f"HTTPRoute {name}: the timeouts of {path['value']} end sockets, or no request")
                if rule.get("retry", {}).get("attempts", 0) != 0:
                    found.append(f"HTTPRoute {name}: {path['value']} is asked twice")
    return found if routes == expected else [*found, f"{routes} is not the split of haproxy.cfg"]


def peers(rule: dict[str, Any]) -> list[str]:
    """The namespaces and addresses of a rule."""
    found = []
    for peer in rule.get("from", []) + rule.get("to", []):
        labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
        found.append(peer.get("ipBlock", {}).get("cidr") or labels.get("kubernetes.io/metadata.name") or ",".join(labels))
    return found


def policy_faults(by_name: Objects) -> list[str]:
    policies = {name.removeprefix(f"{RELEASE}-"): one["spec"] for (kind, name), one in by_name.items() if kind == "NetworkPolicy"}
    found = []
    deny = policies.get("default-deny", {})
    if set(deny.get("policyTypes", [])) != {"Ingress", "Egress"} or deny.keys() & {"ingress", "egress"}:
        found.append("NetworkPolicy: not everything is denied that is not allowed")
    for (kind, name), one in by_name.items():
        if kind in ("Deployment", "Job") and not deny.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= one["spec"]["template"]["metadata"]["labels"].items():
            found.append(f"NetworkPolicy: {kind} {name} is not under the rule that denies everything")
    reach = {"ws-gateway": ["dns", "redis"], "api-service": ["database", "dns", "redis"], "migrate": ["database", "dns"]}
    names = {53: "dns", 5353: "dns", 5432: "database", 6379: "redis", 6380: "redis", 443: "other", 4318: "other"}
    for policy, expected in reach.items():
        rules = policies[policy].get("egress", [])
        reached = {names.get(port["port"], str(port["port"])) for rule in rules for port in rule.get("ports", [])} - {"other"}
        if any(not rule.get("to") or not rule.get("ports") for rule in rules) or sorted(reached) != expected:
            found.append(f"NetworkPolicy {policy}: reaches {sorted(reached)}, not {expected}")
        dns = [rule for rule in rules if any(port["port"] == 53 for port in rule.get("ports", []))]
        asked = {peer for rule in dns for peer in peers(rule)}
        ports = {(port["protocol"], port["port"]) for rule in dns for port in rule["ports"]}
        if not {"kube-system", "openshift-dns", "169.254.20.10/32"} <= asked or ports != {(p, n) for p in ("UDP", "TCP") for n in (53, 5353)}:
            found.append(f"NetworkPolicy {policy}: not every kind of cluster can look names up")
    for service, (public, admin) in PORTS.items():
        opened = {port["port"]: peers(rule) for rule in policies[service]["ingress"] for port in rule["ports"]}
        if set(opened) != {public, admin} or set(opened[public]) & set(opened[admin]) or not opened[public]:
            found.append(f"NetworkPolicy {service}: the ports {opened} are open to the wrong pods")
    return found


def hook_faults(by_name: Objects) -> list[str]:
    """`migrate` runs first, alone, and again at the next upgrade: what it needs is a hook too, and earlier."""
    name, found = f"{RELEASE}-migrate", []
    hooks = {key: one["metadata"].get("annotations", {}) for key, one in by_name.items() if one["metadata"].get("annotations", {}).get("helm.sh/hook")}
    job = by_name["Job", name]
    for kind in ("Job", "ServiceAccount", "NetworkPolicy"):
        notes = hooks.get((kind, name), {})
        if set(notes.get("helm.sh/hook", "").split(",")) != {"pre-install", "pre-upgrade"}:
            found.append(f"{kind} {name}: no hook before each installation and upgrade")
        if "before-hook-creation" not in notes.get("helm.sh/hook-delete-policy", ""):
            found.append(f"{kind} {name}: the second upgrade finds it there and fails")
        if kind != "Job" and int(notes.get("helm.sh/hook-weight", 0)) >= int(hooks.get(("Job", name), {}).get("helm.sh/hook-weight", 0)):
            found.append(f"{kind} {name}: comes behind the Job that needs it")
    pod = job["spec"]["template"]["spec"]
    own_maps = {name for kind, name in by_name if kind in ("ConfigMap", "Secret")}
    used = {volume["configMap"]["name"] for volume in pod.get("volumes", [])} | {one["secretRef"]["name"] for one in pod["containers"][0]["envFrom"] if "secretRef" in one}
    if used & own_maps or any("configMapRef" in one for one in pod["containers"][0]["envFrom"]):
        found.append(f"Job {name}: needs what the release brings later")
    if pod["containers"][0]["args"] != ["migrate"] or not pod["containers"][0]["image"].rpartition(":")[0].endswith("/api-service"):
        found.append(f"Job {name}: does not migrate")
    return found


def link_faults(by_name: Objects) -> list[str]:
    """Production starts: an example names the CA of its servers, or says that their network is private."""
    found = []
    for (kind, name), one in by_name.items():
        if kind in ("Deployment", "Job"):
            container = one["spec"]["template"]["spec"]["containers"][0]
            given = {variable["name"]: variable["value"] for variable in container.get("env", [])}
            for source in container["envFrom"]:
                given |= by_name["ConfigMap", source["configMapRef"]["name"]]["data"] if "configMapRef" in source else {}
            if ("DATABASE_CA_FILE" in given or "REDIS_CA_FILE" in given) == (given.get("PLAINTEXT_LINKS") == "private-network"):
                found.append(f"{kind} {name}: its links have neither TLS nor a private network, or both")
    return found


def rendered_rules(root: Path, namespace: str, address: str) -> Any:
    command = [root / "deploy/monitoring/render-alerts", "--namespace", namespace, "--documents", address]
    return yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def monitoring_faults(root: Path, by_name: Objects) -> list[str]:
    found = []
    monitor = by_name.get(("ServiceMonitor", RELEASE), {}).get("spec")
    if monitor:
        selected = [name for (kind, name), one in by_name.items() if kind == "Service" and monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()]
        if sorted(selected) != [f"{RELEASE}-{service}-admin" for service in SERVICES] or monitor["endpoints"][0]["port"] != "admin":
            found.append(f"ServiceMonitor: reads {selected}")
        if {by_name["Service", name]["metadata"]["labels"].get(monitor["jobLabel"]) for name in selected} != set(SERVICES):
            found.append("ServiceMonitor: the jobs have not the names of the alerts")
    rules = by_name.get(("PrometheusRule", RELEASE), {}).get("spec")
    if rules is not None and rules != yaml.safe_load((root / "deploy/monitoring/alerts.yaml").read_text()):
        found.append("PrometheusRule: is not deploy/monitoring/alerts.yaml")
    return found


def option_faults(root: Path) -> Iterator[str]:
    """What the defaults leave out, what both versions of Helm make of the chart, and the first step of an upgrade."""
    old = render(root, "ingress")
    yield from [f"{kind} {name}: is there without being asked for" for kind, name in old if kind in FOREIGN | {"HorizontalPodAutoscaler"}]
    strict = render(root, "managed", "--set", "gatewayApi.forbidRetries=true")
    yield from schema_faults([strict["HTTPRoute", RELEASE]])
    if [rule.get("retry") for rule in strict["HTTPRoute", RELEASE]["spec"]["rules"]] != [{"attempts": 0}] * 2:
        yield "HTTPRoute: retries are not forbidden"
    elsewhere = render(root, "gateway-api", "--namespace", "other", "--set", "monitoring.prometheusRule.documents=https://wiki.example/chat")
    if elsewhere["PrometheusRule", RELEASE]["spec"] != rendered_rules(root, "other", "https://wiki.example/chat"):
        yield "PrometheusRule: does not select by the namespace of the release, or links to other documents"
    # First the gateways: the API services keep their version, and their pods.
    first = render(root, "ingress", "--set", "image.tag=0.2.0", "--set", "apiService.tag=0.1.0")
    changed = {name for (kind, name), one in first.items() if kind in ("Deployment", "Job") and one["spec"]["template"] != old[kind, name]["spec"]["template"]}
    if changed != {f"{RELEASE}-ws-gateway", f"{RELEASE}-migrate"}:
        yield f"the first step of an upgrade replaces {sorted(changed)}"
    if documents(template(root, "gateway-api", helm=HELM_3)) != documents(template(root, "gateway-api")):
        yield "Helm 3 and Helm 4 render different objects"
