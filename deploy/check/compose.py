"""compose.yaml: its schema, real settings, who reaches whom, and what it mounts."""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from images import is_exact
from places import SERVICES, env_file, run, seconds_to_end, setting_faults


def faults(root: Path) -> Iterator[str]:
    deploy = root / "deploy"
    found = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", deploy / "compose.yaml")
    if found:
        yield from found
        return
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    services = compose["services"]
    yield from network_faults(services)
    yield from mount_faults(deploy, services)
    yield from proxy_faults(deploy, services)
    with tempfile.TemporaryDirectory() as secrets:
        subprocess.run([deploy / "make-secrets", secrets], check=True)
        yield from secret_faults(compose, Path(secrets))
        yield from redis_faults(Path(secrets))
        for name, service in services.items():
            yield from program_faults(name, service, Path(secrets))


def merged(deploy: Path) -> dict[str, Any]:
    """compose.yaml with compose.dev.yaml, as another implementation of Compose merges them; ValueError has what it says."""
    with tempfile.TemporaryDirectory() as folder:
        # It starts no container here, and only asks this program for its version.
        podman = Path(folder, "podman")
        podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
        podman.chmod(0o755)
        command = ["podman-compose", "--podman-path", podman, "-f", deploy / "compose.yaml", "-f", deploy / "compose.dev.yaml", "config"]
        # BIND would open the base's port to the network.
        env = {"PATH": os.environ["PATH"], "HOME": folder, "BIND": "0.0.0.0"}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise ValueError(f"compose.dev.yaml: {done.stderr.strip()}")
    result: dict[str, Any] = yaml.safe_load(done.stdout)
    return result


def development_faults(root: Path) -> list[str]:
    """The quick start needs no file, only loopback reaches it, and its keys are marked as public."""
    deploy = root / "deploy"
    try:
        compose = merged(deploy)
    except ValueError as error:
        return [str(error)]
    found = ["compose.dev.yaml: needs secrets"] if compose.get("secrets") else []
    services = compose["services"]
    for name, service in services.items():
        where = f"compose.dev.yaml: {name}"
        if service.get("env_file") or service.get("secrets"):
            found.append(f"{where} needs a file with secrets")
        found += [f"{where} is open to the network at {port}" for port in service.get("ports", []) if not str(port).startswith("127.0.0.1:")]
        given = {key: value for key, value in service.get("environment", {}).items() if value is not None}
        for key, value in given.items():
            if "/run/secrets/" in value:
                found.append(f"{where} reads {key} from a secret")
            if key in ("JWT_SECRET", "AUDIT_KEY") and not (value.startswith("development-") and len(value) >= 32):
                found.append(f"{where} has a {key} that production would take, or that is too short")
        program = program_of(service)
        if program and service.get("command") != ["migrate"]:
            found += setting_faults(where, program, given)
            if given.get("MODE") != "development":
                found.append(f"{where} is not in development mode")
    for name in ("migrate", "api-1", "api-2"):
        password = re.findall(r"^postgres://chat:([^@]+)@postgres/chat$", services[name]["environment"]["DATABASE_URL"])
        if password != [services["postgres"]["environment"].get("POSTGRES_PASSWORD")]:
            found.append(f"compose.dev.yaml: {name} has not the password of postgres")
    return found + network_faults(services) + proxy_faults(deploy, services)


def program_of(service: dict[str, Any]) -> str | None:
    return next((program for program in SERVICES if f"/{program}:" in service.get("image", "")), None)


def program_faults(name: str, service: dict[str, Any], secrets: Path) -> list[str]:
    program = program_of(service)
    if not program:
        return [] if is_exact(service["image"]) else [f"{name}: {service['image']} has no exact version"]
    found = [f"{name}: {part} is not given up" for part in ("cap_drop", "read_only") if not service.get(part)]
    given = dict(service.get("environment", {}))
    for path in service["env_file"]:
        given |= env_file(secrets / Path(path).name)
    if has_plaintext_link(given) and given.get("MODE", "production") == "production" and given.get("PLAINTEXT_LINKS") != "private-network":
        found.append(f"{name}: does not start, because a link has no TLS")
    if service.get("command") == ["migrate"]:
        return found + [f for f in setting_faults(name, program, given) if "knows no" in f]
    found += setting_faults(name, program, given)
    if int(service["stop_grace_period"].removesuffix("s")) <= seconds_to_end(program, given):
        found.append(f"{name}: is killed before it has ended by itself")
    return found


def has_plaintext_link(given: dict[str, str]) -> bool:
    database, redis = given.get("DATABASE_URL"), given.get("REDIS_URL")
    return bool(database and not re.search(r"[?&]sslmode=(require|verify-)", database)) or bool(redis and not redis.startswith("rediss"))


def network_faults(services: dict[str, Any]) -> list[str]:
    networks = {name: set(service["networks"]) for name, service in services.items()}
    reach = {"postgres": {"api-service", None}, "redis": {"api-service", "ws-gateway"}}
    found = []
    for server, allowed in reach.items():
        for name, service in services.items():
            program = None if service.get("command") == ["migrate"] else program_of(service) or "another"
            if name != server and networks[name] & networks[server] and program not in allowed:
                found.append(f"{name}: reaches {server}")
    for name in services:
        for needed in services[name].get("depends_on", []):
            if needed not in services:
                found.append(f"{name}: depends on {needed}, which is not there")
    return found


def mount_faults(deploy: Path, services: dict[str, Any]) -> list[str]:
    sources = [(name, mount.split(":")[0]) for name, one in services.items() for mount in one.get("volumes", [])]
    return [f"{name}: mounts {path}, which is not there" for name, path in sources if path.startswith("./") and not (deploy / path).exists()]


def secret_faults(compose: dict[str, Any], secrets: Path) -> list[str]:
    files = [secret["file"] for secret in compose["secrets"].values()]
    files += [path for service in compose["services"].values() for path in service.get("env_file", [])]
    missing = [file for file in files if not (secrets / Path(file).name).exists()]
    return [f"make-secrets makes no {file}" for file in missing]


def redis_faults(secrets: Path) -> list[str]:
    """Each service has a user of its own in Redis, whose password its URL holds, and no other user gets in."""
    users = {line.split()[1]: line.split()[2:] for line in (secrets / "redis.conf").read_text().splitlines() if line.startswith("user ")}
    found = [] if users.get("default") == ["off"] else ["redis.conf: any client gets in"]
    names = set()
    for program in SERVICES:
        name, password = re.findall(r"^redis://(\w+):(\w+)@", env_file(secrets / f"{program}.env")["REDIS_URL"])[0]
        names.add(name)
        if f"#{hashlib.sha256(password.encode()).hexdigest()}" not in users.get(name, []):
            found.append(f"redis.conf: {name} has not the password of {program}")
    return found if len(names) == len(SERVICES) else [*found, "redis.conf: services share a user"]


def proxy_faults(deploy: Path, services: dict[str, Any]) -> list[str]:
    """The servers of haproxy.cfg are this file's services, on the ports of their images, and the only ones believed."""
    ports = dict(zip(SERVICES, ("8081", "8082"), strict=True))
    servers = set(re.findall(r"^\s+server \S+ (\S+):(\d+) check", (deploy / "haproxy.cfg").read_text(), re.MULTILINE))
    programs = {(name, ports[p]) for name, one in services.items() if (p := program_of(one)) and one.get("command") != ["migrate"]}
    found = [] if servers == programs else [f"haproxy.cfg asks {sorted(servers)}, compose.yaml has {sorted(programs)}"]
    proxy = services["haproxy"]["networks"]["front"]["ipv4_address"]
    for name, one in services.items():
        if (name, ports.get(program_of(one) or "")) in programs and one["environment"].get("TRUSTED_PROXIES") != proxy:
            found.append(f"{name}: does not believe HAProxy, or believes others")
    return found
