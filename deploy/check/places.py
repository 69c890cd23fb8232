"""Where things are, and which settings the services have: what all checks of this folder share."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Set by scripts/test-deploy: the services, and the folder of what npm has installed.
PROGRAMS = Path(os.environ["PROGRAMS"])
TOOLS = Path(os.environ["TOOLS"])
HELM, HELM_3 = os.environ["HELM"], os.environ["HELM_3"]
SERVICES = ("api-service", "ws-gateway")


def run(*command: str | Path, cwd: Path | None = None) -> list[str]:
    """What a tool has to say against its input: nothing, when it exits with 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f"{Path(command[0]).name}: {done.stdout}{done.stderr}".strip()]


class Loader(yaml.CSafeLoader):
    """Refuses two values of one key, of which YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1 and key != "<<"}
        if twice:
            raise ValueError(f"duplication of key {sorted(twice)}, line {node.start_mark.line}")
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Any]:
    return [document for document in yaml.load_all(text, Loader) if document]


@cache
def settings(service: str) -> dict[str, str | None]:
    """The settings of a service and their defaults, as it tells them itself; None when it must be set."""
    output = subprocess.run([PROGRAMS / service, "--help"], capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^  ([A-Z0-9_]+) \((required|optional|default (.*))\)$", output, re.MULTILINE)
    assert len(lines) > 10, output
    return {name: None if kind == "required" else default for name, kind, default in lines}


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def setting_faults(where: str, service: str, given: dict[str, str]) -> list[str]:
    """Settings that the service does not have, and those that it cannot start without."""
    known = settings(service)
    faults = [f"{where}: {service} knows no {name}" for name in given if name not in known]
    required = [name for name, default in known.items() if default is None and name not in given]
    return faults + [f"{where}: {service} needs {name}" for name in required]


def seconds_to_end(service: str, given: dict[str, str]) -> int:
    """From SIGTERM to the end of a service, at most."""
    value = {name: int(given.get(name) or settings(service)[name] or 0) for name in ("DRAIN_SECONDS", "SHUTDOWN_TIMEOUT_SECONDS")}
    # The gateway's timeout counts from SIGTERM, the API service's from the end of its drain.
    drain = value["DRAIN_SECONDS"] if service == "api-service" else 0
    return drain + value["SHUTDOWN_TIMEOUT_SECONDS"]
