"""deploy/check/sbom.py finds what is wrong in a bill of materials. `make sbom` runs it on real ones."""

import json
from typing import Any

import pytest
import sbom


def document() -> dict[str, Any]:
    locked = sbom.tomllib.loads((sbom.ROOT / "Cargo.lock").read_text())["package"]
    versions = {one["name"]: one["version"] for one in locked}

    def component(name: str) -> dict[str, Any]:
        return {"type": "library", "name": name, "version": versions[name], "bom-ref": name, "licenses": [{"expression": "MIT"}]}

    names = sorted(sbom.EXPECTED["ws-gateway"])
    own = component("ws-gateway") | {"type": "application"}
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": own}, "components": [component(name) for name in names]}


def test_accepts_complete_document() -> None:
    assert sbom.faults("ws-gateway", json.dumps(document())) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["bomFormat"], "SPDX", "no CycloneDX 1.5"),
        (["components", 0, "type"], "crate", "no CycloneDX 1.5"),
        (["metadata", "component", "name"], "bench", "is a document of bench"),
        (["components", 1, "name"], "other", "lacks rustls"),
        (["components", 1, "version"], "0.0.1", "rustls 0.0.1 is not in Cargo.lock"),
        (["components", 1, "licenses"], [], "rustls has no licence"),
    ],
)
def test_finds(path: list[str | int], value: Any, said: str) -> None:
    changed = document()
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    found = sbom.faults("ws-gateway", json.dumps(changed))
    assert any(said in fault for fault in found), found
