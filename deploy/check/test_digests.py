"""deploy/pin-digests, against a registry of this process."""

import hashlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from places import ROOT

MANIFEST = b'{"schemaVersion":2,"manifests":[]}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


class Registry(BaseHTTPRequestHandler):
    """Knows `library/known:1.2.3` to those who got a token first. It lies about `library/liar:1.2.3`."""

    def do_GET(self) -> None:
        host = self.headers["Host"]
        if self.path.startswith("/token?"):
            return self.answer(200, json.dumps({"token": "anonymous" if "scope=pull" in self.path else ""}).encode())
        if self.headers["Authorization"] != "Bearer anonymous":
            return self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="http://{host}/token",service="test",scope="pull"'})
        if self.path == "/v2/library/known/manifests/1.2.3" and "oci.image.index" in self.headers["Accept"]:
            return self.answer(200, MANIFEST, {"Docker-Content-Digest": DIGEST})
        if self.path == "/v2/library/liar/manifests/1.2.3":
            return self.answer(200, MANIFEST, {"Docker-Content-Digest": "sha256:" + "0" * 64})
        return self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pin(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "deploy/pin-digests", *arguments], capture_output=True, text=True, check=False)


def test_writes_digest_of_manifest(registry: str, tmp_path: Path) -> None:
    compose, dockerfile = tmp_path / "compose.yaml", tmp_path / "Dockerfile"
    compose.write_text(f"services:\n  a:\n    image: {registry}/library/known:1.2.3\n  b:\n    image: ${{REGISTRY:-x}}/own:${{TAG:-0.1.0}}\n")
    dockerfile.write_text(f"FROM {registry}/library/known:1.2.3 AS build\nFROM build AS runtime\n")
    for _ in range(2):  # The second time it finds what it has written.
        done = pin(compose, dockerfile)
        assert (done.returncode, done.stdout) == (0, f"{registry}/library/known:1.2.3@{DIGEST}\n"), done
        assert compose.read_text() == f"services:\n  a:\n    image: {registry}/library/known:1.2.3@{DIGEST}\n  b:\n    image: ${{REGISTRY:-x}}/own:${{TAG:-0.1.0}}\n"
        assert dockerfile.read_text() == f"FROM {registry}/library/known:1.2.3@{DIGEST} AS build\nFROM build AS runtime\n"
    assert pin("--print", f"{registry}/library/known:1.2.3").stdout == f"{DIGEST}\n"


@pytest.mark.parametrize(("name", "said"), [("unknown", "answers 404"), ("liar", "sent sha256:")])
def test_writes_nothing_without_every_digest(registry: str, name: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    text = f"image: {registry}/library/known:1.2.3\nimage: {registry}/library/{name}:1.2.3\n"
    file.write_text(text)
    done = pin(file)
    assert done.returncode == 69 and said in done.stderr and "no digest is written" in done.stderr, done
    assert file.read_text() == text


def test_says_that_registry_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as unused:  # Bound, without a listener: a connection is refused.
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        file = tmp_path / "compose.yaml"
        file.write_text(f"image: {host}/library/known:1.2.3\n")
        for done in (pin(file), pin("--print", f"{host}/library/known:1.2.3")):
            assert done.returncode == 69 and f"cannot reach {host}" in done.stderr and not done.stdout, done
        assert file.read_text() == f"image: {host}/library/known:1.2.3\n"


def test_finds_images_of_this_project() -> None:
    text = (ROOT / "deploy/pin-digests").read_text()
    scope: dict[str, object] = {"__name__": "pin_digests", "__file__": str(ROOT / "deploy/pin-digests")}
    exec(compile(text, "pin-digests", "exec"), scope)  # A program without an ending is no module.
    found = {m[1] for file in ("compose.yaml", "Dockerfile") for m in scope["REFERENCE"].findall((ROOT / "deploy" / file).read_text())}  # type: ignore[attr-defined]
    assert {image.split(":")[0] for image in found} == {
        "gcr.io/distroless/cc-debian12", "grafana/grafana", "haproxy", "postgres", "prom/prometheus", "redis", "rust",
    }
