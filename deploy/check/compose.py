"""compose.yaml: its schema, real settings, who reaches whom, and what it mounts."""

import hashlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml
from places import SERVICES, env_file, run, seconds_to_end, setting_faults


def faults(root: Path) -> list[str]:
    deploy = root / "deploy"
    found = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", deploy / "compose.yaml")
    if found:
        return found
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    services = compose["services"]
    with tempfile.TemporaryDirectory() as secrets:
        subprocess.run([deploy / "make-secrets", secrets], check=True)
        found += secret_faults(compose, Path(secrets)) + redis_faults(Path(secrets))
        for name, service in services.items():
            found += program_faults(name, service, Path(secrets))
    return found + network_faults(services) + mount_faults(deploy, services) + proxy_faults(deploy, services)


def program_of(service: dict[str, Any]) -> str | None:
    return next((program for program in SERVICES if f"/{program}:" in service.get("image", "")), None)


def program_faults(name: str, service: dict[str, Any], secrets: Path) -> list[str]:
    program = program_of(service)
    if not program:
        return [] if re.search(r":v?\d", service["image"]) else [f"{name}: an image without a version"]
    found = [f"{name}: {part} is not given up" for part in ("cap_drop", "read_only") if not service.get(part)]
    given = dict(service.get("environment", {}))
    for path in service["env_file"]:
        given |= env_file(secrets / Path(path).name)
    if service.get("command") == ["migrate"]:
        return found + [f for f in setting_faults(name, program, given) if "knows no" in f]
    found += setting_faults(name, program, given)
    if int(service["stop_grace_period"].removesuffix("s")) <= seconds_to_end(program, given):
        found.append(f"{name}: is killed before it has ended by itself")
    return found


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
