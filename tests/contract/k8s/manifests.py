"""What `kubectl kustomize` makes of k8s/, and ways to look into it."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = ("cpu", "gpu", "keda")
COMPONENTS = tuple(sorted(folder.name for folder in (K8S / "components").iterdir()))
SERVICES = ("llm", "embedding", "asr", "vision")
PROCESSES = (*SERVICES, "gateway")
BUILDS = (*OVERLAYS, *(f"base with {name}" for name in COMPONENTS))
"""What `build` makes: every overlay, and the base with each component by itself."""


@functools.cache
def overlay(name: str) -> tuple[Object, ...]:
    """The objects of k8s/overlays/<name>."""
    return tuple(_built(K8S / "overlays" / name))


@functools.cache
def with_components(base: str, *components: str) -> tuple[Object, ...]:
    """The objects of an overlay with more components, as an operator's own kustomization has them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "flotilla",
            "resources": [_relative(K8S / base, folder)],
            "components": [_relative(K8S / "components" / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return tuple(_built(folder))


def build(name: str) -> tuple[Object, ...]:
    """The objects of one of BUILDS."""
    return overlay(name) if name in OVERLAYS else with_components(*name.split(" with "))


def of_kind(objects: Sequence[Object], kind: str) -> dict[str, Object]:
    """The objects of one kind by name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pod_of(found: Object) -> Object:
    """The pod of a Deployment or Job: its spec."""
    pod: Object = found["spec"]["template"]["spec"]
    return pod


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """The pods of all Deployments and Jobs, by name."""
    return {name: pod_of(it) for kind in ("Deployment", "Job") for name, it in of_kind(objects, kind).items()}


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those that run before it among them."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def environment(objects: Sequence[Object], container: Object) -> dict[str, str]:
    """The variables of a container."""
    config = of_kind(objects, "ConfigMap")
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= config[source["configMapRef"]["name"]]["data"]
    return found | {variable["name"]: variable["value"] for variable in container.get("env", ())}


def port_numbers(container: Object) -> dict[str, int]:
    """The ports of a container by name."""
    return {port["name"]: port["containerPort"] for port in container.get("ports", ())}


def values(tree: Any, key: str) -> Iterator[Any]:
    """Every value that has `key`, however deep."""
    if isinstance(tree, dict):
        if key in tree:
            yield tree[key]
        for inner in tree.values():
            yield from values(inner, key)
    elif isinstance(tree, list):
        for inner in tree:
            yield from values(inner, key)


def _built(folder: Path) -> list[Object]:
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # what is deprecated
    return list(yaml.safe_load_all(done.stdout))


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
