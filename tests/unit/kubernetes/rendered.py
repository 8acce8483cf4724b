"""Manifests as they are rendered, what is in them, and what KubeRay's schemas say against them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from pipeline.config.commands import ManifestsConfig
from pipeline.config.overrides import read_command
from pipeline.kubernetes.manifests import Manifest, render

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT.parent / "shared" / "schemas" / "kuberay-1.7.0"


def configured(*arguments: str) -> ManifestsConfig:
    (config,) = read_command("manifests", arguments)
    assert isinstance(config, ManifestsConfig)
    return config


def rendered(*arguments: str) -> dict[str, list[Manifest]]:
    return render(configured(*arguments), "2.60.0")


def objects(*arguments: str) -> list[Manifest]:
    return [manifest for manifests in rendered(*arguments).values() for manifest in manifests]


def named(kind: str, *arguments: str) -> Manifest:
    (found,) = [manifest for manifest in objects(*arguments) if manifest["kind"] == kind]
    return found


def walk(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a manifest."""
    if isinstance(node, Mapping):
        yield node
    for inner in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from walk(inner)


def pods(manifests: Sequence[Manifest]) -> list[Mapping[str, Any]]:
    return [node for manifest in manifests for node in walk(manifest) if "containers" in node]


def containers(manifests: Sequence[Manifest]) -> list[Mapping[str, Any]]:
    return [one for pod in pods(manifests) for one in (*pod.get("initContainers", []), *pod["containers"])]


def closed(node: Any) -> Any:
    """The schema without fields that it does not name, which Kubernetes would drop without a word."""
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    own = {key: closed(value) for key, value in node.items()}
    if isinstance(own.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        own.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        own.pop("type", None)  # the schema has `anyOf` beside it
    return own


@functools.cache
def schema(kind: str, version: str) -> Any:
    """KubeRay's schema of a kind, closed; None where the schemas are not beside this checkout."""
    file = SCHEMAS / f"ray.io_{kind.lower()}s.yaml"
    if not file.is_file():
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    versions = yaml.load(file.read_text("utf-8"), Loader=loader)["spec"]["versions"]
    (found,) = [one["schema"]["openAPIV3Schema"] for one in versions if f"ray.io/{one['name']}" == version]
    found["properties"]["metadata"] = {"type": "object"}  # of Kubernetes, which the schema leaves empty
    return closed(found)


def faults(manifest: Manifest) -> list[str]:
    """What KubeRay's schema says against an object."""
    if (own := schema(manifest["kind"], manifest["apiVersion"])) is None:
        pytest.skip("KubeRay's schemas are not beside this checkout")
    return [
        f"{fault.json_path}: {fault.message}" for fault in jsonschema.Draft202012Validator(own).iter_errors(manifest)
    ]
