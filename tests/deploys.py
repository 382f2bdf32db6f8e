"""What deploy/ holds, and the programs that look at it: found, or the test is skipped with what is missing."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
KUBERNETES = DEPLOY / "kubernetes"
CONFIG = "/etc/streamclust/config.yaml"


def tool(name: str, package: str) -> str:
    """Path of a program, of this environment or the system; skips without it."""
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def look(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run a program that only looks."""
    return subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, check=False, timeout=120)


def unit_lines(unit: Path, key: str) -> list[str]:
    """Values of a key of a unit, in their order."""
    lines = [line.partition("=") for line in unit.read_text().splitlines() if not line.startswith(("#", "["))]
    return [value for name, _, value in lines if name == key]


def seconds(text: str) -> float:
    """Value of a time of systemd or compose: ``30``, ``30s``, ``15min``."""
    return float(text[:-3]) * 60 if text.endswith("min") else float(text.removesuffix("s"))


def read(path: Path) -> Any:
    """Read one YAML document."""
    return yaml.safe_load(path.read_text())


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of streamclust that is shipped: where it is, and its arguments."""
    for unit in sorted(UNITS.glob("*.service")):
        lines = [*unit_lines(unit, "ExecStart"), *unit_lines(unit, "ExecReload")]
        yield from ((unit.name, words) for line in lines for words in _arguments(line))
    for name, service in ours().items():
        if "entrypoint" in service:
            yield from ((f"compose {name}", words) for line in service["command"] for words in _arguments(line))
        elif "command" in service:
            yield f"compose {name}", [word.replace("${SPEED:-20}", "20") for word in service["command"]]
    for found in manifests("base"):
        for container in pod(found).get("containers", []):
            yield f"kubernetes {found['metadata']['name']}", container["args"]
    (line,) = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("CMD ")]
    yield "Dockerfile CMD", yaml.safe_load(line.removeprefix("CMD "))


def _arguments(text: str) -> Iterator[list[str]]:
    """Arguments of each streamclust that a text for a shell starts."""
    for line in text.splitlines():
        if "streamclust " in line:
            yield shlex.split(line.partition("streamclust ")[2].partition("&")[0])


def ours() -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml that are made of our image."""
    services: dict[str, dict[str, Any]] = read(DEPLOY / "compose.yaml")["services"]
    return {name: service for name, service in services.items() if service["image"] == "streamclust"}


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of the pods that a manifest makes; empty when it makes none."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    found: dict[str, Any] = spec.get("template", {}).get("spec", {})
    return found


def manifests(name: str) -> list[dict[str, Any]]:
    """Build a kustomization as far as ours go: resources, config maps of files, namespace, labels, removals."""
    folder = (KUBERNETES / name).resolve()
    rules = read(folder / "kustomization.yaml")
    found: list[dict[str, Any]] = []
    for resource in rules["resources"]:
        where = folder / resource
        found += manifests(where) if where.is_dir() else list(yaml.safe_load_all(where.read_text()))
    for made in rules.get("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in made["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    for manifest in found:
        if "namespace" in rules and manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = rules["namespace"]
        for label in rules.get("labels", []):
            manifest["metadata"].setdefault("labels", {}).update(label["pairs"])
    for patch in rules.get("patches", []):
        (target,) = [m for m in found if m["kind"] == patch["target"]["kind"]]
        for step in yaml.safe_load(patch["patch"]):
            assert step["op"] == "remove", "this builder knows no other"
            *inner, last = step["path"].strip("/").split("/")
            place = target
            for key in inner:
                place = place[key]
            del place[last]
    return found
