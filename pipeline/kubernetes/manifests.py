"""What Kubernetes is asked for: the templates of `conf/kubernetes`, filled in from the config.

A secret is named, never held. Nothing here was applied to a Kubernetes: the Ray objects are checked against KubeRay's
schemas, the others against Kubernetes' own, and what is in them follows the documents of each image.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from pipeline.config.cron import Cron
from pipeline.config.kubernetes import KubernetesConfig, in_bytes
from pipeline.config.schedule import ScheduleConfig
from pipeline.config.sweep import ClusterConfig
from pipeline.rules.slots import num_slots

Manifest = dict[str, Any]
"""An object of Kubernetes."""

TEMPLATES = Path(__file__).resolve().parents[2] / "conf" / "kubernetes"
RUNS = "/data/runs"
"""Folder of the sweeps' own files on the head."""
PASSWORD, ACCESS_KEY, SECRET_KEY, TOKEN = "password", "access-key", "secret-key", "token"
"""Keys in the secrets, as `SecretsConfig` tells of them."""
APP = "/app"
"""The checkout in the image, as conf/cluster/Dockerfile has it."""
DASHBOARD = 8265
"""The head's port that takes jobs."""


def render(config: KubernetesConfig, ray_version: str) -> dict[str, list[Manifest]]:
    """Say what is asked for, by the file that it goes into.

    `ray_version` is that of the image: KubeRay wants to know it for token authentication.

    Returns:
        File name -> objects; what a file needs is in those before it.
    """
    job = {"entrypoint": entrypoint(config), "cluster_spec": cluster_spec(config, ray_version)}
    names = ("network", "postgres", "object-store", "mlflow", "runs", "job", "cluster", "service")
    more = job | {"ray_version": ray_version, "serve_config": serve_config(config)}
    more["service_spec"] = service_spec(config, ray_version)
    return {f"{name}.yaml": filled(name, config, more) for name in names}


def cluster_spec(config: KubernetesConfig, ray_version: str) -> Manifest:
    """Describe a Ray cluster, the standing one or a job's."""
    (cluster,) = filled("cluster", config, {"ray_version": ray_version})
    spec: Manifest = cluster["spec"]
    return spec


def service_spec(config: KubernetesConfig, ray_version: str) -> Manifest:
    """Describe the cluster of the service: as any other, but for the volume of sweeps, which one head has at a time.

    Its containers may have the token of the clients.
    """
    spec = cluster_spec(config, ray_version)
    head = spec["headGroupSpec"]["template"]["spec"]
    for part in (head["volumes"], head["containers"][0]["volumeMounts"]):
        part[:] = [one for one in part if one["name"] != "runs"]
    if config.secrets.service:
        secret = {"secretKeyRef": {"name": config.secrets.service, "key": TOKEN}}
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            group["template"]["spec"]["containers"][0]["env"].append({"name": "SERVE_TOKEN", "valueFrom": secret})
    return spec


def serve_config(config: KubernetesConfig) -> str:
    """Write Ray Serve's own config, which names the function that makes the application, and its settings."""
    workers = config.workers
    words = [
        "TASKS=*",
        "CLUSTER=existing",
        f"tracking.uri=http://{config.name}-mlflow:5000",
        f"serve.cpus={workers.cpus_per_trial}",
        f"serve.gpus={workers.gpus_per_trial:g}",
        f"serve.max_replicas={max(workers.max, 1)}",
    ]
    application = {
        "name": "adapters",
        "import_path": "pipeline.steps.serve:application",
        "route_prefix": "/",
        "args": {"words": words},
    }
    http = {"host": "0.0.0.0", "port": 8000}
    told = {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}
    written: str = yaml.safe_dump(told, sort_keys=False)
    return written


def cron_job(
    config: KubernetesConfig, schedule: ScheduleConfig, name: str, cron: Cron, arguments: Sequence[str]
) -> Manifest:
    """Make the CronJob whose pod submits the command to the standing cluster, follows its log, and ends as it does.

    Both this and a RayCronJob leave the lock of the registry to the command: the latter has no rule against passes that
    overlap, the former only one against its own. `arguments` are the command's own overrides.
    """
    # $(NAME) would be taken for a variable of the pod.
    words = [word.replace("$(", "$$(") for word in submission(config, schedule.command, arguments)]
    (made,) = filled("cronjob", config, {"submission": words, **_times(schedule, cron)}, id=name)
    return made


def ray_cron_job(
    config: KubernetesConfig,
    schedule: ScheduleConfig,
    name: str,
    cron: Cron,
    arguments: Sequence[str],
    ray_version: str,
) -> Manifest:
    """Make the RayCronJob, by which each pass has a cluster of its own; arguments as of `cron_job`."""
    line = command_line(schedule.command, ["cluster=existing", *overrides(config), *arguments])
    (job,) = filled("job", config, {"entrypoint": line, "cluster_spec": cluster_spec(config, ray_version)})
    (made,) = filled("raycronjob", config, {"job_spec": job["spec"], **_times(schedule, cron)}, id=name)
    return made


def _times(schedule: ScheduleConfig, cron: Cron) -> Manifest:
    return {"cron": str(cron), "timezone": schedule.timezone, "starting_deadline_s": schedule.starting_deadline_s}


def submission(config: KubernetesConfig, command: str, arguments: Sequence[str]) -> list[str]:
    """What `submit` is told; the user's own words last, so that they win."""
    own = {
        "command": command,
        "address": f"http://{config.name}-head-svc:{DASHBOARD}",  # the service that KubeRay makes of a cluster
        "environment": "image",
        "ship": "false",
    }
    return [*(f"submit.{key}={value}" for key, value in own.items()), *overrides(config), *arguments]


def filled(template: str, config: KubernetesConfig, more: Mapping[str, Any], **parts: str) -> list[Manifest]:
    """Fill in a template; a key without a value is left out, and so is a variable from a secret that is not named.

    Args:
        template: File in `conf/kubernetes`, without `.yaml`.
        config: The settings.
        more: Name -> value, of what the config does not say.
        parts: Name -> part of a name.
    """
    head, workers = config.head, config.workers
    values = {
        **{f"image_{name}": getattr(config.images, name) for name in ("postgres", "object_store", "mlflow")},
        **{f"secret_{name}": getattr(config.secrets, name) for name in ("postgres", "object_store", "huggingface")},
        **{f"volume_{name}": getattr(config.volumes, name) for name in ("postgres", "artifacts", "runs")},
        **{name: getattr(workers, name) for name in ("min", "max", "idle_timeout_s")},
        "image": config.image,
        "storage_class": config.volumes.storage_class,
        "backoff_limit": config.backoff_limit,
        "gpus": str(workers.gpus),
        **more,
    }
    for name, node in (("head", head), ("workers", workers)):
        values |= {f"{name}_{key}": getattr(node, key) for key in ("memory", "shared_memory")}
        values |= {f"{name}_cpus": str(node.cpus)}
        values |= {f"{name}_store": str(in_bytes(node.shared_memory) * 95 // 100)}
    written = {name: json.dumps(value) for name, value in values.items()}  # which is YAML too
    parts |= {"name": config.name, "namespace": config.namespace, "command": config.command[0]}
    text = Template((TEMPLATES / f"{template}.yaml").read_text("utf-8")).substitute(written | parts)
    return [_without_gaps(one) for one in yaml.safe_load_all(text)]


def _without_gaps(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_gaps(value) for key, value in node.items() if value is not None}
    if isinstance(node, list):
        return [_without_gaps(one) for one in node if not isinstance(one, dict) or _is_named(one)]
    return node


def _is_named(variable: Manifest) -> bool:
    return variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name", "") is not None


def entrypoint(config: KubernetesConfig) -> str:
    """Write the line that the head's shell runs."""
    variables, own = _given(config)
    return command_line(config.command[0], ["CLUSTER=existing", *variables, *overrides(config), *own])


def command_line(command: str, words: Sequence[str]) -> str:
    """Write a line of the head's shell that runs a command of the checkout in the image."""
    return f"cd {APP} && exec {shlex.join(['python', '-m', 'jobs', command, *words])}"


def submit_line(config: KubernetesConfig) -> str:
    """Write the line that has the same run on the cluster that stands, where its dashboard's port is forwarded to."""
    variables, own = _given(config)
    to = [f"COMMAND={config.command[0]}", f"ADDRESS=http://127.0.0.1:{DASHBOARD}"]
    args = ["submit.environment=image", *overrides(config), *own]
    return f"{shlex.join(['make', 'submit', *to, *variables])} ARGS={shlex.quote(shlex.join(args))}"


def _given(config: KubernetesConfig) -> tuple[list[str], list[str]]:
    """The variables of the command, and the settings of its ARGS, which come last, so that they win."""
    words = config.command[1:]
    own = [one for word in words if word.startswith("ARGS=") for one in shlex.split(word.removeprefix("ARGS="))]
    return [word for word in words if not word.startswith("ARGS=")], own


def overrides(config: KubernetesConfig) -> list[str]:
    """What a command is told of the cluster and of MLflow."""
    workers = config.workers
    trial = ClusterConfig(gpus_per_trial=workers.gpus_per_trial, cpus_per_trial=workers.cpus_per_trial)
    # Of all workers: those that are there when the sweep begins may be none.
    slots = num_slots(trial, [{"CPU": workers.cpus, "GPU": workers.gpus}] * workers.max)
    return [
        f"tracking.uri=http://{config.name}-mlflow:5000",
        f"runs={RUNS}",
        f"cluster.slots={slots}",
        f"cluster.gpus_per_trial={workers.gpus_per_trial:g}",
        f"cluster.cpus_per_trial={workers.cpus_per_trial}",
    ]
