"""`make manifests`: what runs on Kubernetes, written as files for kubectl; nothing is applied."""

import shlex
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from pipeline.config.commands import ManifestsConfig
from pipeline.errors import BundleError, ConfigError, Fault
from pipeline.files import new_folder
from pipeline.kubernetes.manifests import (
    ACCESS_KEY,
    DASHBOARD,
    PASSWORD,
    SECRET_KEY,
    TOKEN,
    Manifest,
    render,
    submit_line,
)

FIRST = ("postgres.yaml", "object-store.yaml", "mlflow.yaml", "runs.yaml")
"""What a job and a cluster need."""


def main(config: ManifestsConfig, console: Console) -> None:
    files = render(config, version("ray"))  # of this environment, which constraints.txt pins as it does the image
    try:
        with new_folder(Path(config.target)) as folder:
            for name, manifests in files.items():
                (folder / name).write_text(text(manifests), "utf-8")
    except BundleError as error:
        raise ConfigError(
            [Fault(where="target", value=f.where, rule=f.rule, remedy=f.remedy) for f in error.faults]
        ) from error
    except OSError as error:
        rule, remedy = f"cannot be written ({error.strerror})", "Give a folder in a place that you may write to"
        raise ConfigError(Fault(where="target", value=config.target, rule=rule, remedy=remedy)) from error
    table = Table(box=None, pad_edge=False)
    table.add_column("file")
    table.add_column("holds")
    for name, manifests in files.items():
        table.add_row(
            str(Path(config.target) / name), ", ".join(f"{m['kind']} {m['metadata']['name']}" for m in manifests)
        )
    console.print(table)
    console.print("\nNext:", markup=False)
    for line in following(config):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def following(config: ManifestsConfig) -> Iterator[str]:
    """The commands that come next; secrets are made by the user's own shell, and in no file."""
    image, secrets = shlex.quote(config.image), config.secrets
    create = f"kubectl -n {config.namespace} create secret generic"
    random = '"$(openssl rand -hex 24)"'
    yield f"docker build -f conf/cluster/Dockerfile -t {image} . && docker push {image}"
    yield f"kubectl create namespace {config.namespace}"
    yield f"{create} {secrets.postgres} --from-literal={PASSWORD}={random}"
    keys = f"--from-literal={ACCESS_KEY}={config.name} --from-literal={SECRET_KEY}={random}"
    yield f"{create} {secrets.object_store} {keys}"
    if secrets.huggingface:
        yield f'{create} {secrets.huggingface} --from-literal={TOKEN}="$HF_TOKEN"'
    command = config.command[0]
    yield f"kubectl apply {' '.join(_file(config, name) for name in FIRST)}"
    yield f"kubectl apply {_file(config, 'job.yaml')}   # make {command} on a cluster of its own; or:"
    yield f"kubectl apply {_file(config, 'cluster.yaml')}   # a cluster that stays, for make submit:"
    yield f"kubectl -n {config.namespace} port-forward service/{config.name}-head-svc {DASHBOARD} &"
    secret = f"kubectl -n {config.namespace} get secret {config.name} -o 'jsonpath={{.data.auth_token}}'"
    yield f'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$({secret} | base64 -d)"'
    yield submit_line(config)


def _file(config: ManifestsConfig, name: str) -> str:
    return f"-f {shlex.quote(str(Path(config.target) / name))}"


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
