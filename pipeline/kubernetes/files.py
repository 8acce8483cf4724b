"""Manifests as files for kubectl, and the commands that come next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.kubernetes import KubernetesConfig
from pipeline.errors import BundleError, ConfigError, fault
from pipeline.files import new_folder
from pipeline.kubernetes.manifests import ACCESS_KEY, DASHBOARD, PASSWORD, SECRET_KEY, TOKEN, Manifest, submit_line

FIRST = ("network.yaml", "postgres.yaml", "object-store.yaml", "mlflow.yaml", "runs.yaml")
"""What a job and a cluster need."""


def write(target: Path, files: Mapping[str, Sequence[Manifest]], key: str) -> None:
    """Write a new folder of files, whole or not at all.

    Args:
        target: The folder.
        files: Name -> objects.
        key: What the user sets to give another folder.

    Raises:
        ConfigError: It is there already, or cannot be written.
    """
    try:
        with new_folder(target) as folder:
            for name, manifests in files.items():
                (folder / name).write_text(text(manifests), "utf-8")
    except (BundleError, OSError) as error:
        rule = f"cannot be written ({error})" if isinstance(error, OSError) else error.faults[0].rule
        raise ConfigError(fault(key, target, rule, f"Give another folder: {key}=<folder>")) from error


def text(manifests: Sequence[Manifest]) -> str:
    """Write objects of Kubernetes as YAML."""
    written: str = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return written


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Code as lines, and everything in full: no `&id001`."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _lines(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _lines)


def following(config: KubernetesConfig, target: Path) -> Iterator[str]:
    """The commands that come next to the files of `render`; secrets are made by the user's own shell, in no file."""
    image, secrets = shlex.quote(config.image), config.secrets
    file = {
        name: f"-f {shlex.quote(str(target / name))}" for name in (*FIRST, "job.yaml", "cluster.yaml", "service.yaml")
    }
    create = f"kubectl -n {config.namespace} create secret generic"
    random = '"$(openssl rand -hex 24)"'
    yield f"docker build -f conf/cluster/Dockerfile -t {image} . && docker push {image}"
    yield f"kubectl create namespace {config.namespace}"
    yield f"kubectl label namespace {config.namespace} pod-security.kubernetes.io/enforce=restricted"
    yield f"{create} {secrets.postgres} --from-literal={PASSWORD}={random}"
    keys = f"--from-literal={ACCESS_KEY}={config.name} --from-literal={SECRET_KEY}={random}"
    yield f"{create} {secrets.object_store} {keys}"
    if secrets.huggingface:
        yield f'{create} {secrets.huggingface} --from-literal={TOKEN}="$HF_TOKEN"'
    if secrets.service:
        yield f"{create} {secrets.service} --from-literal={TOKEN}={random}"
    yield f"kubectl apply {' '.join(file[name] for name in FIRST)}"
    yield f"kubectl apply {file['job.yaml']}   # make {config.command[0]} on a cluster of its own; or:"
    yield f"kubectl apply {file['cluster.yaml']}   # a cluster that stays, for make submit:"
    yield f"kubectl -n {config.namespace} port-forward service/{config.name}-head-svc {DASHBOARD} &"
    secret = f"kubectl -n {config.namespace} get secret {config.name} -o 'jsonpath={{.data.auth_token}}'"
    yield f'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$({secret} | base64 -d)"'
    yield submit_line(config)
    yield f"kubectl apply {file['service.yaml']}   # the champions over HTTP, once there are some:"
    yield f"kubectl -n {config.namespace} port-forward service/{config.name}-serve-svc 8000"
