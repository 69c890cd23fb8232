"""Whether a bill of materials is one: `sbom.py FILE…`, each named after its service. A valid CycloneDX document, with the service,
the crates of this project that it is made of, and dependencies that Cargo.lock has in that version, with their licences."""

import json
import sys
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]
# What each service is made of, beside `shared`.
EXPECTED = {"api-service": {"shared", "tokio", "poem", "tokio-postgres", "rustls"}, "ws-gateway": {"shared", "tokio", "hyper", "rustls"}}


def faults(service: str, text: str) -> list[str]:
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    if error is not None:
        return [f"{service}: no CycloneDX 1.5: {error.data}"]
    document = json.loads(text)
    locked = {(one["name"], one["version"]) for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    own = document["metadata"]["component"]["name"]
    found = [] if own == service else [f"{service}: is a document of {own}"]
    components = document.get("components", [])
    names = {component["name"] for component in components}
    found += [f"{service}: lacks {name}" for name in sorted(EXPECTED[service] - names)]
    found += [f"{service}: {one['name']} {one['version']} is not in Cargo.lock" for one in components if (one["name"], one["version"]) not in locked]
    found += [f"{service}: {one['name']} has no licence" for one in components if not one.get("licenses")]
    return found


def main(files: list[Path]) -> int:
    found = [fault for file in files for fault in faults(file.stem, file.read_text())]
    print("\n".join(found) or "\n".join(f"{file}: {len(json.loads(file.read_text())['components'])} components" for file in files))
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
