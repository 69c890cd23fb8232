"""The Dockerfile, and whether the images' context holds all that the services are built from."""

import fnmatch
import re
from pathlib import Path

from places import PROGRAMS, SERVICES, run


def faults(root: Path) -> list[str]:
    return run("hadolint", root / "deploy/Dockerfile") + version_faults(root) + stage_faults(root) + context_faults(root)


# Its registry gives these images no versions.
UNVERSIONED = "gcr.io/distroless/cc-debian12:nonroot"


def is_exact(image: str) -> bool:
    """A digest, or a version with all of its numbers: PostgreSQL has two, others have three."""
    numbers = r"\d+\.\d+" if image.startswith("postgres:") else r"v?\d+\.\d+\.\d+"
    return "@sha256:" in image or re.search(rf":{numbers}($|-)", image) is not None


def version_faults(root: Path) -> list[str]:
    text = (root / "deploy/Dockerfile").read_text()
    images = [image for image in re.findall(r"^(?:FROM|# syntax=)\s*(\S+)", text, re.MULTILINE) if ":" in image]
    assert len(images) >= 2, images
    return [f"Dockerfile: {image} has no exact version" for image in images if image != UNVERSIONED and not is_exact(image)]


def stage_faults(root: Path) -> list[str]:
    text = (root / "deploy/Dockerfile").read_text()
    found = [] if re.search(r"cargo build .*--locked", text) else ["Dockerfile: builds without --locked"]
    if not re.search(r'^ARG REVISION.*EHR_CHAT_COMMIT="\$REVISION" cargo build', text, re.MULTILINE | re.DOTALL):
        found.append("Dockerfile: the build does not name the commit")
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL))
    user = re.search(r"^USER (\d+):(\d+)$", stages.get("runtime", ""), re.MULTILINE)
    if not user or "0" in user.groups():
        found.append("Dockerfile: runs as root, or as a user whose number Kubernetes cannot check")
    for service in SERVICES:
        stage = stages.get(service, "")
        for part in ("ENTRYPOINT", "HEALTHCHECK", "EXPOSE", "org.opencontainers.image.title"):
            if not re.search(rf"^(LABEL )?{part}", stage, re.MULTILINE):
                found.append(f"Dockerfile: {service} has no {part}")
    return found


def context_faults(root: Path) -> list[str]:
    """What the compiler read (its own lists), and the manifests, must be in the context."""
    home = PROGRAMS.parent.parent
    read = {"Cargo.toml", "Cargo.lock"}
    read |= {str(path.relative_to(home)) for path in home.glob("*/Cargo.toml")}
    for service in SERVICES:
        paths = (PROGRAMS / f"{service}.d").read_text().split(": ", 1)[1].split()
        read |= {str(Path(path).resolve().relative_to(home)) for path in paths if Path(path).resolve().is_relative_to(home)}
    assert len(read) > 50, read
    rules = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    return [f".dockerignore: leaves out {path}" for path in sorted(read) if is_left_out(path, rules)]


def is_left_out(path: str, rules: list[str]) -> bool:
    """The last rule that matches the path, or a folder above it, decides."""
    left_out = False
    above = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = above + ([part for part in path.split("/")] if "**/" in rule else [])
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            left_out = not rule.startswith("!")
    return left_out
